//! The server as it is seen from outside: request ids, slow statements, `/metrics`, `/docs`; and queries that are held
//! within their bounds.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use arrow_ipc::reader::StreamReader;
use inboxdb::metrics::QueryEnd;
use serde_json::{Value, json};

use crate::http::{Client, PATIENCE};
use crate::server::{Server, eventually};

/// A query that has no end of its own.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 100000000000) a";

fn stat(admin: &mut Client, name: &str) -> i64 {
    let sql = format!("SELECT metric_value FROM system.stats WHERE metric_name = '{name}'");
    admin.rows(&sql)[0][0].as_str().unwrap().parse().unwrap()
}

#[test]
fn every_answer_has_a_request_id() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let mut ask = |given: Option<&str>, path: &str| {
        let headers: Vec<(&str, &str)> = given.map(|id| ("X-Request-ID", id)).into_iter().collect();
        let response = client.request(&format!("GET {path}"), &headers, b"").unwrap();
        response.header("x-request-id").unwrap().to_owned()
    };
    assert_eq!(ask(Some("mine-1"), "/healthz"), "mine-1");
    assert_eq!(ask(Some("mine-2"), "/nothing"), "mine-2");
    let made = ask(None, "/healthz");
    assert_eq!(made.len(), 36);
    assert_ne!(ask(None, "/healthz"), made);
    assert_ne!(ask(Some("not plain"), "/healthz"), "not plain");
    assert_ne!(ask(Some(&"x".repeat(200)), "/v1/api/sql"), "x".repeat(200));
}

#[test]
fn slow_statements_are_logged_without_their_literals() {
    let server = Server::start(&["logging.slow_query_threshold=1ms"]);
    let mut admin = server.set_up();
    let body = json!({ "sql": "SELECT count(*), 'of the heart' FROM generate_series(1, 2000000) WHERE value <> 4711" });
    let headers = [("X-Request-ID", "slow-one"), ("Content-Type", "application/json")];
    let answer = admin.request("POST /v1/api/sql", &headers, body.to_string().as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let line = eventually("the line", || {
        server
            .log()
            .lines()
            .find(|line| line.contains("slow statement") && line.contains("slow-one"))
            .map(str::to_owned)
    });
    assert!(line.contains("generate_series(?, ?)") && line.contains("admin") && line.contains("rows=1"), "{line}");
    assert!(!line.contains("heart") && !line.contains("4711"), "{line}");
    assert!(stat(&mut admin, "slow_statements") >= 1);
    let remembered =
        admin.rows("SELECT message FROM system.server_logs WHERE target = 'inboxdb::slow_query'").to_string();
    assert!(remembered.contains("generate_series(?, ?)") && !remembered.contains("4711"), "{remembered}");
}

#[test]
fn metrics_are_for_prometheus_and_name_no_user() {
    let server = Server::start(&[]);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE m");
    admin.sql("CREATE USER TABLE m.mail (id BIGINT PRIMARY KEY, body TEXT)");
    let mut alice = server.new_user(&mut admin, "alice", "user");
    alice.sql("INSERT INTO m.mail VALUES (1, 'a'), (2, 'b')");
    alice.sql("SELECT body FROM m.mail WHERE id = 1");
    alice.sql("SELECT count(*) FROM m.mail WHERE body <> 'x'");
    // A query ends a moment behind its answer.
    let response = eventually("the query has ended", || {
        let response = server.client().get("/metrics");
        response.body.contains("inboxdb_queries_running 0").then_some(response)
    });
    assert!(response.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    let text = response.body;
    for line in [
        "inboxdb_table_rows_written_total{table=\"m.mail\"} 2",
        "inboxdb_table_rows_read_total{table=\"m.mail\"} 3",
        "inboxdb_queries_ended_total{end=\"completed\"}",
        "inboxdb_http_requests_total{route=\"/v1/api/sql\",method=\"POST\",code=\"200\"}",
        "inboxdb_actors{kind=\"partition\"} 1",
        "inboxdb_commit_seconds_count{durability=\"sync\"}",
    ] {
        assert!(text.lines().any(|found| found.starts_with(line)), "no {line} in\n{text}");
    }
    assert!(!text.contains("alice"), "{text}");
    // From elsewhere, as a proxy on this machine says: administrators only.
    let from_elsewhere =
        |mut client: Client| client.request("GET /metrics", &[("X-Forwarded-For", "203.0.113.9")], b"").unwrap().status;
    assert_eq!(from_elsewhere(server.client()), 401);
    assert_eq!(from_elsewhere(alice.again()), 403);
    assert_eq!(from_elsewhere(admin.again()), 200);
}

#[test]
fn a_query_whose_caller_goes_is_stopped() {
    let server = Server::start(&["limits.statement_timeout=10m", "datafusion.threads=2"]);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE c");
    admin.sql("CREATE USER TABLE c.t (id BIGINT PRIMARY KEY)");
    let name = QueryEnd::Cancelled.as_str();
    let cases = [
        ENDLESS.to_owned(),
        // In the middle of its rows.
        "SELECT * FROM generate_series(1, 100000000000)".to_owned(),
        format!("SELECT 1; {ENDLESS}"),
        "INSERT INTO c.t SELECT count(*) FROM generate_series(1, 100000000000) a".to_owned(),
    ];
    for sql in cases {
        let before = stat(&mut admin, &format!("queries_{name}"));
        let body = json!({ "sql": sql }).to_string();
        let head = format!(
            "POST /v1/api/sql HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            admin.authorization.as_deref().unwrap(),
            body.len()
        );
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all((head + &body).as_bytes()).unwrap();
        // Besides the one that looks.
        eventually("it runs", || (stat(&mut admin, "queries_running") >= 2).then_some(()));
        drop(stream);
        eventually("its work stops", || (stat(&mut admin, &format!("queries_{name}")) > before).then_some(()));
        eventually("nothing runs", || (stat(&mut admin, "queries_running") == 1).then_some(()));
    }
    assert_eq!(admin.rows("SELECT count(*) FROM c.t"), json!([["0"]]), "what was not begun was not written");
}

#[test]
fn deadline_and_memory_have_codes_and_remedies() {
    // Long enough for the questions behind it, on a machine that is busy.
    let server = Server::start(&["limits.statement_timeout=3s"]);
    let mut admin = server.set_up();
    let failure = admin.refused(ENDLESS);
    assert_eq!((failure.code.as_str(), failure.sqlstate.as_str()), ("STATEMENT_TIMEOUT", "57014"), "{failure}");
    // It ends a moment behind its answer.
    let ended = |admin: &mut Client| stat(admin, "queries_timed_out") + stat(admin, "queries_cancelled");
    eventually("it is counted", || (ended(&mut admin) >= 1).then_some(()));

    let server = Server::start(&["datafusion.query_memory_limit=1MiB", "limits.statement_timeout=10m"]);
    let mut admin = server.set_up();
    let mut user = server.new_user(&mut admin, "alice", "user");
    let failure = user.refused("SELECT value FROM generate_series(1, 200000) ORDER BY value % 7, value DESC");
    assert_eq!((failure.code.as_str(), failure.sqlstate.as_str()), ("OUT_OF_MEMORY", "53200"), "{failure}");
    assert!(failure.message.contains("query_memory_limit") && failure.message.contains("fewer rows"), "{failure}");
    eventually("it is counted", || (stat(&mut admin, "queries_out_of_memory") == 1).then_some(()));
    assert_eq!(user.rows("SELECT 1"), json!([["1"]]));
}

/// Resident memory of the server, in MiB.
fn resident(admin: &mut Client) -> i64 {
    stat(admin, "memory_rss_mb")
}

#[test]
fn a_large_result_is_not_held_in_memory() {
    // `INBOXDB_TEST_RESULT_MIB=1024` for the real thing.
    let mib: i64 = std::env::var("INBOXDB_TEST_RESULT_MIB").map_or(96, |text| text.parse().unwrap());
    let server = Server::start(&["limits.max_result_bytes=8GiB", "limits.statement_timeout=20m"]);
    let mut admin = server.set_up();
    let sql = format!("SELECT repeat('x', 1000) AS a FROM generate_series(1, {})", mib * 1_024);
    admin.sql("SELECT repeat('x', 1000) AS a FROM generate_series(1, 2000)");
    let before = resident(&mut admin);
    for accept in ["application/json", "application/vnd.apache.arrow.stream"] {
        let body = json!({ "sql": sql }).to_string();
        let head = format!(
            "POST /v1/api/sql HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nAccept: {accept}\r\nContent-Length: {}\r\n\r\n",
            admin.authorization.as_deref().unwrap(),
            body.len()
        );
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut piece = vec![0; 1 << 20];
        let (mut read, mut most, mut looked) = (0_i64, 0, 0);
        while read < mib * 1_000 * 1_000 {
            let got = stream.read(&mut piece).unwrap();
            assert_ne!(got, 0, "it ended after {read} bytes");
            read += got as i64;
            if read - looked > 8 << 20 {
                looked = read;
                most = most.max(resident(&mut admin));
            }
        }
        assert!(most - before <= 64, "{accept}: {before} MiB became {most} MiB");
    }
}

#[test]
fn rows_as_an_arrow_stream() {
    let server = Server::start(&["limits.max_result_bytes=1MiB"]);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE a");
    admin.sql("CREATE USER TABLE a.t (id BIGINT PRIMARY KEY, body TEXT, u UUID)");
    admin.sql("INSERT INTO a.t VALUES (1, 'one', '018f0c4e-7f5a-7000-8000-0123456789ab'), (2, NULL, NULL)");
    let ask = |sql: &str| {
        let headers = [("Accept", "application/vnd.apache.arrow.stream"), ("Content-Type", "application/json")];
        admin.again().request("POST /v1/api/sql", &headers, json!({ "sql": sql }).to_string().as_bytes())
    };
    let answer = ask("SELECT id, body AS text, u FROM a.t ORDER BY id").unwrap();
    assert_eq!(answer.header("content-type"), Some("application/vnd.apache.arrow.stream"));
    let mut reader = StreamReader::try_new(answer.bytes.as_slice(), None).unwrap();
    let names: Vec<String> = reader.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["id", "text", "u"]);
    assert_eq!(reader.schema().field(2).metadata()["inboxdb:type"], "\"Uuid\"");
    let batch = reader.next().unwrap().unwrap();
    assert_eq!((batch.num_rows(), batch.column(1).null_count()), (2, 1));
    assert!(reader.next().is_none());
    // No rows: a schema all the same.
    let answer = ask("SELECT id FROM a.t WHERE id > 5").unwrap();
    let mut reader = StreamReader::try_new(answer.bytes.as_slice(), None).unwrap();
    assert!(reader.schema().field(0).name() == "id" && reader.next().is_none());
    // Errors are JSON, and so is what has no rows.
    for (sql, code) in [
        ("SELECT * FROM a.nothing", "TABLE_NOT_FOUND"),
        ("SELECT 1; SELECT 2", "INVALID_INPUT"),
        ("SELECT 1 / 0", "SQL_EXECUTION_ERROR"),
    ] {
        let answer = ask(sql).unwrap();
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (400, Some(code)), "{}", answer.body);
    }
    assert_eq!(ask("DELETE FROM a.t WHERE id = 2").unwrap().json()["results"][0]["row_count"], 1);
    // Beyond the limit, in the middle: the body has no end.
    let cut = ask("SELECT repeat('x', 1000) FROM generate_series(1, 100000)");
    assert!(cut.is_err(), "it must not look complete");
}

#[test]
fn a_plan_is_kept_for_its_caller_and_until_the_next_ddl() {
    let server = Server::start(&[]);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE p");
    admin.sql("CREATE USER TABLE p.mail (id BIGINT PRIMARY KEY, body TEXT)");
    let mut alice = server.new_user(&mut admin, "alice", "user");
    let mut bob = server.new_user(&mut admin, "bob", "user");
    let sql = "SELECT count(*), max(body), CURRENT_USER FROM p.mail WHERE body LIKE '%a%'";
    let hits = |admin: &mut Client| stat(admin, "plan_cache_hits");
    assert_eq!(alice.rows(sql), json!([["0", null, "alice"]]));
    alice.sql("INSERT INTO p.mail VALUES (1, 'a of alice')");
    let before = hits(&mut admin);
    assert_eq!(alice.rows(sql), json!([["1", "a of alice", "alice"]]), "another moment, the same plan");
    assert_eq!(hits(&mut admin), before + 1);
    assert_eq!(bob.rows(sql), json!([["0", null, "bob"]]), "another's mailbox");
    assert_eq!(hits(&mut admin), before + 1);
    admin.sql("ALTER TABLE p.mail ADD COLUMN n INT");
    assert_eq!(alice.rows(sql), json!([["1", "a of alice", "alice"]]));
    assert_eq!(hits(&mut admin), before + 1, "the catalog has changed");
    assert!(stat(&mut admin, "plan_cache_invalidations") >= 1);
    // What the moment decides is not kept.
    let now = |alice: &mut Client| alice.rows("SELECT max(NOW()) FROM p.mail")[0][0].as_i64().unwrap();
    let first = now(&mut alice);
    assert!(now(&mut alice) > first);
    // Parameters are a part of it.
    for (like, count) in [("%alice", "1"), ("%bob", "0"), ("%alice", "1")] {
        let rows = alice.sql_with("SELECT count(*) FROM p.mail WHERE body LIKE $1", json!([like]))["rows"].take();
        assert_eq!(rows, json!([[count]]));
    }
}

#[test]
fn explain_shows_ones_own_and_nobody_elses() {
    let server = Server::start(&[]);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE e");
    admin.sql("CREATE USER TABLE e.mail (id BIGINT PRIMARY KEY, body TEXT)");
    let mut alice = server.new_user(&mut admin, "alice", "user");
    let mut bob = server.new_user(&mut admin, "bob", "user");
    bob.sql("INSERT INTO e.mail VALUES (1, 'x'), (2, 'y'), (3, 'z')");
    alice.sql("INSERT INTO e.mail VALUES (1, 'x')");
    let plan = alice.rows("EXPLAIN ANALYZE SELECT count(*) FROM e.mail WHERE body <> 'q'").to_string();
    assert!(plan.contains("owner=alice") && plan.contains("output_rows=1"), "{plan}");
    assert!(!plan.contains("bob") && !plan.contains("output_rows=3"), "{plan}");
    assert_eq!(alice.refused("EXPLAIN SELECT * FROM system.users").code, "PERMISSION_DENIED");
    assert_eq!(alice.refused("EXPLAIN EXECUTE AS USER 'bob' (SELECT 1)").status, 400);
}

#[test]
fn settings_and_sessions_are_shown_and_secrets_are_not() {
    let server = Server::start(&["auth.root_password=a very secret password"]);
    let mut admin = server.log_in_as("root", "a very secret password");
    let settings = admin.rows("SELECT name, value FROM system.settings").to_string();
    assert!(settings.contains("[\"auth.root_password\",\"***\"]"), "{settings}");
    assert!(!settings.contains("very secret"), "{settings}");
    let category = admin.rows("SELECT DISTINCT category FROM system.settings WHERE name = 'server.port'");
    assert_eq!(category, json!([["server"]]));
    let cluster = admin.rows("SELECT version, os, uptime_seconds >= 0, hostname IS NOT NULL FROM system.cluster");
    assert_eq!(cluster, json!([[env!("CARGO_PKG_VERSION"), "linux", true, true]]));
}

#[test]
fn the_interface_is_documented_and_can_be_tried() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let document = client.get("/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    for (path, item) in document["paths"].as_object().unwrap() {
        let asked = path.replace(['{', '}'], "");
        for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters" && *key != "head") {
            let head = format!("{} {asked}", method.to_ascii_uppercase());
            let answer = client.again().request(&head, &[], b"").unwrap();
            let said = serde_json::from_str::<Value>(&answer.body).unwrap_or(Value::Null);
            assert!(answer.status != 405 && said["error"] != "NOT_FOUND", "{head}: {} {}", answer.status, answer.body);
        }
    }
    let page = client.get("/docs");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("x-frame-options"), Some("DENY"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
    for asset in ["/docs/docs.css", "/docs/docs.js"] {
        assert!(page.body.contains(asset));
        assert_eq!(client.get(asset).status, 200);
    }
}
