use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::live::frames::ClientMessage;
use crate::live::limits::MAX_REPLIES;
use crate::live::outbox::OutboxLimits;
use crate::live::pages::{ChangesPage, RowsPage};
use crate::live::testing::{notes, rows_of, seq, some_event, text};
use crate::model::{Principal, Role, UserId};

const SECOND: i64 = 1_000_000;

struct Peer {
    core: SessionCore,
    now: i64,
}

impl Peer {
    fn stranger() -> Self {
        let limits = SessionLimits {
            max_message_bytes: 500,
            max_messages_per_sec: 200,
            max_subscriptions_per_connection: 3,
            outbox: OutboxLimits { events: 100, bytes: 100_000 },
            held: OutboxLimits { events: 2, bytes: 100_000 },
            ..SessionLimits::default()
        };
        Self { core: SessionCore::new(Arc::new(limits), Arc::default(), false, 0), now: 0 }
    }

    fn known() -> Self {
        let mut peer = Self::stranger();
        peer.core.authenticated(Ok(login(None)));
        peer.out();
        peer
    }

    /// Takes a message in and says what is to be done.
    fn say(&mut self, message: &str) -> Vec<String> {
        self.core.text(message.as_bytes(), self.now);
        self.effects()
    }

    fn effects(&mut self) -> Vec<String> {
        self.core.effects(self.now).iter().map(effect_text).collect()
    }

    fn subscribe(&mut self, id: &str, options: &str) -> SubscriptionKey {
        let message = format!(
            r#"{{"type":"subscribe","subscription":{{"id":"{id}","sql":"SELECT * FROM demo.notes","options":{options}}}}}"#
        );
        self.core.text(message.as_bytes(), self.now);
        let opening = self.core.effects(self.now).into_iter().find_map(|effect| match effect {
            Effect::Open(request) => Some(request.key),
            _ => None,
        });
        opening.expect("an effect that opens the subscription")
    }

    /// A subscription to changes only, at position 50.
    fn live(&mut self, id: &str) -> SubscriptionKey {
        let key = self.subscribe(id, "null");
        assert!(self.core.opened(key, Ok(opened(None)), self.now));
        self.out();
        key
    }

    fn event(&mut self, key: SubscriptionKey, at: i64) {
        self.core.deliver(Delivery::Event(key, some_event(at)));
    }

    /// Everything that goes out now, in short.
    fn out(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.core.next_out()).map(short).collect()
    }
}

fn login(expires_at: Option<i64>) -> LiveLogin {
    let principal = Principal { user: UserId::parse("alice").unwrap(), role: Role::User, generation: 1 };
    LiveLogin { principal, session: None, expires_at }
}

fn opened(first: Option<Page>) -> Opened {
    Opened { schema: ResultSchema::of_table(&notes()), start: None, cut: seq(50), first, cursor: None }
}

fn rows(last: i64, more: bool) -> Page {
    Page::Rows(RowsPage { rows: rows_of(&[last]), count: 1, last: Some(seq(last)), more })
}

fn changes(seqs: &[i64], reached: i64) -> Page {
    Page::Changes(ChangesPage { events: seqs.iter().map(|at| some_event(*at)).collect(), reached: seq(reached) })
}

fn effect_text(effect: &Effect) -> String {
    match effect {
        Effect::Authenticate { token } => format!("authenticate {token}"),
        Effect::Open(request) => format!("open {}", request.request.id),
        Effect::Fetch(key, ..) => format!("fetch {}", key.0),
        Effect::ReleaseView(key, _) => format!("release {}", key.0),
        Effect::Leave(key, table) => format!("leave {} {}", key.0, table.0),
        Effect::Join(request) => format!("join {} {} from {}", request.key.0, request.table, request.told),
        Effect::Drop(key) => format!("drop {}", key.0),
    }
}

fn short(outgoing: Outgoing) -> String {
    let frame = match outgoing {
        Outgoing::Frame(frame, _) | Outgoing::Change(frame, ..) => text(&frame),
        Outgoing::Ping => return "ping".into(),
        Outgoing::Pong(payload) => return format!("pong {}", payload.len()),
        Outgoing::Close(close) => return format!("close {} {}", close.code, close.reason),
    };
    let frame: serde_json::Value = serde_json::from_str(&frame).unwrap();
    let field = |name: &str| frame[name].as_str().unwrap_or_default().to_owned();
    let id = field("subscription_id");
    match frame["type"].as_str().unwrap() {
        "subscription_ack" => format!("{id} ack {}", frame["batch_control"]["status"].as_str().unwrap()),
        "initial_data_batch" => {
            format!("{id} rows {} {}", frame["rows"], frame["batch_control"]["status"].as_str().unwrap())
        }
        "change" => format!("{id} change {}", frame["rows"][0]),
        "error" if frame.get("last_seq_id").is_some() => format!("{id} {} {}", field("code"), frame["last_seq_id"]),
        "error" => format!("{id} {}", field("code")),
        "auth_error" => format!("auth_error {}", field("message")),
        other => other.to_owned(),
    }
}

const AUTHENTICATE: &str =
    r#"{"type":"authenticate","method":"jwt","token":"T","protocol":{"serialization":"json","compression":"gzip"}}"#;

#[test]
fn who_it_is_comes_first() {
    let mut peer = Peer::stranger();
    assert!(peer.say(r#"{"type":"ping"}"#).is_empty());
    assert!(peer.say(r#"{"type":"next_batch","subscription_id":"s"}"#).is_empty());
    assert!(peer.say(r#"{"type":"unsubscribe","subscription_id":"s"}"#).is_empty());
    assert!(peer.out().is_empty());
    assert!(peer.say(r#"{"type":"subscribe","subscription":{"id":"s","sql":"SELECT 1"}}"#).is_empty());
    assert_eq!(peer.out(), ["subscribe AUTH_REQUIRED"]);
    assert_eq!(peer.say(AUTHENTICATE), ["authenticate T"]);
    peer.core.authenticated(Ok(login(None)));
    assert_eq!(peer.out(), ["auth_success"]);
    assert!(peer.say(AUTHENTICATE).is_empty());
    assert_eq!(peer.out(), ["auth_success"], "once more, as it was");
}

#[test]
fn who_is_refused_is_told_and_closed() {
    let mut peer = Peer::stranger();
    peer.core.authenticated(Err(Error::InvalidCredentials));
    assert_eq!(peer.out(), ["auth_error Invalid credentials", "close 1008 Authentication failed"]);
    assert!(peer.say(AUTHENTICATE).is_empty(), "nothing is taken in any more");

    let mut peer = Peer::stranger();
    let message = "Too many authentication attempts. Please retry shortly.";
    peer.core.authenticated(Err(Error::RateLimited(message.into())));
    assert_eq!(peer.out()[0], format!("auth_error {message}"));

    let mut peer = Peer::stranger();
    peer.say(&AUTHENTICATE.replace("jwt", "basic"));
    assert_eq!(peer.out().last().unwrap(), "close 1008 Authentication failed");

    let mut peer = Peer::stranger();
    peer.core.tick(3 * SECOND);
    assert_eq!(
        peer.out(),
        [
            "auth_error Authentication timeout - no auth message received within 3 seconds",
            "close 1008 Authentication timeout"
        ]
    );
}

#[test]
fn what_can_not_be_taken_is_answered() {
    let mut peer = Peer::known();
    peer.core.binary(b"x", 0);
    peer.say(&format!(r#"{{"type":"ping","filler":"{}"}}"#, "x".repeat(500)));
    peer.say(r#"{"type":"subscribe","subscription":{"id":"  ","sql":"SELECT 1"}}"#);
    peer.say(r#"{"type":"next_batch","subscription_id":"nobody"}"#);
    assert_eq!(
        peer.out(),
        [
            "protocol UNSUPPORTED_DATA",
            "protocol MESSAGE_TOO_LARGE",
            "invalid_subscription INVALID_SUBSCRIPTION_ID",
            "nobody NOT_FOUND"
        ]
    );
    peer.say("{");
    assert!(peer.out()[0].starts_with("close 1011 Invalid message: EOF"));

    let mut peer = Peer::known();
    for _ in 0..200 {
        peer.say(r#"{"type":"ping"}"#);
    }
    assert!(peer.out().is_empty());
    peer.say(r#"{"type":"ping"}"#);
    assert_eq!(peer.out(), ["rate_limit RATE_LIMIT_EXCEEDED"]);

    let mut peer = Peer::known();
    peer.core.oversized();
    assert_eq!(peer.out(), ["protocol MESSAGE_TOO_LARGE", "close 1009 Message too large"]);
}

#[test]
fn message_pack_is_spoken_where_it_was_agreed() {
    let mut peer = Peer::stranger();
    peer.core.text(AUTHENTICATE.replace("json", "msgpack").as_bytes(), 0);
    peer.core.effects(0);
    peer.core.authenticated(Ok(login(None)));
    assert_eq!(peer.out(), ["auth_success"], "as text");
    let subscription = SubscribeRequest { id: "s".into(), sql: "SELECT 1".into(), options: None };
    let message = ClientMessage::Subscribe { subscription };
    peer.core.binary(&rmp_serde::to_vec_named(&message).unwrap(), 0);
    let effects = peer.core.effects(0);
    let [Effect::Open(request)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(request.wire.format, Format::MsgPack);
    peer.core.opened(request.key, Ok(opened(None)), 0);
    let Some(Outgoing::Frame(crate::live::WireFrame::Binary(ack), _)) = peer.core.next_out() else { panic!("no ack") };
    let ack: serde_json::Value = rmp_serde::from_slice(&ack).unwrap();
    assert_eq!(ack["type"], "subscription_ack");
    peer.core.binary(&[0xc1], 0);
    assert_eq!(peer.out(), ["protocol UNSUPPORTED_DATA"]);
}

#[test]
fn a_subscription_from_open_to_end() {
    let mut peer = Peer::known();
    let key = peer.subscribe("s", r#"{"batch_size":1}"#);
    assert!(peer.core.opened(key, Ok(opened(Some(rows(20, true)))), 0));
    peer.event(key, 51);
    assert_eq!(peer.out(), ["s ack loading", "s rows [20] loading"]);
    assert_eq!(
        peer.say(r#"{"type":"next_batch","subscription_id":"s","last_seq_id":20}"#),
        [format!("fetch {}", key.0)]
    );
    peer.core.page(key, None, Ok(rows(30, false)), peer.now);
    peer.event(key, 52);
    assert_eq!(peer.effects(), [format!("release {}", key.0)]);
    assert_eq!(peer.out(), ["s rows [30] ready", "s change 51", "s change 52"]);
    assert_eq!(peer.say(r#"{"type":"unsubscribe","subscription_id":"s"}"#), [format!("drop {}", key.0)]);
    peer.event(key, 53);
    assert!(peer.out().is_empty());
}

#[test]
fn a_replay_reads_on_when_all_has_gone_out() {
    let mut peer = Peer::known();
    let key = peer.subscribe("s", r#"{"from":20}"#);
    peer.core.opened(key, Ok(opened(Some(changes(&[30], 30)))), 0);
    assert!(peer.effects().is_empty(), "there is something to send first");
    assert_eq!(peer.out(), ["s ack ready", "s change 30"]);
    assert_eq!(peer.effects(), [format!("fetch {}", key.0)]);
    assert!(peer.effects().is_empty());
    peer.core.page(key, None, Ok(changes(&[40], 50)), peer.now);
    assert_eq!(peer.out(), ["s change 40"]);
}

#[test]
fn the_same_id_replaces_the_subscription() {
    let mut peer = Peer::known();
    let first = peer.live("s");
    let message = r#"{"type":"subscribe","subscription":{"id":"s","sql":"SELECT 1"}}"#;
    assert_eq!(peer.say(message), [format!("drop {}", first.0), "open s".into()]);
    peer.event(first, 51);
    assert!(peer.out().is_empty());
}

#[test]
fn what_was_given_up_while_it_was_opened_is_not_wanted() {
    let mut peer = Peer::known();
    let key = peer.subscribe("s", "null");
    peer.say(r#"{"type":"unsubscribe","subscription_id":"s"}"#);
    assert!(!peer.core.opened(key, Ok(opened(None)), 0));
    let key = peer.subscribe("s", "null");
    assert!(!peer.core.opened(key, Err(Error::InvalidSql("no".into())), 0));
    assert_eq!(peer.out(), ["s INVALID_SQL"]);
    peer.live("s");
}

#[test]
fn work_is_done_a_few_at_a_time() {
    let mut peer = Peer::known();
    let limits = SessionLimits { max_subscriptions_per_connection: 100, ..SessionLimits::default() };
    peer.core.limits = Arc::new(limits);
    for id in 0..10 {
        let message = format!(r#"{{"type":"subscribe","subscription":{{"id":"{id}","sql":"SELECT 1"}}}}"#);
        peer.core.text(message.as_bytes(), 0);
    }
    let mut opening: Vec<_> = peer.core.effects(0);
    assert_eq!(opening.len(), MAX_WORK);
    let mut done = 0;
    while let Some(Effect::Open(request)) = opening.pop() {
        peer.core.opened(request.key, Ok(opened(None)), 0);
        opening.extend(peer.core.effects(0));
        assert!(opening.len() <= MAX_WORK);
        done += 1;
    }
    assert_eq!(done, 10);
}

#[test]
fn subscriptions_of_a_connection_are_limited() {
    let mut peer = Peer::known();
    for id in ["a", "b", "c"] {
        peer.live(id);
    }
    assert!(peer.say(r#"{"type":"subscribe","subscription":{"id":"d","sql":"SELECT 1"}}"#).is_empty());
    assert_eq!(peer.out(), ["d SUBSCRIPTION_LIMIT_EXCEEDED"]);
    assert_eq!(peer.say(r#"{"type":"subscribe","subscription":{"id":"a","sql":"SELECT 1"}}"#).len(), 2, "replaced");
}

#[test]
fn an_ending_is_told_behind_what_happened_before() {
    let mut peer = Peer::known();
    let (key, other) = (peer.live("s"), peer.live("t"));
    peer.event(key, 51);
    peer.core.deliver(Delivery::Ended(key, SubscriptionFault::TableDropped(notes().name.clone()).into()));
    peer.event(key, 52);
    peer.event(other, 53);
    assert_eq!(peer.effects(), [format!("drop {}", key.0)]);
    assert_eq!(peer.out(), ["s change 51", "s TABLE_DROPPED", "t change 53"]);
    peer.core.deliver(Delivery::Ended(key, SubscriptionFault::Killed.into()));
    assert!(peer.out().is_empty(), "it ends once");
}

#[test]
fn a_failed_page_ends_the_load() {
    let mut peer = Peer::known();
    let key = peer.subscribe("s", r#"{"batch_size":1}"#);
    peer.core.opened(key, Ok(opened(Some(rows(20, true)))), 0);
    peer.say(r#"{"type":"next_batch","subscription_id":"s"}"#);
    peer.core.page(key, None, Err(Error::Busy), peer.now);
    assert_eq!(peer.out().last().unwrap(), "s BATCH_FETCH_FAILED");

    let key = peer.subscribe("s", r#"{"batch_size":1}"#);
    peer.core.opened(key, Ok(opened(Some(rows(20, true)))), 0);
    peer.out();
    peer.core.seen(61 * SECOND);
    peer.core.tick(61 * SECOND);
    assert_eq!(peer.out(), ["s BATCH_FETCH_FAILED"]);
}

#[test]
fn who_can_not_keep_up_is_told_where_each_subscription_stands() {
    let mut peer = Peer::known();
    let (one, two) = (peer.live("s"), peer.live("t"));
    peer.event(one, 51);
    assert_eq!(peer.out(), ["s change 51"]);
    peer.event(one, 52);
    peer.event(two, 53);
    peer.core.overflowed();
    let mut told = peer.out();
    let close = told.pop().unwrap();
    told.sort();
    assert_eq!(told, ["s SLOW_CONSUMER 51", "t SLOW_CONSUMER 50"], "52 and 53 have not gone out, so nobody claims it");
    assert!(close.starts_with("close 4408"), "{close}");
    assert_eq!(peer.effects().len(), 2, "both are dropped");
    assert!(peer.core.is_closing());
}

#[test]
fn too_much_held_back_is_too_slow() {
    let mut peer = Peer::known();
    let key = peer.subscribe("s", r#"{"batch_size":1}"#);
    peer.core.opened(key, Ok(opened(Some(rows(20, true)))), 0);
    peer.out();
    for at in 51..54 {
        peer.event(key, at);
    }
    assert_eq!(peer.out()[0], "s SLOW_CONSUMER 20");
}

#[test]
fn who_asks_and_never_reads_is_closed() {
    let mut peer = Peer::known();
    for nth in 0..=MAX_REPLIES {
        peer.core.ping(Bytes::new(), nth as i64);
    }
    assert!(peer.core.is_closing());
    assert_eq!(peer.out().len(), 1, "the close alone");
}

#[test]
fn a_session_ends_with_a_word_to_each_subscription() {
    let mut peer = Peer::known();
    let key = peer.live("s");
    peer.event(key, 51);
    peer.core.deliver(Delivery::Closed(Error::ShuttingDown));
    assert_eq!(peer.out(), ["s change 51", "s SHUTTING_DOWN", "close 1001 Server shutting down"]);

    let mut peer = Peer::stranger();
    peer.core.authenticated(Ok(login(Some(5 * SECOND))));
    peer.live("s");
    peer.core.seen(5 * SECOND);
    peer.core.tick(5 * SECOND);
    let out = peer.out();
    assert_eq!(out[0], "s UNAUTHORIZED");
    assert!(out[1].starts_with("close 4401"), "{out:?}");
}

#[test]
fn silence_is_answered_with_a_ping_and_then_the_end() {
    let mut peer = Peer::known();
    peer.core.tick(2 * SECOND);
    assert!(peer.out().is_empty());
    peer.core.tick(5 * SECOND);
    assert_eq!(peer.out(), ["ping"]);
    peer.core.seen(6 * SECOND);
    peer.core.tick(8 * SECOND);
    assert!(peer.out().is_empty(), "it answered");
    peer.core.tick(16 * SECOND);
    assert_eq!(peer.out(), ["close 1000 Heartbeat timeout"]);
    assert_eq!(SessionLimits::default().client_timeout, Duration::from_secs(10));
}

#[test]
fn a_peer_that_only_answers_pings_stays() {
    let mut peer = Peer::known();
    for round in 1..=20 {
        // A tick comes a little late, now more, now less; the answer comes at once.
        let now = round * 5 * SECOND + round * 7 % 4 * 1_000;
        peer.core.tick(now);
        assert_eq!(peer.out(), ["ping"], "round {round}");
        peer.core.seen(now + 200);
    }
}

#[test]
fn a_ping_is_answered() {
    let mut peer = Peer::stranger();
    peer.core.ping(Bytes::from_static(b"abc"), 0);
    peer.core.goodbye();
    peer.core.ping(Bytes::new(), 0);
    assert_eq!(peer.out(), ["pong 3", "close 1000 "]);
}
