//! What a running command says while it works, on standard error only.
//!
//! On a terminal: one bar with rate and time left. Elsewhere (pipes, CI, logs): one line per ten seconds, so that
//! a log shows life without filling up. Results never go through here.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const LINE_EVERY: Duration = Duration::from_secs(10);

/// How this process may speak to its user.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    bars: bool,
    quiet: bool,
}

/// What a count counts, for its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, shown as MiB and GiB.
    Bytes,
    /// Things with this name, plural.
    Items(&'static str),
}

impl Ui {
    /// Bars if standard error is a terminal and the environment does not ask for plain output
    /// (`NO_COLOR` does not forbid bars; `TERM=dumb` does).
    #[must_use]
    pub fn from_env() -> Ui {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Ui { bars: std::io::stderr().is_terminal() && !dumb, quiet: false }
    }

    /// Says nothing; for tests and for machine-readable output.
    #[must_use]
    pub fn quiet() -> Ui {
        Ui { bars: false, quiet: true }
    }

    /// One line now.
    pub fn say(&self, line: &str) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        }
    }

    /// Starts a progress display of `total` things (0 if unknown).
    #[must_use]
    pub fn progress(&self, what: &'static str, total: u64, unit: Unit) -> Progress {
        let bar = self.bars.then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
            let (rate, count) = match unit {
                Unit::Bytes => ("{binary_bytes_per_sec}", "{binary_bytes}"),
                Unit::Items(_) => ("{per_sec}", "{human_pos}"),
            };
            let name = if let Unit::Items(name) = unit { name } else { "" };
            let template = if total > 0 {
                format!("{what} [{{bar:30.}}] {{percent:>3}}%  {rate}  {count} {name}  ETA {{eta}}")
            } else {
                format!("{what} {{spinner}} {rate}  {count} {name}")
            };
            if let Ok(style) = ProgressStyle::with_template(&template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        let now = Instant::now();
        Progress { bar, quiet: self.quiet, what, unit, total, done: 0, started: now, spoke: now }
    }
}

/// Whether results on standard output may be coloured: a terminal, and `NO_COLOR` unset or empty.
#[must_use]
pub fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A running count.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    what: &'static str,
    unit: Unit,
    total: u64,
    done: u64,
    started: Instant,
    spoke: Instant,
}

impl Progress {
    /// `count` more are done.
    pub fn add(&mut self, count: u64) {
        self.done += count;
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        } else if !self.quiet && self.spoke.elapsed() >= LINE_EVERY {
            self.spoke = Instant::now();
            let line = line(self.what, self.done, self.total, self.unit, self.started.elapsed());
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        }
    }

    /// Takes the bar away; the report says how it went.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(what: &str, done: u64, total: u64, unit: Unit, elapsed: Duration) -> String {
    let rate = done as f64 / elapsed.as_secs_f64().max(1e-9);
    let share =
        if total > 0 { format!(" {:.0}%", done as f64 * 100.0 / total as f64) } else { String::new() };
    let left = if total > done && rate > 0.0 {
        format!("  ETA {}", seconds((total - done) as f64 / rate))
    } else {
        String::new()
    };
    match unit {
        Unit::Bytes => format!("{what}{share}  {}/s  {}{left}", bytes(rate as u64), bytes(done)),
        Unit::Items(name) => {
            format!("{what}{share}  {}/s  {} {name}{left}", thousands(rate as u64), thousands(done))
        }
    }
}

/// `70000` as `70,000`.
#[must_use]
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A size with one decimal in the unit that fits: `1.5 GiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// Seconds as `mm:ss` or `hh:mm:ss`.
#[must_use]
pub fn seconds(value: f64) -> String {
    let whole = value.clamp(0.0, 359_999.0) as u64;
    if whole >= 3600 {
        format!("{:02}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60)
    } else {
        format!("{:02}:{:02}", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(70_000), "70,000");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
        assert_eq!(seconds(41.9), "00:41");
        assert_eq!(seconds(3723.0), "01:02:03");
    }

    #[test]
    fn a_line_in_a_log_shows_share_rate_and_time_left() {
        let text = line("verify", 430, 1000, Unit::Items("entries"), Duration::from_secs(10));
        assert_eq!(text, "verify 43%  43/s  430 entries  ETA 00:13");
        let text = line("verify", 3 << 20, 0, Unit::Bytes, Duration::from_secs(1));
        assert_eq!(text, "verify  3.0 MiB/s  3.0 MiB");
    }
}
