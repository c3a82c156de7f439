//! What attackers try, over real sockets. Each test says what it proves; what is tried with tokens is in `api/tokens.rs`,
//! with open sockets of users who change in `live/closes.rs`, with broken WebSocket frames in `live/bad_frames.rs`.

mod accounts;
mod bodies;
mod detours;
mod execute_as;
mod floods;
mod identifiers;
mod smuggling;
mod timing;
mod websites;

use crate::http::Client;
use crate::server::Server;

/// In bob's mailbox, and in a table that only administrators read: nobody else may be answered this.
const BOBS: &str = "only-for-bob";
const SECRET: &str = "only-for-administrators";

/// A server with something to steal.
struct Target {
    server: Server,
    admin: Client,
    alice: Client,
    service: Client,
}

impl Target {
    fn new(settings: &[&str]) -> Self {
        let server = Server::start(settings);
        let mut admin = server.set_up();
        admin.sql("CREATE NAMESPACE t");
        admin.sql("CREATE USER TABLE t.mail (id BIGINT PRIMARY KEY, body TEXT)");
        admin.sql("CREATE SHARED TABLE t.dba (id BIGINT PRIMARY KEY, body TEXT) WITH (ACCESS_LEVEL = 'DBA')");
        admin.sql(&format!("INSERT INTO t.dba VALUES (1, '{SECRET}')"));
        let alice = server.new_user(&mut admin, "alice", "user");
        let mut bob = server.new_user(&mut admin, "bob", "user");
        bob.sql(&format!("INSERT INTO t.mail VALUES (1, '{BOBS}')"));
        let service = server.new_user(&mut admin, "worker", "service");
        Self { server, admin, alice, service }
    }
}
