//! What HTTP clients rely on: routes, tokens, results, cells, and an answer that helps for whatever they send.

mod auth;
mod bad_input;
mod parameters;
mod results;
mod routes;
mod tokens;
mod topics;

use serde_json::{Value, json};

use crate::http::Client;
use crate::server::Server;

/// A server with a little data, and someone of each role.
struct World {
    server: Server,
    admin: Client,
    alice: Client,
    bob: Client,
    service: Client,
    anonymous: Client,
}

impl World {
    fn new(settings: &[&str]) -> Self {
        let server = Server::start(settings);
        let mut admin = server.set_up();
        for sql in [
            "CREATE NAMESPACE w",
            "CREATE USER TABLE w.mail (id BIGINT PRIMARY KEY, body TEXT NOT NULL, n INT)",
            "CREATE SHARED TABLE w.pub (id BIGINT PRIMARY KEY, body TEXT) WITH (ACCESS_LEVEL = 'PUBLIC')",
            "CREATE SHARED TABLE w.priv (id BIGINT PRIMARY KEY, body TEXT)",
            "INSERT INTO w.pub VALUES (1, 'everyone')",
            "INSERT INTO w.priv VALUES (1, 'some')",
        ] {
            admin.sql(sql);
        }
        let mut alice = server.new_user(&mut admin, "alice", "user");
        alice.sql("INSERT INTO w.mail VALUES (1, 'hello', 1), (2, 'again', 2)");
        let bob = server.new_user(&mut admin, "bob", "user");
        let service = server.new_user(&mut admin, "worker", "service");
        let anonymous = server.new_user(&mut admin, "nobody", "anonymous");
        Self { server, admin, alice, bob, service, anonymous }
    }

    /// Everything that a refused request must leave as it was.
    fn state(&mut self) -> Value {
        let mut admin = self.admin.again();
        json!({
            "users": admin.rows("SELECT user_id, role, email, deleted_at FROM system.users ORDER BY 1"),
            "namespaces": admin.rows("SELECT name, options FROM system.namespaces ORDER BY 1"),
            "columns": admin.rows("SELECT namespace_id, table_name, column_name FROM system.columns ORDER BY 1, 2, 3"),
            "mail": admin.rows("EXECUTE AS USER '*' (SELECT * FROM w.mail ORDER BY _seq)"),
            "pub": admin.rows("SELECT * FROM w.pub ORDER BY id"),
            "priv": admin.rows("SELECT * FROM w.priv ORDER BY id"),
        })
    }
}
