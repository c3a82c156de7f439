//! One session, on a WebSocket or a response of server-sent events: an actor on the HTTP worker that accepted it. Shell of
//! [`SessionCore`]: brings it messages, answers, deliveries and the time, and writes what it says.
//!
//! Owns the socket and what the session's subscriptions hold: their place in the registry, in the directory, their view.
//! Never decides what a client is told. Never waits in a handler: authentication, compiling and reading are futures.
//! Invariant: LQ-5. Nothing is taken from the outbox, and no page is read, before what was taken has gone to the socket;
//! so a client that does not read makes its outbox overflow, and no writer wait.
//! Start at [`spawn`] and [`spawn_events`].
//!
//! A delivery costs one wake-up of this actor: the outbox wakes its task, the task ([`Pump`]) writes to the socket. What
//! is written in one go leaves in one system call: actix-ws encodes all that is queued before it writes.

mod open;
mod peer;

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use actix::fut::{ActorFuture, ActorFutureExt, WrapFuture};
use actix::{Actor, ActorContext, AsyncContext, Context, StreamHandler};
use actix_web::error::PayloadError;
use actix_ws::{AggregatedMessage, AggregatedMessageStream, ProtocolError};
use tokio::sync::oneshot;

use self::peer::{Gone, Peer};
use crate::api::events::EventWriter;

use super::admission::Admission;
use crate::error::{Error, Result};
use crate::live::database::{AttachGuard, LiveDatabase, LiveLogin};
use crate::live::directory::{ConnectionGuard, CursorClaim, SubscriptionGuard};
use crate::live::frames::{Protocol, SubscribeRequest};
use crate::live::limits::SessionLimits;
use crate::live::outbox::{Delivery, Ending, SubscriptionKey, Taken};
use crate::live::pages::{LiveReader, PageJob, PageRequest};
use crate::live::session::{Effect, JoinRequest, Label, OpenRequest, Opened, OpenedFeed, Outgoing, SessionCore};
use crate::live::{LiveDirectory, LiveQuery, Subscriber, Wire};
use crate::model::TableId;
use crate::time::Clock;

/// What all sessions share.
pub struct LiveEndpoint {
    pub database: Arc<dyn LiveDatabase>,
    pub directory: Arc<LiveDirectory>,
    pub limits: Arc<SessionLimits>,
    pub admission: Admission,
    pub clock: Clock,
}

/// What the upgrade told.
pub(super) struct Hello {
    pub connection: ConnectionGuard,
    /// `?compress=false` turns it off.
    pub compress: bool,
    /// Who it is, where the upgrade said so.
    pub login: Option<(LiveLogin, Protocol)>,
}

/// Deliveries that are taken from the outbox at a time: as many as actix-ws queues.
const DELIVERIES: usize = 32;
/// How long the last messages may wait for a peer that does not read. By then it holds nothing but its socket, which
/// `server.peer_timeout` ends.
const CLOSE_GRACE: Duration = Duration::from_secs(10);

/// Starts the session on the arbiter that serves the socket.
pub(super) fn spawn(
    endpoint: Arc<LiveEndpoint>,
    socket: actix_ws::Session,
    messages: AggregatedMessageStream,
    hello: Hello,
) {
    SessionActor::create(|ctx| {
        ctx.add_stream(messages);
        SessionActor::new(endpoint, Peer::Socket(socket), hello)
    });
}

/// Starts a session that has one subscription, told as events. The answer comes when it stands, or does not.
pub(in crate::api) fn spawn_events(
    endpoint: Arc<LiveEndpoint>,
    events: EventWriter,
    (connection, login): (ConnectionGuard, LiveLogin),
    request: SubscribeRequest,
) -> oneshot::Receiver<Result<()>> {
    let (started, answer) = oneshot::channel();
    SessionActor::create(|_| {
        let hello = Hello { connection, compress: false, login: Some((login, Protocol::default())) };
        let mut actor = SessionActor::new(endpoint, Peer::Events(events), hello);
        actor.started = Some(started);
        actor.asked = request.id.clone();
        let now = actor.now_us();
        actor.core.subscribe(request, now);
        actor
    });
    answer
}

struct SessionActor {
    endpoint: Arc<LiveEndpoint>,
    connection: ConnectionGuard,
    core: SessionCore,
    peer: Peer,
    /// Of a session of events: whom to tell whether its subscription stands, and that subscription's id.
    started: Option<oneshot::Sender<Result<()>>>,
    asked: String,
    attachments: HashMap<SubscriptionKey, Attachment>,
    taken: VecDeque<Delivery>,
    /// Wakes this actor's task: what a handler adds is written at once, by the same code that the task runs.
    waker: Waker,
    closing: bool,
}

/// What a subscription holds outside its core. Dropped, it is detached and out of the directory.
struct Attachment {
    /// One; of a subscription to a namespace, all of its.
    tables: Vec<AttachedTable>,
    wire: Wire,
    entry: SubscriptionGuard,
    _claim: Option<Box<CursorClaim>>,
}

struct AttachedTable {
    id: TableId,
    /// As long as rows of before are read.
    reading: Option<Box<Reading>>,
    _attached: AttachGuard,
}

struct Reading {
    query: Arc<dyn LiveQuery>,
    view: Arc<dyn LiveReader>,
}

impl AttachedTable {
    fn new(query: Arc<dyn LiveQuery>, view: Option<Arc<dyn LiveReader>>, attached: AttachGuard) -> Self {
        let id = query.table().id;
        Self { id, reading: view.map(|view| Box::new(Reading { query, view })), _attached: attached }
    }
}

impl Attachment {
    /// `None`: its only one.
    fn table(&mut self, id: Option<TableId>) -> Option<&mut AttachedTable> {
        self.tables.iter_mut().find(|table| id.is_none_or(|id| table.id == id))
    }
}

/// What came of opening one.
enum OpenOutcome {
    Table(Opened),
    Namespace(OpenedFeed),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    All,
    /// The socket takes no more for now.
    Blocked,
    /// The last message has gone, or the peer has.
    Over,
}

impl SessionActor {
    fn new(endpoint: Arc<LiveEndpoint>, peer: Peer, hello: Hello) -> Self {
        let Hello { connection, compress, login } = hello;
        let now = endpoint.clock.now_us();
        let mut core = SessionCore::new(endpoint.limits.clone(), endpoint.directory.clone(), compress, now);
        if let Some((login, protocol)) = login {
            connection.connection().authenticated(login.clone());
            core.agree(protocol);
            core.authenticated(Ok(login));
        }
        Self {
            endpoint,
            connection,
            core,
            peer,
            started: None,
            asked: String::new(),
            attachments: HashMap::new(),
            taken: VecDeque::new(),
            waker: Waker::noop().clone(),
            closing: false,
        }
    }

    fn now_us(&self) -> i64 {
        self.endpoint.clock.now_us()
    }

    /// Writes and starts what a handler has made necessary.
    fn flush(&mut self, ctx: &mut Context<Self>) {
        let waker = self.waker.clone();
        self.pump(ctx, &mut TaskContext::from_waker(&waker));
    }

    /// Moves what waits to the socket until one of them ends.
    fn pump(&mut self, ctx: &mut Context<Self>, task: &mut TaskContext<'_>) {
        if self.peer.is_gone() {
            return ctx.stop();
        }
        if self.peer.took() {
            let now = self.now_us();
            self.core.seen(now);
            self.connection.connection().seen(now);
        }
        loop {
            let written = self.write(task);
            if written == Written::Over {
                return ctx.stop();
            }
            if written == Written::Blocked && !self.core.is_closing() {
                // The peer does not read; that it is over must not wait for it.
                match self.connection.connection().outbox().poll_ending(task) {
                    Poll::Ready(Ending::Overflow) => self.core.overflowed(),
                    Poll::Ready(Ending::Closed(error)) => self.core.close_with(&error),
                    Poll::Pending => {}
                }
            }
            self.start_effects(ctx);
            self.connection.connection().outbox().hold(self.core.kept());
            if written == Written::Blocked || self.core.is_closing() && self.core.has_room() {
                return;
            }
            if !self.core.has_room() {
                continue;
            }
            if self.connection.connection().outbox().poll_waiting(task).is_pending() {
                return;
            }
            match self.connection.connection().outbox().take(DELIVERIES, &mut self.taken) {
                Taken::Overflowed => self.core.overflowed(),
                Taken::All | Taken::Some => {
                    for delivery in self.taken.drain(..) {
                        self.core.deliver(delivery);
                    }
                }
            }
            self.connection.connection().outbox().hold(self.core.kept());
        }
    }

    fn write(&mut self, task: &mut TaskContext<'_>) -> Written {
        let now = self.now_us();
        while !self.core.has_room() {
            match self.peer.poll_ready(task) {
                Poll::Pending => return Written::Blocked,
                Poll::Ready(Err(Gone)) => return Written::Over,
                Poll::Ready(Ok(())) => {}
            }
            let Some(outgoing) = self.core.next_out() else { break };
            if let Outgoing::Change(_, key, Label::Change { table, seq, .. }) = &outgoing
                && let Some(attachment) = self.attachments.get(key)
            {
                attachment.entry.subscription().delivered(*table, *seq, now);
            }
            let more = self.peer.asks_for_more(&outgoing);
            if self.peer.send(outgoing) == ControlFlow::Break(()) {
                return Written::Over;
            }
            if more {
                self.core.next_batch(&self.asked, now);
            }
        }
        Written::All
    }

    fn start_effects(&mut self, ctx: &mut Context<Self>) {
        for effect in self.core.effects(self.now_us()) {
            match effect {
                Effect::Authenticate { token } => self.authenticate(token, ctx),
                Effect::Open(request) => self.open(request, ctx),
                Effect::Fetch(key, table, request) => self.fetch(key, table, request, ctx),
                Effect::ReleaseView(key, table) => {
                    if let Some(table) = self.attachments.get_mut(&key).and_then(|a| a.table(table)) {
                        table.reading = None;
                    }
                }
                Effect::Leave(key, table) => {
                    if let Some(attachment) = self.attachments.get_mut(&key) {
                        attachment.tables.retain(|attached| attached.id != table);
                    }
                }
                Effect::Join(request) => self.join(request, ctx),
                Effect::Drop(key) => drop(self.attachments.remove(&key)),
            }
        }
        if self.core.is_closing() && !std::mem::replace(&mut self.closing, true) {
            ctx.run_later(CLOSE_GRACE, |_, ctx| ctx.stop());
        }
    }

    /// While it is decided who this is, nothing else is taken in: what the client sent behind the token waits.
    fn authenticate(&mut self, token: String, ctx: &mut Context<Self>) {
        let endpoint = self.endpoint.clone();
        let peer = self.connection.connection().peer;
        let login = async move {
            let login = endpoint.database.authenticate(&token, peer);
            let in_time = tokio::time::timeout(endpoint.limits.auth_timeout, login).await;
            in_time.unwrap_or(Err(Error::Busy))
        };
        ctx.wait(login.into_actor(self).map(|login: Result<LiveLogin>, actor, ctx| {
            if let Ok(login) = &login {
                actor.connection.connection().authenticated(login.clone());
            }
            actor.core.authenticated(login);
            actor.flush(ctx);
        }));
    }

    fn open(&mut self, request: OpenRequest, ctx: &mut Context<Self>) {
        let Some(login) = self.core.login() else { return };
        let key = request.key;
        let connection = self.connection.connection().clone();
        let opening = open::open(self.endpoint.clone(), connection, login.principal.clone(), request);
        ctx.spawn(opening.into_actor(self).map(move |opened, actor, ctx| {
            let (opened, attachment) = opened.map_or_else(|error| (Err(error), None), |(o, a)| (Ok(o), Some(a)));
            if let Some(started) = actor.started.take() {
                // Nobody hears it where the client is gone: then the peer is, too.
                let _ = started.send(opened.as_ref().map(|_| ()).map_err(Clone::clone));
            }
            if let Some(attachment) = attachment {
                actor.attachments.insert(key, attachment);
            }
            let now = actor.now_us();
            let wanted = match opened {
                Ok(OpenOutcome::Table(opened)) => actor.core.opened(key, Ok(opened), now),
                Ok(OpenOutcome::Namespace(feed)) => actor.core.opened_feed(key, feed, now),
                Err(error) => actor.core.opened(key, Err(error), now),
            };
            if !wanted {
                actor.attachments.remove(&key);
            }
            actor.note_phase(key);
            actor.flush(ctx);
        }));
    }

    /// For EXPLAIN LIVE.
    fn note_phase(&self, key: SubscriptionKey) {
        if let (Some(phase), Some(attachment)) = (self.core.phase(key), self.attachments.get(&key)) {
            attachment.entry.subscription().set_phase(phase);
        }
    }

    /// A table comes into a subscription to its namespace.
    fn join(&mut self, request: JoinRequest, ctx: &mut Context<Self>) {
        let (Some(login), Some(attachment)) = (self.core.login(), self.attachments.get(&request.key)) else { return };
        let (principal, outbox) = (login.principal.clone(), self.connection.connection().outbox().clone());
        let joining = open::Joining {
            sql: attachment.entry.subscription().query.to_string(),
            present: attachment.tables.iter().map(|table| table.id).collect(),
            subscriber: Subscriber { key: request.key, format: attachment.wire.format, outbox, of_many: true },
            wire: attachment.wire,
            request,
        };
        let asked = joining.request.clone();
        let work = open::join(self.endpoint.clone(), principal, joining);
        ctx.spawn(work.into_actor(self).map(move |joined, actor, ctx| {
            let (joined, table) = match joined {
                Ok(Some((joined, table))) => (Ok(Some(joined)), Some(table)),
                Ok(None) => (Ok(None), None),
                Err(error) => (Err(error), None),
            };
            let wanted = actor.core.joined(&asked, joined, actor.now_us());
            if let (true, Some(table), Some(attachment)) = (wanted, table, actor.attachments.get_mut(&asked.key)) {
                attachment.tables.push(table);
            }
            actor.flush(ctx);
        }));
    }

    fn fetch(&mut self, key: SubscriptionKey, table: Option<TableId>, request: PageRequest, ctx: &mut Context<Self>) {
        let endpoint = self.endpoint.clone();
        let job = self.attachments.get_mut(&key).and_then(|attachment| {
            let wire = attachment.wire;
            let Reading { query, view } = &**attachment.table(table)?.reading.as_ref()?;
            Some(PageJob { query: query.clone(), reader: view.clone(), request, wire })
        });
        let page = async move {
            match job {
                Some(job) => endpoint.database.read_page(job).await,
                None => Err(Error::internal("a page is wanted of a view that was given up")),
            }
        };
        ctx.spawn(page.into_actor(self).map(move |page, actor, ctx| {
            actor.core.page(key, table, page, actor.now_us());
            actor.note_phase(key);
            actor.flush(ctx);
        }));
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.core.tick(self.now_us());
        self.flush(ctx);
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.spawn(Pump);
        ctx.run_interval(self.endpoint.limits.heartbeat_interval, Self::tick);
        if self.core.login().is_none() {
            ctx.run_later(self.endpoint.limits.auth_timeout, Self::tick);
        }
    }
}

/// Runs in the actor's task: whenever the outbox or the socket wakes it.
struct Pump;

impl ActorFuture<SessionActor> for Pump {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut SessionActor,
        ctx: &mut Context<SessionActor>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        actor.waker.clone_from(task.waker());
        actor.pump(ctx, task);
        Poll::Pending
    }
}

impl StreamHandler<Result<AggregatedMessage, ProtocolError>> for SessionActor {
    fn handle(&mut self, message: Result<AggregatedMessage, ProtocolError>, ctx: &mut Context<Self>) {
        let now = self.now_us();
        self.connection.connection().seen(now);
        match message {
            Ok(AggregatedMessage::Text(text)) => self.core.text(text.as_bytes(), now),
            Ok(AggregatedMessage::Binary(bytes)) => self.core.binary(&bytes, now),
            Ok(AggregatedMessage::Ping(payload)) => self.core.ping(payload, now),
            Ok(AggregatedMessage::Pong(_)) => self.core.seen(now),
            Ok(AggregatedMessage::Close(_)) => self.core.goodbye(),
            Err(error) if is_too_long(&error) => self.core.oversized(),
            // The bytes are no WebSocket frames: there is nobody to talk to.
            Err(_) => return ctx.stop(),
        }
        for key in self.attachments.keys() {
            self.note_phase(*key);
        }
        self.flush(ctx);
    }
}

/// Of the codec, or of the guard before it.
fn is_too_long(error: &ProtocolError) -> bool {
    match error {
        ProtocolError::Overflow => true,
        ProtocolError::Io(error) => {
            let source = error.get_ref().and_then(|source| source.downcast_ref::<PayloadError>());
            matches!(source, Some(PayloadError::Overflow))
        }
        _ => false,
    }
}
