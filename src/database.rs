//! `Database`: the middle boundary. HTTP, WebSocket, the command line and most tests go through its verbs.
//!
//! Owns the parts that one data folder needs and their order of opening and closing.
//! Never knows HTTP or sockets; decides nothing about rows or rights: the cores and `auth` do.
//! Start at [`Database::open`] and [`Database::execute`].

mod alter;
mod audit;
mod backup;
mod catalog;
mod checks;
mod create_as;
mod cursors;
mod dba;
mod define;
pub mod durable_streams;
mod execute;
mod explain_live;
pub mod exports;
mod jobs;
mod live;
mod maintain;
mod observed;
mod parsed;
mod read;
pub mod request;
pub mod restore;
mod show;
mod slow;
mod storages;
mod streams;
mod system;
pub mod topics;
mod users;
mod views;
mod write;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use std::time::Instant;

use crate::actors::jobs::JobParts;
use crate::actors::router::RouterParts;
use crate::actors::{Committer, CommitterHandle, Fatal, Jobs, Router, TopicSignals};
use crate::auth::AuthConfig;
use crate::auth::Authenticator;
use crate::auth::Policy;
use crate::config::{
    AuditConfig, ExportsConfig, FlushConfig, JobsConfig, LoggingConfig, RemoteTimeouts, RetentionConfig, StreamsConfig,
    TopicsConfig, UserManagementConfig, WebSocketConfig,
};
use crate::error::{Error, Result};
use crate::live::LiveDirectory;
use crate::logging::RecentLog;
use crate::metrics::Metrics;
use crate::model::{Durability, Seq};
use crate::sql::bind::IdSource;
use crate::sql::engine::{Engine, EngineConfig};
use crate::sql::parse::ParseLimits;
use crate::sql::system_tables::{SettingRow, SystemData};
use crate::storage::{ColdStores, ExportFolder, FjallLog, OpenError, Recovered, RemoteIo, Store};
use crate::time::Clock;

pub use read::RowLimits;

use catalog::CatalogStore;
use checks::CheckCache;
use parsed::ParseCache;

/// How often idle partitions are looked for.
const PASSIVATE_ROUND: Duration = Duration::from_secs(10);

/// What an operator decides about a database.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    pub data: PathBuf,
    pub cache_bytes: u64,
    pub node: u16,
    pub durability: Durability,
    pub buffered_sync_interval: Duration,
    /// 0: no bound.
    pub max_result_bytes: u64,
    pub max_statements: usize,
    pub parse_limits: ParseLimits,
    pub row_limits: RowLimits,
    pub engine: EngineConfig,
    /// Statements that take so long are logged; zero: none.
    pub slow_query_threshold: Duration,
    /// What `system.settings` shows.
    pub settings: Arc<[SettingRow]>,
    /// What `system.server_logs` shows.
    pub log: RecentLog,
    pub auth: AuthConfig,
    pub flush: FlushConfig,
    pub retention: RetentionConfig,
    pub topics: TopicsConfig,
    pub streams: StreamsConfig,
    pub jobs: JobsConfig,
    pub exports: ExportsConfig,
    pub audit: AuditConfig,
    pub deletion_grace_period: Duration,
    pub cursor_idle: Duration,
    pub remote_timeouts: RemoteTimeouts,
}

impl DatabaseOptions {
    /// The defaults over a data folder.
    pub fn at(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            cache_bytes: 64 << 20,
            node: 1,
            durability: Durability::Sync,
            buffered_sync_interval: Duration::from_millis(50),
            max_result_bytes: 64 << 20,
            max_statements: 1_000,
            parse_limits: ParseLimits::default(),
            row_limits: RowLimits::default(),
            engine: EngineConfig::default(),
            slow_query_threshold: LoggingConfig::default().slow_query_threshold,
            settings: Arc::new([]),
            log: RecentLog::default(),
            auth: AuthConfig::default(),
            flush: FlushConfig::default(),
            retention: RetentionConfig::default(),
            topics: TopicsConfig::default(),
            streams: StreamsConfig::default(),
            jobs: JobsConfig::default(),
            exports: ExportsConfig::default(),
            audit: AuditConfig::default(),
            deletion_grace_period: UserManagementConfig::default().deletion_grace_period,
            cursor_idle: WebSocketConfig::default().cursor_idle,
            remote_timeouts: RemoteTimeouts::default(),
        }
    }
}

/// Why a database did not open.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the database can not start: {0}")]
    Start(#[from] Error),
}

/// A data folder, opened. Shared behind an `Arc`; one per process and folder.
pub struct Database {
    options: DatabaseOptions,
    clock: Clock,
    store: Arc<Store>,
    recovered: Recovered,
    cold: Arc<ColdStores>,
    catalog: Arc<CatalogStore>,
    policy: Policy,
    auth: Arc<Authenticator>,
    router: Arc<Router>,
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    system: Arc<dyn SystemData>,
    ids: Arc<IdSource>,
    live: Arc<LiveDirectory>,
    /// Of what is written behind the actors' back: cursors, at the end.
    writer: CommitterHandle,
    parsed: ParseCache,
    checks: CheckCache,
    jobs: Jobs,
    exports: ExportFolder,
    audit: audit::AuditLog,
    topics: topics::Topics,
    log: CommitterHandle,
    committer: Mutex<Option<Committer>>,
    stopping: AtomicBool,
    turns: durable_streams::turns::Turns,
}

impl Database {
    /// Lets running writes and jobs end; nothing new is taken. Jobs need the threads that tables live on.
    pub async fn finish_jobs(&self) {
        self.begin_shutdown();
        self.router.drain().await;
        self.jobs.stop(self.options.jobs.shutdown_timeout).await;
    }

    /// Opens, or makes, the database in a data folder: recovers it, and starts its actors. Needs a running actix
    /// system. `fatal` ends the process when it must not go on.
    ///
    /// # Errors
    /// [`StartError`]: the folder is in use, not writable, of a newer format, or damaged.
    pub async fn open(options: DatabaseOptions, clock: Clock, fatal: Fatal) -> Result<Arc<Self>, StartError> {
        let (store, recovered) = Store::open(&options.data, options.cache_bytes)?;
        if recovered.lost_commits > 0 {
            tracing::error!(lost = recovered.lost_commits, "durable commits are missing: the journal was damaged");
        }
        let log = FjallLog::new(store.clone(), recovered);
        let sync = log.journal_sync();
        let signals = Arc::new(TopicSignals::default());
        let metrics = Arc::new(Metrics::default());
        let interval = options.buffered_sync_interval;
        let (committer, handle) =
            Committer::spawn(log, sync, interval, signals.clone(), metrics.clone(), fatal.clone())?;
        // Buckets are spoken to on this thread, which lives as long as the database and has little else to do.
        let io = RemoteIo::new(tokio::runtime::Handle::current());
        let cold = Arc::new(ColdStores::new(&options.data, options.remote_timeouts, io));
        store.cold().open(cold.clone());
        store.streams().run_by(clock.clone());
        let catalog = Arc::new(CatalogStore::open(&store, handle.clone(), cold.clone(), clock.now_us()).await?);
        restore::put_back_segments(&options.data, &cold).await?;
        let exports = ExportFolder::of(&options.data);
        exports.remove_unfinished()?;
        let auth_log = Arc::new(users::CommittedAuth { committer: handle.clone(), store: store.clone() });
        let users = users::stored(&store)?;
        users::tell_store(&store, &users);
        let auth = Authenticator::new(options.auth.clone(), clock.clone(), auth_log, users)?;
        auth.boot().await?;
        let auth = Arc::new(auth);
        actix::spawn(users::write_guesses(Arc::downgrade(&auth)));
        let engine = Arc::new(Engine::new(&options.engine, metrics.clone())?);
        let router = Arc::new(Router::new(RouterParts {
            store: store.clone(),
            committer: handle.clone(),
            clock: clock.clone(),
            node: options.node,
            cold_reads: engine.handle()?,
            quota: streams::quota(&options.streams),
            metrics: metrics.clone(),
            fatal: fatal.clone(),
        }));
        actix::spawn(passivate(Arc::downgrade(&router)));
        let live = Arc::new(LiveDirectory::default());
        actix::spawn(live::follow_rights(auth.clone(), live.clone()));
        cursors::load(&live, &store, &catalog.current(), &auth)?;
        actix::spawn(cursors::write_changes(Arc::downgrade(&live), handle.clone()));
        let ids = Arc::new(IdSource::new(options.node, Seq::ZERO));
        let bodies = jobs::Bodies {
            store: store.clone(),
            committer: handle.clone(),
            catalog: catalog.clone(),
            router: router.clone(),
            auth: auth.clone(),
            live: live.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            flush: options.flush.clone(),
            data: options.data.clone(),
            exports: exports.clone(),
            retention: options.retention.clone(),
            moving: Mutex::default(),
        };
        let audit = audit::AuditLog::start(store.clone(), handle.clone(), clock.clone(), &options.audit);
        let topics = topics::Topics::new(signals, handle.clone(), options.topics.clone());
        let writer = handle.clone();
        let parts = JobParts {
            config: options.jobs.clone(),
            committer: handle.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            bodies: Arc::new(bodies),
            fatal,
        };
        let jobs = Jobs::start(parts, jobs::stored(&store)?)?;
        let database = Arc::new(Self {
            system: Arc::new(system::System {
                auth: auth.clone(),
                live: live.clone(),
                jobs: jobs.clone(),
                store: store.clone(),
                started: Instant::now(),
                router: router.clone(),
                engine: engine.clone(),
                metrics: metrics.clone(),
                settings: options.settings.clone(),
                log: options.log.clone(),
            }),
            live,
            writer,
            engine,
            metrics,
            ids,
            parsed: ParseCache::new(options.parse_limits),
            checks: CheckCache::new(),
            log: handle,
            committer: Mutex::new(Some(committer)),
            stopping: AtomicBool::new(false),
            turns: durable_streams::turns::Turns::default(),
            policy: Policy,
            options,
            clock,
            store,
            recovered,
            cold,
            catalog,
            auth,
            router,
            jobs,
            exports,
            audit,
            topics,
        });
        database.start_routes().await;
        database.make_own_tables().await?;
        actix::spawn(dba::keep_sampling(Arc::downgrade(&database)));
        database.turn_stream_buckets().await?;
        actix::spawn(streams::keep_turning(Arc::downgrade(&database)));
        database.submit_owed_jobs().await;
        actix::spawn(jobs::look_for_owed(Arc::downgrade(&database)));
        actix::spawn(jobs::look_for_due(Arc::downgrade(&database)));
        actix::spawn(jobs::look_for_expired(Arc::downgrade(&database)));
        actix::spawn(jobs::look_for_old_entries(Arc::downgrade(&database)));
        Ok(database)
    }

    pub fn auth(&self) -> &Arc<Authenticator> {
        &self.auth
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Lets tables live on this HTTP worker's thread too: a write that comes in on its table's thread needs no hop.
    pub fn host_tables_here(&self) {
        if let Some(arbiter) = actix::Arbiter::try_current() {
            self.router.host_on(arbiter);
        }
    }

    /// What opening the folder found.
    pub fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// Is it on its way down? Then everything answers `SHUTTING_DOWN`.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Refuses new work from now on, and tells every subscriber.
    pub fn begin_shutdown(&self) {
        self.stopping.store(true, Ordering::Release);
        self.jobs.begin_stop();
        self.live.shut_down();
        self.topics.wake_all();
        self.turns.ring_all();
    }

    /// Cancels running jobs for whoever will not wait for them; returns when that is durable. Those that may begin anew
    /// do so after the next start.
    pub async fn cancel_jobs(&self, reason: &str) {
        self.jobs.cancel_running(reason).await;
    }

    /// Ends the actors once every write under way is answered and running jobs have ended, and makes everything durable.
    /// The folder is free again when the last `Arc` of this database is gone.
    pub async fn shutdown(&self) {
        self.finish_jobs().await;
        self.router.stop();
        self.audit.settle().await;
        if let Err(error) = self.auth.write_failed_logins().await {
            tracing::warn!(%error, "the last failed log-ins are not written");
        }
        if let Err(error) = cursors::write(&self.live, &self.writer).await {
            tracing::warn!(%error, "the last acknowledgements are not written");
        }
        let committer = self.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(committer) = committer {
            // It blocks on a thread, which no arbiter may.
            let ended = tokio::task::spawn_blocking(move || committer.stop()).await;
            if ended.is_err() {
                tracing::error!("waiting for the committer failed");
            }
        }
    }
}

/// Stops actors of partitions that nobody uses, now and then, for as long as there is a router.
async fn passivate(router: Weak<Router>) {
    let mut rounds = tokio::time::interval(PASSIVATE_ROUND);
    loop {
        rounds.tick().await;
        let Some(router) = router.upgrade() else { return };
        router.passivate_idle();
    }
}
