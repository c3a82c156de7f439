//! `system.settings`, `sessions`, `server_logs`, `cluster`, `cluster_groups` and `datatypes`: the server itself.
//!
//! Owns their columns. What describes an engine that we do not have (consensus groups) is NULL; there is one node.

use datafusion::common::ScalarValue;

use super::{Column, THIS_NODE, bigint, boolean, float, int, json, micros, null, smallint, text, time, words};
use crate::model::DataType;

/// A row of `system.settings`: a key of the configuration in effect. Secrets come as `***`.
#[derive(Debug, Clone)]
pub struct SettingRow {
    pub name: &'static str,
    pub value: String,
    pub description: &'static str,
    /// The section.
    pub category: &'static str,
}

pub(super) const SETTINGS: &[Column<SettingRow>] = &[
    text("name", |r| r.name.into()),
    text("value", |r| r.value.as_str().into()),
    text("description", |r| r.description.into()),
    text("category", |r| r.category.into()),
];

/// A row of `system.sessions`: an open WebSocket, or stream of server-sent events. Times are in microseconds since the
/// Unix epoch.
#[derive(Debug, Clone)]
pub struct SessionRow {
    pub session_id: String,
    /// `None` until it has said who it is.
    pub user_id: Option<String>,
    pub client_addr: Option<String>,
    pub transport: &'static str,
    pub opened_at: i64,
    pub last_seen_at: i64,
}

pub(super) const SESSIONS: &[Column<SessionRow>] = &[
    text("session_id", |r| r.session_id.as_str().into()),
    null(bigint("backend_pid", |_| ScalarValue::Int64(None))),
    null(text("current_schema", |_| words(None::<String>))),
    text("state", |r| if r.user_id.is_some() { "active" } else { "authenticating" }.into()),
    null(text("transaction_id", |_| words(None::<String>))),
    null(text("transaction_state", |_| words(None::<String>))),
    boolean("transaction_has_writes", |_| false.into()),
    null(text("client_addr", |r| words(r.client_addr.as_deref()))),
    text("transport", |r| r.transport.into()),
    time("opened_at", |r| micros(r.opened_at)),
    time("last_seen_at", |r| micros(r.last_seen_at)),
    null(text("last_method", |_| words(None::<String>))),
    null(text("user_id", |r| words(r.user_id.as_deref()))),
];

/// A row of `system.server_logs`: one of the last lines.
#[derive(Debug, Clone)]
pub struct LogRow {
    /// RFC 3339, in UTC.
    pub timestamp: String,
    pub level: &'static str,
    pub thread: Option<String>,
    pub target: String,
    pub line: Option<u32>,
    pub message: String,
}

pub(super) const SERVER_LOGS: &[Column<LogRow>] = &[
    text("timestamp", |r| r.timestamp.as_str().into()),
    text("level", |r| r.level.into()),
    null(text("thread", |r| words(r.thread.as_deref()))),
    null(text("target", |r| words(Some(r.target.as_str())))),
    null(bigint("line", |r| ScalarValue::Int64(r.line.map(i64::from)))),
    text("message", |r| r.message.as_str().into()),
];

/// The row of `system.cluster`.
#[derive(Debug, Clone, Default)]
pub struct NodeRow {
    pub api_addr: String,
    pub hostname: Option<String>,
    pub memory_mb: Option<i64>,
    pub memory_usage_mb: Option<i64>,
    pub cpu_usage_percent: Option<f32>,
    pub uptime_seconds: i64,
}

const CLUSTER_ID: &str = "cluster";

pub(super) const CLUSTER: &[Column<NodeRow>] = &[
    text("cluster_id", |_| CLUSTER_ID.into()),
    bigint("node_id", |_| THIS_NODE.into()),
    text("role", |_| "leader".into()),
    text("status", |_| "active".into()),
    // Nothing listens beside it.
    text("rpc_addr", |r| r.api_addr.as_str().into()),
    text("api_addr", |r| r.api_addr.as_str().into()),
    boolean("is_self", |_| true.into()),
    boolean("is_leader", |_| true.into()),
    int("groups_leading", |_| 1_i32.into()),
    int("total_groups", |_| 1_i32.into()),
    null(bigint("current_term", |_| ScalarValue::Int64(None))),
    null(bigint("last_applied_log", |_| ScalarValue::Int64(None))),
    null(bigint("leader_last_log_index", |_| ScalarValue::Int64(None))),
    null(bigint("snapshot_index", |_| ScalarValue::Int64(None))),
    null(smallint("catchup_progress_pct", |_| ScalarValue::Int16(None))),
    null(bigint("replication_lag", |_| ScalarValue::Int64(None))),
    null(text("hostname", |r| words(r.hostname.as_deref()))),
    null(text("version", |_| env!("CARGO_PKG_VERSION").into())),
    null(bigint("memory_mb", |r| ScalarValue::Int64(r.memory_mb))),
    null(bigint("memory_usage_mb", |r| ScalarValue::Int64(r.memory_usage_mb))),
    null(float("cpu_usage_percent", |r| ScalarValue::Float32(r.cpu_usage_percent))),
    null(bigint("uptime_seconds", |r| r.uptime_seconds.into())),
    null(text("uptime_human", |r| in_words(r.uptime_seconds).into())),
    null(text("os", |_| std::env::consts::OS.into())),
    null(text("arch", |_| std::env::consts::ARCH.into())),
];

/// One group: everything there is, led by the one node.
pub(super) const CLUSTER_GROUPS: &[Column<NodeRow>] = &[
    bigint("group_id", |_| 0_i64.into()),
    text("cluster_id", |_| CLUSTER_ID.into()),
    bigint("node_id", |_| THIS_NODE.into()),
    text("group_type", |_| "all".into()),
    null(bigint("current_term", |_| ScalarValue::Int64(None))),
    null(json("vote", |_| words(None::<String>))),
    null(bigint("last_log_index", |_| ScalarValue::Int64(None))),
    null(bigint("last_applied", |_| ScalarValue::Int64(None))),
    null(bigint("snapshot", |_| ScalarValue::Int64(None))),
    null(bigint("purged", |_| ScalarValue::Int64(None))),
    null(bigint("committed", |_| ScalarValue::Int64(None))),
    null(text("state", |_| "leader".into())),
    null(bigint("current_leader", |_| THIS_NODE.into())),
    null(bigint("millis_since_quorum_ack", |_| ScalarValue::Int64(None))),
];

/// `2d 3h 4m`: the two or three largest units.
pub fn in_words(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, minutes) => format!("{days}d {hours}h {minutes}m"),
    }
}

pub(super) type TypeRow = (DataType, &'static str, &'static str);

/// Every column type, and what it holds.
pub(super) const TYPES: &[TypeRow] = &[
    (DataType::Boolean, "BOOLEAN", "true or false"),
    (DataType::SmallInt, "SMALLINT", "whole numbers of 16 bits"),
    (DataType::Int, "INT", "whole numbers of 32 bits"),
    (DataType::BigInt, "BIGINT", "whole numbers of 64 bits; text in JSON answers"),
    (DataType::Float, "FLOAT", "floating-point numbers of 32 bits"),
    (DataType::Double, "DOUBLE", "floating-point numbers of 64 bits"),
    (DataType::Decimal { precision: 38, scale: 10 }, "DECIMAL(p, s)", "exact numbers of up to 38 digits"),
    (DataType::Text, "TEXT", "Unicode text"),
    (DataType::Bytes, "BYTES", "bytes; base64 in JSON answers"),
    (DataType::Date, "DATE", "days"),
    (DataType::Time, "TIME", "times of day, in microseconds"),
    (DataType::Timestamp, "TIMESTAMP", "moments without a zone, in microseconds"),
    (DataType::DateTime, "DATETIME", "moments in UTC, in microseconds"),
    (DataType::Uuid, "UUID", "UUIDs"),
    (DataType::Json, "JSON", "JSON documents"),
    (DataType::File, "FILE", "references to files"),
    (DataType::Embedding(384), "EMBEDDING(n)", "vectors of n floating-point numbers of 32 bits"),
];

pub(super) const DATATYPES: &[Column<TypeRow>] = &[
    text("arrow_type", |r| r.0.arrow().to_string().into()),
    text("kalam_type", |r| wire_name(r.0).into()),
    text("sql_name", |r| r.1.into()),
    text("description", |r| r.2.into()),
];

/// `BigInt` of `"BigInt"`, `Decimal` of `{"Decimal":…}`.
fn wire_name(data_type: DataType) -> String {
    match serde_json::to_value(data_type) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(serde_json::Value::Object(of_size)) => of_size.keys().next().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_words() {
        let cases = [(5, "5s"), (65, "1m"), (3_720, "1h 2m"), (90_061, "1d 1h 1m")];
        for (seconds, words) in cases {
            assert_eq!(in_words(seconds), words);
        }
    }
}
