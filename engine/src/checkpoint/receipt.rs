//! Receipts: C2SP tlog-proof v1.
//!
//! ```text
//! c2sp.org/tlog-proof@v1\n
//! extra <base64>\n              optional, unauthenticated
//! index <leaf index>\n
//! <base64 hash>\n               one line for each hash of the audit path, leaf end first
//! \n
//! <signed checkpoint>
//! ```

use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::note::{decimal, hash};
use super::{NoteError, Signed, Verifier};
use crate::codec::json_text;
use crate::limits::NOTE_MAX;
use crate::log::Digest;
use crate::tree::{leaf_hash, verify_inclusion};

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// Longest `extra`, bytes: a salt, a few hints, and the leaf, of which one with the log's keys is the longest.
const EXTRA_MAX: usize = 12 << 10;

/// Longest receipt, bytes: header, extra, 64 hashes, checkpoint.
const RECEIPT_MAX: usize = HEADER.len() + 2 * EXTRA_MAX + 64 * 45 + 64 + NOTE_MAX;

/// An offline proof that a leaf stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// What opens the leaf for its owner. Unauthenticated: never show it as fact.
    pub extra: Option<Vec<u8>>,
    /// The leaf's index.
    pub index: u64,
    /// The audit path, leaf end first.
    pub path: Vec<Digest>,
    /// The signed checkpoint the path leads to, as bytes.
    pub checkpoint: Vec<u8>,
}

impl Receipt {
    /// The receipt's text.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.room());
        self.write(&mut out, b"\n", |out, checkpoint| out.extend_from_slice(checkpoint));
        out
    }

    /// Appends the receipt's text as it stands within a JSON string.
    pub fn encode_json(&self, out: &mut Vec<u8>) {
        // Each line ends with two bytes instead of one.
        out.reserve(self.room() + self.path.len() + 16);
        self.write(out, b"\\n", json_text);
    }

    /// About as many bytes as the text has.
    fn room(&self) -> usize {
        let extra = self.extra.as_ref().map_or(0, |extra| extra.len().div_ceil(3) * 4 + 8);
        HEADER.len() + extra + 32 + 45 * self.path.len() + self.checkpoint.len()
    }

    /// Writes the lines with this end, and the checkpoint, which has its own lines, as `note` does.
    fn write(&self, out: &mut Vec<u8>, end: &[u8], note: fn(&mut Vec<u8>, &[u8])) {
        out.extend_from_slice(HEADER.as_bytes());
        out.extend_from_slice(end);
        if let Some(extra) = &self.extra {
            out.extend_from_slice(b"extra ");
            base64_into(out, extra);
            out.extend_from_slice(end);
        }
        out.extend_from_slice(alloc::format!("index {}", self.index).as_bytes());
        out.extend_from_slice(end);
        for hash in &self.path {
            base64_into(out, &hash.0);
            out.extend_from_slice(end);
        }
        out.extend_from_slice(end);
        note(out, &self.checkpoint);
    }

    /// Reads exactly what [`Receipt::encode`] writes.
    ///
    /// # Errors
    /// [`NoteError::Receipt`] for the head, else what [`Signed::parse`] says of the checkpoint.
    pub fn parse(bytes: &[u8]) -> Result<Receipt, NoteError> {
        if bytes.len() > RECEIPT_MAX {
            return Err(NoteError::TooLong);
        }
        let text = core::str::from_utf8(bytes).map_err(|_| NoteError::Receipt)?;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(NoteError::Receipt)?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(NoteError::Receipt);
        }
        let extra = match lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            Some(text) if text.len() <= 2 * EXTRA_MAX => {
                lines.next();
                Some(BASE64.decode(text).map_err(|_| NoteError::Receipt)?)
            }
            Some(_) => return Err(NoteError::Receipt),
            None => None,
        };
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(decimal);
        let index = index.ok_or(NoteError::Receipt)?;
        let path: Option<Vec<Digest>> = lines.map(hash).collect();
        let path = path.filter(|path| path.len() <= 64).ok_or(NoteError::Receipt)?;
        Signed::parse(checkpoint.as_bytes())?;
        Ok(Receipt { extra, index, path, checkpoint: checkpoint.as_bytes().to_vec() })
    }

    /// Checks that `leaf` stands in the log that `verifier` speaks for; returns the checkpoint it stands
    /// under.
    ///
    /// # Errors
    /// [`NoteError`]: [`NoteError::Receipt`] if the path does not lead to the signed root.
    pub fn verify(&self, leaf: &[u8], verifier: &Verifier) -> Result<Signed, NoteError> {
        let signed = Signed::parse(&self.checkpoint)?;
        let checkpoint = signed.verify(verifier)?;
        verify_inclusion(&leaf_hash(leaf), self.index, checkpoint.size, &self.path, &checkpoint.root)
            .map_err(|_| NoteError::Receipt)?;
        Ok(signed)
    }
}

/// Appends bytes in base64.
fn base64_into(out: &mut Vec<u8>, bytes: &[u8]) {
    let at = out.len();
    out.resize(at + bytes.len().div_ceil(3) * 4, 0);
    BASE64.encode_slice(bytes, &mut out[at..]).expect("four characters for each three bytes");
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec;

    use super::super::{Checkpoint, Signer};
    use super::*;
    use crate::tree::{MemHashes, inclusion_proof};

    fn receipt(extra: Option<Vec<u8>>) -> (Receipt, Signer) {
        let mut hashes = MemHashes::default();
        for i in 0..11_u8 {
            hashes.append(leaf_hash(&[i]));
        }
        let signer = Signer::new("localhost/pcs/default", &[9; 32]).unwrap();
        let root = hashes.tree().root();
        let checkpoint = Checkpoint { origin: signer.name().into(), size: 11, root }.sign(&signer);
        let path = inclusion_proof(6, 11, &mut hashes).unwrap();
        (Receipt { extra, index: 6, path, checkpoint }, signer)
    }

    #[test]
    fn a_receipt_comes_back_and_verifies() {
        for extra in [None, Some(vec![]), Some(b"{\"salt\":\"00\"}".to_vec())] {
            let (receipt, signer) = receipt(extra);
            let bytes = receipt.encode();
            assert_eq!(Receipt::parse(&bytes), Ok(receipt.clone()));
            let mut json = vec![b'"'];
            receipt.encode_json(&mut json);
            json.push(b'"');
            assert_eq!(serde_json::from_slice::<String>(&json).unwrap().as_bytes(), bytes);
            assert_eq!(receipt.verify(&[6], &signer.verifier()).unwrap().checkpoint.size, 11);
            assert_eq!(receipt.verify(&[7], &signer.verifier()), Err(NoteError::Receipt));
        }
    }

    #[test]
    fn a_bent_receipt_is_refused() {
        let (receipt, signer) = receipt(Some(vec![1, 2, 3]));
        let bytes = receipt.encode();
        for i in 0..bytes.len() {
            let mut bent = bytes.clone();
            bent[i] ^= 1;
            let Ok(bent) = Receipt::parse(&bent) else { continue };
            // Only the unauthenticated part may differ and still verify.
            if bent.verify(&[6], &signer.verifier()).is_ok() {
                assert_eq!(Receipt { extra: receipt.extra.clone(), ..bent }, receipt, "byte {i}");
            }
        }
        for cut in 0..bytes.len() {
            assert!(Receipt::parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
