//! How much of a partition is hot, counted as its writes go by.
//!
//! Owns when the count is worth noting: a put a statement would be a price for what only a flush wants to know, about.
//! So what is noted lags by an eighth at most; a restart goes on from there.

use crate::model::{Change, HotStats, Seq};

#[derive(Debug, Clone, Copy, Default)]
pub struct HotCount {
    now: HotStats,
    noted: HotStats,
}

impl HotCount {
    /// Goes on from what was noted.
    pub fn new(noted: HotStats) -> Self {
        Self { now: noted, noted }
    }

    pub fn now(&self) -> HotStats {
        self.now
    }

    /// Counts a statement's changes to what lies above a position; answers with what is to be noted with them.
    pub fn count(&mut self, changes: &[Change], above: Seq) -> Option<HotStats> {
        let mut first_tombstone = false;
        for Change { row, replaces, deletes, .. } in changes {
            if *deletes && self.now.oldest_tombstone == Seq::ZERO {
                self.now.oldest_tombstone = Seq::MAX;
                first_tombstone = true;
            }
            self.now.rows += 1;
            self.now.bytes += row.0.len() as u64;
            if let Some(old) = replaces.as_ref().filter(|old| old.seq > above) {
                self.now.rows = self.now.rows.saturating_sub(1);
                self.now.bytes = self.now.bytes.saturating_sub(old.row.0.len() as u64);
            }
        }
        let far = |now: u64, noted: u64| now.abs_diff(noted) > noted / 8;
        // The first tombstone tells when to look for ones that have expired.
        let worth = first_tombstone || far(self.now.rows, self.noted.rows) || far(self.now.bytes, self.noted.bytes);
        worth.then(|| {
            self.noted = self.now;
            self.now
        })
    }

    /// The first of what is hot is committed at `first`.
    pub fn began(&mut self, first: Seq) {
        self.now = self.now.begun(first);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::{PkBytes, RowBytes, RowPlace, StoredRow};

    fn change(bytes: usize, replaces: Option<i64>) -> Change {
        let row = RowBytes(Bytes::from(vec![0; bytes]));
        let old = |seq| {
            let seq = Seq::new(seq).unwrap();
            StoredRow { seq, created: seq, deleted: false, row: row.clone(), place: RowPlace::Own }
        };
        Change { pk: PkBytes(Bytes::new()), replaces: replaces.map(old), row: row.clone(), deletes: false }
    }

    #[test]
    fn the_first_tombstone_is_noted_at_once() {
        let mut count = HotCount::default();
        for _ in 0..100 {
            count.count(&[change(10, None)], Seq::ZERO);
        }
        let delete = [Change { deletes: true, ..change(10, Some(1)) }];
        let first = Seq::new(7).unwrap();
        let noted = count.count(&delete, Seq::ZERO).unwrap();
        assert_eq!((noted.oldest_tombstone, noted.begun(first).oldest_tombstone), (Seq::MAX, first));
        assert_eq!(count.count(&delete, Seq::ZERO), None, "the next ones are not older");
        count.began(first);
        count.began(Seq::new(8).unwrap());
        assert_eq!(count.now().oldest_tombstone, first);
    }

    #[test]
    fn hot_versions_are_counted_and_noted_now_and_then() {
        let mut count = HotCount::default();
        let flushed = Seq::new(7).unwrap();
        let mut notes = 0;
        for i in 1..=1_000u64 {
            notes += u64::from(count.count(&[change(10, None)], flushed).is_some());
            assert!(count.now().rows == i && count.noted.rows >= i - i / 8 - 1, "{count:?}");
        }
        assert!((30..60).contains(&notes), "{notes}");
        count.count(&[change(10, Some(8)), change(10, Some(7))], flushed);
        assert_eq!((count.now().rows, count.now().bytes), (1_001, 10_010), "an update of a cold row makes a hot one");
    }
}
