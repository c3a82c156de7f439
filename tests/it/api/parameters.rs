//! Parameters over HTTP: wherever a literal may stand, as what the statement makes of them, shared by all of its request.

use serde_json::{Value, json};

use super::World;

/// The rows of one statement with parameters.
fn rows(world: &mut World, sql: &str, params: Value) -> Value {
    world.alice.sql_with(sql, params)["rows"].take()
}

#[test]
fn a_parameter_is_what_the_statement_makes_of_it() {
    let mut world = World::new(&[]);
    world.alice.sql("INSERT INTO w.mail VALUES (3, '5', 5), (4, 'true', NULL)");
    let cases = [
        ("SELECT id FROM w.mail ORDER BY id LIMIT $1 OFFSET $2", json!([1, 1]), json!([["2"]])),
        ("SELECT id FROM w.mail ORDER BY id LIMIT $1 OFFSET $2", json!(["1", "2"]), json!([["3"]])),
        ("SELECT id FROM w.mail WHERE id IN ($1, $2) ORDER BY id", json!(["1", 2]), json!([["1"], ["2"]])),
        ("SELECT id FROM w.mail WHERE id = $1", json!(["2"]), json!([["2"]])),
        (
            "SELECT id FROM w.mail WHERE id BETWEEN $1 AND $2 AND n IS NOT NULL",
            json!(["2", 3.5]),
            json!([["2"], ["3"]]),
        ),
        // A text column meets a number and a boolean: as texts.
        ("SELECT id FROM w.mail WHERE body = $1", json!([5]), json!([["3"]])),
        ("SELECT id FROM w.mail WHERE body = $1", json!([true]), json!([["4"]])),
        ("SELECT id FROM w.mail WHERE body IN ($1, $2) ORDER BY id", json!([5, true]), json!([["3"], ["4"]])),
        ("SELECT id FROM w.mail WHERE $1 = body AND id > 0", json!([5]), json!([["3"]])),
        // Calculated with.
        ("SELECT n + $1 FROM w.mail WHERE id = 2", json!([40]), json!([["42"]])),
        ("SELECT n + $1 AS sum FROM w.mail WHERE id = 2 AND n > $2", json!(["40", "1"]), json!([[42]])),
        ("SELECT $1 + $2", json!([1, 2]), json!([["3"]])),
        ("SELECT CAST($1 AS INT), upper($2), $3 IS NULL", json!(["7", "x", null]), json!([[7, "X", true]])),
        ("SELECT v.a FROM (VALUES ($1), ($2)) AS v (a) ORDER BY 1", json!([2, 1]), json!([["1"], ["2"]])),
        ("SELECT count(*) FROM w.mail WHERE id > $1 OR body LIKE $2", json!([3, "hel%"]), json!([["2"]])),
        (
            "INSERT INTO w.mail VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET n = mail.n + $4 WHERE mail.n < $5 \
             RETURNING id, n + $6",
            json!([2, "x", "9", 40, "100", 1]),
            json!([["2", "43"]]),
        ),
        ("UPDATE w.mail SET n = $1 WHERE id = $2 RETURNING body || $3", json!(["3", "3", "!"]), json!([["5!"]])),
        (
            "UPDATE w.mail SET n = v.n FROM (VALUES ($1, $2)) AS v (id, n) WHERE mail.id = v.id AND v.n > $3 RETURNING mail.n",
            json!([4, 44, 0]),
            json!([[44]]),
        ),
        ("DELETE FROM w.mail WHERE id IN ($1, $2) RETURNING id", json!([3, "4"]), json!([["3"], ["4"]])),
    ];
    for (sql, params, expected) in cases {
        assert_eq!(rows(&mut world, sql, params.clone()), expected, "{sql} {params}");
    }
}

#[test]
fn the_statements_of_a_request_share_its_parameters() {
    let mut world = World::new(&[]);
    let sql = "INSERT INTO w.mail VALUES ($1, $2, 1); UPDATE w.mail SET n = $3 WHERE id = $1; \
               SELECT body, n FROM w.mail WHERE id = $1";
    let results = world.alice.try_sql(&json!({"sql": sql, "params": [50, "shared", 5]})).unwrap();
    assert_eq!(results.len(), 3);
    assert_eq!(results[2]["rows"], json!([["shared", 5]]));

    // One that names more than there are refuses all of them, before anything is done.
    let failure = world
        .alice
        .try_sql(&json!({"sql": "INSERT INTO w.mail VALUES ($1, 'never', 1); SELECT $2", "params": [51]}))
        .unwrap_err();
    assert_eq!(failure.code, "INVALID_PARAMETER");
    assert_eq!(world.alice.rows("SELECT id FROM w.mail WHERE id = 51"), json!([]));
}

#[test]
fn a_parameter_is_never_read_as_sql() {
    let mut world = World::new(&[]);
    let text = "'; DELETE FROM w.mail WHERE id > 0; --";
    let sql = "INSERT INTO w.mail VALUES ($1, $2, 1) ON CONFLICT (id) DO UPDATE SET body = $2 RETURNING body";
    for _ in 0..2 {
        assert_eq!(rows(&mut world, sql, json!([70, text])), json!([[text]]));
    }
    assert_eq!(world.alice.rows("SELECT count(*) FROM w.mail"), json!([["3"]]));
    assert_eq!(world.bob.rows("SELECT count(*) FROM w.mail"), json!([["0"]]));
}
