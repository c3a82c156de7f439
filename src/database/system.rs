//! What `system.users`, `system.live`, `system.jobs`, `system.job_nodes`, `system.manifest` and `system.audit_log` show; of the
//! server itself: `observed.rs`.

use std::sync::Arc;
use std::time::Instant;

use crate::actors::{Jobs, Router};
use crate::auth::Authenticator;
use crate::error::{Error, Result};
use crate::jobs::Job;
use crate::live::LiveDirectory;
use crate::live::directory::LiveSubscription;
use crate::logging::RecentLog;
use crate::metrics::Metrics;
use crate::model::{AuditEntry, Catalog, PartitionKey};
use crate::sql::engine::Engine;
use crate::sql::system_tables::{
    CursorRow, JobRow, LiveRow, LogRow, ManifestRow, NodeRow, SessionRow, SettingRow, StatRow, SystemData,
    TopicGroupRow, UserRow,
};
use crate::storage::Store;

pub(super) struct System {
    pub auth: Arc<Authenticator>,
    pub live: Arc<LiveDirectory>,
    pub jobs: Jobs,
    pub store: Arc<Store>,
    pub started: Instant,
    pub router: Arc<Router>,
    pub engine: Arc<Engine>,
    pub metrics: Arc<Metrics>,
    pub settings: Arc<[SettingRow]>,
    pub log: RecentLog,
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
            subscription_id: subscription.subscription_id.to_string(),
            namespace: subscription.follows.namespace().clone(),
            table: subscription.follows.table_name().to_owned(),
            user_id: subscription.user().clone(),
            query: subscription.query.to_string(),
            options: subscription.options.as_deref().map(str::to_owned),
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
        self.stat_rows(catalog)
    }

    fn settings(&self) -> Vec<SettingRow> {
        self.settings.to_vec()
    }

    fn sessions(&self) -> Vec<SessionRow> {
        self.session_rows()
    }

    fn server_logs(&self) -> Vec<LogRow> {
        self.log_rows()
    }

    fn node(&self) -> NodeRow {
        self.node_row()
    }
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
