//! One WebSocket's conversation: who it is, what it asked for, what it is told next, and when it ends.
//!
//! Owns authentication before anything else, the limits of a connection, its subscriptions, and the order of all that
//! goes out. Every ending is told with a code before the close (A13).
//! Never reads a socket, a clock or the database: the actor brings messages, answers and `now`, and carries out effects.
//! Never knows what carries its frames: a WebSocket, or a response of server-sent events ([`Label`]).
//! Invariants: LQ-1 per subscription; LQ-5 (replies, work under way and what is held back are bounded).
//! Start at [`SessionCore::text`] (what comes in) and [`SessionCore::next_out`] (what goes out).

mod endings;
mod feed;
mod inward;
mod outgoing;
mod tables;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use feed::{Feed, FeedStep, of_one};
pub use outgoing::{Close, Label, Outgoing};
use outgoing::{Item, Queue};
pub use tables::{JoinRequest, Joined, OpenedFeed};

use super::cursors::CursorKey;
use super::database::LiveLogin;
use super::directory::LiveDirectory;
use super::encoding::{Format, Wire};
use super::frames::{Protocol, ServerMessage, SubscribeRequest};
use super::limits::{MAX_WORK, SessionLimits};
use super::outbox::{Delivery, SubscriptionKey};
use super::pages::{Page, PageRequest, no_rows};
use super::rate::MessageRate;
use super::subscription::{Start, Step, Subscription};
use crate::error::{Error, Result, SubscriptionFault};
use crate::model::result::ResultSchema;
use crate::model::{Seq, TableId};

/// What the actor is to do.
#[derive(Debug)]
pub enum Effect {
    /// Ask who the token belongs to, take nothing else in meanwhile, and call [`SessionCore::authenticated`].
    Authenticate { token: String },
    /// Compile, attach, read the first page, and call [`SessionCore::opened`].
    Open(OpenRequest),
    /// Read the page, of one of several tables, and call [`SessionCore::page`].
    Fetch(SubscriptionKey, Option<TableId>, PageRequest),
    /// The view of the subscription, or of its table, is not needed any more.
    ReleaseView(SubscriptionKey, Option<TableId>),
    /// Detach the table from the subscription, before what follows is done.
    Leave(SubscriptionKey, TableId),
    /// Compile, attach, read the first page of the table, and call [`SessionCore::joined`].
    Join(JoinRequest),
    /// Detach the subscription and forget it.
    Drop(SubscriptionKey),
}

/// A subscription to be opened.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    pub key: SubscriptionKey,
    pub request: SubscribeRequest,
    pub start: Start,
    pub wire: Wire,
}

/// A subscription that is attached.
#[derive(Debug)]
pub struct Opened {
    pub schema: ResultSchema,
    /// What comes first, where that is known only now: a cursor says it, or a map of positions.
    pub start: Option<Start>,
    /// Where its view ends; without a view, the head at attaching.
    pub cut: Seq,
    pub first: Option<Page>,
    /// What it acknowledges to.
    pub cursor: Option<HeldCursor>,
}

/// The cursor that a subscription reads with.
#[derive(Debug, Clone)]
pub struct HeldCursor {
    pub key: CursorKey,
    /// Of a subscription to one table: which.
    pub table: Option<TableId>,
}

#[derive(Debug)]
pub struct SessionCore {
    limits: Arc<SessionLimits>,
    directory: Arc<LiveDirectory>,
    wire: Wire,
    protocol: Protocol,
    state: State,
    entries: HashMap<SubscriptionKey, Entry>,
    /// Subscriptions that need a view: they are looked after in each tick.
    with_view: BTreeSet<SubscriptionKey>,
    queue: Queue,
    effects: Vec<Effect>,
    /// Work that waits for its turn, and how much is under way.
    waiting: VecDeque<Effect>,
    working: usize,
    rate: MessageRate,
    opened_at: i64,
    seen_at: i64,
}

#[derive(Debug)]
enum State {
    /// Nobody yet.
    Stranger,
    Known(LiveLogin),
    /// A close is on its way out; nothing else is taken in.
    Closing,
}

#[derive(Debug)]
struct Entry {
    id: Arc<str>,
    feed: Feed,
    /// It is over: what waits still goes out, and then why.
    ended: bool,
    /// What became of tables before it was known which it follows.
    early: Vec<Delivery>,
    cursor: Option<Box<HeldCursor>>,
}

impl Entry {
    fn new(id: Arc<str>, subscription: Subscription) -> Self {
        Self { id, feed: Feed::Table(subscription), ended: false, early: Vec::new(), cursor: None }
    }
}

impl SessionCore {
    pub fn new(limits: Arc<SessionLimits>, directory: Arc<LiveDirectory>, compress: bool, now_us: i64) -> Self {
        let rate = MessageRate::new(limits.max_messages_per_sec, now_us);
        Self {
            limits,
            directory,
            wire: Wire { format: Format::Json, compress },
            protocol: Protocol::default(),
            state: State::Stranger,
            entries: HashMap::new(),
            with_view: BTreeSet::new(),
            queue: Queue::default(),
            effects: Vec::new(),
            waiting: VecDeque::new(),
            working: 0,
            rate,
            opened_at: now_us,
            seen_at: now_us,
        }
    }

    /// Anything came from the peer.
    pub fn seen(&mut self, now_us: i64) {
        self.seen_at = now_us;
    }

    /// The protocol that a session agrees on before [`SessionCore::authenticated`].
    pub fn agree(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.wire.format = protocol.serialization.format();
    }

    /// The answer to [`Effect::Authenticate`], or to the token in the upgrade's header.
    pub fn authenticated(&mut self, login: Result<LiveLogin>) {
        match login {
            Ok(login) => {
                self.state = State::Known(login);
                self.welcome();
            }
            Err(error) => self.refuse(&error.to_string(), "Authentication failed"),
        }
    }

    /// The answer to [`Effect::Open`]. Says whether the subscription is still wanted.
    pub fn opened(&mut self, key: SubscriptionKey, opened: Result<Opened>, now_us: i64) -> bool {
        self.working -= 1;
        let Some(entry) = self.current(key) else { return false };
        let opened = opened.and_then(|opened| {
            entry.cursor = opened.cursor.map(Box::new);
            let has_view = opened.first.is_some();
            let Feed::Table(subscription) = &mut entry.feed else {
                return Err(Error::internal("a subscription was opened twice"));
            };
            if let Some(start) = opened.start {
                subscription.begin_with(start);
            }
            let steps = subscription.opened(opened.cut, opened.first, now_us)?;
            Ok((opened.schema, has_view, of_one(steps)))
        });
        match opened {
            Ok((schema, has_view, steps)) => {
                if has_view {
                    self.with_view.insert(key);
                }
                self.run(key, Some(&schema), steps);
                self.current(key).is_some()
            }
            Err(error) => {
                self.end(key, &error);
                false
            }
        }
    }

    /// The answer to [`Effect::Fetch`].
    pub fn page(&mut self, key: SubscriptionKey, table: Option<TableId>, page: Result<Page>, now_us: i64) {
        self.working -= 1;
        let Some(entry) = self.current(key) else { return };
        let page = page.map_err(|error| SubscriptionFault::BatchFetchFailed(error.to_string()).into());
        match page.and_then(|page| entry.feed.page(table, page, now_us)) {
            Ok(steps) => self.run(key, None, steps),
            Err(error) => self.fail(key, &error),
        }
    }

    /// Something from the outbox.
    pub fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Event(key, event) => {
                let Some(entry) = self.current(key) else { return };
                match entry.feed.event(event) {
                    // What all its subscriptions hold back together is bounded as well.
                    Ok(None) if self.held() > self.limits.held.bytes => self.overflowed(),
                    Ok(None) => {}
                    Ok(Some(event)) => self.queue.push(Item::Event(key, event)),
                    Err(error) => self.fail(key, &error),
                }
            }
            Delivery::TableEnded(key, table, error) => self.table_ended(key, table, error),
            Delivery::TableMade(key, table) => self.table_made(key, table),
            Delivery::Ended(key, error) => self.ended(key, &error),
            Delivery::Closed(error) => self.close_with(&error),
        }
    }

    /// What goes out next, in order. `None`: nothing is waiting.
    pub fn next_out(&mut self) -> Option<Outgoing> {
        loop {
            match self.queue.pop()? {
                Item::Event(key, event) => {
                    // Who has unsubscribed is told nothing more.
                    let Some(entry) = self.entries.get_mut(&key) else { continue };
                    entry.feed.sent(Some(event.table), event.seq);
                    match event.frame(&entry.id, self.wire) {
                        Ok(frame) => {
                            let (kind, table, seq) = (event.kind, event.table, event.seq);
                            let label = Label::Change { kind, table, seq, resumes: entry.feed.is_of_one() };
                            return Some(Outgoing::Change(frame, key, label));
                        }
                        Err(error) => self.end(key, &error),
                    }
                }
                Item::Batch(key, frame, control, reached) => {
                    let Some(entry) = self.entries.get_mut(&key) else { continue };
                    if let (table, Some(reached)) = reached {
                        entry.feed.sent(table, reached);
                    }
                    let label = match control.label() {
                        Label::Rows { more, .. } if !entry.feed.is_of_one() => Label::Rows { position: None, more },
                        label => label,
                    };
                    return Some(Outgoing::Frame(frame, label));
                }
                Item::Ended(key, error) => {
                    let Some(entry) = self.remove(key) else { continue };
                    let message = ServerMessage::Error { subscription_id: &entry.id, error: &error };
                    if let Ok(frame) = message.frame(self.wire) {
                        return Some(Outgoing::Frame(frame, message.label()));
                    }
                }
                Item::Frame(frame, label) => return Some(Outgoing::Frame(frame, label)),
                Item::Ping => return Some(Outgoing::Ping),
                Item::Pong(payload) => return Some(Outgoing::Pong(payload)),
                Item::Close(close) => return Some(Outgoing::Close(close)),
            }
        }
    }

    /// Does nothing wait to go out?
    pub fn has_room(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that wait here for their turn, or to go out.
    pub fn kept(&self) -> usize {
        self.queue.bytes() + self.held()
    }

    /// Bytes that subscriptions hold back while they are opened, loaded or replayed.
    fn held(&self) -> usize {
        if self.with_view.is_empty() && self.working == 0 && self.waiting.is_empty() {
            return 0;
        }
        self.entries.values().map(|entry| entry.feed.held()).sum()
    }

    /// What to do now. Replays read on when everything has gone out; work beyond [`MAX_WORK`] waits.
    pub fn effects(&mut self, now_us: i64) -> Vec<Effect> {
        if self.has_room() {
            for key in &self.with_view {
                let entry = self.entries.get_mut(key).filter(|entry| !entry.ended);
                let request = entry.and_then(|entry| entry.feed.has_room(now_us));
                if let Some((table, request)) = request {
                    self.waiting.push_back(Effect::Fetch(*key, table, request));
                }
            }
        }
        while self.working < MAX_WORK && self.queue.bytes() <= self.limits.outbox.bytes {
            let Some(work) = self.waiting.pop_front() else { break };
            let (Effect::Open(OpenRequest { key, .. })
            | Effect::Fetch(key, ..)
            | Effect::Join(JoinRequest { key, .. })) = &work
            else {
                continue;
            };
            if self.entries.get(key).is_some_and(|entry| !entry.ended) {
                self.working += 1;
                self.effects.push(work);
            }
        }
        if self.waiting.is_empty() {
            // An idle session has no room for work.
            self.waiting = VecDeque::new();
        }
        std::mem::take(&mut self.effects)
    }

    /// `opening`, `loading`, `replaying` or `live`; `None`: it is not there.
    pub fn phase(&self, key: SubscriptionKey) -> Option<&'static str> {
        self.entries.get(&key).map(|entry| entry.feed.phase())
    }

    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing)
    }

    /// Who the session is, once that is known.
    pub fn login(&self) -> Option<&LiveLogin> {
        match &self.state {
            State::Known(login) => Some(login),
            State::Stranger | State::Closing => None,
        }
    }

    fn welcome(&mut self) {
        let State::Known(login) = &self.state else { return };
        let message = ServerMessage::AuthSuccess {
            user: &login.principal.user,
            role: login.principal.role,
            protocol: self.protocol,
        };
        self.queue.push_message(&message, self.wire);
        self.bound_replies();
    }

    fn refuse(&mut self, message: &str, reason: &str) {
        self.queue.push_message(&ServerMessage::AuthError { message }, self.wire);
        self.close(Close { code: 1008, reason: reason.into() });
    }

    /// Carries out a subscription's steps.
    fn run(&mut self, key: SubscriptionKey, schema: Option<&ResultSchema>, steps: Vec<FeedStep>) {
        let Some(id) = self.entries.get(&key).map(|entry| entry.id.clone()) else { return };
        for (table, step) in steps {
            match step {
                Step::Ack(control) => {
                    if let Some(schema) = schema {
                        let message = ServerMessage::SubscriptionAck { subscription_id: &id, control, schema };
                        self.queue.push_message(&message, self.wire);
                    }
                }
                Step::Batch { rows, control, reached } => {
                    let rows = rows.map_or_else(|| no_rows(self.wire), Ok);
                    let frame = rows.and_then(|rows| {
                        ServerMessage::InitialDataBatch { subscription_id: &id, rows: &rows, control }.frame(self.wire)
                    });
                    match frame {
                        Ok(frame) => self.queue.push(Item::Batch(key, frame, control, (table, reached))),
                        Err(error) => return self.end(key, &error),
                    }
                }
                Step::Change(event) => self.queue.push(Item::Event(key, event)),
                Step::Fetch(request) => self.waiting.push_back(Effect::Fetch(key, table, request)),
                Step::ReleaseView => {
                    if self.entries.get(&key).is_none_or(|entry| table.is_none() || entry.feed.is_live()) {
                        self.with_view.remove(&key);
                    }
                    self.effects.push(Effect::ReleaseView(key, table));
                }
            }
        }
        self.bound_replies();
    }

    fn remove(&mut self, key: SubscriptionKey) -> Option<Entry> {
        self.entries.remove(&key)
    }

    /// Of the subscription that the client names so. They are few: what it costs to look at each is less than an index of them
    /// would take in every session.
    fn key_of(&self, id: &str) -> Option<SubscriptionKey> {
        self.entries.iter().find(|(_, entry)| &*entry.id == id).map(|(key, _)| *key)
    }

    fn current(&mut self, key: SubscriptionKey) -> Option<&mut Entry> {
        self.entries.get_mut(&key).filter(|entry| !entry.ended)
    }

    fn error(&mut self, subscription_id: &str, error: &Error) {
        self.queue.push_error(subscription_id, error, self.wire);
        self.bound_replies();
    }

    fn reply(&mut self, item: Item) {
        self.queue.push(item);
        self.bound_replies();
    }
}

#[cfg(test)]
mod tests;
