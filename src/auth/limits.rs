//! How often one may ask.
//!
//! Owns the rates (logins per address, requests per user) and the short memory of Basic credentials that were right.
//! Never decides what a wrong password does to an account: that is in the user's record.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use jsonwebtoken::{Algorithm, EncodingKey};
use moka::sync::Cache;

use super::config::Secret;
use crate::error::{Error, Result};
use crate::model::UserId;

/// Every so many checks, keys that are not being limited are forgotten: bounds the memory that strangers can take.
const CHECKS_BETWEEN_SWEEPS: u32 = 4_096;
/// How long a right pair of user and password is not hashed again.
const BASIC_MEMORY: Duration = Duration::from_secs(5);
/// Pairs that are remembered. At the bound the least used one is hashed again.
const BASIC_MEMORY_MAX: u64 = 10_000;

pub(crate) struct Limits {
    logins: KeyedRate<IpAddr>,
    requests: KeyedRate<UserId>,
}

impl Limits {
    pub(crate) fn new(logins_per_ip: NonZeroU32, requests_per_user: NonZeroU32) -> Self {
        Self {
            logins: KeyedRate::new(logins_per_ip, MonotonicClock),
            requests: KeyedRate::new(requests_per_user, MonotonicClock),
        }
    }

    /// # Errors
    /// `RATE_LIMIT_EXCEEDED`.
    pub(crate) fn admit_login(&self, ip: IpAddr) -> Result<()> {
        if self.logins.admits(&network_of(ip)) {
            return Ok(());
        }
        Err(Error::RateLimited("Too many authentication attempts. Please retry shortly.".to_owned()))
    }

    /// # Errors
    /// `RATE_LIMIT_EXCEEDED`.
    pub(crate) fn admit_request(&self, user: &UserId) -> Result<()> {
        if self.requests.admits(user) {
            return Ok(());
        }
        Err(Error::RateLimited("Too many queries per second. Please slow down.".to_owned()))
    }
}

/// Who holds one IPv6 address holds the other 2^64 of its network.
pub(crate) fn network_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

/// So many a second for each key, with as many in one go.
struct KeyedRate<K: Hash + Eq + Clone, C: Clock = MonotonicClock> {
    limiter: RateLimiter<K, DashMapStateStore<K>, C, NoOpMiddleware<C::Instant>>,
    checks: AtomicU32,
}

impl<K: Hash + Eq + Clone, C: Clock> KeyedRate<K, C> {
    fn new(per_second: NonZeroU32, clock: C) -> Self {
        let limiter = RateLimiter::new(Quota::per_second(per_second), DashMapStateStore::default(), clock);
        Self { limiter, checks: AtomicU32::new(0) }
    }

    fn admits(&self, key: &K) -> bool {
        if self.checks.fetch_add(1, Ordering::Relaxed) % CHECKS_BETWEEN_SWEEPS == CHECKS_BETWEEN_SWEEPS - 1 {
            self.limiter.retain_recent();
        }
        self.limiter.check_key(key).is_ok()
    }
}

/// Credentials that were right a moment ago, under a hash keyed with a random key of this process: neither the
/// password nor anything that could be guessed against is kept.
pub(crate) struct BasicMemory {
    key: EncodingKey,
    right: Cache<String, u32>,
}

impl BasicMemory {
    /// # Errors
    /// `INTERNAL` where the system gives no random bytes.
    pub(crate) fn new() -> Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(Error::internal)?;
        Ok(Self {
            key: EncodingKey::from_secret(&key),
            right: Cache::builder().max_capacity(BASIC_MEMORY_MAX).time_to_live(BASIC_MEMORY).build(),
        })
    }

    /// Was this pair right a moment ago, for the user's present generation of credentials?
    pub(crate) fn knows(&self, user: &str, password: &Secret, generation: u32) -> bool {
        self.mark(user, password).is_some_and(|mark| self.right.get(&mark) == Some(generation))
    }

    pub(crate) fn remember(&self, user: &str, password: &Secret, generation: u32) {
        if let Some(mark) = self.mark(user, password) {
            self.right.insert(mark, generation);
        }
    }

    /// HMAC-SHA256 of the pair. The length in front keeps `a` + `bc` from `ab` + `c`.
    fn mark(&self, user: &str, password: &Secret) -> Option<String> {
        let mut message = Vec::with_capacity(8 + user.len() + password.expose().len());
        message.extend_from_slice(&(user.len() as u64).to_be_bytes());
        message.extend_from_slice(user.as_bytes());
        message.extend_from_slice(password.expose().as_bytes());
        jsonwebtoken::crypto::sign(&message, &self.key, Algorithm::HS256).ok()
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn each_key_has_its_own_rate() {
        let clock = FakeRelativeClock::default();
        let rate = KeyedRate::new(NonZeroU32::new(20).unwrap(), clock.clone());
        let burst = |key: &'static str| (0..30).filter(|_| rate.admits(&key)).count();
        assert_eq!((burst("a"), burst("b"), burst("a")), (20, 20, 0));
        clock.advance(Duration::from_millis(100));
        assert_eq!(burst("a"), 2, "a twentieth of a second buys one");
        clock.advance(Duration::from_secs(1));
        assert_eq!(burst("a"), 20);
    }

    #[test]
    fn strangers_do_not_fill_the_memory() {
        let clock = FakeRelativeClock::default();
        let rate = KeyedRate::new(NonZeroU32::MIN, clock.clone());
        for key in 0..5 * CHECKS_BETWEEN_SWEEPS {
            rate.admits(&key);
            clock.advance(Duration::from_millis(10));
        }
        assert!(rate.limiter.len() <= 2 * CHECKS_BETWEEN_SWEEPS as usize, "{}", rate.limiter.len());
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let network = |text: &str| network_of(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:2"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
        assert_eq!(network("::ffff:10.0.0.1"), "10.0.0.1");
        assert_ne!(network("10.0.0.1"), network("10.0.0.2"));
    }

    #[test]
    fn credentials_are_remembered_as_a_pair_and_of_a_generation() {
        let memory = BasicMemory::new().unwrap();
        let password = Secret::new("bc");
        memory.remember("a", &password, 1);
        assert!(memory.knows("a", &password, 1));
        assert!(!memory.knows("a", &password, 2), "a changed password is asked for at once");
        assert!(!memory.knows("ab", &Secret::new("c"), 1));
        assert!(!memory.knows("a", &Secret::new("bd"), 1));
    }
}
