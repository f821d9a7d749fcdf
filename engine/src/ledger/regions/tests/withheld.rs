//! What stays in its region: what others make of it, and what they do not believe.

use super::*;
use crate::event::{Became, Name};
use crate::leaf::{Leaf, What};
use crate::summary::fingerprint::UNNAMED;

/// Region `a`, which withholds, and `b`.
fn withholding() -> (Region, Region) {
    let (mut a, b) = (Region::new("a", 1000), Region::new("b", 2000));
    a.withhold();
    (a, b)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However histories reach each other, it makes no difference to any digest whether what is withheld came whole: nothing that
    /// was folded says more than what was shipped instead.
    #[test]
    fn withholding_changes_no_truth(count in 2..4_usize, raw in steps(3)) {
        let steps = within(count, raw);
        let [less, all] = [true, false].map(|withholds| {
            let mut regions = run(count, &steps, withholds);
            regions.iter_mut().for_each(Region::attest);
            heal(&mut regions);
            regions
        });
        for (less, all) in less.iter().zip(&all) {
            prop_assert_eq!(less.ledger.digest(), all.ledger.digest());
            prop_assert_eq!(less.merged(), all.merged());
            for id in 0..4 {
                prop_assert_eq!(less.first(id), all.first(id));
            }
            let withheld: u64 = less.ledger.origins().map(Origin::withheld).sum();
            let there: u64 = all.ledger.origins().map(Origin::withheld).sum();
            prop_assert_eq!(withheld, there);
            less.ledger.check_rows().unwrap();
        }
    }
}

#[test]
fn nothing_of_what_is_withheld_is_in_what_is_shipped() {
    let (mut a, mut b) = withholding();
    a.submit(1, 7);
    a.submit(1, 7);
    a.submit(1, 8);
    a.attest();
    let mut shipped = Vec::new();
    (1..=a.log.len() as u64).flat_map(|lsn| a.shipped(Lsn(lsn))).for_each(|item| item.encode(&mut shipped));
    let root = "a".repeat(64);
    let id = PcsId::derive(&root, 1, "shard");
    let has = |bytes: &[u8]| shipped.windows(bytes.len()).any(|window| window == bytes);
    for secret in [&id.0[..], format!("{id}").as_bytes(), b"coh_star", b"shard", &[7; 16], &[8; 16]] {
        assert!(!has(secret), "{secret:?}");
    }
    let key = First::key_of(&tenant(), &id.0);
    assert!(has(&key), "by that it is found");
    while b.import(&a, 3) {}
    let [first] = b.ledger.firsts_of(&key).unwrap()[..] else { panic!("one first") };
    assert!(first.is_withheld() && first.accepted());
    assert_eq!(a.ledger.firsts_of(&key).unwrap(), [first.of_origin(0)], "its region keeps no more of it");
    assert_eq!((a.ledger.withheld(), b.ledger.origin("a").unwrap().withheld()), (3, 3));
    let known = b.ledger.origin("a").unwrap();
    assert_eq!((known.quarantine(), known.agreed().unwrap().0), (None, a.ledger.tree().size()));
    assert_eq!((known.attested(), known.tally()), (Lsn(5), a.ledger.tally()));
}

#[test]
fn the_same_and_another_content_are_told_apart_in_the_other_region() {
    let (mut a, mut b) = withholding();
    a.submit(1, 7);
    a.attest();
    while b.import(&a, 100) {}
    assert!(matches!(b.submit(1, 7), Outcome::Duplicate { first } if first.is_withheld()));
    let Outcome::Conflict { fields, .. } = b.submit(1, 8) else { panic!("another content") };
    assert_eq!(fields, UNNAMED);
    let line = b.leaves.last().and_then(|leaves| leaves.get(&0)).unwrap();
    let What::Conflict(conflict) = Leaf::parse(line).unwrap().what else { panic!("a conflict") };
    assert_eq!((conflict.first_region.as_deref(), conflict.fields), (Some("a"), UNNAMED));
    // Two that did not know of each other.
    a.submit(2, 0);
    b.submit(2, 1);
    for region in [&mut a, &mut b] {
        region.attest();
    }
    let mut regions = [a, b];
    heal(&mut regions);
    let [a, b] = regions;
    assert_eq!(a.merged(), b.merged());
    for region in [&a, &b] {
        assert_eq!(region.ledger.origins().next().unwrap().quarantine(), None);
        assert_eq!(region.ledger.region_conflicts().collect::<Vec<_>>(), [("a", "b", 1)]);
        assert_eq!(region.ledger.clashes().next().unwrap().fields, UNNAMED);
    }
}

/// What `b` finds wrong when `change` was made to what `a` says of a first, a duplicate, a conflict or a refusal.
fn found(which: usize, change: impl Fn(&mut Withheld)) -> String {
    let (mut a, mut b) = withholding();
    a.submit(1, 7);
    a.submit(1, 7);
    a.submit(1, 8);
    let Event::Received(envelope) = a.received(2, 1) else { unreachable!("it is one") };
    a.record(vec![Event::Received(Envelope { body: b"{".to_vec(), ..envelope })]);
    a.attest();
    let mut range = b.range(&a, 100).unwrap();
    let mut withheld = range.items.iter_mut().filter_map(|item| match item {
        Item::Withheld(withheld) => Some(withheld),
        _ => None,
    });
    change(withheld.nth(which).unwrap());
    b.record(vec![Event::Imported(range)]);
    let origin = b.ledger.origin("a").unwrap();
    origin.quarantine().map_or_else(|| "nothing".into(), |why| why.part.clone())
}

fn name(withheld: &mut Withheld) -> &mut Name {
    match &mut withheld.became {
        Became::First { name, .. } | Became::Duplicate { name } | Became::Conflict { name, .. } => name,
        Became::Refused { .. } => panic!("it has no name"),
    }
}

#[test]
fn what_a_region_says_of_what_it_withholds_is_held_against_its_log() {
    assert_eq!(found(0, |_| ()), "nothing");
    let leaf = Digest([9; 32]);
    for which in [0, 2, 3] {
        let other_leaf = |withheld: &mut Withheld| match &mut withheld.became {
            Became::First { leaf: hash, .. }
            | Became::Conflict { leaf: hash, .. }
            | Became::Refused { leaf: hash, .. } => *hash = leaf,
            Became::Duplicate { .. } => panic!("it has no leaf"),
        };
        assert_eq!(found(which, other_leaf), "outcomes", "{which}");
    }
    for which in 0..4 {
        assert_eq!(found(which, |withheld| withheld.signature = 32), "signatures", "{which}");
        assert_eq!(found(which, |withheld| withheld.bytes += 1), "ledger", "{which}");
        assert_eq!(found(which, |withheld| withheld.at_ms += 1000), "ledger", "{which}");
        assert_eq!(found(which, |it| it.tenant = TenantId::new("nobody").unwrap()), "withheld", "{which}");
    }
    for (which, part) in [(0, "ledger"), (1, "withheld"), (2, "withheld")] {
        // A first under another name is a first all the same: its row is another. The others have no first then.
        let found = found(which, |withheld| name(withheld).key[0] ^= 1);
        assert!(found == part || (which == 0 && found == "withheld"), "{which}: {found}");
    }
    assert_eq!(found(1, |withheld| name(withheld).content[0] ^= 1), "withheld");
    assert_eq!(
        found(2, |withheld| *name(withheld) = Name { content: [0; 16], ..*name(withheld) }),
        "nothing"
    );
    assert_eq!(
        found(0, |withheld| {
            let Became::First { accepted, .. } = &mut withheld.became else { panic!("it is a first") };
            *accepted = false;
        }),
        "ledger"
    );
    assert_eq!(found(0, |it| it.became = Became::Duplicate { name: *name(it) }), "withheld");
    assert_eq!(found(1, |it| it.became = Became::Conflict { name: *name(it), leaf }), "withheld");
    assert_eq!(found(2, |it| it.became = Became::Duplicate { name: *name(it) }), "withheld");
    let reason = crate::ledger::RefusedReason::Structure;
    assert_eq!(found(3, |it| it.became = Became::Refused { reason, leaf }), "outcomes");
}

#[test]
fn only_its_own_region_says_that_a_tenant_is_withheld() {
    let (mut a, mut b) = (Region::new("a", 1000), Region::new("b", 2000));
    for (region, who) in [("b", tenant()), ("a", TenantId::new("nobody").unwrap())] {
        let what = Declaration::Withheld { tenant: who };
        let (at, why) = (Position::FIRST, String::new());
        a.record(vec![Event::Declared(Declared { at_ms: 1, region: region.into(), at, why, what })]);
    }
    a.submit(1, 0);
    assert_eq!((a.ledger.withheld(), a.ledger.withheld_tenants().count()), (0, 0));
    let before = a.ledger.projections().len();
    a.withhold();
    let since = a.ledger.digest();
    a.submit(1, 0);
    assert_eq!((a.ledger.withheld(), a.ledger.projections().len()), (1, before + 1));
    assert_ne!(a.ledger.digest(), since);
    // Said again it changes nothing: the place of the first time counts.
    let first = Position { lsn: Lsn(5), nth: 0 };
    a.withhold();
    assert!(!a.ledger.withholds(&tenant(), first) && a.ledger.withholds(&tenant(), Position::of(Lsn(6))));
    // What is shipped as withheld before that is believed by nobody.
    let Some(Item::Event { event: Event::Received(envelope), .. }) = a.shipped(Lsn(4)).into_iter().next()
    else {
        panic!("a submission")
    };
    let mut range = b.range(&a, 100).unwrap();
    let line = a.leaves[3].get(&0).unwrap();
    let early = Item::Withheld(Withheld::of(&envelope, 31, Some(line)).unwrap());
    let at =
        range.items.iter().position(|item| matches!(item, Item::Event { event: Event::Received(_), .. }));
    range.items[at.unwrap()] = early;
    b.record(vec![Event::Imported(range)]);
    assert_eq!(b.ledger.origin("a").unwrap().quarantine().unwrap().part, "withheld");
}

#[test]
fn what_stands_for_a_submission_is_made_of_its_own_leaf() {
    let (mut a, _) = withholding();
    a.submit(1, 7);
    a.submit(2, 7);
    let envelope = |lsn: usize| match &a.log[lsn - 1].payload {
        Payload::Events(events) => match &events[0] {
            Event::Received(envelope) => envelope.clone(),
            _ => panic!("a submission"),
        },
        _ => panic!("a submission"),
    };
    let line = |lsn: usize| a.leaves[lsn - 1].get(&0).map(Vec::as_slice);
    assert!(Withheld::of(&envelope(3), 31, line(3)).is_ok());
    assert_eq!(Withheld::of(&envelope(3), 31, line(4)), Err("its leaf is of another submission"));
    assert_eq!(Withheld::of(&envelope(3), 31, line(1)), Err("its leaf is of a setting"));
    assert_eq!(Withheld::of(&envelope(3), 31, Some(b"{}")), Err("its leaf cannot be read"));
    let no_summary = Envelope { body: b"{".to_vec(), ..envelope(3) };
    assert!(Withheld::of(&no_summary, 0, None).is_err());
}
