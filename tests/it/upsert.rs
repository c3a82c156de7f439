//! Upserts of the real program: over hot and cold rows alike, counted once each whoever else writes, and in topics as what
//! they turned out to be.

use serde_json::json;

use crate::cold::{BY_HAND, flush};
use crate::server::Server;

/// Writers that all add to one row.
const WRITERS: usize = 4;
const ADDITIONS: usize = 25;

#[test]
fn cold_rows_are_met_as_hot_ones_are() {
    let server = Server::start(BY_HAND);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE u");
    for kind in ["USER", "SHARED"] {
        let table = format!("u.{}_rows", kind.to_lowercase());
        admin.sql(&format!("CREATE {kind} TABLE {table} (a INT, b TEXT, n INT, PRIMARY KEY (a, b))"));
        admin.sql(&format!("INSERT INTO {table} VALUES (1, 'x', 1), (2, 'x', 2), (3, 'x', 3)"));
        assert!(flush(&server, &table).starts_with("completed"), "{table}");
        admin.sql(&format!("INSERT INTO {table} VALUES (4, 'x', 4)"));
        let sql = format!(
            "INSERT INTO {table} AS t VALUES (1, 'x', 10), (4, 'x', 40), (5, 'x', 5), (3, 'x', 0) \
             ON CONFLICT (a, b) DO UPDATE SET n = t.n + EXCLUDED.n WHERE EXCLUDED.n > 0 RETURNING a, n"
        );
        assert_eq!(admin.rows(&sql), json!([[1, 11], [4, 44], [5, 5]]), "{table}");
        let sql = format!("INSERT INTO {table} VALUES (2, 'x', 0), (6, 'x', 6) ON CONFLICT DO NOTHING RETURNING a");
        assert_eq!(admin.rows(&sql), json!([[6]]), "{table}");
        let sql = format!(
            "INSERT INTO {table} VALUES (2, 'x', 22) ON CONFLICT (a, b) DO UPDATE SET n = EXCLUDED.n RETURNING *"
        );
        assert_eq!(admin.rows(&sql)[0][2], json!(22), "{table}");
        let expected = json!([[1, 11], [2, 22], [3, 3], [4, 44], [5, 5], [6, 6]]);
        let rows = format!("SELECT a, n FROM {table} ORDER BY a");
        assert_eq!(admin.rows(&rows), expected, "{table}");
        assert!(flush(&server, &table).starts_with("completed"), "{table}");
        assert_eq!(admin.rows(&rows), expected, "{table}, flushed");
        let sql = format!("UPDATE {table} AS t SET n = s.n FROM {table} AS s WHERE s.a = t.a + 1 RETURNING t.a, t.n");
        // They come in the order of their positions.
        let mut moved = admin.rows(&sql);
        moved.as_array_mut().unwrap().sort_by_key(|row| row[0].as_i64());
        assert_eq!(moved, json!([[1, 22], [2, 3], [3, 44], [4, 5], [5, 6]]), "{table}, cold");
        let sql = format!("DELETE FROM {table} AS t USING {table} AS s WHERE s.n = t.n AND s.a > t.a RETURNING t.a");
        assert_eq!(admin.rows(&sql), json!([[5]]), "{table}");
    }
}

/// `n = t.n + 1` is computed where no other write can change the row.
#[test]
fn no_addition_is_lost() {
    let server = Server::start(&[]);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE u; CREATE SHARED TABLE u.counts (id INT PRIMARY KEY, n INT)");
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                let mut client = server.log_in("admin");
                for _ in 0..ADDITIONS {
                    let sql = "INSERT INTO u.counts VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET n = counts.n + 1";
                    client.sql(sql);
                }
            });
        }
    });
    assert_eq!(admin.rows("SELECT n FROM u.counts"), json!([[WRITERS * ADDITIONS]]));
}

#[test]
fn topics_get_what_an_upsert_turned_out_to_be() {
    let server = Server::start(&[]);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE u; CREATE SHARED TABLE u.t (id INT PRIMARY KEY, n INT); CREATE TOPIC u.changes");
    for op in ["INSERT", "UPDATE", "DELETE"] {
        admin.sql(&format!("ALTER TOPIC u.changes ADD SOURCE u.t ON {op}"));
    }
    for n in [1, 2] {
        let values = format!("(1, {n}), ({n}{n}, 0)");
        admin.sql(&format!("INSERT INTO u.t VALUES {values} ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n"));
    }
    admin.sql("INSERT INTO u.t VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n");
    admin.sql("DELETE FROM u.t USING (VALUES (1)) AS v (id) WHERE t.id = v.id");
    let result = admin.sql("CONSUME FROM u.changes FROM EARLIEST LIMIT 10")[0].take();
    let column = result["schema"].as_array().unwrap().iter().position(|column| column["name"] == "op").unwrap();
    let ops: Vec<&str> = result["rows"].as_array().unwrap().iter().map(|row| row[column].as_str().unwrap()).collect();
    assert_eq!(ops, ["insert", "insert", "update", "insert", "delete"]);
}
