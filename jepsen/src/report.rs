//! One page about a run: what was done to the group, how it answered meanwhile, and the verdicts. It needs nothing
//! but itself: no script, no font, no address of anybody.

use crate::check::{Verdict, overall};
use crate::history::{Event, Kind, operations};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Width of the charts and of the column of names before them.
const WIDTH: f64 = 1080.0;
const NAMES: f64 = 110.0;
/// Height of a chart, and of a row of the timeline of faults.
const CHART: f64 = 150.0;
const ROW: f64 = 20.0;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2430;--dim:#69758a;--line:#d5dbe5;--bg:#fbfcfe;--ok:#2f7d5b;--bad:#c0392b;--odd:#b7791f;--fault:#8a5cb8}\
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ef;--dim:#8f9bb0;--line:#2c3544;--bg:#12171f;--ok:#53b88a;--bad:#e8695a;--odd:#dba54a;--fault:#b08be0}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--bg);max-width:1120px;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.4rem;margin:0}h2{font-size:1rem;margin:2rem 0 .4rem}p{margin:.3rem 0;color:var(--dim)}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.35rem .7rem .35rem 0;border-top:1px solid var(--line);vertical-align:top}\
th{color:var(--dim);font-weight:500}.true{color:var(--ok)}.false{color:var(--bad)}.unknown{color:var(--odd)}td ul{margin:.2rem 0 0;padding-left:1.1rem;color:var(--dim);overflow-wrap:anywhere}\
svg{width:100%;height:auto;display:block}svg text{font:11px system-ui,sans-serif;fill:var(--dim)}.grid{stroke:var(--line)}\
.ok{fill:var(--ok)}.fail{fill:var(--odd)}.info{fill:var(--bad)}.fault{fill:var(--fault);opacity:.75}.p50{stroke:var(--ok)}.p99{stroke:var(--bad)}polyline{fill:none;stroke-width:1.5}";

/// One second of the run.
#[derive(Default)]
struct Second {
    ok: u64,
    fail: u64,
    info: u64,
    latencies: Vec<u64>,
}

struct Scale {
    seconds: f64,
}

impl Scale {
    fn x(&self, second: f64) -> f64 {
        NAMES + (WIDTH - NAMES) * second / self.seconds
    }
}

/// The page; `title` says what was run.
pub fn page(title: &str, history: &[Event], verdicts: &[Verdict], over: u64) -> String {
    let seconds = seconds(history, over);
    let scale = Scale { seconds: seconds.len().max(1) as f64 };
    let valid = overall(verdicts);
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{0}</title><style>{STYLE}</style><h1>Valid: <span class=\"{valid}\">{valid}</span></h1><p>{0}</p>",
        escape(title)
    );
    table(&mut out, verdicts);
    out.push_str("<h2>Faults</h2>");
    faults(&mut out, history, over, &scale);
    out.push_str("<h2>Operations a second: answered, refused, unknown</h2>");
    throughput(&mut out, &seconds, &scale);
    out.push_str("<h2>Acknowledged submissions: median and 99th percentile, ms, logarithmic</h2>");
    latency(&mut out, &seconds, &scale);
    out + "</html>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn seconds(history: &[Event], over: u64) -> Vec<Second> {
    let mut seconds: Vec<Second> = Vec::new();
    for op in operations(history).unwrap_or_default() {
        let Some(end) = op.end.filter(|end| end.time <= over && op.call.f != "copy") else { continue };
        let at = (end.time / 1_000_000_000) as usize;
        if seconds.len() <= at {
            seconds.resize_with(at + 1, Second::default);
        }
        let second = &mut seconds[at];
        match end.kind {
            Kind::Ok => second.ok += 1,
            Kind::Fail => second.fail += 1,
            Kind::Info | Kind::Invoke => second.info += 1,
        }
        if end.kind == Kind::Ok && end.f == "submit" {
            second.latencies.push(end.time.saturating_sub(op.call.time) / 1000);
        }
    }
    seconds
}

fn table(out: &mut String, verdicts: &[Verdict]) {
    out.push_str("<h2>Verdicts</h2><table><tr><th>Id<th>Checked<th>Verdict<th>Looked at</tr>");
    for verdict in verdicts {
        let _ = write!(
            out,
            "<tr><td>{}<td>{}<td class=\"{2}\">{2}<td>{3}",
            verdict.id,
            verdict.name,
            verdict.valid,
            escape(&verdict.note)
        );
        if !verdict.complaints.is_empty() {
            let items: String = verdict.complaints.iter().map(|why| format!("<li>{}", escape(why))).collect();
            let _ = write!(out, "<ul>{items}</ul>");
        }
    }
    out.push_str("</table>");
}

fn faults(out: &mut String, history: &[Event], over: u64, scale: &Scale) {
    let mut rows: Vec<&str> = Vec::new();
    let mut open: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    let mut bars: Vec<(&str, u64, u64, &str)> = Vec::new();
    for event in history.iter().filter(|event| event.process.is_none()) {
        let Some(value) = event.value.as_deref() else { continue };
        if let Some(name) = event.f.strip_prefix("start-") {
            if !rows.contains(&name) {
                rows.push(name);
            }
            open.insert(name, (event.time, value));
        } else if let Some(name) = event.f.strip_prefix("stop-")
            && let Some((begin, value)) = open.remove(name)
        {
            bars.push((name, begin, event.time, value));
        }
    }
    bars.extend(open.into_iter().map(|(name, (begin, value))| (name, begin, over, value)));
    begin(out, rows.len() as f64 * ROW + 20.0);
    axis(out, rows.len() as f64 * ROW, scale);
    for (nth, name) in rows.iter().enumerate() {
        let top = nth as f64 * ROW;
        let _ = write!(out, "<text x=\"0\" y=\"{:.0}\">{name}</text>", top + 14.0);
        for (_, begin, end, value) in bars.iter().filter(|(other, ..)| other == name) {
            let (left, right) = (scale.x(*begin as f64 / 1e9), scale.x(*end as f64 / 1e9));
            let _ = write!(
                out,
                "<rect class=\"fault\" x=\"{left:.1}\" y=\"{:.0}\" width=\"{:.1}\" height=\"14\" rx=\"2\"><title>{}</title></rect>",
                top + 3.0,
                (right - left).max(2.0),
                escape(value)
            );
        }
    }
    out.push_str("</svg>");
}

fn begin(out: &mut String, height: f64) {
    let _ = write!(out, "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">");
}

/// Ten or so vertical lines with seconds below them.
fn axis(out: &mut String, height: f64, scale: &Scale) {
    let step = (scale.seconds / 10.0).ceil().max(1.0);
    let mut second = 0.0;
    while second <= scale.seconds {
        let x = scale.x(second);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{height:.0}\"/><text x=\"{x:.1}\" y=\"{:.0}\">{second:.0} s</text>",
            height + 14.0
        );
        second += step;
    }
}

fn throughput(out: &mut String, seconds: &[Second], scale: &Scale) {
    begin(out, CHART + 20.0);
    axis(out, CHART, scale);
    let most =
        seconds.iter().map(|second| second.ok + second.fail + second.info).max().unwrap_or(0).max(1) as f64;
    let _ = write!(out, "<text x=\"0\" y=\"12\">{most:.0}</text><text x=\"0\" y=\"{CHART:.0}\">0</text>");
    let width = (scale.x(1.0) - scale.x(0.0) - 1.0).max(0.5);
    for (nth, second) in seconds.iter().enumerate() {
        let mut bottom = CHART;
        for (class, count) in [("ok", second.ok), ("fail", second.fail), ("info", second.info)] {
            let height = CHART * count as f64 / most;
            bottom -= height;
            if count > 0 {
                let _ = write!(
                    out,
                    "<rect class=\"{class}\" x=\"{:.1}\" y=\"{bottom:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><title>{nth} s: {count} {class}</title></rect>",
                    scale.x(nth as f64)
                );
            }
        }
    }
    out.push_str("</svg>");
}

fn latency(out: &mut String, seconds: &[Second], scale: &Scale) {
    // From 0.1 ms to 10 s, five decades.
    let height = |us: u64| CHART - CHART * ((us.max(100) as f64 / 100.0).log10() / 5.0).min(1.0);
    begin(out, CHART + 20.0);
    axis(out, CHART, scale);
    for (label, us) in [
        ("0.1", 100),
        ("1", 1000),
        ("10", 10_000),
        ("100", 100_000),
        ("1000", 1_000_000),
        ("10000", 10_000_000),
    ] {
        let y = height(us);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{NAMES}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"0\" y=\"{:.1}\">{label}</text>",
            y.max(9.0)
        );
    }
    for (class, part) in [("p50", 50), ("p99", 99)] {
        let mut points = String::new();
        for (nth, second) in seconds.iter().enumerate().filter(|(_, second)| !second.latencies.is_empty()) {
            let mut sorted = second.latencies.clone();
            sorted.sort_unstable();
            let at = (sorted.len() * part / 100).min(sorted.len() - 1);
            let _ = write!(points, "{:.1},{:.1} ", scale.x(nth as f64 + 0.5), height(sorted[at]));
        }
        let _ = write!(out, "<polyline class=\"{class}\" points=\"{}\"/>", points.trim_end());
    }
    out.push_str("</svg>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::event;

    #[test]
    fn a_page_shows_faults_and_verdicts_and_needs_nobody() {
        let at = |time: u64, event: Event| Event { time: time * 1_000_000_000, ..event };
        let fault = |f: &str, value: &str| Event {
            process: None,
            key: None,
            ..event(Kind::Info, 0, f, "", Some(value))
        };
        let history = [
            at(0, event(Kind::Invoke, 1, "submit", "k", Some("t1.0"))),
            at(1, fault("start-kill", "installed: host <1>")),
            at(2, event(Kind::Ok, 1, "submit", "k", Some("t1.0@1"))),
            at(3, fault("stop-kill", "installed: up")),
        ];
        let mut verdict = Verdict::new("C1", "set once");
        verdict.wrong("two <winners>");
        let page = page("seed 1 & more", &history, &[verdict], 4_000_000_000);
        for part in [
            "class=\"false\">false",
            "two &lt;winners&gt;",
            "host &lt;1&gt;",
            "seed 1 &amp; more",
            "2 s: 1 ok",
            "<polyline",
        ] {
            assert!(page.contains(part), "{part}");
        }
        for foreign in ["http:", "https:", "<script", "@import", "url("] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }
}
