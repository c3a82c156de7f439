//! A client, a session and a writer, in any interleaving, with small bounds, torn connections and resumes.
//!
//! Holds LQ-1 (each change once, in order, across reconnects) and the point of it all: when everything has come to rest,
//! what the client has built of what it was told is what SELECT answers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;

use super::directory::LiveDirectory;
use super::limits::SessionLimits;
use super::outbox::{Delivery, Outbox, OutboxLimits, SubscriptionKey, Taken};
use super::pages::{LiveReader, PageJob, PageRequest};
use super::session::{Effect, OpenRequest, Opened, Outgoing, SessionCore};
use super::testing::{Note, ScoreQuery, StoredNotes, note, rows, seq, text};
use super::{ChangeBatch, LiveQuery, QueryRegistry, Subscriber};
use crate::live::database::LiveLogin;
use crate::model::{ChangeKind, Principal, Role, Seq, UserId};

const AT_LEAST: i32 = 5;

/// The rows of one partition, and its live queries.
#[derive(Default)]
struct Partition {
    /// The live rows and all tombstones, with the position of their insert: a tombstone stays though its key comes back.
    stored: BTreeMap<i64, (Note, i64)>,
    by_id: BTreeMap<i64, i64>,
    registry: QueryRegistry,
    last: i64,
}

impl Partition {
    /// Inserts, updates or deletes the row, whichever is possible, as one commit of `count` changes.
    fn commit(&mut self, changes: &[(i64, i32, bool)]) {
        let (mut kinds, mut new, mut old) = (Vec::new(), Vec::new(), Vec::new());
        for (id, score, delete) in changes {
            self.last += 3;
            let last = self.by_id.get(id).and_then(|at| self.stored.get(at).copied());
            let there = last.filter(|(row, _)| !row.deleted);
            if let Some((row, _)) = there {
                self.stored.remove(&row.seq);
            }
            let (row, created) = match there {
                None => (note(*id, 1, *score, self.last), self.last),
                Some((row, created)) if *delete => (Note { seq: self.last, ..row }.deleted(), created),
                Some((row, created)) => (Note { score: Some(*score), seq: self.last, ..row }, created),
            };
            kinds.push(match there {
                None => ChangeKind::Insert,
                Some(_) if *delete => ChangeKind::Delete,
                Some(_) => ChangeKind::Update,
            });
            new.push(row);
            old.extend(there.map(|(row, _)| row));
            self.stored.insert(self.last, (row, created));
            self.by_id.insert(*id, self.last);
        }
        let old = (!old.is_empty()).then(|| rows(&old));
        self.registry.deliver(&ChangeBatch::new(kinds, rows(&new), old).unwrap());
    }

    fn view(&self) -> Arc<StoredNotes> {
        Arc::new(StoredNotes::new(self.stored.values().copied().collect()))
    }

    fn select(&self) -> BTreeMap<i64, i64> {
        let matching = self.stored.values().filter(|(row, _)| !row.deleted && row.score >= Some(AT_LEAST));
        matching.map(|(row, _)| (row.id, i64::from(row.score.unwrap()))).collect()
    }
}

/// Work that takes its time: other things happen between its steps.
enum Work {
    Open(OpenRequest),
    /// Attached; the view is not opened yet.
    Attached(OpenRequest, Seq),
    /// The view is open; the page is not read yet.
    Read(OpenRequest, Seq, Arc<StoredNotes>),
    Fetch(SubscriptionKey, PageRequest),
}

struct Session {
    core: SessionCore,
    outbox: Arc<Outbox>,
    work: VecDeque<Work>,
    reader: Option<Arc<StoredNotes>>,
}

/// What the client knows, and how it would come back.
#[derive(Default)]
struct Client {
    rows: BTreeMap<i64, i64>,
    last_seen: i64,
    /// The end of a load that is not finished.
    load_end: Option<i64>,
    ready: bool,
    started: bool,
}

struct World {
    partition: Partition,
    directory: Arc<LiveDirectory>,
    session: Session,
    client: Client,
    first_options: &'static str,
    disconnects: usize,
}

fn query() -> Arc<dyn LiveQuery> {
    Arc::new(ScoreQuery::all(Some(AT_LEAST)))
}

impl World {
    fn new(first_options: &'static str) -> Self {
        let directory = Arc::<LiveDirectory>::default();
        let session = Session::new(&directory);
        let mut world = Self {
            partition: Partition::default(),
            directory,
            session,
            client: Client::default(),
            first_options,
            disconnects: 0,
        };
        world.subscribe();
        world
    }

    fn subscribe(&mut self) {
        let client = &mut self.client;
        let options = match (client.started, client.load_end) {
            (false, _) => {
                *client = Client::default();
                self.first_options.to_owned()
            }
            (true, Some(end)) => {
                format!(r#"{{"from":{},"snapshot_end_seq":"{end}","batch_size":2}}"#, client.last_seen)
            }
            (true, None) => format!(r#"{{"from":{}}}"#, client.last_seen),
        };
        client.ready = false;
        let message = format!(r#"{{"type":"subscribe","subscription":{{"id":"s","sql":"x","options":{options}}}}}"#);
        self.session.core.text(message.as_bytes(), 0);
    }

    fn reconnect(&mut self) {
        self.session.outbox.close();
        self.session = Session::new(&self.directory);
        self.disconnects += 1;
        self.subscribe();
    }

    fn step(&mut self, action: &Action) {
        match action {
            Action::Commit(changes) => self.partition.commit(changes),
            Action::Work => self.work(),
            Action::Drain(count) => self.drain(*count),
            Action::Write(count) => self.write(*count),
            Action::Disconnect => self.reconnect(),
        }
    }

    /// Goes one step on with the oldest work.
    fn work(&mut self) {
        self.effects();
        let session = &mut self.session;
        let next = match session.work.pop_front() {
            None => return,
            Some(Work::Open(request)) => {
                let outbox = session.outbox.clone();
                let (key, format) = (request.key, request.wire.format);
                let subscriber = Subscriber { key, format, outbox, of_many: false };
                self.partition.registry.attach(query(), subscriber);
                Some(Work::Attached(request, seq(self.partition.last)))
            }
            Some(Work::Attached(request, head)) => Some(Work::Read(request, head, self.partition.view())),
            Some(Work::Read(request, head, view)) => {
                let cut = head.max(view.head());
                let first = request.start.first_page(cut).map(|page| job(&view, page, &request).run().unwrap());
                session.reader = Some(view);
                let schema = query().schema().clone();
                // It may have been given up meanwhile: too much had to be held back.
                let wanted =
                    session.core.opened(request.key, Ok(Opened { schema, start: None, cut, first, cursor: None }), 0);
                assert!(wanted || session.core.is_closing());
                None
            }
            Some(Work::Fetch(key, page)) => {
                let view = session.reader.clone().expect("a view while pages are wanted");
                let wire = super::Wire { format: super::Format::Json, compress: true };
                let page = PageJob { query: query(), reader: view, request: page, wire }.run();
                session.core.page(key, None, page, 0);
                None
            }
        };
        if let Some(next) = next {
            self.session.work.push_front(next);
        }
    }

    fn effects(&mut self) {
        for effect in self.session.core.effects(0) {
            match effect {
                Effect::Open(request) => self.session.work.push_back(Work::Open(request)),
                Effect::Fetch(key, _, page) => self.session.work.push_back(Work::Fetch(key, page)),
                Effect::ReleaseView(..) => self.session.reader = None,
                Effect::Drop(key) => self.partition.registry.detach(key),
                other => panic!("{other:?}"),
            }
        }
    }

    fn drain(&mut self, count: usize) {
        if !self.session.core.has_room() {
            return;
        }
        let mut taken = VecDeque::new();
        if self.session.outbox.take(count, &mut taken) == Taken::Overflowed {
            self.session.core.overflowed();
        }
        for delivery in taken {
            assert!(matches!(delivery, Delivery::Event(..)));
            self.session.core.deliver(delivery);
        }
    }

    fn write(&mut self, count: usize) {
        for _ in 0..count {
            match self.session.core.next_out() {
                None => break,
                Some(Outgoing::Frame(frame, _) | Outgoing::Change(frame, ..)) => self.receive(&text(&frame)),
                Some(Outgoing::Close(close)) => {
                    assert_eq!(close.code, 4408, "{}", close.reason);
                    return self.reconnect();
                }
                Some(Outgoing::Ping | Outgoing::Pong(_)) => {}
            }
        }
        self.effects();
    }

    fn receive(&mut self, frame: &str) {
        let frame: Value = serde_json::from_str(frame).unwrap();
        let client = &mut self.client;
        match frame["type"].as_str().unwrap() {
            "subscription_ack" => {
                client.started = true;
                let control = &frame["batch_control"];
                // With a load, the batch behind the acknowledgement says where it stands.
                if control["snapshot_end_seq"].is_null() {
                    client.ready = true;
                    client.last_seen = client.last_seen.max(control["last_seq_id"].as_i64().unwrap());
                }
            }
            "initial_data_batch" => {
                let control = &frame["batch_control"];
                for row in frame["rows"].as_array().unwrap() {
                    let at = number(&row["_seq"]);
                    assert!(at > client.last_seen, "{at} again");
                    client.last_seen = at;
                    client.rows.insert(number(&row["id"]), row["score"].as_i64().unwrap());
                }
                let end = control["snapshot_end_seq"].as_i64().unwrap();
                client.ready = control["status"] == "ready";
                client.load_end = (!client.ready).then_some(end);
                if client.ready {
                    // Everything up to the load's end is known now.
                    client.last_seen = client.last_seen.max(end);
                } else {
                    let next = r#"{"type":"next_batch","subscription_id":"s","last_seq_id":0}"#;
                    self.session.core.text(next.as_bytes(), 0);
                }
            }
            "change" => {
                assert!(client.ready, "a change before the load was ready");
                let row = if frame["change_type"] == "delete" { &frame["old_values"][0] } else { &frame["rows"][0] };
                let at = number(&row["_seq"]);
                assert!(at > client.last_seen, "{at} after {}", client.last_seen);
                client.last_seen = at;
                if frame["change_type"] == "delete" {
                    client.rows.remove(&number(&row["id"]));
                } else {
                    client.rows.insert(number(&row["id"]), row["score"].as_i64().unwrap());
                }
            }
            "error" => {
                assert_eq!(frame["code"], "SLOW_CONSUMER", "{frame}");
                if client.ready {
                    let named = frame["last_seq_id"].as_i64().unwrap_or(0);
                    assert!(named <= client.last_seen, "it claims {named}, but {} was the last", client.last_seen);
                }
            }
            other => panic!("{other}"),
        }
    }

    /// Lets everything come to rest.
    fn settle(&mut self) {
        for _ in 0..500 {
            self.work();
            self.write(usize::MAX);
            self.drain(8);
            self.write(usize::MAX);
        }
    }
}

impl Session {
    fn new(directory: &Arc<LiveDirectory>) -> Self {
        let limits = SessionLimits {
            held: OutboxLimits { events: 6, bytes: 1 << 20 },
            max_messages_per_sec: u32::MAX,
            ..SessionLimits::default()
        };
        let mut core = SessionCore::new(Arc::new(limits), directory.clone(), true, 0);
        let principal = Principal { user: UserId::parse("alice").unwrap(), role: Role::User, generation: 1 };
        core.authenticated(Ok(LiveLogin { principal, session: None, expires_at: None }));
        assert!(core.next_out().is_some());
        let outbox = Outbox::new(OutboxLimits { events: 5, bytes: 1 << 20 });
        Self { core, outbox, work: VecDeque::new(), reader: None }
    }
}

fn job(view: &Arc<StoredNotes>, page: PageRequest, request: &OpenRequest) -> PageJob {
    PageJob { query: query(), reader: view.clone(), request: page, wire: request.wire }
}

fn number(value: &Value) -> i64 {
    value.as_str().unwrap().parse().unwrap()
}

#[derive(Debug, Clone)]
enum Action {
    Commit(Vec<(i64, i32, bool)>),
    Work,
    Drain(usize),
    Write(usize),
    Disconnect,
}

fn any_action() -> impl Strategy<Value = Action> {
    let change = (0i64..6, 0i32..10, any::<bool>());
    prop_oneof![
        4 => proptest::collection::vec(change, 1..4).prop_map(Action::Commit),
        4 => Just(Action::Work),
        3 => (1usize..8).prop_map(Action::Drain),
        4 => (1usize..6).prop_map(Action::Write),
        1 => Just(Action::Disconnect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_client_ends_up_with_what_select_answers(
        load in prop_oneof![Just("{}"), Just(r#"{"batch_size":1}"#), Just(r#"{"batch_size":2}"#)],
        before in proptest::collection::vec((0i64..6, 0i32..10, any::<bool>()), 0..8),
        actions in proptest::collection::vec(any_action(), 0..80),
    ) {
        let mut world = World::new(load);
        world.partition.commit(&before);
        for action in &actions {
            world.step(action);
        }
        world.settle();
        prop_assert!(world.client.ready, "it never got ready");
        prop_assert_eq!(&world.client.rows, &world.partition.select(), "after {} disconnects", world.disconnects);
    }
}
