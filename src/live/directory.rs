//! Who is connected and subscribed: what `system.live` shows, and how others reach a subscriber.
//!
//! Owns the numbers of subscriptions, the limit per user, and the endings that come from outside: a dropped table, a
//! revoked right, a dropped user, KILL LIVE QUERY, shutdown (A13, A15).
//! Invariant: an entry goes the moment its subscription or connection does: the guards see to it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::budget::OutboxBudget;
use super::cursors::{CursorKey, CursorWish, Cursors};
use super::database::LiveLogin;
use super::history::{ClosedSubscription, End, History, LivePeaks};
use super::outbox::{Delivery, Outbox, SubscriptionKey};
use crate::error::{Error, Result, SubscriptionFault};
use crate::model::{NamespaceName, Principal, Seq, TableId, TableMeta, TableName, UserId};
use crate::time::Clock;

/// All connections and subscriptions of this server.
#[derive(Debug, Default)]
pub struct LiveDirectory {
    last_number: AtomicU64,
    entries: Mutex<Entries>,
    cursors: Cursors,
    history: History,
    budget: Arc<OutboxBudget>,
}

#[derive(Debug, Default)]
struct Entries {
    connections: HashMap<ConnectionId, Arc<LiveConnection>>,
    subscriptions: BTreeMap<SubscriptionKey, Arc<LiveSubscription>>,
    per_user: HashMap<UserId, usize>,
    peaks: LivePeaks,
    shutting_down: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// One WebSocket, or stream of server-sent events.
#[derive(Debug)]
pub struct LiveConnection {
    pub id: ConnectionId,
    pub peer: Option<IpAddr>,
    /// `websocket` or `sse`.
    pub transport: &'static str,
    /// Microseconds since the Unix epoch.
    pub opened_at: i64,
    last_seen_at: AtomicI64,
    login: OnceLock<LiveLogin>,
    outbox: Arc<Outbox>,
}

impl LiveConnection {
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Who it is, once that is known.
    pub fn login(&self) -> Option<&LiveLogin> {
        self.login.get()
    }

    /// A connection authenticates once: a second call changes nothing.
    pub(crate) fn authenticated(&self, login: LiveLogin) {
        let _ = self.login.set(login);
    }

    pub(crate) fn seen(&self, now_us: i64) {
        self.last_seen_at.store(now_us, Ordering::Relaxed);
    }

    /// When the peer last sent anything. Microseconds since the Unix epoch.
    pub fn last_seen_at(&self) -> i64 {
        self.last_seen_at.load(Ordering::Relaxed)
    }
}

/// What a subscription is about.
#[derive(Debug, Clone)]
pub enum Follows {
    Table(Arc<TableMeta>),
    /// All its tables, over all owners.
    Namespace(NamespaceName),
}

impl Follows {
    pub fn namespace(&self) -> &NamespaceName {
        match self {
            Follows::Table(table) => table.name.namespace(),
            Follows::Namespace(namespace) => namespace,
        }
    }

    /// The table's name without its namespace; `*`: all.
    pub fn table_name(&self) -> &str {
        match self {
            Follows::Table(table) => table.name.table(),
            Follows::Namespace(_) => "*",
        }
    }

    pub fn is_table(&self, id: TableId) -> bool {
        matches!(self, Follows::Table(table) if table.id == id)
    }
}

/// One live query: a row of `system.live`.
#[derive(Debug)]
pub struct LiveSubscription {
    pub key: SubscriptionKey,
    pub connection: Arc<LiveConnection>,
    /// The id that the client gave it.
    pub subscription_id: Box<str>,
    pub follows: Follows,
    /// Whose rights it was authorised with.
    pub reader: Principal,
    /// Who acts for the reader, where that is another.
    pub actor: Option<Box<Principal>>,
    pub query: Box<str>,
    /// JSON text, as the client sent them.
    pub options: Option<Box<str>>,
    /// Microseconds since the Unix epoch.
    pub created_at: i64,
    last_update: AtomicI64,
    changes: AtomicU64,
    /// The last position that was sent, by table.
    positions: Mutex<BTreeMap<TableId, Seq>>,
    phase: Mutex<&'static str>,
    end: OnceLock<Box<End>>,
}

impl LiveSubscription {
    /// Why it is over; the first word counts.
    pub(crate) fn ends(&self, end: End) {
        let _ = self.end.set(Box::new(end));
    }

    /// Whose it is.
    pub fn user(&self) -> &UserId {
        &self.actor.as_deref().unwrap_or(&self.reader).user
    }

    /// `opening`, `loading`, `replaying` or `live`.
    pub fn phase(&self) -> &'static str {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_phase(&self, phase: &'static str) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// The last position that was sent, by table.
    pub fn positions(&self) -> BTreeMap<TableId, Seq> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What KILL LIVE QUERY names.
    pub fn live_id(&self) -> String {
        format!("{}-{}", self.connection.id, self.key.0)
    }

    fn closed(&self, now_us: i64) -> ClosedSubscription {
        ClosedSubscription {
            live_id: self.live_id(),
            subscription_id: self.subscription_id.to_string(),
            user: self.user().clone(),
            query: self.query.to_string(),
            changes: self.changes(),
            created_at: self.created_at,
            closed_at: now_us,
            end: self.end.get().map_or_else(End::lost, |end| (**end).clone()),
        }
    }

    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Microseconds since the Unix epoch.
    pub fn last_update(&self) -> i64 {
        self.last_update.load(Ordering::Relaxed)
    }

    pub(crate) fn delivered(&self, table: TableId, seq: Seq, now_us: i64) {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner).insert(table, seq);
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.last_update.store(now_us, Ordering::Relaxed);
    }
}

/// What a client asked for, for `system.live`.
#[derive(Debug, Clone)]
pub struct SubscriptionSpec {
    pub follows: Follows,
    pub reader: Principal,
    pub actor: Option<Principal>,
    pub subscription_id: Box<str>,
    pub query: Box<str>,
    pub options: Option<Box<str>>,
}

/// The connection is in the directory as long as this lives.
#[derive(Debug)]
pub struct ConnectionGuard {
    directory: Arc<LiveDirectory>,
    connection: Arc<LiveConnection>,
}

impl ConnectionGuard {
    pub fn connection(&self) -> &Arc<LiveConnection> {
        &self.connection
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.connection.outbox.close();
        self.directory.lock().connections.remove(&self.connection.id);
    }
}

/// The subscription is in the directory as long as this lives.
#[derive(Debug)]
pub struct SubscriptionGuard {
    directory: Arc<LiveDirectory>,
    subscription: Arc<LiveSubscription>,
    clock: Clock,
}

impl SubscriptionGuard {
    pub fn subscription(&self) -> &Arc<LiveSubscription> {
        &self.subscription
    }
}

impl Drop for SubscriptionGuard {
    fn drop(&mut self) {
        self.directory.history.push(self.subscription.closed(self.clock.now_us()));
        let mut entries = self.directory.lock();
        entries.subscriptions.remove(&self.subscription.key);
        if let Some(count) = entries.per_user.get_mut(self.subscription.user()) {
            *count -= 1;
            if *count == 0 {
                entries.per_user.remove(self.subscription.user());
            }
        }
    }
}

/// A subscription reads with a cursor as long as this lives, or until another takes over.
#[derive(Debug)]
pub struct CursorClaim {
    directory: Arc<LiveDirectory>,
    key: CursorKey,
    holder: SubscriptionKey,
    clock: Clock,
}

impl CursorClaim {
    pub fn key(&self) -> &CursorKey {
        &self.key
    }
}

impl Drop for CursorClaim {
    fn drop(&mut self) {
        self.directory.cursors.release(&self.key, self.holder, self.clock.now_us());
    }
}

impl LiveDirectory {
    /// What may wait for all sockets together.
    pub fn budget(&self) -> &Arc<OutboxBudget> {
        &self.budget
    }

    /// Those that are over.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Notes why a subscription ends, for EXPLAIN LIVE.
    pub(crate) fn note_end(&self, key: SubscriptionKey, end: End) {
        if let Some(subscription) = self.lock().subscriptions.get(&key) {
            subscription.ends(end);
        }
    }

    pub fn cursors(&self) -> &Cursors {
        &self.cursors
    }

    /// Has the subscription read with a cursor; whoever did before is told that it is over.
    ///
    /// # Errors
    /// `CURSOR_MISMATCH`, `CURSOR_LIMIT_EXCEEDED`.
    pub fn claim(
        self: &Arc<Self>,
        wish: CursorWish,
        reader: &Principal,
        holder: SubscriptionKey,
        max_per_user: usize,
        clock: &Clock,
    ) -> Result<(CursorClaim, BTreeMap<TableId, Seq>)> {
        let claimed = self.cursors.claim(&wish, reader, holder, max_per_user, clock.now_us())?;
        let claim = CursorClaim { directory: self.clone(), key: wish.key, holder, clock: clock.clone() };
        if let Some(before) = claimed.before {
            self.end_one(before, &SubscriptionFault::TakenOver(claim.key.group.to_string()).into());
        }
        Ok((claim, claimed.positions))
    }

    pub fn next_key(&self) -> SubscriptionKey {
        SubscriptionKey(self.next_number())
    }

    fn next_number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// # Errors
    /// `SHUTTING_DOWN` once [`LiveDirectory::shut_down`] was called.
    pub fn connect(
        self: &Arc<Self>,
        peer: Option<IpAddr>,
        transport: &'static str,
        outbox: Arc<Outbox>,
        now_us: i64,
    ) -> Result<ConnectionGuard> {
        let connection = Arc::new(LiveConnection {
            id: ConnectionId(self.next_number()),
            peer,
            transport,
            opened_at: now_us,
            last_seen_at: AtomicI64::new(now_us),
            login: OnceLock::new(),
            outbox,
        });
        let mut entries = self.lock();
        if entries.shutting_down {
            return Err(Error::ShuttingDown);
        }
        entries.connections.insert(connection.id, connection.clone());
        entries.peaks.connections = entries.peaks.connections.max(entries.connections.len());
        Ok(ConnectionGuard { directory: self.clone(), connection })
    }

    /// # Errors
    /// `SUBSCRIPTION_LIMIT_EXCEEDED` where the user has `max_per_user` subscriptions already.
    pub fn subscribe(
        self: &Arc<Self>,
        key: SubscriptionKey,
        (connection, user): (&Arc<LiveConnection>, &UserId),
        spec: SubscriptionSpec,
        max_per_user: usize,
        clock: &Clock,
    ) -> Result<SubscriptionGuard> {
        let now_us = clock.now_us();
        let subscription = Arc::new(LiveSubscription {
            key,
            connection: connection.clone(),
            subscription_id: spec.subscription_id,
            follows: spec.follows,
            reader: spec.reader,
            actor: spec.actor.map(Box::new),
            query: spec.query,
            options: spec.options,
            created_at: now_us,
            last_update: AtomicI64::new(now_us),
            changes: AtomicU64::new(0),
            positions: Mutex::default(),
            phase: Mutex::new("opening"),
            end: OnceLock::new(),
        });
        let mut entries = self.lock();
        let count = entries.per_user.entry(user.clone()).or_insert(0);
        if *count >= max_per_user {
            return Err(SubscriptionFault::TooManyForUser { max: max_per_user }.into());
        }
        *count += 1;
        entries.subscriptions.insert(key, subscription.clone());
        entries.peaks.subscriptions = entries.peaks.subscriptions.max(entries.subscriptions.len());
        Ok(SubscriptionGuard { directory: self.clone(), subscription, clock: clock.clone() })
    }

    /// What KILL LIVE QUERY names, of a subscription that is there.
    pub fn live_id(&self, key: SubscriptionKey) -> Option<String> {
        self.lock().subscriptions.get(&key).map(|subscription| subscription.live_id())
    }

    /// All subscriptions, oldest first.
    pub fn subscriptions(&self) -> Vec<Arc<LiveSubscription>> {
        self.lock().subscriptions.values().cloned().collect()
    }

    pub fn connections(&self) -> Vec<Arc<LiveConnection>> {
        self.lock().connections.values().cloned().collect()
    }

    pub fn subscription_count(&self) -> usize {
        self.lock().subscriptions.len()
    }

    pub fn connection_count(&self) -> usize {
        self.lock().connections.len()
    }

    pub fn peaks(&self) -> LivePeaks {
        self.lock().peaks
    }

    /// KILL LIVE QUERY.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn kill(&self, live_id: &str) -> Result<()> {
        let killed = self.end(|subscription| subscription.live_id() == live_id, &SubscriptionFault::Killed.into());
        if killed > 0 { Ok(()) } else { Err(Error::NotFound(format!("Live query '{live_id}' not found"))) }
    }

    /// Ends the chosen subscriptions with `error`, and says how many.
    pub fn end(&self, which: impl Fn(&LiveSubscription) -> bool, error: &Error) -> usize {
        let chosen: Vec<_> = self.lock().subscriptions.values().filter(|s| which(s)).cloned().collect();
        for subscription in &chosen {
            subscription.connection.outbox.tell(Delivery::Ended(subscription.key, error.clone()));
        }
        chosen.len()
    }

    /// Ends a subscription with `error`, if it is there.
    pub fn end_one(&self, key: SubscriptionKey, error: &Error) {
        let subscription = self.lock().subscriptions.get(&key).cloned();
        if let Some(subscription) = subscription {
            subscription.connection.outbox.tell(Delivery::Ended(key, error.clone()));
        }
    }

    /// Tells whoever follows the namespace of a new table.
    pub fn table_made(&self, table: &TableName) {
        let follows = |s: &LiveSubscription| matches!(&s.follows, Follows::Namespace(n) if n == table.namespace());
        let chosen: Vec<_> = self.lock().subscriptions.values().filter(|s| follows(s)).cloned().collect();
        for subscription in &chosen {
            subscription.connection.outbox.tell(Delivery::TableMade(subscription.key, table.clone()));
        }
    }

    /// Ends the subscriptions to a namespace that is gone, behind what was told of its tables.
    pub fn namespace_dropped(&self, namespace: &NamespaceName) {
        let dropped = SubscriptionFault::NamespaceDropped(namespace.clone()).into();
        self.end(|s| matches!(&s.follows, Follows::Namespace(n) if n == namespace), &dropped);
    }

    /// Closes the chosen connections with `error`, and says how many.
    pub fn close(&self, which: impl Fn(&LiveConnection) -> bool, error: &Error) -> usize {
        let chosen: Vec<_> = self.lock().connections.values().filter(|c| which(c)).cloned().collect();
        for connection in &chosen {
            connection.outbox.tell(Delivery::Closed(error.clone()));
        }
        chosen.len()
    }

    /// Closes the connections of a user: dropped, locked, or of another role.
    pub fn close_user(&self, user: &UserId, error: &Error) -> usize {
        self.close(|connection| connection.login().is_some_and(|login| login.principal.user == *user), error)
    }

    /// Closes the connections of a login that was ended by logging out.
    pub fn close_session(&self, session: &str, error: &Error) -> usize {
        self.close(|c| c.login().is_some_and(|login| login.session.as_deref() == Some(session)), error)
    }

    /// Closes all connections, and refuses new ones.
    pub fn shut_down(&self) {
        self.lock().shutting_down = true;
        self.close(|_| true, &Error::ShuttingDown);
    }

    pub fn is_shutting_down(&self) -> bool {
        self.lock().shutting_down
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Nothing panics while it holds the lock; if it did, the maps would still be whole.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::live::outbox::OutboxLimits;
    use crate::live::testing::notes;
    use crate::model::Role;

    struct Peer {
        connection: ConnectionGuard,
        user: UserId,
    }

    fn connect(directory: &Arc<LiveDirectory>, user: &str) -> Peer {
        let outbox = Outbox::new(OutboxLimits { events: 10, bytes: 1_000 });
        let connection = directory.connect(None, "websocket", outbox, 1).unwrap();
        let user = UserId::parse(user).unwrap();
        let principal = Principal { user: user.clone(), role: Role::User, generation: 1 };
        let session = Some(format!("{user}-login"));
        connection.connection().authenticated(LiveLogin { principal, session, expires_at: None });
        Peer { connection, user }
    }

    fn subscribe(directory: &Arc<LiveDirectory>, peer: &Peer, max: usize) -> Result<SubscriptionGuard> {
        let spec = SubscriptionSpec {
            follows: Follows::Table(notes()),
            reader: Principal { user: peer.user.clone(), role: Role::User, generation: 0 },
            actor: None,
            subscription_id: "s".into(),
            query: "SELECT".into(),
            options: None,
        };
        let whose = (peer.connection.connection(), &peer.user);
        directory.subscribe(directory.next_key(), whose, spec, max, &Clock::system())
    }

    fn told(peer: &Peer) -> Vec<String> {
        let mut into = VecDeque::new();
        peer.connection.connection().outbox.take(100, &mut into);
        let text = |delivery| match delivery {
            Delivery::Event(..) => "event".to_owned(),
            Delivery::Ended(key, error) => format!("ended {} {}", key.0, error.code().live_wire()),
            Delivery::Closed(error) => format!("closed {}", error.code().live_wire()),
            other => format!("{other:?}"),
        };
        into.into_iter().map(text).collect()
    }

    #[test]
    fn entries_go_with_their_guards() {
        let directory = Arc::new(LiveDirectory::default());
        let alice = connect(&directory, "alice");
        let first = subscribe(&directory, &alice, 2).unwrap();
        let second = subscribe(&directory, &alice, 2).unwrap();
        let third = subscribe(&directory, &alice, 2).map(|_| ()).unwrap_err();
        assert_eq!(third.code().live_wire(), "SUBSCRIPTION_LIMIT_EXCEEDED");
        assert!(subscribe(&directory, &connect(&directory, "bob"), 2).is_ok(), "the limit is each user's own");
        assert_eq!(directory.subscription_count(), 2);
        first.subscription().delivered(notes().id, crate::live::testing::seq(4), 9);
        let rows = directory.subscriptions();
        assert_eq!((rows[0].changes(), rows[0].last_update(), rows[1].changes()), (1, 9, 0));
        assert_eq!(rows[0].positions().len(), 1);
        first.subscription().ends(End::unsubscribed());
        drop(first);
        assert_eq!(directory.history().last(|_| true).unwrap().end, End::unsubscribed());
        assert!(subscribe(&directory, &alice, 2).is_ok());
        drop(second);
        assert_eq!((directory.subscription_count(), directory.connection_count()), (0, 1));
        drop(alice);
        assert_eq!(directory.connection_count(), 0);
        assert_eq!(directory.peaks(), LivePeaks { connections: 2, subscriptions: 3 });
    }

    #[test]
    fn endings_from_outside_reach_whom_they_concern() {
        let directory = Arc::new(LiveDirectory::default());
        let (alice, bob) = (connect(&directory, "alice"), connect(&directory, "bob"));
        let one = subscribe(&directory, &alice, 9).unwrap();
        let two = subscribe(&directory, &bob, 9).unwrap();
        directory.kill(&one.subscription().live_id()).unwrap();
        assert_eq!(told(&alice), [format!("ended {} SUBSCRIPTION_KILLED", one.subscription().key.0)]);
        assert!(directory.kill("c0-0").is_err());
        let table = notes();
        let dropped = Error::from(SubscriptionFault::TableDropped(table.name.clone()));
        assert_eq!(directory.end(|s| s.follows.is_table(table.id), &dropped), 2);
        assert_eq!(told(&bob), [format!("ended {} TABLE_DROPPED", two.subscription().key.0)]);
        assert_eq!(directory.close_user(&bob.user, &Error::InvalidCredentials), 1);
        assert_eq!(told(&bob), ["closed UNAUTHORIZED"]);
        assert_eq!(directory.close_session("alice-login", &Error::InvalidCredentials), 1);
        assert_eq!(told(&alice).last().map(String::as_str), Some("closed UNAUTHORIZED"));
        directory.shut_down();
        assert_eq!(told(&bob), ["closed SHUTTING_DOWN"]);
        let outbox = Outbox::new(OutboxLimits { events: 1, bytes: 1 });
        assert!(matches!(directory.connect(None, "websocket", outbox, 3), Err(Error::ShuttingDown)));
    }
}
