//! Live queries over real sockets: scripts in `tests/live`, and what needs more than a script.

mod bad_frames;
mod closes;
mod cursors;
mod delivery;
mod events;
mod faults;
mod feed;
mod formats;
mod pressure;
mod script;

use serde_json::{Value, json};

use crate::http::Client;
use crate::server::Server;
use crate::socket::Socket;

/// A server with a mailbox table, a public table, and people.
struct World {
    server: Server,
    admin: Client,
    alice: Client,
    bob: Client,
    service: Client,
}

impl World {
    fn new(settings: &[&str]) -> Self {
        let server = Server::start(settings);
        let mut admin = server.set_up();
        for sql in [
            "CREATE NAMESPACE w",
            "CREATE USER TABLE w.mail (id BIGINT PRIMARY KEY, body TEXT, n INT) WITH (DURABILITY = 'buffered')",
            "CREATE USER TABLE w.pairs (a INT, b INT, v TEXT, PRIMARY KEY (a, b))",
            "CREATE SHARED TABLE w.pub (id BIGINT PRIMARY KEY, body TEXT) WITH (ACCESS_LEVEL = 'PUBLIC')",
            "CREATE SHARED TABLE w.priv (id BIGINT PRIMARY KEY, body TEXT)",
        ] {
            admin.sql(sql);
        }
        let alice = server.new_user(&mut admin, "alice", "user");
        let bob = server.new_user(&mut admin, "bob", "user");
        let service = server.new_user(&mut admin, "worker", "service");
        Self { server, admin, alice, bob, service }
    }

    fn socket(&self, client: &Client) -> Socket {
        Socket::open_as(self.server.address, client.token(), "")
    }
}

/// `_seq` of an event's row.
fn seq_of(event: &Value) -> i64 {
    let row = if event["change_type"] == "delete" { &event["old_values"][0] } else { &event["rows"][0] };
    row["_seq"].as_str().unwrap_or_else(|| panic!("no _seq: {event}")).parse().unwrap()
}

/// Kind and key of an event, like `insert 5`.
fn told(event: &Value) -> String {
    let row = if event["change_type"] == "delete" { &event["old_values"][0] } else { &event["rows"][0] };
    let kind = event["change_type"].as_str().unwrap_or_else(|| panic!("no change: {event}"));
    format!("{kind} {}", row["id"].as_str().unwrap())
}

fn error_of(frame: &Value) -> (&str, &str) {
    assert_eq!(frame["type"], "error", "{frame}");
    assert!(frame["message"].as_str().is_some_and(|text| text.len() > 5), "a sentence that helps: {frame}");
    (frame["subscription_id"].as_str().unwrap(), frame["code"].as_str().unwrap())
}

fn insert(client: &mut Client, ids: std::ops::Range<i64>) {
    let values: Vec<String> = ids.map(|id| format!("({id}, 'body {id}', {})", id % 10)).collect();
    let body = json!({"sql": format!("INSERT INTO w.mail VALUES {}", values.join(", "))});
    client.try_sql(&body).unwrap();
}
