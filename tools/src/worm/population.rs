//! `worm population` and `worm sample`: the whole set of a period, shown to be whole, and a sample of it that the
//! auditor's own words draw.
//!
//! The set is whole because the entries between its borders are numbered without a gap, all of them were hashed under
//! the signed root, the entries right before and after it are proved, too, and times never go back.
//!
//! A sample of n is drawn like this, and can be drawn again with any program: the population is numbered from 0 in the
//! order of the log; draw k (0, 1, 2 ...) is SHA-256("flk sample 1\n" root "\n" seed "\n" k), with the checkpoint's root
//! in base64 and k in decimal digits, as a big-endian number modulo the size of the population; what was drawn before
//! is passed over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use engine::leaf::{Leaf, What};
use engine::tree::leaf_hash;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::evidence::{Evidence, Filter};
use super::when;
use crate::audit::home::HomeArgs;
use crate::pack::put;
use crate::pack::summary::{Summary, kind_of, reason_of, tenant_of};
use crate::report::{Fault, Report, State};
use crate::ui::{Ui, thousands};

/// Largest sample: each entry of it is proved one by one.
const SAMPLE_MAX: u64 = 10_000;

/// What `population` and `sample` share.
#[derive(Clone, Debug, clap::Args)]
pub struct Set {
    #[command(flatten)]
    /// The data directory, or an evidence pack.
    pub home: HomeArgs,
    /// Region [default: the only one]
    #[arg(long)]
    pub region: Option<String>,
    /// The log's public key, or a file that holds it [default: the one that came with the evidence]
    #[arg(long, value_name = "KEY")]
    pub vkey: Option<String>,
    #[command(flatten)]
    /// Which entries.
    pub filter: Filter,
    /// The control that the set is for, to be named in what is written
    #[arg(long)]
    pub control: Option<String>,
}

/// Lists every entry of a period, and shows that none is missing
///
/// Writes population.csv, population.json and the proofs of both borders. Exit codes: 0 complete, 1 usage or
/// input/output, 2 tampered, 3 the evidence does not reach both ends of the period.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    /// Which set.
    pub set: Set,
    /// Folder for the files
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Draws a sample that depends on your words alone, with a proof of each entry
///
/// Writes sample.csv, sample.json and proofs; anybody can draw it again from the same words and checkpoint.
#[derive(Clone, Debug, clap::Args)]
pub struct SampleArgs {
    #[command(flatten)]
    /// Of which set.
    pub set: Set,
    /// How many entries
    #[arg(short, long, value_parser = clap::value_parser!(u64).range(1..=SAMPLE_MAX))]
    pub n: u64,
    /// Your own words, said after the checkpoint was signed
    #[arg(long)]
    pub seed: String,
    /// Folder for the files [default: nothing is written]
    #[arg(short, long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

const COLUMNS: [&str; 10] =
    ["seq", "time", "type", "kind", "tenant", "pcs_id", "reason", "lsn", "nth", "leaf_sha256"];

fn row(seq: u64, leaf: &Leaf<'_>, line: &[u8]) -> [String; 10] {
    let id = match &leaf.what {
        What::Pcs(pcs) => pcs.pcs_id.to_string(),
        What::Conflict(conflict) => conflict.pcs_id.to_string(),
        _ => String::new(),
    };
    [
        seq.to_string(),
        when(leaf.time_ms),
        leaf.what.name().to_owned(),
        kind_of(&leaf.what).to_owned(),
        tenant_of(&leaf.what).map(|tenant| tenant.as_str().to_owned()).unwrap_or_default(),
        id,
        reason_of(&leaf.what).unwrap_or_default().to_owned(),
        leaf.lsn.0.to_string(),
        leaf.nth.to_string(),
        leaf_hash(line).to_string(),
    ]
}

/// Position k of the draw from a population of `count`.
fn draw(root: &str, seed: &str, k: u64, count: u64) -> u64 {
    let hash = Sha256::digest(format!("flk sample 1\n{root}\n{seed}\n{k}").as_bytes());
    hash.iter().fold(0_u128, |rest, byte| (rest * 256 + u128::from(*byte)) % u128::from(count)) as u64
}

/// The positions of a sample, in the order of the draw.
fn positions(root: &str, seed: &str, n: u64, count: u64) -> Vec<u64> {
    let mut drawn = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut k = 0;
    while (drawn.len() as u64) < n.min(count) {
        let position = draw(root, seed, k, count);
        if seen.insert(position) {
            drawn.push(position);
        }
        k += 1;
    }
    drawn
}

fn facts(set: &Set, evidence: &Evidence, summary: &Summary, count: u64) -> serde_json::Value {
    let head = &evidence.signed.checkpoint;
    json!({
        "origin": head.origin, "size": head.size, "root": head.root.to_string(), "root_base64": BASE64.encode(head.root.0),
        "checkpoint": String::from_utf8_lossy(&evidence.note), "filter": set.filter.words(), "control": set.control,
        "count": count, "period": summary.within.map(|(first, last, count)| json!({"first": first, "last": last, "count": count})),
        "entry_before": summary.before, "entry_after": summary.after,
    })
}

fn prove(evidence: &Evidence, out: &Path, seq: u64, ui: Ui) -> Result<(), Fault> {
    let (receipt, line) = evidence.receipt(seq, ui)?;
    put(&out.join(format!("proofs/{seq}.tlog-proof")), &receipt.encode())?;
    put(&out.join(format!("proofs/{seq}.entry")), &line)
}

fn heading(report: &mut Report, evidence: &Evidence, summary: &Summary, filter: &Filter, count: u64) {
    let head = &evidence.signed.checkpoint;
    let (state, by) = if evidence.by_key {
        (State::Ok, "")
    } else {
        (State::Warn, ", its signature was not checked: give --vkey")
    };
    report.check("checkpoint", state, format!("{} over {} entries{by}", head.origin, thousands(head.size)));
    let border = match (summary.before, summary.after) {
        (Some(before), Some(after)) => format!("entry {before} stands before it, entry {after} after it"),
        (None, Some(after)) => format!("it begins with the log, entry {after} stands after it"),
        (Some(before), None) => format!("entry {before} stands before it, and the checkpoint ends in it"),
        (None, None) => "it is the whole log under the checkpoint".to_owned(),
    };
    let inside = summary.within.map_or_else(
        || "no entry in the period".to_owned(),
        |(first, last, all)| {
            format!("{} entries in the period, {first} to {last}, none missing", thousands(all))
        },
    );
    report.check("complete", State::Ok, format!("{inside}: {border}"));
    report.check("population", State::Ok, format!("{}: {}", filter.words(), thousands(count)));
}

/// Lists a population.
///
/// # Errors
/// The evidence does not hold or does not reach far enough, or files cannot be written.
pub fn run(args: &Args, ui: Ui) -> Result<Report, Fault> {
    let (set, out) = (&args.set, &args.out);
    let evidence = Evidence::open(&set.home, set.region.as_ref(), set.vkey.as_deref())?;
    std::fs::create_dir_all(out).map_err(|error| Fault::write(out, error))?;
    let (path, part) = (out.join("population.csv"), out.join("population.csv.part"));
    let file = std::fs::File::create(&part).map_err(|error| Fault::write(&part, error))?;
    let mut table = csv::Writer::from_writer(std::io::BufWriter::new(file));
    let unwritten = |error: csv::Error| Fault::write(&part, error);
    table.write_record(COLUMNS).map_err(unwritten)?;
    let mut count = 0;
    let summary = evidence.those(&set.filter, ui, &mut |seq, leaf, line| {
        count += 1;
        table.write_record(row(seq, leaf, line)).map_err(unwritten)
    })?;
    table.flush().map_err(|error| Fault::write(&part, error))?;
    std::fs::rename(&part, &path).map_err(|error| Fault::write(&path, error))?;
    let mut borders: Vec<u64> = [summary.before, summary.after].into_iter().flatten().collect();
    borders.extend(summary.within.iter().flat_map(|(first, last, _)| [*first, *last]));
    borders.sort_unstable();
    borders.dedup();
    for seq in &borders {
        prove(&evidence, out, *seq, ui)?;
    }
    let mut report = Report::new("worm population");
    heading(&mut report, &evidence, &summary, &set.filter, count);
    report.data = facts(set, &evidence, &summary, count);
    report.data["kinds"] = json!(summary.kinds);
    report.data["proofs"] = json!(borders);
    put(&out.join("population.json"), format!("{:#}\n", report.data).as_bytes())?;
    report.data["out"] = json!(out);
    report.check(
        "files",
        State::Ok,
        format!("population.csv, population.json, {} proofs in {}", borders.len(), out.display()),
    );
    report.verdict = format!("{} entries are the whole population: {}", thousands(count), set.filter.words());
    Ok(report)
}

/// Draws a sample.
///
/// # Errors
/// As [`run`].
pub fn sample(args: &SampleArgs, ui: Ui) -> Result<Report, Fault> {
    let set = &args.set;
    let evidence = Evidence::open(&set.home, set.region.as_ref(), set.vkey.as_deref())?;
    let mut count = 0;
    let summary = evidence.those(&set.filter, ui, &mut |_, _, _| {
        count += 1;
        Ok(())
    })?;
    let root = BASE64.encode(evidence.signed.checkpoint.root.0);
    let drawn = positions(&root, &args.seed, args.n, count);
    let mut rows: BTreeMap<u64, [String; 10]> = BTreeMap::new();
    let wanted: std::collections::BTreeSet<u64> = drawn.iter().copied().collect();
    let mut position = 0;
    evidence.those(&set.filter, ui, &mut |seq, leaf, line| {
        if wanted.contains(&position) {
            rows.insert(position, row(seq, leaf, line));
        }
        position += 1;
        Ok(())
    })?;
    let mut report = Report::new("worm sample");
    heading(&mut report, &evidence, &summary, &set.filter, count);
    report.data = facts(set, &evidence, &summary, count);
    report.data["seed"] = json!(args.seed);
    report.data["method"] = json!(
        "SHA-256(\"flk sample 1\\n\" root_base64 \"\\n\" seed \"\\n\" k) modulo count, k = 0, 1, 2 ...; repeats passed over"
    );
    report.data["positions"] = json!(drawn);
    report.data["entries"] =
        drawn.iter().map(|position| json!(rows[position][0].parse::<u64>().unwrap_or(0))).collect();
    report.table = Some(crate::report::Table {
        headings: vec!["DRAW", "ENTRY", "TIME", "KIND", "TENANT", "ID"],
        rows: drawn
            .iter()
            .enumerate()
            .map(|(nth, position)| {
                let row = &rows[position];
                vec![
                    nth.to_string(),
                    row[0].clone(),
                    row[1].clone(),
                    row[3].clone(),
                    row[4].clone(),
                    row[5].clone(),
                ]
            })
            .collect(),
    });
    if let Some(out) = &args.out {
        let mut table = csv::Writer::from_writer(Vec::new());
        let path = out.join("sample.csv");
        let unwritten = |error: csv::Error| Fault::write(&path, error);
        table.write_record(COLUMNS).map_err(unwritten)?;
        for position in &drawn {
            table.write_record(&rows[position]).map_err(unwritten)?;
            prove(&evidence, out, rows[position][0].parse().unwrap_or(0), ui)?;
        }
        put(&path, &table.into_inner().map_err(|error| Fault::write(&path, error.to_string()))?)?;
        put(&out.join("sample.json"), format!("{:#}\n", report.data).as_bytes())?;
        report.check(
            "files",
            State::Ok,
            format!("sample.csv, sample.json, {} proofs in {}", drawn.len(), out.display()),
        );
    }
    report.verdict =
        format!("{} of {} drawn by your words; anybody can draw them again", drawn.len(), thousands(count));
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_is_what_the_documentation_says() {
        // python3: int.from_bytes(hashlib.sha256(b"flk sample 1\nAAAA\nwords\n0").digest(), "big") % 1000
        let by_hand = |k: u64, count: u64| {
            let hash: [u8; 32] = Sha256::digest(format!("flk sample 1\nAAAA\nwords\n{k}").as_bytes()).into();
            let (high, low) = hash.split_at(16);
            let number = |bytes: &[u8]| u128::from_be_bytes(bytes.try_into().unwrap());
            let count = u128::from(count);
            // 2^128 mod count, without leaving 128 bits.
            let carry = (u128::MAX % count + 1) % count;
            ((number(high) % count * carry + number(low) % count) % count) as u64
        };
        for k in 0..50 {
            assert_eq!(draw("AAAA", "words", k, 1000), by_hand(k, 1000));
        }
        let all = positions("AAAA", "words", 10, 10);
        assert_eq!(all.iter().copied().collect::<std::collections::BTreeSet<_>>(), (0..10).collect());
        assert_eq!(positions("AAAA", "words", 5, 1000), positions("AAAA", "words", 9, 1000)[..5]);
        assert_ne!(positions("AAAA", "words", 5, 1000), positions("AAAA", "other", 5, 1000));
        assert!(positions("AAAA", "words", 5, 0).is_empty());
    }
}
