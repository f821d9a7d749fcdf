//! What every page that a command writes has in common: it loads nothing, and no text in it is taken for markup.

use std::fmt::Write as _;

use crate::report::{Exit, Report, State};

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:62rem;padding:0 1rem;color:#1b1b1b}\
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}\
td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd;vertical-align:top;overflow-wrap:anywhere}\
td.n{text-align:right;white-space:nowrap}.v{padding:.8rem 1rem;border-left:.5rem solid #2a7d2a;background:#eef7ee}\
.v.bad{border-color:#b00020;background:#fbecee}.FAIL{color:#b00020;font-weight:700}.warn{color:#8a5a00;font-weight:700}\
.ok{color:#2a7d2a;font-weight:700}svg{width:100%;height:auto}small{color:#555}";

/// The text with everything replaced that a browser would take for markup.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

/// The beginning: title, heading, and the verdict of a report. Both texts are escaped here.
#[must_use]
pub fn begin(title: &str, heading: &str, report: &Report) -> String {
    let class = if report.exit == Exit::Ok { "v" } else { "v bad" };
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\"><title>{}</title><style>{STYLE}</style></head>\
         <body><h1>{}</h1><p class=\"{class}\"><b>{}</b> (exit {})</p>",
        escape(title),
        escape(heading),
        escape(&report.verdict),
        report.exit as u8
    )
}

/// The table of a report's checks.
pub fn checks(report: &Report, out: &mut String) {
    out.push_str("<h2>What was looked at</h2><table>");
    for check in &report.checks {
        let word = if check.state == State::Skipped { "not looked at" } else { check.state.word() };
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"{}\">{word}</td><td>{}</td></tr>",
            escape(check.name.trim()),
            check.state.word(),
            escape(&check.detail)
        );
    }
    out.push_str("</table>");
}

/// The end.
pub const END: &str = "</body></html>\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_markup() {
        let mut report = Report::new("flk replay");
        report.verdict = "<script>\"&".into();
        report.check("<b>", State::Fail, "<i>");
        let mut page = begin("<t>", "<h>", &report);
        checks(&report, &mut page);
        for text in ["<script>", "<b>&lt;b&gt;", "<i>", "<t>", "<h>"] {
            assert!(!page.contains(text), "{page}");
        }
        assert!(page.contains("&lt;script&gt;&quot;&amp;") && page.contains("&lt;b&gt;"), "{page}");
    }
}
