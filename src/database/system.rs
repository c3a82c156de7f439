//! What `system.users`, `system.live`, `system.jobs`, `system.job_nodes`, `system.manifest`, `system.audit_log` and `system.stats`
//! show.

use std::sync::Arc;
use std::time::Instant;

use crate::actors::Jobs;
use crate::auth::Authenticator;
use crate::error::{Error, Result};
use crate::jobs::{Job, JobState};
use crate::live::LiveDirectory;
use crate::live::directory::LiveSubscription;
use crate::model::{AuditEntry, Catalog, PartitionKey};
use crate::sql::system_tables::{CursorRow, JobRow, LiveRow, ManifestRow, StatRow, SystemData, TopicGroupRow, UserRow};
use crate::storage::Store;

pub(super) struct System {
    pub auth: Arc<Authenticator>,
    pub live: Arc<LiveDirectory>,
    pub jobs: Jobs,
    pub store: Arc<Store>,
    pub started: Instant,
}

impl SystemData for System {
    fn users(&self) -> Vec<UserRow> {
        let row = |user: &Arc<crate::auth::UserRecord>| UserRow {
            user_id: user.user_id.clone(),
            role: user.role,
            email: user.email.clone(),
            auth_type: user.auth_type.as_str(),
            storage_mode: user.storage_mode.as_str(),
            storage_id: user.storage_id.clone(),
            failed_login_attempts: i32::try_from(user.failed_login_attempts).unwrap_or(i32::MAX),
            locked_until: user.locked_until,
            last_login_at: user.last_login_at,
            created_at: user.created_at,
            updated_at: user.updated_at,
            last_seen: user.last_login_at,
            deleted_at: user.deleted_at,
        };
        self.auth.users().iter().map(row).collect()
    }

    fn live(&self) -> Vec<LiveRow> {
        let row = |subscription: &Arc<LiveSubscription>| LiveRow {
            live_id: subscription.live_id(),
            connection_id: subscription.connection.id.to_string(),
            subscription_id: subscription.subscription_id.clone(),
            namespace: subscription.follows.namespace().clone(),
            table: subscription.follows.table_name().to_owned(),
            user_id: subscription.user.clone(),
            query: subscription.query.clone(),
            options: subscription.options.clone(),
            created_at: subscription.created_at,
            last_update: subscription.last_update(),
            changes: i64::try_from(subscription.changes()).unwrap_or(i64::MAX),
            last_ping_at: subscription.connection.last_seen_at(),
        };
        self.live.subscriptions().iter().map(row).collect()
    }

    fn cursors(&self, catalog: &Catalog) -> Vec<CursorRow> {
        super::cursors::rows_of(&self.live, &self.store, catalog)
    }

    fn jobs(&self) -> Vec<JobRow> {
        self.jobs.list().into_iter().map(job_row).collect()
    }

    fn manifests(&self, catalog: &Catalog) -> Result<Vec<ManifestRow>> {
        let view = self.store.read_view();
        let mut rows = Vec::new();
        for table in catalog.tables() {
            for owner in self.store.owners_of(table.id)? {
                let key = PartitionKey { table: table.id, owner };
                let Some(manifest) = view.manifest(&key)?.filter(|manifest| !manifest.is_empty()) else { continue };
                let newest = manifest.segments().iter().map(|segment| segment.meta.created_at).max();
                let shown = manifest.shown(table, &key.owner, |segment| view.deleted_count(table.id, segment))?;
                rows.push(ManifestRow {
                    last_refreshed: newest.map(|ms| ms * 1000),
                    manifest_json: serde_json::to_string(&shown).map_err(Error::internal)?,
                    table: table.clone(),
                    owner: key.owner,
                });
            }
        }
        Ok(rows)
    }

    fn topic_groups(&self, catalog: &Catalog) -> Result<Vec<TopicGroupRow>> {
        let view = self.store.read_view();
        let mut rows = Vec::new();
        for topic in catalog.topics.values() {
            for group in view.topic_groups(topic.id) {
                let (key, state) = group?;
                let head = view.topic_head(key.at)?;
                rows.push(TopicGroupRow { topic: topic.clone(), key, state, head });
            }
        }
        Ok(rows)
    }

    fn audit_log(&self) -> Result<Vec<AuditEntry>> {
        super::audit::entries(&self.store)
    }

    fn stats(&self, catalog: &Catalog) -> Vec<StatRow> {
        let jobs = self.jobs.list();
        let in_state = |states: &[JobState]| jobs.iter().filter(|job| states.contains(&job.status)).count();
        let cold = self.store.cold().segments().read();
        let (memory, threads) = process_size();
        let figures = [
            ("server_version", env!("CARGO_PKG_VERSION").to_owned()),
            ("server_uptime_seconds", self.started.elapsed().as_secs().to_string()),
            ("pid", std::process::id().to_string()),
            ("memory_rss_bytes", memory.to_string()),
            ("thread_count", threads.to_string()),
            ("total_users", self.auth.users().len().to_string()),
            ("total_namespaces", catalog.namespaces.len().to_string()),
            ("total_tables", catalog.tables().count().to_string()),
            ("total_topics", catalog.topics.len().to_string()),
            ("total_storages", catalog.storages.len().to_string()),
            ("total_live_queries", self.live.subscriptions().len().to_string()),
            ("total_jobs", jobs.len().to_string()),
            ("jobs_running", in_state(&[JobState::Running]).to_string()),
            ("jobs_queued", in_state(&[JobState::New, JobState::Queued, JobState::Retrying]).to_string()),
            ("jobs_failed", in_state(&[JobState::Failed]).to_string()),
            ("stream_buckets", self.store.streams().ids().len().to_string()),
            ("stream_bucket_bytes", self.store.streams().bytes().to_string()),
            ("segment_files_opened", cold.footers.to_string()),
            ("segment_reads", cold.reads.to_string()),
            ("segment_bytes_read", cold.bytes.to_string()),
        ];
        figures.into_iter().map(|(name, value)| StatRow { name, value }).collect()
    }
}

/// Resident bytes and threads of this process; 0 where the system does not say.
fn process_size() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let number = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    (number("VmRSS:") * 1024, number("Threads:"))
}

fn job_row(job: Job) -> JobRow {
    let parameters = serde_json::to_value(&job.params)
        .ok()
        .and_then(|mut tagged| tagged.get_mut("parameters").map(serde_json::Value::take));
    JobRow {
        job_id: job.job_id.to_string(),
        job_type: job.params.kind().as_str(),
        status: job.status.as_str(),
        parameters: parameters.map(|parameters| parameters.to_string()),
        message: job.message,
        exception_trace: job.exception_trace,
        idempotency_key: job.params.idempotency_key(),
        priority: job.priority,
        retry_count: i16::try_from(job.retry_count).unwrap_or(i16::MAX),
        max_retries: i16::try_from(job.max_retries).unwrap_or(i16::MAX),
        created_at: job.created_at,
        updated_at: job.updated_at,
        started_at: job.started_at,
        finished_at: job.finished_at,
    }
}
