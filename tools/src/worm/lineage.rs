//! `worm lineage`: one summary from what it followed from to what vouches for it, as a tree.

use std::collections::BTreeMap;

use engine::leaf::{What, outcome_name};
use engine::log::Digest;
use serde_json::json;

use super::evidence::Evidence;
use super::prove::read_id;
use super::when;
use crate::audit::home::HomeArgs;
use crate::pack::source::STAMPS;
use crate::report::{Fault, Report};
use crate::ui::{Ui, thousands};

/// Entries of one id that are shown; the rest is counted.
const SHOWN: usize = 100;

/// Shows a summary as a tree: parameters, policy, outcome, receipt, what vouches for it
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    /// The data directory, or an evidence pack.
    pub home: HomeArgs,
    /// Id of a summary: 64 hex digits
    pub pcs_id: String,
    /// Only of this tenant: two tenants may have summaries of one id
    #[arg(long)]
    pub tenant: Option<String>,
    /// Region [default: the only one]
    #[arg(long)]
    pub region: Option<String>,
    /// The log's public key, or a file that holds it [default: the one that came with the evidence]
    #[arg(long, value_name = "KEY")]
    pub vkey: Option<String>,
}

/// The entry that a summary's verdict rests on.
struct First {
    seq: u64,
    time_ms: u64,
    record: (u64, u32),
    tenant: String,
    outcome: &'static str,
    reason: &'static str,
    policy: String,
    policy_hash: Digest,
    params_hash: Digest,
    /// Entry and time of the policy, as far as the evidence has it.
    policy_at: Option<(u64, u64)>,
    form: &'static str,
    key: String,
    key_at: Option<u64>,
    commitment: Digest,
    later: Vec<(u64, u64, String)>,
    more: u64,
}

/// What was set, and where: as many as there can be policies, and keys of tenants.
#[derive(Default)]
struct Settings {
    policies: BTreeMap<[u8; 32], (u64, u64)>,
    keys: BTreeMap<(String, String), u64>,
}

fn collect(args: &Args, evidence: &Evidence, ui: Ui) -> Result<Vec<First>, Fault> {
    let id = read_id(&args.pcs_id)?;
    let (mut settings, mut firsts) = (Settings::default(), Vec::<First>::new());
    let wanted = |tenant: &str| args.tenant.as_ref().is_none_or(|want| want == tenant);
    evidence.each(ui, &mut |seq, leaf, _| {
        match &leaf.what {
            What::Policy { hash, .. } => {
                settings.policies.insert(hash.0, (seq, leaf.time_ms));
            }
            What::Key { tenant, key_id, .. } => {
                settings.keys.insert((tenant.as_str().to_owned(), key_id.as_str().to_owned()), seq);
            }
            What::Pcs(pcs) if pcs.pcs_id == id && wanted(pcs.tenant.as_str()) && firsts.len() < SHOWN => {
                let key = (pcs.tenant.as_str().to_owned(), pcs.key_id.as_str().to_owned());
                firsts.push(First {
                    seq,
                    time_ms: leaf.time_ms,
                    record: (leaf.lsn.0, leaf.nth),
                    outcome: outcome_name(pcs.accepted, pcs.escalated),
                    reason: pcs.code.name(),
                    policy: pcs.policy.to_string(),
                    policy_hash: pcs.policy_hash,
                    params_hash: pcs.params_hash,
                    policy_at: settings.policies.get(&pcs.policy_hash.0).copied(),
                    form: pcs.form.name(),
                    key_at: settings.keys.get(&key).copied(),
                    tenant: key.0,
                    key: key.1,
                    commitment: pcs.commitment,
                    later: Vec::new(),
                    more: 0,
                });
            }
            What::Conflict(conflict) if conflict.pcs_id == id => {
                let fields: Vec<&str> = engine::summary::fingerprint::field_names(conflict.fields).collect();
                let of = firsts.iter_mut().find(|first| first.seq == conflict.first_seq);
                if let Some(first) = of {
                    if first.later.len() < SHOWN {
                        first.later.push((seq, leaf.time_ms, fields.join(", ")));
                    } else {
                        first.more += 1;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(firsts)
}

/// Shows where a summary comes from and what vouches for it.
///
/// # Errors
/// There is none of this id, or the evidence does not hold.
pub fn run(args: &Args, ui: Ui) -> Result<Report, Fault> {
    let evidence = Evidence::open(&args.home, args.region.as_ref(), args.vkey.as_deref())?;
    let firsts = collect(args, &evidence, ui)?;
    if firsts.is_empty() {
        let why = format!(
            "none of the {} entries there is its first",
            thousands(evidence.plan.entries().count() as u64)
        );
        let next = "check the id; a pack of a period holds only that period's entries";
        return Err(Fault::new(
            "no such summary",
            format!("{} in {}", args.pcs_id, evidence.name()),
            why,
            next,
        ));
    }
    let mut report = Report::new("worm lineage");
    let mut data = Vec::new();
    for first in &firsts {
        data.push(branch(&args.pcs_id, first, &evidence, ui, &mut report.lines)?);
    }
    let head = &evidence.signed.checkpoint;
    report.data = json!({"pcs_id": args.pcs_id, "origin": head.origin, "size": head.size, "root": head.root.to_string(),
        "summaries": data});
    let by = if evidence.by_key {
        "signed by the log's key"
    } else {
        "whose signature was not checked: give --vkey"
    };
    report.verdict = format!(
        "{} under the checkpoint over {} entries, {by}; receipt: worm prove {} {}",
        firsts
            .iter()
            .map(|first| format!("{} as entry {}", first.outcome, first.seq))
            .collect::<Vec<_>>()
            .join(", "),
        thousands(head.size),
        evidence.name(),
        args.pcs_id
    );
    Ok(report)
}

fn branch(
    id: &str,
    first: &First,
    evidence: &Evidence,
    ui: Ui,
    lines: &mut Vec<String>,
) -> Result<serde_json::Value, Fault> {
    let (receipt, _) = evidence.receipt(first.seq, ui)?;
    let head = &evidence.signed.checkpoint;
    let whole = evidence.plan.is_whole();
    let policy_at = match first.policy_at {
        Some((seq, time)) => format!("set by entry {seq} at {}", when(time)),
        None if whole => "the one that the log began with".to_owned(),
        None => "set before what this evidence holds".to_owned(),
    };
    let key_at = match first.key_at {
        Some(seq) => format!("set by entry {seq}"),
        None => "set where this evidence does not reach".to_owned(),
    };
    let mut push = |line: String| lines.push(line);
    push(id.to_owned());
    push(format!("└─ parameters  {}", first.params_hash));
    push(format!("   └─ policy   {}  {}  {policy_at}", first.policy, first.policy_hash));
    push(format!(
        "      └─ outcome  {}, reason {}  entry {} of {}, record {}.{} at {}",
        first.outcome,
        first.reason,
        first.seq,
        thousands(head.size),
        first.record.0,
        first.record.1,
        when(first.time_ms)
    ));
    push(format!(
        "         ├─ signature  {} by key {} of tenant {}, {key_at}",
        first.form, first.key, first.tenant
    ));
    push(format!("         ├─ body       SHA-256(salt || body) {}", first.commitment));
    for (seq, time, fields) in &first.later {
        push(format!(
            "         ├─ conflict   entry {seq} at {}: another body under this id, other {fields}",
            when(*time)
        ));
    }
    if first.more > 0 {
        push(format!("         ├─ and {} more conflicts that are not shown", thousands(first.more)));
    }
    push(format!("         └─ receipt    {} hashes to root {}", receipt.path.len(), head.root));
    // Both lines of the log itself bear its name.
    let own = |line: &&engine::checkpoint::NoteSignature| line.name == head.origin;
    let lines = &evidence.signed.signatures;
    let cosigned = lines.len() - lines.iter().filter(own).count();
    let signed = if evidence.by_key { "signed by the log's key" } else { "signature not checked" };
    push(format!(
        "            ├─ checkpoint  {} over {} entries, {signed}",
        head.origin,
        thousands(head.size)
    ));
    let witnesses = if cosigned == 0 {
        "none".to_owned()
    } else {
        format!("{cosigned} further signature lines, not checked here")
    };
    push(format!("            ├─ witnesses   {witnesses}"));
    let anchors: Vec<&str> =
        STAMPS.into_iter().filter(|name| evidence.beside_checkpoint(name).is_file()).collect();
    let text = if anchors.is_empty() {
        "none".to_owned()
    } else {
        format!("{}, not checked here", anchors.join(", "))
    };
    push(format!("            └─ anchors     {text}"));
    Ok(json!({"seq": first.seq, "time_ms": first.time_ms, "lsn": first.record.0, "nth": first.record.1,
        "tenant": first.tenant, "outcome": first.outcome, "reason": first.reason, "policy": first.policy,
        "policy_hash": first.policy_hash.to_string(), "policy_entry": first.policy_at.map(|(seq, _)| seq),
        "params_hash": first.params_hash.to_string(), "form": first.form, "key_id": first.key, "key_entry": first.key_at,
        "commitment": first.commitment.to_string(), "proof_hashes": receipt.path.len(), "witness_lines": cosigned,
        "conflicts": first.later.iter().map(|(seq, ..)| seq).collect::<Vec<_>>(), "conflicts_not_shown": first.more, "anchors": anchors}))
}
