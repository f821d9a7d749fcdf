//! Asking a witness (C2SP tlog-witness v1.0.0, `add-checkpoint`).
//!
//! ```text
//! request  old <size>\n, at most 63 lines of base64 hashes, \n, the signed checkpoint
//! 200      signature lines; of the witness's key and good, or they are not kept
//! 409      text/x.tlog.size: the size that stands for the witness, from which we go on
//! 422      the witness holds another history: somebody must be woken
//! ```

use super::lane::Failure;
use crate::outbound::{Ask, Outbound, Told, Url};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::checkpoint::{NoteSignature, Signed, Witness};
use engine::log::Digest;
use std::time::Duration;

/// Longest answer, bytes: a few lines.
const ANSWER_MAX: usize = 64 << 10;
/// Most hashes in a request: the protocol's bound.
pub const PROOF_MAX: usize = 63;
/// How long a witness may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How far a witness's clock may be ahead of ours, seconds.
const AHEAD_MAX_S: u64 = 300;

/// What a witness said.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// It cosigned: its line, with the newline.
    Cosigned(String),
    /// It stands elsewhere.
    StandsAt(u64),
}

/// The body of a request.
pub fn request(old: u64, proof: &[Digest], note: &[u8]) -> Vec<u8> {
    let mut out = format!("old {old}\n");
    for hash in proof {
        STANDARD.encode_string(hash.0, &mut out);
        out.push('\n');
    }
    out.push('\n');
    let mut out = out.into_bytes();
    out.extend_from_slice(note);
    out
}

/// Asks for a cosignature on `note`, which continues the `old` leaves that the witness has seen.
///
/// # Errors
/// [`Failure`]; nothing was kept then.
pub async fn ask(
    out: &Outbound,
    witness: &Witness,
    url: &Url,
    old: u64,
    proof: &[Digest],
    note: &[u8],
    now_s: u64,
) -> Result<Said, Failure> {
    let ask = Ask {
        path: "/add-checkpoint".into(),
        media: "text/plain; charset=utf-8",
        accept: "text/plain",
        body: request(old, proof, note),
        max: ANSWER_MAX,
    };
    let told = out.post(url, ask, PATIENCE).await.map_err(|why| Failure::Later(why, None))?;
    read(witness, &told, old, note, now_s)
}

fn read(witness: &Witness, told: &Told, old: u64, note: &[u8], now_s: u64) -> Result<Said, Failure> {
    let signed = Signed::parse(note).map_err(|error| Failure::Refused(error.to_string()))?;
    let size = signed.checkpoint.size;
    match told.status {
        200 => cosignature(witness, &told.body, &signed.checkpoint.text(), now_s).map(Said::Cosigned),
        409 => {
            let text = std::str::from_utf8(&told.body).unwrap_or_default();
            let stands = text.strip_suffix('\n').and_then(|text| text.parse::<u64>().ok());
            match stands.filter(|_| told.media == "text/x.tlog.size") {
                Some(stands) if stands != old => Ok(Said::StandsAt(stands)),
                // Nothing but the root can be in the way when the sizes agree.
                _ if old == size => {
                    Err(Failure::Contradicted(format!("it holds another root over {size} entries")))
                }
                _ => Err(Failure::Later(format!("a conflict it does not explain: {}", told.line()), None)),
            }
        }
        422 => Err(Failure::Contradicted(format!(
            "it holds another history: {size} entries do not continue the {old} it has seen ({})",
            told.line()
        ))),
        404 => Err(Failure::Refused("it does not know this log: give its operator the log's vkey".into())),
        403 => {
            Err(Failure::Refused("it does not take the log's signature: does it have the right vkey?".into()))
        }
        429 | 500..=599 => {
            let wait = told.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
            Err(Failure::Later(told.line(), wait))
        }
        _ => Err(Failure::Refused(told.line())),
    }
}

/// The witness's line, checked.
fn cosignature(witness: &Witness, body: &[u8], text: &str, now_s: u64) -> Result<String, Failure> {
    let lines = std::str::from_utf8(body).map_err(|_| Failure::Refused("its answer is no text".into()))?;
    let ours = lines.lines().filter_map(NoteSignature::parse).find(|line| witness.is_of(line));
    let line = ours.ok_or(Failure::Refused("its answer has no line of its key".into()))?;
    let time = witness
        .verify(text, &line)
        .map_err(|_| Failure::Refused("its cosignature does not verify; it is not kept".into()))?;
    if time > now_s.saturating_add(AHEAD_MAX_S) {
        return Err(Failure::Later(format!("its clock is {} s ahead of ours", time - now_s), None));
    }
    Ok(line.line())
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::checkpoint::{Checkpoint, Cosigner, Signer};
    use engine::tree::EMPTY_ROOT;

    fn told(status: u16, media: &str, body: &str) -> Told {
        Told { status, media: media.into(), retry_after: None, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn every_answer_means_what_the_protocol_says() {
        let head = Checkpoint { origin: "log.example/x".into(), size: 9, root: EMPTY_ROOT };
        let note = head.sign(&Signer::new("log.example/x", &[1; 32]).unwrap());
        let cosigner = Cosigner::new("w1", &[2; 32]).unwrap();
        let line = cosigner.cosign(&head.text(), 1000).line();
        let stranger = Cosigner::new("w2", &[3; 32]).unwrap().cosign(&head.text(), 1000).line();
        let other = cosigner.cosign("something else\n", 1000).line();
        let ask = |told: &Told, old| read(&cosigner.witness(), told, old, &note, 1000);
        let plain = "text/plain";
        let both = format!("{stranger}{line}");
        assert_eq!(ask(&told(200, plain, &both), 5), Ok(Said::Cosigned(line.clone())));
        let is_refused = |told: Told| matches!(ask(&told, 5), Err(Failure::Refused(_)));
        assert!(is_refused(told(200, plain, &stranger)) && is_refused(told(200, plain, &other)));
        assert!(is_refused(told(200, plain, "")) && is_refused(told(403, plain, "")));
        assert!(is_refused(told(404, plain, "")) && is_refused(told(400, plain, "")));
        assert!(is_refused(told(302, plain, "")));
        let ahead = cosigner.cosign(&head.text(), 1000 + AHEAD_MAX_S + 1).line();
        assert!(matches!(ask(&told(200, plain, &ahead), 5), Err(Failure::Later(..))));

        let size = "text/x.tlog.size";
        assert_eq!(ask(&told(409, size, "7\n"), 5), Ok(Said::StandsAt(7)));
        assert_eq!(ask(&told(409, size, "12\n"), 9), Ok(Said::StandsAt(12)));
        assert!(matches!(ask(&told(409, size, "9\n"), 9), Err(Failure::Contradicted(_))));
        assert!(matches!(ask(&told(409, plain, "root"), 9), Err(Failure::Contradicted(_))));
        for body in ["5\n", "7", "x\n", ""] {
            assert!(matches!(ask(&told(409, size, body), 5), Err(Failure::Later(..))), "{body:?}");
        }
        assert!(matches!(ask(&told(422, plain, ""), 5), Err(Failure::Contradicted(_))));
        let mut busy = told(429, plain, "");
        busy.retry_after = Some(Duration::from_secs(3));
        assert!(matches!(ask(&busy, 5), Err(Failure::Later(_, Some(3000)))));
        assert!(matches!(ask(&told(503, plain, ""), 5), Err(Failure::Later(_, None))));
    }

    #[test]
    fn a_request_is_the_old_size_the_proof_and_the_note() {
        let text = String::from_utf8(request(3, &[Digest([0; 32])], b"note\n")).unwrap();
        assert_eq!(text, format!("old 3\n{}=\n\nnote\n", "A".repeat(43)));
        assert_eq!(request(0, &[], b"note\n"), b"old 0\n\nnote\n");
    }
}
