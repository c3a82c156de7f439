//! The partition's actor. Shell of [`PartitionCore`]: reads what the core asks for, passes changes on, answers.
//!
//! Owns nothing that is not on disk, but the writes under way and this owner's live subscribers.
//! Never reads or writes another owner's partition (LQ-3); answers only what is durable (PT-2).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::fatal::{Fatal, PanicGuard};
use super::feed::{Attach, deliver};
use super::gate::Passage;
use super::inbox;
use super::router::RouterMap;
use super::table::{Commit, TableActor};
use crate::error::{Error, Result};
use crate::live::{QueryRegistry, SubscriptionKey};
use crate::model::{
    Assignment, CommittedChanges, PartitionKey, PkBytes, RowBytes, Seq, StoredRow, TableMeta, WriteAck, WriteCommand,
    WriteOp,
};
use crate::partition::core::RowEditor;
use crate::partition::{Admission, PartitionCore, Prepared, Ticket};
use crate::storage::{Store, keys, row_codec};

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
    pub fatal: Fatal,
}

impl PartitionActor {
    pub(super) fn new(parts: PartitionParts) -> Self {
        let PartitionParts { key, store, table, queued, map, fatal } = parts;
        let guard = PanicGuard { fatal, what: "a partition's actor panicked" };
        Self {
            key,
            store,
            table,
            core: PartitionCore::default(),
            holds: HashMap::new(),
            queries: QueryRegistry::default(),
            head: Seq::ZERO,
            drained: Vec::new(),
            queued,
            map,
            _guard: guard,
        }
    }

    fn admit(&mut self, append: Append, ctx: &Context<Self>) {
        if let Admission::Ready(append) = self.core.admit(append) {
            self.start(append, ctx);
        }
    }

    fn start(&mut self, append: Append, ctx: &Context<Self>) {
        let Append { command, reply, holds } = append;
        let editor = Editor(&command.table);
        let found = self.read_found(&command);
        let prepared = found.and_then(|found| self.core.prepare(&command, found, &editor));
        match prepared {
            // Nobody waits any more: nothing to do.
            Err(error) => drop(reply.send(Err(error))),
            Ok(Prepared { changes, rows, .. }) if changes.is_empty() => {
                drop(reply.send(Ok(WriteAck { rows, last: None })));
            }
            Ok(Prepared { ticket, changes, rows }) => {
                self.holds.insert(ticket, holds);
                let WriteCommand { table, owner, durability, .. } = command;
                let partition = ctx.address();
                let commit = Commit { partition, ticket, table, owner, changes, durability, rows, reply };
                inbox::send(&self.table, commit);
            }
        }
    }

    fn tell_drained(&mut self) {
        if self.core.is_idle() {
            for waiter in self.drained.drain(..) {
                // Nobody waits any more: nothing to do.
                let _ = waiter.send(());
            }
        }
    }

    /// The live row of each operation's key. An INSERT of a key beyond all others costs nothing, of another new key one
    /// look into the key index, no row.
    fn read_found(&mut self, command: &WriteCommand) -> Result<Vec<Option<StoredRow>>> {
        let inserts = command.ops.iter().any(|op| matches!(op, WriteOp::Insert { .. }));
        if inserts && !self.core.knows_greatest() {
            self.core.learn_greatest(self.store.greatest_key(&self.key)?);
        }
        let read = |op: &WriteOp| match op {
            WriteOp::Insert { pk, .. } if self.core.is_beyond(pk) => Ok(None),
            WriteOp::Insert { pk, .. } if !self.store.contains_key(&self.key, pk)? => Ok(None),
            op => self.store.live_row(&self.key, op.pk()),
        };
        command.ops.iter().map(read).collect()
    }
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

/// What a write gives back when it has ended, also when its writer has gone meanwhile.
pub(super) struct Holds {
    pub _credit: OwnedSemaphorePermit,
    /// Its table is not altered before.
    pub _passage: Passage,
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
        if let Some(committed) = &msg.committed {
            self.head = committed.range.last;
            deliver(&mut self.queries, committed, false);
        }
        self.holds.remove(&msg.ticket);
        for append in unparked {
            self.admit(append, ctx);
        }
        self.tell_drained();
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
        if self.core.is_idle() && self.queries.is_empty() && self.map.remove_if_unused(&self.key, &self.queued) {
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
