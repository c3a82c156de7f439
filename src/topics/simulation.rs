//! Groups under kills, time-outs and members that race, with a seed: nothing is lost, nothing acknowledged out of order.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::group::NeverDelivered;
use super::{GroupCore, GroupRules};

#[derive(Debug, Clone)]
enum Step {
    /// The log grows.
    Append(u64),
    /// A member asks for so many.
    Consume {
        member: usize,
        limit: usize,
    },
    /// A member acknowledges the nth of what it holds.
    Ack {
        member: usize,
        nth: usize,
    },
    /// A member dies with what it holds.
    Kill {
        member: usize,
    },
    /// Somebody acknowledges whatever.
    AckAny(u64),
    Wait(i64),
    /// The server goes down and comes back.
    Restart,
    /// Retention removes the oldest entries.
    Expire(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let member = 0..2usize;
    prop_oneof![
        4 => (1..6u64).prop_map(Step::Append),
        6 => (member.clone(), 1..5usize).prop_map(|(member, limit)| Step::Consume { member, limit }),
        4 => (member.clone(), 0..8usize).prop_map(|(member, nth)| Step::Ack { member, nth }),
        1 => member.prop_map(|member| Step::Kill { member }),
        1 => (0..60u64).prop_map(Step::AckAny),
        3 => (1..150i64).prop_map(Step::Wait),
        1 => Just(Step::Restart),
        1 => (0..3u64).prop_map(Step::Expire),
    ]
}

#[derive(Default)]
struct World {
    now: i64,
    first: u64,
    next: u64,
    delivered: BTreeSet<u64>,
    buried: BTreeSet<u64>,
    lost: u64,
    held: [Vec<u64>; 2],
    /// Hidden from the group until then, by offset.
    hidden: std::collections::BTreeMap<u64, i64>,
}

impl World {
    fn consume(&mut self, core: &mut GroupCore, rules: &GroupRules, limit: usize) -> Vec<u64> {
        self.lost += core.lose(self.first);
        let overdue = core.overdue(self.now, rules, 2);
        for offset in overdue.iter().cloned().flatten() {
            assert!(self.delivered.contains(&offset), "{offset} is buried and was never delivered");
            assert!(self.buried.insert(offset), "{offset} is buried twice");
        }
        core.bury(&overdue);
        let wanted = core.wanted(self.now, self.next, rules);
        let offsets: Vec<u64> = wanted.iter().cloned().flatten().take(limit).collect();
        if let Some(last) = offsets.last() {
            core.claim(self.now, last + 1, &wanted, rules);
        }
        for offset in &offsets {
            assert!(*offset >= core.cursor(), "{offset} is done with, and delivered");
            assert!(
                self.hidden.get(offset).is_none_or(|until| *until <= self.now),
                "{offset} is hidden, and delivered"
            );
            assert!(!self.buried.contains(offset), "{offset} is buried, and delivered");
            self.hidden.insert(*offset, self.now + rules.visibility_ms);
            self.delivered.insert(*offset);
        }
        offsets
    }

    fn ack(&self, core: &mut GroupCore, upto: u64) {
        let (before, end) = (core.cursor(), core.end());
        match core.ack(upto) {
            Ok(()) => {
                assert!(core.cursor() >= before, "a cursor never goes back");
                assert!(upto < end, "{upto} was acknowledged, and {end} is what comes next");
                assert!(core.cursor() > upto);
            }
            Err(NeverDelivered { end: told }) => {
                assert!(!self.delivered.contains(&upto) && told == end && core.cursor() == before);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn everything_is_delivered_at_least_once_or_told(
        steps in proptest::collection::vec(step(), 1..120),
        max_deliveries in proptest::option::of(1..4u32),
    ) {
        let rules = GroupRules { visibility_ms: 100, max_deliveries, max_in_flight: 7 };
        let mut core = GroupCore::new(0);
        let mut world = World::default();
        for step in steps {
            match step {
                Step::Append(count) => world.next += count,
                Step::Consume { member, limit } => {
                    let offsets = world.consume(&mut core, &rules, limit);
                    world.held[member].extend(offsets);
                }
                Step::Ack { member, nth } => {
                    let Some(upto) = world.held[member].get(nth).copied() else { continue };
                    world.held[member].retain(|held| *held > upto);
                    world.ack(&mut core, upto);
                }
                Step::Kill { member } => world.held[member].clear(),
                Step::AckAny(upto) => world.ack(&mut core, upto),
                Step::Wait(ms) => world.now += ms,
                Step::Restart => {
                    core = GroupCore::restore(&core.state(0));
                    world.hidden.clear();
                }
                Step::Expire(count) => world.first = (world.first + count).min(world.next),
            }
            prop_assert!(core.in_flight() <= rules.max_in_flight);
            prop_assert!(core.cursor() <= core.end() && core.end() <= world.next.max(core.cursor()));
            prop_assert_eq!(core.state(0).in_flight(), core.in_flight());
        }
        // A member that lives and acknowledges: everything comes to an end.
        for _ in 0..10_000 {
            world.now += 1_000;
            let offsets = world.consume(&mut core, &rules, 3);
            if let Some(last) = offsets.last() {
                world.ack(&mut core, *last);
            }
            if core.cursor() == world.next {
                break;
            }
        }
        prop_assert_eq!(core.cursor(), world.next);
        prop_assert_eq!(core.state(0).buried, world.buried.len() as u64);
        let missing = (0..world.next).filter(|offset| !world.delivered.contains(offset)).count() as u64;
        prop_assert!(missing <= world.lost, "{missing} were never delivered, {} are told as lost", world.lost);
        prop_assert_eq!(core.lost(), world.lost);
    }
}
