//! OSCAL 1.1.3 assessment results: an observation for each check, a finding for each control that something was
//! looked at for. <https://pages.nist.gov/OSCAL/> defines the form.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{CONTROLS, Paper, Standing, standing};
use crate::report::State;

/// A name that is the same for the same words, in the form of a UUID (version 5 in its bits).
fn uuid(words: &str) -> String {
    let mut bytes: [u8; 32] = Sha256::digest(words.as_bytes()).into();
    bytes[6] = bytes[6] & 0x0f | 0x50;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = engine::codec::hex(&bytes[..16]);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The document.
pub(super) fn document(paper: &Paper<'_>) -> Value {
    let report = paper.report;
    let made = paper.made.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let head = &report.data["checkpoint"];
    let of = format!(
        "{} {} {made}",
        head["origin"].as_str().unwrap_or_default(),
        head["root"].as_str().unwrap_or_default()
    );
    let id = |what: &str| uuid(&format!("{what} of {of}"));
    let plan = id("plan");
    let observations: Vec<Value> = report
        .checks
        .iter()
        .map(|check| {
            json!({
                "uuid": id(&format!("observation {}", check.name)),
                "title": check.name.trim(),
                "description": format!("{}: {}", state(check.state), check.detail),
                "methods": ["TEST"],
                "collected": made,
                "relevant-evidence": [
                    {"href": "checkpoint", "description": "The signed tree head that everything was held against."}],
            })
        })
        .collect();
    let findings: Vec<Value> = CONTROLS
        .iter()
        .filter(|control| standing(control, report) != Standing::NotEvaluated)
        .map(|control| {
            let good = standing(control, report) == Standing::Satisfied;
            let related: Vec<Value> = report
                .checks
                .iter()
                .filter(|check| control.checks.contains(&check.name.as_str()))
                .map(|check| json!({"observation-uuid": id(&format!("observation {}", check.name))}))
                .collect();
            json!({
                "uuid": id(&format!("finding {}", control.id)),
                "title": control.title,
                "description": format!("{}. A mapping of findings to a control, not a claim of compliance.", control.also),
                "target": {"type": "objective-id", "target-id": format!("{}_obj", control.id),
                    "status": {"state": if good { "satisfied" } else { "not-satisfied" }}},
                "related-observations": related,
            })
        })
        .collect();
    let reviewed: Vec<Value> = CONTROLS
        .iter()
        .filter(|control| standing(control, report) != Standing::NotEvaluated)
        .map(|control| json!({"control-id": control.id}))
        .collect();
    let selection = if reviewed.is_empty() {
        json!({"description": "NOT EVALUATED: nothing was looked at that speaks for a control."})
    } else {
        json!({"include-controls": reviewed})
    };
    let mut result = json!({
        "uuid": id("result"),
        "title": "Check of a transparency log",
        "description": report.verdict,
        "start": made,
        "reviewed-controls": {"control-selections": [selection]},
        "observations": observations,
    });
    if !findings.is_empty() {
        result["findings"] = Value::Array(findings);
    }
    json!({"assessment-results": {
        "uuid": id("document"),
        "metadata": {"title": format!("worm verify: {}", head["origin"].as_str().unwrap_or("a log")),
            "last-modified": made, "version": env!("CARGO_PKG_VERSION"), "oscal-version": "1.1.3"},
        "import-ap": {"href": format!("#{plan}")},
        "results": [result],
        "back-matter": {"resources": [{"uuid": plan, "title": "What worm verify looks at",
            "description": "Format, bytes to leaves, tree to root, signatures, time, append-only, continuity.",
            "rlinks": [{"href": "README.txt"}]}]},
    }})
}

fn state(state: State) -> &'static str {
    match state {
        State::Ok => "holds",
        State::Warn => "holds, with something to know",
        State::Fail => "does not hold",
        State::Skipped => "NOT EVALUATED",
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_have_the_form_that_the_schema_wants() {
        let name = super::uuid("x");
        assert_eq!(name.len(), 36);
        assert_eq!(&name[14..15], "5");
        assert!("89ab".contains(&name[19..20]));
        assert_ne!(name, super::uuid("y"));
    }
}
