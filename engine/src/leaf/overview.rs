//! What a run of leaves adds up to, tenant by tenant: the line that stands beside a closed audit file.
//!
//! It follows from the leaves alone, so whoever has the file can make it again, and compare.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::line::Fields;
use super::{Leaf, LeafError, What, outcome_flags, outcome_name};
use crate::ledger::RefusedReason;
use crate::log::Digest;
use crate::summary::decimal::{Decimal, Style};

/// Version of the form, its member `v`.
pub const VERSION: u64 = 1;

/// Leaves of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// How many.
    pub leaves: u64,
    /// Summaries by outcome: `accepted`, `escalated`, `rejected`; everything else by its type.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Reasons of verdicts and refusals.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Smallest and largest claimed slope.
    pub d_hat: Option<(Decimal, Decimal)>,
}

/// A run of leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// How many.
    pub leaves: u64,
    /// By tenant; what belongs to none stands under the empty name. L1: as many as a log may have.
    pub tenants: BTreeMap<String, Part>,
}

impl Part {
    fn add(&mut self, glance: &Glance) {
        self.leaves += 1;
        *self.kinds.entry(glance.kind).or_default() += 1;
        if let Some(reason) = glance.reason {
            *self.reasons.entry(reason).or_default() += 1;
        }
        if let Some(d_hat) = glance.d_hat {
            self.widen(d_hat, d_hat);
        }
    }

    fn widen(&mut self, low: Decimal, high: Decimal) {
        let (least, most) = self.d_hat.get_or_insert((low, high));
        if low.to_f64() < least.to_f64() {
            *least = low;
        }
        if high.to_f64() > most.to_f64() {
            *most = high;
        }
    }

    /// Takes in another part of the same tenant.
    pub fn merge(&mut self, other: &Part) {
        self.leaves += other.leaves;
        other.kinds.iter().for_each(|(name, count)| *self.kinds.entry(name).or_default() += count);
        other.reasons.iter().for_each(|(name, count)| *self.reasons.entry(name).or_default() += count);
        if let Some((low, high)) = other.d_hat {
            self.widen(low, high);
        }
    }
}

/// What is counted of a leaf.
struct Glance {
    kind: &'static str,
    reason: Option<&'static str>,
    d_hat: Option<Decimal>,
}

impl Glance {
    fn of(what: &What<'_>) -> Glance {
        let (kind, reason, d_hat) = match what {
            What::Pcs(pcs) => {
                (outcome_name(pcs.accepted, pcs.escalated), Some(pcs.code.name()), Some(pcs.d_hat))
            }
            What::Refused { reason, .. } => (what.name(), Some(reason.name()), None),
            _ => (what.name(), None, None),
        };
        Glance { kind, reason, d_hat }
    }

    /// The same, read from a line without what is not counted.
    fn read(fields: &Fields<'_>) -> Result<Glance, LeafError> {
        let plain = |kind| Ok(Glance { kind, reason: None, d_hat: None });
        match fields.text("type")?.as_ref() {
            "pcs" => {
                let (accepted, escalated) = fields.named("outcome", outcome_flags)?;
                Ok(Glance {
                    kind: outcome_name(accepted, escalated),
                    reason: Some(fields.named("code", super::reason)?.name()),
                    d_hat: Some(fields.decimal("D_hat")?),
                })
            }
            "refused" => {
                let reason = fields.named("reason", RefusedReason::from_name)?;
                Ok(Glance { reason: Some(reason.name()), ..plain("refused")? })
            }
            "conflict" => plain("conflict"),
            "tenant" => plain("tenant"),
            "key" => plain("key"),
            "policy" => plain("policy"),
            "log-key" => plain("log-key"),
            _ => Err(LeafError { member: "type" }),
        }
    }
}

impl Overview {
    /// Counts a leaf.
    pub fn add(&mut self, leaf: &Leaf<'_>) {
        let tenant = match &leaf.what {
            What::Pcs(pcs) => Some(&pcs.tenant),
            What::Conflict(conflict) => Some(&conflict.tenant),
            What::Refused { tenant, .. } => tenant.as_ref(),
            What::Tenant { tenant, .. } | What::Key { tenant, .. } => Some(tenant),
            What::Policy { .. } | What::LogKey { .. } => None,
        };
        self.count(tenant.map_or("", |tenant| tenant.as_str()), &Glance::of(&leaf.what));
    }

    /// Counts a line that this log wrote itself: only what is counted is read, and whether the rest has its form is
    /// not looked at.
    ///
    /// # Errors
    /// [`LeafError`] when what is counted cannot be read; then nothing is.
    pub fn add_line(&mut self, line: &[u8]) -> Result<(), LeafError> {
        let fields = Fields::parse(line).ok_or(LeafError { member: "syntax" })?;
        let glance = Glance::read(&fields)?;
        let tenant = if fields.has("tenant") { fields.text("tenant")? } else { Cow::Borrowed("") };
        self.count(&tenant, &glance);
        Ok(())
    }

    fn count(&mut self, tenant: &str, glance: &Glance) {
        self.leaves += 1;
        match self.tenants.get_mut(tenant) {
            Some(part) => part.add(glance),
            None => self.tenants.entry(tenant.into()).or_default().add(glance),
        }
    }

    /// The line, with its newline: canonical JSON (RFC 8785). `sha256` is that of the file.
    #[must_use]
    pub fn encode(&self, sha256: &Digest) -> Vec<u8> {
        let counts = |counts: &BTreeMap<&'static str, u64>| {
            let members: Vec<String> =
                counts.iter().map(|(name, count)| format!("\"{name}\":{count}")).collect();
            members.join(",")
        };
        let part = |(name, part): (&String, &Part)| {
            let range = part.d_hat.map_or(String::new(), |(low, high)| {
                format!("\"D_hat\":[\"{}\",\"{}\"],", fixed(low), fixed(high))
            });
            format!(
                "\"{name}\":{{{range}\"kinds\":{{{}}},\"leaves\":{},\"reasons\":{{{}}}}}",
                counts(&part.kinds),
                part.leaves,
                counts(&part.reasons)
            )
        };
        let tenants: Vec<String> = self.tenants.iter().map(part).collect();
        let tenants = tenants.join(",");
        format!(
            "{{\"leaves\":{},\"sha256\":\"{sha256}\",\"tenants\":{{{tenants}}},\"v\":{VERSION}}}\n",
            self.leaves
        )
        .into_bytes()
    }
}

/// A slope with nine places, as leaves have it.
#[must_use]
pub fn fixed(value: Decimal) -> String {
    let mut out = Vec::new();
    value.write(&mut out, Style::Fixed9Unsigned);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::{Conflict, KeyName, Pcs};
    use super::*;
    use crate::ids::{KeyId, TenantId};
    use crate::log::Lsn;
    use crate::summary::{PcsId, ReasonCode, Regime, SignatureForm};
    use alloc::string::ToString;

    fn refused(tenant: Option<&str>, reason: RefusedReason) -> Leaf<'static> {
        let what = What::Refused {
            tenant: tenant.map(|name| TenantId::new(name).unwrap()),
            reason,
            commitment: Digest([0; 32]),
        };
        Leaf { lsn: Lsn(1), nth: 0, time_ms: 1, region: "default".into(), what }
    }

    /// One of each type, with and without what may be missing.
    fn leaves() -> Vec<Leaf<'static>> {
        let tenant = TenantId::new("acme").unwrap();
        let key_id = KeyId::new("k1").unwrap();
        let (digest, pcs_id) = (Digest([7; 32]), PcsId([9; 32]));
        let form = SignatureForm::ALL[0];
        let mut whats = alloc::vec![
            What::Conflict(Conflict {
                tenant,
                pcs_id,
                commitment: digest,
                first_region: Some("eu".into()),
                first_seq: 3,
                fields: 5,
                form,
                key_id,
            }),
            What::Tenant { tenant, active: true, commitment: digest },
            What::Key {
                tenant,
                key_id,
                kind: KeyName::Hmac,
                not_before_ms: 1,
                not_after_ms: u64::MAX,
                commitment: digest,
            },
            What::Policy { policy: "say \"1\"".into(), hash: digest, params_hash: digest },
            What::LogKey {
                number: 2,
                follows: "a b".into(),
                keys: "c".into(),
                both_until_ms: 9,
                commitment: digest,
            },
        ];
        for (nth, code) in ReasonCode::ALL.into_iter().enumerate() {
            let number = |value| Decimal::shortest(value);
            whats.push(What::Pcs(Pcs {
                tenant,
                pcs_id,
                commitment: digest,
                accepted: nth % 3 < 2,
                escalated: nth % 3 > 0,
                code,
                d_hat: number(1.0 + nth as f64),
                d_hat_recomputed: (nth % 2 == 0).then(|| number(2.5)),
                coh_star: number(0.5),
                r: number(0.25),
                budget: number(0.125),
                budget_recomputed: None,
                regime: Regime::Mixed,
                policy: "default".into(),
                policy_hash: digest,
                params_hash: digest,
                form,
                key_id,
            }));
        }
        let mut leaves: Vec<Leaf<'_>> = whats
            .into_iter()
            .map(|what| Leaf { lsn: Lsn(1), nth: 0, time_ms: 1, region: "default".into(), what })
            .collect();
        let bad = RefusedReason::from_name("bad-signature").unwrap();
        leaves.extend([refused(Some("acme"), bad), refused(None, bad)]);
        leaves
    }

    #[test]
    fn a_line_counts_like_its_leaf() {
        for leaf in leaves() {
            let line = leaf.encode();
            let (mut from_leaf, mut from_line) = (Overview::default(), Overview::default());
            from_leaf.add(&leaf);
            from_line.add_line(&line).unwrap();
            assert_eq!(from_line, from_leaf, "{}", String::from_utf8_lossy(&line));
            assert_eq!(Leaf::parse(&line).unwrap(), leaf);
        }
    }

    #[test]
    fn a_line_that_cannot_be_counted_is_not() {
        let mut view = Overview::default();
        for line in [
            "",
            "{}",
            r#"{"type":"verdict"}"#,
            r#"{"type":"pcs"}"#,
            r#"{"reason":"no-such-reason","type":"refused"}"#,
            r#"{"tenant":7,"type":"conflict"}"#,
        ] {
            assert!(view.add_line(line.as_bytes()).is_err(), "{line}");
        }
        assert_eq!(view, Overview::default());
    }

    fn slopes(low: f64, high: f64) -> Part {
        let d_hat = Some((Decimal::shortest(low), Decimal::shortest(high)));
        Part { leaves: 2, kinds: BTreeMap::from([("accepted", 2)]), reasons: BTreeMap::new(), d_hat }
    }

    #[test]
    fn leaves_are_counted_by_tenant_in_one_canonical_line() {
        let mut view = Overview::default();
        let first = RefusedReason::from_name("bad-signature").unwrap();
        view.add(&refused(Some("acme"), first));
        view.add(&refused(Some("acme"), RefusedReason::from_name("malformed").unwrap()));
        view.add(&refused(None, first));
        let line = String::from_utf8(view.encode(&Digest([0xab; 32]))).unwrap();
        assert_eq!(
            line,
            "{\"leaves\":3,\"sha256\":\"".to_string()
                + &"ab".repeat(32)
                + "\",\"tenants\":{\"\":{\"kinds\":{\"refused\":1},\"leaves\":1,\"reasons\":{\"bad-signature\":1}},\
                   \"acme\":{\"kinds\":{\"refused\":2},\"leaves\":2,\"reasons\":{\"bad-signature\":1,\"malformed\":1}}},\"v\":1}\n"
        );
    }

    #[test]
    fn parts_of_a_tenant_add_up_in_any_order() {
        let parts = [slopes(1.5, 9.0), slopes(0.25, 10.0), slopes(2.0, 2.0)];
        let add = |order: [usize; 3]| {
            let mut all = Part::default();
            order.iter().for_each(|nth| all.merge(&parts[*nth]));
            all
        };
        let all = add([0, 1, 2]);
        assert_eq!((all.leaves, all.kinds["accepted"]), (6, 6));
        let (low, high) = all.d_hat.unwrap();
        assert_eq!((fixed(low).as_str(), fixed(high).as_str()), ("0.250000000", "10.000000000"));
        assert!(add([2, 1, 0]) == all && add([1, 0, 2]) == all);
    }
}
