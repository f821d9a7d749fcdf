//! `flk agent`: turns a stream of events into signed summaries and sees each of them answered.
//!
//! ```text
//! rows -> events -> windows -> summary (signals, Merkle root, signature) -> outbox -> server -> acknowledged
//! ```
//! A window's summary follows from its events and the flags alone, and so does its id. The outbox remembers ids, so
//! an agent that is stopped anywhere and started again on the same stream sends each summary until it has seen an
//! answer, and none a second time; should it send one twice after all (killed between answer and note), the server
//! gives the first answer again.

pub mod events;
pub mod measure;
pub mod outbox;
pub mod send;
pub mod signals;
pub mod summary;
pub mod window;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use self::events::{Columns, Events, RowFormat, StreamError};
use self::outbox::{Outbox, bury};
use self::send::{Patience, Sent, send};
use self::summary::{Recipe, Summary};
use self::window::{Cut, Cutter, WINDOW_MAX, Window};
use crate::http::{Answer, Client};
use crate::keys::{Key, KeyArgs};
use crate::report::{Exit, Fault, Report, Table};
use crate::ui::{Ui, thousands};

/// Summarises a stream of events and submits the summaries
///
/// Windows that were answered before are not sent again: the outbox remembers them.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The stream: a CSV file with a header or an NDJSON file; - for standard input
    pub input: PathBuf,
    /// How the rows are written [default: by the file's extension, else csv]
    #[arg(long, value_enum)]
    pub format: Option<RowFormat>,
    /// Column with the time: RFC 3339, or seconds since 1970
    #[arg(long, value_name = "COLUMN", default_value = "time")]
    pub time: String,
    /// Columns with the numbers, for example latitude,longitude,depth,mag
    #[arg(long, value_name = "COLUMN", value_delimiter = ',', required = true)]
    pub columns: Vec<String>,
    /// Events of one window
    #[arg(long, value_name = "EVENTS", default_value_t = 256, conflicts_with = "window_time")]
    pub window: usize,
    /// Length of one window in event time instead: 90s, 15m, 6h, 1d
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    pub window_time: Option<f64>,
    /// Summarise the last window although the stream ends in it
    #[arg(long)]
    pub partial: bool,
    /// Stop after so many windows
    #[arg(long, value_name = "WINDOWS")]
    pub limit: Option<u64>,
    /// Scales at which occupied boxes are counted
    #[arg(long, value_delimiter = ',', default_value = "2,4,8,16,32")]
    pub scales: Vec<i64>,
    /// Directions tried for the coherence
    #[arg(long, default_value_t = 100)]
    pub directions: u32,
    /// Bins of the coherence histogram
    #[arg(long, default_value_t = 20)]
    pub bins: u32,
    /// Seed of the directions
    #[arg(long, default_value_t = 42)]
    pub seed: u32,
    /// Take the numbers as they are instead of scaling each column of a window to 0..1
    #[arg(long)]
    pub raw: bool,
    /// Bytes of one leaf of the Merkle tree
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub chunk: u32,
    /// Name of this stream [default: the file's name]
    #[arg(long)]
    pub shard: Option<String>,
    /// Print the signed summaries, one a line, and send nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    /// The key.
    pub key: KeyArgs,
    #[command(flatten)]
    /// The server.
    pub server: crate::cli::Server,
    /// Where submissions are kept until they are answered [default: flk-outbox/SHARD.jsonl]
    #[arg(long, value_name = "FILE")]
    pub outbox: Option<PathBuf>,
    /// Where submissions go that the server refused for good [default: beside the outbox, .dead.jsonl]
    #[arg(long, value_name = "FILE")]
    pub dead: Option<PathBuf>,
    /// Tries for one submission before the rest is left in the outbox
    #[arg(long, default_value_t = 5)]
    pub tries: u32,
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let split = text.find(|character: char| character.is_ascii_alphabetic()).unwrap_or(text.len());
    let unit = match &text[split..] {
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err("a time is a number and s, m, h or d".into()),
    };
    let number: f64 = text[..split].parse().map_err(|_| "a time begins with a number")?;
    if number.is_finite() && number > 0.0 {
        Ok(number * unit)
    } else {
        Err("a window is longer than nothing".into())
    }
}

/// What became of the windows, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Events read.
    pub events: u64,
    /// Rows that were no event.
    pub bad_rows: u64,
    /// Windows summarised or found in the outbox.
    pub windows: u64,
    /// Windows that an earlier run had seen answered.
    pub known: u64,
    /// Answered 200.
    pub accepted: u64,
    /// Answered 202 with accepted true: recorded, and someone should look.
    pub escalated: u64,
    /// Answered 202 with accepted false.
    pub rejected: u64,
    /// Of the answers, those the server had given before.
    pub replayed: u64,
    /// Refused for good; they are in the file of dead letters.
    pub dead: u64,
    /// Left in the outbox without an answer.
    pub pending: u64,
    /// Events in the last window, which stays open.
    pub open_events: u64,
}

/// Runs the agent over its stream, to the end.
///
/// # Errors
/// The stream, the key or the outbox cannot be used. That the server does not answer is not an error but a result.
pub fn run(args: &Args, ui: Ui) -> Result<Report, Fault> {
    run_at(args, ui, &mut now)
}

fn now() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// The same with a given clock, seconds since 1970.
///
/// # Errors
/// As [`run`].
pub fn run_at(args: &Args, ui: Ui, clock: &mut dyn FnMut() -> f64) -> Result<Report, Fault> {
    let shard = args.shard.clone().unwrap_or_else(|| stem(&args.input));
    let recipe = Recipe {
        shard: shard.clone(),
        scales: args.scales.clone(),
        directions: args.directions,
        bins: args.bins,
        seed: args.seed,
        unit_box: !args.raw,
        chunk: args.chunk as usize,
    };
    recipe.check()?;
    let key = args.key.need()?;
    let mut stream = Stream::open(args)?;
    if args.dry_run {
        return dry_run(args, &recipe, &key, &mut stream, clock);
    }
    let path =
        args.outbox.clone().unwrap_or_else(|| PathBuf::from("flk-outbox").join(format!("{shard}.jsonl")));
    let outbox = Outbox::open(&path, clock()).map_err(|error| {
        Fault::new(
            "cannot use the outbox",
            path.display(),
            error,
            format!("look at {} or give --outbox", path.display()),
        )
    })?;
    let dead = args.dead.clone().unwrap_or_else(|| path.with_extension("dead.jsonl"));
    let mut sender = Sender {
        client: Client::new(&args.server.url, Duration::from_secs(args.server.timeout))?,
        tenant: args.server.tenant.clone(),
        patience: Patience { tries: args.tries, ..Patience::default() },
        outbox,
        path,
        dead,
        lost: None,
        counts: Counts::default(),
        rows: Vec::new(),
        ui,
    };
    sender.resume(clock)?;
    let mut progress = ui.progress("agent", 0, crate::ui::Unit::Items("events"));
    while let Some(window) = stream.next_window()? {
        progress.add(window.events.len() as u64);
        sender.window(&recipe, &key, &window, clock)?;
    }
    progress.finish();
    sender.counts.events = stream.events;
    sender.counts.bad_rows = stream.bad_rows;
    sender.counts.open_events = stream.cutter.pending() as u64;
    Ok(sender.report(args, &stream))
}

fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "stream".into(), |stem| stem.to_string_lossy().into_owned())
}

/// Windows of the stream the flags name.
struct Stream {
    events: u64,
    bad_rows: u64,
    first_bad: Option<String>,
    source: Events<Box<dyn Read>>,
    place: String,
    cutter: Cutter,
    partial: bool,
    left: u64,
    ended: bool,
}

impl Stream {
    fn open(args: &Args) -> Result<Stream, Fault> {
        let stdin = args.input == Path::new("-");
        let place = args.input.display().to_string();
        let source: Box<dyn Read> = if stdin {
            Box::new(std::io::stdin())
        } else {
            Box::new(File::open(&args.input).map_err(|error| Fault::read(&args.input, error))?)
        };
        let extension = args.input.extension().and_then(|extension| extension.to_str()).unwrap_or("");
        let guess = if matches!(extension, "ndjson" | "jsonl") { RowFormat::Ndjson } else { RowFormat::Csv };
        let cut = match args.window_time {
            Some(seconds) => Cut::Seconds(seconds),
            None if (2..=WINDOW_MAX).contains(&args.window) => Cut::Count(args.window),
            None => {
                let why = format!("a window has 2 to {WINDOW_MAX} events");
                return Err(Fault::new("cannot cut windows", "--window", why, "flk agent ... --window 256"));
            }
        };
        let columns = Columns { time: args.time.clone(), values: args.columns.clone() };
        let source = Events::open(source, args.format.unwrap_or(guess), columns)
            .map_err(|error| fault(&place, &error))?;
        Ok(Stream {
            events: 0,
            bad_rows: 0,
            first_bad: None,
            source,
            place,
            cutter: Cutter::new(cut),
            partial: args.partial,
            left: args.limit.unwrap_or(u64::MAX),
            ended: false,
        })
    }

    fn next_window(&mut self) -> Result<Option<Window>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        while !self.ended {
            match self.source.next_row().map_err(|error| fault(&self.place, &error))? {
                None => self.ended = true,
                Some(Err(bad)) => {
                    self.bad_rows += 1;
                    self.first_bad.get_or_insert_with(|| format!("row {}: {}", bad.row, bad.why));
                }
                Some(Ok(event)) => {
                    self.events += 1;
                    if let Some(window) = self.cutter.push(event) {
                        self.left -= 1;
                        return Ok(Some(window));
                    }
                }
            }
        }
        self.left = 0;
        Ok(if self.partial { self.cutter.rest() } else { None })
    }
}

fn fault(place: &str, error: &StreamError) -> Fault {
    let next = match error {
        StreamError::NoColumn { .. } => "name columns of the header with --time and --columns",
        StreamError::Read { .. } | StreamError::TooLong { .. } => "check the file, or give --format",
    };
    Fault::new("cannot read the stream", place, error, next)
}

fn dry_run(
    args: &Args,
    recipe: &Recipe,
    key: &Key,
    stream: &mut Stream,
    clock: &mut dyn FnMut() -> f64,
) -> Result<Report, Fault> {
    let mut report = Report::new("flk agent");
    let mut all = Vec::new();
    while let Some(window) = stream.next_window()? {
        let summary = Summary::of(&window, recipe);
        let line = summary.sign(key, clock(), 0)?;
        all.push(serde_json::from_str::<Value>(&line).unwrap_or(Value::Null));
        report.lines.push(line);
    }
    report.data = json!({"input": args.input, "summaries": all});
    Ok(report)
}

struct Sender {
    client: Client,
    tenant: String,
    patience: Patience,
    outbox: Outbox,
    path: PathBuf,
    dead: PathBuf,
    /// Why nothing more is sent in this run.
    lost: Option<String>,
    counts: Counts,
    rows: Vec<Vec<String>>,
    ui: Ui,
}

impl Sender {
    /// Sends what an earlier run left without an answer.
    fn resume(&mut self, clock: &mut dyn FnMut() -> f64) -> Result<(), Fault> {
        let left: Vec<(u64, String, String)> = self
            .outbox
            .unanswered()
            .map(|entry| (entry.seq, entry.pcs_id.clone(), entry.payload.clone()))
            .collect();
        if !left.is_empty() {
            self.ui.say(&format!("{} submissions without an answer from an earlier run", left.len()));
        }
        for (seq, pcs_id, payload) in left {
            let value: Value = serde_json::from_str(&payload).unwrap_or(Value::Null);
            let about = About::of_payload(&value);
            self.submit(seq, &pcs_id, &payload, about, clock)?;
        }
        Ok(())
    }

    fn window(
        &mut self,
        recipe: &Recipe,
        key: &Key,
        window: &Window,
        clock: &mut dyn FnMut() -> f64,
    ) -> Result<(), Fault> {
        self.counts.windows += 1;
        let pcs_id = summary::id(window, recipe).1;
        if let Some(entry) = self.outbox.find(&pcs_id) {
            // An entry without an answer was sent, or tried, when the run began.
            self.counts.known += u64::from(entry.acked_at.is_some());
            return Ok(());
        }
        let summary = Summary::of(window, recipe);
        let payload = summary.sign(key, clock(), self.outbox.next_seq())?;
        let seq =
            self.outbox.add(&pcs_id, &payload, clock()).map_err(|error| Fault::write(&self.path, error))?;
        self.submit(seq, &pcs_id, &payload, About::of(window, &summary), clock)
    }

    fn submit(
        &mut self,
        seq: u64,
        pcs_id: &str,
        payload: &str,
        about: About,
        clock: &mut dyn FnMut() -> f64,
    ) -> Result<(), Fault> {
        if self.lost.is_some() {
            self.counts.pending += 1;
            return Ok(());
        }
        let ui = self.ui;
        let mut sleep = |wait: Duration, why: &str| {
            ui.say(&format!("{why}; again in {:.1} s", wait.as_secs_f64()));
            std::thread::sleep(wait);
        };
        let outcome =
            send(&mut self.client, &self.tenant, false, payload.as_bytes(), self.patience, &mut sleep);
        let (status, entry, note) = match &outcome {
            Sent::Answered(answer) => self.answered(answer),
            Sent::Refused(answer) => {
                let error = format!("{} {}", answer.status, problem(answer));
                bury(&self.dead, pcs_id, &error, clock(), payload)
                    .map_err(|error| Fault::write(&self.dead, error))?;
                self.counts.dead += 1;
                ("dead".to_owned(), String::new(), error)
            }
            Sent::Unanswered(why) => {
                self.counts.pending += 1;
                self.lost = Some(why.clone());
                ("pending".to_owned(), String::new(), why.clone())
            }
        };
        if !matches!(outcome, Sent::Unanswered(_)) {
            self.outbox.ack(seq, clock()).map_err(|error| Fault::write(&self.path, error))?;
        }
        self.rows.push(about.row(&status, &entry, &note));
        Ok(())
    }

    fn answered(&mut self, answer: &Answer) -> (String, String, String) {
        let body = answer.json();
        let accepted = body["accepted"].as_bool().unwrap_or(false);
        let word = match (answer.status, accepted) {
            (200, _) => {
                self.counts.accepted += 1;
                "accepted"
            }
            (_, true) => {
                self.counts.escalated += 1;
                "escalated"
            }
            (_, false) => {
                self.counts.rejected += 1;
                "rejected"
            }
        };
        let mut note = body["reason"].as_str().unwrap_or("").to_owned();
        if let Some(kind) = answer.header("idempotent-replayed") {
            self.counts.replayed += 1;
            note = if kind == "conflict" {
                "an earlier summary under this id counts".into()
            } else {
                "replayed".into()
            };
        }
        (word.to_owned(), body["seq"].as_u64().map(|seq| seq.to_string()).unwrap_or_default(), note)
    }

    fn report(self, args: &Args, stream: &Stream) -> Report {
        let counts = self.counts;
        let mut report = Report::new("flk agent");
        report.table = Some(Table {
            headings: vec![
                "WINDOW", "EVENTS", "FROM", "D_HAT", "COH*", "R", "REGIME", "BUDGET", "VERDICT", "ENTRY",
                "NOTE",
            ],
            rows: self.rows,
        });
        if self.outbox.torn {
            report.lines.push("the outbox ended in a line that a crash had cut off; it was removed".into());
        }
        if counts.bad_rows > 0 {
            let first = stream.first_bad.clone().unwrap_or_default();
            report
                .lines
                .push(format!("{} rows were skipped; the first: {first}", thousands(counts.bad_rows)));
        }
        let mut parts = vec![format!(
            "{} events, {} windows: {} accepted, {} escalated, {} rejected",
            thousands(counts.events),
            thousands(counts.windows),
            thousands(counts.accepted),
            thousands(counts.escalated),
            thousands(counts.rejected)
        )];
        for (count, words) in [
            (counts.known, "answered in an earlier run".to_owned()),
            (counts.dead, format!("refused for good, see {}", self.dead.display())),
            (counts.pending, "without an answer yet".to_owned()),
        ] {
            if count > 0 {
                parts.push(format!("{} {words}", thousands(count)));
            }
        }
        if counts.open_events > 0 && !args.partial {
            parts.push(format!(
                "the last {} events wait for their window to fill",
                thousands(counts.open_events)
            ));
        }
        report.verdict = parts.join("; ");
        if let Some(why) = &self.lost {
            report
                .verdict
                .push_str(&format!(" ({why}): run the same command again when {} answers", args.server.url));
        }
        report.data = json!({
            "counts": counts,
            "outbox": self.path,
            "dead_letters": self.dead,
            "unreachable": self.lost,
        });
        if counts.pending > 0 || counts.dead > 0 {
            report.exit = Exit::Failed;
        }
        report
    }
}

/// The title of a problem document, or the first line of a text answer.
fn problem(answer: &Answer) -> String {
    let body = answer.json();
    let title = ["detail", "error", "title"].iter().find_map(|name| body[name].as_str().map(str::to_owned));
    title.unwrap_or_else(|| {
        String::from_utf8_lossy(&answer.body).lines().next().unwrap_or("").chars().take(200).collect()
    })
}

/// The left part of a window's row.
struct About(Vec<String>);

impl About {
    fn of(window: &Window, summary: &Summary) -> About {
        About(vec![
            window.index.to_string(),
            window.events.len().to_string(),
            window.events.first().map_or_else(String::new, |event| minute(event.seconds)),
            format!("{:.3}", summary.d_hat),
            format!("{:.3}", summary.coh_star),
            format!("{:.3}", summary.r),
            summary.regime.to_owned(),
            format!("{:.3}", summary.budget),
        ])
    }

    fn of_payload(payload: &Value) -> About {
        let number =
            |name: &str| payload[name].as_f64().map_or_else(String::new, |value| format!("{value:.3}"));
        About(vec![
            payload["epoch"].to_string(),
            String::new(),
            String::new(),
            number("D_hat"),
            number("coh_star"),
            number("r"),
            payload["regime"].as_str().unwrap_or("").to_owned(),
            number("budget"),
        ])
    }

    fn row(self, status: &str, entry: &str, note: &str) -> Vec<String> {
        let mut cells = self.0;
        cells.extend([status.to_owned(), entry.to_owned(), note.to_owned()]);
        cells
    }
}

fn minute(seconds: f64) -> String {
    jiff::Timestamp::from_second(seconds.floor() as i64)
        .map_or_else(|_| format!("{seconds:.0}"), |stamp| stamp.strftime("%Y-%m-%d %H:%M").to_string())
}
