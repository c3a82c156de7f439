//! Cursors of live reads: they let caches between join many readers' requests, and never serve the same answer for ever.
//!
//! Time is cut into intervals of 20 seconds; a cursor is an interval's number. Who brings a cursor of now or later gets a
//! later one.

/// 2024-10-09T00:00:00Z, from which intervals are counted, in microseconds since the Unix epoch.
const EPOCH_US: i64 = 1_728_432_000_000_000;
const INTERVAL_US: i64 = 20_000_000;
/// How far a cursor is moved ahead at most: an hour.
const JITTER: u64 = 180;

/// The cursor of an answer given now, to a reader that brought `given`. `random` spreads readers that came at once.
pub fn next(given: Option<&str>, now_us: i64, random: u64) -> u64 {
    let now = u64::try_from((now_us - EPOCH_US) / INTERVAL_US).unwrap_or(0);
    let given = given.filter(|text| text.bytes().all(|b| b.is_ascii_digit())).and_then(|text| text.parse::<u64>().ok());
    match given {
        Some(given) if given >= now => given.saturating_add(1 + random % JITTER),
        _ => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_never_comes_twice_to_the_same_reader() {
        let at = |interval: i64| EPOCH_US + interval * INTERVAL_US + 5;
        assert_eq!(next(None, at(1_000), 7), 1_000);
        assert_eq!(next(Some("999"), at(1_000), 7), 1_000);
        assert_eq!(next(Some("1000"), at(1_000), 0), 1_001);
        assert_eq!(next(Some("1000"), at(1_000), 179), 1_180);
        assert_eq!(next(Some("1500"), at(1_000), 3), 1_504);
        assert_eq!(next(Some("x"), at(1_000), 3), 1_000);
        assert_eq!(next(Some("-5"), at(1_000), 3), 1_000);
        assert_eq!(next(None, 0, 3), 0, "a clock before the epoch");
        assert_eq!(next(Some("18446744073709551615"), at(1), 3), u64::MAX);
    }
}
