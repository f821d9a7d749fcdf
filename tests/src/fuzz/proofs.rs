//! What an auditor is handed by a stranger: checkpoints, receipts, keys, tile names.

use engine::checkpoint::{Checkpoint, Receipt, Signed, Signer, Verifier};
use engine::log::Digest;
use engine::ots::{Attestation, Item, Op, Proof, Stamp};
use engine::tree::tiles::Tile;

const ORIGIN: &str = "localhost/pcs/default";

/// What parses as a signed checkpoint is written back as the same bytes.
pub fn checkpoint(bytes: &[u8]) {
    if let Ok(signed) = Signed::parse(bytes) {
        assert_eq!(signed.encode(), bytes, "a signed note has one spelling");
        let _ = signed.verify(&signer().verifier());
    }
}

/// What parses as a receipt is written back as the same bytes, and proves nothing about a leaf of our choice.
pub fn receipt(bytes: &[u8]) {
    if let Ok(receipt) = Receipt::parse(bytes) {
        assert_eq!(receipt.encode(), bytes, "a receipt has one spelling");
        assert!(receipt.verify(b"a leaf that no log holds", &signer().verifier()).is_err());
    }
}

/// What parses as a verifier key means the same when it is written and read again.
pub fn vkey(bytes: &[u8]) {
    if let Some(verifier) = std::str::from_utf8(bytes).ok().and_then(|text| Verifier::parse(text).ok()) {
        assert_eq!(Verifier::parse(&verifier.vkey()).expect("our own spelling"), verifier);
    }
}

/// What parses as a tile has one path, and asking where it begins never overflows.
pub fn tile(bytes: &[u8]) {
    if let Some((path, tile)) =
        std::str::from_utf8(bytes).ok().and_then(|path| Some((path, Tile::parse(path)?)))
    {
        assert_eq!(tile.path(), path);
        let _ = (tile.first(), tile.is_full());
    }
}

fn signer() -> Signer {
    Signer::new(ORIGIN, &[7; 32]).expect("a signer")
}

fn signed() -> Vec<u8> {
    let text = Checkpoint { origin: ORIGIN.to_owned(), size: 300, root: Digest([5; 32]) };
    text.sign(&signer())
}

/// A signed checkpoint, and one without a signature.
pub fn checkpoint_seeds() -> Vec<Vec<u8>> {
    let note = signed();
    let text = note.split(|byte| *byte == 0xe2).next().expect("the text before the signature").to_vec();
    vec![note, text]
}

/// A receipt with hints, and one without.
pub fn receipt_seeds() -> Vec<Vec<u8>> {
    let receipt = |extra| Receipt {
        extra,
        index: 6,
        path: vec![Digest([1; 32]), Digest([2; 32])],
        checkpoint: signed(),
    };
    [None, Some(b"{\"salt\":\"00\"}".to_vec())].into_iter().map(|extra| receipt(extra).encode()).collect()
}

/// A verifier key.
pub fn vkey_seeds() -> Vec<Vec<u8>> {
    vec![signer().verifier().vkey().into_bytes()]
}

/// Paths of every kind.
pub fn tile_seeds() -> Vec<Vec<u8>> {
    let paths = [
        "tile/0/000",
        "tile/1/x001/x234/067",
        "tile/entries/999.p/255",
        "tile/5/x018/x446/x744/x073/x709/551",
    ];
    paths.iter().map(|path| path.as_bytes().to_vec()).collect()
}

/// What parses as an OpenTimestamps file is written back as the same bytes, and taking an answer in keeps it one.
pub fn ots(bytes: &[u8]) {
    if let Ok(mut proof) = Proof::parse(bytes) {
        assert_eq!(proof.encode(), bytes, "a proof has one spelling");
        let before = proof.attestations().len();
        let (digest, again) = (proof.digest, proof.stamp.clone());
        assert!(proof.stamp.merge_at(&digest, &digest, &again), "the root is always there");
        assert!(proof.attestations().len() <= before, "nothing is said twice");
    }
}

/// A file with two calendars, and one that a block attests.
pub fn ots_seeds() -> Vec<Vec<u8>> {
    let pending = |uri: &str| Item::Attests(Attestation::Pending(uri.to_owned()));
    let block =
        Item::Leads(Op::Prepend(vec![3; 32]), Stamp(vec![Item::Attests(Attestation::Bitcoin(870_000))]));
    let file = |items| {
        let hashed = Stamp(vec![Item::Leads(Op::Sha256, Stamp(items))]);
        Proof { digest: [7; 32], stamp: Stamp(vec![Item::Leads(Op::Append(vec![1; 16]), hashed)]) }.encode()
    };
    vec![
        file(vec![pending("https://a.example"), pending("https://b.example")]),
        file(vec![pending("x"), block]),
    ]
}
