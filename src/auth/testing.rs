//! A server's authentication without a server: a log in memory, a clock that stands, hashes that cost nothing.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytesize::ByteSize;

use super::{Argon2Config, AuthConfig, AuthLog, AuthRecord, Authenticator, NewUser, Secret};
use crate::error::Result;
use crate::model::{Principal, Role, UserId};
use crate::time::Clock;

pub(crate) const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const REMOTE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
pub(crate) const NOW_US: i64 = 1_777_000_000_000_000;
pub(crate) const SECOND_US: i64 = 1_000_000;
pub(crate) const PASSWORD: &str = "s3cret-pass";

/// Keeps what was committed, in order.
#[derive(Default)]
pub(crate) struct MemoryLog {
    records: Mutex<Vec<AuthRecord>>,
    commits: AtomicUsize,
}

impl MemoryLog {
    pub(crate) fn records(&self) -> Vec<AuthRecord> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often something was made durable.
    pub(crate) fn commits(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl AuthLog for MemoryLog {
    async fn commit(&self, records: Vec<AuthRecord>) -> Result<()> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.records.lock().unwrap_or_else(PoisonError::into_inner).extend(records);
        Ok(())
    }
}

/// An [`Authenticator`] with what it was made of.
pub(crate) struct Bench {
    pub(crate) auth: Arc<Authenticator>,
    pub(crate) clock: Clock,
    pub(crate) log: Arc<MemoryLog>,
}

pub(crate) fn config() -> AuthConfig {
    AuthConfig {
        jwt_secret: Some(Secret::new("a secret of more than thirty-two bytes")),
        login_rate_per_ip: 1_000_000.try_into().unwrap(),
        argon2: Argon2Config { memory: ByteSize::kib(8), iterations: 1, parallelism: 1 },
        ..AuthConfig::default()
    }
}

impl Bench {
    /// After its first start: root has no password.
    pub(crate) async fn fresh() -> Self {
        Self::with(config()).await
    }

    pub(crate) async fn with(config: AuthConfig) -> Self {
        let (clock, log) = (Clock::manual(NOW_US), Arc::new(MemoryLog::default()));
        let auth = Authenticator::new(config, clock.clone(), Arc::clone(&log) as Arc<dyn AuthLog>, vec![]).unwrap();
        auth.boot().await.unwrap();
        Self { auth: Arc::new(auth), clock, log }
    }

    /// With user `alice` of `role`, and [`PASSWORD`].
    pub(crate) async fn with_alice(role: Role) -> Self {
        let bench = Self::fresh().await;
        bench.add("alice", role).await;
        bench
    }

    pub(crate) async fn add(&self, user: &str, role: Role) {
        let user = UserId::parse(user).unwrap();
        let new =
            NewUser { user, role, password: Some(Secret::new(PASSWORD)), email: None, storage: Default::default() };
        self.auth.create_user(&root(), new).await.unwrap();
    }

    /// As after DROP USER and the job behind it.
    pub(crate) async fn erase(&self, user: &str) {
        if let Some(record) = self.auth.leaving(&UserId::parse(user).unwrap()) {
            self.auth.finish_erasure(record.user_id.clone(), record.generation).await.unwrap();
        }
    }

    pub(crate) fn advance_s(&self, seconds: i64) {
        self.clock.set_us(self.clock.now_us() + seconds * SECOND_US);
    }

    /// The same server after a restart.
    pub(crate) async fn restarted(&self) -> Self {
        self.auth.write_failed_logins().await.unwrap();
        let log = Arc::new(MemoryLog::default());
        let stored = self.log.records();
        let auth =
            Authenticator::new(config(), self.clock.clone(), Arc::clone(&log) as Arc<dyn AuthLog>, stored).unwrap();
        auth.boot().await.unwrap();
        Self { auth: Arc::new(auth), clock: self.clock.clone(), log }
    }
}

pub(crate) fn root() -> Principal {
    Principal { user: UserId::root(), role: Role::System, generation: 1 }
}

pub(crate) fn principal(user: &str, role: Role) -> Principal {
    Principal { user: UserId::parse(user).unwrap(), role, generation: 1 }
}

pub(crate) fn wire<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    result.map_or_else(|error| error.code().wire(), |_| "ok")
}
