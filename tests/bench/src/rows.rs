//! What the benchmark prints: rows of ratios, each beside what it has to reach.

use serde_json::{Value, json};

/// What a row has to reach.
#[derive(Clone, Copy)]
pub enum Bound {
    /// The value must be at least `floor`; `moonshot` is what we aim for.
    AtLeast { floor: f64, moonshot: Option<f64> },
    /// The value must be at most `floor`; `moonshot` is smaller still.
    AtMost { floor: f64, moonshot: Option<f64> },
    /// Only told, never judged.
    Told,
}

/// Shorthand for the usual bound of a ratio.
pub fn at_least(floor: f64, moonshot: f64) -> Bound {
    Bound::AtLeast { floor, moonshot: Some(moonshot) }
}

/// How a row did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Moonshot,
    Floor,
    Below,
    Told,
    Refused,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Moonshot => "MOONSHOT",
            Verdict::Floor => "floor",
            Verdict::Below => "below",
            Verdict::Told => "",
            Verdict::Refused => "REFUSED",
        }
    }
}

impl Bound {
    /// Judges `value`; NaN is below every bound.
    pub fn judge(self, value: f64) -> Verdict {
        let (floor, moonshot): (bool, bool) = match self {
            Bound::Told => return Verdict::Told,
            Bound::AtLeast { floor, moonshot } => (value >= floor, moonshot.is_some_and(|m| value >= m)),
            Bound::AtMost { floor, moonshot } => (value <= floor, moonshot.is_some_and(|m| value <= m)),
        };
        match (floor, moonshot) {
            (true, true) => Verdict::Moonshot,
            (true, false) => Verdict::Floor,
            (false, _) => Verdict::Below,
        }
    }

    fn cells(self) -> (String, String) {
        let optional =
            |sign: &str, m: Option<f64>| m.map_or(String::new(), |m| format!("{sign} {}", figure(m)));
        match self {
            Bound::Told => (String::new(), String::new()),
            Bound::AtLeast { floor, moonshot } => (format!(">= {}", figure(floor)), optional(">=", moonshot)),
            Bound::AtMost { floor, moonshot } => (format!("<= {}", figure(floor)), optional("<=", moonshot)),
        }
    }
}

/// One line of the table.
pub struct Row {
    /// Target id, for example `P1`.
    pub id: &'static str,
    /// What was measured, with its parameters.
    pub what: String,
    /// Our figure and its unit, as text for people.
    pub ours: String,
    /// The reference's figure and what it is.
    pub reference: String,
    /// The judged value: a ratio unless `what` says otherwise.
    pub value: f64,
    pub bound: Bound,
    /// The command that measures this row alone.
    pub command: String,
    /// Context: latencies, processor time, the single runs.
    pub notes: Vec<String>,
    /// Why the row could not be measured; then `value` means nothing.
    pub refused: Option<String>,
}

impl Row {
    /// A row without figures, because `why`.
    pub fn refused(id: &'static str, what: impl Into<String>, why: impl std::fmt::Display) -> Row {
        Row {
            id,
            what: what.into(),
            ours: String::new(),
            reference: String::new(),
            value: f64::NAN,
            bound: Bound::Told,
            command: command(id),
            notes: Vec::new(),
            refused: Some(why.to_string()),
        }
    }

    pub fn verdict(&self) -> Verdict {
        if self.refused.is_some() { Verdict::Refused } else { self.bound.judge(self.value) }
    }

    /// The row as one JSON object.
    pub fn json(&self) -> Value {
        let (floor, moonshot) = self.bound.cells();
        json!({
            "id": self.id, "what": self.what, "ours": self.ours, "reference": self.reference,
            "value": if self.value.is_finite() { json!(self.value) } else { Value::Null },
            "floor": floor, "moonshot": moonshot, "verdict": self.verdict().word(),
            "command": self.command, "notes": self.notes, "refused": self.refused,
        })
    }
}

/// The command that measures `id` alone.
pub fn command(id: &str) -> String {
    format!("tests/bench/run.sh {id}")
}

/// Three significant digits, without an exponent for everything that occurs here.
pub fn figure(v: f64) -> String {
    let a = v.abs();
    if !v.is_finite() {
        "-".into()
    } else if a >= 1e6 {
        format!("{:.2} M", v / 1e6)
    } else if a >= 1e4 {
        format!("{:.1} k", v / 1e3)
    } else if a >= 100.0 {
        format!("{v:.0}")
    } else if a >= 10.0 {
        format!("{v:.1}")
    } else {
        format!("{v:.2}")
    }
}

/// The table for people: one line a row, then the notes.
pub fn table(rows: &[Row]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["id", "what", "ours", "reference", "value", "floor", "moonshot", "verdict", "command"]);
    for row in rows {
        let (floor, moonshot) = row.bound.cells();
        let value = if row.refused.is_some() { "-".into() } else { figure(row.value) };
        table.add_row([
            row.id,
            &row.what,
            &row.ours,
            &row.reference,
            &value,
            &floor,
            &moonshot,
            row.verdict().word(),
            &row.command,
        ]);
    }
    let mut text = table.to_string();
    text.push_str("\n\n");
    for row in rows {
        let why = row.refused.iter().map(|w| format!("not measured: {w}"));
        for note in row.notes.iter().cloned().chain(why) {
            text.push_str(&format!("{} {}: {note}\n", row.id, row.what));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_judge_both_directions() {
        let up = at_least(0.7, 0.9);
        assert_eq!(up.judge(0.95), Verdict::Moonshot);
        assert_eq!(up.judge(0.7), Verdict::Floor);
        assert_eq!(up.judge(0.69), Verdict::Below);
        assert_eq!(up.judge(f64::NAN), Verdict::Below);
        let down = Bound::AtMost { floor: 2.0, moonshot: None };
        assert_eq!(down.judge(1.0), Verdict::Floor);
        assert_eq!(down.judge(2.1), Verdict::Below);
        assert_eq!(Bound::Told.judge(0.0), Verdict::Told);
    }

    #[test]
    fn figures_keep_three_digits() {
        assert_eq!(figure(1_234_567.0), "1.23 M");
        assert_eq!(figure(66_000.0), "66.0 k");
        assert_eq!(figure(0.704), "0.70");
        assert_eq!(figure(f64::NAN), "-");
    }
}
