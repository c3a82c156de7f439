//! The partition's actor. Shell of [`PartitionCore`]: reads what the core asks for, passes changes on, answers.
//!
//! Owns nothing that is not on disk, but the writes under way, what they replace while rows become cold
//! ([`cold`]), and this owner's live subscribers.
//! Never reads or writes another owner's partition (LQ-3); answers only what is durable (PT-2).

pub(super) mod cold;
mod stream;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::committer::CommitterHandle;
use super::fatal::{Fatal, PanicGuard};
use super::feed::{Attach, deliver};
use super::gate::Passage;
use super::inbox;
use super::router::RouterMap;
use super::table::{Commit, Counted, TableActor, written_rows};
use crate::error::{Error, Result};
use crate::live::{QueryRegistry, SubscriptionKey};
use crate::model::{
    Assignment, CommittedChanges, PartitionKey, PkBytes, RowBytes, Seq, StoredRow, TableMeta, WriteAck, WriteCommand,
    WriteOp,
};
use crate::partition::core::RowEditor;
use crate::partition::{Admission, Effects, HotCount, PartitionCore, Prepared, QuotaLimits, Ticket, work_out};
use crate::storage::segment::FoundRow;
use crate::storage::{ColdLookup, Found, Store, keys, row_codec};
use cold::ColdState;
use stream::StreamState;

pub(super) struct PartitionActor {
    key: PartitionKey,
    store: Arc<Store>,
    table: Addr<TableActor>,
    core: PartitionCore<Append>,
    /// What the writes under way hold.
    holds: HashMap<Ticket, Holds>,
    /// This owner's live queries.
    queries: QueryRegistry,
    /// Position of the last change that was delivered; ZERO: none since the actor started.
    head: Seq,
    /// What is hot, for whoever flushes.
    hot: HotCount,
    /// Of a STREAM table: how much of it there is.
    stream: StreamState,
    /// What is cold, and a change of it that is under way.
    cold: ColdState,
    committer: CommitterHandle,
    /// Where segments are read.
    cold_reads: Handle,
    /// Who waits until no write is under way.
    drained: Vec<oneshot::Sender<()>>,
    /// Messages that the router has put into the inbox and that are not handled yet.
    queued: Arc<AtomicUsize>,
    map: Arc<RouterMap>,
    _guard: PanicGuard,
}

/// What a partition is made of.
pub(super) struct PartitionParts {
    pub key: PartitionKey,
    pub store: Arc<Store>,
    pub table: Addr<TableActor>,
    pub queued: Arc<AtomicUsize>,
    pub map: Arc<RouterMap>,
    pub committer: CommitterHandle,
    pub cold_reads: Handle,
    pub quota: QuotaLimits,
    pub fatal: Fatal,
}

impl PartitionActor {
    pub(super) fn new(parts: PartitionParts) -> Self {
        let PartitionParts { key, store, table, queued, map, committer, cold_reads, quota, fatal } = parts;
        let guard = PanicGuard { fatal, what: "a partition's actor panicked" };
        Self {
            key,
            store,
            table,
            core: PartitionCore::default(),
            holds: HashMap::new(),
            queries: QueryRegistry::default(),
            head: Seq::ZERO,
            hot: HotCount::default(),
            stream: StreamState::new(quota),
            cold: ColdState::default(),
            committer,
            cold_reads,
            drained: Vec::new(),
            queued,
            map,
            _guard: guard,
        }
    }

    fn admit(&mut self, append: Append, ctx: &mut Context<Self>) {
        if let Admission::Ready(append) = self.core.admit(append) {
            self.start(append, ctx);
        }
    }

    fn start(&mut self, append: Append, ctx: &mut Context<Self>) {
        match self.look_up(&append.command) {
            Ok(LookUp { found, cold: None }) => self.finish(append, found, ctx),
            Ok(LookUp { found, cold: Some(lookup) }) => self.read_cold(append, found, lookup, ctx),
            // Nobody waits any more: nothing to do.
            Err(error) => drop(append.reply.send(Err(error))),
        }
    }

    /// What was found decides what the write does.
    fn finish(&mut self, append: Append, found: Vec<Option<StoredRow>>, ctx: &mut Context<Self>) {
        if append.command.computes() {
            return self.work_out_aside(append, found, ctx);
        }
        let effects = work_out(&append.command, found, &Editor(&append.command.table));
        self.take(append, effects, ctx);
    }

    /// Evaluates a statement's expressions aside, with the keys held: they may take long.
    fn work_out_aside(&mut self, append: Append, found: Vec<Option<StoredRow>>, ctx: &mut Context<Self>) {
        let ticket = self.core.hold(&append.command);
        let working = self.cold_reads.spawn(async move {
            let effects = work_out(&append.command, found, &Editor(&append.command.table));
            (append, effects)
        });
        let worked = actix::fut::wrap_future::<_, Self>(working).map(move |worked, actor, ctx| {
            let unparked = actor.core.committed(ticket);
            // It panicked: its writer's reply was dropped with it, and says so.
            if let Ok((append, effects)) = worked {
                actor.take(append, effects, ctx);
            }
            actor.resume(unparked, ctx);
        });
        ctx.spawn(worked);
    }

    /// The changes go on their way, or the writer is answered.
    fn take(&mut self, append: Append, effects: Result<Effects>, ctx: &Context<Self>) {
        let Append { command, reply, holds } = append;
        let effects = match effects {
            Ok(effects) => effects,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let Prepared { ticket, effects } = self.core.take(&command, effects);
        let Effects { changes, rows, written } = effects;
        if changes.is_empty() && command.notes.is_empty() {
            let written = written_rows(written, &[]);
            return drop(reply.send(Ok(WriteAck { rows, last: None, written })));
        }
        self.holds.insert(ticket, holds);
        self.cold.note(ticket, &changes);
        let (stats, quota) = match &command.table.ttl {
            None => (self.hot.count(&changes, self.cold.manifest().flushed_up_to), None),
            Some(ttl) => (None, self.stream.take(&changes, ttl.expired_up_to(self.store.streams().now_ms()))),
        };
        let WriteCommand { table, owner, notes, durability, .. } = command;
        let counted = Counted { rows, written };
        let partition = ctx.address();
        let commit =
            Commit { partition, ticket, table, owner, changes, notes, durability, stats, quota, counted, reply };
        inbox::send(&self.table, commit);
    }

    /// Reads segments aside: other keys' writes go on meanwhile.
    fn read_cold(
        &mut self,
        append: Append,
        mut found: Vec<Option<StoredRow>>,
        lookup: ColdLookup,
        ctx: &mut Context<Self>,
    ) {
        let ticket = self.core.hold(&append.command);
        let reading = self.cold_reads.spawn(lookup.rows());
        let read = actix::fut::wrap_future::<_, Self>(reading).map(move |read, actor, ctx| {
            let unparked = actor.core.committed(ticket);
            match read.unwrap_or_else(|failed| Err(Error::internal(failed))) {
                Ok(rows) => {
                    for FoundRow { key, row, .. } in rows {
                        let of_key = append.command.ops.iter().zip(&mut found).filter(|(op, _)| op.pk() == Some(&key));
                        of_key.for_each(|(_, found)| *found = Some(row.clone()));
                    }
                    actor.finish(append, found, ctx);
                }
                Err(error) => drop(append.reply.send(Err(error))),
            }
            actor.resume(unparked, ctx);
        });
        ctx.spawn(read);
    }

    /// A write under way has ended.
    fn resume(&mut self, unparked: Vec<Append>, ctx: &mut Context<Self>) {
        for append in unparked {
            self.admit(append, ctx);
        }
        self.change_if_quiet(ctx);
        self.tell_drained();
    }

    fn tell_drained(&mut self) {
        if self.core.is_idle() && self.cold.is_settled() {
            for waiter in self.drained.drain(..) {
                // Nobody waits any more: nothing to do.
                let _ = waiter.send(());
            }
        }
    }

    /// The live row of each operation's key, as far as it is hot. An INSERT of a key beyond all others costs nothing, of
    /// another new key one look into the key index, no row, and of segments only what memory knows of them.
    fn look_up(&mut self, command: &WriteCommand) -> Result<LookUp> {
        if command.table.is_stream() {
            self.load_stream(&command.table)?;
            return self.look_up_by_position(command);
        }
        self.load()?;
        let manifest = self.cold.manifest();
        let flushed = manifest.flushed_up_to;
        let mut view = None;
        let mut cold = Vec::new();
        let mut found = Vec::with_capacity(command.ops.len());
        for op in &command.ops {
            let Some(pk) = op.pk() else {
                found.push(None);
                continue;
            };
            let is_insert = matches!(op, WriteOp::Insert { .. });
            if is_insert && self.core.is_beyond(pk) {
                found.push(None);
                continue;
            }
            // Absent, it has no hot row, but may have a cold one.
            let entry = match is_insert && !self.store.contains_key(&self.key, pk)? {
                true => None,
                false => view.get_or_insert_with(|| self.store.read_view()).key_entry(&self.key, pk)?,
            };
            found.push(match entry {
                Some((seq, place)) if seq > flushed => {
                    let view = view.get_or_insert_with(|| self.store.read_view());
                    let missing = || Error::internal(format!("a key of {} names no row at {seq}", self.key));
                    Some(view.hot_row(&self.key, seq, place)?.ok_or_else(missing)?)
                }
                _ => {
                    if manifest.may_hold(pk).next().is_some() {
                        cold.push(pk.clone());
                    }
                    None
                }
            });
        }
        if cold.is_empty() {
            return Ok(LookUp { found, cold: None });
        }
        let view = view.unwrap_or_else(|| self.store.read_view());
        let cold = match view.cold_lookup(&command.table, &command.owner, &manifest, cold)? {
            Found::Cold(lookup) => Some(lookup),
            Found::Row(_) | Found::Absent => None,
        };
        Ok(LookUp { found, cold })
    }

    /// What the actor remembers of what is on disk; read with its first write.
    fn load(&mut self) -> Result<()> {
        if self.core.knows_greatest() {
            return Ok(());
        }
        let manifest = self.store.read_view().manifest(&self.key)?.unwrap_or_default();
        let hot = self.store.greatest_key(&self.key)?;
        self.hot = HotCount::new(self.store.hot_stats(&self.key)?);
        // An entry of the key index that tells of a cold row says no more than its segment's.
        self.core.learn_greatest(hot.max(manifest.greatest_key().cloned()));
        self.cold.learn(manifest);
        Ok(())
    }
}

/// What is known of an operation's rows without opening a file, and what has to be read.
struct LookUp {
    /// One for each operation.
    found: Vec<Option<StoredRow>>,
    /// Of those that found none.
    cold: Option<ColdLookup>,
}

impl Actor for PartitionActor {
    type Context = Context<Self>;
}

/// A write for this partition, its answer, and what it holds.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Append {
    pub command: WriteCommand,
    pub reply: oneshot::Sender<Result<WriteAck>>,
    pub holds: Holds,
}

/// Something of a writer's that lives as long as its write is under way.
pub type Held = Box<dyn std::any::Any + Send>;

/// What a write gives back when it has ended, also when its writer has gone meanwhile.
pub(super) struct Holds {
    pub _credit: OwnedSemaphorePermit,
    /// Its table is not altered before.
    pub _passage: Passage,
    pub _held: Option<Held>,
}

impl AsRef<WriteCommand> for Append {
    fn as_ref(&self) -> &WriteCommand {
        &self.command
    }
}

impl Handler<Append> for PartitionActor {
    type Result = ();

    fn handle(&mut self, msg: Append, ctx: &mut Context<Self>) {
        self.queued.fetch_sub(1, Ordering::Release);
        self.admit(msg, ctx);
    }
}

/// A write under way has ended, and its writer is answered: the changes are durable, or never will be (`None`).
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Settled {
    pub ticket: Ticket,
    pub committed: Option<CommittedChanges>,
}

impl Handler<Settled> for PartitionActor {
    type Result = ();

    fn handle(&mut self, msg: Settled, ctx: &mut Context<Self>) {
        let unparked = self.core.committed(msg.ticket);
        let Some(committed) = &msg.committed else {
            self.cold.refused(msg.ticket);
            self.holds.remove(&msg.ticket);
            return self.resume(unparked, ctx);
        };
        match committed.table.is_stream() {
            true => self.settle_stream(committed, ctx),
            false => self.hot.began(committed.range.first),
        }
        self.head = committed.range.last;
        deliver(&mut self.queries, committed, None);
        self.holds.remove(&msg.ticket);
        self.resume(unparked, ctx);
    }
}

/// Registers a live query of this owner.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct AttachOwn(pub Attach);

impl Handler<AttachOwn> for PartitionActor {
    type Result = ();

    fn handle(&mut self, AttachOwn(attach): AttachOwn, _ctx: &mut Context<Self>) {
        self.queued.fetch_sub(1, Ordering::Release);
        attach.register(&mut self.queries, self.head);
    }
}

/// Ends a live query of this owner.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct DetachOwn(pub SubscriptionKey);

impl Handler<DetachOwn> for PartitionActor {
    type Result = ();

    fn handle(&mut self, DetachOwn(key): DetachOwn, _ctx: &mut Context<Self>) {
        self.queued.fetch_sub(1, Ordering::Release);
        self.queries.detach(key);
    }
}

/// Tells when the writes that came before it are done.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct DrainOwn {
    pub reply: oneshot::Sender<()>,
}

impl Handler<DrainOwn> for PartitionActor {
    type Result = ();

    fn handle(&mut self, msg: DrainOwn, _ctx: &mut Context<Self>) {
        self.drained.push(msg.reply);
        self.tell_drained();
    }
}

/// The table, or its owner, is gone, or the table is another: the subscribers are told.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct EndSubscribers(pub Error);

impl Handler<EndSubscribers> for PartitionActor {
    type Result = ();

    fn handle(&mut self, EndSubscribers(error): EndSubscribers, _ctx: &mut Context<Self>) {
        self.queries.end_all(&error);
    }
}

/// Ends the actor if it has nothing to do: the router starts it again when it has.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Passivate;

impl Handler<Passivate> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: Passivate, ctx: &mut Context<Self>) {
        if self.core.is_idle()
            && self.cold.is_still()
            && self.queries.is_empty()
            && self.map.remove_if_unused(&self.key, &self.queued)
        {
            ctx.stop();
        }
    }
}

/// The storage layer's codecs, as the core asks for them.
struct Editor<'a>(&'a TableMeta);

impl RowEditor for Editor<'_> {
    fn patch(&self, row: &RowBytes, assignments: &[Assignment]) -> Result<RowBytes> {
        row_codec::patch(self.0, row, assignments)
    }

    fn todays(&self, row: &RowBytes) -> Result<RowBytes> {
        row_codec::todays(self.0, row)
    }

    fn describe_key(&self, pk: &PkBytes) -> (String, String) {
        let columns: Vec<&str> = self.0.primary_key.iter().map(|i| self.0.columns[*i].name.as_str()).collect();
        (columns.join(", "), keys::display_pk(self.0, pk))
    }
}
