//! How much one owner has in a STREAM table, and from which position on the oldest rows give way.
//!
//! Owns the count, in a few slices of a partition's positions, so that neither a row nor a statement costs a note. At the bound
//! the oldest slice goes, a thirty-second of the bound: whoever writes is never refused, whoever reads too late is told so.
//! Counts rows and marks of deletes; what was deleted counts until its slice goes.

use std::collections::VecDeque;

use crate::model::{QuotaNote, QuotaSlice, Seq};

/// A slice ends at this part of the bound.
const SLICES: u64 = 32;

/// What one owner may have in one table. `u64::MAX`: no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaLimits {
    pub rows: u64,
    pub bytes: u64,
}

/// The count of one partition.
#[derive(Debug)]
pub struct StreamQuota {
    limits: QuotaLimits,
    trimmed: Seq,
    closed: VecDeque<QuotaSlice>,
    open: QuotaSlice,
    /// On its way: it has no position yet.
    pending: QuotaSlice,
    /// Is there more to note than was?
    changed: bool,
}

impl StreamQuota {
    /// Goes on from what was noted; what is stored above it is to be [counted](StreamQuota::count).
    pub fn new(limits: QuotaLimits, noted: QuotaNote) -> Self {
        let (open, pending) = (QuotaSlice::default(), QuotaSlice::default());
        Self { limits, trimmed: noted.trimmed, closed: noted.slices.into(), open, pending, changed: false }
    }

    /// Counts what is stored, in order.
    pub fn count(&mut self, last: Seq, rows: u64, bytes: u64) {
        let QuotaSlice { rows: had, bytes: held, .. } = self.open;
        self.open = QuotaSlice { last, rows: had + rows, bytes: held + bytes };
        let full = |count: u64, limit: u64| count > limit / SLICES;
        if full(self.open.rows, self.limits.rows) || full(self.open.bytes, self.limits.bytes) {
            self.closed.push_back(std::mem::take(&mut self.open));
            self.changed = true;
        }
    }

    /// A statement is on its way, where everything up to `expired` has expired. What is to be noted with it.
    pub fn take(&mut self, rows: u64, bytes: u64, expired: Seq) -> Option<QuotaNote> {
        self.pending.rows += rows;
        self.pending.bytes += bytes;
        while self.closed.front().is_some_and(|slice| slice.last <= expired) {
            self.closed.pop_front();
        }
        while self.is_over()
            && let Some(oldest) = self.closed.pop_front()
        {
            self.trimmed = oldest.last;
            self.changed = true;
        }
        std::mem::take(&mut self.changed)
            .then(|| QuotaNote { trimmed: self.trimmed, slices: self.closed.iter().copied().collect() })
    }

    /// What was on its way is stored.
    pub fn settle(&mut self, last: Seq, rows: u64, bytes: u64) {
        self.pending.rows = self.pending.rows.saturating_sub(rows);
        self.pending.bytes = self.pending.bytes.saturating_sub(bytes);
        self.count(last, rows, bytes);
    }

    fn is_over(&self) -> bool {
        let all = || self.closed.iter().chain([&self.open, &self.pending]);
        all().map(|slice| slice.rows).sum::<u64>() > self.limits.rows
            || all().map(|slice| slice.bytes).sum::<u64>() > self.limits.bytes
    }

    /// Rows up to here have given way.
    pub fn trimmed(&self) -> Seq {
        self.trimmed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seq(n: u64) -> Seq {
        Seq::new(n as i64).unwrap()
    }

    #[test]
    fn the_oldest_give_way() {
        let mut quota = StreamQuota::new(QuotaLimits { rows: 64, bytes: u64::MAX }, QuotaNote::default());
        let mut notes = Vec::new();
        for n in 1..=70 {
            notes.extend(quota.take(1, 10, Seq::ZERO));
            quota.settle(seq(n), 1, 10);
        }
        assert_eq!(quota.trimmed(), seq(6), "two slices of three");
        let last = notes.last().unwrap();
        assert_eq!((last.trimmed, last.slices.len(), last.counted_up_to()), (seq(6), 21, seq(69)));
        assert!(notes.len() <= 26, "not with each statement: {}", notes.len());
        let mut after = StreamQuota::new(QuotaLimits { rows: 64, bytes: u64::MAX }, last.clone());
        after.count(seq(70), 1, 10);
        assert_eq!(after.take(1, 10, Seq::ZERO).unwrap().trimmed, seq(9), "it goes on");
        assert_eq!(after.take(1, 10, seq(69)), None, "all of it has expired");
        assert_eq!(after.closed.len(), 0);
    }

    #[test]
    fn one_statement_is_never_refused_however_large() {
        let mut quota = StreamQuota::new(QuotaLimits { rows: 10, bytes: 100 }, QuotaNote::default());
        assert_eq!(quota.take(1_000, 1_000_000, Seq::ZERO), None);
        quota.settle(seq(1_000), 1_000, 1_000_000);
        assert_eq!(quota.take(1, 1, Seq::ZERO).unwrap().trimmed, seq(1_000));
    }

    proptest! {
        /// What is left is within the bound but for the newest statement, and not less than it has to be by more than a
        /// slice and a statement; a restart in between changes nothing of that.
        #[test]
        fn what_is_left_is_near_the_bound(
            statements in proptest::collection::vec((1u64..20, proptest::bool::weighted(0.05)), 1..300),
        ) {
            let limits = QuotaLimits { rows: 100, bytes: 2_000 };
            let mut quota = StreamQuota::new(limits, QuotaNote::default());
            let mut noted = QuotaNote::default();
            let mut rows: Vec<(Seq, u64)> = Vec::new();
            for (nth, (count, restarts)) in (1u64..).zip(statements) {
                if restarts {
                    quota = StreamQuota::new(limits, noted.clone());
                    rows.iter().filter(|(at, _)| *at > noted.counted_up_to()).for_each(|(at, n)| quota.count(*at, *n, n * 10));
                }
                let before = quota.trimmed();
                noted = quota.take(count, count * 10, Seq::ZERO).unwrap_or(noted);
                prop_assert!(quota.trimmed() >= before || restarts);
                rows.push((seq(nth), count));
                quota.settle(seq(nth), count, count * 10);
                let left: u64 = rows.iter().filter(|(at, _)| *at > quota.trimmed()).map(|(_, n)| n).sum();
                prop_assert!(left <= 100 + count, "{left}");
                let all: u64 = rows.iter().map(|(_, n)| n).sum();
                prop_assert!(left >= all.min(100).saturating_sub(3 + 2 * 20), "{left} of {all}");
            }
        }
    }
}
