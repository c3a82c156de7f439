//! What a partition of a STREAM table does otherwise: its rows have no key, and the oldest of too many give way.
//!
//! Owns how much there is ([`StreamQuota`]), and that keys of what gave way are removed behind. Never has a writer wait for that.

use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, Context};

use super::{LookUp, PartitionActor};
use crate::actors::committer::CommitterHandle;
use crate::error::{Error, Result};
use crate::model::{
    Change, CommittedChanges, Durability, PartitionKey, QuotaNote, Seq, TableMeta, WriteCommand, WriteOp,
};
use crate::partition::{QuotaLimits, StreamQuota};
use crate::storage::{CommitEntry, Store};

/// Keys of one commit.
const SWEEP_KEYS: usize = 1_000;

pub(super) struct StreamState {
    limits: QuotaLimits,
    /// `None`: not counted yet.
    quota: Option<StreamQuota>,
    /// Keys up to here are removed, or were before this actor began.
    swept: Seq,
    sweeping: bool,
}

impl StreamState {
    pub(super) fn new(limits: QuotaLimits) -> Self {
        Self { limits, quota: None, swept: Seq::ZERO, sweeping: false }
    }

    /// These changes are on their way. What is to be noted with them.
    pub(super) fn take(&mut self, changes: &[Change], expired: Seq) -> Option<Arc<QuotaNote>> {
        let (rows, bytes) = size(changes.iter());
        self.quota.as_mut()?.take(rows, bytes, expired).map(Arc::new)
    }
}

fn size<'a>(changes: impl Iterator<Item = &'a Change>) -> (u64, u64) {
    changes.fold((0, 0), |(rows, bytes), change| (rows + 1, bytes + change.row.0.len() as u64))
}

impl PartitionActor {
    /// Of a STREAM table: new rows have no key, and those to be deleted are told by their positions.
    pub(super) fn look_up_by_position(&self, command: &WriteCommand) -> Result<LookUp> {
        let mut view = None;
        let mut look_up = |op: &WriteOp| match op {
            WriteOp::Delete { expected: Some(seq), .. } => {
                let view = view.get_or_insert_with(|| self.store.read_view());
                view.stream_row(&command.table, &command.owner, *seq)
            }
            _ => Ok(None),
        };
        let found = command.ops.iter().map(&mut look_up).collect::<Result<_>>()?;
        Ok(LookUp { found, cold: None })
    }

    /// Counts what is there: what was noted, and the rows above that, which are at most a few slices.
    pub(super) fn load_stream(&mut self, table: &TableMeta) -> Result<()> {
        let (None, Some(ttl)) = (&self.stream.quota, &table.ttl) else { return Ok(()) };
        let view = self.store.read_view();
        let noted = view.quota_note(ttl, &self.key)?;
        let (trimmed, above) = (noted.trimmed, noted.counted_up_to());
        let mut quota = StreamQuota::new(self.stream.limits, noted);
        for row in view.stream_sizes(table, &self.key.owner, above)? {
            let (seq, bytes) = row?;
            quota.count(seq, 1, bytes);
        }
        self.stream.swept = trimmed;
        self.stream.quota = Some(quota);
        Ok(())
    }

    /// The changes are stored.
    pub(super) fn settle_stream(&mut self, committed: &CommittedChanges, ctx: &mut Context<Self>) {
        let (rows, bytes) = size(committed.changes.iter().map(|(_, change)| change));
        let Some(quota) = &mut self.stream.quota else { return };
        quota.settle(committed.range.last, rows, bytes);
        self.sweep(ctx);
    }

    /// Removes the keys of what gave way, aside and once at a time.
    fn sweep(&mut self, ctx: &mut Context<Self>) {
        let Some(up_to) = self.stream.quota.as_ref().map(StreamQuota::trimmed) else { return };
        if self.stream.sweeping || up_to <= self.stream.swept {
            return;
        }
        self.stream.sweeping = true;
        let (store, committer, key) = (self.store.clone(), self.committer.clone(), self.key.clone());
        let sweeping = self.cold_reads.spawn(sweep(store, committer, key, (self.stream.swept, up_to)));
        let swept = actix::fut::wrap_future::<_, Self>(sweeping).map(move |swept, actor, ctx| {
            actor.stream.sweeping = false;
            // What is left goes with its bucket: no reader takes it meanwhile.
            if let Err(error) = swept.unwrap_or_else(|failed| Err(Error::internal(failed))) {
                tracing::warn!(key = %actor.key, %error, "rows that gave way are not removed");
            }
            actor.stream.swept = up_to;
            actor.sweep(ctx);
        });
        ctx.spawn(swept);
    }
}

async fn sweep(
    store: Arc<Store>,
    committer: CommitterHandle,
    key: PartitionKey,
    (mut above, up_to): (Seq, Seq),
) -> Result<()> {
    while let Some((keys, reached)) = store.trimmed_keys(&key, (above, up_to), SWEEP_KEYS)? {
        committer.commit_at(CommitEntry::Erase(Box::new(keys)), Durability::Buffered).await?;
        above = reached;
    }
    Ok(())
}
