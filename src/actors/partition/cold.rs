//! How a partition's rows become cold, or move within the cold half, while its writes go on.
//!
//! Owns what is replaced between the moment that a new segment's rows were read and the moment that it is in the manifest:
//! it goes into the segment's deletions in the same commit. Writes are parked for that one commit, no longer.
//! One change of a partition at a time: there are never two writers of its cold half.
//! Invariants: SG-1, SG-3.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::{ActorFutureExt, Addr, AsyncContext, Context, Handler, Message};
use tokio::sync::oneshot;

use super::PartitionActor;
use crate::actors::inbox;
use crate::error::{Error, Result};
use crate::model::{Change, Durability, HotStats, Seq};
use crate::partition::{HotCount, Ticket};
use crate::storage::segment::{SegmentEntry, SegmentId};
use crate::storage::{ColdCommit, CommitEntry, ExpiredTombstones, PartitionManifest};

/// What is to change; what is not named stays as it is.
#[derive(Debug, Default)]
pub struct ColdSwap {
    /// All rows up to here are in segments from now on.
    pub flushed_up_to: Seq,
    /// New segments, their files in their places, with the position of each of their rows.
    pub added: Vec<(Arc<SegmentEntry>, Arc<[Seq]>)>,
    /// Segments that these replace.
    pub removed: Vec<Arc<SegmentEntry>>,
    /// Segments whose files lie elsewhere from now on, where they are already.
    pub moved: Vec<Arc<SegmentEntry>>,
    /// Hot tombstones that go.
    pub expired: Option<ExpiredTombstones>,
    /// The last position whose tombstone goes, hot or cold.
    pub expired_up_to: Option<Seq>,
}

#[derive(Default)]
pub(super) struct ColdState {
    manifest: Arc<PartitionManifest>,
    /// Who wants to begin a change: as soon as no write is under way, for what those replace was not noted.
    begin: Option<oneshot::Sender<Result<Addr<PartitionActor>>>>,
    under_way: Option<UnderWay>,
    /// What is to be committed as soon as no write is under way.
    swap: Option<(ColdSwap, oneshot::Sender<Result<()>>)>,
    committing: bool,
    /// The table or the mailbox goes: what comes is refused.
    gone: Option<Error>,
}

/// A change that was begun, and what went on since.
struct UnderWay {
    /// The partition's last position when it began.
    from: Seq,
    /// By whom: a write may be refused after all.
    replaced: Vec<(Ticket, Seq)>,
    /// What became hot.
    hot: HotCount,
}

impl ColdState {
    pub(super) fn manifest(&self) -> Arc<PartitionManifest> {
        self.manifest.clone()
    }

    pub(super) fn learn(&mut self, manifest: Arc<PartitionManifest>) {
        self.manifest = manifest;
    }

    /// These changes are on their way.
    pub(super) fn note(&mut self, ticket: Ticket, changes: &[Change]) {
        if let Some(UnderWay { from, replaced, hot }) = &mut self.under_way {
            let rows = changes.iter().filter_map(|change| change.replaces.as_ref());
            replaced.extend(rows.map(|old| (ticket, old.seq)));
            hot.count(changes, *from);
        }
    }

    /// They were refused: what they would have replaced stays.
    pub(super) fn refused(&mut self, ticket: Ticket) {
        if let Some(UnderWay { replaced, .. }) = &mut self.under_way {
            replaced.retain(|(by, _)| *by != ticket);
        }
    }

    /// Nothing of it is true any more: whoever waits for a change is refused.
    fn forget(&mut self) {
        let Self { begin, swap, gone, .. } = std::mem::take(self);
        let gone = gone.unwrap_or(Error::Aborted);
        if let Some(begin) = begin {
            // Whoever asked has gone: nothing was begun.
            let _ = begin.send(Err(gone.clone()));
        }
        if let Some((_, reply)) = swap {
            // Whoever asked has gone: its files are orphans.
            let _ = reply.send(Err(gone));
        }
    }

    /// Is no change under way?
    pub(super) fn is_still(&self) -> bool {
        self.is_settled() && self.under_way.is_none()
    }

    /// Is nothing of it on its way to the disk?
    pub(super) fn is_settled(&self) -> bool {
        self.begin.is_none() && self.swap.is_none() && !self.committing
    }
}

/// Where the replaced rows are in the new segments.
fn positions(swap: &ColdSwap, replaced: &[(Ticket, Seq)]) -> Vec<(SegmentId, u32)> {
    let find = |(_, seq): &(Ticket, Seq)| {
        swap.added.iter().find_map(|(segment, seqs)| {
            let position = u32::try_from(seqs.binary_search(seq).ok()?).ok()?;
            Some((segment.meta.id, position))
        })
    };
    replaced.iter().filter_map(find).collect()
}

impl PartitionActor {
    /// Begins or commits the change that waits, if nothing else is under way.
    pub(super) fn change_if_quiet(&mut self, ctx: &mut Context<Self>) {
        if !self.core.is_quiet() {
            return;
        }
        if let Some(begin) = self.cold.begin.take() {
            let from = self.load().and_then(|()| self.store.read_view().head(&self.key));
            self.cold.under_way =
                from.as_ref().ok().map(|from| UnderWay { from: *from, replaced: Vec::new(), hot: HotCount::default() });
            if begin.send(from.map(|_| ctx.address())).is_err() {
                self.cold.under_way = None;
            }
            return self.reopen(ctx);
        }
        let Some((swap, reply)) = self.cold.swap.take() else { return };
        let under_way = self.cold.under_way.take();
        let committing = self.swap_commit(&swap, under_way).and_then(|(commit, hot)| {
            let (manifest, entry) = (commit.manifest.clone(), CommitEntry::Cold(Box::new(commit)));
            Ok((self.committer.begin(entry, Durability::Sync)?, manifest, hot))
        });
        let (committed, manifest, hot) = match committing {
            Ok(committing) => committing,
            Err(error) => {
                // Whoever asked has gone: its files are orphans.
                let _ = reply.send(Err(error));
                return self.reopen(ctx);
            }
        };
        self.cold.committing = true;
        let done = actix::fut::wrap_future::<_, Self>(committed).map(move |outcome, actor, ctx| {
            let outcome = outcome.unwrap_or(Err(Error::StorageUnavailable)).map(|_| ());
            // Not where all was forgotten meanwhile.
            if std::mem::take(&mut actor.cold.committing) && outcome.is_ok() {
                actor.cold.manifest = manifest;
                actor.hot = HotCount::new(hot);
            }
            let _ = reply.send(outcome);
            actor.reopen(ctx);
        });
        ctx.spawn(done);
    }

    fn swap_commit(&self, swap: &ColdSwap, under_way: Option<UnderWay>) -> Result<(ColdCommit, HotStats)> {
        let UnderWay { from, replaced, hot } =
            under_way.ok_or_else(|| Error::internal("a change of cold rows that was not begun"))?;
        if let Some(gone) = &self.cold.gone {
            return Err(gone.clone());
        }
        let added: Vec<Arc<SegmentEntry>> = swap.added.iter().map(|(segment, _)| segment.clone()).collect();
        let came: Vec<Arc<SegmentEntry>> = added.iter().chain(&swap.moved).cloned().collect();
        let went: Vec<SegmentId> = swap.removed.iter().chain(&swap.moved).map(|segment| segment.meta.id).collect();
        let before = &self.cold.manifest;
        let manifest = before.changed(swap.flushed_up_to, &came, &went)?;
        let manifest = Arc::new(manifest.expired_up_to(swap.expired_up_to.unwrap_or_default()));
        let flushes = manifest.flushed_up_to > before.flushed_up_to;
        let hot = match (flushes, &swap.expired) {
            (true, _) if hot.now().rows == 0 => HotStats::default(),
            (true, _) => hot.now().begun(manifest.flushed_up_to.after()),
            (false, None) => self.hot.now(),
            (false, Some(expired)) => HotStats {
                rows: self.hot.now().rows.saturating_sub(expired.seqs.len() as u64),
                bytes: self.hot.now().bytes.saturating_sub(expired.bytes),
                oldest: self.hot.now().oldest,
                // One that came meanwhile is above all that were there when the change began.
                oldest_tombstone: expired.next.earlier(hot.now().begun(from.after()).oldest_tombstone),
                ..HotStats::default()
            },
        };
        let stats = HotStats { cold_tombstone: manifest.oldest_tombstone(), ..hot };
        let commit = ColdCommit {
            key: self.key.clone(),
            manifest,
            added,
            removed: swap.removed.clone(),
            moved: swap.moved.clone(),
            deleted: positions(swap, &replaced),
            expired: swap.expired.as_ref().map(|expired| expired.seqs.clone()).unwrap_or_default(),
            expired_up_to: swap.expired_up_to,
            flushes,
            stats,
        };
        Ok((commit, stats))
    }

    fn reopen(&mut self, ctx: &mut Context<Self>) {
        let unparked = self.core.open();
        self.resume(unparked, ctx);
    }
}

/// Begins a change: what is replaced from now on is noted.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::actors) struct BeginCold {
    pub reply: oneshot::Sender<Result<Addr<PartitionActor>>>,
}

impl Handler<BeginCold> for PartitionActor {
    type Result = ();

    fn handle(&mut self, msg: BeginCold, ctx: &mut Context<Self>) {
        self.queued.fetch_sub(1, Ordering::Release);
        let refused = match &self.cold.gone {
            Some(gone) => Err(gone.clone()),
            None if !self.cold.is_still() => {
                Err(Error::Conflict(format!("the cold rows of {} are being changed already", self.key)))
            }
            None => {
                self.core.close();
                self.cold.begin = Some(msg.reply);
                return self.change_if_quiet(ctx);
            }
        };
        // Whoever asked has gone: nothing was begun.
        let _ = msg.reply.send(refused);
    }
}

/// Commits the change that was begun.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::actors) struct SwapCold {
    pub swap: ColdSwap,
    pub reply: oneshot::Sender<Result<()>>,
}

impl Handler<SwapCold> for PartitionActor {
    type Result = ();

    fn handle(&mut self, SwapCold { swap, reply }: SwapCold, ctx: &mut Context<Self>) {
        self.core.close();
        self.cold.swap = Some((swap, reply));
        self.change_if_quiet(ctx);
    }
}

/// Gives up the change that was begun.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::actors) struct EndCold;

impl Handler<EndCold> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: EndCold, _ctx: &mut Context<Self>) {
        if self.cold.swap.is_none() {
            self.cold.under_way = None;
        }
    }
}

/// The table or the mailbox goes: no change of its cold half is committed any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::actors) struct RefuseCold(pub Error);

impl Handler<RefuseCold> for PartitionActor {
    type Result = ();

    fn handle(&mut self, RefuseCold(gone): RefuseCold, _ctx: &mut Context<Self>) {
        self.cold.gone = Some(gone);
        if self.cold.swap.is_none() {
            self.cold.under_way = None;
        }
    }
}

/// The mailbox was erased: what is remembered of the disk is not true any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::actors) struct Forget;

impl Handler<Forget> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: Forget, ctx: &mut Context<Self>) {
        self.core.forget_greatest();
        self.hot = HotCount::default();
        self.cold.forget();
        // Writes may be parked for a change that waited and is refused now.
        self.reopen(ctx);
    }
}

/// A change of a partition's cold half that was begun. Dropped, it is given up.
pub struct ColdChange {
    partition: Addr<PartitionActor>,
    ended: bool,
}

impl ColdChange {
    pub(in crate::actors) fn new(partition: Addr<PartitionActor>) -> Self {
        Self { partition, ended: false }
    }

    /// Makes it so, durable at `sync`. New segments' files must be in their places.
    ///
    /// # Errors
    /// `TABLE_NOT_FOUND` and the like where the partition goes, `BUSY`, `SHUTTING_DOWN`, `INTERNAL`: nothing has changed.
    /// `STORAGE_UNAVAILABLE`: it may have, or not; the files must stay.
    pub async fn commit(mut self, swap: ColdSwap) -> Result<()> {
        if !self.partition.connected() {
            return Err(Error::ShuttingDown);
        }
        self.ended = true;
        let (reply, answer) = oneshot::channel();
        inbox::send(&self.partition, SwapCold { swap, reply });
        // Nobody says what became of it: the next start knows.
        answer.await.unwrap_or(Err(Error::StorageUnavailable))
    }
}

impl Drop for ColdChange {
    fn drop(&mut self) {
        if !self.ended {
            inbox::send(&self.partition, EndCold);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::{PkBytes, RowBytes, RowPlace, StoredRow};

    #[test]
    fn what_a_refused_write_would_have_replaced_is_not_taken_for_replaced() {
        let row = RowBytes(Bytes::from_static(b"row"));
        let replacing = |seq: i64| {
            let seq = Seq::new(seq).unwrap();
            let old = StoredRow { seq, created: seq, deleted: false, row: row.clone(), place: RowPlace::Own };
            [Change { pk: PkBytes::NONE, row: row.clone(), deletes: false, replaces: Some(old) }]
        };
        let under_way = UnderWay { from: Seq::ZERO, replaced: Vec::new(), hot: HotCount::default() };
        let mut cold = ColdState { under_way: Some(under_way), ..ColdState::default() };
        cold.note(Ticket::of(1), &replacing(10));
        cold.note(Ticket::of(2), &replacing(20));
        cold.note(Ticket::of(3), &replacing(30));
        cold.refused(Ticket::of(2));
        let noted = cold.under_way.unwrap().replaced.into_iter().map(|(_, seq)| seq.get());
        assert_eq!(noted.collect::<Vec<_>>(), [10, 30]);
    }

    #[test]
    fn who_waits_for_a_change_is_refused_when_all_is_forgotten() {
        let mut cold = ColdState::default();
        let (begin, mut begun) = oneshot::channel();
        let (reply, mut swapped) = oneshot::channel();
        cold.begin = Some(begin);
        cold.swap = Some((ColdSwap::default(), reply));
        cold.gone = Some(Error::InvalidCredentials);
        cold.forget();
        assert!(matches!(begun.try_recv(), Ok(Err(Error::InvalidCredentials))));
        assert!(matches!(swapped.try_recv(), Ok(Err(Error::InvalidCredentials))));
        assert!(cold.is_still() && cold.gone.is_none());
    }
}
