//! Round trips and refusals of the log's vocabulary.

use alloc::vec;

use super::*;
use crate::ledger::RefusedReason;

fn received() -> Event {
    Event::Received(Envelope {
        tenant: TenantId::new("demo").unwrap(),
        received_at_ms: 1_700_000_000_000,
        salt: [7; 16],
        body: b"{}".to_vec(),
    })
}

fn bytes(event: &Event) -> Vec<u8> {
    let mut out = Vec::new();
    event.encode(&mut out);
    out
}

#[test]
fn every_shorter_and_longer_input_is_refused() {
    let mut whole = bytes(&received());
    assert_eq!(Event::decode(&whole), Ok(received()));
    for cut in 0..whole.len() {
        assert!(Event::decode(&whole[..cut]).is_err(), "cut at {cut}");
    }
    whole.push(0);
    assert_eq!(Event::decode(&whole), Err(DecodeError::Trailing));
}

#[test]
fn unknown_tags_are_refused() {
    for tag in [0, 200, 255] {
        assert_eq!(Event::decode(&[tag]), Err(DecodeError::UnknownTag(tag)));
    }
    assert_eq!(Record::decode(&[3, 0, 0, 0, 0, 0, 0, 0, 0]), Err(DecodeError::UnknownTag(3)));
}

#[test]
fn a_record_holds_its_events_in_order() {
    let events = vec![received(), Event::Checkpoint(b"note".to_vec())];
    let record = Record { leader: 3, payload: Payload::Events(events.clone()) };
    let mut out = vec![9];
    record.encode(&mut out);
    assert_eq!(Record::decode(&out[1..]), Ok(record));
    let mut same = vec![9];
    encode_events(3, &events, &mut same);
    assert_eq!(out, same);
}

#[test]
fn a_record_without_events_is_refused() {
    assert_eq!(Record::decode(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(DecodeError::OutOfBounds("count")));
}

#[test]
fn debug_output_shows_no_payload() {
    let text = alloc::format!("{:?}", received());
    assert!(!text.contains("{}") && !text.contains("[7"), "{text}");
}

#[test]
fn what_others_attest_comes_back_and_unknown_kinds_are_refused() {
    for kind in AnchorKind::ALL {
        let target = "witness.example/w1".into();
        let (note, evidence) = (b"note".to_vec(), b"line".to_vec());
        let event = Event::Anchored(Anchored { at_ms: 7, kind, target, note, evidence });
        let mut whole = bytes(&event);
        assert_eq!(Event::decode(&whole), Ok(event));
        for cut in 0..whole.len() {
            assert!(Event::decode(&whole[..cut]).is_err(), "cut at {cut}");
        }
        whole[9] = 5;
        assert_eq!(Event::decode(&whole), Err(DecodeError::UnknownTag(5)));
    }
    let event = Event::Witnessed(Witnessed { at_ms: 7, old: 3, note: b"note".to_vec() });
    let whole = bytes(&event);
    assert_eq!(Event::decode(&whole), Ok(event));
    for cut in 0..whole.len() {
        assert!(Event::decode(&whole[..cut]).is_err(), "cut at {cut}");
    }
}

/// What stands for a submission, one of each kind, and a record's end.
fn withheld() -> Vec<Item> {
    let (name, leaf) = (Name { key: [1; 32], content: [2; 16] }, Digest([3; 32]));
    let (tenant, reason) = (TenantId::new("t").unwrap(), RefusedReason::BadSignature);
    let all = [
        Became::First { name, accepted: true, escalated: false, leaf },
        Became::Duplicate { name },
        Became::Conflict { name, leaf },
        Became::Refused { reason, leaf },
    ];
    let item = |became| Item::Withheld(Withheld { signature: 33, at_ms: 9, tenant, bytes: 512, became });
    all.into_iter().map(item).chain([Item::End]).collect()
}

#[test]
fn what_is_withheld_comes_back_and_nothing_else_is_read() {
    for item in withheld() {
        let mut bytes = Vec::new();
        item.encode(&mut bytes);
        let mut reader = Reader::new(&bytes);
        assert_eq!(Item::read(&mut reader), Ok(item.clone()));
        reader.end().unwrap();
        for cut in 0..bytes.len() {
            assert!(Item::read(&mut Reader::new(&bytes[..cut])).is_err());
        }
        if item == Item::End {
            continue;
        }
        // Places of: bytes of a body, what became of it, a verdict, a reason.
        for (at, wrong) in [(15, 255), (16, 0), (16, 5)] {
            let mut bent = bytes.clone();
            bent[at] = wrong;
            assert!(Item::read(&mut Reader::new(&bent)).is_err(), "{item:?}: {wrong} at {at}");
        }
        let verdict = match &item {
            Item::Withheld(Withheld { became: Became::First { .. }, .. }) => 17 + 48,
            Item::Withheld(Withheld { became: Became::Refused { .. }, .. }) => 17,
            _ => continue,
        };
        for wrong in [5, 16, 255] {
            let mut bent = bytes.clone();
            bent[verdict] = wrong;
            assert!(Item::read(&mut Reader::new(&bent)).is_err(), "{item:?}: {wrong}");
        }
    }
}
