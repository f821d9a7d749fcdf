//! T1: every short history, stopped at every disk operation, ended every way.

use super::mutants::Step;
use super::world::{OPS, Op, Violation, World};
use crate::disk::{Death, Faults, Loss, Sloppy};

/// How the machine comes back after the process died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It never went away: what was written is still there, and still in doubt.
    Kill,
    /// A power loss takes what this says.
    Loses(Loss),
    /// A power loss takes sectors at random and garbles some of them.
    Tears(u64),
}

/// Single losses and survivals tried of what is in doubt; what is in doubt in the worlds of this suite is less.
const SINGLE_MAX: usize = 8;

/// Disk operations of a recovery and the first write after it, about.
const RECOVERY: u64 = 32;

/// Random tearings of each world.
const TEARS: u64 = 4;

/// Every ending of a world with so much in doubt.
fn endings(doubts: usize) -> Vec<Ending> {
    let mut endings = vec![Ending::Kill, Ending::Loses(Loss::Everything)];
    if doubts > 0 {
        endings.push(Ending::Loses(Loss::Nothing));
        endings.extend((0..TEARS).map(Ending::Tears));
    }
    if doubts > 1 {
        let single = 0..doubts.min(SINGLE_MAX);
        endings.extend(single.flat_map(|nth| [Loss::Only(nth), Loss::AllBut(nth)]).map(Ending::Loses));
    }
    endings
}

/// Counts worlds and stops at the first violation.
#[derive(Debug, Default)]
pub struct Walk {
    /// Worlds ended and recovered.
    pub worlds: u64,
    /// Histories.
    pub histories: u64,
    /// Worlds in which a torn tail was erased.
    pub torn: u64,
    /// Worlds in which a manifest slot was repaired.
    pub repaired: u64,
    /// Worlds whose recovery died and was recovered from.
    pub twice: u64,
    /// Of these, worlds in which a batch came from its copy.
    pub restored: u64,
}

impl Walk {
    /// One history, dying at every operation of its last step.
    pub fn history(&mut self, ops: &[Op], sloppy: Sloppy, step: Step) -> Result<(), Violation> {
        self.histories += 1;
        let seed = ops.iter().fold(1, |seed, op| seed * 7 + *op as u64);
        for death in [Death::AllLands, Death::HalfLands] {
            for nth in 0.. {
                let named = |violation: Violation| {
                    Violation(format!("{ops:?}, dead at operation {nth} ({death:?}): {}", violation.0))
                };
                let Some(world) = self.story(ops, nth, death, seed, sloppy, step).map_err(named)? else {
                    break;
                };
                for ending in endings(world.device.doubts()) {
                    let device = world.device.fork(seed + 17);
                    match ending {
                        Ending::Kill => {}
                        Ending::Loses(loss) => device.lose(loss),
                        Ending::Tears(seed) => {
                            let torn = device.fork(seed + 1);
                            torn.power_loss(50, true);
                            self.judge(world.elsewhere(torn), ending).map_err(named)?;
                            continue;
                        }
                    }
                    self.judge(world.elsewhere(device), ending).map_err(named)?;
                }
            }
        }
        Ok(())
    }

    /// A world whose process died at operation `nth` of the last step; `None` when the step has fewer.
    fn story(
        &self,
        ops: &[Op],
        nth: u64,
        death: Death,
        seed: u64,
        sloppy: Sloppy,
        step: Step,
    ) -> Result<Option<World>, Violation> {
        let stop = |error: &dyn std::fmt::Display| Violation(format!("refused without a reason: {error}"));
        let (last, before) = ops.split_last().expect("a history has a step");
        let mut world = World::new(seed, sloppy, step).map_err(|error| stop(&error))?;
        for op in before {
            world.run(*op).map_err(|error| stop(&error))?;
        }
        world.device.set_faults(Faults { die_in: Some((nth, death)), ..Faults::default() });
        let outcome = world.run(*last);
        if !world.device.is_dead() {
            return outcome.map(|()| None).map_err(|error| stop(&error));
        }
        world.die();
        Ok(Some(world))
    }

    fn judge(&mut self, world: World, ending: Ending) -> Result<(), Violation> {
        let named = |violation: Violation| Violation(format!("{ending:?}: {}", violation.0));
        self.worlds += 1;
        // The recovery of this world dies too, each time somewhere else.
        let nth = self.worlds % RECOVERY;
        let mut again = world.elsewhere(world.device.fork(self.worlds));
        if again.dies_again(nth, Op::One, self.worlds).map_err(named)? {
            let named = |violation: Violation| {
                Violation(format!("{ending:?}, dead again at operation {nth}: {}", violation.0))
            };
            self.twice += 1;
            let recovery = again.live_on().map_err(named)?;
            self.restored += u64::from(recovery.restored);
        }
        let recovery = world.live_on().map_err(named)?;
        self.torn += u64::from(recovery.torn.is_some());
        self.repaired += u64::from(recovery.manifest_repaired.is_some());
        Ok(())
    }
}

/// Every history of up to `depth` operations, shortest first.
pub fn sequences(depth: usize) -> impl Iterator<Item = Vec<Op>> {
    (1..=depth).flat_map(|length| {
        (0..OPS.len().pow(length as u32)).map(move |mut code| {
            let mut ops = Vec::with_capacity(length);
            for _ in 0..length {
                ops.push(OPS[code % OPS.len()]);
                code /= OPS.len();
            }
            ops
        })
    })
}

/// The first world in which a promise was broken: its number and what was broken.
pub fn first_violation(depth: usize, sloppy: Sloppy, step: Step) -> Option<(u64, String)> {
    let mut walk = Walk::default();
    let broken = sequences(depth).find_map(|ops| walk.history(&ops, sloppy, step).err());
    broken.map(|violation| (walk.worlds, violation.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S1, S2.
    #[test]
    fn every_short_history_survives_every_crash() {
        let mut walk = Walk::default();
        for ops in sequences(super::super::depth(if cfg!(debug_assertions) { 2 } else { 3 })) {
            if let Err(violation) = walk.history(&ops, Sloppy::default(), Step::None) {
                panic!("{}", violation.0);
            }
        }
        println!("T1: {walk:?}");
        assert!(
            walk.torn > 0 && walk.repaired > 0 && walk.restored > 0,
            "worlds with a torn tail, a torn manifest and a torn recovery were among them"
        );
    }
}
