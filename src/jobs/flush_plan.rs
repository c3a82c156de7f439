//! Which partitions are worth flushing.
//!
//! Owns that decision alone: what is noted of a partition's hot rows comes in, yes or no goes out.

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Seq;
    use crate::model::SeqGenerator;

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
