//! Checkers of two regions. Each is a pure function of what a run wrote down.

use super::look::{Found, Page};
use crate::check::Verdict;
use crate::evidence::Node;
use crate::history::{Event, Kind, operations};
use std::collections::{BTreeMap, BTreeSet};

/// What a run with two regions left.
#[derive(Debug, Default)]
pub struct Left {
    /// What every node said at the end, when everything had been healed, by host.
    pub pages: BTreeMap<usize, Page>,
    /// What every node said before its log was looked at: of the region that was lost, before that; of the other one, after that.
    pub last: BTreeMap<usize, Page>,
    /// What the watcher found.
    pub found: Found,
    /// The region that was lost for good at the end, and what the other one says afterwards.
    pub lost: Option<Lost>,
}

/// A region that was lost.
#[derive(Debug, Default)]
pub struct Lost {
    /// Its number: 0 or 1.
    pub region: usize,
    /// Entries of it that were proven, by its own word.
    pub proven: u64,
    /// Entries of it that the other region has.
    pub held: u64,
}

/// Answers of one id: the place of the answer in the history, where it was given, when it was asked for, and what it was.
type Answers<'a> = BTreeMap<&'a str, Vec<(usize, usize, usize, &'a str)>>;

/// The region that a host is in: 0 or 1.
pub fn region_of(node: u64) -> usize {
    usize::from(node > crate::cluster::HOSTS as u64)
}

fn answers(history: &[Event]) -> (Answers<'_>, BTreeMap<(&str, u64), Option<&str>>) {
    let (mut told, mut last) = (Answers::new(), BTreeMap::new());
    for op in operations(history).unwrap_or_default() {
        let (Some(key), Some(end), Kind::Ok) = (op.call.key.as_deref(), op.end, op.kind()) else { continue };
        match (op.call.f.as_str(), end.value.as_deref()) {
            ("submit" | "read", Some(value)) => {
                told.entry(key).or_default().push((op.from, op.until, region_of(end.node), value));
            }
            ("final", value) => drop(last.insert((key, end.node), value)),
            _ => {}
        }
    }
    (told, last)
}

/// R1: after healing all nodes of both regions give the same answer to everything and have one digest.
pub fn convergence(history: &[Event], left: &Left, hosts: &[u64]) -> Verdict {
    let mut verdict = Verdict::new("R1", "both regions come to one truth");
    let (told, last) = answers(history);
    for key in told.keys() {
        let mut seen = BTreeSet::new();
        for host in hosts {
            match last.get(&(*key, *host)) {
                Some(value) => drop(seen.insert(value)),
                None => verdict.unknown(format!("{key}: host {host} was not read")),
            }
        }
        if seen.len() > 1 {
            verdict.wrong(format!("{key}: hosts differ: {seen:?}"));
        }
    }
    let merged: BTreeSet<&str> = left.pages.values().map(|page| page.merged.as_str()).collect();
    if merged.len() > 1 || merged.contains("") {
        verdict.wrong(format!("digests over both regions: {merged:?}"));
    }
    for (host, page) in &left.pages {
        if let Some(why) = &page.quarantine {
            verdict.wrong(format!("host {host} does not believe the other region: {why}"));
        }
        if page.proven < page.newest {
            verdict.wrong(format!("host {host}: {} of {} entries are proven", page.proven, page.newest));
        }
    }
    if left.pages.len() < hosts.len() || told.is_empty() {
        verdict.unknown(format!("{} of {} nodes said what they have", left.pages.len(), hosts.len()));
    }
    verdict.note = format!("{} ids on {} nodes, one digest over both regions", told.len(), hosts.len());
    verdict
}

/// R2: what a client was told is what stands in the end, unless its region did not know better yet; and once it knew, it never
/// said the other thing again. At most one answer of an id gives way.
pub fn one_truth(history: &[Event]) -> Verdict {
    let mut verdict = Verdict::new("R2", "two answers only while neither region knew of the other's");
    let (told, last) = answers(history);
    let mut gave_way = 0;
    for (key, answers) in &told {
        let Some(Some(stands)) = last.iter().find(|((found, _), _)| found == key).map(|(_, value)| *value)
        else {
            verdict.wrong(format!("{key}: it was answered and is nowhere"));
            continue;
        };
        let others: BTreeSet<&str> =
            answers.iter().map(|(.., value)| *value).filter(|value| *value != stands).collect();
        let Some(other) = others.first() else { continue };
        gave_way += 1;
        if others.len() > 1 {
            verdict.wrong(format!("{key}: {others:?} gave way to {stands}"));
        }
        let whose: BTreeSet<usize> =
            answers.iter().filter(|(.., value)| value == other).map(|(_, _, region, _)| *region).collect();
        if whose.len() > 1 {
            verdict.wrong(format!("{key}: both regions said {other}, and {stands} stands"));
        }
        for region in whose {
            let knew = answers.iter().filter(|(_, _, at, value)| *at == region && *value == stands);
            let Some(knew) = knew.map(|(_, until, ..)| *until).min() else { continue };
            if answers.iter().any(|(from, _, at, value)| *at == region && value == other && *from > knew) {
                verdict.wrong(format!("{key}: a region knew {stands} and said {other} again"));
            }
        }
    }
    verdict.note = format!("{} ids, {gave_way} with an answer that gave way", told.len());
    if told.is_empty() {
        verdict.unknown("nothing was acknowledged");
    }
    verdict
}

/// R3: each region's log is sound, and what it took in of the other is that one's log, from the beginning, without a gap.
pub fn no_skip(nodes: &[Node], left: &Left) -> Verdict {
    let mut verdict = Verdict::new("R3", "in order and nothing left out");
    for node in nodes {
        match node.verify {
            Some(0) => {}
            Some(_) => verdict.wrong(format!("host {}: worm verify: {}", node.host, node.said)),
            None => verdict.unknown(format!("host {}: worm verify was not run", node.host)),
        }
        // From nothing, its log gives the digest over both regions that all nodes had.
        let merged = left.last.get(&(node.host as usize)).map_or("", |page| page.merged.as_str());
        for replay in &node.replays {
            let mut words = replay.split_whitespace().skip_while(|word| *word != "merged");
            if !replay.starts_with("exit Some(0)") || words.nth(1).is_none_or(|said| said != merged) {
                verdict.wrong(format!("host {}: its log again: {replay}, not {merged}", node.host));
            }
        }
        if node.replays.is_empty() {
            verdict.unknown(format!("host {}: its log was not replayed", node.host));
        }
    }
    for (at, other) in [(1, crate::cluster::HOSTS + 1), (crate::cluster::HOSTS + 1, 1)] {
        if let (Some(page), Some(origin)) = (left.pages.get(&at), left.pages.get(&other))
            && page.leaves != origin.newest
        {
            verdict.wrong(format!("host {at} has {} of {} entries of the other", page.leaves, origin.newest));
        }
    }
    verdict.note = format!("{} logs verified and replayed", nodes.len());
    if nodes.is_empty() {
        verdict.unknown("no log was looked at");
    }
    verdict
}

/// R4: a mirror's word comes after what it speaks of is there.
pub fn not_early(left: &Left) -> Verdict {
    let mut verdict = Verdict::new("R4", "no mirror speaks early");
    left.found.early.iter().for_each(|why| verdict.wrong(why.clone()));
    if left.found.looks < 10 || left.found.proven.contains(&0) {
        verdict.unknown(format!("{} looks, proven {:?}", left.found.looks, left.found.proven));
    }
    verdict.note = format!("{} looks; most proven {:?} entries", left.found.looks, left.found.proven);
    verdict
}

/// R5: what was proven of a region that is lost for good is in the other one, with the same bytes.
pub fn lost(history: &[Event], left: &Left) -> Verdict {
    let mut verdict = Verdict::new("R5", "of a lost region all that was proven is there");
    let Some(Lost { region, proven, held }) = left.lost else {
        verdict.unknown("no region was lost");
        return verdict;
    };
    if held < proven || proven == 0 {
        verdict.wrong(format!("{proven} entries were proven, {held} are there"));
    }
    let mut read: BTreeMap<&str, BTreeSet<Option<&str>>> = BTreeMap::new();
    let mut acked: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for op in operations(history).unwrap_or_default() {
        let (Some(key), Some(end), Kind::Ok) = (op.call.key.as_deref(), op.end, op.kind()) else { continue };
        match (op.call.f.as_str(), end.value.as_deref()) {
            ("after-loss", value) => drop(read.entry(key).or_default().insert(value)),
            ("last", Some(value)) => drop(acked.insert(key, (region_of(end.node), value))),
            _ => {}
        }
    }
    let (mut there, mut gone) = (0, 0);
    for (key, (at, value)) in &acked {
        let seq = value.split(['@', '#']).nth(1).and_then(|seq| seq.parse::<u64>().ok());
        let found = read.get(key);
        let Some(found) = found else {
            verdict.unknown(format!("{key} was not read"));
            continue;
        };
        match found.contains(&Some(*value)) {
            true => there += 1,
            false if *at == region && seq.is_none_or(|seq| seq >= proven) => gone += 1,
            false => verdict.wrong(format!("{key}: {value} was proven, and {found:?} is there")),
        }
    }
    verdict.note = format!(
        "region {} is lost; {proven} entries were proven, {held} are held; of {} last answers {there} are there, {gone} are lost",
        ["a", "b"][region],
        acked.len()
    );
    if acked.is_empty() {
        verdict.unknown("nothing was acknowledged just before");
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Valid;
    use crate::history::tests::event;

    fn op(process: u64, node: u64, f: &str, value: Option<&str>) -> [Event; 2] {
        let with = |kind, value| Event { node, ..event(kind, process, f, "k", value) };
        [with(Kind::Invoke, None), with(Kind::Ok, value)]
    }

    fn page(leaves: u64, merged: &str) -> Page {
        Page { newest: 5, leaves, proven: 5, merged: merged.to_owned(), quarantine: None }
    }

    fn left(one: Page, other: Page) -> Left {
        let pages = BTreeMap::from([(1, one), (4, other)]);
        Left { last: pages.clone(), pages, ..Left::default() }
    }

    fn history(steps: &[(u64, &str, Option<&str>)]) -> Vec<Event> {
        (1..).zip(steps).flat_map(|(process, (node, f, value))| op(process, *node, f, *value)).collect()
    }

    #[test]
    fn regions_that_differ_are_refused() {
        let says = |a: Option<&str>, b: Option<&str>, left: &Left| {
            let steps = [(1, "submit", Some("x@1#a")), (1, "final", a), (4, "final", b)];
            convergence(&history(&steps), left, &[1, 4]).valid
        };
        let good = left(page(5, "m"), page(5, "m"));
        assert_eq!(says(Some("x@1#a"), Some("x@1#a"), &good), Valid::True);
        assert_eq!(says(Some("x@1#a"), None, &good), Valid::False, "lost in one");
        assert_eq!(says(Some("x@1#a"), Some("x@1#b"), &good), Valid::False, "other bytes");
        let apart = left(page(5, "m"), page(5, "n"));
        assert_eq!(says(Some("x@1#a"), Some("x@1#a"), &apart), Valid::False, "two digests");
        let unproven = left(page(5, "m"), Page { proven: 4, ..page(5, "m") });
        assert_eq!(says(Some("x@1#a"), Some("x@1#a"), &unproven), Valid::False, "not proven");
        assert_eq!(says(Some("x@1#a"), Some("x@1#a"), &Left::default()), Valid::Unknown, "nobody said");
    }

    #[test]
    fn what_the_rule_does_not_explain_is_refused() {
        let (x, y, z) = (Some("x@1#a"), Some("y@1#b"), Some("z@2#c"));
        let says = |steps: &[(u64, &str, Option<&str>)]| one_truth(&history(steps)).valid;
        let apart = [(1, "submit", x), (4, "submit", y), (4, "read", x), (1, "final", x)];
        assert_eq!(says(&apart), Valid::True, "neither knew");
        assert_eq!(says(&[(1, "submit", x), (4, "submit", y), (1, "final", None)]), Valid::False, "nowhere");
        let back = [(1, "submit", x), (4, "submit", y), (4, "read", x), (4, "read", y), (1, "final", x)];
        assert_eq!(says(&back), Valid::False, "back again");
        let crossed = [(1, "submit", x), (4, "submit", y), (1, "read", y), (1, "final", x)];
        assert_eq!(says(&crossed), Valid::False, "the loser's answer in the other region");
        let three = [(1, "submit", x), (4, "submit", y), (4, "submit", z), (1, "final", x)];
        assert_eq!(says(&three), Valid::False, "two answers gave way");
        assert_eq!(says(&[]), Valid::Unknown);
    }

    #[test]
    fn a_gap_and_a_broken_log_are_refused() {
        let node = |verify, replay: &str| Node {
            host: 1,
            verify: Some(verify),
            replays: vec![replay.to_owned()],
            ..Node::default()
        };
        let good = left(page(5, "m"), page(5, "m"));
        assert_eq!(no_skip(&[node(0, "exit Some(0): merged m")], &good).valid, Valid::True);
        assert_eq!(no_skip(&[node(1, "exit Some(0): merged m")], &good).valid, Valid::False);
        assert_eq!(no_skip(&[node(0, "exit Some(0): merged n")], &good).valid, Valid::False);
        assert_eq!(
            no_skip(&[node(0, "exit Some(0): merged m")], &left(page(4, "m"), page(5, "m"))).valid,
            Valid::False
        );
        assert_eq!(no_skip(&[node(0, "exit Some(2): merged m")], &good).valid, Valid::False);
        assert_eq!(no_skip(&[], &good).valid, Valid::Unknown);
    }

    #[test]
    fn an_early_word_and_a_lost_entry_are_refused() {
        let found = |early: &[&str]| Found {
            looks: 20,
            early: early.iter().map(|why| (*why).to_owned()).collect(),
            proven: [3, 4],
        };
        let says = |early: &[&str]| not_early(&Left { found: found(early), ..Left::default() }).valid;
        assert_eq!((says(&[]), says(&["a says 9"])), (Valid::True, Valid::False));
        assert_eq!(not_early(&Left::default()).valid, Valid::Unknown);
        let says = |held, node, value, after| {
            let left = Left { lost: Some(Lost { region: 1, proven: 10, held }), ..Left::default() };
            lost(&history(&[(node, "last", value), (1, "after-loss", after)]), &left).valid
        };
        let (old, new) = (Some("x@9#a"), Some("x@12#a"));
        assert_eq!(says(10, 4, old, old), Valid::True);
        assert_eq!(says(9, 4, old, old), Valid::False, "less than was proven");
        assert_eq!(says(10, 4, old, None), Valid::False, "proven and gone");
        assert_eq!(says(10, 4, new, None), Valid::True, "not proven yet");
        assert_eq!(says(10, 1, new, None), Valid::False, "of the region that is left");
        assert_eq!(lost(&[], &Left::default()).valid, Valid::Unknown);
    }
}
