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
use crate::partition::HotCount;
use crate::storage::segment::{SegmentEntry, SegmentId};
use crate::storage::{ColdCommit, CommitEntry, PartitionManifest};

/// What is to change.
#[derive(Debug)]
pub struct ColdSwap {
    /// All rows up to here are in segments from now on.
    pub flushed_up_to: Seq,
    /// New segments, their files in their places, with the position of each of their rows.
    pub added: Vec<(Arc<SegmentEntry>, Arc<[Seq]>)>,
    /// Segments that these replace.
    pub removed: Vec<Arc<SegmentEntry>>,
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
    replaced: Vec<Seq>,
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
    pub(super) fn note(&mut self, changes: &[Change]) {
        if let Some(UnderWay { from, replaced, hot }) = &mut self.under_way {
            replaced.extend(changes.iter().filter_map(|change| change.replaces.as_ref()).map(|old| old.seq));
            hot.count(changes, *from);
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
fn positions(swap: &ColdSwap, replaced: &[Seq]) -> Vec<(SegmentId, u32)> {
    let find = |seq: &Seq| {
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
            actor.cold.committing = false;
            if outcome.is_ok() {
                actor.cold.manifest = manifest;
                actor.hot = HotCount::new(hot);
            }
            let _ = reply.send(outcome);
            actor.reopen(ctx);
        });
        ctx.spawn(done);
    }

    fn swap_commit(&self, swap: &ColdSwap, under_way: Option<UnderWay>) -> Result<(ColdCommit, HotStats)> {
        let UnderWay { replaced, hot, .. } =
            under_way.ok_or_else(|| Error::internal("a change of cold rows that was not begun"))?;
        if let Some(gone) = &self.cold.gone {
            return Err(gone.clone());
        }
        let added: Vec<Arc<SegmentEntry>> = swap.added.iter().map(|(segment, _)| segment.clone()).collect();
        let removed: Vec<SegmentId> = swap.removed.iter().map(|segment| segment.meta.id).collect();
        let manifest = Arc::new(self.cold.manifest.changed(swap.flushed_up_to, &added, &removed)?);
        let deleted = positions(swap, &replaced);
        let stats = match hot.now() {
            // Nothing was flushed, but moved within the cold half.
            _ if !swap.removed.is_empty() => self.hot.now(),
            hot if hot.rows == 0 => HotStats::default(),
            hot => HotStats { oldest: swap.flushed_up_to.after(), ..hot },
        };
        let key = self.key.clone();
        Ok((ColdCommit { key, manifest, added, removed: swap.removed.clone(), deleted, stats }, stats))
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

    fn handle(&mut self, _: Forget, _ctx: &mut Context<Self>) {
        self.core.forget_greatest();
        self.hot = HotCount::default();
        self.cold = ColdState::default();
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
