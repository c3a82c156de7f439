//! Removes the keys of dropped tables, in bounded steps, behind everything else.
//!
//! Owns nothing: what is to be removed stands in the store, so a crash loses no work and does none twice.

use tokio::sync::mpsc;

use super::catalog;
use crate::actors::CommitterHandle;
use crate::error::Result;
use crate::model::TableId;
use crate::storage::CommitEntry;

/// Keys removed from each keyspace in one commit: a few milliseconds of the committer's time.
const STEP: usize = 1_000;

/// Dropped tables that may wait at once. A drop that finds the queue full is purged after the next restart.
pub(super) const QUEUE: usize = 1_024;

/// Runs until every sender is gone.
pub(super) async fn run(mut dropped: mpsc::Receiver<TableId>, committer: CommitterHandle) {
    while let Some(table) = dropped.recv().await {
        match purge(table, &committer).await {
            Ok(keys) => tracing::debug!(%table, keys, "dropped table removed"),
            // Its record stays, so the next start goes on.
            Err(error) => tracing::warn!(%table, %error, "dropped table not removed yet"),
        }
    }
}

async fn purge(table: TableId, committer: &CommitterHandle) -> Result<usize> {
    let mut keys = 0;
    loop {
        let step = committer.commit(CommitEntry::Purge { table, limit: STEP }).await?.purged;
        keys += step;
        if step == 0 {
            committer.commit(CommitEntry::Records(vec![catalog::purged(table)])).await?;
            return Ok(keys);
        }
    }
}
