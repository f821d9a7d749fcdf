//! What the two signatures of a log cost: `cargo run --release -p engine --example sign_cost`.
//!
//! Each number is the median of five rounds; the ratios compare within one round, so that a busy machine slows both.

use std::hint::black_box;
use std::time::{Duration, Instant};

use engine::checkpoint::{Checkpoint, Signed, Signer};
use engine::log::Digest;

/// Signatures in a round.
const COUNT: u32 = 400;

fn each(mut one: impl FnMut(u64)) -> Duration {
    let begun = Instant::now();
    (0..u64::from(COUNT)).for_each(&mut one);
    begun.elapsed() / COUNT
}

fn head(size: u64) -> Checkpoint {
    Checkpoint { origin: "log.example/pcs/eu-west".into(), size, root: Digest([size as u8; 32]) }
}

fn main() {
    let signer = Signer::new("log.example/pcs/eu-west", &[7; 32]).expect("a name");
    let (first, second) = (signer.verifier(), signer.second_verifier());
    let notes: Vec<Signed> =
        (0..u64::from(COUNT)).map(|n| Signed::parse(&head(n).publish(&signer)).expect("a note")).collect();
    let mut rounds: Vec<[Duration; 4]> = (0..5)
        .map(|_| {
            [
                each(|n| drop(black_box(head(n).sign(&signer)))),
                each(|n| drop(black_box(head(n).publish(&signer)))),
                each(|n| assert!(notes[n as usize].verify(&first).is_ok())),
                each(|n| assert!(notes[n as usize].verify(&second).is_ok())),
            ]
        })
        .collect();
    rounds.sort_by_key(|round| round[1]);
    let [one, both, check_first, check_second] = rounds[2];
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    println!("sign    Ed25519 {one:?}, with ML-DSA-44 {both:?}: {:.1} times", ratio(both, one));
    println!(
        "verify  Ed25519 {check_first:?}, ML-DSA-44 {check_second:?}: {:.1} times",
        ratio(check_second, check_first)
    );
    let bytes = |note: Vec<u8>| note.len();
    println!(
        "note    {} bytes, with ML-DSA-44 {}",
        bytes(head(1).sign(&signer)),
        bytes(head(1).publish(&signer))
    );
    let share = (both - one).as_secs_f64() * 100.0 / 4096.0;
    println!("ingest  100000 summaries/s, one checkpoint every 4096: {:.3} % of one core", share * 100_000.0);
}
