//! Counts per address: requests a second, broken limits, connections.
//!
//! Owns the decision; [`Addresses::admit`] is told the time and is a table in tests.
//! Bounded: at [`MAX_ADDRESSES`] the idle ones are forgotten, and when nobody is idle, everyone who is not banned.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::auth::network_of;
use crate::config::{Config, IpRange};

/// Addresses remembered at a time: about 6 MB.
const MAX_ADDRESSES: usize = 65_536;
const WINDOW: Duration = Duration::from_secs(1);
/// So many broken limits are a ban; each further time as many again make it longer, up to [`MAX_BAN_FACTOR`].
const VIOLATIONS_PER_BAN: u32 = 10;
const MAX_BAN_FACTOR: u32 = 6;

/// What is to be done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Admitted,
    TooFast,
    Banned { seconds: u64 },
    TooManyConnections { current: u32, max: u32 },
}

/// The door of the HTTP server, shared by its workers.
#[derive(Debug)]
pub struct Gate {
    enabled: bool,
    body_limit: u64,
    tls: bool,
    body_timeout: Duration,
    trusted: Vec<IpRange>,
    max_connections: u32,
    addresses: Mutex<Addresses>,
    connections: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

impl Gate {
    pub fn new(config: &Config) -> Self {
        let server = &config.server;
        Self {
            enabled: server.enable_connection_protection,
            body_limit: server.request_body_limit.as_u64(),
            body_timeout: server.client_body_timeout,
            tls: config.tls.certificate_file.is_some(),
            trusted: config.security.trusted_proxy_ranges.clone(),
            max_connections: server.max_connections_per_ip,
            addresses: Mutex::new(Addresses::new(server.max_requests_per_ip_per_sec, server.ban_duration)),
            connections: Arc::default(),
        }
    }

    pub fn body_limit(&self) -> u64 {
        self.body_limit
    }

    pub(super) fn body_timeout(&self) -> Duration {
        self.body_timeout
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls
    }

    pub(super) fn trusted(&self) -> &[IpRange] {
        &self.trusted
    }

    pub(super) fn admit(&self, client: IpAddr, ticket: Option<&ConnectionTicket>) -> Verdict {
        if !self.enabled || client.is_loopback() {
            return Verdict::Admitted;
        }
        let client = network_of(client);
        // The connections of a proxy are everybody's.
        if ticket.is_some_and(|ticket| ticket.address == client) {
            let current = lock(&self.connections).get(&client).copied().unwrap_or(0);
            if current > self.max_connections {
                return Verdict::TooManyConnections { current, max: self.max_connections };
            }
        }
        lock(&self.addresses).admit(client, Instant::now())
    }

    /// Counts a connection until the ticket is dropped.
    pub(super) fn connected(&self, address: IpAddr) -> ConnectionTicket {
        let address = network_of(address);
        *lock(&self.connections).entry(address).or_insert(0) += 1;
        ConnectionTicket { address, connections: self.connections.clone() }
    }
}

/// One open connection.
#[derive(Debug)]
pub(super) struct ConnectionTicket {
    address: IpAddr,
    connections: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

impl Drop for ConnectionTicket {
    fn drop(&mut self) {
        let mut connections = lock(&self.connections);
        if let Some(count) = connections.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&self.address);
            }
        }
    }
}

/// Counters stay whole numbers whatever panics beside them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What each address did lately.
#[derive(Debug)]
struct Addresses {
    per_second: u32,
    ban: Duration,
    seen: HashMap<IpAddr, Seen>,
}

#[derive(Debug)]
struct Seen {
    window: Instant,
    requests: u32,
    violations: u32,
    banned_until: Option<Instant>,
}

impl Addresses {
    fn new(per_second: u32, ban: Duration) -> Self {
        Self { per_second, ban, seen: HashMap::new() }
    }

    fn admit(&mut self, client: IpAddr, now: Instant) -> Verdict {
        if self.seen.len() >= MAX_ADDRESSES && !self.seen.contains_key(&client) {
            self.forget(now);
        }
        let fresh = || Seen { window: now, requests: 0, violations: 0, banned_until: None };
        let seen = self.seen.entry(client).or_insert_with(fresh);
        if let Some(until) = seen.banned_until {
            if now < until {
                return Verdict::Banned { seconds: (until - now).as_secs().max(1) };
            }
            seen.banned_until = None;
        }
        if now.duration_since(seen.window) >= WINDOW {
            seen.window = now;
            seen.requests = 0;
        }
        seen.requests += 1;
        if seen.requests <= self.per_second {
            return Verdict::Admitted;
        }
        seen.violations += 1;
        if !seen.violations.is_multiple_of(VIOLATIONS_PER_BAN) {
            return Verdict::TooFast;
        }
        let ban = self.ban * (seen.violations / VIOLATIONS_PER_BAN).min(MAX_BAN_FACTOR);
        seen.banned_until = Some(now + ban);
        Verdict::Banned { seconds: ban.as_secs().max(1) }
    }

    fn forget(&mut self, now: Instant) {
        let banned = |seen: &Seen| seen.banned_until.is_some_and(|until| now < until);
        self.seen.retain(|_, seen| banned(seen) || now.duration_since(seen.window) < WINDOW);
        if self.seen.len() >= MAX_ADDRESSES {
            self.seen.retain(|_, seen| banned(seen));
        }
        // Bans alone fill it: an attack from everywhere. Memory is worth more than the bans.
        if self.seen.len() >= MAX_ADDRESSES {
            self.seen.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAN: Duration = Duration::from_secs(300);

    fn address(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0102_0000 + n).into()
    }

    #[test]
    fn too_fast_then_banned_then_back() {
        let start = Instant::now();
        let mut addresses = Addresses::new(2, BAN);
        let mut admit = |ms: u64| addresses.admit(address(1), start + Duration::from_millis(ms));
        assert_eq!([admit(0), admit(1), admit(2)], [Verdict::Admitted, Verdict::Admitted, Verdict::TooFast]);
        assert_eq!(admit(1_000), Verdict::Admitted, "the next second");
        assert_eq!(admit(1_001), Verdict::Admitted);
        for _ in 0..8 {
            assert_eq!(admit(1_002), Verdict::TooFast);
        }
        assert_eq!(admit(1_003), Verdict::Banned { seconds: 300 });
        assert_eq!(admit(2_500), Verdict::Banned { seconds: 298 });
        assert_eq!(admit(302_000), Verdict::Admitted, "the ban is over");
    }

    #[test]
    fn bans_grow() {
        let start = Instant::now();
        let mut addresses = Addresses::new(1, BAN);
        let mut now = start;
        let mut bans = Vec::new();
        while bans.len() < 8 {
            if let Verdict::Banned { seconds } = addresses.admit(address(1), now) {
                bans.push(seconds);
                now += Duration::from_secs(seconds);
            }
        }
        assert_eq!(bans, [300, 600, 900, 1_200, 1_500, 1_800, 1_800, 1_800]);
    }

    #[test]
    fn memory_is_bounded() {
        let now = Instant::now();
        let mut addresses = Addresses::new(1, BAN);
        for n in 0..MAX_ADDRESSES as u32 + 10 {
            addresses.admit(address(n), now);
        }
        assert!(addresses.seen.len() <= MAX_ADDRESSES);
    }

    #[test]
    fn connections_are_counted_until_they_close() {
        let mut config = Config::default();
        config.server.max_connections_per_ip = 1;
        let gate = Gate::new(&config);
        let first = gate.connected(address(1));
        assert_eq!(gate.admit(address(1), Some(&first)), Verdict::Admitted);
        let second = gate.connected(address(1));
        assert_eq!(gate.admit(address(1), Some(&second)), Verdict::TooManyConnections { current: 2, max: 1 });
        assert_eq!(gate.admit(address(2), Some(&second)), Verdict::Admitted, "behind a proxy");
        drop(first);
        assert_eq!(gate.admit(address(1), Some(&second)), Verdict::Admitted);
        drop(second);
        assert!(lock(&gate.connections).is_empty());
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let mut config = Config::default();
        config.server.max_requests_per_ip_per_sec = 1;
        let gate = Gate::new(&config);
        let admit = |text: &str| gate.admit(text.parse().unwrap(), None);
        assert_eq!(admit("2001:db8::1"), Verdict::Admitted);
        assert_eq!(admit("2001:db8::2"), Verdict::TooFast);
        assert_eq!(admit("2001:db8:0:1::1"), Verdict::Admitted);
    }

    #[test]
    fn loopback_is_exempt() {
        let mut config = Config::default();
        config.server.max_requests_per_ip_per_sec = 1;
        let gate = Gate::new(&config);
        for _ in 0..100 {
            assert_eq!(gate.admit(IpAddr::from([127, 0, 0, 1]), None), Verdict::Admitted);
        }
    }
}
