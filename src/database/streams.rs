//! The turn of buckets: those that STREAM tables will need are made ahead, those that have expired are dropped.
//!
//! Owns when that is looked at. Which buckets it is about, `partition::stream_buckets` says; how they go,
//! `storage::stream_buckets`.
//! Neither is ever waited for by a reader: what has expired is not read, dropped or not.

use std::collections::BTreeSet;
use std::sync::Weak;
use std::time::Duration;

use super::Database;
use crate::config::StreamsConfig;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::partition::QuotaLimits;
use crate::partition::stream_buckets::{TtlClass, plan};
use crate::storage::CommitEntry;

/// How often it is looked: well within the time that a bucket is made ahead.
const ROUND: Duration = Duration::from_secs(10);

/// What one owner may have in one STREAM table.
pub(super) fn quota(config: &StreamsConfig) -> QuotaLimits {
    let bound = |configured: u64| if configured == 0 { u64::MAX } else { configured };
    QuotaLimits { rows: bound(config.max_rows_per_owner), bytes: bound(config.max_bytes_per_owner.as_u64()) }
}

impl Database {
    /// Makes and drops the buckets that are due.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `SHUTTING_DOWN`.
    pub async fn turn_stream_buckets(&self) -> Result<()> {
        let catalog = self.catalog.current();
        let classes = catalog.tables().filter_map(|table| Some(TtlClass::of(table.ttl.as_ref()?.seconds()))).collect();
        self.turn(&classes).await
    }

    /// Makes the buckets that rows with this TTL need now, before the first of them comes.
    pub(super) async fn make_buckets_of(&self, seconds: u64) -> Result<()> {
        self.turn(&BTreeSet::from([TtlClass::of(seconds)])).await
    }

    async fn turn(&self, classes: &BTreeSet<TtlClass>) -> Result<()> {
        let now_ms = self.store.streams().now_ms();
        let plan = plan(now_ms, classes, &self.store.streams().ids());
        if !plan.make.is_empty() {
            let (store, plan) = (self.store.clone(), plan.clone());
            let made = tokio::task::spawn_blocking(move || store.streams().make_all(&plan)).await;
            made.map_err(Error::internal)??;
            failpoint::pass("bucket_made");
        }
        if !plan.drop.is_empty() {
            let note = self.store.streams().note_of_drop(now_ms);
            self.log.commit(CommitEntry::Records(vec![note])).await?;
            failpoint::pass("bucket_drop_noted");
            let store = self.store.clone();
            let dropped = tokio::task::spawn_blocking(move || store.streams().drop_all(&plan, now_ms)).await;
            dropped.map_err(Error::internal)??;
        }
        Ok(())
    }
}

/// Turns buckets for as long as there is a database.
pub(super) async fn keep_turning(database: Weak<Database>) {
    let mut rounds = tokio::time::interval(ROUND);
    rounds.tick().await;
    loop {
        rounds.tick().await;
        let Some(database) = database.upgrade() else { return };
        if database.is_stopping() {
            return;
        }
        if let Err(error) = database.turn_stream_buckets().await {
            tracing::warn!(%error, "buckets of STREAM tables were not turned");
        }
    }
}
