//! Leaves written ahead: taken where everything is as was supposed, and nowhere else.

use super::*;
use crate::ledger::Place;

/// A leaf that was written ahead under what then comes true is the one that is taken.
#[test]
fn a_leaf_written_ahead_is_taken_where_everything_is_as_supposed() {
    let mut ledger = Ledger::new("default", MemTable::new());
    let mut now_ms = 5;
    let steps = [1, 1, 2, 3].map(|id| Step::Submit(0, id, 0, 0));
    let mut inputs = record(&steps, &mut now_ms, &ledger);
    for (nth, (event, judged)) in inputs.iter_mut().enumerate() {
        let (Event::Received(envelope), Some(judged)) = (&*event, judged.as_mut()) else { panic!() };
        let place = Place { lsn: Lsn(1), nth: nth as u32, time_ms: envelope.received_at_ms };
        ledger.ahead().write(&mut [(place, envelope, &mut *judged)]);
        if let (3, Judged::Sound(sound)) = (nth, judged) {
            // As if what was written were another submission's.
            sound.commitment.0[0] ^= 1;
        }
    }
    let mut taken = Vec::new();
    for (nth, (event, judged)) in inputs.iter().enumerate() {
        let outcome = ledger.decide(Lsn(1), nth as u32, event, judged.as_ref()).unwrap();
        ledger.apply(Lsn(1), nth as u32, event, judged.as_ref(), &outcome);
        taken.push(ledger.written(Lsn(1), nth as u32, judged.as_ref(), &outcome).is_some());
    }
    // The second is a duplicate and has no leaf.
    assert_eq!(taken, [true, false, true, false]);
}

proptest! {
    /// I3: leaves written ahead change nothing, whether what they suppose comes true or not.
    #[test]
    fn leaves_written_ahead_are_those_written_in_turn(steps in steps(), wrong in 0..5_u64) {
        let (mut one, mut two) = (Ledger::new("default", MemTable::new()), Ledger::new("default", MemTable::new()));
        let first = one.ahead();
        for mut inputs in records(&steps) {
            let plain = fold(&mut one, &inputs);
            let ahead = if wrong == 1 { first.clone() } else { two.ahead() };
            let mut now_ms = two.log_time_ms();
            let lsn = two.applied().next();
            for (nth, (event, judged)) in inputs.iter_mut().enumerate() {
                now_ms = now_ms.max(event.at_ms().unwrap_or(0));
                let place = Place {
                    lsn: Lsn(lsn.0 + u64::from(wrong == 2)),
                    nth: nth as u32 + u32::from(wrong == 3),
                    time_ms: now_ms + u64::from(wrong == 4),
                };
                if let (Event::Received(envelope), Some(judged)) = (&*event, judged.as_mut()) {
                    ahead.write(&mut [(place, envelope, judged)]);
                }
            }
            prop_assert_eq!(&fold(&mut two, &inputs), &plain);
            prop_assert_eq!(one.digest(), two.digest());
        }
    }
}
