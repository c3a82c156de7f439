//! Compaction: neighbouring segments of a partition become one, without the rows that were replaced or deleted.
//!
//! Owns the order *begin, view, new segment, one commit, old files out once nobody reads them*. A crash leaves files that no
//! manifest names; the partition's next flush removes them. Tombstones that have expired are left out, and the commit says
//! up to where: a resume from before them would need them. A segment of which nothing is left goes.
//! Invariants: SG-1, SG-2, SG-3.

use std::sync::Arc;

use futures_util::TryStreamExt;

use super::Bodies;
use super::files::Place;
use super::flush::{CHECK_EVERY, Drafted, Tally, Written};
use super::pace::Pace;
use crate::actors::ColdSwap;
use crate::actors::jobs::{JobControl, JobDone};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::jobs::{Retention, SegmentSize, next_merge};
use crate::model::{Owner, PartitionKey, Seq, TableId, TableMeta};
use crate::storage::ReadView;
use crate::storage::segment::{SegmentEntry, SegmentMeta, SegmentScan, SegmentWriter};

/// Rows that are read at once: little work between two pauses.
const BATCH_ROWS: usize = 1_024;

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
        if tally.partitions + tally.cleaned == 0 {
            return Ok(JobDone::Skipped("no segments to merge or clean".to_owned()));
        }
        let Tally { partitions, rows, bytes, .. } = tally;
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
            self.wait_for_readers(older, control).await?;
            failpoint::pass("compact_read");
            self.remove_segments(table, &removed).await;
            failpoint::pass("compact_removed");
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
        let wanted = |retention| MergeWish { forced, retention };
        // Most partitions need nothing: they are not held up for it.
        let wish = wanted(self.retention_of(table));
        if self.is_leaving(owner) || next_merge_of(&self.store.read_view(), &key, &wish)?.is_none() {
            return Ok(None);
        }
        let change = self.router.begin_cold_change(table, owner).await?;
        if self.is_leaving(owner) {
            return Ok(None);
        }
        let Some(place) = self.place(table.id, owner) else { return Ok(None) };
        let wish = wanted(self.retention_of(&place.table));
        let view = self.store.read_view();
        let Some(removed) = next_merge_of(&view, &key, &wish)? else { return Ok(None) };
        let written = self.rewrite(&place, &removed, view, wish.retention, control).await?;
        let segments = written.drafts.len();
        failpoint::pass("compact_written");
        let swap = ColdSwap { removed: removed.clone(), ..ColdSwap::default() };
        let drafted = Drafted { place: place.clone(), change, written, swap, from: Seq::ZERO };
        let swapped = self.swap_all(vec![drafted]).await.pop();
        tally.add(segments, swapped.ok_or_else(|| Error::internal("a merge without an outcome"))??);
        failpoint::pass("compact_committed");
        tally.cleaned += usize::from(segments == 0);
        self.write_manifest_copy(&place).await;
        Ok(Some(removed))
    }

    /// Writes what is left of some segments into new ones.
    async fn rewrite(
        &self,
        place: &Place,
        segments: &[Arc<SegmentEntry>],
        view: ReadView,
        retention: Retention,
        control: &JobControl,
    ) -> Result<Written> {
        let spec = self.segment_spec(place)?;
        let mut scans = Vec::with_capacity(segments.len());
        for segment in segments {
            let deleted = view.deleted(place.table.id, segment.meta.id)?;
            let reader = self.store.cold().reader(&place.table, &place.owner, segment)?;
            scans.push((reader, SegmentScan { deleted, batch_rows: BATCH_ROWS, ..SegmentScan::default() }));
        }
        let store = self.store.cold().store(&place.storage)?;
        let mut next_id = self.segment_ids();
        let cancelled = control.cancelled();
        let write = move || {
            let runtime = tokio::runtime::Handle::current();
            let mut writer = SegmentWriter::new(&store, spec, &mut next_id);
            let (mut seqs, mut expired_up_to, mut seen) = (Vec::new(), None, 0usize);
            let mut pace = Pace::begin();
            for (reader, scan) in scans {
                let mut batches = runtime.block_on(reader.rows(scan))?;
                while let Some(rows) = runtime.block_on(batches.try_next())? {
                    for (_, row) in rows {
                        seen += 1;
                        pace.row();
                        if seen.is_multiple_of(CHECK_EVERY) {
                            cancelled.check()?;
                        }
                        if row.deleted && retention.has_passed(row.seq) {
                            expired_up_to = Some(row.seq);
                            continue;
                        }
                        writer.push(&row)?;
                        seqs.push(row.seq);
                    }
                }
            }
            // As long as this the old files are read.
            drop(view);
            Ok(Written { drafts: writer.finish()?, seqs, expired_up_to })
        };
        tokio::task::spawn_blocking(write).await.map_err(Error::internal)?
    }
}

/// What is worth a merge.
pub(in crate::database) struct MergeWish {
    /// Whatever can be merged or cleaned.
    pub forced: bool,
    pub retention: Retention,
}

/// The segments of a partition that are to be merged next.
pub(in crate::database) fn next_merge_of(
    view: &ReadView,
    key: &PartitionKey,
    wish: &MergeWish,
) -> Result<Option<Vec<Arc<SegmentEntry>>>> {
    let MergeWish { forced, retention } = wish;
    let Some(manifest) = view.manifest(key)? else { return Ok(None) };
    let mut sizes = Vec::with_capacity(manifest.segments().len());
    for segment in manifest.segments() {
        let SegmentMeta { id, rows, bytes, oldest_tombstone, last_seq, .. } = segment.meta;
        let deleted = view.deleted_count(key.table, id)?;
        let oldest = oldest_tombstone.unwrap_or_default();
        let expired = if *forced { retention.has_passed(oldest) } else { retention.cleans(oldest, last_seq) };
        sizes.push(SegmentSize { rows, bytes, deleted, expired });
    }
    Ok(next_merge(&sizes, *forced).map(|run| manifest.segments()[run].to_vec()))
}
