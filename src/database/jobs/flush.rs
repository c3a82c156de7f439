//! Flush: what is hot of a partition becomes segments.
//!
//! Owns the order *begin, view, files, one commit, hot copies out*; partitions go through it some at a time, so that many small
//! ones cost the disk little more than one. Up to the commit nothing has changed: a crash leaves
//! files that no manifest names, and the partition's next flush removes them. Behind it the finished state is there, and
//! copies that readers pass by; a record says so, so the next flush of the table goes on with them.
//! USER and SHARED tables are flushed alike: by owner.
//! Invariants: SG-1, SG-2, SG-3.

use std::collections::BTreeMap;
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
use crate::model::{Durability, HotStats, Owner, PartitionKey, Seq, StorageId, TableId, TableName};
use crate::storage::flushed::FlushedRange;
use crate::storage::segment::{DraftSegment, SegmentEntry, SegmentId, SegmentSpec, SegmentTarget, SegmentWriter};
use crate::storage::{CommitEntry, Order, ReadView};

/// Hot keys removed in one commit: less than half a millisecond of the committer's time. As long as it took, others are let pass.
const STEP: usize = 200;
/// Keys that are removed take some 200 bytes of memory each until the store has written them out: it is asked to after so
/// many.
const REMOVED_IN_MEMORY: usize = 64 * 1024;
/// How often is looked whether it has.
const WRITTEN_OUT_ROUND: Duration = Duration::from_millis(20);

/// Partitions whose files are put in their places together, and whose manifests are changed together.
const ROUND: usize = 32;
/// Or fewer, where they have so many rows: those that were written first do not wait for long.
const ROUND_ROWS: usize = 64 * 1024;

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

/// New segments of a partition that are not in their places yet, and what their commit says.
pub(super) struct Drafted {
    pub place: Place,
    pub change: ColdChange,
    pub written: Written,
    pub swap: ColdSwap,
    /// Up to here it was flushed before.
    pub from: Seq,
}

impl Drafted {
    /// Where, and which of its hot rows the new segments hold.
    fn flushes(&self) -> (Place, FlushedRange) {
        let segments = || self.written.drafts.iter().map(|draft| &draft.entry().meta);
        let least = segments().map(|meta| &meta.key_min).min().cloned();
        let greatest = segments().map(|meta| &meta.key_max).max().cloned();
        let range = FlushedRange { from: self.from, up_to: self.swap.flushed_up_to, keys: least.zip(greatest) };
        (self.place.clone(), range)
    }
}

/// Partitions of a flush that did not come to their end.
#[derive(Default)]
struct Misses {
    /// Another job is at them.
    busy: usize,
    failed: Option<Error>,
}

impl Misses {
    /// # Errors
    /// What ends the whole flush.
    fn note(&mut self, table: &TableName, owner: &Owner, error: Error) -> Result<()> {
        match error {
            Error::Conflict(_) => self.busy += 1,
            error @ (Error::Aborted | Error::ShuttingDown | Error::StorageUnavailable) => return Err(error),
            // The others' rows are flushed all the same; the next try meets this one again.
            error => {
                tracing::warn!(%table, %owner, %error, "a partition can not be flushed");
                self.failed.get_or_insert(error);
            }
        }
        Ok(())
    }
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

impl Tally {
    pub(super) fn add(&mut self, partitions: usize, (rows, bytes): (u64, u64)) {
        self.partitions += partitions;
        self.rows += rows;
        self.bytes += bytes;
    }
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
            self.forget_hot(key, FlushedRange::all(up_to), control).await?;
        }
        let (store, config, now_ms) = (self.store.clone(), self.flush.clone(), self.clock.now_ms());
        let policy = table.flush;
        let due = tokio::task::spawn_blocking(move || {
            let large = |stats: &HotStats| stats.rows > 0 && from_bytes.is_some_and(|from| stats.bytes >= from);
            let due = |stats: &HotStats| large(stats) || is_due(stats, &policy, &config, now_ms);
            let found = store.hot_partitions(id).filter(|found| found.as_ref().map_or(true, |(_, stats)| due(stats)));
            found.map(|found| found.map(|(owner, _)| owner)).collect::<Result<Vec<Owner>>>()
        });
        let mut owners = due.await.map_err(Error::internal)??.into_iter();
        let (mut tally, mut misses) = (Tally::default(), Misses::default());
        while !owners.as_slice().is_empty() {
            let (mut round, mut rows) = (Vec::new(), 0);
            while round.len() < ROUND
                && rows < ROUND_ROWS
                && let Some(owner) = owners.next()
            {
                control.check()?;
                // Whoever asks for all that there is has it, behind a flush that the server began by itself.
                let patient = from_bytes == Some(0);
                match self.write_partition(id, &owner, patient, control).await {
                    Ok(Some(drafted)) => {
                        rows += drafted.written.seqs.len();
                        round.push(drafted);
                    }
                    Ok(None) => {}
                    Err(error) => misses.note(&table.name, &owner, error)?,
                }
            }
            failpoint::pass("flush_written");
            let flushes: Vec<(Place, FlushedRange)> = round.iter().map(Drafted::flushes).collect();
            for ((place, range), flushed) in flushes.into_iter().zip(self.swap_all(round).await) {
                failpoint::pass("flush_committed");
                let ended = match flushed {
                    Ok(written) => {
                        tally.add(1, written);
                        self.settle(&place, range, control).await
                    }
                    Err(error) => Err(error),
                };
                if let Err(error) = ended {
                    misses.note(&table.name, &place.owner, error)?;
                }
            }
            control.say(|| format!("{} partitions flushed so far", tally.partitions));
        }
        let Misses { busy, failed } = misses;
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

    /// Writes what is hot of a partition into files that are not in their places yet. `None`: there is nothing, or the table or the
    /// mailbox goes.
    async fn write_partition(
        &self,
        id: TableId,
        owner: &Owner,
        patient: bool,
        control: &JobControl,
    ) -> Result<Option<Drafted>> {
        // As it is by now: it may be altered between two of its partitions.
        let Some(table) = self.catalog.current().tables().find(|table| table.id == id).cloned() else {
            return Ok(None);
        };
        let change = match patient {
            true => self.begin_patiently(&table, owner, control).await?,
            false => self.router.begin_cold_change(&table, owner).await?,
        };
        // Behind the beginning: an erasure that starts from here on finds it, and refuses its commit.
        if self.is_leaving(owner) {
            return Ok(None);
        }
        let Some(place) = self.place(id, owner) else { return Ok(None) };
        let before = self.store.read_view().manifest(&place.key())?.unwrap_or_default();
        self.remove_orphans(&place, &before).await?;
        failpoint::pass("flush_begun");
        let view = self.store.read_view();
        let head = view.head(&place.key())?;
        if head == Seq::ZERO {
            return Ok(None);
        }
        let written = self.write_segments(&place, (before.flushed_up_to, head), view, control).await?;
        let swap = ColdSwap { flushed_up_to: head, ..ColdSwap::default() };
        Ok(Some(Drafted { place, change, written, swap, from: before.flushed_up_to }))
    }

    /// What follows the commit.
    async fn settle(&self, place: &Place, flushed: FlushedRange, control: &JobControl) -> Result<()> {
        self.write_manifest_copy(place).await;
        self.forget_hot(place.key(), flushed, control).await?;
        self.compact_partition(&place.table, &place.owner, false, &mut Tally::default(), control).await
    }

    /// Puts new segments into their places, and then into their manifests, with what else their swaps say; answers for each
    /// with its rows and bytes. The files share their syncs, and the commits theirs: no partition's writes wait for another's file.
    pub(super) async fn swap_all(&self, round: Vec<Drafted>) -> Vec<Result<(u64, u64)>> {
        // An erasure that began meanwhile has looked for files already, or will see those that come.
        let drafts = round.iter().map(|drafted| match self.is_leaving(&drafted.place.owner) {
            true => Err(Error::Conflict("the mailbox is being erased".to_owned())),
            false => Ok(()),
        });
        let mut outcomes: Vec<Result<()>> = drafts.collect();
        let mut by_storage: BTreeMap<StorageId, Vec<(usize, DraftSegment)>> = BTreeMap::new();
        let mut swaps = Vec::with_capacity(round.len());
        for (index, Drafted { place, change, written, swap, .. }) in round.into_iter().enumerate() {
            if outcomes[index].is_ok() {
                let drafts = written.drafts.into_iter().map(|draft| (index, draft));
                by_storage.entry(place.storage.clone()).or_default().extend(drafts);
            }
            swaps.push((place, change, written.seqs, written.expired_up_to, swap));
        }
        let mut published: Vec<Vec<Arc<SegmentEntry>>> = vec![Vec::new(); swaps.len()];
        for (storage, drafts) in by_storage {
            let (indexes, drafts): (Vec<usize>, Vec<DraftSegment>) = drafts.into_iter().unzip();
            for (index, entry) in indexes.into_iter().zip(self.publish_all(&storage, drafts).await) {
                match entry {
                    Ok(entry) => published[index].push(Arc::new(entry)),
                    Err(error) => outcomes[index] = Err(error),
                }
            }
        }
        failpoint::pass("cold_published");
        let commits = swaps.into_iter().zip(published).zip(outcomes).map(|((swap, published), outcome)| {
            let (place, change, seqs, expired_up_to, swap) = swap;
            async move {
                let paths: Vec<String> = published.iter().map(|segment| segment.meta.path.clone()).collect();
                let bytes = published.iter().map(|segment| segment.meta.bytes).sum();
                let added = with_positions(published, &seqs);
                let committed = match outcome {
                    Ok(()) => change.commit(ColdSwap { added, expired_up_to, ..swap }).await,
                    Err(error) => Err(error),
                };
                match committed {
                    Ok(()) => Ok((seqs.len() as u64, bytes)),
                    // After a failed commit nobody knows what the disk has: recovery decides, and these stay.
                    Err(Error::StorageUnavailable) => Err(Error::StorageUnavailable),
                    Err(error) => {
                        self.remove_files(&place.storage, &paths).await;
                        Err(error)
                    }
                }
            }
        });
        futures_util::future::join_all(commits).await
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

    async fn publish_all(&self, storage: &StorageId, drafts: Vec<DraftSegment>) -> Vec<Result<SegmentEntry>> {
        let count = drafts.len();
        let store = match self.store.cold().store(storage) {
            Ok(store) => store,
            Err(error) => return vec![Err(error); count],
        };
        // In a folder it blocks on fsyncs.
        let publish = move || tokio::runtime::Handle::current().block_on(DraftSegment::publish_all(drafts, &store));
        let published = tokio::task::spawn_blocking(publish).await;
        published.unwrap_or_else(|error| vec![Err(Error::internal(error)); count])
    }

    /// Takes the hot copies out that are in segments by now.
    async fn forget_hot(&self, key: PartitionKey, range: FlushedRange, control: &JobControl) -> Result<()> {
        let mut walk = self.store.flushed_walk(key, range);
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

/// Segments, each with the positions of its own rows.
fn with_positions(segments: Vec<Arc<SegmentEntry>>, seqs: &[Seq]) -> Vec<(Arc<SegmentEntry>, Arc<[Seq]>)> {
    let mut rest = seqs;
    let with_own = |segment: Arc<SegmentEntry>| {
        let (own, behind) = rest.split_at_checked(segment.meta.rows as usize).unwrap_or((rest, &[]));
        rest = behind;
        (segment, Arc::from(own))
    };
    segments.into_iter().map(with_own).collect()
}
