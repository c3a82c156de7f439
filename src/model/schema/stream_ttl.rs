//! How long rows of a STREAM table live, also after that was altered.
//!
//! Owns which positions are expired at a moment: all up to one, so a reader seeks past them and filters nothing. Never reads a
//! clock: the moment is given.
//! A row lives as long as the table's TTL was when it was written, or as long as a later, shorter one says: a longer TTL
//! is for new rows, a shorter one for all.

use serde::{Deserialize, Serialize};

use crate::model::Seq;

/// The longest TTL: ten years.
pub const TTL_SECONDS_MAX: u64 = 3_650 * 86_400;

/// Changes of the TTL that rows which are still there may depend on.
const EARLIER_MAX: usize = 16;

/// The TTL of a STREAM table, and those before that rows may still have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamTtl {
    seconds: u64,
    /// Up to here everything had expired when the TTL was changed last: no later TTL brings it back.
    #[serde(default)]
    gone: Seq,
    /// The oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<EarlierTtl>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct EarlierTtl {
    /// The last position that was given while it held.
    until: Seq,
    /// The TTL that rows were written with: it says where they lie.
    written: u64,
    /// The shortest TTL since: `written`, or a later one.
    keeps: u64,
}

/// A stretch of a table's positions whose rows were written with one TTL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TtlEra {
    pub first: Seq,
    pub last: Seq,
    pub seconds: u64,
}

impl StreamTtl {
    pub fn new(seconds: u64) -> Self {
        Self { seconds, gone: Seq::ZERO, earlier: Vec::new() }
    }

    /// Of rows that are written now.
    pub fn seconds(&self) -> u64 {
        self.seconds
    }

    /// Up to here rows may have been written with TTLs that are not remembered: they are expired.
    pub fn forgotten_up_to(&self) -> Seq {
        self.gone
    }

    /// The last position whose row is expired; all before it are as well.
    pub fn expired_up_to(&self, now_ms: i64) -> Seq {
        let earlier = self.earlier.iter().map(|era| cut(now_ms, era.keeps).min(era.until));
        earlier.chain([cut(now_ms, self.seconds)]).max().unwrap_or(Seq::ZERO).max(self.gone)
    }

    /// The TTL behind a change to `seconds`, where the table's last position was `head`. `None` where too many changes
    /// are in effect.
    pub fn changed(&self, seconds: u64, head: Seq, now_ms: i64) -> Option<Self> {
        let latest = EarlierTtl { until: head, written: self.seconds, keeps: self.seconds };
        let gone = self.expired_up_to(now_ms).min(head).max(self.gone);
        let eras = self.earlier.iter().copied().chain([latest]).filter(|era| era.until > gone);
        let earlier: Vec<EarlierTtl> = eras.map(|era| EarlierTtl { keeps: era.keeps.min(seconds), ..era }).collect();
        (earlier.len() <= EARLIER_MAX).then_some(Self { seconds, gone, earlier })
    }

    /// The table's positions by the TTL that their rows were written with, the oldest first.
    pub fn eras(&self) -> impl DoubleEndedIterator<Item = TtlEra> + '_ {
        (0..=self.earlier.len()).map(|nth| {
            let first = nth.checked_sub(1).map_or(Seq::ZERO, |before| self.earlier[before].until.after());
            match self.earlier.get(nth) {
                Some(era) => TtlEra { first, last: era.until, seconds: era.written },
                None => TtlEra { first, last: Seq::MAX, seconds: self.seconds },
            }
        })
    }
}

/// The last position of the milliseconds that lie this many seconds back.
fn cut(now_ms: i64, seconds: u64) -> Seq {
    let ago = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000);
    Seq::first_at(now_ms.saturating_sub(ago).saturating_add(1)).before()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::seq::SEQ_EPOCH_MS;

    fn at(ms: i64) -> Seq {
        Seq::first_at(SEQ_EPOCH_MS + ms)
    }

    #[test]
    fn a_row_is_there_until_its_ttl_has_passed() {
        let ttl = StreamTtl::new(10);
        // milliseconds of the row, of now, expired?
        for (row, now, expired) in [(5_000, 14_999, false), (5_000, 15_000, true), (5_000, 15_001, true)] {
            assert_eq!(at(row) <= ttl.expired_up_to(SEQ_EPOCH_MS + now), expired, "{row} at {now}");
        }
        let later_in_that_millisecond = Seq::new(at(5_000).get() + 7).unwrap();
        assert!(later_in_that_millisecond <= ttl.expired_up_to(SEQ_EPOCH_MS + 15_000));
        assert_eq!(ttl.expired_up_to(0), Seq::ZERO, "before the epoch");
    }

    #[test]
    fn a_longer_ttl_is_for_new_rows_and_a_shorter_one_for_all() {
        let longer = StreamTtl::new(10).changed(100, at(20_000), SEQ_EPOCH_MS + 20_000).unwrap();
        let up_to = |ttl: &StreamTtl, now: i64| ttl.expired_up_to(SEQ_EPOCH_MS + now);
        assert!(at(15_000) > up_to(&longer, 24_999) && at(15_000) <= up_to(&longer, 25_000), "as it was written");
        assert_eq!(up_to(&longer, 40_000), at(20_000), "all of the old ones, none of the new ones");
        assert!(at(20_001) > up_to(&longer, 120_000) && at(20_001) <= up_to(&longer, 120_001));
        let shorter = longer.changed(5, at(30_000), SEQ_EPOCH_MS + 30_000).unwrap();
        assert!(at(26_000) > up_to(&shorter, 30_999) && at(26_000) <= up_to(&shorter, 31_000));
        let eras: Vec<(Seq, Seq, u64)> = shorter.eras().map(|era| (era.first, era.last, era.seconds)).collect();
        let expected = [(Seq::ZERO, at(30_000), 100), (at(30_000).after(), Seq::MAX, 5)];
        assert_eq!(eras, expected, "what was written with ten seconds is gone by then");
    }

    #[test]
    fn changes_are_remembered_while_rows_depend_on_them() {
        let mut ttl = StreamTtl::new(1_000);
        for n in 1..=16 {
            ttl = ttl.changed(1_000 + n, at(n as i64), SEQ_EPOCH_MS + n as i64).unwrap();
        }
        assert_eq!(ttl.changed(5_000, at(17), SEQ_EPOCH_MS + 17), None);
        let later = SEQ_EPOCH_MS + 2_000_000;
        assert_eq!(ttl.changed(5_000, at(17), later).unwrap().eras().count(), 1, "they are gone");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Row,
        Pass(i64),
        Alter(u64),
    }

    proptest! {
        /// Whatever is altered when: a row is expired if and only if it is not above the one position.
        #[test]
        fn one_position_parts_what_is_expired(
            steps in proptest::collection::vec(
                prop_oneof![
                    3 => Just(Step::Row),
                    3 => (1i64..9_000).prop_map(Step::Pass),
                    1 => (1u64..20).prop_map(Step::Alter),
                ],
                0..60,
            ),
        ) {
            let mut now = SEQ_EPOCH_MS + 100_000;
            let mut ttl = StreamTtl::new(5);
            // position, the shortest TTL since it was written
            let mut rows: Vec<(Seq, u64)> = Vec::new();
            let mut last = Seq::ZERO;
            for step in steps {
                match step {
                    Step::Row => {
                        last = Seq::first_at(now).max(last.next());
                        rows.push((last, ttl.seconds()));
                    }
                    Step::Pass(ms) => now += ms,
                    Step::Alter(seconds) => if let Some(changed) = ttl.changed(seconds, last, now) {
                        // What expired before does not come back.
                        let gone = ttl.expired_up_to(now);
                        ttl = changed;
                        prop_assert!(ttl.expired_up_to(now) >= gone.min(last));
                        rows.iter_mut().for_each(|(_, keeps)| *keeps = (*keeps).min(seconds));
                    }
                }
                let up_to = ttl.expired_up_to(now);
                for (seq, keeps) in &rows {
                    let expired = seq.unix_ms() + *keeps as i64 * 1_000 <= now;
                    prop_assert_eq!(*seq <= up_to, expired, "{} of {} at {}: {:?}", seq, keeps, now, ttl);
                }
            }
        }
    }
}
