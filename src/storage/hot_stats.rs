//! Values of the `stats` keyspace: how much of a partition is hot.
//!
//! Form: `docs/on-disk-format.md`. A hint for whoever decides what is worth flushing; never what a read relies on.

use crate::error::{Error, Result};
use crate::model::{HotStats, Seq};

pub(super) fn value(stats: &HotStats) -> [u8; 40] {
    let HotStats { rows, bytes, oldest, oldest_tombstone, cold_tombstone } = stats;
    let seqs = [oldest, oldest_tombstone, cold_tombstone].map(|seq| seq.get().to_be_bytes());
    let words = [rows.to_be_bytes(), bytes.to_be_bytes(), seqs[0], seqs[1], seqs[2]];
    let mut value = [0; 40];
    value.copy_from_slice(words.as_flattened());
    value
}

/// Those of format 3 have three numbers: tombstones were not noted.
pub(super) fn parse(value: &[u8]) -> Result<HotStats> {
    let parsed = || {
        let (words, rest) = value.as_chunks::<8>();
        let seq = |bytes: &[u8; 8]| Seq::new(i64::from_be_bytes(*bytes));
        let (rows, bytes, oldest, hot, cold) = match words {
            [rows, bytes, oldest] => (rows, bytes, oldest, &[0; 8], &[0; 8]),
            [rows, bytes, oldest, hot, cold] => (rows, bytes, oldest, hot, cold),
            _ => return None,
        };
        let stats = HotStats {
            rows: u64::from_be_bytes(*rows),
            bytes: u64::from_be_bytes(*bytes),
            oldest: seq(oldest)?,
            oldest_tombstone: seq(hot)?,
            cold_tombstone: seq(cold)?,
        };
        rest.is_empty().then_some(stats)
    };
    parsed().ok_or_else(|| Error::internal("a damaged entry of stats"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_and_damage_is_told() {
        let seq = |n| Seq::new(n).unwrap();
        let hot = HotStats { rows: 7, bytes: 1 << 40, oldest: seq(99), ..HotStats::default() };
        let stats = HotStats { oldest_tombstone: seq(100), cold_tombstone: seq(9), ..hot };
        assert_eq!(parse(&value(&stats)).unwrap(), stats);
        assert_eq!(parse(&value(&stats)[..24]).unwrap(), hot, "one of format 3");
        for damaged in [&value(&stats)[..23], &[0; 25], &[0; 32], &[0xFF; 24], &[0xFF; 40], &[0; 48], &[]] {
            assert!(parse(damaged).is_err());
        }
    }
}
