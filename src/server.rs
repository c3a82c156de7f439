//! A running server: opened, composed, and stopped in reverse.
//!
//! Owns the order of start and stop, and the sentences that a failed start ends with. It composes; it decides nothing
//! about data.
//! Start: certificate → sockets → a restore that is ready → secret → database → HTTP → ready. Stop: no new connections → subscribers told → requests
//! finished → writes drained, running jobs ended, and the store closed. A second signal does not wait: it cancels the jobs.
//! Start at [`run`].

mod announce;
mod idle_memory;
mod listen;
mod peer;
mod secret;
mod tls;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::middleware::from_fn;
use actix_web::web::Data;
use actix_web::{App, HttpServer, dev};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

use crate::actors::Fatal;
use crate::api::client::{self, Gate};
use crate::api::health::ServerStatus;
use crate::api::ws::{Admission, LiveEndpoint};
use crate::auth::config::{WeakSecret, check_secret};
use crate::cli::ServeArgs;
use crate::config::{Config, keys};
use crate::database::{self, Database, DatabaseOptions, RowLimits};
use crate::live::limits::SessionLimits;
use crate::logging::RecentLog;
use crate::sql::engine::{EngineConfig, QueryBounds};
use crate::sql::parse::ParseLimits;
use crate::sql::system_tables::SettingRow;
use crate::storage::backup::SwapError;
use crate::time::Clock;
use crate::{api, logging};
use announce::Announcement;
use tls::{Certificate, TlsError};

/// Exit code of a process that an impatient user interrupted: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// How long the second signal waits for it to be on disk that jobs were cancelled.
const CANCEL_PATIENCE: Duration = Duration::from_secs(2);

/// Why a server did not start, in one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the data folder {} can not be used: {source}; check its permissions, or choose another with --data",
        path.display())]
    DataFolder { path: PathBuf, source: io::Error },
    #[error(
        "listening on {host} lets other machines in, and that needs a secret for tokens. Set one of your own: \
         INBOXDB_AUTH__JWT_SECRET=$(openssl rand -base64 48)"
    )]
    NoSecret { host: String },
    #[error("{0}")]
    WeakSecret(#[from] WeakSecret),
    #[error("there is no address for server.host = {host}: {source}")]
    UnknownHost { host: String, source: io::Error },
    #[error("can not listen on {address}: {source}. Choose another port with --port, or another address with --host")]
    Bind { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Restore(#[from] SwapError),
    #[error(transparent)]
    Open(#[from] database::StartError),
    #[error("the ready file {} can not be written: {source}", path.display())]
    ReadyFile { path: PathBuf, source: io::Error },
    #[error("the server stopped: {0}")]
    Run(#[from] io::Error),
}

/// Runs a server until a signal stops it.
///
/// # Errors
/// Why it did not start, or what ended it.
pub fn run(config: Config, args: &ServeArgs) -> Result<(), StartError> {
    idle_memory::keep_c_memory();
    let clock = Clock::system();
    let log = logging::start(&config.logging, move || clock.now_us());
    actix_web::rt::System::new().block_on(serve(config, args, log))
}

async fn serve(mut config: Config, args: &ServeArgs, log: RecentLog) -> Result<(), StartError> {
    let certificate = Certificate::load(&config.tls)?;
    let addresses = listen::resolve(&config.server).await?;
    let listeners = listen::bind(&addresses, config.server.backlog)?;
    // Before anything of the data folder is read, the secret of tokens included.
    database::restore::finish(&config.storage.data_path)?;
    settle_secret(&mut config, &addresses)?;
    let bound = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<SocketAddr>>>()?;

    let mut signals = Signals::new()?;
    let database = Database::open(database_options(&config, log), Clock::system(), fatal()).await?;
    let status = Data::new(ServerStatus::ready());
    let server = http_server(&config, (listeners, certificate.as_ref()), &database, &status)?;
    let handle = server.handle();
    let mut running = actix_web::rt::spawn(server);

    let giving_back = actix_web::rt::spawn(idle_memory::give_back());
    announce(&config, args, &database, &bound)?;

    let reloading = actix_web::rt::spawn(reload_at_hangup(certificate, signal(SignalKind::hangup())?));
    tokio::select! {
        () = signals.next() => info!("stopping"),
        ended = &mut running => return ended.unwrap_or_else(|panic| Err(io::Error::other(panic))).map_err(StartError::Run),
    }
    giving_back.abort();
    reloading.abort();
    status.stop();
    // The second signal: whoever sends it wants out now. What was acknowledged is on disk; jobs are told so first.
    let cancelling = database.clone();
    actix_web::rt::spawn(async move {
        signals.next().await;
        let cancelled = cancelling.cancel_jobs("a second signal stopped the server");
        // An error: it takes too long, and the next start finds jobs that were cut off.
        let _ = actix_web::rt::time::timeout(CANCEL_PATIENCE, cancelled).await;
        #[expect(clippy::disallowed_methods, reason = "the composition root: the user wants out")]
        std::process::exit(INTERRUPTED);
    });
    // In this order: a flush commits through its table, which lives on an HTTP worker's thread.
    database.finish_jobs().await;
    handle.stop(true).await;
    database.shutdown().await;
    info!("stopped");
    Ok(())
}

/// Without a configured secret, a server that only this machine reaches makes its own.
fn settle_secret(config: &mut Config, addresses: &[SocketAddr]) -> Result<(), StartError> {
    let path = &config.storage.data_path;
    let only_this_machine = addresses.iter().all(|address| address.ip().to_canonical().is_loopback());
    match &config.auth.jwt_secret {
        Some(secret) => check_secret(secret.expose(), only_this_machine)?,
        None if only_this_machine => {
            let made = secret::load_or_make(path);
            let made = made.map_err(|source| StartError::DataFolder { path: path.clone(), source })?;
            config.auth.jwt_secret = Some(made);
        }
        None => return Err(StartError::NoSecret { host: config.server.host.clone() }),
    }
    Ok(())
}

fn database_options(config: &Config, log: RecentLog) -> DatabaseOptions {
    let Config {
        storage,
        durability,
        limits,
        auth,
        datafusion,
        flush,
        retention,
        topics,
        streams,
        jobs,
        exports,
        audit,
        user_management,
        logging,
        ..
    } = config;
    DatabaseOptions {
        data: storage.data_path.clone(),
        cache_bytes: storage.cache_size.as_u64(),
        node: storage.node_id,
        durability: durability.default,
        buffered_sync_interval: durability.buffered_sync_interval,
        max_result_bytes: limits.max_result_bytes.as_u64(),
        max_statements: limits.max_statements,
        parse_limits: ParseLimits { nesting: limits.max_nesting, operators: limits.max_operators },
        row_limits: RowLimits { default: limits.default_query_limit, max: limits.max_query_limit },
        engine: EngineConfig {
            threads: count_or_cores(datafusion.threads),
            rows_per_thread: datafusion.rows_per_thread,
            memory_limit_bytes: usize::try_from(datafusion.memory_limit.as_u64()).unwrap_or(usize::MAX),
            query_memory_limit_bytes: usize::try_from(datafusion.query_memory_limit.as_u64()).unwrap_or(usize::MAX),
            plan_cache_entries: datafusion.plan_cache_entries,
            statement_timeout: limits.statement_timeout,
            bounds: QueryBounds {
                tables: limits.max_tables,
                pattern_bytes: usize::try_from(limits.max_pattern_bytes.as_u64()).unwrap_or(usize::MAX),
            },
        },
        slow_query_threshold: logging.slow_query_threshold,
        settings: settings(config),
        log,
        auth: auth.clone(),
        flush: flush.clone(),
        retention: retention.clone(),
        topics: topics.clone(),
        streams: streams.clone(),
        jobs: jobs.clone(),
        exports: exports.clone(),
        audit: audit.clone(),
        deletion_grace_period: user_management.deletion_grace_period,
        cursor_idle: config.websocket.cursor_idle,
        remote_timeouts: storage.remote_timeouts,
    }
}

/// What `system.settings` shows: the keys in effect, secrets hidden.
fn settings(config: &Config) -> Arc<[SettingRow]> {
    let row = |(key, value): (&keys::Key, String)| SettingRow {
        name: key.path,
        value,
        description: key.about,
        category: key.path.split_once('.').map_or(key.path, |(section, _)| section),
    };
    keys::in_effect(config).into_iter().map(row).collect()
}

/// The store is poisoned or an actor that holds order has died: nothing may be acknowledged any more. No destructor
/// runs; the next start recovers.
fn fatal() -> Fatal {
    Fatal::new(|reason| {
        eprintln!("inboxdb: {reason}; the process stops, and recovers at its next start");
        #[expect(clippy::disallowed_methods, reason = "the composition root: nothing may be acknowledged any more")]
        std::process::abort();
    })
}

fn http_server(
    config: &Config,
    (listeners, certificate): (Vec<TcpListener>, Option<&Arc<Certificate>>),
    database: &Arc<Database>,
    status: &Data<ServerStatus>,
) -> Result<dev::Server, StartError> {
    let settings = Data::new(config.clone());
    let gate = Data::new(Gate::new(config));
    let counting = gate.clone();
    let (database, status) = (Data::from(database.clone()), status.clone());
    let authenticator = Data::from(database.auth().clone());
    let metrics = Data::from(database.metrics().clone());
    let limits = Arc::new(SessionLimits::from(&config.websocket));
    database.live().budget().set_max(limits.outbox_bytes_total);
    let live = Data::new(LiveEndpoint {
        database: database.clone().into_inner(),
        directory: database.live().clone(),
        admission: Admission::new(&limits, Clock::system()),
        limits,
        clock: Clock::system(),
    });
    let routes = api::configure(config);
    let app = move || {
        database.host_tables_here();
        App::new()
            .app_data(settings.clone())
            .app_data(gate.clone())
            .app_data(database.clone())
            .app_data(authenticator.clone())
            .app_data(live.clone())
            .app_data(status.clone())
            .app_data(metrics.clone())
            .wrap(api::cors(&settings.security.cors))
            .wrap(from_fn(client::protect))
            .wrap(from_fn(api::observe::observe))
            .configure(routes.clone())
    };
    let workers = workers(config.server.workers);
    let peer_timeout = config.server.peer_timeout;
    let mut server = HttpServer::new(app)
        .workers(workers)
        .max_connections(config.server.max_connections.div_ceil(workers))
        .keep_alive(config.server.keep_alive)
        .client_request_timeout(config.server.client_request_timeout)
        .shutdown_timeout(config.server.shutdown_timeout.as_secs().max(1))
        .on_connect(move |connection, extensions| {
            peer::give_up_after(peer_timeout, connection);
            client::count_connection(&counting, connection, extensions);
        })
        .disable_signals();
    for listener in listeners {
        server = match certificate {
            Some(certificate) => server.listen_rustls_0_23(listener, certificate.server_config()?)?,
            None if config.server.enable_http2 => server.listen_auto_h2c(listener)?,
            None => server.listen(listener)?,
        };
    }
    Ok(server.run())
}

/// SIGHUP: the certificate's files may have changed. Without TLS it says nothing, and ends nobody.
async fn reload_at_hangup(certificate: Option<Arc<Certificate>>, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        let Some(certificate) = &certificate else { continue };
        match certificate.reload() {
            Ok(()) => info!("the certificate was read again"),
            Err(error) => tracing::error!(%error, "the certificate stays as it was"),
        }
    }
}

/// 0 is one for two cores: the others are for the committer, the queries and the storage engine. Fewer threads that each
/// find their tables at home answer a single writer faster and many writers more cheaply.
fn workers(configured: usize) -> usize {
    if configured > 0 { configured } else { count_or_cores(0).div_ceil(2) }
}

/// 0 is one per core.
fn count_or_cores(configured: usize) -> usize {
    match configured {
        0 => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        count => count,
    }
}

fn announce(config: &Config, args: &ServeArgs, database: &Database, bound: &[SocketAddr]) -> Result<(), StartError> {
    let announcement = Announcement {
        addresses: bound,
        scheme: if config.tls.certificate_file.is_some() { "https" } else { "http" },
        data_folder: &config.storage.data_path,
        config_file: args.settings.file(),
        durability: config.durability.default.as_str(),
        needs_setup: database.auth().needs_setup(),
    };
    announcement.print();
    if let (Some(path), Some(address)) = (&args.ready_file, bound.first()) {
        announce::write_ready_file(path, *address)
            .map_err(|source| StartError::ReadyFile { path: path.clone(), source })?;
    }
    Ok(())
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
