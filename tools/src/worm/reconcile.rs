//! `worm reconcile`: which records an exported list (of a SIEM, of a client, of a warehouse) lacks, and which it has too
//! many of.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use engine::leaf::What;
use engine::summary::PcsId;
use serde_json::{Value, json};

use super::evidence::{Evidence, Filter};
use crate::audit::home::HomeArgs;
use crate::pack::put;
use crate::report::{Exit, Fault, Report, State};
use crate::ui::{Ui, thousands};

/// Most records of a list: they are held in memory, 33 bytes each.
const LIST_MAX: usize = 20_000_000;

/// Longest line of a list, bytes.
const LINE_MAX: u64 = 1 << 20;

/// Records named in the report; the file has all.
const SHOWN: usize = 20;

/// Says which records a list lacks and which it has too many of
///
/// LIST is text with an id or entry number a line, CSV with a column pcs_id or seq, or NDJSON with a member pcs_id, seq or
/// metadata.sequence. Exit codes: 0 they agree, 1 usage or input/output, 2 the list has records that the log has not,
/// 3 the list lacks records.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    /// The data directory, or an evidence pack.
    pub home: HomeArgs,
    /// The list
    pub list: PathBuf,
    /// Region [default: the only one]
    #[arg(long)]
    pub region: Option<String>,
    /// The log's public key, or a file that holds it [default: the one that came with the evidence]
    #[arg(long, value_name = "KEY")]
    pub vkey: Option<String>,
    #[command(flatten)]
    /// Which entries the list should have.
    pub filter: Filter,
    /// Entry numbers A..B that the list should have, B included
    #[arg(long, value_name = "A..B", value_parser = parse_range)]
    pub range: Option<(u64, u64)>,
    /// Write what is lacking and what is too much, as CSV
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

fn parse_range(text: &str) -> Result<(u64, u64), String> {
    let both = text.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    both.filter(|(from, to)| from <= to).ok_or_else(|| "a range is 60000..70000".to_owned())
}

/// What names a record in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Id([u8; 32]),
    Seq(u64),
}

impl Key {
    fn read(text: &str) -> Option<Key> {
        let text = text.trim().trim_matches('"');
        PcsId::from_hex(text).map(|id| Key::Id(id.0)).or_else(|| text.parse().ok().map(Key::Seq))
    }

    fn of(value: &Value) -> Option<Key> {
        let seq = value["seq"].as_u64().or(value["metadata"]["sequence"].as_u64()).map(Key::Seq);
        value["pcs_id"].as_str().and_then(Key::read).or(seq)
    }

    fn text(&self) -> String {
        match self {
            Key::Id(id) => PcsId(*id).to_string(),
            Key::Seq(seq) => seq.to_string(),
        }
    }
}

/// A list, sorted, with a mark for what was found.
struct List {
    keys: Vec<Key>,
    found: Vec<bool>,
    twice: u64,
    by_id: bool,
}

impl List {
    fn read(path: &Path) -> Result<List, Fault> {
        let file = std::fs::File::open(path).map_err(|error| Fault::read(path, error))?;
        let mut reader = BufReader::new(file);
        let (mut keys, mut line, mut column, mut number) = (Vec::new(), Vec::new(), 0, 0_u64);
        loop {
            use std::io::Read;
            line.clear();
            let read = (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line);
            if read.map_err(|error| Fault::read(path, error))? == 0 {
                break;
            }
            number += 1;
            let bad = |why: &str| {
                let next =
                    "a line is an id of 64 hex digits, an entry number, CSV or NDJSON with one of them";
                Fault::new("cannot read the list", format!("{} line {number}", path.display()), why, next)
            };
            let text = std::str::from_utf8(&line).map_err(|_| bad("it is no text"))?.trim();
            if text.is_empty() {
                continue;
            }
            let key = if text.starts_with('{') {
                Key::of(&serde_json::from_str(text).map_err(|error| bad(&error.to_string()))?)
            } else {
                let cells: Vec<&str> = text.split(',').collect();
                let heading =
                    |name: &str| cells.iter().position(|cell| cell.trim().trim_matches('"') == name);
                if number == 1
                    && let Some(at) = heading("pcs_id").or_else(|| heading("seq"))
                {
                    column = at;
                    continue;
                }
                let cell = cells.get(column).copied().unwrap_or_default().trim();
                // An entry that is no summary has no id: the column is there and says nothing.
                if cell.is_empty() || cell == "\"\"" {
                    continue;
                }
                Key::read(cell)
            };
            keys.push(key.ok_or_else(|| bad("no id and no entry number in it"))?);
            if keys.len() > LIST_MAX {
                return Err(bad("the list is longer than twenty million records: cut it by period"));
            }
        }
        let by_id = matches!(keys.first(), Some(Key::Id(_)));
        if keys.iter().any(|key| matches!(key, Key::Id(_)) != by_id) {
            let why = "some lines name ids, others entry numbers";
            return Err(Fault::new("cannot read the list", path.display(), why, "give one kind at a time"));
        }
        keys.sort_unstable();
        let all = keys.len();
        keys.dedup();
        Ok(List { found: vec![false; keys.len()], twice: (all - keys.len()) as u64, by_id, keys })
    }

    /// Whether the list has it; marks it.
    fn has(&mut self, key: Key) -> bool {
        let at = self.keys.binary_search(&key);
        if let Ok(at) = at {
            self.found[at] = true;
        }
        at.is_ok()
    }
}

/// Compares a list with the log.
///
/// # Errors
/// The list cannot be read, or the evidence does not hold.
pub fn run(args: &Args, ui: Ui) -> Result<Report, Fault> {
    let mut list = List::read(&args.list)?;
    let evidence = Evidence::open(&args.home, args.region.as_ref(), args.vkey.as_deref())?;
    let mut lacking: Vec<(u64, String)> = Vec::new();
    let (mut count, mut lacks) = (0_u64, 0_u64);
    let mut rows = String::from("what,seq,pcs_id\n");
    evidence.those(&args.filter, ui, &mut |seq, leaf, _| {
        if args.range.is_some_and(|(from, to)| !(from..=to).contains(&seq)) {
            return Ok(());
        }
        let id = match &leaf.what {
            What::Pcs(pcs) => Some(pcs.pcs_id),
            _ => None,
        };
        let key = match (list.by_id, id) {
            (true, Some(id)) => Key::Id(id.0),
            // A list of ids says nothing of entries that are no summaries.
            (true, None) => return Ok(()),
            (false, _) => Key::Seq(seq),
        };
        count += 1;
        if !list.has(key) {
            lacks += 1;
            let name = id.map(|id| id.to_string()).unwrap_or_default();
            if args.out.is_some() {
                rows.push_str(&format!("lacking,{seq},{name}\n"));
            }
            if lacking.len() < SHOWN {
                lacking.push((seq, name));
            }
        }
        Ok(())
    })?;
    let extra: Vec<&Key> =
        list.keys.iter().zip(&list.found).filter(|(_, found)| !**found).map(|(key, _)| key).collect();
    let mut report = Report::new("worm reconcile");
    let head = &evidence.signed.checkpoint;
    let (state, by) = if evidence.by_key {
        (State::Ok, "")
    } else {
        (State::Warn, ", its signature was not checked: give --vkey")
    };
    report.check("checkpoint", state, format!("{} over {} entries{by}", head.origin, thousands(head.size)));
    let kind = if list.by_id { "summaries" } else { "entries" };
    let range = args.range.map(|(from, to)| format!(", {from} to {to}")).unwrap_or_default();
    report.check(
        "population",
        State::Ok,
        format!("{}{range}: {} {kind}", args.filter.words(), thousands(count)),
    );
    let twice = if list.twice > 0 {
        format!(", {} lines stand there twice", thousands(list.twice))
    } else {
        String::new()
    };
    report.check("list", State::Ok, format!("{} records{twice}", thousands(list.keys.len() as u64)));
    let named = |names: Vec<String>, all: u64| {
        let more = if all > names.len() as u64 { " ..." } else { "" };
        format!("{}: {}{more}", thousands(all), names.join(" "))
    };
    if lacks > 0 {
        let names = lacking.iter().map(|(seq, _)| seq.to_string()).collect();
        report.fail("lacking", Exit::Missing, format!("entries {}", named(names, lacks)));
    } else {
        report.check("lacking", State::Ok, "nothing");
    }
    if extra.is_empty() {
        report.check("too much", State::Ok, "nothing");
    } else {
        let names = extra.iter().take(SHOWN).map(|key| key.text()).collect();
        report.fail("too much", Exit::Tampered, named(names, extra.len() as u64));
    }
    report.data = json!({"origin": head.origin, "size": head.size, "root": head.root.to_string(), "population": count,
        "list": list.keys.len(), "twice": list.twice, "lacking": lacks, "too_much": extra.len(),
        "lacking_entries": lacking.iter().map(|(seq, _)| seq).collect::<Vec<_>>(),
        "too_much_records": extra.iter().take(SHOWN).map(|key| key.text()).collect::<Vec<_>>()});
    if let Some(out) = &args.out {
        for key in &extra {
            match key {
                Key::Id(_) => rows.push_str(&format!("too much,,{}\n", key.text())),
                Key::Seq(seq) => rows.push_str(&format!("too much,{seq},\n")),
            }
        }
        put(out, rows.as_bytes())?;
    }
    report.verdict = match (lacks, extra.len()) {
        (0, 0) => "the list has every record and no other".into(),
        (lacks, extra) => {
            format!(
                "the list lacks {} records and has {} that are not among these",
                thousands(lacks),
                thousands(extra as u64)
            )
        }
    };
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_every_kind_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        let id = "ab".repeat(32);
        for text in [
            format!("{id}\n{id}\n"),
            format!("time,pcs_id\n1,{id}\n2,\"{id}\"\n3,\n"),
            format!("{{\"pcs_id\":\"{id}\",\"seq\":4}}\n\n{{\"pcs_id\":\"{id}\"}}"),
        ] {
            std::fs::write(&path, &text).unwrap();
            let list = List::read(&path).unwrap();
            assert_eq!((list.keys.len(), list.twice, list.by_id), (1, 1, true), "{text}");
        }
        for text in ["7\n9\n", "a,seq\nx,7\ny,9\n", "{\"metadata\":{\"sequence\":7}}\n{\"seq\":9}\n"] {
            std::fs::write(&path, text).unwrap();
            let mut list = List::read(&path).unwrap();
            assert!(!list.by_id && list.has(Key::Seq(7)) && !list.has(Key::Seq(8)));
            assert_eq!(list.found, [true, false]);
        }
        for bad in ["nothing\n", &format!("{id}\n7\n"), "{\"a\":1}\n", "{\n"] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(
                List::read(&path).err().map(|fault| fault.what),
                Some("cannot read the list".into()),
                "{bad}"
            );
        }
        assert_eq!(parse_range("5..9"), Ok((5, 9)));
        assert!(parse_range("9..5").is_err() && parse_range("5").is_err());
    }
}
