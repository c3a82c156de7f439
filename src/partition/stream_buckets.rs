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
