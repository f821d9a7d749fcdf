//! F4: the same records rotten on every node. Nobody makes anything up, skips them, or answers without them; what
//! does not need them goes on; and one good copy brings everything back.

use engine::limits::BLOCK;
use segments::segment_name;

use super::world::World;
use super::*;

const NAME: u64 = 1;

/// A group in peace, with some segments sealed.
fn at_work(seed: u64, asked: u64) -> World {
    rt::reset(seed);
    let world = World::new(TrioOptions { segment_bytes: 64 << 10, ..TrioOptions::new(seed, u64::MAX) });
    rt::spawn(Owner::default(), operator::set_up(world.clone()));
    until(&world, 60_000, || world.state().set_up);
    for n in 0..4 {
        rt::spawn(Owner::default(), clients::client(world.clone(), seed ^ (n << 8)));
    }
    until(&world, 600_000, || world.state().asked.0 >= asked);
    let sealed = |name: &u64| world.group(*name).is_some_and(|group| group.metrics().sealed > NAME);
    assert!(world.names().iter().all(sealed), "seed {seed}: nothing is sealed");
    world
}

fn until(world: &World, ms: u64, done: impl Fn() -> bool) {
    rt::run(rt::now() + ms * MS, || done() || world.is_broken());
}

/// The first segment rots on every node; what it was on one of them.
fn rot_everywhere(world: &World, seed: u64) -> (u64, Vec<u8>) {
    let (names, file) = (world.names(), segment_name(NAME));
    let one = names[seed as usize % names.len()];
    let good = world.node(one, |node| node.device.bytes(&file)).expect("it is there");
    for name in names {
        let device = world.node(name, |node| node.device.clone());
        // Past the group's beginning, and the same records everywhere.
        (3 * BLOCK..good.len() / 2).for_each(|at| device.rot(&file, at, 0x77));
        world.rotten(name);
    }
    (one, good)
}

/// Every node begins again, and reads everything.
fn restart(world: &World) {
    for name in world.names() {
        world.end(name, None);
        world.node(name, |node| node.snapshot = None);
        world.boot(name);
    }
    until(world, 30_000, || false);
}

/// Nobody takes part, and nobody was told anything. With one good copy everybody is back and has everything.
fn insist(world: &World, (one, good): (u64, Vec<u8>), seed: u64) {
    assert_eq!(world.report().violations, Vec::<String>::new(), "seed {seed}");
    let up = || world.names().into_iter().filter(|name| world.group(*name).is_some()).count();
    assert_eq!(up(), 0, "seed {seed}: a node goes on without what all have lost");
    let told = world.state().asked.1;
    until(world, 30_000, || false);
    assert_eq!((up(), world.state().asked.1), (0, told), "seed {seed}");
    world.end(one, None);
    world.node(one, |node| node.device.replace(&segment_name(NAME), good));
    world.boot(one);
    until(world, 60_000, || up() == 3);
    assert_eq!(up(), 3, "seed {seed}: one good copy is enough");
    judge::judge(world);
    assert_eq!(world.report().violations, Vec::<String>::new(), "seed {seed}");
    rt::reset(0);
}

#[test]
fn f4_what_all_have_lost_is_skipped_by_nobody_and_one_good_copy_brings_it_back() {
    for seed in 500..506 {
        let world = at_work(seed, 300);
        world.names().into_iter().for_each(|name| world.end(name, None));
        let kept = rot_everywhere(&world, seed);
        restart(&world);
        insist(&world, kept, seed);
    }
}

#[test]
fn f4_what_does_not_need_the_lost_records_goes_on() {
    for seed in 510..513 {
        let world = at_work(seed, 300);
        let kept = rot_everywhere(&world, seed);
        let before = world.state().asked;
        until(&world, 60_000, || world.state().asked.1 >= before.1 + 40);
        let (_, answered, read) = world.state().asked;
        assert!(answered >= before.1 + 40 && read > before.2, "seed {seed}: {answered} and {read}");
        restart(&world);
        insist(&world, kept, seed);
    }
}
