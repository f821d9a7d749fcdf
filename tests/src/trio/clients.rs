//! What clients do: submit at any node, make it again when no answer comes, and read.

use std::sync::{Arc, Mutex};

use engine::event::{Envelope, Event};
use raft::Batch;
use tokio::sync::oneshot;

use super::mutants::Mutant;
use super::world::World;
use crate::checkers::answer_after_durable;
use crate::rt::{self, Owner, Rng, sleep};
use crate::sim::fold::Waiting;
use crate::sim::history::{Answer, Place, Told};
use crate::sim::workload::Submission;
use crate::sim::world::MS;

/// How long a client waits for an answer.
const PATIENCE: u64 = 2_000 * MS;
/// How often it makes the same submission.
const TRIES: u64 = 3;
/// Submissions in one request, at most.
const TOGETHER: u64 = 4;

type Answers = Vec<(Place, Answer)>;

/// One client.
pub async fn client(world: World, seed: u64) {
    let mut rng = Rng(seed);
    let mut last: Vec<Submission> = Vec::new();
    while !world.state().over {
        let pause = if rng.chance(15) { 3_000 } else { 60 };
        sleep(rng.below(pause * MS)).await;
        let names = world.names();
        let at = match world.leader() {
            Some((leader, _)) if rng.chance(50) => leader,
            _ => names[rng.below(names.len() as u64) as usize],
        };
        if world.group(at).is_none() {
            continue;
        }
        world.state().asked.0 += 1;
        if rng.chance(30) {
            read(&world, at).await;
            continue;
        }
        if !rng.chance(20) || last.is_empty() {
            last = (0..1 + rng.below(TOGETHER)).map(|_| Submission::draw(&mut rng)).collect();
        }
        submit(&world, &mut rng, at, &last).await;
    }
}

/// Submits, and makes the submission again elsewhere when no answer comes.
pub async fn submit(world: &World, rng: &mut Rng, mut at: u64, sent: &[Submission]) -> bool {
    for _ in 0..TRIES {
        if let Ok(Some(answers)) = rt::timeout(PATIENCE, ask(world.clone(), at, sent.to_vec())).await {
            told(world, at, sent, answers);
            return true;
        }
        sleep(10 * MS + rng.below(40 * MS)).await;
        let names = world.names();
        at = names[rng.below(names.len() as u64) as usize];
    }
    false
}

fn told(world: &World, at: u64, sent: &[Submission], answers: Answers) {
    world.state().asked.1 += 1;
    let mutant = world.options.mutant;
    for (sent, (place, answer)) in sent.iter().zip(answers) {
        rt::note(place.0.0 ^ u64::from(place.1));
        let early = matches!(mutant, Mutant::AnswersForwarded | Mutant::AnswersAtOnce);
        let agreed = world.truth().last();
        if let Err(broken) = answer_after_durable::check(place, answer.first(), agreed) {
            world.violation(broken);
        }
        let mut state = world.state();
        // A lie is no measure for what others may see.
        state.floor = if early { state.floor } else { state.floor.max(place.0) };
        drop(state);
        world.truth().history.told.push(Told { sent: *sent, place, answer, life: at });
    }
}

/// Asks one node, which passes it on if another one leads.
async fn ask(world: World, at: u64, sent: Vec<Submission>) -> Option<Answers> {
    let leading = |name| world.node(name, |node| node.leading.is_some() && !node.diverged);
    if leading(at) {
        return work(&world, at, sent).await;
    }
    let group = world.group(at)?;
    let leader = group.leader().filter(|leader| *leader != at)?;
    if world.options.mutant == Mutant::AnswersForwarded {
        let place = group.metrics().last.next();
        return Some(
            (0..).zip(&sent).map(|(nth, _)| ((place, nth), Answer::First { accepted: true })).collect(),
        );
    }
    let pass = |from, to| world.ways().pass(from, to);
    sleep(pass(at, leader)?).await;
    if !leading(leader) {
        return None;
    }
    let answers = work(&world, leader, sent).await?;
    sleep(pass(leader, at)?).await;
    Some(answers)
}

/// The leader's door, working as that node: when it dies, no answer comes.
async fn work(world: &World, name: u64, sent: Vec<Submission>) -> Option<Answers> {
    let owner = world.node(name, |node| node.alive)?;
    let (done, answers) = oneshot::channel();
    let world = world.clone();
    rt::spawn(owner, async move {
        if let Some(answers) = propose(&world, name, sent).await {
            let _ = done.send(answers);
        }
    });
    answers.await.ok()
}

async fn propose(world: &World, name: u64, sent: Vec<Submission>) -> Option<Answers> {
    let door = world.node(name, |node| node.door.clone());
    let turn = door.lock().await;
    let (group, wall_ms) = (world.group(name)?, world.wall_ms(name));
    let (term, received_at_ms) = world.node(name, |node| {
        let log_ms = node.shared.lock().unwrap().log_time_ms;
        node.last_ms = node.last_ms.max(log_ms).max(wall_ms);
        (node.leading, node.last_ms)
    });
    let term = term?;
    let (mut events, mut waiting, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    for sent in &sent {
        let (answer, answered) = oneshot::channel();
        let salt = [rt::rand() as u8; 16];
        events.push(Event::Received(Envelope {
            tenant: sent.tenant_id(),
            received_at_ms,
            salt,
            body: sent.body(),
        }));
        waiting.push(Some(answer));
        answers.push(answered);
    }
    let waiting: Waiting = Mutex::new(waiting);
    let next = group.metrics().last.next();
    let batch = Batch { events: events.into(), local: Some(Arc::new(waiting)) };
    let _pending = group.submit_in(term, batch).await.ok()?;
    drop(turn);
    if world.options.mutant == Mutant::AnswersAtOnce {
        return Some(
            (0..).zip(&sent).map(|(nth, _)| ((next, nth), Answer::First { accepted: true })).collect(),
        );
    }
    let mut told = Vec::new();
    for answered in answers {
        told.push(answered.await.ok()?);
    }
    Some(told)
}

/// A read shows at least what anybody was told or shown before it began.
async fn read(world: &World, at: u64) {
    let Some(group) = world.group(at) else { return };
    let floor = world.state().floor;
    if world.options.mutant != Mutant::StaleRead {
        let Ok(Ok(_)) = rt::timeout(3_000 * MS, group.read_index()).await else { return };
    }
    let (shown, diverged) = world.node(at, |node| (node.applied, node.diverged));
    // Another life has begun, or ends: it answers nobody.
    let same = world.group(at).is_some_and(|now| Arc::ptr_eq(&now, &group));
    if !same || diverged {
        return;
    }
    world.state().asked.2 += 1;
    if shown < floor {
        world.violation(format!("I6: a stale read at node {at}: {floor} was known, it shows {shown}"));
    }
    if world.options.mutant != Mutant::StaleRead {
        let mut state = world.state();
        state.floor = state.floor.max(shown);
    }
}

/// The last client of all: what a group that was healed must do.
pub fn probe(world: &World, answered: Arc<Mutex<bool>>) {
    let world = world.clone();
    rt::spawn(Owner::default(), async move {
        let mut rng = Rng(world.options.seed ^ 77);
        while !*answered.lock().unwrap() {
            let sent = [Submission::draw(&mut rng)];
            let names = world.names();
            let at = names[rng.below(names.len() as u64) as usize];
            *answered.lock().unwrap() = submit(&world, &mut rng, at, &sent).await;
        }
    });
}
