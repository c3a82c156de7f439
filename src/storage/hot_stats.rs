//! Values of the `stats` keyspace: how much of a partition is hot.
//!
//! Form: `docs/on-disk-format.md`. A hint for whoever decides what is worth flushing; never what a read relies on.

use crate::error::{Error, Result};
use crate::model::{HotStats, Seq};

pub(super) fn value(stats: &HotStats) -> [u8; 24] {
    let mut value = [0; 24];
    value[..8].copy_from_slice(&stats.rows.to_be_bytes());
    value[8..16].copy_from_slice(&stats.bytes.to_be_bytes());
    value[16..].copy_from_slice(&stats.oldest.get().to_be_bytes());
    value
}

pub(super) fn parse(value: &[u8]) -> Result<HotStats> {
    let parsed = || {
        let (words, rest) = value.as_chunks::<8>();
        let [rows, bytes, oldest] = words else { return None };
        let oldest = Seq::new(i64::from_be_bytes(*oldest))?;
        let stats = HotStats { rows: u64::from_be_bytes(*rows), bytes: u64::from_be_bytes(*bytes), oldest };
        rest.is_empty().then_some(stats)
    };
    parsed().ok_or_else(|| Error::internal("a damaged entry of stats"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_and_damage_is_told() {
        let stats = HotStats { rows: 7, bytes: 1 << 40, oldest: Seq::new(99).unwrap() };
        assert_eq!(parse(&value(&stats)).unwrap(), stats);
        for damaged in [&value(&stats)[..23], &[0; 25], &[0xFF; 24], &[]] {
            assert!(parse(damaged).is_err());
        }
    }
}
