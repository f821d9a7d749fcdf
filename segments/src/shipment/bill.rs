//! What a region says of a range of its log that it put somewhere: a note signed with the log's key.
//!
//! ```text
//! flk bill 1
//! region NAME
//! from LSN
//! to LSN
//! chunk SHA256 BYTES RAW
//! time MS
//! checkpoint SIZE ROOT            or: checkpoint -
//! withheld N                      only where there are any
//!
//! — <key name> <base64(key id 4 || signature)>         one line for each key the log has had
//! ```
//! It lies at `bills/FROM` (twenty digits) and is put last: a range is there when its bill is. `chunk` names the object by
//! what it holds (SHA-256 in hex, bytes, bytes when unpacked), `time` is when it was made, milliseconds since the Unix epoch,
//! `checkpoint` the newest tree head that the range logs, and `withheld` how many of its submissions stay in the region. Its first line is no name of a log, so that no bill is a
//! checkpoint. A reader takes the newest key that the log has told it of, so whoever stole an old one can make no bill. What parses
//! is exactly what writing it again gives.

use engine::checkpoint::{NoteSignature, Signer, Verifier};
use engine::log::{Digest, Lsn};

/// Longest bill, bytes: with the lines of all keys that a log may have had.
pub const BILL_MAX: usize = 32 << 10;

/// One shipped range, whole records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bill {
    /// Whose log.
    pub region: String,
    /// Its first record.
    pub from: Lsn,
    /// Its last record.
    pub to: Lsn,
    /// SHA-256 of the object.
    pub digest: Digest,
    /// Bytes of the object.
    pub bytes: u64,
    /// Bytes of what is packed in it.
    pub raw: u64,
    /// When it was made, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The newest tree head in it.
    pub head: Option<(u64, Digest)>,
    /// Submissions in it that stay in the region.
    pub withheld: u64,
}

impl Bill {
    /// Where it lies.
    pub fn name(from: Lsn) -> String {
        format!("bills/{:020}", from.0)
    }

    /// Where its object lies. The digest is part of the name: two leaders may cut a range in two ways.
    pub fn chunk(&self) -> String {
        format!("chunks/{:020}-{}", self.from.0, &self.digest.to_string()[..16])
    }

    fn text(&self) -> String {
        let Bill { region, from, to, digest, bytes, raw, at_ms, head, withheld } = self;
        let head = head.map_or_else(|| "-".to_owned(), |(size, root)| format!("{size} {root}"));
        let withheld = if *withheld == 0 { String::new() } else { format!("withheld {withheld}\n") };
        format!(
            "flk bill 1\nregion {region}\nfrom {from}\nto {to}\nchunk {digest} {bytes} {raw}\ntime {at_ms}\ncheckpoint {head}\n{withheld}"
        )
    }

    /// The note, signed by all of these.
    pub fn sign(&self, signers: &[&Signer]) -> Vec<u8> {
        seal(&self.text(), signers)
    }

    /// Reads a bill that this key signed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(note: &[u8], key: &Verifier) -> Result<Bill, &'static str> {
        let text = open(note, BILL_MAX, key)?;
        let bill = Bill::parse(&text).ok_or("it is no bill")?;
        if bill.text() == text { Ok(bill) } else { Err("it is not in its one form") }
    }

    fn parse(text: &str) -> Option<Bill> {
        let mut lines = text.lines();
        (lines.next()? == "flk bill 1").then_some(())?;
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let region = field("region")?.to_owned();
        let from = Lsn(field("from")?.parse().ok()?);
        let to = Lsn(field("to")?.parse().ok()?);
        let mut chunk = field("chunk")?.split(' ');
        let digest = Digest::from_hex(chunk.next()?)?;
        let bytes = chunk.next()?.parse().ok()?;
        let raw = chunk.next()?.parse().ok()?;
        let at_ms = field("time")?.parse().ok()?;
        let head = match field("checkpoint")? {
            "-" => None,
            head => {
                let (size, root) = head.split_once(' ')?;
                Some((size.parse().ok()?, Digest::from_hex(root)?))
            }
        };
        let withheld = match lines.next() {
            None => 0,
            Some(line) => line.strip_prefix("withheld ")?.parse().ok()?,
        };
        let ordered = from > Lsn::ZERO && from <= to && to.0 < u64::MAX / 2;
        ordered.then_some(Bill { region, from, to, digest, bytes, raw, at_ms, head, withheld })
    }
}

/// A text, and a line of each of these under it.
pub fn seal(text: &str, signers: &[&Signer]) -> Vec<u8> {
    let lines: String = signers.iter().map(|signer| signer.sign(text.as_bytes()).line()).collect();
    format!("{text}\n{lines}").into_bytes()
}

/// The text of a note of at most `most` bytes that this key signed.
///
/// # Errors
/// What is wrong with it.
pub fn open(note: &[u8], most: usize, key: &Verifier) -> Result<String, &'static str> {
    if note.len() > most {
        return Err("it is too long");
    }
    let note = std::str::from_utf8(note).map_err(|_| "it is no text")?;
    let (text, lines) = note.split_once("\n\n").ok_or("it has no signature")?;
    let text = format!("{text}\n");
    let lines = lines.strip_suffix('\n').ok_or("its last line is cut")?;
    let signatures: Option<Vec<_>> = lines.split('\n').map(NoteSignature::parse).collect();
    let signatures = signatures.ok_or("its signature is none")?;
    let signature = signatures.into_iter().find(|signature| key.is_of(signature));
    let signature = signature.ok_or("another key signed it")?;
    key.verify(text.as_bytes(), &signature).map_err(|_| "its signature is wrong")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bill() -> Bill {
        Bill {
            region: "eu".into(),
            from: Lsn(5),
            to: Lsn(9),
            digest: Digest([7; 32]),
            bytes: 100,
            raw: 300,
            at_ms: 1234,
            head: Some((4, Digest([9; 32]))),
            withheld: 0,
        }
    }

    #[test]
    fn a_bill_comes_back_under_its_key_and_no_other() {
        let signer = Signer::new("host/pcs/eu", &[1; 32]).unwrap();
        for bill in [bill(), Bill { head: None, ..bill() }, Bill { withheld: 7, ..bill() }] {
            let other = Signer::new("host/pcs/eu", &[2; 32]).unwrap();
            let both = bill.sign(&[&other, &signer]);
            for key in [&other, &signer] {
                assert_eq!(Bill::open(&both, &key.verifier()).as_ref(), Ok(&bill));
            }
            let note = bill.sign(&[&signer]);
            assert_eq!(Bill::open(&note, &signer.verifier()), Ok(bill));
            assert_eq!(Bill::open(&note, &other.verifier()), Err("another key signed it"));
            for at in 0..note.len() {
                let mut bent = note.clone();
                bent[at] ^= 1;
                assert!(Bill::open(&bent, &signer.verifier()).is_err(), "byte {at}");
                assert!(Bill::open(&note[..at], &signer.verifier()).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn what_is_signed_and_no_bill_is_refused() {
        let signer = Signer::new("host/pcs/eu", &[1; 32]).unwrap();
        let good = Bill { withheld: 7, ..bill() }.text();
        for (from, to) in [
            ("from 5", "from 0"),
            ("from 5", "from 10"),
            ("from 5", "from 05"),
            ("bill 1", "bill 2"),
            ("withheld 7", "withheld 0"),
            ("withheld 7", "withheld 7 of 8"),
            ("withheld 7\n", "withheld 7\nwithheld 7\n"),
        ] {
            let text = good.replace(from, to);
            let note = format!("{text}\n{}", signer.sign(text.as_bytes()).line());
            assert!(Bill::open(note.as_bytes(), &signer.verifier()).is_err(), "{to}");
        }
    }
}
