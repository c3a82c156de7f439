//! Every kind of statement, as every role, on every kind of table and access level, over HTTP: who may is what the table of
//! rights says (docs/roles.md), and a refusal changes nothing.

use std::collections::BTreeSet;

use inboxdb::auth::policy::rights::{
    AdminAction, TableAction, TableClass, USER_RIGHTS, least_on, of_admin, over_users,
};
use inboxdb::model::Role;
use inboxdb::sql::parse::parse;
use inboxdb::sql::statement::Statement;
use serde_json::json;

use crate::http::Client;
use crate::server::{PASSWORD, Server};

/// What a statement needs.
#[derive(Debug, Clone, Copy)]
enum Needs {
    /// Nothing but a log-in.
    Nothing,
    Table(TableAction, TableClass),
    Admin(AdminAction),
    CreateUser(Role),
    /// EXECUTE AS USER of somebody of this role.
    ActFor(Role),
    ActForAll,
}

impl Needs {
    fn allows(self, role: Role) -> bool {
        let up_to = |most: Option<Role>, wanted: Role| most.is_some_and(|most| wanted <= most);
        match self {
            Needs::Nothing => true,
            Needs::Table(action, class) => role >= least_on(action, class),
            Needs::Admin(action) => role >= of_admin(action).least,
            Needs::CreateUser(wanted) => up_to(over_users(role).creates, wanted),
            Needs::ActFor(target) => up_to(over_users(role).acts_for, target),
            Needs::ActForAll => over_users(role).acts_for_all,
        }
    }
}

/// Table and class of each kind and access level.
const TABLES: [(&str, TableClass); 6] = [
    ("mail", TableClass::Own),
    ("events", TableClass::Own),
    ("public", TableClass::Public),
    ("private", TableClass::Private),
    ("restricted", TableClass::Restricted),
    ("dba", TableClass::Dba),
];

/// Statements about a table; `{t}` is its name, `{n}` a number that was not used before.
const ON_TABLES: &[(&str, TableAction)] = &[
    ("SELECT * FROM m.{t}", TableAction::Read),
    ("SELECT COUNT(*) FROM m.{t} a JOIN m.{t} b ON a.id = b.id", TableAction::Read),
    ("WITH x AS (SELECT id FROM m.{t}) SELECT * FROM x", TableAction::Read),
    ("SELECT 1 WHERE EXISTS (SELECT 1 FROM m.{t})", TableAction::Read),
    ("EXPLAIN SELECT * FROM m.{t}", TableAction::Read),
    ("EXPLAIN ANALYZE SELECT * FROM m.{t}", TableAction::Read),
    ("DESCRIBE TABLE m.{t}", TableAction::Read),
    ("INSERT INTO m.{t} (id) VALUES ({n})", TableAction::Write),
    ("INSERT INTO m.{t} (id) SELECT {n}", TableAction::Write),
    ("UPDATE m.{t} SET body = 'x' WHERE id = -1", TableAction::Write),
    ("DELETE FROM m.{t} WHERE id = -1", TableAction::Write),
    ("TRUNCATE TABLE m.{t}", TableAction::Write),
    ("COMMENT ON TABLE m.{t} IS 'x'", TableAction::Alter),
    ("ALTER TABLE m.{t} ADD COLUMN c{n} INT", TableAction::Alter),
];

/// Statements about the server. Most name what is not there: whoever may is told that, and nothing is changed.
fn on_the_server() -> Vec<(&'static str, Needs)> {
    let admin = Needs::Admin;
    vec![
        ("USE m", Needs::Nothing),
        ("SHOW NAMESPACES", Needs::Nothing),
        ("SHOW TABLES", Needs::Nothing),
        ("SHOW STORAGES", Needs::Nothing),
        ("SHOW VIEWS", Needs::Nothing),
        ("CREATE VIEW none.v AS SELECT 1 AS one", admin(AdminAction::ManageViews)),
        ("DROP VIEW none.v", admin(AdminAction::ManageViews)),
        ("SHOW CURSORS", Needs::Nothing),
        ("DROP CURSOR IF EXISTS 'nobodys'", Needs::Nothing),
        ("EXPLAIN LIVE 'none'", Needs::Nothing),
        ("SHOW EXPORT", Needs::Nothing),
        ("EXPORT USER DATA", Needs::Nothing),
        ("EXPLAIN SELECT 1", Needs::Nothing),
        ("SUBSCRIBE TO m.public", Needs::Nothing),
        ("CREATE NAMESPACE m", admin(AdminAction::ManageNamespaces)),
        ("ALTER NAMESPACE none SET OPTIONS (a = 1)", admin(AdminAction::ManageNamespaces)),
        ("DROP NAMESPACE none", admin(AdminAction::ManageNamespaces)),
        ("CREATE STORAGE local TYPE filesystem PATH 'x'", admin(AdminAction::ManageStorages)),
        ("ALTER STORAGE none SET NAME 'x'", admin(AdminAction::ManageStorages)),
        ("DROP STORAGE none", admin(AdminAction::ManageStorages)),
        ("STORAGE CHECK none", admin(AdminAction::ManageStorages)),
        ("STORAGE FLUSH TABLE m.none", admin(AdminAction::FlushAndCompact)),
        ("STORAGE COMPACT TABLE m.none", admin(AdminAction::FlushAndCompact)),
        ("CREATE TOPIC none.t", admin(AdminAction::ManageTopics)),
        ("ALTER TOPIC m.none ADD SOURCE m.mail ON INSERT", admin(AdminAction::ManageTopics)),
        ("CLEAR TOPIC m.none", admin(AdminAction::ManageTopics)),
        ("DROP TOPIC m.none", admin(AdminAction::ManageTopics)),
        ("CONSUME FROM m.none GROUP 'g'", admin(AdminAction::ConsumeTopics)),
        ("ACK m.none GROUP 'g' UPTO OFFSET 1", admin(AdminAction::ConsumeTopics)),
        ("KILL LIVE QUERY 'none'", admin(AdminAction::Kill)),
        ("KILL JOB 'none'", admin(AdminAction::Kill)),
        ("BACKUP DATABASE TO '/a/../b'", admin(AdminAction::Backup)),
        ("RESTORE DATABASE FROM '/a/../b'", admin(AdminAction::Backup)),
        ("ALTER USER 'none' SET EMAIL 'x@y'", admin(AdminAction::ManageUsers)),
        ("ALTER USER 'none' SET ROLE user", admin(AdminAction::ManageUsers)),
        ("ALTER USER 'none' SET PASSWORD 'a long one, indeed'", admin(AdminAction::ManageUsers)),
        ("DROP USER 'none'", admin(AdminAction::ManageUsers)),
        ("CREATE USER 'a-user' WITH PASSWORD 'a long one, indeed' ROLE user", Needs::CreateUser(Role::User)),
        ("CREATE USER 'a-service' WITH PASSWORD 'a long one, indeed' ROLE service", Needs::CreateUser(Role::Service)),
        ("CREATE USER 'a-dba' WITH PASSWORD 'a long one, indeed' ROLE dba", Needs::CreateUser(Role::Dba)),
        ("CREATE USER 'a-system' WITH PASSWORD 'a long one, indeed' ROLE system", Needs::CreateUser(Role::System)),
        ("EXECUTE AS USER 'a-user' (SELECT 1)", Needs::ActFor(Role::User)),
        ("EXECUTE AS USER 'a-service' (SELECT 1)", Needs::ActFor(Role::Service)),
        ("EXECUTE AS USER 'a-dba' (SELECT 1)", Needs::ActFor(Role::Dba)),
        ("EXECUTE AS USER '*' (SELECT * FROM m.mail)", Needs::ActForAll),
        ("SELECT * FROM system.users", admin(AdminAction::ReadSystemTables)),
        ("SELECT * FROM sys.audit_log", admin(AdminAction::ReadSystemTables)),
        ("EXPLAIN SELECT * FROM system.jobs", admin(AdminAction::ReadSystemTables)),
        ("DROP TABLE m.none", Needs::Table(TableAction::Drop, TableClass::Own)),
        ("CREATE USER TABLE none.t (id BIGINT PRIMARY KEY)", Needs::Table(TableAction::Create, TableClass::Own)),
        (
            "CREATE STREAM TABLE none.t (id BIGINT) WITH (TTL_SECONDS = 60)",
            Needs::Table(TableAction::Create, TableClass::Own),
        ),
        ("CREATE SHARED TABLE none.t (id BIGINT PRIMARY KEY)", Needs::Table(TableAction::Create, TableClass::Private)),
    ]
}

struct World {
    server: Server,
    admin: Client,
}

fn world() -> World {
    let server = Server::start(&[]);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE m");
    admin.sql("CREATE USER TABLE m.mail (id BIGINT PRIMARY KEY, body TEXT)");
    admin.sql("CREATE STREAM TABLE m.events (id BIGINT, body TEXT) WITH (TTL_SECONDS = 3600)");
    for level in ["public", "private", "restricted", "dba"] {
        admin.sql(&format!(
            "CREATE SHARED TABLE m.{level} (id BIGINT PRIMARY KEY, body TEXT) WITH (ACCESS_LEVEL = '{level}')"
        ));
    }
    World { server, admin }
}

impl World {
    fn someone(&mut self, role: Role) -> Client {
        if role == Role::System {
            return self.server.log_in("root");
        }
        self.server.new_user(&mut self.admin, &format!("the-{role}"), role.as_str())
    }
}

/// Whoever may gets past the rights: what is answered then is another matter. Who may not is told so.
fn check(client: &mut Client, role: Role, sql: &str, needs: Needs) {
    let denied = match client.try_sql(&json!({ "sql": sql })) {
        Ok(_) => false,
        Err(failure) => {
            assert_eq!(failure.code == "PERMISSION_DENIED", failure.status == 403, "{role}: {sql}: {failure}");
            failure.code == "PERMISSION_DENIED"
        }
    };
    assert_eq!(!denied, needs.allows(role), "{role}: {sql} needs {needs:?}");
}

#[test]
fn every_statement_as_every_role_on_every_table() {
    let mut world = world();
    let mut number = 1_000;
    for right in USER_RIGHTS {
        let role = right.role;
        let mut client = world.someone(role);
        for (table, class) in TABLES {
            for (sql, action) in ON_TABLES {
                // Not supported, whoever asks.
                if table == "events" && sql.starts_with("UPDATE") {
                    continue;
                }
                number += 1;
                let sql = sql.replace("{t}", table).replace("{n}", &number.to_string());
                check(&mut client, role, &sql, Needs::Table(*action, class));
            }
            // Who sees a table in lists is who may read it.
            let listed =
                client.rows(&format!("SELECT COUNT(*) FROM information_schema.tables WHERE table_name = '{table}'"));
            let sees = Needs::Table(TableAction::Read, class).allows(role);
            assert_eq!(listed == json!([["1"]]), sees, "{role}: {table} in information_schema: {listed}");
        }
        for (sql, needs) in on_the_server() {
            check(&mut client, role, sql, needs);
            // Somebody has to be there whom the next role may act for.
            if sql.starts_with("CREATE USER '") {
                let name = sql.split('\'').nth(1).unwrap();
                let role = name.trim_start_matches("a-");
                if role != "system" {
                    let sql = format!("CREATE USER '{name}' WITH PASSWORD '{PASSWORD}' ROLE {role}");
                    let _ = world.admin.try_sql(&json!({ "sql": sql }));
                }
            }
        }
    }
}

/// The statements above are of all kinds that there are.
#[test]
fn no_kind_of_statement_is_left_out() {
    let on_tables = ON_TABLES.iter().map(|(sql, _)| sql.replace("{t}", "t").replace("{n}", "1"));
    let on_the_server = on_the_server().into_iter().map(|(sql, _)| sql.to_owned());
    let tried: BTreeSet<&str> = on_tables
        .chain(on_the_server)
        .map(|sql| parse(&sql).unwrap_or_else(|e| panic!("{sql}: {e}"))[0].statement.kind())
        .collect();
    let all: BTreeSet<&str> = Statement::KINDS.iter().copied().collect();
    assert_eq!(tried, all);
}

#[test]
fn a_service_makes_users_and_no_more_than_that() {
    let mut world = world();
    let mut service = world.someone(Role::Service);
    service.sql(&format!("CREATE USER 'made' WITH PASSWORD '{PASSWORD}' ROLE user"));
    let mut made = world.server.log_in("made");
    made.sql("INSERT INTO m.mail VALUES (1, 'mine')");
    for sql in
        ["DROP USER 'made'", "ALTER USER 'made' SET ROLE service", "ALTER USER 'made' SET PASSWORD 'another long one'"]
    {
        assert_eq!(service.refused(sql).code, "PERMISSION_DENIED", "{sql}");
    }
    assert_eq!(service.refused("CREATE USER 'weak' WITH PASSWORD 'short' ROLE user").code, "WEAK_PASSWORD");
    // The time within which a dropped user can come back is not a service's to end.
    world.admin.sql("DROP USER 'made'");
    let again = service.refused(&format!("CREATE USER 'made' WITH PASSWORD '{PASSWORD}' ROLE user"));
    assert_eq!(again.sqlstate, "40001", "{again}");
    world.admin.sql("ALTER USER 'made' RESTORE");
    assert_eq!(world.server.log_in("made").rows("SELECT body FROM m.mail"), json!([["mine"]]));
}

#[test]
fn ones_own_password_takes_the_one_before() {
    let mut world = world();
    let mut user = world.someone(Role::User);
    let change = |current: &str| format!("ALTER USER 'the-user' SET PASSWORD 'the next long one'{current}");
    assert_eq!(user.refused(&change("")).code, "PERMISSION_DENIED");
    assert_eq!(user.refused(&change(" CURRENT 'wrong'")).code, "PERMISSION_DENIED");
    user.sql(&change(&format!(" CURRENT '{PASSWORD}'")));
    let log_in = |password: &str| {
        let body = json!({ "user": "the-user", "password": password });
        world.server.client().post("/v1/api/auth/login", &body).status
    };
    assert_eq!((log_in(PASSWORD), log_in("the next long one")), (401, 200));
}
