//! `system.topics`, `system.topic_offsets` and `system.deliveries`: who is how far behind.

use std::sync::Arc;

use datafusion::common::ScalarValue;

use super::{Column, bigint, int, json, micros, null, text, time, words};
use crate::model::{GroupKey, GroupState, TopicHead, TopicMeta, TopicRoute};

/// A group in one partition of a topic.
#[derive(Debug, Clone)]
pub struct TopicGroupRow {
    pub topic: Arc<TopicMeta>,
    pub key: GroupKey,
    pub state: GroupState,
    pub head: TopicHead,
}

impl TopicGroupRow {
    /// What the group has not done with and can still get.
    fn lag(&self) -> u64 {
        self.head.next.saturating_sub(self.state.cursor.max(self.head.first))
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn maybe(number: Option<u64>) -> ScalarValue {
    ScalarValue::Int64(number.map(whole))
}

fn routes(topic: &TopicMeta) -> String {
    let route = |route: &TopicRoute| {
        let (table, op, payload) = (route.table.to_string(), route.op.as_str(), route.payload.as_str());
        serde_json::json!({ "table": table, "op": op, "where": route.condition, "payload": payload })
    };
    serde_json::Value::Array(topic.routes.iter().map(route).collect()).to_string()
}

pub(super) const TOPICS: &[Column<Arc<TopicMeta>>] = &[
    text("topic_id", |r| r.name.to_string().into()),
    text("name", |r| r.name.to_string().into()),
    null(text("alias", |_| words(None::<String>))),
    int("partitions", |r| i32::try_from(r.partitions).unwrap_or(i32::MAX).into()),
    null(bigint("retention_seconds", |r| maybe(r.retention_seconds))),
    null(bigint("retention_max_bytes", |r| maybe(r.retention_max_bytes))),
    json("routes", |r| routes(r).into()),
    time("created_at", |r| micros(r.created_at)),
    time("updated_at", |r| micros(r.updated_at)),
    null(bigint("visibility_timeout_seconds", |r| maybe(r.visibility_timeout_seconds))),
    null(int("max_deliveries", |r| {
        let most = r.dead_letter.as_ref().map(|dead| i32::try_from(dead.max_deliveries).unwrap_or(i32::MAX));
        ScalarValue::Int32(most)
    })),
    null(text("dead_letter_topic", |r| words(r.dead_letter.as_ref().map(|dead| dead.topic.to_string())))),
];

/// `last_acked_offset`: -1 where the group begins at offset 0 and has done with nothing.
pub(super) const TOPIC_OFFSETS: &[Column<TopicGroupRow>] = &[
    text("topic_id", |r| r.topic.name.to_string().into()),
    text("group_id", |r| r.key.group.as_str().into()),
    int("partition_id", |r| i32::try_from(r.key.at.partition).unwrap_or(i32::MAX).into()),
    bigint("last_acked_offset", |r| (whole(r.state.cursor) - 1).into()),
    time("updated_at", |r| micros(r.state.updated_at)),
];

pub(super) const DELIVERIES: &[Column<TopicGroupRow>] = &[
    text("topic_id", |r| r.topic.name.to_string().into()),
    text("group_id", |r| r.key.group.as_str().into()),
    int("partition_id", |r| i32::try_from(r.key.at.partition).unwrap_or(i32::MAX).into()),
    bigint("first_offset", |r| whole(r.head.first).into()),
    bigint("next_offset", |r| whole(r.head.next).into()),
    bigint("last_acked_offset", |r| (whole(r.state.cursor) - 1).into()),
    bigint("lag", |r| whole(r.lag()).into()),
    bigint("in_flight", |r| whole(r.state.in_flight()).into()),
    int("most_deliveries", |r| {
        let most = r.state.runs.iter().filter(|run| !run.buried).map(|run| run.deliveries).max();
        i32::try_from(most.unwrap_or(0)).unwrap_or(i32::MAX).into()
    }),
    bigint("dead_lettered", |r| whole(r.state.buried).into()),
    bigint("lost", |r| whole(r.state.lost).into()),
    time("updated_at", |r| micros(r.state.updated_at)),
];
