//! The report of a load run as one HTML file: no script, no network, readable from an e-mail attachment.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use super::load::Outcome;
use crate::page::escape;
use crate::ui::{bytes, thousands};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 34.0;

/// The whole file. `title` and `facts` are escaped here.
#[must_use]
pub fn page(title: &str, facts: &[(String, String)], outcome: &Outcome) -> String {
    let mut out = String::from(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\n<style>\
         body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#222}\
         table{border-collapse:collapse}td,th{padding:.2em 1em .2em 0;text-align:left;vertical-align:top}\
         td:last-child{font-variant-numeric:tabular-nums}svg{width:100%;height:auto}svg text{font-size:12px;fill:#555}\
         .bar{fill:#3b6ea5}.line{fill:none;stroke:#3b6ea5;stroke-width:2}.slow{fill:none;stroke:#b5502d;stroke-width:2}\
         .axis{stroke:#ccc}</style>\n",
    );
    let _ = write!(out, "<title>{0}</title><h1>{0}</h1>\n<table>\n", escape(title));
    for (name, value) in facts {
        let _ = writeln!(out, "<tr><td>{}<td>{}", escape(name), escape(value));
    }
    for (name, value) in numbers(outcome) {
        let _ = writeln!(out, "<tr><td>{name}<td>{}", escape(&value));
    }
    out.push_str("</table>\n<h2>Answer times</h2>\n<p>How many answers took how long; both axes of time are logarithmic.</p>\n");
    distribution(&outcome.latency, &mut out);
    out.push_str("<h2>Over time</h2>\n<p>Records answered in each second (blue) and the 99th percentile of that second's answer times (red).</p>\n");
    timeline(outcome, &mut out);
    out.push_str("</html>\n");
    out
}

/// The numbers of a run, named, as text.
#[must_use]
pub fn numbers(outcome: &Outcome) -> Vec<(&'static str, String)> {
    let quantile = |q| nanos(outcome.latency.value_at_quantile(q));
    let statuses: Vec<String> =
        outcome.statuses.iter().map(|(status, count)| format!("{status}: {}", thousands(*count))).collect();
    vec![
        ("records per second", thousands(outcome.rate() as u64)),
        ("records answered", thousands(outcome.records)),
        ("time measured", format!("{:.1} s", outcome.elapsed.as_secs_f64())),
        ("p50", quantile(0.5)),
        ("p99", quantile(0.99)),
        ("p99.9", quantile(0.999)),
        ("longest", nanos(outcome.latency.max())),
        ("answers by status", statuses.join(", ")),
        ("records refused", thousands(outcome.refused)),
        ("answers replayed", thousands(outcome.replayed)),
        ("connections broken", thousands(outcome.broken)),
        ("sent", bytes(outcome.bytes)),
    ]
}

/// A time in the unit that fits.
#[must_use]
pub fn nanos(value: u64) -> String {
    let value = value as f64;
    match value {
        v if v < 1e3 => format!("{v:.0} ns"),
        v if v < 1e6 => format!("{:.1} us", v / 1e3),
        v if v < 1e9 => format!("{:.2} ms", v / 1e6),
        v => format!("{:.2} s", v / 1e9),
    }
}

fn open_svg(label: &str, out: &mut String) {
    let _ =
        writeln!(out, "<svg viewBox=\"0 0 {WIDTH} {}\" role=img aria-label=\"{label}\">", HEIGHT + BOTTOM);
}

fn distribution(latency: &Histogram<u64>, out: &mut String) {
    if latency.is_empty() {
        out.push_str("<p>No answer.</p>\n");
        return;
    }
    // Eight bars to a doubling.
    let low = (latency.min().max(1) as f64).log2().floor();
    let high = (latency.max().max(2) as f64).log2().ceil().max(low + 1.0);
    let count = ((high - low) * 8.0) as usize;
    let mut bars = vec![0u64; count];
    for value in latency.iter_recorded() {
        let place = ((value.value_iterated_to().max(1) as f64).log2() - low) * 8.0;
        bars[(place.max(0.0) as usize).min(count - 1)] += value.count_since_last_iteration();
    }
    let top = (bars.iter().copied().max().unwrap_or(1).max(1) as f64).ln_1p();
    let wide = (WIDTH - LEFT) / count as f64;
    open_svg("histogram of answer times", out);
    for (i, bar) in bars.iter().enumerate().filter(|(_, bar)| **bar > 0) {
        let tall = (*bar as f64).ln_1p() / top * (HEIGHT - 10.0);
        let from = nanos(2f64.powf(low + i as f64 / 8.0) as u64);
        let _ = writeln!(
            out,
            "<rect class=bar x={:.1} y={:.1} width={:.1} height={tall:.1}><title>from {from}: {}</title></rect>",
            LEFT + i as f64 * wide,
            HEIGHT - tall,
            (wide - 1.0).max(0.5),
            thousands(*bar)
        );
    }
    for exponent in low as i32..=high as i32 {
        let at = LEFT + f64::from(exponent - low as i32) * 8.0 * wide;
        let _ = writeln!(
            out,
            "<text x={at:.1} y={:.1} text-anchor=middle>{}</text>",
            HEIGHT + 18.0,
            nanos(1 << exponent.clamp(0, 62))
        );
    }
    for (name, q) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        let at = LEFT + ((latency.value_at_quantile(q).max(1) as f64).log2() - low) * 8.0 * wide;
        let _ = writeln!(
            out,
            "<line class=axis stroke-dasharray=4 x1={at:.1} x2={at:.1} y1=0 y2={HEIGHT}/><text x={:.1} y=12>{name}</text>",
            at + 3.0
        );
    }
    axis(out);
    out.push_str("</svg>\n");
}

fn timeline(outcome: &Outcome, out: &mut String) {
    let seconds = &outcome.seconds;
    if seconds.is_empty() {
        out.push_str("<p>No answer.</p>\n");
        return;
    }
    let most = seconds.iter().map(|second| second.records).max().unwrap_or(1).max(1);
    let tail: Vec<u64> = seconds.iter().map(|second| second.latency.value_at_quantile(0.99)).collect();
    let slowest = tail.iter().copied().max().unwrap_or(1).max(1);
    let x = |i: usize| LEFT + (WIDTH - LEFT - 60.0) * i as f64 / (seconds.len().max(2) - 1) as f64;
    let y = |part: f64| HEIGHT - part * (HEIGHT - 14.0);
    let points = |values: &mut dyn Iterator<Item = f64>| {
        values
            .enumerate()
            .map(|(i, part)| format!("{:.1},{:.1}", x(i), y(part)))
            .collect::<Vec<_>>()
            .join(" ")
    };
    open_svg("records and tail of answer times for each second", out);
    let rate = points(&mut seconds.iter().map(|second| second.records as f64 / most as f64));
    let slow = points(&mut tail.iter().map(|value| *value as f64 / slowest as f64));
    let _ = writeln!(out, "<polyline class=line points=\"{rate}\"/><polyline class=slow points=\"{slow}\"/>");
    let _ = writeln!(out, "<text x=0 y=14>{}/s</text>", thousands(most));
    let _ = writeln!(out, "<text x={WIDTH} y=14 text-anchor=end>{}</text>", nanos(slowest));
    let _ = writeln!(out, "<text x={LEFT} y={}>0 s</text>", HEIGHT + 18.0);
    let _ = writeln!(
        out,
        "<text x={} y={} text-anchor=end>{} s</text>",
        x(seconds.len() - 1),
        HEIGHT + 18.0,
        seconds.len() - 1
    );
    axis(out);
    out.push_str("</svg>\n");
}

fn axis(out: &mut String) {
    let _ = writeln!(out, "<line class=axis x1={LEFT} x2={WIDTH} y1={HEIGHT} y2={HEIGHT}/>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_the_unit_that_fits() {
        assert_eq!(nanos(999), "999 ns");
        assert_eq!(nanos(1500), "1.5 us");
        assert_eq!(nanos(12_340_000), "12.34 ms");
        assert_eq!(nanos(2_500_000_000), "2.50 s");
    }

    #[test]
    fn text_from_outside_cannot_break_out() {
        assert_eq!(escape("<script>\"&"), "&lt;script&gt;&quot;&amp;");
    }
}
