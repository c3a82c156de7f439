//! How sessions end, and that the subscriber is told why: A11, A12, A13, A15, §7.6.

use std::time::{Duration, Instant};

use jsonwebtoken::Algorithm;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{World, error_of, insert, told};
use crate::http::Client;
use crate::server::eventually;
use crate::socket::{Message, Socket};
use crate::token::{SECRET, claims_of, now, sign, with};

#[test]
fn who_says_nothing_is_shown_out() {
    let world = World::new(&["websocket.auth_timeout=200ms"]);
    let mut socket = Socket::open(world.server.address);
    let error = socket.json();
    assert_eq!(error["type"], "auth_error");
    let message = "Authentication timeout - no auth message received within 0.2 seconds";
    assert_eq!(error["message"], message, "{error}");
    assert_eq!(socket.closed(), (1008, "Authentication timeout".to_owned()));
}

#[test]
fn a_bad_token_closes() {
    let world = World::new(&[]);
    let mut socket = Socket::open(world.server.address);
    let protocol = json!({"serialization": "json", "compression": "gzip"});
    socket.send(&json!({"type": "authenticate", "method": "jwt", "token": "x", "protocol": protocol}));
    assert_eq!(socket.json(), json!({"type": "auth_error", "message": "Invalid credentials"}));
    assert_eq!(socket.closed(), (1008, "Authentication failed".to_owned()));

    let refused = Socket::try_open(world.server.address, "/v1/ws", &[("Authorization", "Bearer x")]).err().unwrap();
    assert_eq!(refused.status, 401);
    assert!(refused.body.contains("Invalid token"), "{}", refused.body);
}

#[test]
fn a_silent_peer_is_pinged_then_closed() {
    let world = World::new(&["websocket.client_timeout=2s", "websocket.heartbeat_interval=100ms"]);
    let mut silent = world.socket(&world.alice);
    let started = Instant::now();
    let mut pings = 0;
    loop {
        match silent.any_message().unwrap() {
            Message::Ping(_) => pings += 1,
            Message::Close(code, reason) => {
                assert_eq!((code, reason.as_str()), (1000, "Heartbeat timeout"));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(pings > 0, "the server pings before it closes (A12)");
    assert!(started.elapsed() >= Duration::from_millis(1_800), "{:?}", started.elapsed());

    // One who answers pings stays.
    let mut world = world;
    let mut awake = world.socket(&world.alice);
    awake.follow("s", "SELECT id FROM w.mail");
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(3) {
        match awake.any_message().unwrap() {
            Message::Ping(payload) => awake.send_frame(10, &payload).unwrap(),
            other => panic!("{other:?}"),
        }
    }
    insert(&mut world.alice, 1..2);
    assert_eq!(told(&awake.json()), "insert 1");
}

#[test]
fn goodbye_is_answered() {
    let world = World::new(&[]);
    let mut socket = world.socket(&world.alice);
    socket.send_frame(8, &[0x03, 0xe8, b'b', b'y', b'e']).unwrap();
    assert_eq!(socket.closed().0, 1000);
    assert!(socket.any_message().is_err(), "then the connection ends");
}

#[test]
fn a_dropped_table_is_told_to_its_subscribers_only() {
    let mut world = World::new(&[]);
    let mut socket = world.socket(&world.alice);
    let mut feed = world.socket(&world.service);
    socket.follow("mail", "SELECT id FROM w.mail");
    socket.follow("pub", "SELECT id FROM w.pub");
    feed.follow("all", "EXECUTE AS USER '*' (SELECT id FROM w.mail)");
    world.admin.sql("DROP TABLE w.mail");
    assert_eq!(error_of(&socket.json()), ("mail", "TABLE_DROPPED"));
    assert_eq!(error_of(&feed.json()), ("all", "TABLE_DROPPED"));
    world.admin.sql("INSERT INTO w.pub VALUES (1, 'x')");
    assert_eq!(told(&socket.json()), "insert 1", "the other subscription goes on");
    // The name again is another table.
    world.admin.sql("CREATE USER TABLE w.mail (id BIGINT PRIMARY KEY, body TEXT, n INT)");
    socket.follow("mail", "SELECT id FROM w.mail");
    insert(&mut world.alice, 6..7);
    assert_eq!(told(&socket.json()), "insert 6");
}

#[test]
fn a_dropped_namespace_is_told() {
    let mut world = World::new(&[]);
    let mut socket = world.socket(&world.alice);
    socket.follow("mail", "SELECT id FROM w.mail");
    world.admin.sql("DROP NAMESPACE w");
    assert_eq!(error_of(&socket.json()), ("mail", "TABLE_DROPPED"));
}

/// Takes frames until the close; gives its code.
fn close_of(socket: &mut Socket) -> u16 {
    loop {
        match socket.message() {
            Message::Close(code, reason) => {
                assert!(!reason.is_empty(), "a close says why");
                return code;
            }
            Message::Text(_) | Message::Binary(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn who_is_dropped_changed_or_logged_out_loses_the_socket() {
    let mut world = World::new(&[]);
    for change in [
        "ALTER USER alice SET ROLE service",
        "ALTER USER alice SET PASSWORD 'quite another password'; ALTER USER alice SET PASSWORD 'a long enough password'",
        "DROP USER alice",
    ] {
        let client = world.server.log_in("alice");
        let mut socket = world.socket(&client);
        socket.follow("s", "SELECT id FROM w.pub");
        let mut other = world.socket(&world.bob);
        other.follow("s", "SELECT id FROM w.pub");
        let asked = Instant::now();
        world.admin.sql(change);
        let code = close_of(&mut socket);
        assert!((4_500..5_000).contains(&code), "{change}: {code} would bring it back");
        assert!(asked.elapsed() < Duration::from_secs(5), "{change}: {:?}", asked.elapsed());
        other.quiet();
    }
    let mut client = world.server.log_in("bob");
    let mut socket = world.socket(&client);
    let mut other = world.socket(&world.bob);
    assert_eq!(client.post_text("/v1/api/auth/logout", "").status, 200);
    assert!((4_500..5_000).contains(&close_of(&mut socket)));
    other.quiet();
}

#[test]
fn who_follows_a_dropped_user_is_told() {
    let mut world = World::new(&[]);
    let mut agent = world.socket(&world.service);
    agent.follow("hers", "EXECUTE AS USER 'alice' (SELECT id FROM w.mail)");
    agent.follow("all", "EXECUTE AS USER '*' (SELECT id FROM w.mail)");
    world.admin.sql("DROP USER alice");
    assert_eq!(error_of(&agent.json()), ("hers", "RIGHT_REVOKED"));
    insert(&mut world.bob, 3..4);
    assert_eq!(told(&agent.json()), "insert 3", "the feed goes on");
}

#[test]
fn an_expired_token_ends_the_session_with_a_word() {
    let secret = format!("auth.jwt_secret={SECRET}");
    let world = World::new(&[&secret, "websocket.heartbeat_interval=100ms", "websocket.client_timeout=60s"]);
    // A minute after its end a token is still taken, since clocks differ: this one is at the end of that minute.
    let claims = with(&claims_of(world.alice.token()), "exp", json!(now() - 57));
    let token = sign(&claims, Algorithm::HS256, SECRET);
    let mut socket = Socket::open_as(world.server.address, &token, "");
    socket.follow("s", "SELECT id FROM w.mail");
    assert_eq!(close_of(&mut socket), 4_401, "come back with a new token");
    let refused = Client::bearer(world.server.address, &token).refused("SELECT 1");
    assert_eq!(refused.code, "TOKEN_EXPIRED");
}

#[test]
fn killed_by_an_administrator() {
    let mut world = World::new(&[]);
    let mut socket = world.socket(&world.alice);
    socket.follow("one", "SELECT id FROM w.mail");
    socket.follow("two", "SELECT id FROM w.pub");
    let live = live_rows(&mut world);
    let id = live.iter().find(|row| row[1] == "one").unwrap()[0].clone();
    world.admin.sql(&format!("KILL LIVE QUERY '{}'", id.as_str().unwrap()));
    assert_eq!(error_of(&socket.json()), ("one", "SUBSCRIPTION_KILLED"));
    world.admin.sql("INSERT INTO w.pub VALUES (1, 'x')");
    assert_eq!(told(&socket.json()), "insert 1");
    assert_eq!(world.admin.refused("KILL LIVE QUERY 'no-such'").sqlstate, "42704");
}

fn live_rows(world: &mut World) -> Vec<Vec<Value>> {
    let rows =
        world.admin.rows("SELECT live_id, subscription_id, user_id, table_name, query FROM system.live ORDER BY 2");
    serde_json::from_value(rows).unwrap()
}

#[test]
fn system_live_is_true() {
    let mut world = World::new(&[]);
    assert!(live_rows(&mut world).is_empty());
    let mut alice = world.socket(&world.alice);
    let mut service = world.socket(&world.service);
    alice.follow("a1", "SELECT id FROM w.mail WHERE n > 1");
    alice.follow("a2", "SELECT id FROM w.pub");
    service.follow("b1", "EXECUTE AS USER '*' (SELECT id FROM w.mail)");
    let shown: Vec<String> = live_rows(&mut world)
        .iter()
        .map(|row| format!("{} {} {}", row[1].as_str().unwrap(), row[2].as_str().unwrap(), row[3].as_str().unwrap()))
        .collect();
    assert_eq!(shown, ["a1 alice mail", "a2 alice pub", "b1 worker mail"]);
    assert!(live_rows(&mut world)[0][4].as_str().unwrap().contains("n > 1"));

    insert(&mut world.alice, 2..4);
    assert_eq!((told(&alice.json()), told(&alice.json())), ("insert 2".to_owned(), "insert 3".to_owned()));
    let changes = eventually("the changes are counted", || {
        let rows = world.admin.rows("SELECT changes FROM system.live WHERE subscription_id = 'a1'");
        (rows != json!([["0"]])).then_some(rows)
    });
    assert_eq!(changes, json!([["2"]]));

    alice.send(&json!({"type": "unsubscribe", "subscription_id": "a1"}));
    alice.quiet();
    assert_eq!(live_rows(&mut world).len(), 2);
    service.cut();
    let since = Instant::now();
    eventually("a cut socket is gone from it", || (live_rows(&mut world).len() == 1).then_some(()));
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    alice.send_frame(8, &[0x03, 0xe8]).unwrap();
    eventually("so is one that said goodbye", || live_rows(&mut world).is_empty().then_some(()));
}

#[test]
fn a_server_that_stops_says_so() {
    let mut world = World::new(&[]);
    let mut sockets: Vec<Socket> = (0..5).map(|_| world.socket(&world.alice)).collect();
    for socket in &mut sockets {
        socket.follow("s", "SELECT id FROM w.mail");
    }
    let mut stranger = Socket::open(world.server.address);
    insert(&mut world.alice, 1..2);
    for socket in &mut sockets {
        assert_eq!(told(&socket.json()), "insert 1");
    }
    world.server.signal(Signal::TERM);
    for socket in &mut sockets {
        assert_eq!(error_of(&socket.json()), ("s", "SHUTTING_DOWN"));
        assert_eq!(close_of(socket), 1_001);
    }
    assert_eq!(close_of(&mut stranger), 1_001);
    assert_eq!(world.server.ended().code(), Some(0), "{}", world.server.log());
}
