//! Which partitions are worth flushing.
//!
//! Owns that decision alone: what is noted of a partition's hot rows comes in, yes or no goes out.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::FlushConfig;
use crate::model::{FlushPolicy, HotStats};

/// Enough for a file whatever the number of rows.
const WORTH_BYTES: u64 = 4 << 20;

/// Is a partition of a table with this policy to be flushed now?
pub fn is_due(stats: &HotStats, policy: &FlushPolicy, config: &FlushConfig, now_ms: i64) -> bool {
    if stats.rows == 0 {
        return false;
    }
    let rows = policy.rows.map_or(config.default_row_limit, u64::from);
    if stats.rows >= rows || stats.bytes >= config.default_byte_limit.as_u64() {
        return true;
    }
    let interval = policy.interval_s.map_or(config.default_time_interval, |s| Duration::from_secs(u64::from(s)));
    let age_ms = u64::try_from(now_ms.saturating_sub(stats.oldest.unix_ms())).unwrap_or(0);
    let worth_a_file = stats.rows >= config.minimum_rows || stats.bytes >= WORTH_BYTES;
    worth_a_file && u128::from(age_ms) >= interval.as_millis()
}

/// Smaller partitions are not flushed for lack of room: their files would take more of it.
const SMALLEST_RELIEF: u64 = 64 << 10;

/// How much is hot in all, and in partitions of which size.
#[derive(Debug, Default)]
pub struct HotSurvey {
    bytes: u64,
    /// Bytes of the partitions with 2^i bytes and more, up to twice that.
    by_size: BTreeMap<u32, u64>,
}

impl HotSurvey {
    pub fn add(&mut self, stats: &HotStats) {
        self.bytes += stats.bytes;
        *self.by_size.entry(stats.bytes.max(1).ilog2()).or_default() += stats.bytes;
    }

    /// The size from which on partitions are to be flushed, the largest first, because what is hot takes more room than it may,
    /// or less of the disk is free than is to be. `None` while there is room, or nothing that would make any.
    pub fn relief(&self, config: &FlushConfig, free_disk: Option<u64>) -> Option<u64> {
        let over = self.bytes.saturating_sub(config.max_hot.as_u64());
        let short = free_disk.map_or(0, |free| config.min_free_disk.as_u64().saturating_sub(free));
        let excess = over.max(short);
        if excess == 0 {
            return None;
        }
        // Somewhat more, so that it is not asked for again in each round.
        let wanted = excess.saturating_add(self.bytes / 8);
        let mut found = 0;
        for (size, bytes) in self.by_size.range(SMALLEST_RELIEF.ilog2()..).rev() {
            found += bytes;
            if found >= wanted {
                return Some(1 << size);
            }
        }
        (found > 0).then_some(SMALLEST_RELIEF)
    }
}

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;

    use super::*;
    use crate::model::Seq;
    use crate::model::SeqGenerator;

    #[test]
    fn what_makes_room() {
        let config =
            FlushConfig { max_hot: ByteSize::mib(100), min_free_disk: ByteSize::gib(1), ..FlushConfig::default() };
        let survey = |sizes: &[(u64, u64)]| {
            let mut survey = HotSurvey::default();
            for (count, bytes) in sizes {
                for _ in 0..*count {
                    survey.add(&HotStats { rows: 1, bytes: *bytes, ..HotStats::default() });
                }
            }
            survey
        };
        let (kib, mib, gib) = (1 << 10, 1 << 20, 1u64 << 30);
        let cases = [
            // partitions, free disk, flushed from
            (vec![(1, 99 * mib)], Some(2 * gib), None),
            (vec![(1, 99 * mib)], None, None),
            (vec![], Some(0), None),
            // 20 MiB too many, and an eighth: the two of 20 MiB are enough.
            (vec![(2, 20 * mib), (80, mib)], Some(2 * gib), Some(16 * mib)),
            (vec![(120, mib)], Some(2 * gib), Some(mib)),
            // The disk is short of half a GiB, and less than that is hot.
            (vec![(50, mib), (100, 100 * kib)], Some(gib / 2), Some(64 * kib)),
            (vec![(100, 10 * kib)], Some(0), None),
            (vec![(1, 50 * mib)], Some(gib - mib), Some(32 * mib)),
        ];
        for (sizes, free, from) in cases {
            assert_eq!(survey(&sizes).relief(&config, free), from, "{sizes:?} {free:?}");
        }
    }

    #[test]
    fn what_is_due() {
        let config = FlushConfig::default();
        let now = 1_800_000_000_000;
        let at = |age_s: i64| SeqGenerator::new(0, Seq::ZERO).next(now - age_s * 1000);
        let none = FlushPolicy::default();
        let policy = |text: &str| text.parse::<FlushPolicy>().unwrap();
        let cases = [
            // policy, rows, bytes, age in seconds, due
            (none, 0, 0, 1_000_000, false),
            (none, 9_999, 100, 1, false),
            (none, 10_000, 100, 1, true),
            (none, 1, 64 << 20, 1, true),
            (none, 999, 1_000, 1_000_000, false),
            (none, 1_000, 1_000, 299, false),
            (none, 1_000, 1_000, 301, true),
            (none, 3, 4 << 20, 301, true),
            (policy("rows:10"), 9, 9, 1, false),
            (policy("rows:10"), 10, 9, 1, true),
            (policy("interval:5"), 1_000, 9, 4, false),
            (policy("interval:5"), 1_000, 9, 6, true),
            (policy("interval:5"), 999, 9, 6, false),
        ];
        for (policy, rows, bytes, age, due) in cases {
            let stats = HotStats { rows, bytes, oldest: at(age), ..HotStats::default() };
            assert_eq!(is_due(&stats, &policy, &config, now), due, "{policy:?} {stats:?} {age} s");
        }
    }
}
