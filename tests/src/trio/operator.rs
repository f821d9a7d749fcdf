//! Whoever changes the group: founds it, takes nodes in and out, replaces one that lost its disk.

use std::sync::Arc;

use raft::{Group, Member, MembersError};

use super::plan::Event;
use super::rot;
use super::world::World;
use crate::rt::{self, SimRt, sleep};
use crate::sim::world::MS;

/// Voters at most.
const VOTERS_MAX: usize = 5;

/// Node 1 founds the group and takes the others in, in peace.
pub async fn set_up(world: World) {
    let names = world.names();
    names.iter().for_each(|name| world.boot(*name));
    for name in names.into_iter().skip(1) {
        take_in(&world, name).await;
    }
    world.state().set_up = true;
}

/// Does what the plan wishes, one thing after the other, however long it takes.
pub async fn operator(world: World) {
    loop {
        sleep(50 * MS).await;
        let wish = {
            let mut state = world.state();
            let wish = state.wishes.pop_front();
            state.busy = wish.is_some();
            wish
        };
        match wish {
            Some(Event::Grow) if voters(&world).len() < VOTERS_MAX => grow(&world).await,
            Some(Event::Shrink(n)) if voters(&world).len() > 3 => {
                let voters = voters(&world);
                take_out(&world, voters[n as usize % voters.len()]).await;
            }
            Some(Event::Replace(n)) if voters(&world).len() >= 3 => replace(&world, n).await,
            _ => {}
        }
    }
}

fn voters(world: &World) -> Vec<u64> {
    let truth = world.truth();
    let sets = truth.voters(truth.last());
    match &sets[..] {
        [only] => only.clone(),
        // While they change nobody begins another change.
        _ => Vec::new(),
    }
}

async fn grow(world: &World) {
    let name = world.create();
    world.boot(name);
    take_in(world, name).await;
}

/// One loses its disk and comes back under its name with an empty one, which nobody may take for it.
async fn replace(world: &World, n: u64) {
    // Nobody takes a disk away while another node needs it for its repair.
    if !rot::rotten(world).is_empty() {
        return;
    }
    let voters = voters(world);
    let lost = voters[n as usize % voters.len()];
    world.wipe(lost);
    sleep(rt::below(3_000 * MS)).await;
    take_out(world, lost).await;
    grow(world).await;
}

/// One whose log nobody can repair is taken out, and another one comes in its place.
pub async fn give_up(world: World, name: u64) {
    take_out(&world, name).await;
    grow(&world).await;
}

/// One change of the membership.
enum Change {
    Add(Member),
    Promote,
    Remove,
}

async fn take_in(world: &World, name: u64) {
    until(world, name, Change::Add(world.member(name))).await;
    until(world, name, Change::Promote).await;
    settled(world, name, true).await;
}

async fn take_out(world: &World, name: u64) {
    until(world, name, Change::Remove).await;
    settled(world, name, false).await;
    world.node(name, |node| node.off = true);
    world.end(name, Some(0));
}

/// Asks once; whether it is done.
async fn ask(group: Arc<Group<SimRt>>, name: u64, change: &Change) -> bool {
    let asked = async {
        match change {
            Change::Add(member) => group.add(name, member.clone()).await.is_ok(),
            Change::Promote => group.promote(name).await.is_ok(),
            Change::Remove => matches!(group.remove(name).await, Ok(()) | Err(MembersError::Unknown(_))),
        }
    };
    rt::timeout(5_000 * MS, asked).await.is_ok_and(|done| done)
}

/// Asks whoever leads until it is done.
async fn until(world: &World, name: u64, change: Change) {
    loop {
        let leader = world.leader();
        if let Some((_, group)) = leader
            && ask(group, name, &change).await
        {
            return;
        }
        sleep(50 * MS + rt::below(50 * MS)).await;
    }
}

/// Waits until the agreed membership says so, and names one set of voters.
async fn settled(world: &World, name: u64, votes: bool) {
    let change = if votes { Change::Promote } else { Change::Remove };
    loop {
        let voters = voters(world);
        if !voters.is_empty() && voters.contains(&name) == votes {
            return;
        }
        // Half done by a leader that is lost: asked again, the next one must finish it.
        let leader = world.leader();
        if let Some((_, group)) = leader {
            ask(group, name, &change).await;
        }
        sleep(100 * MS).await;
    }
}
