//! What a running node says of its ledger, for comparison.

use std::path::Path;
use std::time::Duration;

use engine::log::{Digest, Lsn};
use serde_json::json;

use crate::http::Client;
use crate::report::{Exit, Fault, Report, State};

/// What a running node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Live {
    pub lsn: Lsn,
    pub digest: Digest,
}

/// What a running node says of what was attested.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    /// Its ledger agrees with everything it compared.
    agrees: bool,
    /// In its own words.
    words: String,
}

/// The digest a running node has, and after which record: from the line of its ledger in `/readyz?verbose`.
pub(super) fn ask(url: &str, ca: Option<&Path>) -> Result<Live, Fault> {
    let fault = |why: String| {
        Fault::new("cannot compare with the running node", url, why, "is it running? curl URL/readyz?verbose")
    };
    let mut client = Client::trusting(url, Duration::from_secs(10), ca)?;
    let answer = client.get("/readyz?verbose").map_err(|error| fault(error.to_string()))?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    parse_live(&text).ok_or_else(|| fault("it does not say its ledger's digest".into()))
}

/// What a running node says of the digests in its log: nothing is computed here.
pub(super) fn check_live(url: &str, ca: Option<&Path>) -> Result<Report, Fault> {
    let fault = |why: String| {
        Fault::new("cannot ask the running node", url, why, "is it running? curl URL/readyz?verbose")
    };
    let mut client = Client::trusting(url, Duration::from_secs(10), ca)?;
    let answer = client.get("/readyz?verbose").map_err(|error| fault(error.to_string()))?;
    let page = String::from_utf8_lossy(&answer.body).into_owned();
    let said = parse_said(&page).ok_or_else(|| fault("it does not say what it agrees with".into()))?;
    let mut report = Report::new("flk replay");
    let compared = !said.words.starts_with("nothing");
    report.exit = match (said.agrees, compared) {
        (true, true) => Exit::Ok,
        (true, false) => Exit::Missing,
        (false, _) => Exit::Tampered,
    };
    report.check(
        "attested",
        if report.exit == Exit::Ok { State::Ok } else { State::Fail },
        said.words.clone(),
    );
    report.data = json!({"url": url, "agrees": said.agrees && compared, "said": said.words,
        "live": parse_live(&page).map(|live| json!({"lsn": live.lsn.0, "digest": live.digest.to_string()}))});
    report.verdict = match report.exit {
        Exit::Ok => "the running node agrees with all it was told".into(),
        Exit::Missing => "the running node has compared nothing yet: ask again, or name its directory".into(),
        _ => "DIFFERENT: the running node has halted; next: flk divergence URL and the URL of another node"
            .into(),
    };
    Ok(report)
}

/// The line of `/readyz?verbose` that tells how far a node agrees.
fn parse_said(text: &str) -> Option<Said> {
    let line = text.lines().find(|line| line.get(4..).is_some_and(|rest| rest.starts_with("attested: ")))?;
    Some(Said { agrees: line.starts_with("[+]"), words: line.get("[+] attested: ".len()..)?.to_owned() })
}

fn parse_live(text: &str) -> Option<Live> {
    let line = text
        .lines()
        .find(|line| line.get(3..).is_some_and(|rest| rest.trim_start().starts_with("ledger:")))?;
    let mut words = line.split_whitespace();
    let mut after = |word: &str| words.by_ref().skip_while(|have| *have != word).nth(1).map(str::to_owned);
    let lsn = after("applied")?.parse().ok()?;
    let digest = Digest::from_hex(after("digest")?.trim_end_matches(','))?;
    Some(Live { lsn: Lsn(lsn), digest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_of_itself_is_read() {
        let page = "[+] ledger: applied 7 digest ab\n[-] attested: record 9 attests otherwise: index differs\nnot ready\n";
        let words = "record 9 attests otherwise: index differs".to_owned();
        assert_eq!(parse_said(page), Some(Said { agrees: false, words }));
        assert_eq!(parse_said("[+] ledger: applied 7\n"), None);
    }

    #[test]
    fn the_live_line_is_read_in_both_states() {
        let digest = "ab".repeat(32);
        let text =
            format!("[+] log: durable 7 committed 7 on posix\n[+] ledger: applied 7 digest {digest}\nok\n");
        let live = parse_live(&text).unwrap();
        assert_eq!((live.lsn, live.digest.to_string()), (Lsn(7), digest));
        assert_eq!(parse_live("[+] ledger: follows the log\nok\n"), None);
        assert_eq!(parse_live(""), None);
    }
}
