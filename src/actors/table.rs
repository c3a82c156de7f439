//! The table's actor: its one writer. Shell of [`Sequencer`].
//!
//! Owns the table's `_seq`, what is on its way to the committer, and the all-owners subscribers.
//! Invariants: PT-1; entries reach the committer, and come back, in `_seq` order.

use std::collections::VecDeque;
use std::sync::Arc;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use tokio::sync::oneshot;

use super::committer::{Answer, CommitterHandle, Submission, Then};
use super::fatal::{Fatal, PanicGuard};
use super::feed::{Attach, deliver};
use super::inbox;
use super::partition::{PartitionActor, Settled};
use super::routes::entries_for;
use crate::error::{Error, Result};
use crate::live::{QueryRegistry, SubscriptionKey};
use crate::model::{
    Change, CommittedChanges, Durability, HotStats, NoteWrite, Owner, QuotaNote, Seq, TableMeta, WriteAck, WrittenRow,
};
use crate::partition::{Sequencer, Ticket, Written, row_after};
use crate::storage::{CommitEntry, Store};
use crate::time::Clock;
use crate::topics::TableRoutes;

pub(super) struct TableActor {
    sequencer: Sequencer,
    committer: CommitterHandle,
    clock: Clock,
    /// Says where rows over all owners lie, and the time of STREAM tables.
    store: Arc<Store>,
    in_flight: VecDeque<InFlight>,
    /// Live queries over all owners.
    feed: QueryRegistry,
    /// What topics get of its changes.
    routes: Arc<TableRoutes>,
    /// Position of the last change that was delivered; ZERO: none since the actor started.
    head: Seq,
    _guard: PanicGuard,
}

struct InFlight {
    partition: Addr<PartitionActor>,
    ticket: Ticket,
    committed: CommittedChanges,
}

impl TableActor {
    pub(super) fn new(
        sequencer: Sequencer,
        committer: CommitterHandle,
        clock: Clock,
        (store, routes): (Arc<Store>, Arc<TableRoutes>),
        fatal: Fatal,
    ) -> Self {
        let guard = PanicGuard { fatal, what: "a table's actor panicked" };
        Self {
            sequencer,
            committer,
            clock,
            store,
            in_flight: VecDeque::new(),
            feed: QueryRegistry::default(),
            routes,
            head: Seq::ZERO,
            _guard: guard,
        }
    }
}

impl Actor for TableActor {
    type Context = Context<Self>;
}

/// Changes of one statement that the partition found good.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Commit {
    pub partition: Addr<PartitionActor>,
    pub ticket: Ticket,
    /// As the statement was bound against it.
    pub table: Arc<TableMeta>,
    pub owner: Owner,
    pub changes: Vec<Change>,
    pub notes: Vec<NoteWrite>,
    pub durability: Durability,
    /// What is to be noted of the partition's hot rows.
    pub stats: Option<HotStats>,
    /// What is to be noted of its rows that gave way.
    pub quota: Option<Arc<QuotaNote>>,
    /// What the writer is answered.
    pub counted: Counted,
    pub reply: oneshot::Sender<Result<WriteAck>>,
}

/// Live rows that a statement touched; which, where it is to answer them.
pub(super) struct Counted {
    pub rows: u64,
    pub written: Vec<Written>,
}

/// The rows as `changes`, which have their positions, left them.
pub(super) fn written_rows(written: Vec<Written>, changes: &[(Seq, Change)]) -> Vec<WrittenRow> {
    let changed = |change: usize| {
        let (seq, change) = &changes[change];
        row_after(change, *seq)
    };
    written.into_iter().map(|written| written.row(changed)).collect()
}

impl Handler<Commit> for TableActor {
    type Result = ();

    fn handle(&mut self, msg: Commit, ctx: &mut Context<Self>) {
        let Commit { partition, ticket, table, owner, changes, notes, durability, stats, quota, counted, reply } = msg;
        // A row whose position is behind the time by which rows expire would be gone before it is read.
        let now_ms = if table.is_stream() { self.store.streams().now_ms() } else { self.clock.now_ms() };
        let assigned = self.sequencer.assign(table, owner, (changes, notes), now_ms);
        let Some(committed) = assigned.map(|committed| CommittedChanges { stats, quota, ..committed }) else { return };
        let topics = match entries_for(&self.routes, &committed, self.store.user_storages()) {
            Ok(topics) => topics,
            // The writer may have gone.
            Err(error) => {
                let _ = reply.send(Err(error));
                inbox::send(&partition, Settled { ticket, committed: None });
                return;
            }
        };
        let entry = CommitEntry::Changes(committed.clone());
        let Counted { rows, written } = counted;
        let written = written_rows(written, &committed.changes);
        let answer = Answer { reply, ack: WriteAck { rows, last: Some(committed.range.last), written } };
        match self.committer.submit(Submission { entry, topics, durability, then: Then::Table(ctx.address(), answer) })
        {
            Ok(()) => self.in_flight.push_back(InFlight { partition, ticket, committed }),
            Err(_) => inbox::send(&partition, Settled { ticket, committed: None }),
        }
    }
}

/// This many of the table's oldest entries in flight are durable.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Committed {
    pub count: usize,
}

impl Handler<Committed> for TableActor {
    type Result = ();

    fn handle(&mut self, msg: Committed, _ctx: &mut Context<Self>) {
        for InFlight { partition, ticket, committed } in self.in_flight.drain(..msg.count) {
            self.head = committed.range.last;
            deliver(&mut self.feed, &committed, Some(self.store.user_storages()));
            inbox::send(&partition, Settled { ticket, committed: Some(committed) });
        }
    }
}

/// The store failed: nothing in flight will ever be durable here. Its writers know.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct CommitFailed;

impl Handler<CommitFailed> for TableActor {
    type Result = ();

    fn handle(&mut self, _: CommitFailed, _ctx: &mut Context<Self>) {
        for InFlight { partition, ticket, .. } in self.in_flight.drain(..) {
            inbox::send(&partition, Settled { ticket, committed: None });
        }
    }
}

/// Registers a live query over all owners.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct AttachFeed(pub Attach);

impl Handler<AttachFeed> for TableActor {
    type Result = ();

    fn handle(&mut self, AttachFeed(attach): AttachFeed, _ctx: &mut Context<Self>) {
        attach.register(&mut self.feed, self.head);
    }
}

/// Ends a live query over all owners.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct DetachFeed(pub SubscriptionKey);

impl Handler<DetachFeed> for TableActor {
    type Result = ();

    fn handle(&mut self, DetachFeed(key): DetachFeed, _ctx: &mut Context<Self>) {
        self.feed.detach(key);
    }
}

/// The table is gone, or another: its subscribers over all owners are told.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct EndFeed(pub Error);

impl Handler<EndFeed> for TableActor {
    type Result = ();

    fn handle(&mut self, EndFeed(error): EndFeed, _ctx: &mut Context<Self>) {
        self.feed.end_all(&error);
    }
}

/// What topics get of the table's changes from now on. Nothing is written to the table meanwhile.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct SetRoutes(pub Arc<TableRoutes>);

impl Handler<SetRoutes> for TableActor {
    type Result = ();

    fn handle(&mut self, SetRoutes(routes): SetRoutes, _ctx: &mut Context<Self>) {
        self.routes = routes;
    }
}
