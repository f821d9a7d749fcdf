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
mod sender;
pub mod summary;
pub mod window;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use self::events::{Columns, Events, RowFormat, StreamError};
use self::outbox::Outbox;
use self::send::Patience;
use self::sender::Sender;
use self::summary::{Recipe, Summary};
use self::window::{Cut, Cutter, WINDOW_MAX, Window};
use crate::audit::home::read_vkey;
use crate::audit::keychain::follow_at;
use crate::http::Client;
use crate::keys::{Key, KeyArgs};
use crate::report::{Fault, Report};
use crate::ui::Ui;

/// Summarises a stream of events and submits the summaries
///
/// Windows that were answered before are not sent again: the outbox remembers them. Exit codes: 0 every window was
/// answered, 1 some were refused for good or wait for an answer, 2 a receipt does not hold.
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
    /// Fetch the receipt of every summary of this run into this folder, when all are sent
    #[arg(long, value_name = "DIR")]
    pub receipts: Option<PathBuf>,
    /// Check each receipt with the log's public key, given as text or in a file; exit code 2 if one does not hold
    #[arg(long, value_name = "KEY")]
    pub vkey: Option<String>,
    /// Tries for each submission, with growing waits, before the rest is left in the outbox
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
    /// Receipts that were asked for and hold.
    pub receipts: u64,
    /// Receipts that were asked for and did not come.
    pub no_receipt: u64,
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
    let verifier = args.vkey.as_deref().map(read_vkey).transpose()?;
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
        client: Client::trusting(
            &args.server.url,
            Duration::from_secs(args.server.timeout),
            args.server.ca.as_deref(),
        )?,
        tenant: args.server.tenant.clone(),
        patience: Patience { tries: args.tries, ..Patience::default() },
        outbox,
        path,
        dead,
        lost: None,
        counts: Counts::default(),
        rows: Vec::new(),
        sent: BTreeMap::new(),
        wrong: None,
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
    if args.receipts.is_some() || verifier.is_some() {
        let verifier = verifier.map(|keys| follow_at(&keys, &mut sender.client)).transpose()?;
        sender.receipts(args.receipts.as_deref(), verifier.as_ref())?;
    }
    Ok(sender.report(args, stream.first_bad.as_deref()))
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
