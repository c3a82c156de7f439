//! What is seen of the server from outside, looked up when somebody asks: figures of this moment, its settings, sessions
//! and log.
//!
//! Owns the figures' names, in `system.stats` and in `/metrics`. Never counts anything itself: `Metrics` does.

use std::collections::HashSet;
use std::time::Instant;

use super::Database;
use super::system::System;
use crate::error::Result;
use crate::jobs::JobState;
use crate::metrics::{QueryEnd, Sample};
use crate::model::Catalog;
use crate::sql::system_tables::{LogRow, NodeRow, SessionRow, StatRow, in_words};

/// What of this process the kernel tells; 0 where it does not.
pub(super) struct Process {
    pub resident: u64,
    virtual_bytes: u64,
    threads: u64,
    files: u64,
    /// Since its start, in hundredths of a second.
    cpu_ticks: u64,
}

impl Process {
    pub(super) fn look() -> Self {
        let status = read("/proc/self/status");
        let number = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        // Behind the name, which may hold spaces: utime and stime are the 12th and 13th.
        let stat = read("/proc/self/stat");
        let behind = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = behind.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Self {
            resident: number("VmRSS:") * 1_024,
            virtual_bytes: number("VmSize:") * 1_024,
            threads: number("Threads:"),
            files: std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
            cpu_ticks: ticks,
        }
    }

    /// Of one core, over the whole life of the process.
    fn cpu_percent(&self, started: Instant) -> f32 {
        self.cpu_ticks as f32 / started.elapsed().as_secs_f32().max(0.01)
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Total and used memory of the machine, in MiB.
fn machine_memory() -> (Option<u64>, Option<u64>) {
    let info = read("/proc/meminfo");
    let kib = |field: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(field))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let total = kib("MemTotal:");
    let used = total.zip(kib("MemAvailable:")).map(|(total, free)| total.saturating_sub(free) >> 10);
    (total.map(|kib| kib >> 10), used)
}

impl System {
    pub(super) fn node_row(&self) -> NodeRow {
        let process = Process::look();
        let hostname = read("/proc/sys/kernel/hostname");
        NodeRow {
            api_addr: self.address(),
            hostname: Some(hostname.trim().to_owned()).filter(|name| !name.is_empty()),
            memory_mb: machine_memory().0.and_then(|mib| i64::try_from(mib).ok()),
            memory_usage_mb: i64::try_from(process.resident >> 20).ok(),
            cpu_usage_percent: Some(process.cpu_percent(self.started)),
            uptime_seconds: i64::try_from(self.started.elapsed().as_secs()).unwrap_or(i64::MAX),
        }
    }

    /// Where this server is configured to listen.
    fn address(&self) -> String {
        let setting =
            |name: &str| self.settings.iter().find(|row| row.name == name).map_or("", |row| row.value.as_str());
        format!("{}:{}", setting("server.host"), setting("server.port"))
    }

    pub(super) fn session_rows(&self) -> Vec<SessionRow> {
        let connections = self.live.connections();
        let row = |connection: &std::sync::Arc<crate::live::directory::LiveConnection>| SessionRow {
            session_id: connection.id.to_string(),
            user_id: connection.login().map(|login| login.principal.user.to_string()),
            client_addr: connection.peer.map(|peer| peer.to_string()),
            transport: connection.transport,
            opened_at: connection.opened_at,
            last_seen_at: connection.last_seen_at(),
        };
        connections.iter().map(row).collect()
    }

    pub(super) fn log_rows(&self) -> Vec<LogRow> {
        let row = |line: crate::logging::LogLine| LogRow {
            timestamp: chrono::DateTime::from_timestamp_micros(line.at_us)
                .map_or_else(String::new, |at| at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)),
            level: line.level,
            thread: line.thread,
            target: line.target,
            line: line.line,
            message: line.message,
        };
        self.log.lines().into_iter().map(row).collect()
    }

    pub(super) fn stat_rows(&self, catalog: &Catalog) -> Vec<StatRow> {
        let jobs = self.jobs.list();
        let in_state = |states: &[JobState]| jobs.iter().filter(|job| states.contains(&job.status)).count();
        let cold = self.store.cold().segments().read();
        let process = Process::look();
        let (machine, used) = machine_memory();
        let queries = &self.metrics.queries;
        let (hits, misses, invalidations) = queries.plans();
        let uptime = self.started.elapsed().as_secs();
        let peaks = self.live.peaks();
        let routes = || catalog.topics.values().flat_map(|topic| topic.routes.iter());
        let mib = |bytes: u64| (bytes >> 20).to_string();
        let number = |number: Option<u64>| number.unwrap_or(0).to_string();
        let cores = std::thread::available_parallelism().map_or(1, usize::from).to_string();
        let mut figures = vec![
            ("server_version", env!("CARGO_PKG_VERSION").to_owned()),
            ("server_uptime_seconds", uptime.to_string()),
            ("server_uptime_human", in_words(i64::try_from(uptime).unwrap_or(i64::MAX))),
            ("pid", std::process::id().to_string()),
            ("node_id", "0".to_owned()),
            ("cluster_mode", "single".to_owned()),
            ("cluster_id", "cluster".to_owned()),
            ("cluster_api_addr", self.address()),
            ("cluster_rpc_addr", self.address()),
            ("allocator_name", "mimalloc".to_owned()),
            ("memory_usage_bytes", process.resident.to_string()),
            ("memory_usage_mb", mib(process.resident)),
            ("memory_usage_source", "proc".to_owned()),
            ("memory_rss_bytes", process.resident.to_string()),
            ("memory_rss_mb", mib(process.resident)),
            ("memory_virtual_bytes", process.virtual_bytes.to_string()),
            ("memory_virtual_mb", mib(process.virtual_bytes)),
            ("cpu_usage_percent", format!("{:.1}", process.cpu_percent(self.started))),
            ("cpu_logical_cores", cores),
            ("system_total_memory_mb", number(machine)),
            ("system_used_memory_mb", number(used)),
            ("thread_count", process.threads.to_string()),
            ("open_files_total", process.files.to_string()),
            ("total_users", self.auth.users().len().to_string()),
            ("total_namespaces", catalog.namespaces.len().to_string()),
            ("total_tables", catalog.tables().count().to_string()),
            ("total_topics", catalog.topics.len().to_string()),
            ("topic_cache_topic_count", catalog.topics.len().to_string()),
            ("topic_cache_total_routes", routes().count().to_string()),
            (
                "topic_cache_table_route_count",
                routes().map(|route| route.table_id).collect::<HashSet<_>>().len().to_string(),
            ),
            ("total_storages", catalog.storages.len().to_string()),
            ("schema_registry_size", catalog.tables().count().to_string()),
            ("total_live_queries", self.live.subscription_count().to_string()),
            ("active_subscriptions", self.live.subscription_count().to_string()),
            ("active_subscriptions_peak", peaks.subscriptions.to_string()),
            ("active_connections", self.live.connection_count().to_string()),
            ("active_connections_peak", peaks.connections.to_string()),
            ("websocket_sessions", self.live.connection_count().to_string()),
            ("websocket_sessions_peak", peaks.connections.to_string()),
            ("outbox_bytes", self.live.budget().used().to_string()),
            ("active_partitions", self.router.partitions().to_string()),
            ("total_jobs", jobs.len().to_string()),
            ("jobs_running", in_state(&[JobState::Running]).to_string()),
            ("jobs_queued", in_state(&[JobState::New, JobState::Queued, JobState::Retrying]).to_string()),
            ("jobs_failed", in_state(&[JobState::Failed]).to_string()),
            ("queries_running", queries.running().to_string()),
            ("query_memory_bytes", self.engine.memory_reserved().to_string()),
            ("slow_statements", self.metrics.slow_statements().to_string()),
            ("plan_cache_size", self.engine.plans_kept().to_string()),
            ("plan_cache_hits", hits.to_string()),
            ("plan_cache_misses", misses.to_string()),
            ("plan_cache_invalidations", invalidations.to_string()),
            ("stream_buckets", self.store.streams().ids().len().to_string()),
            ("stream_bucket_bytes", self.store.streams().bytes().to_string()),
            ("segment_files_opened", cold.footers.to_string()),
            ("segment_reads", cold.reads.to_string()),
            ("segment_bytes_read", cold.bytes.to_string()),
        ];
        for (name, end) in [
            ("queries_completed", QueryEnd::Completed),
            ("queries_cancelled", QueryEnd::Cancelled),
            ("queries_timed_out", QueryEnd::TimedOut),
            ("queries_out_of_memory", QueryEnd::OutOfMemory),
            ("queries_failed", QueryEnd::Failed),
        ] {
            figures.push((name, queries.ended(end).to_string()));
        }
        for (name, key) in [
            ("server_workers_configured", "server.workers"),
            ("max_connections", "server.max_connections"),
            ("max_connections_configured", "server.max_connections"),
            ("connection_backlog", "server.backlog"),
            ("datafusion_query_parallelism", "datafusion.threads"),
            ("datafusion_memory_limit", "datafusion.memory_limit"),
        ] {
            if let Some(setting) = self.settings.iter().find(|setting| setting.name == key) {
                figures.push((name, setting.value.clone()));
            }
        }
        figures.into_iter().map(|(name, value)| StatRow { name, value }).collect()
    }
}

impl Database {
    /// Everything that is counted, as OpenMetrics text.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` unless the caller is an administrator; `None`: this machine asks.
    pub fn metrics_text(&self, principal: Option<&crate::model::Principal>) -> Result<String> {
        if let Some(principal) = principal {
            self.policy.may_read_system(principal)?;
        }
        Ok(self.metrics.render(&self.samples()))
    }

    fn samples(&self) -> Vec<Sample> {
        let process = Process::look();
        let jobs = self.jobs.list();
        let cold = self.store.cold().segments().read();
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let sized = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let one = |name, help, value| Sample { name, help, kind: None, value };
        let mut samples = vec![
            one("memory_bytes", "Resident memory of the process", signed(process.resident)),
            one("threads", "Threads of the process", signed(process.threads)),
            one("open_files", "Open files and sockets of the process", signed(process.files)),
            one("live_subscriptions", "Live queries that are subscribed to", sized(self.live.subscription_count())),
            one("live_connections", "WebSockets and event streams", sized(self.live.connection_count())),
            one("outbox_bytes", "What waits for subscribers", sized(self.live.budget().used())),
            one(
                "query_memory_bytes",
                "Memory that running queries have reserved",
                sized(self.engine.memory_reserved()),
            ),
            one("plan_cache_entries", "Plans that are kept", signed(self.engine.plans_kept())),
            one("segment_files_opened", "Segments opened since the start", signed(cold.footers)),
            one("segment_reads", "Reads of segments since the start", signed(cold.reads)),
            one("segment_bytes_read", "Bytes read of segments since the start", signed(cold.bytes)),
            one("stream_bucket_bytes", "Bytes of STREAM tables", signed(self.store.streams().bytes())),
        ];
        let kinds = [
            ("partition", self.router.partitions()),
            ("session", self.live.connection_count()),
            ("job", jobs.iter().filter(|job| job.status == JobState::Running).count()),
        ];
        samples.extend(kinds.map(|(kind, count)| Sample {
            name: "actors",
            help: "Actors that are alive",
            kind: Some(kind),
            value: sized(count),
        }));
        for state in [JobState::Queued, JobState::Running, JobState::Retrying, JobState::Completed, JobState::Failed] {
            let count = jobs.iter().filter(|job| job.status == state).count();
            let help = "Jobs that are remembered, by state";
            samples.push(Sample { name: "jobs", help, kind: Some(state.as_str()), value: sized(count) });
        }
        samples
    }
}
