//! Retention: deleted rows' last versions go when they are older than their table keeps them.
//!
//! Owns the order *begin, view, what has expired, one commit*, for hot ones in steps; cold ones go by compaction. The commit
//! that removes a tombstone raises the partition's `replayable_from` and the table's, so whoever resumes from before it is
//! told that a delete may be missing. A crash leaves some for the next job.

use std::sync::Arc;

use super::Bodies;
use super::flush::Tally;
use crate::actors::ColdSwap;
use crate::actors::jobs::{JobControl, JobDone};
use crate::config::RetentionConfig;
use crate::error::{Error, Result};
use crate::jobs::Retention;
use crate::model::{HotStats, Owner, PartitionKey, TableId, TableMeta};
use crate::storage::Store;

/// Hot tombstones removed in one commit: while it is made, the partition's writes wait.
const STEP: usize = 1_000;

/// How long a table keeps tombstones, as of now.
pub(in crate::database) fn retention_of(table: &TableMeta, config: &RetentionConfig, now_ms: i64) -> Retention {
    Retention::new(now_ms, table.deleted_retention_hours.unwrap_or(config.default_deleted_retention_hours))
}

/// Partitions of a table with tombstones that are to go: told from what is noted of each, and, where that says that cold
/// ones have expired, from its manifest.
pub(in crate::database) fn expired_partitions(
    store: &Store,
    table: TableId,
    retention: Retention,
) -> impl Iterator<Item = Result<Owner>> {
    let is_due = move |owner: &Owner, stats: &HotStats| -> Result<bool> {
        if retention.has_passed(stats.oldest_tombstone) {
            return Ok(true);
        }
        if !retention.has_passed(stats.cold_tombstone) {
            return Ok(false);
        }
        let key = PartitionKey { table, owner: owner.clone() };
        let manifest = store.read_view().manifest(&key)?;
        let cleaned = manifest
            .iter()
            .flat_map(|manifest| manifest.segments())
            .any(|segment| retention.cleans(segment.meta.oldest_tombstone.unwrap_or_default(), segment.meta.last_seq));
        Ok(cleaned)
    };
    store.hot_partitions(table).filter_map(move |found| {
        let asked = found.and_then(|(owner, stats)| is_due(&owner, &stats).map(|is_due| is_due.then_some(owner)));
        asked.transpose()
    })
}

impl Bodies {
    pub(super) fn retention_of(&self, table: &TableMeta) -> Retention {
        retention_of(table, &self.retention, self.clock.now_ms())
    }

    pub(super) async fn expire_table(&self, id: TableId, control: &JobControl) -> Result<JobDone> {
        let Some(table) = self.catalog.current().tables().find(|table| table.id == id).cloned() else {
            return Ok(JobDone::Skipped("the table was dropped".to_owned()));
        };
        let (store, retention) = (self.store.clone(), self.retention_of(&table));
        let due = move || expired_partitions(&store, id, retention).collect::<Result<Vec<Owner>>>();
        let owners = tokio::task::spawn_blocking(due).await.map_err(Error::internal)??;
        let (mut hot, mut partitions, mut busy, mut failed) = (0, 0, 0, None);
        let mut tally = Tally::default();
        for owner in owners {
            control.check()?;
            let expired = async {
                hot += self.expire_hot(&table, &owner, control).await?;
                self.compact_partition(&table, &owner, false, &mut tally, control).await
            };
            match expired.await {
                Ok(()) => partitions += 1,
                // Another job is at it; the next look finds what is left.
                Err(Error::Conflict(_)) => busy += 1,
                Err(error @ (Error::Aborted | Error::ShuttingDown | Error::StorageUnavailable)) => return Err(error),
                Err(error) => {
                    tracing::warn!(table = %table.name, %owner, %error, "deleted rows can not be removed");
                    failed.get_or_insert(error);
                }
            }
            control.say(|| format!("{partitions} partitions done so far"));
        }
        match failed {
            Some(error) => Err(error),
            None if partitions + busy == 0 => Ok(JobDone::Skipped("nothing has expired".to_owned())),
            None => {
                let segments = tally.partitions + tally.cleaned;
                let busy = if busy > 0 { format!("; another job is at work in {busy}") } else { String::new() };
                Ok(JobDone::Completed(format!(
                    "{hot} hot tombstones of {partitions} partitions removed, {segments} segments rewritten{busy}"
                )))
            }
        }
    }

    /// What has expired of a partition's hot tombstones, step by step; answers with how many they were. What is noted of
    /// the partition says then what is the oldest of those that stay.
    async fn expire_hot(&self, table: &Arc<TableMeta>, owner: &Owner, control: &JobControl) -> Result<usize> {
        let key = PartitionKey { table: table.id, owner: owner.clone() };
        let mut removed = 0;
        loop {
            control.check()?;
            let retention = self.retention_of(table);
            if !retention.has_passed(self.store.hot_stats(&key)?.oldest_tombstone) {
                return Ok(removed);
            }
            let change = self.router.begin_cold_change(table, owner).await?;
            if self.is_leaving(owner) {
                return Ok(removed);
            }
            let (view, of) = (self.store.read_view(), key.clone());
            let find = move || view.expired_tombstones(&of, STEP, |seq| retention.has_passed(seq));
            let expired = tokio::task::spawn_blocking(find).await.map_err(Error::internal)??;
            let count = expired.seqs.len();
            let swap =
                ColdSwap { expired_up_to: expired.seqs.last().copied(), expired: Some(expired), ..ColdSwap::default() };
            change.commit(swap).await?;
            removed += count;
            if count < STEP {
                return Ok(removed);
            }
        }
    }
}
