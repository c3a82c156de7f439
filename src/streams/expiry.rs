//! How long a stream lives.

use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What a stream's creation said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Expiry {
    /// As long as its rows: the table's TTL after it was last written.
    #[default]
    WithItsRows,
    /// So many seconds after it was last read or written.
    Idle(u64),
    /// At this moment, in microseconds since the Unix epoch.
    At(i64),
}

/// The longest: a hundred years.
const TTL_MAX: u64 = 100 * 366 * 86_400;

/// That a stream is read is noted when this part of its time has passed since it was last noted: so reading costs few
/// writes. In return it lives this much longer.
const SLACK: i64 = 10;

impl Expiry {
    /// The headers `Stream-TTL` and `Stream-Expires-At`.
    ///
    /// # Errors
    /// `INVALID_INPUT`.
    pub fn parse(ttl: Option<&str>, at: Option<&str>) -> Result<Option<Self>> {
        match (ttl, at) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => {
                Err(Error::InvalidInput("Stream-TTL and Stream-Expires-At exclude each other".to_owned()))
            }
            (Some(ttl), None) => {
                let seconds = whole_number(ttl).filter(|seconds| *seconds <= TTL_MAX).ok_or_else(|| {
                    Error::InvalidInput(format!("Stream-TTL '{ttl}' is no number of seconds, such as 3600"))
                })?;
                Ok(Some(Expiry::Idle(seconds)))
            }
            (None, Some(at)) => {
                let moment = DateTime::parse_from_rfc3339(at).map_err(|_| {
                    let form = "2030-01-31T12:00:00Z";
                    Error::InvalidInput(format!("Stream-Expires-At '{at}' is no date, such as {form}"))
                })?;
                Ok(Some(Expiry::At(moment.timestamp_micros())))
            }
        }
    }

    /// Is it over, for a stream that was last noted as read or written at `touched_us`, and whose rows expire at
    /// `rows_us`?
    pub fn is_over(self, touched_us: i64, rows_us: i64, now_us: i64) -> bool {
        match self {
            Expiry::WithItsRows => now_us >= rows_us,
            Expiry::At(at) => now_us >= at,
            Expiry::Idle(seconds) => {
                now_us >= touched_us.saturating_add(life(seconds)).saturating_add(life(seconds) / SLACK)
            }
        }
    }

    /// Is it to be noted that the stream is read now?
    pub fn is_worth_noting(self, touched_us: i64, now_us: i64) -> bool {
        matches!(self, Expiry::Idle(seconds) if now_us - touched_us >= life(seconds) / SLACK)
    }

    /// The value of `Stream-TTL`.
    pub fn ttl(self) -> Option<u64> {
        if let Expiry::Idle(seconds) = self { Some(seconds) } else { None }
    }

    /// The value of `Stream-Expires-At`.
    pub fn expires_at(self) -> Option<String> {
        let Expiry::At(at) = self else { return None };
        Some(DateTime::from_timestamp_micros(at)?.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

fn life(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}

/// Digits without a sign or leading zeros.
pub(super) fn whole_number(text: &str) -> Option<u64> {
    let formed = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if formed { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_headers_say() {
        assert_eq!(Expiry::parse(None, None).unwrap(), None);
        assert_eq!(Expiry::parse(Some("0"), None).unwrap(), Some(Expiry::Idle(0)));
        assert_eq!(Expiry::parse(Some("3600"), None).unwrap(), Some(Expiry::Idle(3_600)));
        for bad in ["", "-1", "+1", "01", "1.0", "1e3", "abc", "99999999999"] {
            assert!(Expiry::parse(Some(bad), None).is_err(), "{bad}");
        }
        let at = |text| Expiry::parse(None, Some(text)).unwrap();
        assert_eq!(at("1970-01-01T00:00:01Z"), Some(Expiry::At(1_000_000)));
        assert_eq!(at("1970-01-01T02:00:01+02:00"), at("1970-01-01T00:00:01Z"));
        assert!(Expiry::parse(None, Some("tomorrow")).is_err());
        assert!(Expiry::parse(Some("1"), Some("1970-01-01T00:00:01Z")).is_err());
    }

    #[test]
    fn an_idle_stream_lives_at_least_its_time_from_the_last_access() {
        let idle = Expiry::Idle(10);
        let second = 1_000_000;
        // Read just before it would have been noted: not noted, and not over early.
        assert!(!idle.is_worth_noting(0, second - 1));
        assert!(!idle.is_over(0, 0, second - 1 + 10 * second));
        assert!(idle.is_worth_noting(0, second));
        assert!(idle.is_over(0, 0, 11 * second));
        assert!(!Expiry::At(5).is_worth_noting(0, 4));
        assert!(Expiry::At(5).is_over(4, 9, 5) && !Expiry::At(5).is_over(0, 0, 4));
        assert!(Expiry::WithItsRows.is_over(9, 5, 5) && !Expiry::WithItsRows.is_over(0, 5, 4));
        assert_eq!(Expiry::At(1_500_000).expires_at().as_deref(), Some("1970-01-01T00:00:01.500Z"));
        assert_eq!((idle.ttl(), idle.expires_at()), (Some(10), None));
        assert!(!Expiry::Idle(u64::MAX).is_over(0, 0, i64::MAX - 1));
    }
}
