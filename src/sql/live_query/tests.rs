//! What is refused, what is shown, and LQ-4: a live query selects what SELECT selects.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use arrow::compute::filter_record_batch;

use super::*;
use crate::error::ErrorCode;
use crate::model::{DataType, Param, Role, Seq, UserId, Value};
use crate::sql::engine::world::{World, json, parse, text};
use crate::storage::{BatchBuilder, Order, testing};

async fn live(world: &World, ctx: QueryContext, sql: &str) -> Result<Arc<dyn LiveQuery>> {
    world.engine.compile_live(ctx, &parse(sql)).await
}

async fn alices(world: &World, sql: &str) -> Arc<dyn LiveQuery> {
    live(world, world.ctx("alice", Role::User), sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Alice's rows that the query selects, as it shows them.
fn selected(world: &World, query: &Arc<dyn LiveQuery>) -> Result<RecordBatch> {
    let view = world.view();
    let table = query.table().clone();
    let owner = table.owner_for(&UserId::parse("alice").unwrap());
    let mut rows = if query.all_owners() {
        let mut rows = BatchBuilder::all_owners(table.clone(), Arc::default(), None);
        for (owner, row) in testing::feed(&view, &table, Seq::ZERO..=Seq::MAX, Order::Ascending) {
            if !row.deleted || query.sees_tombstones() {
                rows.push(&owner, &row)?;
            }
        }
        rows
    } else {
        let mut rows = BatchBuilder::new(table.clone(), None);
        for row in testing::rows(&view, &table, &owner, Seq::ZERO..=Seq::MAX, Order::Ascending) {
            if !row.deleted || query.sees_tombstones() {
                rows.push(&owner, &row)?;
            }
        }
        rows
    };
    let rows = rows.finish()?;
    let rows = filter_record_batch(&rows, &query.matches(&rows)?).map_err(Error::internal)?;
    query.project(&rows)
}

#[tokio::test]
async fn what_cannot_be_kept_live_is_refused_by_name() {
    let world = World::new();
    let cases = [
        ("SELECT * FROM notes", "Query must use namespace.table format"),
        ("SELECT * FROM demo.notes JOIN demo.rooms ON true", "JOIN"),
        ("SELECT * FROM demo.notes, demo.rooms", "several tables"),
        ("SELECT n FROM demo.notes GROUP BY n", "GROUP BY"),
        ("SELECT count(*) FROM demo.notes HAVING count(*) > 1", "HAVING"),
        ("SELECT * FROM demo.notes ORDER BY id", "ORDER BY"),
        ("SELECT * FROM demo.notes LIMIT 5", "LIMIT"),
        ("SELECT DISTINCT n FROM demo.notes", "DISTINCT"),
        ("WITH x AS (SELECT 1) SELECT * FROM demo.notes", "WITH"),
        ("SELECT * FROM (SELECT * FROM demo.notes) x", "a sub-query"),
        ("SELECT * FROM demo.notes WHERE id IN (SELECT 1)", "a sub-query"),
        ("SELECT * FROM demo.notes WHERE EXISTS (SELECT 1)", "a sub-query"),
        ("SELECT (SELECT 1) FROM demo.notes", "a sub-query"),
        ("SELECT id FROM demo.notes UNION ALL SELECT 1", "UNION"),
        ("SELECT count(*) FROM demo.notes", "an aggregate"),
        ("SELECT row_number() OVER () FROM demo.notes", "a window function"),
        ("SELECT id, _seq FROM demo.notes", "_seq"),
        ("SELECT n._DELETED FROM demo.notes n", "_deleted"),
        ("SELECT id AS _seq FROM demo.notes", "_seq"),
        ("SELECT id, * FROM demo.notes", "unique"),
        ("SELECT n AS x, body AS x FROM demo.notes", "unique"),
        ("SELECT * FROM demo.notes WHERE at < NOW()", "NOW()"),
        ("SELECT * FROM demo.notes WHERE day = CURRENT_DATE", "CURRENT_DATE()"),
        ("SELECT * FROM demo.notes WHERE id < SNOWFLAKE_ID()", "SNOWFLAKE_ID()"),
        ("SELECT random() FROM demo.notes", "RANDOM()"),
        ("SELECT 1", "FROM namespace.table"),
        ("VALUES (1)", "VALUES"),
        ("DELETE FROM demo.notes", "only a SELECT"),
        ("SELECT * FROM generate_series(1, 2)", "plain table"),
        ("SELECT * FROM information_schema.tables", "information_schema.tables"),
        ("SELECT * FROM demo.notes WHERE unknown_fn(id)", "unknown_fn"),
    ];
    for (sql, words) in cases {
        let error = live(&world, world.ctx("alice", Role::User), sql).await.expect_err(sql);
        assert_eq!(error.code().live_wire(), "INVALID_SQL", "{sql}: {error}");
        assert!(error.to_string().contains(words), "{sql}: {error}");
    }
    let all = QueryContext { scope: OwnerScope::All, ..world.ctx("agent", Role::Service) };
    assert_eq!(live(&world, all, "SELECT * FROM demo.rooms").await.unwrap_err().code(), ErrorCode::Unsupported);
    for (sql, code) in [
        ("SELECT * FROM demo.nowhere", ErrorCode::TableNotFound),
        ("SELECT bdy FROM demo.notes", ErrorCode::ColumnNotFound),
        ("SELECT * FROM demo.vault", ErrorCode::PermissionDenied),
    ] {
        assert_eq!(live(&world, world.ctx("alice", Role::User), sql).await.unwrap_err().code(), code, "{sql}");
    }
}

#[tokio::test]
async fn a_projection_shows_its_columns_and_seq() {
    let mut world = World::new();
    let seq = world.put("notes", "alice", &[Value::Int(1), text("one"), Value::Int(10)]);
    let names = |query: &Arc<dyn LiveQuery>| {
        query.schema().columns().iter().map(|column| column.name.clone()).collect::<Vec<_>>().join(" ")
    };
    let cases = [
        (
            "SELECT * FROM demo.notes",
            "id body n score price at day flag room _seq _deleted",
            format!(r#"["1","one",10,null,null,null,null,null,null,"{seq}",false]"#),
        ),
        (
            "SELECT body AS text, n + 1 AS next FROM demo.notes x WHERE x.id = 1",
            "text next",
            format!(r#"["one","11","{seq}"]"#),
        ),
        (
            "SELECT upper(body) AS loud, id, CURRENT_USER AS me FROM demo.notes",
            "loud id me",
            format!(r#"["ONE","1","alice","{seq}"]"#),
        ),
    ];
    for (sql, columns, row) in cases {
        let query = alices(&world, sql).await;
        assert_eq!(names(&query), columns, "{sql}");
        let rows = selected(&world, &query).unwrap();
        assert_eq!(json(&[rows]), row, "{sql}");
    }
    let query = alices(&world, "SELECT id, body AS text FROM demo.notes").await;
    assert_eq!(query.schema().columns()[0].data_type, DataType::BigInt);
    assert!(query.schema().columns()[0].flags.pk && !query.schema().columns()[1].flags.pk);

    let all = QueryContext { scope: OwnerScope::All, ..world.ctx("agent", Role::Service) };
    let query = live(&world, all, "SELECT * FROM demo.notes WHERE _user_id = 'alice'").await.unwrap();
    assert!(query.all_owners() && names(&query).ends_with("_seq _deleted _user_id _storage_id"));
    let rows = selected(&world, &query).unwrap();
    assert!(json(&[rows]).ends_with(r#"false,"alice","local"]"#));
}

#[tokio::test]
async fn equal_queries_have_one_identity() {
    let world = World::new();
    let bob = || world.ctx("bob", Role::User);
    let id = |query: Arc<dyn LiveQuery>| query.identity().to_owned();
    let plain = id(alices(&world, "SELECT * FROM demo.rooms WHERE name = 'a'").await);
    assert_eq!(plain, id(live(&world, bob(), "select  *  from demo.rooms where name='a'").await.unwrap()));
    let ctx = QueryContext { params: Arc::new([Param::Text("a".into())]), ..bob() };
    assert_eq!(plain, id(live(&world, ctx, "SELECT * FROM demo.rooms WHERE name = $1").await.unwrap()));
    let own = "SELECT * FROM demo.rooms WHERE name = CURRENT_USER";
    assert_ne!(id(alices(&world, own).await), id(live(&world, bob(), own).await.unwrap()));
    assert_eq!(id(alices(&world, own).await), id(alices(&world, own).await));
}

/// LQ-4's predicates: each form that a WHERE can take on one table.
const PREDICATES: &[&str] = &[
    "true",
    "NULL",
    "flag",
    "NOT flag",
    "id = 3",
    "id <> 3 AND n > 0",
    "id IN (1, 3, 5)",
    "id NOT IN (1, 3, 5)",
    "n IN (1, NULL)",
    "n BETWEEN -2 AND 2",
    "n NOT BETWEEN 0 AND 3",
    "body IS NULL",
    "body IS NOT NULL AND flag IS NOT TRUE",
    "body LIKE 'a%'",
    "body NOT LIKE '%b%'",
    "body ILIKE '%B_'",
    "body ~ '^[ab]+$'",
    "upper(body) = 'AB'",
    "length(body) > 1 OR body = ''",
    "coalesce(n, 0) = 0",
    "CASE WHEN n > 0 THEN flag ELSE score > 0 END",
    "n + 1 > id",
    "n * 2 = id OR n % 2 = 1",
    "abs(n) <= 1",
    "score > 0.5",
    "score = n",
    "price >= 0.50",
    "price * 2 < 1",
    "CAST(n AS TEXT) = body",
    "CAST(score AS INT) = 0",
    "id = '3' OR room = '0190a3c4-7b1e-7cc3-98c4-dc0c0c07398f'",
    "id IN ('1', '4')",
    "at > '2026-01-01T00:00:00Z'",
    "at + INTERVAL '1 day' > TIMESTAMP '2026-01-02 00:00:00'",
    "day = DATE '2026-01-01'",
    "date_part('year', at) = 2026",
    "(flag OR n IS NULL) AND NOT (body = 'a' OR id > 4)",
    "n IS DISTINCT FROM 1",
    "body || 'x' = 'abx'",
    "body = CURRENT_USER",
    "nullif(n, 1) IS NULL",
    "substr(body, 1, 1) IN ('a', 'b')",
    "_seq > 0 AND id < 4",
    "_deleted",
    "NOT _deleted AND id < 4",
    "_deleted OR NOT _deleted",
];

fn cells() -> impl Strategy<Value = Vec<Value>> {
    let bodies = prop::sample::select(vec!["", "a", "ab", "b", "xbY", "1", "alice"]);
    // 2026-01-01 in microseconds and in days.
    let (moment, day) = (1_767_225_600_000_000i64, 20_454i64);
    let nullable = |value: BoxedStrategy<Value>| prop::option::of(value).prop_map(|v| v.unwrap_or(Value::Null));
    (
        nullable(bodies.prop_map(text).boxed()),
        nullable((-3i64..4).prop_map(Value::Int).boxed()),
        nullable(prop::sample::select(vec![0.0, 0.5, 1.0, -1.5]).prop_map(Value::Float).boxed()),
        nullable((0i128..150).prop_map(Value::Decimal).boxed()),
        nullable((-1i64..2).prop_map(move |d| Value::Int(moment + d * 86_400_000_000)).boxed()),
        nullable((-1i64..2).prop_map(move |d| Value::Int(day + d)).boxed()),
        nullable(any::<bool>().prop_map(Value::Bool).boxed()),
    )
        .prop_map(|(body, n, score, price, at, day, flag)| vec![body, n, score, price, at, day, flag])
}

#[test]
fn a_live_query_selects_what_select_selects() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = ProptestConfig { cases: 2, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(rows in prop::collection::vec(cells(), 8..40))| {
        let mut world = World::new();
        for (row, id) in rows.iter().zip(1i64..) {
            let mut values = vec![Value::Int(id)];
            values.extend(row.iter().cloned());
            world.put("notes", "alice", &values);
        }
        world.delete("notes", "alice", Value::Int(2));
        runtime.block_on(async {
            for predicate in PREDICATES {
                let sql = format!("SELECT * FROM demo.notes WHERE {predicate}");
                let answer = world.run(world.ctx("alice", Role::User), &sql).await;
                let answer = answer.map_err(|error| TestCaseError::fail(format!("{sql}: {error}")))?;
                let query = alices(&world, &sql).await;
                let live = selected(&world, &query).unwrap();
                prop_assert_eq!(json(std::slice::from_ref(&live)), answer, "{}", sql);
                if let Some(equality) = query.equality() {
                    for (row, shown) in (0..live.num_rows()).map(|row| (row, live.slice(row, 1))) {
                        let shown = json(&[shown.project(&[shown.schema().index_of(&equality.column).unwrap()]).unwrap()]);
                        let value = match &equality.value {
                            EqualityValue::Int(value) => value.to_string(),
                            EqualityValue::Text(value) => value.to_string(),
                        };
                        prop_assert_eq!(shown.trim_matches(['[', ']', '"']), value, "{} {}", sql, row);
                    }
                }
            }
            Ok(())
        })?;
    });
}

#[tokio::test]
async fn a_filter_tells_what_it_can_be_found_by() {
    let world = World::new();
    let of = async |predicate: &str| {
        let query = alices(&world, &format!("SELECT id FROM demo.notes x WHERE {predicate}")).await;
        query.equality().map(|equality| format!("{} {:?}", equality.column, equality.value))
    };
    for (predicate, expected) in [
        ("id = 3", Some("id Int(3)")),
        ("x.n = 1 + 1", Some("n Int(2)")),
        ("'ab' = body", Some(r#"body Text("ab")"#)),
        ("n > 2 AND (body = 'b' AND flag)", Some(r#"body Text("b")"#)),
        ("id = '3'", Some("id Int(3)")),
        ("body = CURRENT_USER", Some(r#"body Text("alice")"#)),
        ("id = 3 OR n = 1", None),
        ("NOT id = 3", None),
        ("upper(body) = 'AB'", None),
        ("score = 1", None),
        ("id = n", None),
        ("id > 3", None),
    ] {
        assert_eq!(of(predicate).await.as_deref(), expected, "{predicate}");
    }
}

#[tokio::test]
async fn a_row_that_makes_the_predicate_fail_is_an_error_not_a_silence() {
    let mut world = World::new();
    world.put("notes", "alice", &[Value::Int(1), text("x"), Value::Int(0)]);
    let query = alices(&world, "SELECT * FROM demo.notes WHERE 1 / n > 0").await;
    let error = selected(&world, &query).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Execution, "{error}");
}
