//! The audit log: appended, kept for a time, and never written by SQL.
//!
//! Owns its queue, the task that makes entries durable through the committer, and which of them are too old or too many.
//! What authentication tells of log-ins it commits itself (`auth/authenticator.rs`): a good one with the user's record, a failed
//! one by itself; everything else goes through here.
//! Never holds a statement's text. Never has a statement wait for room: at the bound of the queue, what only notes (an
//! attempt that was denied, an EXECUTE AS USER) is counted as lost and that is written; what changes a right waits, and is
//! answered when its entry is durable.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::actors::CommitterHandle;
use crate::config::AuditConfig;
use crate::error::{Error, Result};
use crate::model::{AuditEntry, Principal, UserId};
use crate::sql::statement::{AlterOperation, ExecuteTarget, Statement, UserChange};
use crate::storage::{CommitEntry, RecordKind, RecordWrite, Store};
use crate::time::Clock;

/// Entries that wait to be written: a second of the busiest user's denied attempts.
const QUEUE: usize = 4_096;
/// Entries of one commit.
const AT_ONCE: usize = 256;
/// Old entries that one commit removes.
const REMOVED_AT_ONCE: usize = 1_000;
/// How often is looked for old entries.
const ROTATE_ROUND: Duration = Duration::from_secs(60);

/// An entry on its way, and who waits for it. No entry: only whoever waits for those before.
type Queued = (Option<AuditEntry>, Option<oneshot::Sender<Result<()>>>);

/// The way into the log.
pub(super) struct AuditLog {
    queue: mpsc::Sender<Queued>,
    lost: Arc<AtomicU64>,
    clock: Clock,
}

impl AuditLog {
    /// Begins to write, until the log is dropped.
    pub(super) fn start(store: Arc<Store>, committer: CommitterHandle, clock: Clock, config: &AuditConfig) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer { store, committer, clock: clock.clone(), config: config.clone(), lost: lost.clone() };
        actix::spawn(writer.run(waiting));
        Self { queue, lost, clock }
    }

    /// Writes an entry by and by.
    pub(super) fn note(&self, entry: AuditEntry) {
        if self.queue.try_send((Some(entry), None)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns once the entry is durable.
    ///
    /// # Errors
    /// `SHUTTING_DOWN`, `STORAGE_UNAVAILABLE`.
    pub(super) async fn write(&self, entry: AuditEntry) -> Result<()> {
        self.wait_for(Some(entry)).await
    }

    /// Returns once everything that was noted before is durable.
    pub(super) async fn settle(&self) {
        // An error: nothing is written any more.
        let _ = self.wait_for(None).await;
    }

    async fn wait_for(&self, entry: Option<AuditEntry>) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.queue.send((entry, Some(reply))).await.map_err(|_| Error::ShuttingDown)?;
        answer.await.unwrap_or(Err(Error::ShuttingDown))
    }

    /// An attempt that was refused for want of a right; other errors are nobody's business.
    pub(super) fn note_denied(&self, principal: &Principal, what: &str, error: &Error, ip: Option<IpAddr>) {
        if matches!(error, Error::PermissionDenied(_)) {
            let entry = AuditEntry::of(&principal.user, "DENIED", what, self.clock.now_us());
            self.note(entry.with_details(error.to_string()).from_ip(ip));
        }
    }

    /// The same of a statement: acting for others has its own name.
    pub(super) fn note_denied_statement(
        &self,
        principal: &Principal,
        statement: &Statement,
        error: &Error,
        ip: Option<IpAddr>,
    ) {
        let Statement::ExecuteAs { target, .. } = statement else {
            return self.note_denied(principal, statement.kind(), error, ip);
        };
        if matches!(error, Error::PermissionDenied(_)) {
            let entry = self.acting_for(principal, "EXECUTE_AS_USER_DENIED", target);
            self.note(entry.with_details(error.to_string()).from_ip(ip));
        }
    }

    /// That a statement runs for another, or for all.
    pub(super) fn note_acting_for(&self, principal: &Principal, target: &ExecuteTarget, ip: Option<IpAddr>) {
        self.note(self.acting_for(principal, "EXECUTE_AS_USER", target).from_ip(ip));
    }

    fn acting_for(&self, principal: &Principal, action: &str, target: &ExecuteTarget) -> AuditEntry {
        let (name, subject) = match target {
            ExecuteTarget::All => ("*", None),
            ExecuteTarget::One(user) => (user.as_str(), Some(user.clone())),
        };
        let entry = AuditEntry::of(&principal.user, action, name, self.clock.now_us());
        AuditEntry { subject, ..entry }
    }

    /// What is to be written of a statement that was done by `actor`; `None`: it is none that is audited.
    pub(super) fn entry_of(&self, actor: &UserId, statement: &Statement) -> Option<AuditEntry> {
        let (target, details) = told(statement)?;
        let action = statement.kind().replace(' ', "_");
        let entry = AuditEntry::of(actor, action, target, self.clock.now_us());
        let entry = AuditEntry { details, ..entry };
        Some(match statement {
            Statement::CreateUser { name, .. }
            | Statement::AlterUser { name, .. }
            | Statement::DropUser { name, .. } => entry.about(name.clone()),
            _ => entry,
        })
    }
}

/// Target and details of what changes users and rights, takes data out or in, destroys it, or stops others.
fn told(statement: &Statement) -> Option<(String, Option<String>)> {
    Some(match statement {
        Statement::CreateUser { name, role, .. } => (name.to_string(), Some(format!("ROLE {role}"))),
        Statement::AlterUser { name, change } => (name.to_string(), Some(change_of(change))),
        Statement::DropUser { name, .. } => (name.to_string(), None),
        Statement::AlterTable(alter) => match &alter.operation {
            AlterOperation::SetOptions(options) => {
                let level = options.iter().find(|(name, _)| name == "ACCESS_LEVEL")?;
                (alter.name.to_string(), Some(format!("ACCESS_LEVEL = {}", level.1)))
            }
            _ => return None,
        },
        Statement::DropTable { name, .. } | Statement::Truncate { name } => (name.to_string(), None),
        Statement::DropNamespace { name, .. } => (name.to_string(), None),
        Statement::CreateStorage(create) => (create.id.to_string(), None),
        Statement::AlterStorage(alter) => (alter.id.to_string(), None),
        Statement::DropStorage { id, .. } => (id.to_string(), None),
        // A route shows services the rows of all users.
        Statement::AlterTopic { name, .. } | Statement::DropTopic { name, .. } => (name.to_string(), None),
        Statement::KillLiveQuery { live_id } => (live_id.clone(), None),
        Statement::KillJob { job_id } => (job_id.clone(), None),
        Statement::BackupDatabase { to } => (to.clone(), None),
        Statement::RestoreDatabase { from } => (from.clone(), None),
        Statement::ExportUserData => ("own data".to_owned(), None),
        _ => return None,
    })
}

fn change_of(change: &UserChange) -> String {
    match change {
        UserChange::SetPassword { .. } => "SET PASSWORD".to_owned(),
        UserChange::SetRole(role) => format!("SET ROLE {role}"),
        UserChange::SetEmail(_) => "SET EMAIL".to_owned(),
        UserChange::SetStorage(_) => "SET STORAGE".to_owned(),
        UserChange::Restore => "RESTORE".to_owned(),
    }
}

/// The record of an entry.
///
/// # Errors
/// `INTERNAL`.
fn record_of(entry: &AuditEntry) -> Result<RecordWrite> {
    let value = serde_json::to_vec(entry).map_err(Error::internal)?;
    Ok(RecordWrite { kind: RecordKind::Audit, key: entry.id.clone(), value: Some(value) })
}

/// Everything that is kept, the oldest first.
///
/// # Errors
/// `STORAGE_UNAVAILABLE`, `INTERNAL` where an entry is damaged.
pub(super) fn entries(store: &Store) -> Result<Vec<AuditEntry>> {
    let records = store.records(RecordKind::Audit)?;
    records.iter().map(|(_, value)| serde_json::from_slice(value).map_err(Error::internal)).collect()
}

/// The other end of the queue.
struct Writer {
    store: Arc<Store>,
    committer: CommitterHandle,
    clock: Clock,
    config: AuditConfig,
    lost: Arc<AtomicU64>,
}

impl Writer {
    async fn run(self, mut waiting: mpsc::Receiver<Queued>) {
        let mut rounds = tokio::time::interval(ROTATE_ROUND);
        let mut batch = Vec::with_capacity(AT_ONCE);
        loop {
            tokio::select! {
                taken = waiting.recv_many(&mut batch, AT_ONCE) => {
                    if taken == 0 {
                        return;
                    }
                    self.append(&mut batch).await;
                }
                _ = rounds.tick() => self.rotate().await,
            }
        }
    }

    /// One commit; then whoever waits is told. While it runs, the next batch gathers.
    async fn append(&self, batch: &mut Vec<Queued>) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let entry = AuditEntry::of_server("AUDIT_ENTRIES_LOST", "audit_log", self.clock.now_us());
            batch.push((Some(entry.with_details(format!("{lost} entries: too many at once"))), None));
        }
        let records: Result<Vec<RecordWrite>> =
            batch.iter().filter_map(|(entry, _)| entry.as_ref()).map(record_of).collect();
        let outcome = match records {
            Ok(records) if records.is_empty() => Ok(()),
            Ok(records) => self.committer.commit(CommitEntry::Records(records)).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = &outcome {
            tracing::error!(%error, entries = batch.len(), "entries of the audit log are not written");
        }
        for (_, waits) in batch.drain(..) {
            if let Some(waits) = waits {
                // Whoever waited may have gone.
                drop(waits.send(outcome.clone()));
            }
        }
    }

    async fn rotate(&self) {
        let kept_us = i64::try_from(self.config.retention.as_micros()).unwrap_or(i64::MAX);
        let before = AuditEntry::first_id(self.clock.now_us().saturating_sub(kept_us));
        loop {
            let (store, before, most) = (self.store.clone(), before.clone(), self.config.max_entries);
            let look = move || store.surplus_records(RecordKind::Audit, (&before, most), REMOVED_AT_ONCE);
            let surplus = match tokio::task::spawn_blocking(look).await {
                Ok(Ok(surplus)) if !surplus.is_empty() => surplus,
                Ok(Ok(_)) | Err(_) => return,
                Ok(Err(error)) => return tracing::warn!(%error, "old entries of the audit log can not be looked for"),
            };
            let removed = |key| RecordWrite { kind: RecordKind::Audit, key, value: None };
            let records = surplus.into_iter().map(removed).collect();
            if let Err(error) = self.committer.commit(CommitEntry::Records(records)).await {
                return tracing::warn!(%error, "old entries of the audit log are not removed");
            }
        }
    }
}
