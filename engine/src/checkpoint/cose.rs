//! Receipts as RFC 9942 writes them: a COSE_Sign1 (RFC 9052) whose payload, the root of the tree, is left out, because the
//! inclusion proof in its unprotected header (RFC 9162 SHA-256, `vds` 1) leads to it.
//!
//! ```text
//! 18([ protected, {396: {-1: [inclusion proof]}}, nil, signature ])
//! protected        bstr of {1: -8 (EdDSA), 4: kid, 15: {1: issuer, 2: subject}, 395: 1}
//! inclusion proof  bstr of [size, index, [hash, ...]], leaf end first
//! signed           ["Signature1", protected, h'', root]
//! ```
//! All of it is deterministic CBOR (RFC 8949, 4.2.1). What is signed begins with an array and a checkpoint's text never does,
//! so the log's one key can sign both.

use alloc::vec::Vec;

use super::{Checkpoint, Signer};
use crate::log::Digest;

/// Major types of CBOR.
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const NIL: u8 = 0xf6;

/// The receipt for leaf `index` under a checkpoint of the signer's log. `subject` says what the leaf is about; the path is
/// that of a tlog-proof.
///
/// # Panics
/// If the signer signs for another origin.
#[must_use]
pub fn cose_receipt(
    checkpoint: &Checkpoint,
    index: u64,
    path: &[Digest],
    subject: &str,
    signer: &Signer,
) -> Vec<u8> {
    assert_eq!(signer.name(), checkpoint.origin, "a log signs its own checkpoints");
    let mut protected = Vec::with_capacity(192);
    head(&mut protected, MAP, 4);
    head(&mut protected, UNSIGNED, 1); // alg
    head(&mut protected, NEGATIVE, 7); // -8, EdDSA
    head(&mut protected, UNSIGNED, 4); // kid
    string(&mut protected, BYTES, &signer.verifier().kid());
    head(&mut protected, UNSIGNED, 15); // CWT claims
    head(&mut protected, MAP, 2);
    head(&mut protected, UNSIGNED, 1); // iss
    string(&mut protected, TEXT, checkpoint.origin.as_bytes());
    head(&mut protected, UNSIGNED, 2); // sub
    string(&mut protected, TEXT, subject.as_bytes());
    head(&mut protected, UNSIGNED, 395); // vds
    head(&mut protected, UNSIGNED, 1); // RFC9162_SHA256

    let mut proof = Vec::with_capacity(24 + 34 * path.len());
    head(&mut proof, ARRAY, 3);
    head(&mut proof, UNSIGNED, checkpoint.size);
    head(&mut proof, UNSIGNED, index);
    head(&mut proof, ARRAY, path.len() as u64);
    path.iter().for_each(|hash| string(&mut proof, BYTES, &hash.0));

    let mut signed = Vec::with_capacity(protected.len() + 64);
    head(&mut signed, ARRAY, 4);
    string(&mut signed, TEXT, b"Signature1");
    string(&mut signed, BYTES, &protected);
    string(&mut signed, BYTES, &[]);
    string(&mut signed, BYTES, &checkpoint.root.0);

    let mut out = Vec::with_capacity(protected.len() + proof.len() + 96);
    head(&mut out, TAG, 18);
    head(&mut out, ARRAY, 4);
    string(&mut out, BYTES, &protected);
    head(&mut out, MAP, 1);
    head(&mut out, UNSIGNED, 396); // vdp
    head(&mut out, MAP, 1);
    head(&mut out, NEGATIVE, 0); // -1, inclusion proofs
    head(&mut out, ARRAY, 1);
    string(&mut out, BYTES, &proof);
    out.push(NIL);
    string(&mut out, BYTES, &signer.sign(&signed).signature);
    out
}

/// The head of an item: its major type and its argument in the shortest form.
fn head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    match argument {
        0..=23 => out.push(major | argument as u8),
        24..=0xff => out.extend_from_slice(&[major | 24, argument as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&(argument as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&(argument as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&argument.to_be_bytes());
        }
    }
}

fn string(out: &mut Vec<u8>, major: u8, bytes: &[u8]) {
    head(out, major, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hex;

    /// The examples of RFC 8949, appendix A.
    #[test]
    fn heads_are_the_shortest() {
        for (number, want) in [
            (0, "00"),
            (23, "17"),
            (24, "1818"),
            (100, "1864"),
            (1000, "1903e8"),
            (1_000_000, "1a000f4240"),
            (1_000_000_000_000, "1b000000e8d4a51000"),
            (u64::MAX, "1bffffffffffffffff"),
        ] {
            let mut out = Vec::new();
            head(&mut out, UNSIGNED, number);
            assert_eq!(hex(&out), want);
        }
    }

    #[test]
    fn the_layout_is_the_one_that_is_signed() {
        let signer = Signer::new("localhost/pcs/default", &[3; 32]).unwrap();
        let checkpoint = Checkpoint { origin: signer.name().into(), size: 300, root: Digest([7; 32]) };
        let made = cose_receipt(&checkpoint, 299, &[Digest([9; 32])], "ab", &signer);
        assert_eq!(&made[..3], &[0xd2, 0x84, 0x58]);
        let protected = &made[4..4 + usize::from(made[3])];
        assert!(
            protected.starts_with(&[0xa4, 1, 0x27, 4, 0x58, 32]) && protected.ends_with(&[0x19, 1, 0x8b, 1])
        );
        let rest = &made[4 + usize::from(made[3])..];
        // {396: {-1: [h'[300, 299, [hash]]']}}, nil, signature
        assert!(
            rest.starts_with(&[
                0xa1, 0x19, 1, 0x8c, 0xa1, 0x20, 0x81, 0x58, 42, 0x83, 0x19, 1, 44, 0x19, 1, 43
            ])
        );
        let (head, signature) = rest.split_at(rest.len() - 64);
        assert!(head.ends_with(&[NIL, 0x58, 64]));
        let text = [&b"\x84jSignature1\x58"[..], &[made[3]], protected, b"\x40\x58\x20", &[7; 32]].concat();
        let mut line = signer.sign(&text);
        assert_eq!(line.signature, signature);
        line.signature[0] ^= 1;
        assert!(signer.verifier().verify(&text, &line).is_err());
    }
}
