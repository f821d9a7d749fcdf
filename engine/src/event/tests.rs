//! Round trips and refusals of the log's vocabulary.

use alloc::vec;

use super::*;

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
