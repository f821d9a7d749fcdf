//! The report of a drill as one page: what was measured, and the timeline.

use std::fmt::Write as _;

use super::timeline::{Look, Side, Timeline, ms};
use crate::page::{END, begin, checks, escape};
use crate::report::Report;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 20.0;

/// The whole page.
pub fn page(report: &Report, timeline: &Timeline) -> String {
    let mut out = begin(report.command, report.command, report);
    out.push_str("<h2>What was done</h2><table>");
    for (at, what) in &timeline.events {
        let _ =
            write!(out, "<tr><td class=\"n\">{:.2} s</td><td>{}</td></tr>", at.as_secs_f64(), escape(what));
    }
    out.push_str("</table>");
    let east = [
        ("acknowledged by east", "#2b6cb0", line(timeline, |look| look.sides[0].acked)),
        ("acknowledged by west", "#c05621", line(timeline, |look| look.sides[1].acked)),
    ];
    chart("Summaries acknowledged", timeline, &east, &mut out);
    let lacks = |of: fn(&Look) -> (Side, Side)| {
        line(timeline, move |look| {
            let (source, other) = of(look);
            if source.up && other.up { source.entries.saturating_sub(other.held) } else { 0 }
        })
    };
    let behind = [
        ("entries of east that west lacks", "#2b6cb0", lacks(|look| (look.sides[0], look.sides[1]))),
        ("entries of west that east lacks", "#c05621", lacks(|look| (look.sides[1], look.sides[0]))),
    ];
    chart("Entries that the other region lacks, while both answer", timeline, &behind, &mut out);
    let proven = |nth: usize| -> Vec<(f64, f64)> {
        let lags = timeline.lags(nth);
        lags.iter().map(|(at, lag)| (at.as_secs_f64(), ms(*lag) as f64)).collect()
    };
    let unproven = [("east", "#2b6cb0", proven(0)), ("west", "#c05621", proven(1))];
    chart(
        "Age of a region's oldest entry that the other one is not proven to hold, milliseconds",
        timeline,
        &unproven,
        &mut out,
    );
    checks(report, &mut out);
    out.push_str(END);
    out
}

/// A name, a colour, and points: seconds and a value.
type Line = (&'static str, &'static str, Vec<(f64, f64)>);

fn line(timeline: &Timeline, value: impl Fn(&Look) -> u64) -> Vec<(f64, f64)> {
    timeline.looks.iter().map(|look| (look.at.as_secs_f64(), value(look) as f64)).collect()
}

fn chart(title: &str, timeline: &Timeline, lines: &[Line], out: &mut String) {
    let last = timeline.looks.last().map_or(1.0, |look| look.at.as_secs_f64()).max(0.001);
    let most = lines.iter().flat_map(|(_, _, points)| points).map(|(_, y)| *y).fold(1.0, f64::max);
    let x = |seconds: f64| LEFT + seconds / last * (WIDTH - LEFT - 10.0);
    let y = |value: f64| TOP + (1.0 - value / most) * (HEIGHT - TOP);
    let _ = write!(
        out,
        "<h2>{}</h2><svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\"><g font-size=\"11\" fill=\"#555\">",
        escape(title),
        HEIGHT + 40.0
    );
    for part in 0..=4 {
        let value = most * f64::from(part) / 4.0;
        let _ = write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{0:.1}\" y2=\"{0:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{1}\" y=\"{0:.1}\" text-anchor=\"end\">{value:.0}</text>",
            y(value),
            LEFT - 5.0
        );
        let seconds = last * f64::from(part) / 4.0;
        let _ = write!(out, "<text x=\"{:.1}\" y=\"{}\">{seconds:.1} s</text>", x(seconds), HEIGHT + 15.0);
    }
    // What was done, by its number in the list above.
    for (nth, (at, what)) in timeline.events.iter().enumerate() {
        let at = x(ms(*at) as f64 / 1000.0);
        let _ = write!(
            out,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{HEIGHT}\" stroke=\"#b00020\" stroke-dasharray=\"3 3\">\
             <title>{}</title></line><text x=\"{at:.1}\" y=\"{}\">{}</text>",
            escape(what),
            TOP - 6.0,
            nth + 1
        );
    }
    for (nth, (name, colour, points)) in lines.iter().enumerate() {
        let _ = write!(out, "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"");
        for (seconds, value) in points {
            let _ = write!(out, "{:.1},{:.1} ", x(*seconds), y(*value));
        }
        let at = LEFT + 300.0 * nth as f64;
        let _ = write!(
            out,
            "\"/><text x=\"{at}\" y=\"{}\" fill=\"{colour}\">{}</text>",
            HEIGHT + 32.0,
            escape(name)
        );
    }
    out.push_str("</g></svg>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_page_has_every_event_and_a_line_for_each_region() {
        let mut timeline = Timeline::default();
        for second in 0..5 {
            let mut look = Look { at: Duration::from_secs(second), ..Look::default() };
            look.sides[0] = Side { up: true, acked: 10 * second, ..Side::default() };
            timeline.looks.push(look);
        }
        timeline.events.push((Duration::from_secs(2), "<lost>".into()));
        let page = page(&Report::new("flk drill region-loss"), &timeline);
        assert_eq!(page.matches("<polyline").count(), 6);
        assert_eq!(page.matches("&lt;lost&gt;").count(), 4, "in the list and in each chart");
        assert!(!page.contains("<lost>") && !page.contains("NaN") && page.ends_with(END));
    }
}
