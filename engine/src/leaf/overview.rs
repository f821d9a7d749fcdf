//! What a run of leaves adds up to, tenant by tenant: the line that stands beside a closed audit file.
//!
//! It follows from the leaves alone, so whoever has the file can make it again, and compare.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Leaf, What, outcome_name};
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
    fn add(&mut self, what: &What<'_>) {
        self.leaves += 1;
        let (kind, reason) = match what {
            What::Pcs(pcs) => {
                let (low, high) = self.d_hat.get_or_insert((pcs.d_hat, pcs.d_hat));
                if pcs.d_hat.to_f64() < low.to_f64() {
                    *low = pcs.d_hat;
                }
                if pcs.d_hat.to_f64() > high.to_f64() {
                    *high = pcs.d_hat;
                }
                (outcome_name(pcs.accepted, pcs.escalated), Some(pcs.code.name()))
            }
            What::Refused { reason, .. } => (what.name(), Some(reason.name())),
            _ => (what.name(), None),
        };
        *self.kinds.entry(kind).or_default() += 1;
        if let Some(reason) = reason {
            *self.reasons.entry(reason).or_default() += 1;
        }
    }

    /// Takes in another part of the same tenant.
    pub fn merge(&mut self, other: &Part) {
        self.leaves += other.leaves;
        other.kinds.iter().for_each(|(name, count)| *self.kinds.entry(name).or_default() += count);
        other.reasons.iter().for_each(|(name, count)| *self.reasons.entry(name).or_default() += count);
        if let Some((low, high)) = other.d_hat {
            let (least, most) = self.d_hat.get_or_insert((low, high));
            if low.to_f64() < least.to_f64() {
                *least = low;
            }
            if high.to_f64() > most.to_f64() {
                *most = high;
            }
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
        self.leaves += 1;
        let name = tenant.map_or("", |tenant| tenant.as_str());
        match self.tenants.get_mut(name) {
            Some(part) => part.add(&leaf.what),
            None => self.tenants.entry(name.into()).or_default().add(&leaf.what),
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
    use super::*;
    use crate::ids::TenantId;
    use crate::ledger::RefusedReason;
    use crate::log::Lsn;
    use alloc::string::ToString;

    fn refused(tenant: Option<&str>, reason: RefusedReason) -> Leaf<'static> {
        let what = What::Refused {
            tenant: tenant.map(|name| TenantId::new(name).unwrap()),
            reason,
            commitment: Digest([0; 32]),
        };
        Leaf { lsn: Lsn(1), nth: 0, time_ms: 1, region: "default".into(), what }
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
