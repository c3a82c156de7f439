//! Flush: what is hot of a partition becomes segments.
//!
//! Owns the order *begin, view, files, one commit, hot copies out*. Up to the commit nothing has changed: a crash leaves
//! files that no manifest names, and the partition's next flush removes them. Behind it the finished state is there, and
//! copies that readers pass by; a record says so, so the next flush of the table goes on with them.
//! USER and SHARED tables are flushed alike: by owner.
//! Invariants: SG-1, SG-2, SG-3.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Bodies;
use super::files::Place;
use super::pace::Pace;
use crate::actors::jobs::{JobControl, JobDone};
use crate::actors::{ColdChange, ColdSwap};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::jobs::is_due;
use crate::model::{Durability, HotStats, Owner, PartitionKey, Seq, StorageId, TableId, TableMeta};
use crate::storage::segment::{DraftSegment, SegmentEntry, SegmentId, SegmentSpec, SegmentTarget, SegmentWriter};
use crate::storage::{CommitEntry, Order, ReadView};

/// Hot keys removed in one commit: less than half a millisecond of the committer's time. As long as it took, others are let pass.
const STEP: usize = 200;
/// Keys that are removed take some 200 bytes of memory each until the store has written them out: it is asked to after so
/// many.
const REMOVED_IN_MEMORY: usize = 64 * 1024;
/// How often is looked whether it has.
const WRITTEN_OUT_ROUND: Duration = Duration::from_millis(20);

/// Rows written between two looks at whether the job is to go on.
pub(super) const CHECK_EVERY: usize = 4_096;

/// What a flush has written.
pub(super) struct Written {
    pub drafts: Vec<DraftSegment>,
    /// Of all rows, in their order.
    pub seqs: Vec<Seq>,
    /// The last position whose tombstone was left out.
    pub expired_up_to: Option<Seq>,
}

/// How much a flush of a table did.
#[derive(Default)]
pub(super) struct Tally {
    pub partitions: usize,
    pub rows: u64,
    pub bytes: u64,
    /// Merges of which no row was left.
    pub cleaned: usize,
}

impl Bodies {
    /// `from_bytes`: partitions with so many hot bytes too, whether they are worth a file or not.
    pub(super) async fn flush_table(
        &self,
        id: TableId,
        from_bytes: Option<u64>,
        control: &JobControl,
    ) -> Result<JobDone> {
        let Some(table) = self.catalog.current().tables().find(|table| table.id == id).cloned() else {
            return Ok(JobDone::Skipped("the table was dropped".to_owned()));
        };
        for (key, up_to) in self.store.flushed_partitions(id)? {
            self.forget_hot(key, up_to, control).await?;
        }
        let (store, config, now_ms) = (self.store.clone(), self.flush.clone(), self.clock.now_ms());
        let policy = table.flush;
        let due = tokio::task::spawn_blocking(move || {
            let large = |stats: &HotStats| stats.rows > 0 && from_bytes.is_some_and(|from| stats.bytes >= from);
            let due = |stats: &HotStats| large(stats) || is_due(stats, &policy, &config, now_ms);
            let found = store.hot_partitions(id).filter(|found| found.as_ref().map_or(true, |(_, stats)| due(stats)));
            found.map(|found| found.map(|(owner, _)| owner)).collect::<Result<Vec<Owner>>>()
        });
        let mut tally = Tally::default();
        let (mut busy, mut failed) = (0, None);
        for owner in due.await.map_err(Error::internal)?? {
            control.check()?;
            // As it is by now: it may be altered between two of its partitions.
            let Some(table) = self.catalog.current().tables().find(|table| table.id == id).cloned() else { break };
            let flushed = async {
                // Whoever asks for all that there is has it, behind a flush that the server began by itself.
                let change = match from_bytes {
                    Some(0) => self.begin_patiently(&table, &owner, control).await?,
                    _ => self.router.begin_cold_change(&table, &owner).await?,
                };
                self.flush_partition((&table, &owner), change, &mut tally, control).await?;
                self.compact_partition(&table, &owner, false, &mut Tally::default(), control).await
            };
            match flushed.await {
                Ok(()) => {}
                // Another job is at it.
                Err(Error::Conflict(_)) => busy += 1,
                Err(error @ (Error::Aborted | Error::ShuttingDown | Error::StorageUnavailable)) => return Err(error),
                // The others' rows are flushed all the same; the next try meets this one again.
                Err(error) => {
                    tracing::warn!(table = %table.name, %owner, %error, "a partition can not be flushed");
                    failed.get_or_insert(error);
                }
            }
            control.say(|| format!("{} partitions flushed so far", tally.partitions));
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if tally.partitions == 0 {
            return Ok(JobDone::Skipped(match busy {
                0 => "nothing was worth a file".to_owned(),
                _ => format!("another job is at work in {busy} partitions"),
            }));
        }
        let Tally { partitions, rows, bytes, .. } = tally;
        Ok(JobDone::Completed(format!("{rows} rows of {partitions} partitions flushed, {bytes} bytes in segments")))
    }

    /// Does a dropped user's mailbox stand in the owner's name? It is left as it is.
    pub(super) fn is_leaving(&self, owner: &Owner) -> bool {
        matches!(owner, Owner::User(user) if self.auth.leaving(user).is_some())
    }

    async fn flush_partition(
        &self,
        (table, owner): (&Arc<TableMeta>, &Owner),
        change: ColdChange,
        tally: &mut Tally,
        control: &JobControl,
    ) -> Result<()> {
        // Behind the beginning: an erasure that starts from here on finds it, and refuses its commit.
        if self.is_leaving(owner) {
            return Ok(());
        }
        let Some(place) = self.place(table.id, owner) else { return Ok(()) };
        let key = place.key();
        let before = self.store.read_view().manifest(&key)?.unwrap_or_default();
        self.remove_orphans(&place, &before).await?;
        failpoint::pass("flush_begun");
        let view = self.store.read_view();
        let head = view.head(&key)?;
        if head == Seq::ZERO {
            return Ok(());
        }
        let written = self.write_segments(&place, (before.flushed_up_to, head), view, control).await?;
        failpoint::pass("flush_written");
        let swap = ColdSwap { flushed_up_to: head, ..ColdSwap::default() };
        let (rows, bytes) = self.swap(&place, change, written, swap).await?;
        failpoint::pass("flush_committed");
        tally.partitions += 1;
        tally.rows += rows;
        tally.bytes += bytes;
        self.write_manifest_copy(&place).await;
        self.forget_hot(key, head, control).await
    }

    /// Puts new segments into their places, and then into the manifest, with what else `swap` says; answers with their
    /// rows and bytes.
    pub(super) async fn swap(
        &self,
        place: &Place,
        change: ColdChange,
        written: Written,
        swap: ColdSwap,
    ) -> Result<(u64, u64)> {
        let Written { drafts, seqs, expired_up_to } = written;
        let mut added = Vec::with_capacity(drafts.len());
        let mut rest = seqs.as_slice();
        for draft in drafts {
            // An erasure that began meanwhile has looked for files already, or will see this one.
            if self.is_leaving(&place.owner) {
                return Err(Error::Conflict("the mailbox is being erased".to_owned()));
            }
            let entry = self.publish(&place.storage, draft).await?;
            failpoint::pass("cold_published");
            let (own, behind) = rest.split_at_checked(entry.meta.rows as usize).unwrap_or((rest, &[]));
            added.push((Arc::new(entry), Arc::from(own)));
            rest = behind;
        }
        let paths: Vec<String> = added.iter().map(|(segment, _)| segment.meta.path.clone()).collect();
        let bytes = added.iter().map(|(segment, _)| segment.meta.bytes).sum();
        if let Err(error) = change.commit(ColdSwap { added, expired_up_to, ..swap }).await {
            // After a failed commit nobody knows what the disk has: recovery decides, and these stay.
            if !matches!(error, Error::StorageUnavailable) {
                self.remove_files(&place.storage, &paths).await;
            }
            return Err(error);
        }
        Ok((seqs.len() as u64, bytes))
    }

    pub(super) fn segment_spec(&self, place: &Place) -> Result<SegmentSpec> {
        Ok(SegmentSpec {
            table: place.table.clone(),
            owner: place.owner.clone(),
            storage: place.storage.clone(),
            folder: self.store.cold().folder(&place.storage, &place.table.name, &place.owner)?,
            compression: place.table.compression,
            target: SegmentTarget::default(),
            now_ms: self.clock.now_ms(),
        })
    }

    pub(super) fn segment_ids(&self) -> impl FnMut() -> SegmentId + Send + use<> {
        let (ids, clock) = (self.ids.clone(), self.clock.clone());
        move || SegmentId(ids.snowflake(clock.now_us()).unsigned_abs())
    }

    /// Writes what is hot above `range.0` up to `range.1`.
    async fn write_segments(
        &self,
        place: &Place,
        range: (Seq, Seq),
        view: ReadView,
        control: &JobControl,
    ) -> Result<Written> {
        let spec = self.segment_spec(place)?;
        let store = self.store.cold().store(&place.storage)?;
        let mut next_id = self.segment_ids();
        let cancelled = control.cancelled();
        let write = move || {
            let key = PartitionKey { table: spec.table.id, owner: spec.owner.clone() };
            let mut writer = SegmentWriter::new(&store, spec, &mut next_id);
            let (mut seqs, mut pace) = (Vec::new(), Pace::begin());
            for row in view.hot_scan(&key, range.0, range.0.after()..=range.1, Order::Ascending) {
                let row = row?;
                writer.push(&row)?;
                seqs.push(row.seq);
                pace.row();
                if seqs.len().is_multiple_of(CHECK_EVERY) {
                    cancelled.check()?;
                }
            }
            Ok(Written { drafts: writer.finish()?, seqs, expired_up_to: None })
        };
        tokio::task::spawn_blocking(write).await.map_err(Error::internal)?
    }

    async fn publish(&self, storage: &StorageId, draft: DraftSegment) -> Result<SegmentEntry> {
        let store = self.store.cold().store(storage)?;
        // In a folder it blocks on fsyncs.
        let publish = move || tokio::runtime::Handle::current().block_on(draft.publish(&store));
        tokio::task::spawn_blocking(publish).await.map_err(Error::internal)?
    }

    /// Takes the hot copies out that are in segments by now.
    pub(super) async fn forget_hot(&self, key: PartitionKey, up_to: Seq, control: &JobControl) -> Result<()> {
        let mut walk = self.store.flushed_walk(key, up_to);
        let mut removed = 0;
        loop {
            control.check()?;
            let step = tokio::task::spawn_blocking(move || {
                let found = walk.next_keys(STEP);
                (walk, found)
            });
            let (back, found) = step.await.map_err(Error::internal)?;
            walk = back;
            let found = found?;
            let is_last = found.is_last();
            removed += STEP;
            if is_last || !found.is_empty() {
                let begun = Instant::now();
                self.committer.commit_at(CommitEntry::Forget(Box::new(found)), Durability::Buffered).await?;
                failpoint::pass("flush_forgot");
                if !is_last {
                    tokio::time::sleep(begun.elapsed()).await;
                }
            }
            if is_last {
                return Ok(());
            }
            if removed >= REMOVED_IN_MEMORY {
                removed = 0;
                self.store.begin_writing_out_keys()?;
                while !self.store.has_written_out_keys() {
                    control.check()?;
                    tokio::time::sleep(WRITTEN_OUT_ROUND).await;
                }
            }
        }
    }
}
