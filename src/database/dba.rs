//! The namespace `dba`: the tables that the server makes for itself, and the samples that it writes into one of them.
//!
//! Owns their definitions, which figures are sampled, and how long samples stay. They are tables like any others: written by
//! statements, on the one write path, flushed and backed up. A round of samples is one INSERT at `buffered`, so it costs no
//! fdatasync of its own; old ones are deleted by position, in steps.
//! Never decides who may read them, or that they are not dropped: `auth::Policy` does.

use std::fmt::Write as _;
use std::sync::Weak;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use tokio::time::{Instant, MissedTickBehavior};

use super::Database;
use super::request::{Outcome, SqlRequest};
use crate::error::{Error, Result};
use crate::model::{Durability, Principal, Seq, UserId};
use crate::sql::system_tables::THIS_NODE;

/// So often within the time that samples stay is looked for older ones.
const FORGET_EVERY: u32 = 100;
/// One DELETE takes samples of so long a time.
const FORGET_STEP_MS: i64 = 60 * 60 * 1_000;

/// In the order of their making. Who has tables of these names already keeps them.
const TABLES: &[&str] = &[
    "CREATE SHARED TABLE IF NOT EXISTS dba.stats (id TEXT PRIMARY KEY, node_id TEXT NOT NULL, metric_name TEXT NOT NULL, \
     metric_value DOUBLE NOT NULL, metric_unit TEXT, sampled_at TIMESTAMP NOT NULL DEFAULT NOW()) \
     WITH (ACCESS_LEVEL = 'DBA', DURABILITY = 'buffered', DELETED_RETENTION_HOURS = 1)",
    "CREATE SHARED TABLE IF NOT EXISTS dba.notifications (id TEXT PRIMARY KEY DEFAULT UUID_V7(), user_id TEXT NOT NULL, \
     title TEXT NOT NULL, body TEXT, is_read BOOLEAN NOT NULL DEFAULT FALSE, \
     created_at TIMESTAMP NOT NULL DEFAULT NOW(), updated_at TIMESTAMP NOT NULL DEFAULT NOW()) \
     WITH (ACCESS_LEVEL = 'PUBLIC')",
];

/// Figures of `system.stats` that are sampled, and their units.
const SAMPLED: &[(&str, Option<&str>)] = &[
    ("server_uptime_seconds", Some("seconds")),
    ("memory_rss_bytes", Some("bytes")),
    ("system_used_memory_mb", Some("MiB")),
    ("cpu_usage_percent", Some("percent")),
    ("thread_count", None),
    ("open_files_total", None),
    ("total_users", None),
    ("total_tables", None),
    ("active_connections", None),
    ("active_subscriptions", None),
    ("outbox_bytes", Some("bytes")),
    ("active_partitions", None),
    ("jobs_running", None),
    ("jobs_queued", None),
    ("jobs_failed", None),
    ("queries_running", None),
    ("query_memory_bytes", Some("bytes")),
    ("queries_completed", None),
    ("queries_failed", None),
    ("slow_statements", None),
    ("segment_bytes_read", Some("bytes")),
];

/// Samples this server, for as long as there is a database.
pub(super) async fn keep_sampling(database: Weak<Database>) {
    let Some(config) = database.upgrade().map(|database| database.options.retention.clone()) else { return };
    if !config.enable_dba_stats {
        return;
    }
    let first = Instant::now() + config.dba_stats_interval;
    let mut rounds = tokio::time::interval_at(first, config.dba_stats_interval);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let forget_every = config.dba_stats_retention / FORGET_EVERY;
    let mut forget_at = Instant::now();
    loop {
        rounds.tick().await;
        let Some(database) = database.upgrade() else { return };
        if database.is_stopping() {
            return;
        }
        let mut done = database.sample().await;
        if done.is_ok() && Instant::now() >= forget_at {
            done = database.forget_samples(config.dba_stats_retention).await;
            forget_at = Instant::now() + forget_every;
        }
        match done {
            Ok(()) => {}
            Err(Error::ShuttingDown) => return,
            Err(error) => tracing::warn!(%error, "this server is not sampled into dba.stats"),
        }
    }
}

impl Database {
    /// Makes the tables that are not there yet.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(super) async fn make_own_tables(&self) -> Result<()> {
        for sql in TABLES {
            match self.own_statement((*sql).to_owned()).await {
                Ok(_) => {}
                Err(error @ (Error::StorageUnavailable | Error::ShuttingDown)) => return Err(error),
                // A view has the name: the server goes on without the table.
                Err(error) => tracing::warn!(%error, "a table of the namespace dba can not be made"),
            }
        }
        Ok(())
    }

    /// What root would be answered.
    async fn own_statement(&self, sql: String) -> Result<Outcome> {
        let root: Principal = self.auth.user(&UserId::root())?.principal();
        let request = SqlRequest { sql, durability: Some(Durability::Buffered), ..SqlRequest::default() };
        let response = self.execute(&root, request).await.map_err(|failed| failed.error)?;
        let result = response.results.into_iter().next();
        result.map(|result| result.outcome).ok_or_else(|| Error::internal("a statement without a result"))
    }

    /// One row a figure. Ids begin with the moment, so they come in order and are new.
    async fn sample(&self) -> Result<()> {
        let now_us = self.clock.now_us();
        let figures = self.system.stats(&self.catalog.current());
        let mut sql =
            String::from("INSERT INTO dba.stats (id, node_id, metric_name, metric_value, metric_unit) VALUES ");
        let mut separator = "";
        for (name, unit) in SAMPLED {
            let figure = figures.iter().find(|figure| figure.name == *name);
            let Some(value) = figure.and_then(|figure| figure.value.parse::<f64>().ok()) else { continue };
            let unit = unit.map_or_else(|| "NULL".to_owned(), |unit| format!("'{unit}'"));
            // Writing to a String does not fail.
            let _ = write!(
                sql,
                "{separator}('{now_us:016x}-{THIS_NODE}-{name}', '{THIS_NODE}', '{name}', {value:?}, {unit})"
            );
            separator = ", ";
        }
        self.own_statement(sql).await.map(drop)
    }

    /// Deletes samples that are older.
    async fn forget_samples(&self, keep: Duration) -> Result<()> {
        let keep_ms = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        let end = Seq::first_at(self.clock.now_ms().saturating_sub(keep_ms));
        while let Some(first) = self.first_sample().await?.filter(|first| *first < end) {
            let step = Seq::first_at(first.unix_ms().saturating_add(FORGET_STEP_MS)).min(end);
            // What has just begun is in the step of its own millisecond.
            let step = step.max(first.after());
            self.own_statement(format!("DELETE FROM dba.stats WHERE _seq < {step}")).await?;
        }
        Ok(())
    }

    async fn first_sample(&self) -> Result<Option<Seq>> {
        let sql = "SELECT _seq FROM dba.stats ORDER BY _seq LIMIT 1".to_owned();
        let Outcome::Rows(rows) = self.own_statement(sql).await? else { return Ok(None) };
        let (_, batches) = self.within_limit(rows).await?;
        let batch = batches.iter().find(|batch| batch.num_rows() > 0);
        let first = batch.map(|batch| batch.column(0).as_primitive::<Int64Type>().value(0));
        Ok(first.and_then(Seq::new))
    }
}
