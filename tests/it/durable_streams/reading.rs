//! What readers see, by each way in, and when their reading ends.

use std::thread;

use rustix::process::Signal;
use serde_json::json;

use super::{TEXT, World, code, next_offset, path, post, put, refused, rows, send, texts};
use crate::event_stream::{Event, EventStream};
use crate::http::Client;
use crate::server::eventually;
use crate::socket::Socket;

fn events(world: &World, client: &Client, query: &str) -> EventStream {
    let authorization = client.authorization.clone().unwrap();
    let path = format!("{}?live=sse&{query}", path("a"));
    EventStream::try_open(world.server.address, &path, &[("Authorization", &authorization)]).unwrap()
}

/// The next data and what stands behind it.
fn data(events: &mut EventStream) -> (String, serde_json::Value) {
    let Some(Event { name, data, .. }) = events.event() else { panic!("the response has ended") };
    assert_eq!(name, "data");
    let control = events.event().unwrap();
    assert_eq!(control.name, "control");
    (data, control.json())
}

#[test]
fn an_append_is_a_row_to_sql_and_to_sockets() {
    let mut world = World::new(&[]);
    let mut socket = Socket::open_as(world.server.address, world.alice.token(), "");
    socket.follow("s", "SELECT stream, data FROM s.t WHERE stream = 'a'");
    put(&mut world.alice, "a");
    put(&mut world.alice, "other");
    post(&mut world.alice, "other", "not followed");
    post(&mut world.alice, "a", "one");
    let first = socket.json();
    assert_eq!((&first["change_type"], &first["rows"][0]["data"]), (&json!("insert"), &json!("one")));
    assert_eq!(rows(&mut world.alice), texts(&[("other", "not followed"), ("a", "one")]));
    // One message of a JSON stream is one row.
    let json = [("Content-Type", "application/json")];
    send(&mut world.alice, &format!("PUT {}", path("j")), &json, r#"[{"n":1}, {"n":2}]"#);
    assert_eq!(
        world.alice.rows("SELECT data FROM s.t WHERE stream = 'j' ORDER BY _seq"),
        json!([[r#"{"n":1}"#], [r#"{"n":2}"#]])
    );
    // A stream that is deleted takes its rows with it.
    assert_eq!(send(&mut world.alice, &format!("DELETE {}", path("a")), &[], "").status, 204);
    let gone = socket.json();
    assert_eq!(gone["change_type"], "delete", "{gone}");
    assert_eq!(world.alice.rows("SELECT data FROM s.t WHERE stream = 'a'"), json!([]));
    assert_eq!(world.alice.get(&path("other")).body, "not followed");
}

#[test]
fn readers_hear_of_an_append_at_once() {
    let mut world = World::new(&[]);
    let tail = next_offset(&put(&mut world.alice, "a"));
    let mut told = events(&world, &world.alice, "offset=-1");
    let begun = told.event().unwrap();
    assert_eq!((begun.name.as_str(), &begun.json()["upToDate"]), ("control", &json!(true)));
    let mut waiting = world.alice.again();
    let poll = format!("{}?offset={tail}&live=long-poll", path("a"));
    let waiter = thread::spawn(move || waiting.get(&poll));
    post(&mut world.alice, "a", "one");
    post(&mut world.alice, "a", "two\nlines");
    let polled = waiter.join().unwrap();
    assert!(polled.status == 200 && polled.body.starts_with("one"), "{polled:?}");
    assert!(polled.header("stream-cursor").is_some());
    let mut heard = String::new();
    while heard != "onetwo\nlines" {
        heard += &data(&mut told).0;
    }
    // The end comes with the last message, and then the response ends.
    send(&mut world.alice, &format!("POST {}", path("a")), &[TEXT, ("Stream-Closed", "true")], "last");
    let (last, control) = data(&mut told);
    assert_eq!((last.as_str(), &control["streamClosed"]), ("last", &json!(true)));
    assert_eq!(told.event(), None);
    let ended = world.alice.get(&format!(
        "{}?offset={}&live=long-poll",
        path("a"),
        control["streamNextOffset"].as_str().unwrap()
    ));
    assert_eq!((ended.status, ended.header("stream-closed")), (204, Some("true")));
}

#[test]
fn a_poll_in_which_nothing_comes_says_so() {
    let mut world = World::new(&["streams.long_poll_timeout=50ms", "streams.sse_lifetime=300ms"]);
    let tail = next_offset(&put(&mut world.alice, "a"));
    let nothing = world.alice.get(&format!("{}?offset={tail}&live=long-poll", path("a")));
    assert_eq!((nothing.status, nothing.header("stream-up-to-date")), (204, Some("true")));
    assert_eq!(next_offset(&nothing), tail);
    // Events end now and then, so that their reader comes back.
    let mut told = events(&world, &world.alice, "offset=now");
    assert_eq!(told.event().unwrap().name, "control");
    assert_eq!(told.event(), None);
    for (query, error) in [
        ("offset=", "INVALID_INPUT"),
        ("offset=x", "INVALID_INPUT"),
        ("offset=0&offset=1", "INVALID_INPUT"),
        ("live=sse", "INVALID_INPUT"),
        ("live=websocket&offset=-1", "INVALID_INPUT"),
        ("offset=7fffffffffffffff_0000000000000000", "INVALID_INPUT"),
    ] {
        assert_eq!(refused(&world.alice.get(&format!("{}?{query}", path("a")))), code(400, error), "{query}");
    }
}

#[test]
fn a_large_stream_is_read_in_pages() {
    let mut world = World::new(&[]);
    put(&mut world.alice, "a");
    let texts: Vec<String> = (0..8).map(|n| n.to_string().repeat(100_000)).collect();
    for text in &texts {
        post(&mut world.alice, "a", text);
        post(&mut world.alice, "a", "|");
    }
    let (mut offset, mut read, mut pages) = ("-1".to_owned(), String::new(), 0);
    loop {
        let page = world.alice.get(&format!("{}?offset={offset}", path("a")));
        assert!(page.body.len() <= 256 << 10, "{}", page.body.len());
        read += &page.body;
        let before = std::mem::replace(&mut offset, next_offset(&page));
        assert!(offset > before || before == "-1", "offsets sort as positions");
        pages += 1;
        if page.header("stream-up-to-date").is_some() {
            break;
        }
        assert_eq!(page.header("stream-closed"), None);
    }
    assert_eq!((read, pages), (texts.join("|") + "|", 4));
    let etag = world.alice.get(&path("a")).header("etag").unwrap().to_owned();
    let same = send(&mut world.alice, &format!("GET {}", path("a")), &[("If-None-Match", &etag)], "");
    assert_eq!((same.status, same.body.as_str()), (304, ""));
}

#[test]
fn who_loses_the_stream_or_the_right_is_shown_out() {
    let mut world = World::new(&[]);
    put(&mut world.alice, "a");
    let mut told = events(&world, &world.alice, "offset=now");
    told.event();
    send(&mut world.alice, &format!("DELETE {}", path("a")), &[], "");
    assert_eq!(told.event(), None, "deleted");
    put(&mut world.alice, "a");
    let mut told = events(&world, &world.alice, "offset=now");
    told.event();
    world.server.signal(Signal::TERM);
    assert_eq!(told.event(), None, "the server stops, and does not wait for readers");
    eventually("it stops", || {
        world.server.client().exchange(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").is_err().then_some(())
    });
}
