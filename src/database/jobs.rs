//! The bodies of jobs, the work that is owed, and KILL JOB.
//!
//! Owns which body a kind has, and what is to be done though nobody submits it: a dropped table's record and a dropped
//! user's say so, and a job is made of them at the start and then each minute.
//! To add a kind of job: its parameters in `jobs/kind.rs`, an arm in [`Bodies::run`], its body in a file beside
//! [`erase`]. A body takes bounded steps, asks `control.check()` between them, blocks in `spawn_blocking` only, and is
//! written so that a kill -9 between any two lines leaves what a new try can go on with.

mod backup;
mod compact;
mod erase;
mod export;
mod files;
mod flush;
mod moving;
mod pace;
mod retention;
mod topics;

pub(super) use compact::{MergeWish, next_merge_of};
pub(super) use retention::retention_of;
pub(super) use topics::{look_for_old_entries, topic_cleanup_of};

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;

use super::Database;
use super::catalog::{CatalogStore, DroppedTable, owed_moves};
use super::execute::Scope;
use super::request::Outcome;
use crate::actors::jobs::{JobBodies, JobControl, JobDone};
use crate::actors::{CommitterHandle, Router};
use crate::auth::{Authenticator, UserRecord};
use crate::config::{FlushConfig, RetentionConfig};
use crate::error::{Error, Result};
use crate::jobs::{HotSurvey, Job, JobParams, is_due};
use crate::live::LiveDirectory;
use crate::model::{Owner, TableId, TableMeta, TableName};
use crate::sql::bind::IdSource;
use crate::storage::{ExportFolder, RecordKind, Store};
use crate::time::Clock;

/// How often owed work is looked for.
const OWED_ROUND: Duration = Duration::from_secs(60);

/// How long CREATE USER waits for a mailbox of the name to be erased, before it answers that one should come again.
const NAME_PATIENCE: Duration = Duration::from_secs(5);

/// What bodies work with.
pub(super) struct Bodies {
    pub store: Arc<Store>,
    pub committer: CommitterHandle,
    pub catalog: Arc<CatalogStore>,
    pub router: Arc<Router>,
    pub auth: Arc<Authenticator>,
    pub live: Arc<LiveDirectory>,
    pub clock: Clock,
    pub ids: Arc<IdSource>,
    pub flush: FlushConfig,
    pub data: PathBuf,
    pub exports: ExportFolder,
    pub retention: RetentionConfig,
    /// Tables that are being moved.
    pub moving: Mutex<HashSet<TableId>>,
}

#[async_trait]
impl JobBodies for Bodies {
    async fn run(&self, params: &JobParams, control: &JobControl) -> Result<JobDone> {
        match params {
            JobParams::Flush { table_id, forced, from_bytes, .. } => {
                let from_bytes = if *forced { Some(0) } else { *from_bytes };
                self.flush_table(*table_id, from_bytes, control).await
            }
            JobParams::Compact { table_id, .. } => self.compact_table(*table_id, control).await,
            JobParams::Cleanup { table_id, namespace_id, table_name, storage_id } => {
                let name = TableName::new(namespace_id.clone(), table_name).map_err(Error::internal)?;
                let dropped = DroppedTable { id: *table_id, name, storage: storage_id.clone() };
                self.erase_table(dropped, control).await
            }
            JobParams::UserCleanup { user_id, generation } => self.erase_mailbox(user_id, *generation, control).await,
            JobParams::Backup { path } => self.back_up(path, control).await,
            JobParams::Restore { path } => self.bring_back(path, control).await,
            JobParams::UserExport { user_id, user_since } => self.export_user(user_id, *user_since, control).await,
            JobParams::Retention { table_id, .. } => self.expire_table(*table_id, control).await,
            JobParams::Move { table_id, .. } => self.move_table(*table_id, control).await,
            JobParams::TopicCleanup { topic_id, .. } => self.erase_topic(*topic_id, control).await,
            JobParams::TopicRetention { topic_id, .. } => self.expire_topic(*topic_id, control).await,
        }
    }
}

/// The stored jobs. One that this program can not read is left alone: history must not keep a server from starting, and
/// what it may have been about stands in the store otherwise.
///
/// # Errors
/// `STORAGE_UNAVAILABLE`.
pub(super) fn stored(store: &Store) -> Result<Vec<Job>> {
    let records = store.records(RecordKind::Job)?;
    let decode = |(id, value): &(String, Vec<u8>)| {
        Job::decode(value).inspect_err(|error| tracing::error!(job = id, ?error, "a job's record is not readable")).ok()
    };
    Ok(records.iter().filter_map(decode).collect())
}

/// The job that compacts a table.
pub(super) fn compaction_of(table: &TableMeta) -> JobParams {
    JobParams::Compact {
        table_id: table.id,
        namespace_id: table.name.namespace().clone(),
        table_name: table.name.table().to_owned(),
    }
}

/// The job that flushes a table. `from_bytes`: partitions of this size too, due or not.
pub(super) fn flush_of(table: &TableMeta, forced: bool, from_bytes: Option<u64>) -> JobParams {
    JobParams::Flush {
        table_id: table.id,
        namespace_id: table.name.namespace().clone(),
        table_name: table.name.table().to_owned(),
        forced,
        from_bytes,
    }
}

/// The job that removes a table's tombstones that have expired.
fn expiry_of(table: &TableMeta) -> JobParams {
    JobParams::Retention {
        table_id: table.id,
        namespace_id: table.name.namespace().clone(),
        table_name: table.name.table().to_owned(),
    }
}

/// The job that moves a table's segments, as it is owed since `turn`.
pub(super) fn move_of(table: &TableMeta, turn: i64) -> JobParams {
    JobParams::Move {
        table_id: table.id,
        namespace_id: table.name.namespace().clone(),
        table_name: table.name.table().to_owned(),
        turn,
    }
}

/// Is this a job that works on the files of a table?
pub(super) fn is_about(params: &JobParams, table: TableId) -> bool {
    match params {
        JobParams::Flush { table_id, .. }
        | JobParams::Compact { table_id, .. }
        | JobParams::Retention { table_id, .. }
        | JobParams::Move { table_id, .. } => *table_id == table,
        JobParams::Cleanup { .. }
        | JobParams::UserCleanup { .. }
        | JobParams::Backup { .. }
        | JobParams::Restore { .. }
        | JobParams::UserExport { .. }
        | JobParams::TopicCleanup { .. }
        | JobParams::TopicRetention { .. } => false,
    }
}

/// The job that removes a dropped table's keys.
pub(super) fn cleanup_of(dropped: &DroppedTable) -> JobParams {
    JobParams::Cleanup {
        table_id: dropped.id,
        namespace_id: dropped.name.namespace().clone(),
        table_name: dropped.name.table().to_owned(),
        storage_id: dropped.storage.clone(),
    }
}

/// The job that erases a dropped user's mailbox.
pub(super) fn erasure_of(user: &UserRecord) -> JobParams {
    JobParams::UserCleanup { user_id: user.user_id.clone(), generation: user.generation }
}

/// Looks for owed work now and then, for as long as there is a database.
pub(super) async fn look_for_owed(database: Weak<Database>) {
    let mut rounds = tokio::time::interval(OWED_ROUND);
    // The first comes at once, and opening has looked.
    rounds.tick().await;
    loop {
        rounds.tick().await;
        let Some(database) = database.upgrade() else { return };
        database.submit_owed_jobs().await;
        database.expire_cursors();
    }
}

/// Looks for tables with partitions that are worth flushing, for as long as there is a database.
pub(super) async fn look_for_due(database: Weak<Database>) {
    let Some(every) = database.upgrade().map(|database| database.options.flush.check_interval) else { return };
    let mut rounds = tokio::time::interval(every);
    // The first comes at once: a start has enough to do.
    rounds.tick().await;
    loop {
        rounds.tick().await;
        let Some(database) = database.upgrade() else { return };
        database.submit_due_flushes().await;
    }
}

/// Looks for tables with deleted rows that have expired, for as long as there is a database.
pub(super) async fn look_for_expired(database: Weak<Database>) {
    let Some(every) = database.upgrade().map(|database| database.options.retention.check_interval) else { return };
    let mut rounds = tokio::time::interval(every);
    // The first comes at once: a start has enough to do.
    rounds.tick().await;
    loop {
        rounds.tick().await;
        let Some(database) = database.upgrade() else { return };
        database.submit_due_expiries().await;
    }
}

impl Database {
    async fn submit_due_expiries(&self) {
        let (store, catalog) = (self.store.clone(), self.catalog.current());
        let (config, now_ms, auth) = (self.options.retention.clone(), self.clock.now_ms(), self.auth.clone());
        let look = self.engine.blocking(move || {
            // Dropped users' mailboxes are left as they are, until they go as a whole.
            let stays = |found: &Result<Owner>| match found {
                Ok(Owner::User(user)) => auth.leaving(user).is_none(),
                _ => true,
            };
            let mut due = Vec::new();
            for table in catalog.tables() {
                let retention = retention_of(table, &config, now_ms);
                if retention::expired_partitions(&store, table.id, retention).find(stays).transpose()?.is_some() {
                    due.push(table.clone());
                }
            }
            Ok(due)
        });
        match look.await {
            Ok(due) => {
                for table in due {
                    // An error: the queue is full or the server stops, and the next round asks again.
                    let _ = self.jobs.submit(expiry_of(&table)).await;
                }
            }
            Err(Error::ShuttingDown) => {}
            Err(error) => tracing::warn!(%error, "what has expired can not be looked for"),
        }
    }

    async fn submit_due_flushes(&self) {
        let (store, catalog) = (self.store.clone(), self.catalog.current());
        let (config, now_ms) = (self.options.flush.clone(), self.clock.now_ms());
        let look = self.engine.blocking(move || {
            let mut survey = HotSurvey::default();
            let mut found = Vec::new();
            for table in catalog.tables() {
                let mut due = !store.flushed_partitions(table.id)?.is_empty();
                let mut largest = 0;
                for partition in store.hot_partitions(table.id) {
                    let (_, stats) = partition?;
                    due |= is_due(&stats, &table.flush, &config, now_ms);
                    largest = largest.max(stats.bytes);
                    survey.add(&stats);
                }
                found.push((table.clone(), due, largest));
            }
            let relief = survey.relief(&config, store.free_disk());
            found.retain(|(_, due, largest)| *due || relief.is_some_and(|from| *largest >= from));
            Ok((found, relief))
        });
        match look.await {
            Ok((found, relief)) => {
                if let Some(from) = relief {
                    tracing::warn!(
                        from,
                        "there is not room for all that is hot: partitions from this size on are flushed"
                    );
                }
                for (table, ..) in found {
                    // An error: the queue is full or the server stops, and the next round asks again.
                    let _ = self.jobs.submit(flush_of(&table, false, relief)).await;
                }
            }
            Err(Error::ShuttingDown) => {}
            Err(error) => tracing::warn!(%error, "what is worth flushing can not be looked for"),
        }
    }

    pub(super) async fn submit_owed_jobs(&self) {
        let dropped = self.catalog.tables_to_erase(&self.store).await;
        let dropped = dropped.inspect_err(|error| tracing::warn!(%error, "dropped tables can not be looked for"));
        for table in dropped.unwrap_or_default() {
            self.jobs.submit_owed(cleanup_of(&table)).await;
        }
        self.submit_topic_cleanups().await;
        self.remove_old_exports().await;
        let tables: Vec<_> = self.catalog.current().tables().cloned().collect();
        self.submit_moves(&tables).await;
        for user in self.auth.due_to_be_erased(self.options.deletion_grace_period) {
            self.jobs.submit_owed(erasure_of(&user)).await;
        }
    }

    /// Has those of these tables moved that are owed it.
    pub(super) async fn submit_moves(&self, tables: &[Arc<TableMeta>]) {
        let owed = owed_moves(&self.store);
        let owed = owed.inspect_err(|error| tracing::warn!(%error, "tables to be moved can not be looked for"));
        let mut turns: BTreeMap<TableId, i64> = BTreeMap::new();
        for owed in owed.unwrap_or_default() {
            let turn = turns.entry(owed.table).or_default();
            *turn = owed.turn.max(*turn);
        }
        for table in tables {
            if let Some(turn) = turns.get(&table.id) {
                self.jobs.submit_owed(move_of(table, *turn)).await;
            }
        }
    }

    pub(super) async fn kill_job(&self, scope: &Scope<'_>, job_id: &str) -> Result<Outcome> {
        self.jobs.kill(job_id, format!("killed by {}", scope.principal.user)).await?;
        Ok(Outcome::Done { rows: 0, message: format!("Job {job_id} killed: cancelled") })
    }

    /// Has the mailbox of a dropped user erased now, and waits for it within bounds.
    ///
    /// # Errors
    /// `CONFLICT` where it takes longer, or failed; `BUSY`, `SHUTTING_DOWN`.
    pub(super) async fn free_name(&self, before: &UserRecord) -> Result<()> {
        let job = self.jobs.submit(erasure_of(before)).await?;
        // Either way the record says whether the name is free.
        let _ = tokio::time::timeout(NAME_PATIENCE, self.jobs.finished(&job)).await;
        if self.auth.leaving(&before.user_id).is_none() {
            return Ok(());
        }
        Err(Error::Conflict(format!(
            "the mailbox of the dropped user '{}' is still being erased (job {job}); try again in a moment",
            before.user_id
        )))
    }
}
