//! Compaction: neighbouring segments of a partition become one, without the rows that were replaced or deleted.
//!
//! Owns the order *begin, view, new segment, one commit, old files out once nobody reads them*. A crash leaves files that no
//! manifest names; the partition's next flush removes them. Tombstones stay: a resume from before them needs them.
//! Invariants: SG-1, SG-2, SG-3.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;

use super::Bodies;
use super::flush::{CHECK_EVERY, Tally, Written};
use crate::actors::jobs::{JobControl, JobDone};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::jobs::{SegmentSize, next_merge};
use crate::model::{Owner, PartitionKey, TableId, TableMeta};
use crate::storage::segment::{SegmentEntry, SegmentScan, SegmentWriter};
use crate::storage::{OlderViews, ReadView};

/// How often is looked whether the readers of old files are gone.
const READERS_ROUND: Duration = Duration::from_millis(50);

impl Bodies {
    /// Whatever can be merged or cleaned.
    pub(super) async fn compact_table(&self, id: TableId, control: &JobControl) -> Result<JobDone> {
        let Some(table) = self.catalog.current().tables().find(|table| table.id == id).cloned() else {
            return Ok(JobDone::Skipped("the table was dropped".to_owned()));
        };
        let store = self.store.clone();
        let owners = tokio::task::spawn_blocking(move || store.owners_of(id)).await.map_err(Error::internal)??;
        let mut tally = Tally::default();
        for owner in owners {
            self.compact_partition(&table, &owner, true, &mut tally, control).await?;
            control.say(|| format!("{} segments written so far", tally.partitions));
        }
        if tally.partitions == 0 {
            return Ok(JobDone::Skipped("no segments to merge or clean".to_owned()));
        }
        let Tally { partitions, rows, bytes } = tally;
        Ok(JobDone::Completed(format!("{rows} rows in {partitions} segments rewritten, {bytes} bytes")))
    }

    /// One merge after the other, until none is worth it.
    pub(super) async fn compact_partition(
        &self,
        table: &Arc<TableMeta>,
        owner: &Owner,
        forced: bool,
        tally: &mut Tally,
        control: &JobControl,
    ) -> Result<()> {
        while let Some(removed) = self.merge(table, owner, forced, tally, control).await? {
            let older = self.store.views_until_now();
            self.remove_unread(table, &removed, older, control).await?;
        }
        Ok(())
    }

    /// Merges once; answers with the segments that are not named any more.
    async fn merge(
        &self,
        table: &Arc<TableMeta>,
        owner: &Owner,
        forced: bool,
        tally: &mut Tally,
        control: &JobControl,
    ) -> Result<Option<Vec<Arc<SegmentEntry>>>> {
        control.check()?;
        let key = PartitionKey { table: table.id, owner: owner.clone() };
        // Most partitions need nothing: they are not held up for it.
        if self.is_leaving(owner) || next_merge_of(&self.store.read_view(), &key, forced)?.is_none() {
            return Ok(None);
        }
        let change = self.router.begin_cold_change(table, owner).await?;
        if self.is_leaving(owner) {
            return Ok(None);
        }
        let view = self.store.read_view();
        let Some(removed) = next_merge_of(&view, &key, forced)? else { return Ok(None) };
        let flushed_up_to = view.manifest(&key)?.unwrap_or_default().flushed_up_to;
        let written = self.rewrite(table, owner, &removed, view, control).await?;
        let segments = written.drafts.len();
        failpoint::pass("compact_written");
        let (rows, bytes) = self.swap((table, owner), change, written, flushed_up_to, removed.clone()).await?;
        failpoint::pass("compact_committed");
        tally.partitions += segments;
        tally.rows += rows;
        tally.bytes += bytes;
        self.write_manifest_copy(table, owner, &key).await;
        Ok(Some(removed))
    }

    /// Writes what is left of some segments into new ones.
    async fn rewrite(
        &self,
        table: &Arc<TableMeta>,
        owner: &Owner,
        segments: &[Arc<SegmentEntry>],
        view: ReadView,
        control: &JobControl,
    ) -> Result<Written> {
        let spec = self.segment_spec(table, owner)?;
        let mut scans = Vec::with_capacity(segments.len());
        for segment in segments {
            let deleted = view.deleted(table.id, segment.meta.id)?;
            let reader = self.store.cold().reader(table, owner, segment)?;
            scans.push((reader, SegmentScan { deleted, ..SegmentScan::default() }));
        }
        let store = self.store.cold().store(&table.storage)?;
        let mut next_id = self.segment_ids();
        let cancelled = control.cancelled();
        let write = move || {
            let runtime = tokio::runtime::Handle::current();
            let mut writer = SegmentWriter::new(&store, spec, &mut next_id);
            let mut seqs = Vec::new();
            for (reader, scan) in scans {
                let mut batches = runtime.block_on(reader.rows(scan))?;
                while let Some(rows) = runtime.block_on(batches.try_next())? {
                    for (_, row) in rows {
                        writer.push(&row)?;
                        seqs.push(row.seq);
                        if seqs.len().is_multiple_of(CHECK_EVERY) {
                            cancelled.check()?;
                        }
                    }
                }
            }
            // As long as this the old files are read.
            drop(view);
            Ok(Written { drafts: writer.finish()?, seqs })
        };
        tokio::task::spawn_blocking(write).await.map_err(Error::internal)?
    }

    /// Removes files that no view can name, once the older ones are closed.
    async fn remove_unread(
        &self,
        table: &TableMeta,
        segments: &[Arc<SegmentEntry>],
        older: OlderViews,
        control: &JobControl,
    ) -> Result<()> {
        let mut rounds = tokio::time::interval(READERS_ROUND);
        while !self.store.views_are_closed(older) {
            control.check()?;
            rounds.tick().await;
        }
        let paths: Vec<String> = segments.iter().map(|segment| segment.meta.path.clone()).collect();
        failpoint::pass("compact_read");
        self.remove_files(&table.storage, &paths).await;
        failpoint::pass("compact_removed");
        Ok(())
    }
}

/// The segments of a partition that are to be merged next.
pub(in crate::database) fn next_merge_of(
    view: &ReadView,
    key: &PartitionKey,
    forced: bool,
) -> Result<Option<Vec<Arc<SegmentEntry>>>> {
    let Some(manifest) = view.manifest(key)? else { return Ok(None) };
    let mut sizes = Vec::with_capacity(manifest.segments().len());
    for segment in manifest.segments() {
        let deleted = u32::try_from(view.deleted(key.table, segment.meta.id)?.len()).unwrap_or(u32::MAX);
        sizes.push(SegmentSize { rows: segment.meta.rows, bytes: segment.meta.bytes, deleted });
    }
    Ok(next_merge(&sizes, forced).map(|run| manifest.segments()[run].to_vec()))
}
