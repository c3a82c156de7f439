//! Statements that cost more than they look, and more of them than anybody needs.

use serde_json::{Value, json};

use super::Target;
use crate::socket::Socket;

/// Proves that no text makes the server compute without end: it is refused by its shape, or stopped in time, and the next
/// statement is answered.
#[test]
fn texts_that_blow_up_end() {
    let mut target = Target::new(&["limits.statement_timeout=2s"]);
    target.alice.sql(&format!("INSERT INTO t.mail VALUES (1, '{}')", "a".repeat(30_000)));
    let tables = |n: usize| (0..n).map(|i| format!("t.mail m{i}")).collect::<Vec<_>>().join(", ");
    let refused = [
        "SELECT 1;".repeat(10_000),
        format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("SELECT * FROM t.mail WHERE {}true{}", "NOT (".repeat(10_000), ")".repeat(10_000)),
        format!("SELECT COUNT(*) FROM {}", tables(10_000)),
        format!("SELECT COUNT(*) FROM {}", tables(65)),
        format!("SELECT body LIKE '{}' FROM t.mail", "%a".repeat(50_000)),
        format!("SELECT body ~ '{}' FROM t.mail", "(a*)*".repeat(10_000)),
        format!("SELECT regexp_replace(body, '{}', 'x') FROM t.mail", "(a|aa)+".repeat(1_000)),
        "SELECT body ~ '((((a{1,1000}){1,1000}){1,1000}){1,1000})' FROM t.mail".to_owned(),
        format!("SELECT {}", vec!["1"; 100_000].join("+")),
        "SELECT repeat('x', 2000000000)".to_owned(),
        "SELECT array_repeat('x', 2000000000)".to_owned(),
        "SELECT range(0, 2000000000)".to_owned(),
        "SELECT array_length(generate_series(1, 4000000000, 2))".to_owned(),
        "SELECT lpad('x', 2000000000)".to_owned(),
        "SELECT length(rpad(body, 2000000000, 'ab')) FROM t.mail".to_owned(),
        "SELECT length(repeat(body, 1000000)) FROM t.mail".to_owned(),
        "SELECT repeat(repeat('x', 100000), 100000)".to_owned(),
        "WITH RECURSIVE x AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM x) SELECT COUNT(*) FROM x".to_owned(),
    ];
    for sql in &refused {
        let answer = target.alice.post("/v1/api/sql", &json!({ "sql": sql }));
        assert!(
            (400..600).contains(&answer.status) && answer.status != 500,
            "{sql:.80}: {} {:.300}",
            answer.status,
            answer.body
        );
        assert_eq!(target.alice.rows("SELECT 1"), json!([["1"]]), "after {sql:.80}");
    }
    // Regular expressions and LIKE take time in proportion to the text, whatever the pattern.
    for sql in [
        "SELECT body ~ '^(a+)+$' FROM t.mail",
        "SELECT body ~ '(a|a)*b' FROM t.mail",
        "SELECT body ~ '(.*)(.*)(.*)(.*)(.*)[^a]' FROM t.mail",
        "SELECT body LIKE '%a%a%a%a%a%a%a%a%a%a%a%a%b' FROM t.mail",
        "SELECT body SIMILAR TO '(a+)+b' FROM t.mail",
    ] {
        let answer = target.alice.post("/v1/api/sql", &json!({ "sql": sql }));
        assert!(answer.status == 200 || answer.status == 400, "{sql}: {}", answer.body);
    }
}

/// Proves that a cross join of everything with everything is stopped, and its memory given back.
#[test]
fn cross_joins_are_stopped() {
    let mut target = Target::new(&["limits.statement_timeout=1s"]);
    let rows = (0..500).map(|n| format!("({n}, 'x')")).collect::<Vec<_>>().join(",");
    target.alice.sql(&format!("INSERT INTO t.mail VALUES {rows}"));
    let many = (0..12).map(|i| format!("t.mail m{i}")).collect::<Vec<_>>().join(" CROSS JOIN ");
    for sql in [
        format!("SELECT COUNT(*) FROM {many} WHERE m0.id + m1.id + m2.id > m3.id"),
        format!("SELECT * FROM {many} ORDER BY m0.body, m1.id"),
    ] {
        let failure = target.alice.refused(&sql);
        assert!(
            ["STATEMENT_TIMEOUT", "OUT_OF_MEMORY", "RESULT_TOO_LARGE"].contains(&failure.code.as_str()),
            "{failure}"
        );
        assert_eq!(target.alice.rows("SELECT COUNT(*) FROM t.mail"), json!([["500"]]));
    }
}

/// Proves that subscriptions have a number, per user and over all of their sockets, and that what is refused takes nothing.
#[test]
fn subscriptions_have_a_number() {
    let target = Target::new(&["websocket.max_subscriptions_per_user=50", "websocket.max_messages_per_sec=100000"]);
    let mut sockets: Vec<Socket> =
        (0..4).map(|_| Socket::open_as(target.server.address, target.alice.token(), "?compress=false")).collect();
    let mut held = 0;
    for n in 0..2_000 {
        let socket = &mut sockets[n % 4];
        socket.subscribe(&format!("s{n}"), "SELECT * FROM t.mail", Value::Null);
        let answer = socket.json();
        match answer["type"].as_str() {
            Some("subscription_ack") => held += 1,
            _ => assert_eq!(answer["code"], "SUBSCRIPTION_LIMIT_EXCEEDED", "{answer}"),
        }
    }
    assert_eq!(held, 50);
    let mut admin = target.admin.again();
    assert_eq!(admin.rows("SELECT COUNT(*) FROM system.live WHERE user_id = 'alice'"), json!([["50"]]));
}
