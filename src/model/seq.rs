//! `_seq`: the order of a table's changes.
//!
//! Owns the snowflake layout and the rule that a generator never repeats and never goes back.
//! Invariants: PT-1 (strictly increasing per table, over restarts and when the clock steps back).

use std::fmt;

use serde::{Deserialize, Serialize};

/// 2024-01-01T00:00:00Z in milliseconds since the Unix epoch: where the 41 bits of a [`Seq`] begin to count.
pub const SEQ_EPOCH_MS: i64 = 1_704_067_200_000;

const COUNTER_BITS: u32 = 12;
const NODE_BITS: u32 = 10;
const COUNTER_MAX: i64 = (1 << COUNTER_BITS) - 1;
const NODE_MAX: i64 = (1 << NODE_BITS) - 1;

/// A position in a table's order: 41 bits of milliseconds since [`SEQ_EPOCH_MS`], 10 bits of node, 12 bits of counter.
///
/// Never negative, so its big-endian bytes sort as it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(i64);

impl Seq {
    /// Before every change.
    pub const ZERO: Seq = Seq(0);
    pub const MAX: Seq = Seq(i64::MAX);

    /// `None` when `raw` is negative.
    pub fn new(raw: i64) -> Option<Seq> {
        (raw >= 0).then_some(Seq(raw))
    }

    pub fn get(self) -> i64 {
        self.0
    }

    /// The next position in the same table: counter first, then the next millisecond, never into the node's bits.
    pub fn next(self) -> Seq {
        if self.0 & COUNTER_MAX < COUNTER_MAX {
            return Seq(self.0 + 1);
        }
        let ms = (self.0 >> (COUNTER_BITS + NODE_BITS)) + 1;
        let node = (self.0 >> COUNTER_BITS) & NODE_MAX;
        Seq((ms << (COUNTER_BITS + NODE_BITS)) | (node << COUNTER_BITS))
    }

    /// The smallest position strictly above this one, whatever its node: where a scan "after" this one starts.
    pub fn after(self) -> Seq {
        Seq(self.0.saturating_add(1))
    }

    /// The greatest position below this one; that of [`Seq::ZERO`] is itself.
    pub fn before(self) -> Seq {
        Seq((self.0 - 1).max(0))
    }

    /// The lower of the two, where [`Seq::ZERO`] is none.
    pub fn earlier(self, other: Seq) -> Seq {
        match (self, other) {
            (Seq::ZERO, only) | (only, Seq::ZERO) => only,
            (one, other) => one.min(other),
        }
    }

    /// The smallest position of a millisecond since the Unix epoch, whatever its node.
    pub fn first_at(unix_ms: i64) -> Seq {
        let ms = (unix_ms.saturating_sub(SEQ_EPOCH_MS)).clamp(0, i64::MAX >> (COUNTER_BITS + NODE_BITS));
        Seq(ms << (COUNTER_BITS + NODE_BITS))
    }

    /// Milliseconds since the Unix epoch at which this position was given (or later, after a burst or a clock step).
    pub fn unix_ms(self) -> i64 {
        (self.0 >> (COUNTER_BITS + NODE_BITS)) + SEQ_EPOCH_MS
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Positions `first..=last`, both given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeqRange {
    pub first: Seq,
    pub last: Seq,
}

/// Gives out positions of one table (or ids, for `SNOWFLAKE_ID()`).
#[derive(Debug, Clone)]
pub struct SeqGenerator {
    node: i64,
    last: Seq,
}

impl SeqGenerator {
    /// `last` is the highest position ever given out: what recovery found, or [`Seq::ZERO`]. `node` is cut to 10 bits.
    pub fn new(node: u16, last: Seq) -> Self {
        Self { node: i64::from(node) & NODE_MAX, last }
    }

    pub fn last(&self) -> Seq {
        self.last
    }

    /// The next position at `now_ms` (milliseconds since the Unix epoch).
    pub fn next(&mut self, now_ms: i64) -> Seq {
        let ms = (now_ms - SEQ_EPOCH_MS).max(0);
        let from_clock = Seq((ms << (COUNTER_BITS + NODE_BITS)) | (self.node << COUNTER_BITS));
        // A clock that stands still or steps back never takes the order with it.
        self.last = if from_clock > self.last { from_clock } else { self.last.next() };
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn increases_when_the_clock_stands_or_steps_back() {
        let mut generator = SeqGenerator::new(3, Seq::ZERO);
        let now = SEQ_EPOCH_MS + 1_000;
        let mut last = generator.next(now);
        for i in 0..10_000 {
            let next = generator.next(now - i % 7);
            assert!(next > last, "{next} after {last}");
            assert_eq!((next.get() >> COUNTER_BITS) & NODE_MAX, 3, "the counter must not run into the node");
            last = next;
        }
    }

    #[test]
    fn continues_above_what_recovery_found() {
        let found = Seq::new(900 << 22).unwrap();
        let mut generator = SeqGenerator::new(0, found);
        assert!(generator.next(SEQ_EPOCH_MS) > found);
    }

    #[test]
    fn tells_its_time() {
        let now = SEQ_EPOCH_MS + 123_456;
        assert_eq!(SeqGenerator::new(1, Seq::ZERO).next(now).unix_ms(), now);
    }
}
