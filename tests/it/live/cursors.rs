//! Durable cursors over restarts, and their end: with their table, their user, their limit.

use serde_json::{Value, json};

use super::World;
use crate::http::Client;
use crate::server::{Server, eventually};
use crate::socket::Socket;

fn shown(client: &mut Client) -> Vec<Vec<Value>> {
    let rows = client.rows("SHOW CURSORS");
    serde_json::from_value(rows).unwrap()
}

fn read(socket: &mut Socket, group: &str) -> Vec<String> {
    socket.subscribe("s", "SELECT id FROM c.mail", json!({"group": group}));
    let ack = socket.json();
    assert_eq!(ack["type"], "subscription_ack", "{ack}");
    socket.send_frame(9, b"done?").unwrap();
    let mut told = Vec::new();
    loop {
        match socket.message() {
            crate::socket::Message::Pong(_) => return told,
            crate::socket::Message::Text(text) => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                for row in frame["rows"].as_array().unwrap() {
                    told.push(format!("{} {}", row["id"].as_str().unwrap(), row["_seq"].as_str().unwrap()));
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

fn ack(socket: &mut Socket, upto: &str) {
    let seq = upto.split(' ').nth(1).unwrap();
    socket.send(&json!({"type": "ack", "subscription_id": "s", "upto": seq}));
    socket.quiet();
}

fn ids(told: &[String]) -> Vec<&str> {
    told.iter().map(|row| row.split(' ').next().unwrap()).collect()
}

#[test]
fn a_cursor_outlives_the_server_and_goes_with_its_table_and_user() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut server = Server::start_over(&data, &[]);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE c");
    admin.sql("CREATE USER TABLE c.mail (id BIGINT PRIMARY KEY)");
    let mut alice = server.new_user(&mut admin, "alice", "user");
    alice.sql("INSERT INTO c.mail VALUES (1), (2), (3)");
    let mut socket = Socket::open_as(server.address, alice.token(), "");
    let told = read(&mut socket, "g");
    assert_eq!(ids(&told), ["1", "2", "3"]);
    ack(&mut socket, &told[0]);
    ack(&mut socket, &told[1]);
    drop(socket);
    let rows = shown(&mut alice);
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0][0], &rows[0][1], &rows[0][2]), (&json!("alice"), &json!("g"), &json!("c.mail")));
    assert_eq!(rows[0][3].as_str(), told[1].split(' ').nth(1));
    let position = rows[0][3].clone();
    // Stopped in good order, an acknowledgement is never lost.
    server.signal(rustix::process::Signal::TERM);
    server.ended();
    server = Server::start_over(&data, &[]);
    alice = server.log_in("alice");
    alice.sql("INSERT INTO c.mail VALUES (4)");
    let mut socket = Socket::open_as(server.address, alice.token(), "");
    let told = read(&mut socket, "g");
    assert_eq!(ids(&told), ["3", "4"]);
    assert_eq!(shown(&mut alice)[0][3], position);
    ack(&mut socket, &told[1]);
    // Killed: what was written a moment ago is there, what was not is told again.
    admin = server.log_in("admin");
    eventually("the lag is gone", || {
        let lag = admin.rows("SELECT lag_ms FROM system.cursors WHERE user_id = 'alice' AND group_id = 'g'");
        (lag == json!([["0"]])).then_some(())
    });
    server.kill();
    server = Server::start_over(&data, &[]);
    alice = server.log_in("alice");
    let mut socket = Socket::open_as(server.address, alice.token(), "");
    let told = read(&mut socket, "g");
    assert!(told.is_empty() || ids(&told) == ["4"] || ids(&told) == ["3", "4"], "{told:?}");

    // With the table.
    admin = server.log_in("admin");
    admin.sql("DROP TABLE c.mail");
    assert_eq!(socket.json()["code"], "TABLE_DROPPED");
    assert!(shown(&mut alice).is_empty());
    admin.sql("CREATE USER TABLE c.mail (id BIGINT PRIMARY KEY)");
    alice.sql("INSERT INTO c.mail VALUES (7)");
    assert_eq!(ids(&read(&mut socket, "g")), ["7"]);
    // With the user: who has the name next has none.
    admin.sql("DROP USER alice");
    eventually("cursors of a dropped user go", || shown(&mut admin).is_empty().then_some(()));
    let mut alice = server.new_user(&mut admin, "alice", "user");
    assert!(shown(&mut alice).is_empty());
}

#[test]
fn cursors_are_counted_listed_and_dropped_by_whom_they_concern() {
    let mut world = World::new(&["websocket.max_cursors_per_user=2"]);
    let mut socket = world.socket(&world.alice);
    for group in ["one", "two"] {
        socket.subscribe(group, "SELECT id FROM w.mail", json!({"group": group, "last_rows": 0}));
        assert_eq!(socket.json()["type"], "subscription_ack");
        assert_eq!(socket.json()["type"], "initial_data_batch");
    }
    socket.subscribe("three", "SELECT id FROM w.mail", json!({"group": "three"}));
    assert_eq!(socket.json()["code"], "CURSOR_LIMIT_EXCEEDED");
    assert_eq!(shown(&mut world.alice).len(), 2);
    assert!(shown(&mut world.bob).is_empty(), "others do not see them");
    assert_eq!(shown(&mut world.admin).len(), 2);
    let rows = world.admin.rows("SELECT group_id, live_id IS NULL FROM system.cursors ORDER BY group_id");
    assert_eq!(rows, json!([["one", false], ["two", false]]));
    assert_eq!(world.bob.refused("DROP CURSOR one FOR USER 'alice'").code, "PERMISSION_DENIED");
    assert_eq!(world.bob.refused("DROP CURSOR one").sqlstate, "42704");
    world.bob.sql("DROP CURSOR IF EXISTS one");
    world.admin.sql("DROP CURSOR one FOR USER 'alice'");
    assert_eq!(socket.json()["code"], "CURSOR_DROPPED");
    socket.subscribe("three", "SELECT id FROM w.mail", json!({"group": "three"}));
    assert_eq!(socket.json()["type"], "subscription_ack");
    assert_eq!(world.bob.refused("SELECT * FROM system.cursors").code, "PERMISSION_DENIED");
}

#[test]
fn a_subscription_is_explained_to_whom_it_concerns() {
    let mut world = World::new(&[]);
    let mut socket = world.socket(&world.alice);
    socket.follow("mine", "SELECT id FROM w.mail WHERE n > 1");
    super::insert(&mut world.alice, 2..4);
    let last = [socket.json(), socket.json()].map(|event| super::seq_of(&event))[1];
    let explained = |client: &mut Client, id: &str| -> std::collections::BTreeMap<String, String> {
        let rows: Vec<(String, String)> = serde_json::from_value(client.rows(&format!("EXPLAIN LIVE '{id}'"))).unwrap();
        rows.into_iter().collect()
    };
    let own = explained(&mut world.alice, "mine");
    assert_eq!((own["state"].as_str(), own["follows"].as_str()), ("live", "w.mail"), "{own:?}");
    assert!(own["query"].contains("n > 1"));
    assert_eq!((own["position"].clone(), own["changes_delivered"].as_str()), (last.to_string(), "2"));
    assert_eq!((own["changes_dropped"].as_str(), own["waiting_events"].as_str()), ("0", "0"));
    assert!(!own.contains_key("last_close_code"));
    let id = own["live_id"].clone();
    assert_eq!(explained(&mut world.admin, &id), explained(&mut world.alice, &id));
    assert_eq!(world.bob.refused(&format!("EXPLAIN LIVE '{id}'")).sqlstate, "42704", "as if there were none");
    assert_eq!(world.bob.refused("EXPLAIN LIVE 'mine'").sqlstate, "42704");

    world.admin.sql(&format!("KILL LIVE QUERY '{id}'"));
    assert_eq!(socket.json()["code"], "SUBSCRIPTION_KILLED");
    let own = explained(&mut world.alice, "mine");
    assert_eq!((own["state"].as_str(), own["last_close_code"].as_str()), ("closed", "SUBSCRIPTION_KILLED"), "{own:?}");
    socket.follow("mine", "SELECT id FROM w.mail");
    let own = explained(&mut world.alice, "mine");
    assert_eq!((own["state"].as_str(), own["last_close_code"].as_str()), ("live", "SUBSCRIPTION_KILLED"), "{own:?}");
    socket.cut();
    let code = eventually("a cut is noted", || {
        let own = explained(&mut world.alice, "mine");
        (own["state"] == "closed").then(|| own["last_close_code"].clone())
    });
    assert_eq!(code, "CONNECTION_LOST");
}
