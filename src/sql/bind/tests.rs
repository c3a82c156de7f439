//! Tables of statements: the operations each one binds to, and why each wrong one is refused.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    StringViewArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{Float32Type, Int32Type};

use super::*;
use crate::error::{Error, Result};
use crate::model::{Owner, PkBytes, Seq, Value};
use crate::sql::define::tests::define;
use crate::sql::parse::{parse, parse_whole};
use crate::sql::statement::ParsedStatement;
use crate::sql::statement::Statement;
use crate::storage::{keys, row_codec};

pub(crate) const NOW_US: i64 = 1_750_000_000_000_000;

/// What a context borrows. Tables: `msgs` (USER), `all_types` (SHARED), `pairs` with a composite key.
pub(crate) struct Fixture {
    pub(crate) catalog: Catalog,
    user: UserId,
    ids: IdSource,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let mut catalog = Catalog::default();
        let tables = [
            "CREATE USER TABLE msgs (id BIGINT PRIMARY KEY, body TEXT NOT NULL, n INT DEFAULT 7, at TIMESTAMP DEFAULT NOW())",
            "CREATE TABLE all_types (id INT PRIMARY KEY, b BOOL, s SMALLINT, f FLOAT, d DOUBLE, m DECIMAL(6,2), \
             y BYTES, da DATE, ti TIME, ts TIMESTAMP, dt DATETIME, u UUID, j JSON, v EMBEDDING(2)) \
             WITH (DURABILITY = 'buffered')",
            "CREATE TABLE pairs (a TEXT, b BIGINT, c INT DEFAULT 1, PRIMARY KEY (b, a))",
            "CREATE TABLE made (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), u UUID DEFAULT UUID_V7(), \
             l TEXT DEFAULT ULID(), who TEXT DEFAULT CURRENT_USER())",
            "CREATE TABLE exact (p DECIMAL(6,2) PRIMARY KEY, x INT)",
        ];
        for sql in tables {
            catalog.insert_table(Arc::new(define(sql).unwrap()));
        }
        Self { catalog, user: UserId::parse("alice").unwrap(), ids: IdSource::new(1, Seq::ZERO) }
    }

    pub(crate) fn context<'a>(&'a self, params: &'a [Param]) -> BindContext<'a> {
        BindContext {
            catalog: &self.catalog,
            namespace: "chat",
            user: &self.user,
            params,
            now_us: NOW_US,
            ids: &self.ids,
            durability: Durability::Sync,
            request_durability: None,
        }
    }

    fn bind(&self, sql: &str, params: &[Param]) -> Result<Bound> {
        self.bind_parsed(parse(sql)?, params)
    }

    fn bind_parsed(&self, mut statements: Vec<ParsedStatement>, params: &[Param]) -> Result<Bound> {
        let ctx = self.context(params);
        let statement = statements.remove(0).statement;
        Ok(match &statement {
            Statement::Insert(insert) => match bind_insert(&ctx, insert)?.rows {
                InsertRows::Rows(command) => Bound::Command(command),
                InsertRows::Query { table, columns, query } => Bound::Insert(table, columns, query.to_string()),
            },
            Statement::Update(update) => Bound::of(bind_update(&ctx, update)?.change),
            Statement::Delete(delete) => Bound::of(bind_delete(&ctx, delete)?.change),
            other => panic!("{other:?}"),
        })
    }

    fn command(&self, sql: &str, params: &[Param]) -> WriteCommand {
        match self.bind(sql, params) {
            Ok(Bound::Command(command)) => command,
            other => panic!("{sql}: {other:?}"),
        }
    }

    /// The values of the rows that an INSERT of constants makes.
    fn rows(&self, sql: &str, params: &[Param]) -> Vec<Vec<Value>> {
        let command = self.command(sql, params);
        command.ops.iter().map(|op| row_of(&command.table, op)).collect()
    }

    #[track_caller]
    fn check_errors(&self, cases: &[(&str, &[Param], &str)]) {
        for (sql, params, expected) in cases {
            match self.bind(sql, params) {
                Err(error) => assert_eq!(error.to_string(), *expected, "{sql}"),
                Ok(bound) => panic!("{sql} binds to {bound:?}"),
            }
        }
    }
}

#[derive(Debug)]
enum Bound {
    Command(WriteCommand),
    Change(ComputedChange),
    Insert(Arc<TableMeta>, Vec<usize>, String),
}

impl Bound {
    fn of(change: BoundChange) -> Self {
        match change {
            BoundChange::ByKey(command) => Bound::Command(command),
            BoundChange::ByQuery(change) => Bound::Change(change),
        }
    }
}

fn row_of(table: &TableMeta, op: &WriteOp) -> Vec<Value> {
    let (WriteOp::Insert { pk, row } | WriteOp::Replace { pk, row, .. }) = op else { panic!("{op:?}") };
    let values = row_codec::decode(table, row).unwrap();
    assert_eq!(keys::encode_pk(table, &values, 1).unwrap(), *pk);
    values
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[test]
fn an_insert_of_constants_becomes_rows() {
    let fixture = Fixture::new();
    let now = Value::Int(NOW_US);
    let params = [Param::Int(9), Param::Text("hi".into()), Param::Null];
    let cases: Vec<(&str, Vec<Vec<Value>>)> = vec![
        (
            "INSERT INTO msgs (body, id) VALUES ('a', 1)",
            vec![vec![Value::Int(1), text("a"), Value::Int(7), now.clone()]],
        ),
        (
            "INSERT INTO chat.Msgs VALUES (-1, $2, DEFAULT, NULL), ($1, 5, $3, '2026-01-01')",
            vec![
                vec![Value::Int(-1), text("hi"), Value::Int(7), Value::Null],
                vec![Value::Int(9), text("5"), Value::Null, Value::Int(1_767_225_600_000_000)],
            ],
        ),
        (
            "INSERT INTO msgs (id, body, n, at) VALUES (('4'), CAST(5 AS TEXT), '6'::INT, DATE '1970-01-02')",
            vec![vec![Value::Int(4), text("5"), Value::Int(6), Value::Int(86_400_000_000)]],
        ),
        (
            "INSERT INTO msgs (id, body, at) VALUES (+4, CURRENT_USER, CURRENT_TIMESTAMP)",
            vec![vec![Value::Int(4), text("alice"), Value::Int(7), now]],
        ),
    ];
    for (sql, expected) in cases {
        assert_eq!(fixture.rows(sql, &params), expected, "{sql}");
    }
}

#[test]
fn every_type_takes_its_literals() {
    let fixture = Fixture::new();
    let sql = "INSERT INTO all_types VALUES (1, TRUE, -3, 1.5, 2.5e3, 12.345, X'6869', '1970-01-02', '00:00:01', \
               '1970-01-01 00:00:01', TIMESTAMP '1970-01-01 00:00:02', '01010101-0101-0101-0101-010101010101', \
               '{\"a\":1}', ARRAY[1, -2.5])";
    let expected = vec![
        Value::Int(1),
        Value::Bool(true),
        Value::Int(-3),
        Value::Float(1.5),
        Value::Float(2500.0),
        Value::Decimal(1235),
        Value::Bytes(b"hi".to_vec()),
        Value::Int(1),
        Value::Int(1_000_000),
        Value::Int(1_000_000),
        Value::Int(2_000_000),
        Value::Uuid([1; 16]),
        text("{\"a\":1}"),
        Value::Vector(vec![1.0, -2.5]),
    ];
    assert_eq!(fixture.rows(sql, &[]), vec![expected.clone()]);
    assert_eq!(fixture.rows(&sql.replace("ARRAY[1, -2.5]", "'[1, -2.5]'"), &[]), vec![expected]);
}

#[test]
fn generated_defaults_differ_from_row_to_row() {
    let fixture = Fixture::new();
    let mut rows = fixture.rows("INSERT INTO made (who) VALUES (DEFAULT), ('bob')", &[]);
    rows.extend(fixture.rows("INSERT INTO made DEFAULT VALUES", &[]));
    rows.extend(fixture.rows("INSERT INTO made VALUES (SNOWFLAKE_ID(), UUID_V7(), ULID(), CURRENT_USER_ID())", &[]));
    for pair in rows.windows(2) {
        for (column, (a, b)) in pair[0].iter().zip(&pair[1]).take(3).enumerate() {
            assert_ne!(a, b, "column {column}");
        }
    }
    let who: Vec<&Value> = rows.iter().map(|row| &row[3]).collect();
    assert_eq!(who, [&text("alice"), &text("bob"), &text("alice"), &text("alice")]);
}

#[test]
fn commands_know_owner_and_durability() {
    let fixture = Fixture::new();
    let sql = |table: &str| format!("DELETE FROM {table} WHERE id = 1");
    let user = fixture.command(&sql("msgs"), &[]);
    assert_eq!((user.owner, user.durability), (Owner::User(fixture.user.clone()), Durability::Sync));
    let shared = fixture.command(&sql("all_types"), &[]);
    assert_eq!((shared.owner, shared.durability), (Owner::Shared, Durability::Buffered));
    let mut ctx = fixture.context(&[]);
    ctx.request_durability = Some(Durability::Sync);
    let Statement::Delete(delete) = parse(&sql("all_types")).unwrap().remove(0).statement else { panic!() };
    let BoundChange::ByKey(command) = bind_delete(&ctx, &delete).unwrap().change else { panic!() };
    assert_eq!(command.durability, Durability::Sync, "the request's wish comes first");
}

#[test]
fn what_is_no_constant_goes_through_a_query() {
    let fixture = Fixture::new();
    let cases = [
        ("INSERT INTO msgs (id, body) VALUES (1, 'a'), (1 + 1, 'b')", vec![0, 1], "VALUES (1, 'a'), (1 + 1, 'b')"),
        ("INSERT INTO msgs (body, id) SELECT body, id FROM pairs", vec![1, 0], "SELECT body, id FROM pairs"),
        ("INSERT INTO msgs (id, body) VALUES (1, upper('a'))", vec![0, 1], "VALUES (1, upper('a'))"),
        ("INSERT INTO msgs (id, body) VALUES (1, 'a') LIMIT 1", vec![0, 1], "VALUES (1, 'a') LIMIT 1"),
        ("INSERT INTO msgs (id, body) VALUES (CAST('x' AS INT), 'a')", vec![0, 1], "VALUES (CAST('x' AS INT), 'a')"),
    ];
    for (sql, columns, query) in cases {
        match fixture.bind(sql, &[]) {
            Ok(Bound::Insert(table, got, text)) => {
                assert_eq!((table.name.table(), got, text.as_str()), ("msgs", columns, query), "{sql}");
            }
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[test]
fn wrong_inserts_are_refused() {
    let fixture = Fixture::new();
    fixture.check_errors(&[
        ("INSERT INTO nothing VALUES (1)", &[], "Table not found: chat.nothing"),
        ("INSERT INTO a.b.c VALUES (1)", &[], "Invalid SQL: 'a.b.c' is no table name; use namespace.table"),
        ("INSERT INTO system.users VALUES (1)", &[], "Invalid SQL: Cannot insert system table 'system.users'"),
        (
            "INSERT INTO msgs (id, bodi) VALUES (1, 'a')",
            &[],
            "Column not found: 'bodi' in chat.msgs. Did you mean 'body'?",
        ),
        (
            "INSERT INTO msgs (id, _seq) VALUES (1, 2)",
            &[],
            "Invalid SQL: Column '_seq' is kept by the database and cannot be written",
        ),
        ("INSERT INTO msgs (id, ID) VALUES (1, 2)", &[], "Invalid SQL: Column 'ID' is named twice in INSERT"),
        (
            "INSERT INTO msgs (id, body) VALUES (1, 'a'), (2)",
            &[],
            "Invalid SQL: INSERT has 1 value(s) for 2 column(s) (row 2)",
        ),
        ("INSERT INTO msgs VALUES (1, 'a')", &[], "Invalid SQL: INSERT has 2 value(s) for 4 column(s) (row 1)"),
        (
            "INSERT INTO msgs (id, body) VALUES (1, 'a'), (2, NULL)",
            &[],
            "NOT NULL constraint violation: column 'body' cannot be NULL (row 2)",
        ),
        (
            "INSERT INTO msgs (id) VALUES (1)",
            &[],
            "NOT NULL constraint violation: column 'body' cannot be NULL (row 1)",
        ),
        (
            "INSERT INTO msgs (body) VALUES ('a')",
            &[],
            "NOT NULL constraint violation: column 'id' cannot be NULL (row 1)",
        ),
        (
            "INSERT INTO msgs (id, body, n) VALUES (1, 'a', 'many')",
            &[],
            "Constraint violation: 'many' is not valid for column 'n' of type INT: expected a whole number (row 1)",
        ),
        (
            "INSERT INTO msgs (id, body, n) VALUES (1, 'a', 1), (2, 'b', 3000000000)",
            &[],
            "Constraint violation: 3000000000 is out of range for column 'n' of type INT (row 2)",
        ),
        (
            "INSERT INTO msgs (id, body) VALUES ($3, $1)",
            &[Param::Int(1), Param::Int(2)],
            "Parameter $3 invalid: the request has 2 parameters",
        ),
        ("INSERT INTO msgs (id, body) VALUES ($0, 'a')", &[], "Parameter $0 invalid: the request has no parameters"),
        ("INSERT INTO msgs (id, body) VALUES (?, 'a')", &[], "Invalid SQL: '?' is no parameter; write $1, $2, …"),
        (
            "INSERT INTO msgs (id, body) VALUES (1, $1)",
            &[Param::Null],
            "NOT NULL constraint violation: column 'body' cannot be NULL (row 1)",
        ),
        (
            "INSERT INTO msgs (id, body, n) VALUES (1 + 1, 'a', DEFAULT)",
            &[],
            "Invalid SQL: DEFAULT beside a computed value is not supported; leave the column out, or name its value",
        ),
    ]);
}

#[test]
fn computed_rows_meet_the_same_conversions() {
    let fixture = Fixture::new();
    let ctx = fixture.context(&[]);
    let table = fixture.catalog.table("chat", "all_types").unwrap();
    let vectors = ListArray::from_iter_primitive::<Float32Type, _, _>([Some(vec![Some(1.0), Some(2.0)]), None]);
    let columns: Vec<(&str, ArrayRef, Value)> = vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2])), Value::Int(1)),
        ("b", Arc::new(BooleanArray::from(vec![Some(true), None])), Value::Bool(true)),
        ("s", Arc::new(UInt64Array::from(vec![Some(3), None])), Value::Int(3)),
        ("f", Arc::new(Float64Array::from(vec![Some(1.5), None])), Value::Float(1.5)),
        ("d", Arc::new(Int32Array::from(vec![Some(4), None])), Value::Float(4.0)),
        (
            "m",
            Arc::new(Decimal128Array::from(vec![Some(-12_345), None]).with_precision_and_scale(10, 3).unwrap()),
            Value::Decimal(-1235),
        ),
        ("da", Arc::new(StringViewArray::from(vec![Some("1970-01-02"), None])), Value::Int(1)),
        ("ts", Arc::new(TimestampNanosecondArray::from(vec![Some(5_000_000), None])), Value::Int(5_000)),
        (
            "u",
            Arc::new(StringArray::from(vec![Some("01010101-0101-0101-0101-010101010101"), None])),
            Value::Uuid([1; 16]),
        ),
        ("v", Arc::new(vectors), Value::Vector(vec![1.0, 2.0])),
    ];
    let positions: Vec<usize> = columns.iter().map(|(name, ..)| table.column_index(name).unwrap()).collect();
    let batch = RecordBatch::try_from_iter(columns.iter().map(|(name, array, _)| (*name, Arc::clone(array)))).unwrap();
    let command = bind_rows(&ctx, table, &positions, std::slice::from_ref(&batch)).unwrap();
    let (first, second) = (row_of(table, &command.ops[0]), row_of(table, &command.ops[1]));
    for ((name, _, expected), position) in columns.iter().zip(&positions) {
        assert_eq!(first[*position], *expected, "{name}");
        assert!(*name == "id" || second[*position].is_null(), "{name}");
    }
    let short = bind_rows(&ctx, table, &positions[1..], &[batch]).unwrap_err();
    assert_eq!(short.to_string(), "Invalid SQL: INSERT has 10 value(s) for 9 column(s)");
}

#[test]
fn computed_rows_are_checked_like_constants() {
    let fixture = Fixture::new();
    let ctx = fixture.context(&[]);
    let msgs = fixture.catalog.table("chat", "msgs").unwrap();
    let cases: Vec<(ArrayRef, &str)> = vec![
        (Arc::new(Int64Array::from(vec![None::<i64>])), "column 'body' cannot be NULL (row 1)"),
        (Arc::new(arrow::array::NullArray::new(1)), "column 'body' cannot be NULL (row 1)"),
    ];
    for (bodies, expected) in cases {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let batch = RecordBatch::try_from_iter_with_nullable([("id", ids, false), ("body", bodies, true)]).unwrap();
        let error = bind_rows(&ctx, msgs, &[0, 1], &[batch]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let ids: ArrayRef = Arc::new(StringArray::from(vec!["1", "x"]));
    let bodies: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let batch = RecordBatch::try_from_iter([("id", ids), ("body", bodies)]).unwrap();
    let error = bind_rows(&ctx, msgs, &[0, 1], &[batch]).unwrap_err().to_string();
    assert!(error.contains("'x' is not valid for column 'id' of type BIGINT") && error.contains("(row 2)"), "{error}");
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)])]);
    let batch = RecordBatch::try_from_iter([("id", Arc::new(lists) as ArrayRef)]).unwrap();
    assert!(matches!(bind_rows(&ctx, msgs, &[0], &[batch]), Err(Error::TypeMismatch { .. })));
}

fn key(fixture: &Fixture, table: &str, values: &[Value]) -> PkBytes {
    let table = fixture.catalog.table("chat", table).unwrap();
    keys::encode_key_values(table, values.iter(), 1).unwrap()
}

#[test]
fn a_where_that_names_the_key_needs_no_query() {
    let fixture = Fixture::new();
    let params = [Param::Int(3), Param::Text("x".into())];
    let int = |v: i64| vec![Value::Int(v)];
    let cases: Vec<(&str, &str, Vec<Vec<Value>>)> = vec![
        ("msgs", "id = 3", vec![int(3)]),
        ("msgs", "3 = ID", vec![int(3)]),
        ("msgs", "(msgs.id) = ('3')", vec![int(3)]),
        ("msgs", "id = $1", vec![int(3)]),
        ("msgs", "id = -9223372036854775808", vec![int(i64::MIN)]),
        ("msgs", "id IN (1, $1, 2, 1)", vec![int(1), int(3), int(2)]),
        ("msgs AS m", "m.id = CAST('4' AS BIGINT)", vec![int(4)]),
        ("pairs", "a = $2 AND b = 5", vec![vec![Value::Int(5), text("x")]]),
        ("pairs", "(b = 5) AND ('y' = pairs.a)", vec![vec![Value::Int(5), text("y")]]),
        ("exact", "p = 1.5", vec![vec![Value::Decimal(150)]]),
        ("exact", "p = '1.50'", vec![vec![Value::Decimal(150)]]),
    ];
    for (table, filter, expected) in cases {
        let name = table.split(' ').next().unwrap();
        let command = fixture.command(&format!("DELETE FROM {table} WHERE {filter}"), &params);
        let got: Vec<PkBytes> = command
            .ops
            .iter()
            .map(|op| {
                assert!(matches!(op, WriteOp::Delete { expected: None, .. }), "{op:?}");
                op.pk().unwrap().clone()
            })
            .collect();
        let expected: Vec<PkBytes> = expected.iter().map(|values| key(&fixture, name, values)).collect();
        assert_eq!(got, expected, "{filter}");
    }
}

#[test]
fn a_where_that_is_not_certainly_a_key_goes_through_a_query() {
    let fixture = Fixture::new();
    let params = [Param::Float(3.5), Param::Null];
    let cases = [
        ("msgs", "id = 2.5"),
        ("msgs", "id = 'two'"),
        ("msgs", "id = NULL"),
        ("msgs", "id = $1"),
        ("msgs", "id = $2"),
        ("msgs", "id = 99999999999999999999"),
        ("msgs", "id = 1 AND id = 2"),
        ("msgs", "id = 1 AND n = 2"),
        ("msgs", "id = 1 OR id = 2"),
        ("msgs", "id > 1"),
        ("msgs", "id = n"),
        ("msgs", "id = 1 + 1"),
        ("msgs", "id IN (1, NULL)"),
        ("msgs", "id NOT IN (1)"),
        ("msgs", "id = (SELECT 1)"),
        ("msgs", "other.id = 1"),
        ("msgs AS m", "msgs.id = 1"),
        ("pairs", "a = 'x'"),
        ("exact", "p = 1.505"),
        ("exact", "p = 1e0"),
    ];
    for (table, filter) in cases {
        match fixture.bind(&format!("DELETE FROM {table} WHERE {filter}"), &params) {
            Ok(Bound::Change(change)) => assert!(change.deletes && change.assigned.is_empty(), "{filter}"),
            other => panic!("{filter}: {other:?}"),
        }
    }
}

#[test]
fn an_update_by_key_becomes_a_patch() {
    let fixture = Fixture::new();
    let command =
        fixture.command("UPDATE msgs SET body = $1, n = DEFAULT, at = NOW() WHERE id IN (1, 2)", &[Param::Bool(true)]);
    assert_eq!(command.ops.len(), 2);
    for op in &command.ops {
        let WriteOp::Patch { assignments, .. } = op else { panic!("{op:?}") };
        let got: Vec<(usize, Value)> = assignments.iter().map(|a| (a.column, a.value.clone())).collect();
        assert_eq!(got, [(1, text("true")), (2, Value::Int(7)), (3, Value::Int(NOW_US))]);
    }
    let command = fixture.command("UPDATE made SET u = UUID_V7() WHERE id IN (1, 2)", &[]);
    let values: Vec<Value> = command
        .ops
        .iter()
        .map(|op| {
            let WriteOp::Patch { assignments, .. } = op else { panic!("{op:?}") };
            assignments[0].value.clone()
        })
        .collect();
    assert_ne!(values[0], values[1], "each row gets its own id");
}

#[test]
fn a_computed_update_replaces_what_it_read() {
    let fixture = Fixture::new();
    let sql = "UPDATE msgs AS m SET n = m.n + 1, at = NULL WHERE body LIKE 'a%'";
    let Ok(Bound::Change(change)) = fixture.bind(sql, &[]) else { panic!() };
    assert_eq!(
        change.select(std::iter::empty()).to_string(),
        "SELECT m.\"_seq\" AS \"__0\", m.\"_deleted\" AS \"__1\", m.\"id\" AS \"__2\", m.\"body\" AS \"__3\", \
         m.n + 1 AS \"__4\", m.\"at\" AS \"__5\" FROM msgs AS m WHERE body LIKE 'a%'"
    );
    let mut assigned = change.assigned.clone();
    assigned.sort_unstable();
    assert_eq!((assigned, change.deletes), (vec![2, 3], false));

    let columns: Vec<(&str, ArrayRef)> = vec![
        ("0", Arc::new(Int64Array::from(vec![11, 12]))),
        ("1", Arc::new(BooleanArray::from(vec![false, true]))),
        ("2", Arc::new(Int64Array::from(vec![1, 2]))),
        ("3", Arc::new(StringArray::from(vec!["ab", "ac"]))),
        ("4", Arc::new(Int64Array::from(vec![8, 9]))),
        ("5", Arc::new(TimestampNanosecondArray::from(vec![1_000, 2_000]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let command = bind_computed(&fixture.context(&[]), &change, &[batch]).unwrap().command;
    assert_eq!(command.ops.len(), 1, "a tombstone is not updated");
    let WriteOp::Replace { expected, .. } = &command.ops[0] else { panic!() };
    assert_eq!(*expected, Seq::new(11).unwrap());
    let expected = vec![Value::Int(1), text("ab"), Value::Int(8), Value::Null];
    assert_eq!(row_of(&command.table, &command.ops[0]), expected);
}

#[test]
fn a_computed_update_checks_what_it_computed() {
    let fixture = Fixture::new();
    let Ok(Bound::Change(change)) = fixture.bind("UPDATE pairs SET c = b * 2 WHERE c > 0", &[]) else { panic!() };
    let batch = RecordBatch::try_from_iter([
        ("0", Arc::new(Int64Array::from(vec![11])) as ArrayRef),
        ("1", Arc::new(BooleanArray::from(vec![false]))),
        ("2", Arc::new(StringArray::from(vec!["x"]))),
        ("3", Arc::new(Int64Array::from(vec![3_000_000_000]))),
        ("4", Arc::new(Int64Array::from(vec![6_000_000_000]))),
    ])
    .unwrap();
    let error = bind_computed(&fixture.context(&[]), &change, &[batch]).unwrap_err().to_string();
    assert_eq!(error, "Constraint violation: 6000000000 is out of range for column 'c' of type INT (row 1)");
}

#[test]
fn a_computed_delete_expects_what_it_read() {
    let fixture = Fixture::new();
    let Ok(Bound::Change(change)) = fixture.bind("DELETE FROM pairs WHERE c > 1", &[]) else { panic!() };
    let select = "SELECT pairs.\"_seq\" AS \"__0\", pairs.\"_deleted\" AS \"__1\", pairs.\"b\" AS \"__2\", pairs.\"a\" AS \"__3\" \
         FROM pairs WHERE c > 1";
    assert_eq!(change.select(std::iter::empty()).to_string(), select);
    let batch = RecordBatch::try_from_iter([
        ("0", Arc::new(Int64Array::from(vec![11])) as ArrayRef),
        ("1", Arc::new(BooleanArray::from(vec![false]))),
        ("2", Arc::new(Int64Array::from(vec![5]))),
        ("3", Arc::new(StringArray::from(vec!["x"]))),
    ])
    .unwrap();
    let command = bind_computed(&fixture.context(&[]), &change, &[batch]).unwrap().command;
    let WriteOp::Delete { pk, expected } = &command.ops[0] else { panic!() };
    assert_eq!(*expected, Seq::new(11));
    assert_eq!(*pk, key(&fixture, "pairs", &[Value::Int(5), text("x")]));
}

#[test]
fn wrong_changes_are_refused() {
    let fixture = Fixture::new();
    fixture.check_errors(&[
        ("UPDATE msgs SET body = 'a'", &[], "Invalid SQL: UPDATE requires a WHERE clause"),
        ("DELETE FROM msgs", &[], "Invalid SQL: DELETE requires a WHERE clause"),
        ("UPDATE msgs SET id = 2 WHERE id = 1", &[], "Invalid SQL: UPDATE cannot modify primary key column 'id'"),
        ("UPDATE pairs SET a = 'x' WHERE c = 1", &[], "Invalid SQL: UPDATE cannot modify primary key column 'a'"),
        (
            "UPDATE msgs SET _deleted = true WHERE id = 1",
            &[],
            "Invalid SQL: Column '_deleted' is kept by the database and cannot be written",
        ),
        (
            "UPDATE msgs SET boddy = 'a' WHERE id = 1",
            &[],
            "Column not found: 'boddy' in chat.msgs. Did you mean 'body'?",
        ),
        ("UPDATE msgs SET n = 1, N = 2 WHERE id = 1", &[], "Invalid SQL: Column 'n' is assigned twice in SET"),
        (
            "UPDATE msgs SET body = NULL WHERE id = 1",
            &[],
            "NOT NULL constraint violation: column 'body' cannot be NULL (row 1)",
        ),
        (
            "UPDATE msgs SET n = 'x' WHERE n > 1",
            &[],
            "Constraint violation: 'x' is not valid for column 'n' of type INT: expected a whole number (row 1)",
        ),
        ("UPDATE sys.users SET a = 1 WHERE b = 2", &[], "Invalid SQL: Cannot update system table 'sys.users'"),
        ("DELETE FROM system.users WHERE b = 2", &[], "Invalid SQL: Cannot delete system table 'system.users'"),
        ("UPDATE nothing SET a = 1 WHERE b = 2", &[], "Table not found: chat.nothing"),
        (
            "UPDATE msgs SET (body, n) = (SELECT 'a', 1) WHERE id = 1",
            &[],
            "Invalid SQL: SET (a, b) = … takes a list of values, (1, 2); assign the columns one by one",
        ),
        (
            "UPDATE msgs SET (body, n) = ('a', 1, 2) WHERE id = 1",
            &[],
            "Invalid SQL: SET has 3 value(s) for 2 column(s)",
        ),
        ("DELETE FROM msgs WHERE id = $1", &[], "Parameter $1 invalid: the request has no parameters"),
    ]);
}

/// One value as a batch may hold it, and some that it may not.
fn literal_text() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    prop_oneof![
        6 => any::<i32>().prop_map(|n| n.to_string()),
        4 => "[a-zé'\\\\\"$; ,()\n-]{0,12}".prop_map(|text| format!("'{}'", text.replace('\'', "''"))),
        2 => (any::<i16>(), any::<u16>()).prop_map(|(a, b)| format!("{a}.{b}")),
        1 => (any::<u8>(), -9..9).prop_map(|(a, b)| format!("{a}e{b}")),
        1 => any::<u64>().prop_map(|n| n.to_string()),
        4 => prop::sample::select(vec!["NULL", "null", "TRUE", "false", "DEFAULT", "default", "$1", "$2", "'2026-01-01'"])
            .prop_map(str::to_owned),
        1 => prop::sample::select(vec![
            "1 + 1", "- 5", "(7)", "E'x\\n'", "N'x'", "X'00'", "1::text", "$3", "$x", "lower('A')", "NOW()", "'a' 'b'",
            "--1", "/* c */ 1", "'a", "DATE '2026-01-01'", "1_0", ".5", "1.", "+1", "0x1F", "a", "",
        ]).prop_map(str::to_owned),
    ]
}

proptest::proptest! {
    /// The shortcut for batches of literals means what the parser means, errors and their places included.
    #[test]
    fn a_batch_read_past_the_parser_binds_to_the_same(
        rows in proptest::collection::vec(proptest::collection::vec(literal_text(), 1..4), 1..5),
        space in proptest::sample::select(vec!["", " ", "\n\t", " -- c\n"]),
        head in proptest::sample::select(vec![
            "INSERT INTO msgs (id, body, n) VALUES", "insert into chat.msgs (body, \"id\") values", "INSERT INTO msgs VALUES ",
            "INSERT INTO msgs (id) VALUES", "INSERT INTO nothing (id, body) VALUES", "INSERT INTO msgs (id, values) VALUES",
            "INSERT INTO msgs SELECT * FROM (VALUES", "INSERT INTO msgs (id, body) (VALUES", "REPLACE INTO msgs VALUES",
        ]),
        tail in proptest::sample::select(vec![
            "", ";", " ; ", " ON CONFLICT DO NOTHING", " RETURNING id", ") x", ",", " ORDER BY 1", " UNION VALUES (1, 'x')",
            "; DELETE FROM msgs WHERE id = 1", " x",
        ]),
    ) {
        let rows: Vec<String> =
            rows.iter().map(|row| format!("({space}{})", row.join(&format!("{space},")))).collect();
        let sql = format!("{head}{space}{}{tail}", rows.join(&format!("{space},{space}")));
        let fixture = Fixture::new();
        let params = [Param::Int(9), Param::Text("it's".into())];
        let outcome = |parsed: Result<Vec<ParsedStatement>>| match parsed {
            Ok(statements) if statements.len() > 1 => format!("{} statements", statements.len()),
            parsed => match parsed.and_then(|statements| fixture.bind_parsed(statements, &params)) {
                Ok(Bound::Insert(_, columns, query)) => format!("{columns:?} {query}"),
                Ok(bound) => format!("{bound:?}"),
                Err(error) => format!("{error:?}"),
            },
        };
        proptest::prop_assert_eq!(outcome(parse(&sql)), outcome(parse_whole(&sql)), "{}", sql);
    }
}
