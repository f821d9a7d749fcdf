//! What a window's bytes say before any judgement: compressibility and Merkle root. The signals themselves are the
//! engine's.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use sha2::{Digest, Sha256};

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

/// Merkle root over chunks of `chunk` bytes, in hex: a leaf is the SHA-256 of its chunk, a parent the SHA-256 of
/// the two hex texts below it one after the other, a node without a partner is paired with itself. Of nothing: 64
/// zeros. Clients in the field build it this way.
///
/// # Panics
/// If `chunk` is 0.
#[must_use]
pub fn merkle_root(data: &[u8], chunk: usize) -> String {
    let mut level: Vec<String> = data.chunks(chunk).map(|chunk| hex(&Sha256::digest(chunk))).collect();
    if level.is_empty() {
        return "0".repeat(64);
    }
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| {
                let mut hasher = Sha256::new();
                hasher.update(&pair[0]);
                hasher.update(pair.last().unwrap_or(&pair[0]));
                hex(&hasher.finalize())
            })
            .collect();
    }
    level.swap_remove(0)
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(2 * bytes.len());
    engine::codec::hex_into(&mut out, bytes);
    String::from_utf8(out).unwrap_or_default()
}

/// Points scaled column by column into 0 to 1 by the least and greatest value of the window; a column that does not
/// vary becomes 0. Columns in different units then weigh alike.
#[must_use]
pub fn unit_box(points: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let width = points.first().map_or(0, Vec::len);
    let bounds: Vec<(f64, f64)> = (0..width)
        .map(|column| {
            points.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), point| {
                (low.min(point[column]), high.max(point[column]))
            })
        })
        .collect();
    points
        .iter()
        .map(|point| {
            point
                .iter()
                .zip(&bounds)
                .map(|(value, (low, high))| if high > low { (value - low) / (high - low) } else { 0.0 })
                .collect()
        })
        .collect()
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
    fn the_tree_pairs_a_lone_node_with_itself() {
        let leaf = |data: &[u8]| hex(&Sha256::digest(data));
        let join = |a: &str, b: &str| hex(&Sha256::digest(format!("{a}{b}")));
        assert_eq!(merkle_root(b"", 4), "0".repeat(64));
        assert_eq!(merkle_root(b"abcd", 4), leaf(b"abcd"));
        let (a, b, c) = (leaf(b"abcd"), leaf(b"efgh"), leaf(b"i"));
        assert_eq!(merkle_root(b"abcdefgh", 4), join(&a, &b));
        assert_eq!(merkle_root(b"abcdefghi", 4), join(&join(&a, &b), &join(&c, &c)));
    }

    #[test]
    fn the_unit_box_holds_every_point() {
        let points = vec![vec![-90.0, 5.0], vec![90.0, 5.0], vec![0.0, 5.0]];
        assert_eq!(unit_box(&points), vec![vec![0.0, 0.0], vec![1.0, 0.0], vec![0.5, 0.0]]);
        assert!(unit_box(&[]).is_empty());
    }
}
