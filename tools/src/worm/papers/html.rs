//! One page that loads nothing: verdict, checks, charts of the period, gaps, controls.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{CONTROLS, Paper, standing};
use crate::pack::summary::Summary;
use crate::page::{self, escape};
use crate::ui::{bytes, thousands};
use crate::worm::when;

/// Lanes of a bucket: name and colour.
const LANES: [(&str, &str); 4] = [
    ("accepted", "#2a7d2a"),
    ("escalated", "#d98c00"),
    ("rejected", "#b00020"),
    ("other entries", "#5b6b8c"),
];

/// The page.
pub(super) fn render(paper: &Paper<'_>) -> String {
    let report = paper.report;
    let head = &report.data["checkpoint"];
    let origin = head["origin"].as_str().unwrap_or("a log");
    let mut out = page::begin(&format!("worm verify: {origin}"), origin, report);
    if let (Some(size), Some(root)) = (head["size"].as_u64(), head["root"].as_str()) {
        let _ = write!(
            out,
            "<p>Checkpoint over {} entries, root <code>{}</code>.</p>",
            thousands(size),
            escape(root)
        );
    }
    let _ = write!(
        out,
        "<p><small>{} on {}, by worm {}.</small></p>",
        escape(&paper.subject.display().to_string()),
        paper.made.strftime("%Y-%m-%dT%H:%M:%SZ"),
        env!("CARGO_PKG_VERSION")
    );
    page::checks(report, &mut out);
    if let Some(summary) = paper.summary.filter(|summary| summary.entries > 0) {
        charts(summary, &mut out);
    }
    out.push_str("<h2>Controls</h2><p><small>A mapping of the findings above, not a claim of compliance.</small></p><table>");
    for control in &CONTROLS {
        let _ = write!(
            out,
            "<tr><td>NIST SP 800-53 {}</td><td>{}</td><td>{}</td><td><small>{}</small></td></tr>",
            control.id.to_uppercase(),
            control.title,
            standing(control, report).word(),
            control.also
        );
    }
    out.push_str("</table>");
    out.push_str(page::END);
    out
}

fn charts(summary: &Summary, out: &mut String) {
    let _ = write!(
        out,
        "<h2>Entries over time</h2><p>{} entries, {}.</p>",
        thousands(summary.entries),
        bytes(summary.bytes)
    );
    timeline(summary, out);
    for (title, map) in
        [("What happened", &summary.kinds), ("Reasons", &summary.reasons), ("Tenants", &summary.tenants)]
    {
        let _ = write!(out, "<h2>{title}</h2>");
        bars(map, out);
    }
    out.push_str("<h2>Times without entries</h2>");
    if summary.gaps.is_empty() {
        out.push_str("<p>None as long as was asked about.</p>");
        return;
    }
    out.push_str("<table><tr><th>after entry</th><th>from</th><th>to</th></tr>");
    for gap in &summary.gaps {
        let _ = write!(
            out,
            "<tr><td class=\"n\">{}</td><td>{}</td><td>{}</td></tr>",
            gap.after,
            when(gap.from_ms),
            when(gap.to_ms)
        );
    }
    let _ = write!(out, "</table><p>{} in all.</p>", thousands(summary.gap_count));
}

/// Stacked columns, one for each bucket; empty ones leave their place empty.
fn timeline(summary: &Summary, out: &mut String) {
    let (Some((&first, _)), Some((&last, _))) =
        (summary.buckets.first_key_value(), summary.buckets.last_key_value())
    else {
        return;
    };
    let most = summary.buckets.values().map(|lanes| lanes.iter().sum::<u64>()).max().unwrap_or(1).max(1);
    let (wide, high) = (960.0, 200.0);
    let columns = (last - first + 1) as f64;
    let width = (wide / columns).clamp(0.75, 24.0);
    let _ = write!(out, "<svg viewBox=\"0 0 960 240\" role=\"img\" aria-label=\"entries over time\">");
    for (number, lanes) in &summary.buckets {
        let x = (number - first) as f64 * (wide / columns).min(24.0);
        let mut y = high;
        for (lane, (name, colour)) in lanes.iter().zip(LANES) {
            let tall = *lane as f64 * high / most as f64;
            y -= tall;
            if *lane > 0 {
                let at = when(number * summary.bucket_ms);
                let _ = write!(
                    out,
                    "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{tall:.2}\" fill=\"{colour}\"><title>{at}: {lane} {name}</title></rect>"
                );
            }
        }
    }
    let end = when((last + 1) * summary.bucket_ms);
    let _ = write!(
        out,
        "<text x=\"0\" y=\"220\" font-size=\"13\">{}</text><text x=\"960\" y=\"220\" font-size=\"13\" text-anchor=\"end\">{end}</text></svg><p>",
        when(first * summary.bucket_ms)
    );
    for (name, colour) in LANES {
        let _ = write!(out, "<span style=\"color:{colour}\">&#9632;</span> {name} &nbsp; ");
    }
    let _ = write!(
        out,
        "<small>highest column {}, each {} s wide</small></p>",
        thousands(most),
        summary.bucket_ms as f64 / 1000.0
    );
}

/// The ten largest as bars with their numbers.
fn bars(map: &BTreeMap<String, u64>, out: &mut String) {
    let mut rows: Vec<(&String, &u64)> = map.iter().collect();
    rows.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let most = rows.first().map_or(1, |(_, count)| (**count).max(1));
    out.push_str("<table>");
    for (name, count) in rows.iter().take(10) {
        let wide = **count as f64 * 300.0 / most as f64;
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"n\">{}</td><td style=\"width:310px\"><svg viewBox=\"0 0 300 12\" style=\"width:300px\"><rect width=\"{wide:.1}\" height=\"12\" fill=\"#5b6b8c\"/></svg></td></tr>",
            escape(name),
            thousands(**count)
        );
    }
    out.push_str("</table>");
    if rows.len() > 10 {
        let _ = write!(out, "<p><small>and {} more</small></p>", rows.len() - 10);
    }
}
