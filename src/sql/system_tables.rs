//! `system.*`: what the server knows about itself, as tables.
//!
//! Owns the tables' names and columns, which tools rely on. Each is computed when a statement names it.
//! Never decides who may read them, and never shows a password hash: `auth::Policy` and `***` do that.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_empty_array};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result, ScalarValue};

use crate::model::{
    AuditEntry, Catalog, DataType, NamespaceMeta, NamespaceName, Owner, Role, StorageId, StorageMeta, TableKind,
    TableMeta, TableOptions, TopicMeta, UserId,
};
use audit_log::AUDIT_LOG;
use cursors::CURSORS;
pub use cursors::CursorRow;
pub(crate) use information_schema::InformationTable;
pub use jobs::JobRow;
use jobs::{JOB_NODES, JOBS};
use schemas::{SCHEMAS, SchemaRow};
use server::{CLUSTER, CLUSTER_GROUPS, DATATYPES, SERVER_LOGS, SESSIONS, SETTINGS, TYPES};
pub use server::{LogRow, NodeRow, SessionRow, SettingRow, in_words};
use storages::STORAGES;
use tables::{COLUMNS, DESCRIBE, TABLES};
pub use topics::TopicGroupRow;
use topics::{DELIVERIES, TOPIC_OFFSETS, TOPICS};

mod audit_log;
mod cursors;
mod information_schema;
mod jobs;
mod schemas;
mod server;
mod storages;
mod tables;
mod topics;

/// What the system tables show that is not in the [`Catalog`].
pub trait SystemData: Send + Sync {
    fn users(&self) -> Vec<UserRow>;
    fn live(&self) -> Vec<LiveRow>;
    fn cursors(&self, catalog: &Catalog) -> Vec<CursorRow>;
    fn jobs(&self) -> Vec<JobRow>;
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL` where an entry is damaged.
    fn manifests(&self, catalog: &Catalog) -> crate::error::Result<Vec<ManifestRow>>;
    /// # Errors
    /// As [`SystemData::manifests`].
    fn audit_log(&self) -> crate::error::Result<Vec<AuditEntry>>;
    fn stats(&self, catalog: &Catalog) -> Vec<StatRow>;
    fn settings(&self) -> Vec<SettingRow>;
    fn sessions(&self) -> Vec<SessionRow>;
    fn server_logs(&self) -> Vec<LogRow>;
    fn node(&self) -> NodeRow;
    /// # Errors
    /// As [`SystemData::manifests`].
    fn topic_groups(&self, catalog: &Catalog) -> crate::error::Result<Vec<TopicGroupRow>>;
}

/// A row of `system.stats`: one figure, as text.
#[derive(Debug, Clone)]
pub struct StatRow {
    pub name: &'static str,
    pub value: String,
}

/// A row of `system.manifest`: one partition that has cold rows.
#[derive(Debug, Clone)]
pub struct ManifestRow {
    pub table: Arc<TableMeta>,
    pub owner: Owner,
    /// Microseconds since the Unix epoch.
    pub last_refreshed: Option<i64>,
    pub manifest_json: String,
}

impl ManifestRow {
    fn scope(&self) -> &str {
        match &self.owner {
            Owner::Shared => "shared",
            Owner::User(user) => user.as_str(),
        }
    }
}

/// A row of `system.users`. Times are in microseconds since the Unix epoch.
#[derive(Debug, Clone)]
pub struct UserRow {
    pub user_id: UserId,
    pub role: Role,
    pub email: Option<String>,
    /// `password`, `oauth` or `internal`.
    pub auth_type: &'static str,
    /// `table` or `region`.
    pub storage_mode: &'static str,
    pub storage_id: Option<StorageId>,
    pub failed_login_attempts: i32,
    pub locked_until: Option<i64>,
    pub last_login_at: Option<i64>,
    pub created_at: i64,
    pub updated_at: i64,
    pub last_seen: Option<i64>,
    pub deleted_at: Option<i64>,
}

/// A row of `system.live`: one subscription. Times are in microseconds since the Unix epoch.
#[derive(Debug, Clone)]
pub struct LiveRow {
    pub live_id: String,
    pub connection_id: String,
    pub subscription_id: String,
    pub namespace: NamespaceName,
    /// `*`: all of the namespace.
    pub table: String,
    pub user_id: UserId,
    pub query: String,
    /// JSON.
    pub options: Option<String>,
    pub created_at: i64,
    pub last_update: i64,
    /// Changes delivered.
    pub changes: i64,
    pub last_ping_at: i64,
}

/// Where a subscription is, and a job; there is one node.
pub const THIS_NODE: i64 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SystemTable {
    Users,
    Namespaces,
    Tables,
    Columns,
    Describe,
    Schemas,
    Storages,
    Live,
    Cursors,
    Jobs,
    JobNodes,
    Manifest,
    Stats,
    Topics,
    TopicOffsets,
    Deliveries,
    Settings,
    Sessions,
    ServerLogs,
    Cluster,
    ClusterGroups,
    DataTypes,
    AuditLog,
}

impl SystemTable {
    pub(crate) const ALL: &'static [SystemTable] = &[
        SystemTable::Users,
        SystemTable::Namespaces,
        SystemTable::Tables,
        SystemTable::Columns,
        SystemTable::Describe,
        SystemTable::Schemas,
        SystemTable::Storages,
        SystemTable::Live,
        SystemTable::Cursors,
        SystemTable::Jobs,
        SystemTable::JobNodes,
        SystemTable::Manifest,
        SystemTable::Stats,
        SystemTable::Topics,
        SystemTable::TopicOffsets,
        SystemTable::Deliveries,
        SystemTable::Settings,
        SystemTable::Sessions,
        SystemTable::ServerLogs,
        SystemTable::Cluster,
        SystemTable::ClusterGroups,
        SystemTable::DataTypes,
        SystemTable::AuditLog,
    ];

    pub(crate) fn named(name: &str) -> Option<SystemTable> {
        Self::ALL.iter().copied().find(|table| table.name().eq_ignore_ascii_case(name))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            SystemTable::Users => "users",
            SystemTable::Namespaces => "namespaces",
            SystemTable::Tables => "tables",
            SystemTable::Columns => "columns",
            SystemTable::Describe => "describe",
            SystemTable::Schemas => "schemas",
            SystemTable::Storages => "storages",
            SystemTable::Live => "live",
            SystemTable::Cursors => "cursors",
            SystemTable::Jobs => "jobs",
            SystemTable::JobNodes => "job_nodes",
            SystemTable::Manifest => "manifest",
            SystemTable::Stats => "stats",
            SystemTable::Topics => "topics",
            SystemTable::TopicOffsets => "topic_offsets",
            SystemTable::Deliveries => "deliveries",
            SystemTable::Settings => "settings",
            SystemTable::Sessions => "sessions",
            SystemTable::ServerLogs => "server_logs",
            SystemTable::Cluster => "cluster",
            SystemTable::ClusterGroups => "cluster_groups",
            SystemTable::DataTypes => "datatypes",
            SystemTable::AuditLog => "audit_log",
        }
    }

    pub(crate) fn schema(self) -> SchemaRef {
        match self {
            SystemTable::Users => schema_of(USERS),
            SystemTable::Namespaces => schema_of(NAMESPACES),
            SystemTable::Tables => schema_of(TABLES),
            SystemTable::Columns => schema_of(COLUMNS),
            SystemTable::Describe => schema_of(DESCRIBE),
            SystemTable::Schemas => schema_of(SCHEMAS),
            SystemTable::Storages => schema_of(STORAGES),
            SystemTable::Live => schema_of(LIVE),
            SystemTable::Cursors => schema_of(CURSORS),
            SystemTable::Jobs => schema_of(JOBS),
            SystemTable::JobNodes => schema_of(JOB_NODES),
            SystemTable::Manifest => schema_of(MANIFEST),
            SystemTable::Stats => schema_of(STATS),
            SystemTable::Topics => schema_of(TOPICS),
            SystemTable::TopicOffsets => schema_of(TOPIC_OFFSETS),
            SystemTable::Deliveries => schema_of(DELIVERIES),
            SystemTable::Settings => schema_of(SETTINGS),
            SystemTable::Sessions => schema_of(SESSIONS),
            SystemTable::ServerLogs => schema_of(SERVER_LOGS),
            SystemTable::Cluster => schema_of(CLUSTER),
            SystemTable::ClusterGroups => schema_of(CLUSTER_GROUPS),
            SystemTable::DataTypes => schema_of(DATATYPES),
            SystemTable::AuditLog => schema_of(AUDIT_LOG),
        }
    }

    pub(crate) fn rows(self, catalog: &Catalog, system: &dyn SystemData) -> Result<RecordBatch> {
        match self {
            SystemTable::Users => batch_of(USERS, &system.users()),
            SystemTable::Namespaces => {
                let rows: Vec<NamespaceRow> = catalog
                    .namespaces
                    .values()
                    .map(|meta| NamespaceRow { meta: meta.clone(), tables: catalog.tables_in(&meta.name).len() })
                    .collect();
                batch_of(NAMESPACES, &rows)
            }
            SystemTable::Tables => batch_of(TABLES, &tables::relations(catalog)),
            SystemTable::Columns => batch_of(COLUMNS, &tables::columns(catalog)),
            SystemTable::Describe => batch_of(DESCRIBE, &tables::columns(catalog)),
            SystemTable::Schemas => {
                let rows: Vec<SchemaRow> = catalog.tables().flat_map(schemas::versions_of).collect();
                batch_of(SCHEMAS, &rows)
            }
            SystemTable::Storages => {
                let rows: Vec<Arc<StorageMeta>> = catalog.storages.values().cloned().collect();
                batch_of(STORAGES, &rows)
            }
            SystemTable::Live => batch_of(LIVE, &system.live()),
            SystemTable::Cursors => batch_of(CURSORS, &system.cursors(catalog)),
            SystemTable::Jobs => batch_of(JOBS, &system.jobs()),
            SystemTable::JobNodes => batch_of(JOB_NODES, &system.jobs()),
            SystemTable::Manifest => {
                let rows = system.manifests(catalog).map_err(|error| DataFusionError::External(Box::new(error)))?;
                batch_of(MANIFEST, &rows)
            }
            SystemTable::Stats => batch_of(STATS, &system.stats(catalog)),
            SystemTable::Topics => {
                let rows: Vec<Arc<TopicMeta>> = catalog.topics.values().cloned().collect();
                batch_of(TOPICS, &rows)
            }
            SystemTable::TopicOffsets => batch_of(TOPIC_OFFSETS, &groups(catalog, system)?),
            SystemTable::Deliveries => batch_of(DELIVERIES, &groups(catalog, system)?),
            SystemTable::Settings => batch_of(SETTINGS, &system.settings()),
            SystemTable::Sessions => batch_of(SESSIONS, &system.sessions()),
            SystemTable::ServerLogs => batch_of(SERVER_LOGS, &system.server_logs()),
            SystemTable::Cluster => batch_of(CLUSTER, &[system.node()]),
            SystemTable::ClusterGroups => batch_of(CLUSTER_GROUPS, &[system.node()]),
            SystemTable::DataTypes => batch_of(DATATYPES, TYPES),
            SystemTable::AuditLog => {
                let rows = system.audit_log().map_err(|error| DataFusionError::External(Box::new(error)))?;
                batch_of(AUDIT_LOG, &rows)
            }
        }
    }
}

fn groups(catalog: &Catalog, system: &dyn SystemData) -> Result<Vec<TopicGroupRow>> {
    system.topic_groups(catalog).map_err(|error| DataFusionError::External(Box::new(error)))
}

struct NamespaceRow {
    meta: NamespaceMeta,
    tables: usize,
}

/// A column of a system table whose rows come from `R`s.
struct Column<R: 'static> {
    name: &'static str,
    nullable: bool,
    /// Of `cell`'s values.
    data_type: DataType,
    cell: fn(&R) -> ScalarValue,
}

fn schema_of<R>(columns: &[Column<R>]) -> SchemaRef {
    let fields = columns.iter().map(|column| column.data_type.field(column.name, column.nullable));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn batch_of<R>(columns: &[Column<R>], rows: &[R]) -> Result<RecordBatch> {
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(columns.len());
    for column in columns {
        arrays.push(if rows.is_empty() {
            new_empty_array(&column.data_type.arrow())
        } else {
            ScalarValue::iter_to_array(rows.iter().map(column.cell))?
        });
    }
    Ok(RecordBatch::try_new(schema_of(columns), arrays)?)
}

const fn column<R>(name: &'static str, data_type: DataType, cell: fn(&R) -> ScalarValue) -> Column<R> {
    Column { name, nullable: false, data_type, cell }
}

const fn text<R>(name: &'static str, cell: fn(&R) -> ScalarValue) -> Column<R> {
    column(name, DataType::Text, cell)
}

/// The cells are the text of a document.
const fn json<R>(name: &'static str, cell: fn(&R) -> ScalarValue) -> Column<R> {
    column(name, DataType::Json, cell)
}

const fn smallint<R>(name: &'static str, cell: fn(&R) -> ScalarValue) -> Column<R> {
    column(name, DataType::SmallInt, cell)
}

const fn int<R>(name: &'static str, cell: fn(&R) -> ScalarValue) -> Column<R> {
    column(name, DataType::Int, cell)
}

const fn bigint<R>(name: &'static str, cell: fn(&R) -> ScalarValue) -> Column<R> {
    column(name, DataType::BigInt, cell)
}

const fn float<R>(name: &'static str, cell: fn(&R) -> ScalarValue) -> Column<R> {
    column(name, DataType::Float, cell)
}

const fn boolean<R>(name: &'static str, cell: fn(&R) -> ScalarValue) -> Column<R> {
    column(name, DataType::Boolean, cell)
}

const fn time<R>(name: &'static str, cell: fn(&R) -> ScalarValue) -> Column<R> {
    column(name, DataType::Timestamp, cell)
}

const fn null<R>(column: Column<R>) -> Column<R> {
    Column { nullable: true, ..column }
}

/// Text that may be missing.
fn words(text: Option<impl Into<String>>) -> ScalarValue {
    ScalarValue::Utf8(text.map(Into::into))
}

fn micros(time: impl Into<Option<i64>>) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(time.into(), None)
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

const USERS: &[Column<UserRow>] = &[
    text("user_id", |r| r.user_id.as_str().into()),
    text("password_hash", |_| "***".into()),
    text("role", |r| r.role.as_str().into()),
    null(text("email", |r| words(r.email.as_deref()))),
    text("auth_type", |r| r.auth_type.into()),
    null(json("auth_data", |_| words(None::<String>))),
    text("storage_mode", |r| r.storage_mode.into()),
    null(text("storage_id", |r| words(r.storage_id.as_ref().map(StorageId::as_str)))),
    int("failed_login_attempts", |r| r.failed_login_attempts.into()),
    null(time("locked_until", |r| micros(r.locked_until))),
    null(time("last_login_at", |r| micros(r.last_login_at))),
    time("created_at", |r| micros(r.created_at)),
    time("updated_at", |r| micros(r.updated_at)),
    null(time("last_seen", |r| micros(r.last_seen))),
    null(time("deleted_at", |r| micros(r.deleted_at))),
];

const NAMESPACES: &[Column<NamespaceRow>] = &[
    text("namespace_id", |r| r.meta.name.as_str().into()),
    text("name", |r| r.meta.name.as_str().into()),
    time("created_at", |r| micros(r.meta.created_at)),
    null(json("options", |r| words(r.meta.options.as_deref()))),
    int("table_count", |r| i32::try_from(r.tables).unwrap_or(i32::MAX).into()),
];

const LIVE: &[Column<LiveRow>] = &[
    text("live_id", |r| r.live_id.as_str().into()),
    text("connection_id", |r| r.connection_id.as_str().into()),
    text("subscription_id", |r| r.subscription_id.as_str().into()),
    text("namespace_id", |r| r.namespace.as_str().into()),
    text("table_name", |r| r.table.as_str().into()),
    text("user_id", |r| r.user_id.as_str().into()),
    text("query", |r| r.query.as_str().into()),
    null(json("options", |r| words(r.options.as_deref()))),
    text("status", |_| "active".into()),
    time("created_at", |r| micros(r.created_at)),
    time("last_update", |r| micros(r.last_update)),
    bigint("changes", |r| r.changes.into()),
    bigint("node_id", |_| THIS_NODE.into()),
    time("last_ping_at", |r| micros(r.last_ping_at)),
];

/// Each partition with cold rows. Its manifest in the store is the one that counts, so it is never behind its files.
const MANIFEST: &[Column<ManifestRow>] = &[
    text("cache_key", |r| format!("{}:{}", r.table.name, r.scope()).into()),
    text("namespace_id", |r| r.table.name.namespace().as_str().into()),
    text("table_name", |r| r.table.name.table().into()),
    text("scope", |r| r.scope().into()),
    null(text("etag", |_| words(None::<String>))),
    null(time("last_refreshed", |r| micros(r.last_refreshed))),
    null(time("last_accessed", |_| micros(None))),
    boolean("in_memory", |_| true.into()),
    text("sync_state", |_| "in_sync".into()),
    json("manifest_json", |r| r.manifest_json.as_str().into()),
];

const STATS: &[Column<StatRow>] =
    &[text("metric_name", |r| r.name.into()), text("metric_value", |r| r.value.as_str().into())];

/// The options that CREATE TABLE was given or that stand in their place, as JSON.
fn table_options(table: &TableOptions, kind: TableKind) -> String {
    let mut options = serde_json::Map::new();
    options.insert("TYPE".to_owned(), kind.as_str().to_ascii_uppercase().into());
    if kind == TableKind::Shared {
        options.insert("ACCESS_LEVEL".to_owned(), table.access.as_str().into());
    }
    if let Some(durability) = table.durability {
        options.insert("DURABILITY".to_owned(), durability.as_str().into());
    }
    if table.use_user_storage {
        options.insert("USE_USER_STORAGE".to_owned(), true.into());
    }
    if let Some(seconds) = table.ttl_seconds {
        options.insert("TTL_SECONDS".to_owned(), seconds.into());
    }
    if let Some(hours) = table.deleted_retention_hours {
        options.insert("DELETED_RETENTION_HOURS".to_owned(), hours.into());
    }
    serde_json::Value::Object(options).to_string()
}

#[cfg(test)]
mod tests;
