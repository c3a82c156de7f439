//! Which of a partition's segments are worth merging.
//!
//! Owns that decision alone: what the manifest says of segments comes in, runs of adjacent ones go out. Only neighbours
//! are merged, so ranges of positions stay disjoint and ascending.

use std::ops::Range;

/// What counts of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSize {
    pub rows: u32,
    pub bytes: u64,
    /// Of the rows, those that were replaced or deleted.
    pub deleted: u32,
    /// Is it worth writing anew for its tombstones?
    pub expired: bool,
}

impl SegmentSize {
    fn live_rows(&self) -> u64 {
        u64::from(self.rows.saturating_sub(self.deleted))
    }

    /// About how large its live rows are alone.
    fn live_bytes(&self) -> u64 {
        self.bytes * self.live_rows() / u64::from(self.rows.max(1))
    }
}

/// A segment that has reached this is not merged with others.
const FULL_ROWS: u64 = 1 << 20;
const FULL_BYTES: u64 = 128 << 20;

/// By itself, neighbours of like size are merged when there are so many: each row is rewritten once for each tenfold
/// growth.
const NEIGHBOURS: usize = 8;

/// Segments to merge into one, as a range of `segments`: the first that is found. `forced`: whatever can be merged or
/// cleaned; otherwise what is worth it.
pub fn next_merge(segments: &[SegmentSize], forced: bool) -> Option<Range<usize>> {
    let mut start = 0;
    while start < segments.len() {
        let run = run_from(segments, start, forced);
        let cleans = |segment: &SegmentSize| match forced {
            true => segment.deleted > 0 || segment.expired,
            false => segment.deleted > segment.rows / 3 || segment.expired,
        };
        let least = if forced { 2 } else { NEIGHBOURS };
        if run.len() >= least {
            return Some(run);
        }
        if cleans(&segments[start]) {
            return Some(start..start + 1);
        }
        start += 1;
    }
    None
}

/// The longest run of neighbours from `start` on that fit into one segment; by itself, only of those that are about
/// as large as the run's others: otherwise the large ones would be rewritten with every few small ones.
fn run_from(segments: &[SegmentSize], start: usize, forced: bool) -> Range<usize> {
    let (mut rows, mut bytes) = (0, 0);
    let mut end = start;
    for segment in &segments[start..] {
        let usual = bytes / ((end - start) as u64).max(1);
        let alike = forced || end == start || segment.live_bytes() / 4 <= usual && usual / 4 <= segment.live_bytes();
        rows += segment.live_rows();
        bytes += segment.live_bytes();
        if !alike || rows > FULL_ROWS || bytes > FULL_BYTES {
            break;
        }
        end += 1;
    }
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(rows: &[(u32, u32)]) -> Vec<SegmentSize> {
        rows.iter()
            .map(|(rows, deleted)| SegmentSize {
                rows: *rows,
                bytes: u64::from(*rows) * 100,
                deleted: *deleted,
                expired: false,
            })
            .collect()
    }

    #[test]
    fn what_is_merged() {
        let small = (1_000, 0);
        let large = (1 << 20, 0);
        /// Rows and deleted rows of each segment, forced, what is merged.
        type Case = (Vec<(u32, u32)>, bool, Option<Range<usize>>);
        let cases: Vec<Case> = vec![
            (vec![], true, None),
            (vec![small], true, None),
            (vec![small; 7], false, None),
            (vec![small; 8], false, Some(0..8)),
            (vec![small; 3], true, Some(0..3)),
            (vec![large, small, small], true, Some(1..3)),
            (vec![large; 9], true, None),
            (vec![large; 9], false, None),
            (vec![(1_000, 300)], false, None),
            (vec![(1_000, 400)], false, Some(0..1)),
            (vec![(1_000, 1)], true, Some(0..1)),
            (vec![(1_000, 1_000)], false, Some(0..1)),
            // One that is much larger is not of a run, before the others or behind them.
            ([vec![small; 5], vec![(500_000, 0)], vec![small; 5]].concat(), false, None),
            ([vec![(500_000, 0)], vec![small; 8]].concat(), false, Some(1..9)),
        ];
        for (segments, forced, expected) in cases {
            assert_eq!(next_merge(&sizes(&segments), forced), expected, "{segments:?}, forced: {forced}");
        }
    }

    #[test]
    fn a_segment_whose_tombstones_have_expired_is_cleaned() {
        let mut segments = sizes(&[(1_000, 0), (1 << 20, 0), (1_000, 0)]);
        assert_eq!([true, false].map(|forced| next_merge(&segments, forced)), [None, None]);
        segments[1].expired = true;
        assert_eq!([true, false].map(|forced| next_merge(&segments, forced)), [Some(1..2), Some(1..2)]);
    }

    /// Flushes of like size, compacted after each: few segments are left, and a row is rewritten a few times.
    #[test]
    fn segments_stay_few_and_rows_are_seldom_rewritten() {
        let mut segments = Vec::new();
        let mut written = 0u64;
        for _ in 0..2_000 {
            segments.push(SegmentSize { rows: 1_000, bytes: 100_000, deleted: 0, expired: false });
            while let Some(run) = next_merge(&segments, false) {
                let merged = &segments[run.clone()];
                let rows: u32 = merged.iter().map(|segment| segment.rows).sum();
                let bytes = merged.iter().map(|segment| segment.bytes).sum();
                written += u64::from(rows);
                segments.splice(run, [SegmentSize { rows, bytes, deleted: 0, expired: false }]);
            }
        }
        assert!(segments.len() < 30, "{segments:?}");
        assert!(written < 5 * 2_000_000, "{written} rows rewritten");
    }
}
