//! Signed tree heads as other people's tools read them: C2SP signed-note v1.0.0 and tlog-checkpoint v1.0.0,
//! with Ed25519 and ML-DSA-44 signatures, and receipts as C2SP tlog-proof v1 or RFC 9942 COSE receipts.
//!
//! ```text
//! <origin>\n
//! <size>\n
//! <base64 root>\n
//! \n
//! — <key name> <base64(key id 4 || signature)>\n      one line for each signature
//! ```
//! A parsed text is accepted only if writing it again gives the same bytes: one checkpoint has one text.

mod cose;
mod cosign;
mod logkeys;
mod mldsa;
mod note;
mod policy;
mod receipt;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::limits::NOTE_MAX;
use crate::log::Digest;

pub use cose::cose_receipt;
pub use cosign::{Cosigner, Witness};
pub use logkeys::{BrokenStep, Held, KeyStep, LogKeys, STEPS_MAX};
pub use note::{NoteError, NoteSignature, Signer, Verifier};
pub use policy::{KnownLog, KnownWitness, PolicyError, Standing, TrustPolicy};
pub use receipt::Receipt;

/// A page that checks receipts in a browser, offline: one file that loads nothing. It is the same rules once more, in
/// another language.
pub const VERIFY_PAGE: &str = include_str!("checkpoint/verify.html");

/// A tree head: what a log claims to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name: a URL without scheme, `<host>/pcs/<region>`.
    pub origin: String,
    /// Leaves of the tree.
    pub size: u64,
    /// Root over them.
    pub root: Digest,
}

/// A checkpoint with the signature lines that came with it, not yet checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// What was signed.
    pub checkpoint: Checkpoint,
    /// By whom, as claimed.
    pub signatures: Vec<NoteSignature>,
}

impl Checkpoint {
    /// The signed text: three lines, no extension lines.
    #[must_use]
    pub fn text(&self) -> String {
        alloc::format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root.0))
    }

    /// Reads exactly what [`Checkpoint::text`] writes.
    ///
    /// # Errors
    /// [`NoteError::Text`].
    pub fn parse(text: &str) -> Result<Checkpoint, NoteError> {
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root), Some(""), None) =
            (lines.next(), lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(NoteError::Text);
        };
        if !note::is_name(origin) {
            return Err(NoteError::Text);
        }
        let size = note::decimal(size).ok_or(NoteError::Text)?;
        let root = note::hash(root).ok_or(NoteError::Text)?;
        Ok(Checkpoint { origin: origin.to_string(), size, root })
    }

    /// The signed note: text, blank line, the log's Ed25519 signature. The signer's name must be the origin.
    ///
    /// # Panics
    /// If the signer signs for another origin.
    #[must_use]
    pub fn sign(&self, signer: &Signer) -> Vec<u8> {
        self.sign_by(&[signer])
    }

    /// The note as a log publishes it: with its ML-DSA-44 signature as the second line. One checkpoint has one such note.
    ///
    /// # Panics
    /// As [`Checkpoint::sign`].
    #[must_use]
    pub fn publish(&self, signer: &Signer) -> Vec<u8> {
        self.publish_by(&[signer])
    }

    /// The note with both lines of each of these signers, in their order.
    ///
    /// # Panics
    /// As [`Checkpoint::sign`].
    #[must_use]
    pub fn publish_by(&self, signers: &[&Signer]) -> Vec<u8> {
        self.lines(signers, |signer| [signer.sign(self.text().as_bytes()), signer.sign_second(self)])
    }

    /// The note with the Ed25519 line of each of these signers, in their order.
    ///
    /// # Panics
    /// As [`Checkpoint::sign`].
    #[must_use]
    pub fn sign_by(&self, signers: &[&Signer]) -> Vec<u8> {
        self.lines(signers, |signer| [signer.sign(self.text().as_bytes())])
    }

    fn lines<const N: usize>(
        &self,
        signers: &[&Signer],
        sign: impl Fn(&Signer) -> [NoteSignature; N],
    ) -> Vec<u8> {
        let mut note = self.text() + "\n";
        for signer in signers {
            assert_eq!(signer.name(), self.origin, "a log signs its own checkpoints");
            sign(signer).iter().for_each(|signature| note.push_str(&signature.line()));
        }
        note.into_bytes()
    }
}

impl Signed {
    /// Reads a signed note; signatures are not checked yet.
    ///
    /// # Errors
    /// [`NoteError`] unless these are the bytes that [`Signed::encode`] would write, within [`NOTE_MAX`].
    pub fn parse(bytes: &[u8]) -> Result<Signed, NoteError> {
        if bytes.len() > NOTE_MAX {
            return Err(NoteError::TooLong);
        }
        let (text, signatures) = note::split(bytes)?;
        Ok(Signed { checkpoint: Checkpoint::parse(text)?, signatures })
    }

    /// The signed note.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.checkpoint.text();
        out.push('\n');
        self.signatures.iter().for_each(|signature| out.push_str(&signature.line()));
        out.into_bytes()
    }

    /// Checks that the holder of `verifier`'s key signed, and that the key speaks for this origin.
    ///
    /// # Errors
    /// [`NoteError::NotSigned`] if there is no line of that key, [`NoteError::BadSignature`] if one of its
    /// lines does not verify.
    pub fn verify(&self, verifier: &Verifier) -> Result<&Checkpoint, NoteError> {
        if verifier.name() != self.checkpoint.origin {
            return Err(NoteError::NotSigned);
        }
        self.signed_by(verifier)?;
        Ok(&self.checkpoint)
    }

    /// Checks that the holder of `verifier`'s key signed, whoever that is (a mirror, a witness).
    ///
    /// # Errors
    /// As [`Signed::verify`].
    pub fn signed_by(&self, verifier: &Verifier) -> Result<(), NoteError> {
        let text = self.checkpoint.text();
        let mut lines = self.signatures.iter().filter(|signature| verifier.is_of(signature)).peekable();
        if lines.peek().is_none() {
            return Err(NoteError::NotSigned);
        }
        lines.try_for_each(|signature| verifier.verify(text.as_bytes(), signature))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_is_small_and_reaches_for_nothing() {
        let page = super::VERIFY_PAGE;
        assert!(page.len() <= 30 << 10, "{} bytes", page.len());
        assert!(page.contains("default-src 'none'"));
        for reach in [
            "http:",
            "https:",
            "src=",
            "href=",
            "url(",
            "@import",
            "fetch(",
            "XMLHttp",
            "WebSocket",
            "import(",
        ] {
            assert!(!page.contains(reach), "{reach}");
        }
    }

    use super::*;
    use crate::tree::EMPTY_ROOT;

    fn signer() -> Signer {
        Signer::new("localhost/pcs/default", &[3; 32]).unwrap()
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: "localhost/pcs/default".into(), size: 42, root: EMPTY_ROOT }
    }

    #[test]
    fn a_signed_checkpoint_comes_back_and_verifies() {
        let bytes = checkpoint().sign(&signer());
        let signed = Signed::parse(&bytes).unwrap();
        assert_eq!(signed.encode(), bytes);
        assert_eq!(signed.verify(&signer().verifier()), Ok(&checkpoint()));
        let vkey = signer().verifier().vkey();
        assert_eq!(signed.verify(&Verifier::parse(&vkey).unwrap()), Ok(&checkpoint()));
    }

    #[test]
    fn strangers_and_forgeries_are_refused() {
        let signed = Signed::parse(&checkpoint().sign(&signer())).unwrap();
        let stranger = Signer::new("localhost/pcs/default", &[4; 32]).unwrap();
        assert_eq!(signed.verify(&stranger.verifier()), Err(NoteError::NotSigned));
        let other_log = Signer::new("localhost/pcs/other", &[3; 32]).unwrap();
        assert_eq!(signed.verify(&other_log.verifier()), Err(NoteError::NotSigned));
        let mut forged = signed.clone();
        forged.checkpoint.size += 1;
        assert_eq!(forged.verify(&signer().verifier()), Err(NoteError::BadSignature));
        // One bad line of a known key spoils the note even beside a good one.
        let mut twice = signed.clone();
        let mut bad = twice.signatures[0].clone();
        bad.signature[0] ^= 1;
        twice.signatures.push(bad);
        assert_eq!(twice.verify(&signer().verifier()), Err(NoteError::BadSignature));
    }

    #[test]
    fn only_the_one_text_is_read() {
        let text = checkpoint().text();
        assert_eq!(Checkpoint::parse(&text), Ok(checkpoint()));
        for bad in [
            text.replace("\n42\n", "\n042\n"),
            text.replace("\n42\n", "\n+42\n"),
            text.replace("\n42\n", "\n18446744073709551616\n"),
            text.replace("localhost/pcs", "local host/pcs"),
            text.replace("localhost", "local+host"),
            text.replace('=', ""),
            text.trim_end().into(),
            alloc::format!("{text}extension\n"),
            alloc::format!("\n{text}"),
            String::new(),
        ] {
            assert_eq!(Checkpoint::parse(&bad), Err(NoteError::Text), "{bad:?}");
        }
    }

    #[test]
    fn every_cut_of_a_signed_note_is_refused() {
        let bytes = checkpoint().sign(&signer());
        for cut in 0..bytes.len() {
            assert!(Signed::parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = bytes.clone();
        longer.push(b'\n');
        assert!(Signed::parse(&longer).is_err());
        assert_eq!(Signed::parse(&alloc::vec![b'\n'; NOTE_MAX + 1]), Err(NoteError::TooLong));
    }
}
