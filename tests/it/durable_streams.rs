//! Durable Streams over HTTP: who may, what SQL and sockets see of them, what a crash leaves. The protocol itself is held by
//! its published suite, `tests/durable-streams/run`.

mod lifecycle;
mod reading;
mod rights;

use std::io::{BufRead as _, BufReader, Write as _};

use serde_json::{Value, json};

use crate::http::{Client, Response, connect, read_response};
use crate::server::Server;

const TABLE: &str = "CREATE STREAM TABLE s.t (stream TEXT NOT NULL, data TEXT NOT NULL) WITH (TTL_SECONDS = 86400)";

/// A server with a table of streams, and people.
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
        admin.sql("CREATE NAMESPACE s");
        admin.sql(TABLE);
        let alice = server.new_user(&mut admin, "alice", "user");
        let bob = server.new_user(&mut admin, "bob", "user");
        let service = server.new_user(&mut admin, "worker", "service");
        Self { server, admin, alice, bob, service }
    }
}

fn path(key: &str) -> String {
    format!("/v1/streams/s/t/{key}")
}

fn send(client: &mut Client, head: &str, headers: &[(&str, &str)], body: &str) -> Response {
    client.request(head, headers, body.as_bytes()).unwrap()
}

const TEXT: (&str, &str) = ("Content-Type", "text/plain");

fn put(client: &mut Client, key: &str) -> Response {
    send(client, &format!("PUT {}", path(key)), &[TEXT], "")
}

fn post(client: &mut Client, key: &str, body: &str) -> Response {
    send(client, &format!("POST {}", path(key)), &[TEXT], body)
}

/// The answer to HEAD: none has a body, whatever it says of its length.
fn head(world: &World, client: &Client, key: &str) -> Response {
    let mut stream = BufReader::new(connect(world.server.address).unwrap());
    let authorization = client.authorization.clone().unwrap();
    let request = format!("HEAD {} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n\r\n", path(key));
    stream.get_mut().write_all(request.as_bytes()).unwrap();
    let mut lines = String::new();
    while !lines.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut lines).unwrap(), 0, "{lines}");
    }
    let lines = lines.replace("content-length", "x-length");
    read_response(&mut lines.as_bytes()).unwrap()
}

/// One request of a producer.
fn produce(client: &mut Client, key: &str, (epoch, seq): (u64, u64), body: &str) -> Response {
    let (epoch, seq) = (epoch.to_string(), seq.to_string());
    let headers = [TEXT, ("Producer-Id", "p"), ("Producer-Epoch", &epoch), ("Producer-Seq", &seq)];
    send(client, &format!("POST {}", path(key)), &headers, body)
}

fn next_offset(response: &Response) -> String {
    response.header("stream-next-offset").unwrap_or_else(|| panic!("no offset: {response:?}")).to_owned()
}

fn refused(response: &Response) -> (u16, String) {
    (response.status, response.json()["error"].as_str().unwrap().to_owned())
}

fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn rows(client: &mut Client) -> Value {
    client.rows("SELECT stream, data FROM s.t ORDER BY _seq")
}

fn texts(rows: &[(&str, &str)]) -> Value {
    json!(rows.iter().map(|(key, data)| [key, data]).collect::<Vec<_>>())
}
