//! From changes on their way to the log to the topics' entries that tell of them: durable with them, or not at all.
//!
//! Owns that a table without routes pays nothing, and that entries are made on the table's thread: the committer only gives
//! offsets. Which changes match, and what is said of them, `topics::route` decides.

use super::feed::change_batch;
use crate::error::Result;
use crate::model::{CommittedChanges, Owner, TopicEntry, TopicPartition};
use crate::storage::topic_log::{entry_value, partition_of};
use crate::storage::{TopicAppend, TopicChange, UserStorages};
use crate::topics::{TableRoutes, route};

/// What topics get of these changes.
///
/// # Errors
/// `INTERNAL`, `EXECUTION`: then nothing of the changes may be committed.
pub(super) fn entries_for(
    routes: &TableRoutes,
    committed: &CommittedChanges,
    homes: &UserStorages,
) -> Result<Vec<TopicChange>> {
    if routes.is_empty() {
        return Ok(Vec::new());
    }
    let user = match &committed.owner {
        Owner::User(user) => Some(user),
        Owner::Shared => None,
    };
    let batch = change_batch(committed, user.is_some().then_some(homes))?;
    let routed = route::evaluate(routes, &committed.table, &batch)?;
    let append = |routed: route::Routed| {
        let (seq, change) = &committed.changes[routed.row];
        let entry = TopicEntry {
            timestamp_ms: seq.unix_ms(),
            op: change.kind(),
            user: user.cloned(),
            key: routed.key,
            origin: None,
            payload: routed.payload,
        };
        let partition = partition_of(&committed.owner, &change.pk, routed.partitions);
        Ok(TopicAppend { at: TopicPartition { topic: routed.topic, partition }, value: entry_value(&entry)? })
    };
    let appends = routed.into_iter().map(append).collect::<Result<Vec<TopicAppend>>>()?;
    Ok(if appends.is_empty() { Vec::new() } else { vec![TopicChange::Append(appends)] })
}
