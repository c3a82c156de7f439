//! Which bucket a row of a STREAM table lies in, which buckets have to be there, and which may go.
//!
//! Owns the windows of time by which rows of all STREAM tables are gathered, so that what has expired goes at once and
//! whole. Never touches the store.
//! A bucket holds rows of one class of TTLs and one window of time; the window says when the last of them has expired.
//! Few classes with few windows each: a bucket is a keyspace, with memory and files of its own.
//! Start at [`BucketId::of`] and [`plan`].

use std::collections::BTreeSet;

use crate::model::Seq;

/// Each class: how long its windows are, and its longest TTL, in seconds. At most nine buckets of one class are there.
const CLASSES: [(i64, i64); 6] = [
    (60, 300),
    (600, 3_600),
    (4 * 3_600, 86_400),
    (3 * 86_400, 21 * 86_400),
    (60 * 86_400, 360 * 86_400),
    (730 * 86_400, 3_650 * 86_400),
];

/// A window's bucket is made this long before the window begins.
const LEAD_MS: i64 = 60_000;

/// A class of TTLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TtlClass(u8);

/// One bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketId {
    class: TtlClass,
    /// Counted from the Unix epoch.
    window: i64,
}

/// What is to be done with buckets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BucketPlan {
    pub make: Vec<BucketId>,
    pub drop: Vec<BucketId>,
}

impl TtlClass {
    pub fn of(ttl_seconds: u64) -> Self {
        let ttl = i64::try_from(ttl_seconds).unwrap_or(i64::MAX);
        let nth = CLASSES.iter().position(|(_, longest)| ttl <= *longest).unwrap_or(CLASSES.len() - 1);
        // Six of them.
        Self(nth as u8)
    }

    fn window_ms(self) -> i64 {
        CLASSES[usize::from(self.0)].0 * 1_000
    }

    fn longest_ms(self) -> i64 {
        CLASSES[usize::from(self.0)].1 * 1_000
    }

    /// No row of this class was in a bucket that was dropped by `dropped_ms` and has a greater position.
    pub fn dropped_up_to(self, dropped_ms: i64) -> Seq {
        Seq::first_at(dropped_ms.saturating_sub(self.longest_ms()))
    }

    /// The window in which a moment lies.
    fn at(self, ms: i64) -> BucketId {
        BucketId { class: self, window: ms.max(0) / self.window_ms() }
    }
}

impl BucketId {
    /// For the rows of a statement whose last position is `last`, where what had expired by `gone_ms` has been dropped: a
    /// window of before is not made again. Rows of one class lie in buckets in the order of their positions.
    pub fn of(class: TtlClass, last: Seq, gone_ms: i64) -> Self {
        let oldest = class.at(gone_ms.saturating_sub(class.longest_ms()));
        class.at(last.unix_ms()).max(oldest)
    }

    pub fn class(self) -> TtlClass {
        self.class
    }

    /// No row in it has a greater position, unless the clock had stepped back.
    pub fn end(self) -> Seq {
        Seq::first_at(self.end_ms()).before()
    }

    fn end_ms(self) -> i64 {
        (self.window + 1).saturating_mul(self.class.window_ms())
    }

    /// From when on every row in it is expired.
    pub fn expires_at_ms(self) -> i64 {
        self.end_ms().saturating_add(self.class.longest_ms())
    }

    /// `stream-<class>-<window>`.
    pub fn name(self) -> String {
        format!("stream-{}-{}", self.class.0, self.window)
    }

    pub fn parse(name: &str) -> Option<Self> {
        let (class, window) = name.strip_prefix("stream-")?.split_once('-')?;
        let (class, window): (u8, i64) = (class.parse().ok()?, window.parse().ok()?);
        let known = usize::from(class) < CLASSES.len() && (0..=i64::MAX / (CLASSES[5].0 * 1_000) - 1).contains(&window);
        let id = Self { class: TtlClass(class), window };
        (known && id.name() == name).then_some(id)
    }
}

/// What is to be done at `now_ms` where the tables' TTLs are of these classes.
pub fn plan(now_ms: i64, classes: &BTreeSet<TtlClass>, there: &BTreeSet<BucketId>) -> BucketPlan {
    let wanted = classes.iter().flat_map(|class| [class.at(now_ms), class.at(now_ms.saturating_add(LEAD_MS))]);
    let make: BTreeSet<BucketId> = wanted.filter(|id| !there.contains(id)).collect();
    let drop = there.iter().filter(|id| id.expires_at_ms() <= now_ms).copied();
    BucketPlan { make: make.into_iter().collect(), drop: drop.collect() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::seq::SEQ_EPOCH_MS;
    use crate::model::{SeqGenerator, StreamTtl};

    fn classes(ttls: &[u64]) -> BTreeSet<TtlClass> {
        ttls.iter().map(|ttl| TtlClass::of(*ttl)).collect()
    }

    #[test]
    fn names_come_back() {
        for (class, (window, _)) in CLASSES.iter().enumerate() {
            for window in [0, 1, 1_700_000_000 / window] {
                let id = BucketId { class: TtlClass(class as u8), window };
                assert_eq!(BucketId::parse(&id.name()), Some(id));
            }
        }
        for name in
            ["rows", "stream-", "stream-6-1", "stream-0-", "stream-0--1", "stream-0-01", "stream-x-1", "stream-0-1-2"]
        {
            assert_eq!(BucketId::parse(name), None, "{name}");
        }
        assert_eq!(BucketId::parse(&format!("stream-5-{}", i64::MAX)), None, "no window is so late");
    }

    #[test]
    fn ttls_fall_into_few_classes() {
        let cases = [(1, 0), (300, 0), (301, 1), (3_600, 1), (86_400, 2), (86_401, 3), (315_360_000, 5), (u64::MAX, 5)];
        for (ttl, class) in cases {
            assert_eq!(TtlClass::of(ttl), TtlClass(class), "{ttl}");
        }
        assert_eq!(crate::model::schema::stream_ttl::TTL_SECONDS_MAX as i64, CLASSES[5].1, "every TTL is in a class");
        for (window, longest) in CLASSES {
            assert!(longest / window + 2 <= 9, "few windows: {window} {longest}");
        }
    }

    #[test]
    fn a_plan_makes_what_comes_and_drops_what_has_gone() {
        let minute = 60_000;
        let start = 1_800_000_000_000 / (10 * minute) * (10 * minute);
        let of = |class: u8, ms: i64| TtlClass(class).at(ms);
        let there: BTreeSet<BucketId> = BTreeSet::new();
        let first = plan(start, &classes(&[10]), &there);
        assert_eq!(first.make, [of(0, start), of(0, start + minute)]);
        let there = first.make.iter().copied().collect();
        assert_eq!(plan(start + minute - 1, &classes(&[10]), &there), BucketPlan::default());
        let more = plan(start + minute - 1, &classes(&[10, 600]), &there);
        assert_eq!(more.make, [of(1, start)], "the next window of ten minutes is far");
        assert_eq!(plan(start + 9 * minute, &classes(&[600]), &there).make, [of(1, start), of(1, start + 10 * minute)]);
        // The window's own minute, and five more.
        assert!(plan(start + 6 * minute - 1, &classes(&[]), &there).drop.is_empty());
        assert_eq!(plan(start + 6 * minute, &classes(&[]), &there).drop, [of(0, start)]);
        assert_eq!(
            plan(start + 7 * minute, &classes(&[]), &there).drop.len(),
            2,
            "whether tables use the class or not"
        );
        assert!(plan(0, &classes(&[]), &there).drop.is_empty(), "the clock stepped back");
    }

    proptest! {
        /// Whatever the clock does: rows lie in the order of their positions, none goes before it has expired, and what
        /// went is not made again.
        #[test]
        fn nothing_goes_too_early_and_order_is_kept(
            ttl in 1u64..4_000,
            steps in proptest::collection::vec(-90_000i64..400_000, 1..200),
        ) {
            let class = TtlClass::of(ttl);
            let rule = StreamTtl::new(ttl);
            let mut generator = SeqGenerator::new(1, Seq::ZERO);
            let (mut clock, mut now, mut gone) = (SEQ_EPOCH_MS + 9_000_000, 0, 0);
            let mut there = BTreeSet::new();
            let mut dropped = BTreeSet::new();
            let mut rows: Vec<(Seq, BucketId)> = Vec::new();
            for step in steps {
                clock += step;
                now = now.max(clock);
                let made = plan(now, &BTreeSet::from([class]), &there);
                if !made.drop.is_empty() {
                    gone = now;
                }
                for id in &made.drop {
                    let up_to = rule.expired_up_to(now);
                    prop_assert!(rows.iter().all(|(seq, at)| at != id || *seq <= up_to), "{} went with rows", id.name());
                    there.remove(id);
                    dropped.insert(*id);
                }
                prop_assert!(made.make.iter().all(|id| !dropped.contains(id)));
                there.extend(made.make);
                let seq = generator.next(now);
                let id = BucketId::of(class, seq, gone);
                prop_assert!(!dropped.contains(&id), "{} is made again", id.name());
                prop_assert!(rows.last().is_none_or(|(_, before)| *before <= id));
                prop_assert!(seq <= id.end());
                there.insert(id);
                rows.push((seq, id));
                prop_assert!(there.len() <= 10, "{}", there.len());
            }
        }
    }
}
