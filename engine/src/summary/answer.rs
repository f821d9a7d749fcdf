//! The JSON a client reads: the original's members in the original's order, then ours.

use alloc::vec::Vec;

use super::canonical::{Escapes, write_string};
use super::decimal::{Decimal, Style, write_integer};
use super::{PcsId, Signals, Verdict};
use crate::log::Lsn;

/// Everything an answer says.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The verdict, of the first submission under this id.
    pub verdict: &'a Verdict,
    /// The derived id and the claimed signals; `None` if the structure did not hold.
    pub summary: Option<(PcsId, Signals)>,
    /// The leaf's index in the audit log.
    pub seq: u64,
    /// The record that holds the submission.
    pub lsn: Lsn,
    /// The policy that judged it.
    pub policy_version: &'a str,
    /// Where the receipt is.
    pub receipt: &'a str,
}

/// The answer's bytes, one line. As Go writes it: zero and empty members of the original are left out,
/// `<`, `>` and `&` are escaped, and `D_hat` 1.0 is `1`.
#[must_use]
pub fn answer_json(answer: &Answer<'_>) -> Vec<u8> {
    let Verdict { accepted, escalated, reason, recomputed_d_hat, recomputed_budget, .. } = answer.verdict;
    let mut out = Vec::with_capacity(448 + reason.len());
    out.extend_from_slice(b"{\"accepted\":");
    boolean(&mut out, *accepted);
    for (name, number) in [("recomputed_D_hat", recomputed_d_hat), ("recomputed_budget", recomputed_budget)] {
        if let Some(number) = number.filter(|number| *number != 0.0) {
            member(&mut out, name);
            Decimal::shortest(number).write(&mut out, Style::Go);
        }
    }
    if !reason.is_empty() {
        text(&mut out, "reason", reason);
    }
    member(&mut out, "escalated");
    boolean(&mut out, *escalated);
    if let Some((id, signals)) = &answer.summary {
        member(&mut out, "pcs_id");
        out.push(b'"');
        crate::codec::hex_into(&mut out, &id.0);
        out.push(b'"');
        member(&mut out, "D_hat");
        Decimal::shortest(signals.d_hat).write(&mut out, Style::Go);
        text(&mut out, "regime", signals.regime.name());
        member(&mut out, "budget");
        Decimal::shortest(signals.budget).write(&mut out, Style::Go);
    }
    for (name, number) in [("seq", answer.seq), ("lsn", answer.lsn.0)] {
        member(&mut out, name);
        write_integer(&mut out, i64::try_from(number).expect("positions stay far below 2^63"));
    }
    text(&mut out, "policy_version", answer.policy_version);
    text(&mut out, "receipt", answer.receipt);
    out.extend_from_slice(b"}\n");
    out
}

fn member(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    member(out, name);
    write_string(out, value, Escapes::Html);
}

fn boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;
    use crate::summary::{ReasonCode, Regime};

    fn verdict() -> Verdict {
        Verdict {
            accepted: true,
            escalated: false,
            code: ReasonCode::Accepted,
            reason: String::new(),
            recomputed_d_hat: Some(1.0),
            recomputed_budget: Some(0.0),
        }
    }

    fn json(verdict: &Verdict, whole: bool) -> String {
        let signals = Signals { d_hat: 1.0, coh_star: 0.5, r: 0.5, budget: 0.285, regime: Regime::NonSticky };
        let answer = Answer {
            verdict,
            summary: whole.then_some((PcsId([0xab; 32]), signals)),
            seq: 7,
            lsn: Lsn(9),
            policy_version: "1.0.0",
            receipt: "/v1/receipts/ab",
        };
        String::from_utf8(answer_json(&answer)).unwrap()
    }

    #[test]
    fn the_members_stand_in_the_order_clients_know() {
        let id = "ab".repeat(32);
        assert_eq!(
            json(&verdict(), true),
            alloc::format!(
                r#"{{"accepted":true,"recomputed_D_hat":1,"escalated":false,"pcs_id":"{id}","D_hat":1,"regime":"non_sticky","budget":0.285,"seq":7,"lsn":9,"policy_version":"1.0.0","receipt":"/v1/receipts/ab"}}"#
            ) + "\n"
        );
    }

    #[test]
    fn reasons_are_escaped_as_go_escapes_them() {
        let verdict = Verdict {
            accepted: false,
            escalated: true,
            reason: "diff=0.5433 > tol=\"0.15\"".into(),
            recomputed_d_hat: None,
            recomputed_budget: None,
            ..verdict()
        };
        assert_eq!(
            json(&verdict, false),
            "{\"accepted\":false,\"reason\":\"diff=0.5433 \\u003e tol=\\\"0.15\\\"\",\"escalated\":true,\"seq\":7,\"lsn\":9,\"policy_version\":\"1.0.0\",\"receipt\":\"/v1/receipts/ab\"}\n"
        );
        assert!(serde_json::from_str::<serde_json::Value>(&json(&verdict, true)).is_ok());
    }
}
