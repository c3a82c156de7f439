//! `system.jobs`, and `system.job_nodes`: background work.

use datafusion::common::ScalarValue;

use super::{Column, THIS_NODE, bigint, int, json, micros, null, smallint, text, time, words};

/// A row of `system.jobs`, and of `system.job_nodes`. Times are in microseconds since the Unix epoch.
#[derive(Debug, Clone)]
pub struct JobRow {
    pub job_id: String,
    pub job_type: &'static str,
    pub status: &'static str,
    /// JSON.
    pub parameters: Option<String>,
    pub message: Option<String>,
    pub exception_trace: Option<String>,
    pub idempotency_key: String,
    pub priority: i32,
    pub retry_count: i16,
    pub max_retries: i16,
    pub created_at: i64,
    pub updated_at: i64,
    pub started_at: Option<i64>,
    pub finished_at: Option<i64>,
}

pub(super) const JOBS: &[Column<JobRow>] = &[
    text("job_id", |r| r.job_id.as_str().into()),
    text("job_type", |r| r.job_type.into()),
    text("status", |r| r.status.into()),
    null(text("leader_status", |_| words(None::<String>))),
    null(json("parameters", |r| words(r.parameters.as_deref()))),
    null(text("message", |r| words(r.message.as_deref()))),
    null(text("exception_trace", |r| words(r.exception_trace.as_deref()))),
    null(text("idempotency_key", |r| words(Some(r.idempotency_key.as_str())))),
    null(text("queue", |_| words(None::<String>))),
    null(int("priority", |r| r.priority.into())),
    smallint("retry_count", |r| r.retry_count.into()),
    smallint("max_retries", |r| r.max_retries.into()),
    null(bigint("memory_used", |_| ScalarValue::Int64(None))),
    null(bigint("cpu_used", |_| ScalarValue::Int64(None))),
    time("created_at", |r| micros(r.created_at)),
    time("updated_at", |r| micros(r.updated_at)),
    null(time("started_at", |r| micros(r.started_at))),
    null(time("finished_at", |r| micros(r.finished_at))),
    bigint("node_id", |_| THIS_NODE.into()),
    null(bigint("leader_node_id", |_| ScalarValue::Int64(None))),
];

/// Each job runs on one node.
pub(super) const JOB_NODES: &[Column<JobRow>] = &[
    text("job_id", |r| r.job_id.as_str().into()),
    bigint("node_id", |_| THIS_NODE.into()),
    text("status", |r| r.status.into()),
    null(text("error_message", |r| words(r.exception_trace.as_deref()))),
    time("created_at", |r| micros(r.created_at)),
    null(time("started_at", |r| micros(r.started_at))),
    null(time("finished_at", |r| micros(r.finished_at))),
    time("updated_at", |r| micros(r.updated_at)),
];
