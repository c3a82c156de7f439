//! Which tombstones have expired, and which segments are worth writing anew for them.
//!
//! Owns those decisions alone: `now` and positions come in, yes or no goes out. A tombstone's age is told by its position.
//! It is never gone before its retention has passed. From a segment it goes when all that is in the segment is so old, or
//! it is twice so old itself: otherwise a segment would be written anew for each tombstone that comes of age in it.

use crate::model::Seq;

const HOUR_MS: i64 = 60 * 60 * 1_000;

/// How old tombstones may get, and what time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    now_ms: i64,
    kept_ms: i64,
}

impl Retention {
    /// `hours` 0: they go at once.
    pub fn new(now_ms: i64, hours: u32) -> Self {
        Self { now_ms, kept_ms: i64::from(hours) * HOUR_MS }
    }

    /// Is a change at this position as old as tombstones may get? [`Seq::ZERO`] is none.
    pub fn has_passed(&self, seq: Seq) -> bool {
        self.is_older(seq, self.kept_ms)
    }

    /// Is a segment with this oldest tombstone, whose last row has this position, worth writing anew for its tombstones?
    pub fn cleans(&self, oldest: Seq, last: Seq) -> bool {
        self.has_passed(oldest) && (self.has_passed(last) || self.is_older(oldest, self.kept_ms * 2))
    }

    fn is_older(&self, seq: Seq, ms: i64) -> bool {
        // A position that was given under a clock that ran ahead is not of age until the clock is there.
        seq != Seq::ZERO && self.now_ms.saturating_sub(seq.unix_ms()) >= ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SeqGenerator;

    const NOW: i64 = 1_800_000_000_000;

    /// A position of so many milliseconds ago.
    fn ago(ms: i64) -> Seq {
        SeqGenerator::new(0, Seq::ZERO).next(NOW - ms)
    }

    #[test]
    fn what_has_expired() {
        let cases = [
            // hours, age of the tombstone in milliseconds, expired
            (1, HOUR_MS - 1, false),
            (1, HOUR_MS, true),
            (168, 167 * HOUR_MS, false),
            (168, 168 * HOUR_MS, true),
            (0, 0, true),
            (0, -5, false),
            (876_600, 2 * 8_766 * HOUR_MS, false),
        ];
        for (hours, age, expired) in cases {
            assert_eq!(Retention::new(NOW, hours).has_passed(ago(age)), expired, "{hours} h, {age} ms");
        }
        assert!(!Retention::new(NOW, 0).has_passed(Seq::ZERO), "there is none");
    }

    #[test]
    fn which_segments_are_cleaned() {
        let cases = [
            // hours, ages in hours of the oldest tombstone and of the last row, cleaned
            (10, 9, 1, false),
            (10, 15, 1, false),
            (10, 15, 10, true),
            (10, 20, 1, true),
            (0, 0, 0, true),
        ];
        for (hours, oldest, last, cleaned) in cases {
            let retention = Retention::new(NOW, hours);
            let (oldest, last) = (ago(oldest * HOUR_MS), ago(last * HOUR_MS));
            assert_eq!(retention.cleans(oldest, last), cleaned, "{retention:?} {oldest} {last}");
        }
        assert!(!Retention::new(NOW, 0).cleans(Seq::ZERO, ago(1)), "it has no tombstone");
    }
}
