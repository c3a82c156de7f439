//! Reading cold rows: what is left out, shared or looked up changes no answer.

use serde_json::{Value, json};

use super::{BY_HAND, BY_HAND_SHARED, flush, text};
use crate::http::Client;
use crate::server::Server;

/// Of many rows, pages are left out, texts are read last and the work is shared: and no answer changes by it.
#[test]
fn no_answer_changes_when_pages_are_left_out() {
    let server = Server::start(BY_HAND_SHARED);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE c; CREATE TABLE c.t (id BIGINT PRIMARY KEY, n INT, f DOUBLE, t TEXT, at TIMESTAMP)");
    for part in 0..6 {
        let (from, to) = (part * 5_000 + 1, part * 5_000 + 5_000);
        admin.sql(&format!(
            "INSERT INTO c.t SELECT value, CASE WHEN value % 50 = 0 THEN NULL ELSE value * 7919 % 9973 END, \
             value / 8.0, \
             'text ' || (value * 31 % 1000) || repeat('.', value % 40), to_timestamp_micros(1700000000000000 + value * 1000000) \
             FROM generate_series({from}, {to})"
        ));
    }
    let mut queries: Vec<String> = Vec::new();
    for order in [
        "n DESC, id",
        "n ASC, id DESC",
        "n DESC NULLS LAST, id",
        "n NULLS FIRST, id",
        "t, id DESC",
        "f DESC, id",
        "at DESC",
    ] {
        queries.push(format!("SELECT id, n, t FROM c.t ORDER BY {order} LIMIT 25"));
        queries.push(format!("SELECT id, t, f FROM c.t WHERE id % 7 <> 3 ORDER BY {order} LIMIT 12 OFFSET 5"));
        queries.push(format!("SELECT id FROM (SELECT id, n, t, f, at FROM c.t LIMIT 9000) s ORDER BY {order} LIMIT 9"));
    }
    for condition in [
        "n > 9900",
        "n BETWEEN 100 AND 120 OR n = 7000",
        "n IS NULL AND id < 20000",
        "n <> 5 AND n < 30",
        "t LIKE 'text 99%'",
        "t >= 'text 9' AND n < 500",
        "f > 3740.0",
        "NOT (f < 3700.0)",
        "at >= TIMESTAMP '2023-11-15 06:00:00'",
        "id IN (1, 9999, 29999) OR n = 1",
        "n + id > 39000",
        "10 / (n + 1) > 1 AND n > 1 AND n < 120",
    ] {
        queries.push(format!("SELECT * FROM c.t WHERE {condition} ORDER BY id LIMIT 40"));
        queries.push(format!("SELECT count(*), sum(n), max(t), min(at), avg(n) FROM c.t WHERE {condition}"));
        queries.push(format!("SELECT n % 10, count(*), count(DISTINCT t) FROM c.t WHERE {condition} GROUP BY n % 10"));
    }
    let changes = "DELETE FROM c.t WHERE id % 1111 = 0; UPDATE c.t SET n = 9999 WHERE id IN (3, 15000, 29990)";
    let all = |admin: &mut Client| -> Vec<Value> {
        queries
            .iter()
            .map(|sql| admin.try_sql(&json!({ "sql": sql })).map_or_else(|e| json!(e.code), |r| json!(r)))
            .collect()
    };
    for round in 0..2 {
        let hot = all(&mut admin);
        assert!(flush(&server, "c.t").starts_with("completed"));
        let cold = all(&mut admin);
        for ((sql, hot), cold) in queries.iter().zip(&hot).zip(&cold) {
            assert_eq!(hot, cold, "round {round}: {sql}");
        }
        admin.sql(changes);
    }
}

/// Keys that increase are checked against the manifest alone, and so is a key that no segment can have.
#[test]
fn increasing_keys_open_no_file() {
    let server = Server::start(BY_HAND);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE c; CREATE TABLE c.t (id BIGINT PRIMARY KEY, v TEXT)");
    for part in 0..5 {
        let (from, to) = (part * 1_000 + 1, part * 1_000 + 1_000);
        admin.sql(&format!("INSERT INTO c.t SELECT value, 'cold' FROM generate_series({from}, {to})"));
        assert!(flush(&server, "c.t").starts_with("completed"));
    }
    let opened = |admin: &mut Client| -> i64 {
        let rows = admin.rows("SELECT metric_value FROM system.stats WHERE metric_name = 'segment_files_opened'");
        text(&rows[0][0]).parse().unwrap()
    };
    let before = opened(&mut admin);
    admin.sql("INSERT INTO c.t SELECT value, 'new' FROM generate_series(5001, 6000)");
    for id in 6_001..6_050 {
        admin.sql(&format!("INSERT INTO c.t VALUES ({id}, 'new')"));
    }
    assert_eq!(admin.rows("SELECT v FROM c.t WHERE id = 70000"), json!([]));
    assert_eq!(opened(&mut admin), before, "no file is opened for keys beyond all that there are");
    assert_eq!(admin.refused("INSERT INTO c.t VALUES (2500, 'again')").sqlstate, "23505");
    assert_eq!(opened(&mut admin), before + 1, "one file is opened for a key that one may have");
    let mut more = opened(&mut admin);
    assert_eq!(admin.rows("SELECT v FROM c.t WHERE id = 4321"), json!([["cold"]]));
    more = opened(&mut admin) - more;
    assert!(more <= 1, "a read by key opened {more} files");
}

/// Groups by texts are found by a file's dictionaries where it has them: the same groups, in the same order, as row by row.
#[test]
fn no_answer_changes_when_texts_are_grouped_by_their_dictionaries() {
    let server = Server::start(BY_HAND_SHARED);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE c; CREATE TABLE c.t (id BIGINT PRIMARY KEY, role TEXT, body TEXT NOT NULL, n INT)");
    let fill = |admin: &mut Client, from: u32, to: u32, words: u32| {
        admin.sql(&format!(
            "INSERT INTO c.t SELECT value, CASE WHEN value % 11 = 0 THEN NULL ELSE 'rôle ' || (value * value % {words}) END, \
             'body ' || value, value % 97 FROM generate_series({from}, {to})"
        ));
    };
    // The first file's dictionary has what no row of the second one has; the third one has too many texts for one.
    fill(&mut admin, 1, 9_000, 13);
    assert!(flush(&server, "c.t").starts_with("completed"));
    fill(&mut admin, 9_001, 12_000, 5);
    assert!(flush(&server, "c.t").starts_with("completed"));
    fill(&mut admin, 12_001, 80_000, 1_000_003);
    admin.sql("DELETE FROM c.t WHERE id BETWEEN 8000 AND 8050; UPDATE c.t SET role = 'new' WHERE id < 20");
    let queries = [
        "SELECT role, count(*), sum(n), max(id), min(body), avg(n), count(n) FROM c.t WHERE id <= 12000 GROUP BY role",
        "SELECT role, count(*) FROM c.t WHERE n > 95 GROUP BY role",
        "SELECT role, sum(n) FILTER (WHERE n > 40), count(DISTINCT n) FROM c.t WHERE n < 50 AND id < 12500 GROUP BY role",
        "SELECT role, max(role), count(*) FROM c.t WHERE role >= 'rôle 3' AND id < 12000 GROUP BY role",
        "SELECT role, n, count(*) FROM c.t WHERE n < 3 AND id < 12000 GROUP BY role, n",
        "SELECT count(*), count(1), count(role) FROM c.t",
        "SELECT count(*) FROM c.t WHERE role IS NULL",
        "SELECT count(*) FROM c.t WHERE id < 0",
        "SELECT role, count(*) FROM c.t WHERE id < 0 GROUP BY role",
        "SELECT count(*), min(k), max(c) FROM (SELECT body AS k, count(*) AS c FROM c.t GROUP BY body)",
        "SELECT role FROM c.t GROUP BY role ORDER BY role NULLS FIRST LIMIT 20",
    ];
    let all = |admin: &mut Client| queries.map(|sql| admin.rows(sql));
    let plan = |admin: &mut Client, sql: &str| admin.rows(&format!("EXPLAIN {sql}")).to_string();
    let before = all(&mut admin);
    let cut = |plan: &str| plan.contains("GroupByText: by=role") && plan.contains("dictionaries=1");
    assert!(cut(&plan(&mut admin, queries[1])), "{}", plan(&mut admin, queries[1]));
    assert!(!cut(&plan(&mut admin, queries[3])), "what a condition asks for stays a text");
    assert!(plan(&mut admin, queries[5]).contains("AggregateExec"), "it counts values, too");
    assert!(plan(&mut admin, queries[6]).contains("CountRows"));
    assert_eq!(before[7], json!([["0"]]));
    assert!(flush(&server, "c.t").starts_with("completed"));
    for ((sql, before), after) in queries.iter().zip(&before).zip(&all(&mut admin)) {
        assert_eq!(before, after, "{sql}");
    }
    assert_eq!(before[9], json!([["79949", "body 1", "1"]]));
}
