//! A window's bytes, how well they compress, and its points in the unit box. Everything else that is measured is the
//! engine's.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::window::Window;

/// The bytes a window stands for: one line per event, joined by newlines.
#[must_use]
pub fn bytes(window: &Window) -> Vec<u8> {
    let mut out = Vec::with_capacity(window.events.len() * 48);
    for (i, event) in window.events.iter().enumerate() {
        if i > 0 {
            out.push(b'\n');
        }
        event.line(&mut out);
    }
    out
}

/// Compressed length over length, zlib level 6 of the C library, within 0 to 1; of nothing it is 1.
#[must_use]
pub fn compressibility(data: &[u8]) -> f64 {
    if data.is_empty() {
        return 1.0;
    }
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(data.len() / 2), Compression::new(6));
    encoder.write_all(data).expect("writing to memory does not fail");
    let packed = encoder.finish().expect("writing to memory does not fail");
    (packed.len() as f64 / data.len() as f64).clamp(0.0, 1.0)
}

/// Scales points, row by row in `values`, column by column into 0 to 1 by the least and greatest value of the window;
/// a column that does not vary becomes 0. Columns in different units then weigh alike.
///
/// # Panics
/// If `width` is 0.
pub fn unit_box(values: &mut [f64], width: usize) {
    let mut bounds = vec![(f64::INFINITY, f64::NEG_INFINITY); width];
    for point in values.chunks(width) {
        for ((low, high), value) in bounds.iter_mut().zip(point) {
            (*low, *high) = (low.min(*value), high.max(*value));
        }
    }
    for point in values.chunks_mut(width) {
        for (value, (low, high)) in point.iter_mut().zip(&bounds) {
            *value = if high > low { (*value - low) / (high - low) } else { 0.0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressibility_of_known_bytes() {
        assert_eq!(compressibility(b""), 1.0);
        assert_eq!(compressibility(b"test data"), 1.0);
        let zeros = compressibility(&[0; 10_000]);
        assert!(zeros < 0.01, "{zeros}");
    }

    #[test]
    fn the_unit_box_holds_every_point() {
        let mut points = [-90.0, 5.0, 90.0, 5.0, 0.0, 5.0];
        unit_box(&mut points, 2);
        assert_eq!(points, [0.0, 0.0, 1.0, 0.0, 0.5, 0.0]);
        unit_box(&mut [], 2);
    }
}
