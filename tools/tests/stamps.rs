//! Stamps made once with `openssl ts`, by an authority with an ECDSA key and one with an RSA key, over `note`.

use std::path::PathBuf;
use tools::stamp::{Roots, check};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/stamps").join(name)
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap()
}

#[test]
fn stamps_of_both_kinds_of_keys_hold_and_lead_to_their_own_root_only() {
    let note = read("note");
    for (stamp, root, other) in [("ecdsa.tsr", "ecdsa.pem", "rsa.pem"), ("rsa.tsr", "rsa.pem", "ecdsa.pem")] {
        let (stamp, root, other) =
            (read(stamp), Roots::read(&path(root)).unwrap(), Roots::read(&path(other)).unwrap());
        let said = check(&stamp, &note, Some(&root)).unwrap();
        assert!(said.trusted && said.accuracy_s == 1 && said.signer.len() == 64, "{said:?}");
        assert!(said.time.to_string().starts_with("2026-11-21T18:"), "{}", said.time);
        assert!(!check(&stamp, &note, Some(&other)).unwrap().trusted);
        assert!(!check(&stamp, &note, None).unwrap().trusted);
        let mut moved = note.clone();
        moved[3] ^= 1;
        assert!(check(&stamp, &moved, Some(&root)).unwrap_err().contains("something else"));
    }
}

#[test]
fn no_cut_and_no_changed_bit_gives_another_time_that_is_believed() {
    let (stamp, note) = (read("ecdsa.tsr"), read("note"));
    let roots = Roots::read(&path("ecdsa.pem")).unwrap();
    let good = check(&stamp, &note, Some(&roots)).unwrap();
    for cut in 0..stamp.len() {
        assert!(check(&stamp[..cut], &note, Some(&roots)).is_err(), "cut at {cut}");
    }
    assert!(check(&[&stamp[..], &[0]].concat(), &note, Some(&roots)).is_err());
    let mut refused = 0;
    for bit in 0..8 * stamp.len() {
        let mut bent = stamp.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        match check(&bent, &note, Some(&roots)) {
            // Some bits say nothing that anybody signs: the status, a version, the name of the issuer beside the signer.
            Ok(said) => assert!(!said.trusted || said.time == good.time, "bit {bit}: {said:?}"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 4 * stamp.len(), "{refused} of {}", 8 * stamp.len());
}

#[test]
fn a_file_of_roots_holds_certificates() {
    assert!(Roots::read(&path("note")).is_err() && Roots::read(&path("nowhere")).is_err());
}
