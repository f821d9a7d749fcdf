//! Strict Ed25519 verification, twice as fast under a key that is used often.
//!
//! Verifying computes `[s]B - [k]A`. The library has multiples of the base point `B` at hand; for a key that has
//! checked some signatures we keep multiples of `A` too, 30 KiB, and the sum then takes no doublings. What is good
//! stays the same to the bit: `s` is canonical, neither `A` nor `R` is of small order, and the sum, as bytes, is the
//! signature's `R`. A test compares both ways on good, bad and malicious signatures.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use curve25519_dalek::Scalar;
use curve25519_dalek::constants::ED25519_BASEPOINT_TABLE;
use curve25519_dalek::edwards::EdwardsBasepointTable;
use curve25519_dalek::traits::BasepointTable as _;
use ed25519_dalek::{Signature, VerifyingKey};
use once_cell::race::OnceBox;
use sha2::{Digest as _, Sha512};

/// Signatures a key checks before it gets a table, which costs as much as some dozens of checks.
const USED_OFTEN: u32 = 64;
/// Most tables of a process, 30 MiB; further keys are checked without.
const TABLES_MAX: usize = 1024;

static TABLES: AtomicUsize = AtomicUsize::new(0);

/// Multiples of `-A`.
struct Table(EdwardsBasepointTable);

impl Drop for Table {
    fn drop(&mut self) {
        TABLES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A public key that checks signatures.
pub struct PreparedKey {
    key: VerifyingKey,
    used: AtomicU32,
    table: OnceBox<Table>,
}

impl PreparedKey {
    /// Prepares a key that is not weak.
    #[must_use]
    pub fn new(key: VerifyingKey) -> PreparedKey {
        debug_assert!(!key.is_weak(), "weak keys are refused when they are registered");
        PreparedKey { key, used: AtomicU32::new(0), table: OnceBox::new() }
    }

    /// As [`VerifyingKey::verify_strict`].
    #[must_use]
    pub fn verify_strict(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        match self.table() {
            Some(table) => self.verify_with(table, message, signature),
            None => self.key.verify_strict(message, &Signature::from_bytes(signature)).is_ok(),
        }
    }

    fn table(&self) -> Option<&Table> {
        if let Some(table) = self.table.get() {
            return Some(table);
        }
        // Many threads may count at once; whoever comes to the mark builds the table, and nobody waits for it.
        if self.used.fetch_add(1, Ordering::Relaxed) != USED_OFTEN {
            return None;
        }
        if TABLES.fetch_add(1, Ordering::Relaxed) >= TABLES_MAX {
            TABLES.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(
            self.table
                .get_or_init(|| Box::new(Table(EdwardsBasepointTable::create(&-self.key.to_edwards())))),
        )
    }

    fn verify_with(&self, table: &Table, message: &[u8], signature: &[u8; 64]) -> bool {
        let (r, s) = signature.split_first_chunk::<32>().expect("64 bytes");
        let s = <[u8; 32]>::try_from(s).expect("the other 32 bytes");
        let Some(s) = Option::<Scalar>::from(Scalar::from_canonical_bytes(s)) else { return false };
        let hash = Sha512::new().chain_update(r).chain_update(self.key.as_bytes()).chain_update(message);
        let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
        let sum = ED25519_BASEPOINT_TABLE * &s + &table.0 * &k;
        // Equal bytes mean the equal point, so it is enough to look at the order of the sum.
        sum.compress().as_bytes() == r && !sum.is_small_order()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;

    /// Both ways must agree.
    fn both(prepared: &PreparedKey, message: &[u8], signature: &[u8; 64]) -> bool {
        let table = Table(EdwardsBasepointTable::create(&-prepared.key.to_edwards()));
        TABLES.fetch_add(1, Ordering::Relaxed);
        let fast = prepared.verify_with(&table, message, signature);
        let plain = prepared.key.verify_strict(message, &Signature::from_bytes(signature)).is_ok();
        assert_eq!(fast, plain, "{signature:02x?} of {message:02x?}");
        fast
    }

    #[test]
    fn a_good_signature_is_good_and_every_changed_bit_is_bad() {
        let signing = SigningKey::from_bytes(&[9; 32]);
        let prepared = PreparedKey::new(signing.verifying_key());
        let message = b"message";
        let good = signing.sign(message).to_bytes();
        assert!(both(&prepared, message, &good));
        assert!(!both(&prepared, b"messagf", &good));
        for bit in 0..512 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!both(&prepared, message, &bad), "bit {bit}");
        }
    }

    #[test]
    fn small_orders_and_scalars_out_of_range_are_bad() {
        let signing = SigningKey::from_bytes(&[9; 32]);
        let prepared = PreparedKey::new(signing.verifying_key());
        let good = signing.sign(b"m").to_bytes();
        // s + l is the same scalar written another way.
        let order: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut malleable = good;
        let mut carry = 0;
        for (byte, add) in malleable[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            (*byte, carry) = (sum as u8, sum >> 8);
        }
        assert!(!both(&prepared, b"m", &malleable));
        for torsion in curve25519_dalek::constants::EIGHT_TORSION {
            let mut small = good;
            small[..32].copy_from_slice(torsion.compress().as_bytes());
            assert!(!both(&prepared, b"m", &small));
            small[32..].fill(0);
            assert!(!both(&prepared, b"m", &small));
        }
    }

    #[test]
    fn a_key_with_a_part_of_small_order_gives_the_same_answers() {
        let signing = SigningKey::from_bytes(&[9; 32]);
        let (mut good, mut bad) = (0, 0);
        for torsion in curve25519_dalek::constants::EIGHT_TORSION {
            let mixed = (signing.verifying_key().to_edwards() + torsion).compress().to_bytes();
            let prepared = PreparedKey::new(VerifyingKey::from_bytes(&mixed).unwrap());
            for n in 1..=64u8 {
                let nonce = Scalar::from(u64::from(n));
                let r = (ED25519_BASEPOINT_TABLE * &nonce).compress().to_bytes();
                let hash = Sha512::new().chain_update(r).chain_update(mixed).chain_update([n]);
                let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
                let s = nonce + k * signing.to_scalar();
                let signature = [r, s.to_bytes()].concat().try_into().expect("64 bytes");
                if both(&prepared, &[n], &signature) { good += 1 } else { bad += 1 }
            }
        }
        assert!(good >= 64 && bad > 0, "{good} good, {bad} bad");
    }

    #[test]
    fn a_key_used_often_gets_a_table_and_gives_it_back() {
        let signing = SigningKey::from_bytes(&[7; 32]);
        let prepared = PreparedKey::new(signing.verifying_key());
        let signed: Vec<[u8; 64]> = (0..3u8).map(|n| signing.sign(&[n]).to_bytes()).collect();
        for round in 0..=USED_OFTEN {
            assert!(prepared.table.get().is_none(), "round {round}");
            assert!(prepared.verify_strict(&[0], &signed[0]));
        }
        assert!(prepared.table.get().is_some());
        for (n, signature) in (0..3u8).zip(&signed) {
            assert!(prepared.verify_strict(&[n], signature) && !prepared.verify_strict(&[n + 1], signature));
        }
    }
}
