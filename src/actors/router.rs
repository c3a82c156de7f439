//! The router: from a checked command to the actor of its partition, started on demand.
//!
//! Owns which partitions and tables are in use, on which thread they live, whose writes are refused for good, and the
//! credits of the write path.
//! Never looks into a command beyond its key.
//! Invariants: PT-3 (one live actor per partition: an actor leaves the map, under its lock, before it ends, and only
//! when no message is on its way to it); LQ-5 (credits).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Arbiter, ArbiterHandle, Context, Handler, Message, System};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use super::awake;
use super::committer::CommitterHandle;
use super::fatal::Fatal;
use super::feed::Attach;
use super::gate::{ClosedGate, Gate};
use super::inbox;
use super::partition::cold::{BeginCold, ColdChange, Forget, RefuseCold};
use super::partition::{
    Append, AttachOwn, DetachOwn, DrainOwn, EndSubscribers, Held, Holds, PartitionActor, PartitionParts, Passivate,
};
use super::table::{AttachFeed, DetachFeed, EndFeed, TableActor};
use crate::auth::policy::Authorized;
use crate::error::{Error, Result, SubscriptionFault};
use crate::live::{LiveQuery, Subscriber, SubscriptionKey};
use crate::metrics::Metrics;
use crate::model::{
    Owner, PartitionKey, Principal, RowBytes, Seq, TableId, TableMeta, UserId, WriteAck, WriteCommand, WriteOp,
};
use crate::partition::{QuotaLimits, Sequencer};
use crate::storage::Store;
use crate::time::Clock;
use crate::topics::TableRoutes;

mod map;
mod topics;

use map::PartitionEntry;
pub(super) use map::RouterMap;

/// What the write path takes at once: a write costs one credit and one more for each KiB of its rows. At the bound
/// the answer is `busy`. 64 MiB of rows in flight is more than a committer's batch takes in a second.
pub const WRITE_CREDITS: u32 = 65_536;

/// Writes under way at most, however small: below the committer's channel.
pub const WRITES_MAX: usize = 4096;

/// A partition without messages, pending writes and subscribers for this long is stopped.
pub const PASSIVATE_AFTER: Duration = Duration::from_secs(60);

/// What actors are made of.
pub struct RouterParts {
    pub store: Arc<Store>,
    pub committer: CommitterHandle,
    pub clock: Clock,
    pub node: u16,
    /// Where segments are read: a runtime of several threads.
    pub cold_reads: Handle,
    /// Of one owner in a STREAM table.
    pub quota: QuotaLimits,
    pub metrics: Arc<Metrics>,
    pub fatal: Fatal,
}

/// Routes commands to partitions. Shared by all workers.
pub struct Router {
    parts: RouterParts,
    /// Where tables live: each HTTP worker's thread. A table and a request that meet on one need no hop.
    hosts: RwLock<Vec<ArbiterHandle>>,
    /// Started only where nobody offered a host: without an HTTP server.
    own: Mutex<Option<Arbiter>>,
    /// Of the thread that made the router.
    system: Option<System>,
    map: Arc<RouterMap>,
    tables: RwLock<HashMap<TableId, TableEntry>>,
    /// What topics get of tables that have routes.
    routes: RwLock<HashMap<TableId, Arc<TableRoutes>>>,
    /// Users whose mailbox was erased since the start: whoever held the name before this generation writes no more.
    erased: RwLock<HashMap<UserId, u32>>,
    credits: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    draining: AtomicBool,
}

enum TableEntry {
    Live(LiveTable),
    Dropped,
}

/// A table in use.
#[derive(Clone)]
struct LiveTable {
    addr: Addr<TableActor>,
    /// Where its partitions live, too.
    arbiter: ArbiterHandle,
    gate: Gate,
}

impl Router {
    pub fn new(parts: RouterParts) -> Self {
        Self {
            hosts: RwLock::default(),
            own: Mutex::new(None),
            system: System::try_current(),
            map: Arc::new(RouterMap::new()),
            tables: RwLock::default(),
            routes: RwLock::default(),
            erased: RwLock::default(),
            credits: Arc::new(Semaphore::new(WRITE_CREDITS as usize)),
            writes: Arc::new(Semaphore::new(WRITES_MAX)),
            draining: AtomicBool::new(false),
            parts,
        }
    }

    /// Appends a checked write to its partition; the answer comes when it is durable at its level.
    ///
    /// # Errors
    /// `BUSY` at the bound, `TABLE_NOT_FOUND` for a dropped table, `TABLE_ALTERED` where it was bound against an older
    /// definition, `INVALID_CREDENTIALS` for a dropped user, `STORAGE_UNAVAILABLE`, and whatever the partition finds:
    /// `DUPLICATE_KEY`, `CONFLICT`.
    pub async fn append(&self, write: Authorized<WriteCommand>) -> Result<WriteAck> {
        self.append_holding(write, None).await
    }

    /// With something that is dropped when the write has ended: durable and told, or refused; also where its writer has gone.
    /// # Errors
    /// As [`Router::append`].
    pub async fn append_holding(&self, write: Authorized<WriteCommand>, held: Option<Held>) -> Result<WriteAck> {
        if self.parts.fatal.is_raised() {
            return Err(Error::StorageUnavailable);
        }
        let (command, principal) = write.into_parts();
        if command.ops.is_empty() && command.notes.is_empty() {
            return Ok(WriteAck { rows: 0, last: None, written: Vec::new() });
        }
        // Before the credits: who waits here must not keep other tables' writes from going on.
        let passage = self.gate(&command.table)?.pass(&command.table).await?;
        let _write = self.writes.clone().try_acquire_owned().map_err(|_| self.no_room())?;
        let credit = self.credits.clone().try_acquire_many_owned(cost(&command)).map_err(|_| self.no_room())?;
        let holds = Holds { _credit: credit, _passage: passage, _held: held };
        let (reply, answer) = oneshot::channel();
        let meta = command.table.clone();
        let key = PartitionKey { table: meta.id, owner: command.owner.clone() };
        let alone = self.writes.available_permits() == WRITES_MAX - 1;
        self.send_of(&principal, &key, &meta, Append { command, reply, holds })?;
        let answer = if alone { awake::answer(answer).await } else { answer.await };
        let ack = answer.unwrap_or_else(|_| Err(self.lost_answer()))?;
        self.parts.metrics.rows_written.add(&meta.name.to_string(), ack.rows);
        Ok(ack)
    }

    /// Why a write is not taken: whoever waits for all of them to end has all the room there is.
    fn no_room(&self) -> Error {
        if self.draining.load(Ordering::Acquire) { Error::ShuttingDown } else { Error::Busy }
    }

    fn lost_answer(&self) -> Error {
        if self.parts.fatal.is_raised() { Error::StorageUnavailable } else { Error::Aborted }
    }

    /// Sends to the partition's actor, starting it when it is not in use.
    fn send<M>(&self, key: &PartitionKey, meta: &Arc<TableMeta>, message: M) -> Result<()>
    where
        M: Message<Result = ()> + Send + 'static,
        PartitionActor: Handler<M>,
        Context<PartitionActor>: ToEnvelope<PartitionActor, M>,
    {
        let mut message = message;
        loop {
            match self.map.send(key, message) {
                Ok(()) => return Ok(()),
                // Not in use, or passivated this moment.
                Err(back) => message = back,
            }
            self.activate(key, meta)?;
        }
    }

    /// Sends a write unless its writer's mailbox was erased: under the lock, so that [`Router::retire_owner`] finds in
    /// the inboxes whatever passed.
    fn send_of(&self, writer: &Principal, key: &PartitionKey, meta: &Arc<TableMeta>, append: Append) -> Result<()> {
        let erased = self.erased.read().unwrap_or_else(PoisonError::into_inner);
        if erased.get(&writer.user).is_some_and(|oldest| writer.generation < *oldest) {
            return Err(Error::InvalidCredentials);
        }
        self.send(key, meta, append)
    }

    fn activate(&self, key: &PartitionKey, meta: &Arc<TableMeta>) -> Result<()> {
        let LiveTable { addr: table, arbiter, .. } = self.table(meta)?;
        let mut shard = self.map.shard(key).write().unwrap_or_else(PoisonError::into_inner);
        if shard.contains_key(key) {
            return Ok(());
        }
        let queued = Arc::new(AtomicUsize::new(0));
        let parts = PartitionParts {
            key: key.clone(),
            store: self.parts.store.clone(),
            table,
            queued: queued.clone(),
            map: self.map.clone(),
            committer: self.parts.committer.clone(),
            cold_reads: self.parts.cold_reads.clone(),
            quota: self.parts.quota,
            fatal: self.parts.fatal.clone(),
        };
        let addr = PartitionActor::start_in_arbiter(&arbiter, move |_| PartitionActor::new(parts));
        let last_used = AtomicU64::new(self.map.now_s());
        shard.insert(key.clone(), PartitionEntry { addr, queued, last_used });
        Ok(())
    }

    /// Offers a thread to tables that are used for the first time from now on. It must live as long as writes do.
    pub fn host_on(&self, arbiter: ArbiterHandle) {
        self.hosts.write().unwrap_or_else(PoisonError::into_inner).push(arbiter);
    }

    /// The thread of a table: always the same one while the table is in use.
    fn host_of(&self, table: TableId) -> ArbiterHandle {
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        if !hosts.is_empty() {
            return hosts[table.0 as usize % hosts.len()].clone();
        }
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || {
            // A job that goes on at a start may be the first to ask, on a thread that knows of no system.
            if let (None, Some(system)) = (System::try_current(), &self.system) {
                System::set_current(system.clone());
            }
            Arbiter::new()
        };
        own.get_or_insert_with(start).handle()
    }

    fn gate(&self, meta: &Arc<TableMeta>) -> Result<Gate> {
        if let Some(TableEntry::Live(table)) = self.tables.read().unwrap_or_else(PoisonError::into_inner).get(&meta.id)
        {
            return Ok(table.gate.clone());
        }
        self.table(meta).map(|table| table.gate)
    }

    /// The table, its actor started when it is not in use. `meta` may be of an older version only where the table is in
    /// use already: to alter it is to use it.
    fn table(&self, meta: &Arc<TableMeta>) -> Result<LiveTable> {
        let live = |entry: &TableEntry| match entry {
            TableEntry::Live(table) => Ok(table.clone()),
            TableEntry::Dropped => Err(Error::TableNotFound(meta.name.to_string())),
        };
        if let Some(entry) = self.tables.read().unwrap_or_else(PoisonError::into_inner).get(&meta.id) {
            return live(entry);
        }
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = tables.get(&meta.id) {
            return live(entry);
        }
        let store = self.parts.store.clone();
        let mut last = store.read_view().last_position(meta)?;
        if meta.is_stream() {
            last = last.max(store.streams().dropped_up_to());
        }
        let sequencer = Sequencer::new(self.parts.node, last);
        let RouterParts { committer, clock, fatal, .. } = &self.parts;
        let (committer, clock, fatal) = (committer.clone(), clock.clone(), fatal.clone());
        let lookups = (self.parts.store.clone(), self.routes_of(meta.id));
        let arbiter = self.host_of(meta.id);
        let addr = TableActor::start_in_arbiter(&arbiter, move |_| {
            TableActor::new(sequencer, committer, clock, lookups, fatal)
        });
        let table = LiveTable { addr, arbiter, gate: Gate::new(meta.clone()) };
        tables.insert(meta.id, TableEntry::Live(table.clone()));
        Ok(table)
    }

    /// Begins a change of a partition's cold half: from now on, what its writes replace is noted for it. The rows are to
    /// be read from a view that is opened behind this.
    ///
    /// # Errors
    /// `CONFLICT` where one is under way, `TABLE_NOT_FOUND` for a dropped table, `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub async fn begin_cold_change(&self, table: &Arc<TableMeta>, owner: &Owner) -> Result<ColdChange> {
        let (reply, begun) = oneshot::channel();
        let key = PartitionKey { table: table.id, owner: owner.clone() };
        self.send(&key, table, BeginCold { reply })?;
        Ok(ColdChange::new(begun.await.map_err(|_| self.lost_answer())??))
    }

    /// Registers a live query: from the position in the answer on, every change reaches the subscriber.
    ///
    /// # Errors
    /// `TABLE_NOT_FOUND` for a dropped table, `TABLE_ALTERED` where it was compiled against an older definition,
    /// `STORAGE_UNAVAILABLE`, `ABORTED`.
    pub async fn attach(&self, owner: &Owner, query: Arc<dyn LiveQuery>, subscriber: Subscriber) -> Result<Seq> {
        let meta = query.table().clone();
        let all_owners = query.all_owners();
        let (reply, head) = oneshot::channel();
        let attach = Attach { query, subscriber, reply };
        let table = self.table(&meta)?;
        // Held over the sending: who ends the table's subscribers behind a closed gate ends this one, too.
        let passage = table.gate.pass(&meta).await?;
        if all_owners {
            inbox::send(&table.addr, AttachFeed(attach));
        } else {
            let key = PartitionKey { table: meta.id, owner: owner.clone() };
            self.send(&key, &meta, AttachOwn(attach))?;
        }
        drop(passage);
        head.await.map_err(|_| self.lost_answer())
    }

    /// Ends a live query, if it is still there. `owner`: of its rows; `None`: it is over all owners.
    pub fn detach(&self, table: &Arc<TableMeta>, owner: Option<Owner>, key: SubscriptionKey) {
        match owner {
            // Not in use: then it has no subscribers.
            Some(owner) => drop(self.map.send(&PartitionKey { table: table.id, owner }, DetachOwn(key))),
            None => {
                if let Ok(table) = self.table(table) {
                    inbox::send(&table.addr, DetachFeed(key));
                }
            }
        }
    }

    /// Lets the writes under way end, and holds back all that come: the table may be altered. `table` is what the
    /// catalog says now.
    ///
    /// # Errors
    /// `TABLE_NOT_FOUND` for a dropped table, `STORAGE_UNAVAILABLE`.
    pub async fn close_gate(&self, table: &Arc<TableMeta>) -> Result<ClosedGate> {
        let live = self.table(table)?;
        Ok(live.gate.close().await)
    }

    /// The table is another one now, durable and visible: what was bound against the old one is refused and has to be
    /// bound anew. `ends`: also the live queries that were compiled against it, which are told so.
    pub fn altered(&self, gate: &mut ClosedGate, table: &Arc<TableMeta>, ends: bool) {
        gate.set(Some(table.clone()));
        if ends && let Ok(live) = self.table(table) {
            self.end_subscribers(&live, table.id, &Error::TableAltered(table.name.clone()));
        }
    }

    /// Refuses further writes to a dropped table, waits until those under way are durable, and tells its subscribers.
    pub async fn drop_table(&self, table: &TableMeta) {
        let before = {
            let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
            tables.insert(table.id, TableEntry::Dropped)
        };
        self.routes.write().unwrap_or_else(PoisonError::into_inner).remove(&table.id);
        // Not in use: nothing is under way, and nobody is subscribed.
        let Some(TableEntry::Live(live)) = before else { return };
        // Those that were on their way here when it was dropped find nothing.
        live.gate.close().await.set(None);
        for partition in self.map.chosen(|key| key.table == table.id) {
            inbox::send(&partition, RefuseCold(Error::TableNotFound(table.name.to_string())));
        }
        self.end_subscribers(&live, table.id, &SubscriptionFault::TableDropped(table.name.clone()).into());
        for partition in self.map.chosen(|key| key.table == table.id) {
            inbox::send(&partition, Passivate);
        }
    }

    fn end_subscribers(&self, live: &LiveTable, table: TableId, error: &Error) {
        inbox::send(&live.addr, EndFeed(error.clone()));
        for partition in self.map.chosen(|key| key.table == table) {
            inbox::send(&partition, EndSubscribers(error.clone()));
        }
    }

    /// Refuses writes of whoever held this name before `oldest` from now on, waits until those under way are durable,
    /// and ends the subscriptions to the mailbox with `error`.
    pub async fn retire_owner(&self, user: &UserId, oldest: u32, error: &Error) {
        self.erased.write().unwrap_or_else(PoisonError::into_inner).insert(user.clone(), oldest);
        let own = Owner::User(user.clone());
        for partition in self.map.chosen(|key| key.owner == own) {
            let (reply, drained) = oneshot::channel();
            inbox::send(&partition, RefuseCold(error.clone()));
            inbox::send(&partition, DrainOwn { reply });
            // It was passivated this moment: nothing is under way.
            let _ = drained.await;
            inbox::send(&partition, EndSubscribers(error.clone()));
            inbox::send(&partition, Passivate);
        }
    }

    /// Has the partitions of an erased mailbox forget what they know of it, behind [`Router::retire_owner`] and the
    /// erasure: one that was used meanwhile is still there.
    pub fn forget_owner(&self, user: &UserId) {
        let own = Owner::User(user.clone());
        for partition in self.map.chosen(|key| key.owner == own) {
            inbox::send(&partition, Forget);
        }
    }

    /// Stops the actors of partitions that nobody used for [`PASSIVATE_AFTER`].
    pub fn passivate_idle(&self) {
        self.map.for_each_idle(PASSIVATE_AFTER.as_secs(), |addr| inbox::send(addr, Passivate));
    }

    /// Partitions in use.
    pub fn partitions(&self) -> usize {
        self.map.len()
    }

    /// Waits until every write under way is answered. New ones are refused by the caller first.
    pub async fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        // Never closed: an error cannot happen, and would mean the same.
        let _ = self.writes.acquire_many(WRITES_MAX as u32).await;
    }

    /// Ends the router's own thread, if it had to start one: call after [`Router::drain`].
    pub fn stop(&self) {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(arbiter) = own {
            arbiter.stop();
            if arbiter.join().is_err() {
                tracing::error!("the tables' thread had panicked");
            }
        }
    }
}

/// Credits of a write: one, and one more for each KiB of its rows.
fn cost(command: &WriteCommand) -> u32 {
    let bytes = |op: &WriteOp| match op {
        WriteOp::Insert { row: RowBytes(row), .. }
        | WriteOp::Append { row: RowBytes(row) }
        | WriteOp::Replace { row: RowBytes(row), .. } => row.len(),
        WriteOp::Patch { .. } | WriteOp::Delete { .. } => 64,
    };
    let total: usize = command.ops.iter().map(bytes).sum();
    u32::try_from(1 + total / 1024).unwrap_or(WRITE_CREDITS).min(WRITE_CREDITS)
}
