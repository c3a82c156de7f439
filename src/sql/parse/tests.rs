//! Tables: each statement, each refusal, each place. And no text, however mangled, makes the parser panic.

use proptest::prelude::*;

use super::*;
use crate::error::ErrorCode;

/// What a request parses to: statements' debug forms, or `line:column: message`, or `message`.
fn outcome(sql: &str) -> String {
    match parse(sql) {
        Ok(statements) => statements.iter().map(|s| short(&s.statement)).collect::<Vec<_>>().join(" | "),
        Err(Error::Syntax { message, line, column }) => format!("{line}:{column}: {message}"),
        Err(error) => error.to_string(),
    }
}

/// Our own statements in full, sqlparser's as SQL.
fn short(statement: &Statement) -> String {
    match statement {
        Statement::Insert(insert) => format!("Insert({})", insert.statement),
        Statement::Update(update) => format!("Update({update})"),
        Statement::Delete(delete) => format!("Delete({delete})"),
        Statement::Query(query) => format!("Query({query})"),
        Statement::Explain(explain) => format!("Explain({explain})"),
        Statement::ExecuteAs { target, inner } => {
            format!("ExecuteAs({target:?}, {}, {})", inner.text, short(&inner.statement))
        }
        Statement::CreateTable(table) => {
            let columns: Vec<String> = table.columns.iter().map(ToString::to_string).collect();
            let columns = columns.join(", ");
            format!("CreateTable({}, {:?}, {}, {:?})", table.name, table.kind, columns, table.options)
        }
        other => format!("{other:?}"),
    }
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (sql, expected) in cases {
        assert_eq!(outcome(sql), *expected, "{sql}");
    }
}

#[test]
fn namespaces() {
    check(&[
        (
            "create namespace if not exists Chat",
            r#"CreateNamespace { name: NamespaceName("chat"), if_not_exists: true }"#,
        ),
        (
            "DROP NAMESPACE IF EXISTS chat CASCADE",
            r#"DropNamespace { name: NamespaceName("chat"), if_exists: true, cascade: true }"#,
        ),
        (
            "ALTER NAMESPACE chat SET OPTIONS (owner = 'me', quota = 5, on = true)",
            r#"AlterNamespace { name: NamespaceName("chat"), options: [("owner", "me"), ("quota", "5"), ("on", "true")] }"#,
        ),
        ("USE chat", r#"Use(NamespaceName("chat"))"#),
        ("USE NAMESPACE chat; SET NAMESPACE default", r#"Use(NamespaceName("chat")) | Use(NamespaceName("default"))"#),
        ("USE namespace", r#"Use(NamespaceName("namespace"))"#),
        ("SHOW NAMESPACES;", "ShowNamespaces"),
        ("backup DATABASE to '/b/1'", r#"BackupDatabase { to: "/b/1" }"#),
        ("RESTORE DATABASE FROM 'b'", r#"RestoreDatabase { from: "b" }"#),
        ("EXPORT USER DATA", "ExportUserData"),
        ("SHOW EXPORT", "ShowExport"),
        ("SHOW CURSORS", "ShowCursors"),
        ("DROP CURSOR 'a b'", r#"DropCursor { group: "a b", user: None, if_exists: false }"#),
        (
            "DROP CURSOR IF EXISTS g FOR USER 'ann'",
            r#"DropCursor { group: "g", user: Some(UserId("ann")), if_exists: true }"#,
        ),
        ("EXPLAIN LIVE 'c1-2'", r#"ExplainLive { live_id: "c1-2" }"#),
        ("CREATE NAMESPACE 9lives", "1:18: Expected: a namespace name, found: 9"),
        ("CREATE NAMESPACE system", "Invalid namespace name 'system': it is reserved; choose another name"),
    ]);
}

#[test]
fn tables() {
    check(&[
        (
            "CREATE USER TABLE IF NOT EXISTS chat.Msgs (id BIGINT PRIMARY KEY, body TEXT) WITH (ACCESS_LEVEL = 'public', flush_policy='rows:1')",
            r#"CreateTable(chat.msgs, Some(User), id BIGINT PRIMARY KEY, body TEXT, [("ACCESS_LEVEL", "public"), ("FLUSH_POLICY", "rows:1")])"#,
        ),
        (
            "CREATE TABLE t (id SERIAL, v EMBEDDING(3), f FILE, PRIMARY KEY (id)) USING parquet WITH (TYPE='shared')",
            r#"CreateTable(t, Some(Shared), id SERIAL, v EMBEDDING(3), f FILE, [])"#,
        ),
        (
            "CREATE SHARED TABLE t (id INT PRIMARY KEY) WITH (TYPE = 'USER')",
            "Invalid SQL: The table is SHARED by its prefix and USER by TYPE; say one of them",
        ),
        (
            "CREATE TABLE t (id INT PRIMARY KEY) WITH (TYPE = 'odd')",
            "Invalid SQL: Unknown table type 'odd'; types are USER, SHARED and STREAM",
        ),
        (
            "CREATE TABLE t (id INT PRIMARY KEY) WITH (DURABILITY = 'sync', durability = 'sync')",
            "Invalid SQL: Table option 'DURABILITY' is given twice",
        ),
        (
            "CREATE STREAM TABLE t (id INT) WITH (TTL_SECONDS = 5)",
            r#"CreateTable(t, Some(Stream), id INT, [("TTL_SECONDS", "5")])"#,
        ),
        ("CREATE TABLE t (id INT) WITH (TYPE='STREAM')", "CreateTable(t, Some(Stream), id INT, [])"),
        (
            "CREATE TABLE order (id INT PRIMARY KEY)",
            "Invalid table name 'order': it is a reserved word of SQL; choose another name or put it in double quotes",
        ),
        ("CREATE TABLE \"order\" (id INT)", r#"CreateTable(order, None, id INT, [])"#),
        ("CREATE TABLE a.b.c (id INT)", "Invalid SQL: a.b.… has too many parts; use namespace.table"),
        (
            "DROP TABLE IF EXISTS chat.msgs CASCADE",
            r#"DropTable { kind: None, name: TableRef { namespace: Some("chat"), table: "msgs" }, if_exists: true, cascade: true }"#,
        ),
        (
            "DROP USER TABLE msgs",
            r#"DropTable { kind: Some(User), name: TableRef { namespace: None, table: "msgs" }, if_exists: false, cascade: false }"#,
        ),
        ("SHOW TABLES", "ShowTables { namespace: None }"),
        ("SHOW TABLES IN NAMESPACE chat", r#"ShowTables { namespace: Some(NamespaceName("chat")) }"#),
        ("SHOW TABLES FROM chat", r#"ShowTables { namespace: Some(NamespaceName("chat")) }"#),
    ]);
    let describes = ["DESCRIBE TABLE c.t HISTORY", "DESC TABLE c.t", "DESCRIBE c.t", "DESC C.T", "SHOW COLUMNS IN c.t"];
    for sql in describes {
        let expected = r#"DescribeTable { name: TableRef { namespace: Some("c"), table: "t" } }"#;
        check(&[(sql, expected)]);
    }
}

#[test]
fn users() {
    check(&[
        (
            "CREATE USER 'alice' WITH PASSWORD 'it''s' ROLE dba EMAIL 'a@b.c'",
            r#"CreateUser { name: UserId("alice"), secret: Password(***), role: Dba, email: Some("a@b.c"), storage: UserStorage { mode: None, storage: None } }"#,
        ),
        (
            "CREATE USER Bob WITH INTERNAL ROLE 'developer'",
            r#"CreateUser { name: UserId("Bob"), secret: Internal, role: Service, email: None, storage: UserStorage { mode: None, storage: None } }"#,
        ),
        (
            "ALTER USER me SET PASSWORD 'new' CURRENT 'old'",
            r#"AlterUser { name: UserId("me"), change: SetPassword(***) }"#,
        ),
        ("ALTER USER me SET ROLE user", r#"AlterUser { name: UserId("me"), change: SetRole(user) }"#),
        ("ALTER USER me SET EMAIL 'x@y.z'", r#"AlterUser { name: UserId("me"), change: SetEmail(x@y.z) }"#),
        ("DROP USER IF EXISTS bob", r#"DropUser { name: UserId("bob"), if_exists: true }"#),
        ("CREATE USER bob WITH PASSWORD 'p'", "1:34: Expected: ROLE, found: EOF"),
        (
            "CREATE USER bob WITH INTERNAL ROLE king",
            "Invalid SQL: 'king' is not a role; roles are anonymous, user, service, dba and system",
        ),
        ("CREATE USER b WITH OAUTH '{}' ROLE user", "Invalid SQL: CREATE USER … WITH OAUTH is not supported yet"),
    ]);
    let statements = parse("ALTER USER me SET PASSWORD 'new' CURRENT 'old'").unwrap();
    let Statement::AlterUser { change, .. } = &statements[0].statement else { panic!("no ALTER USER") };
    let expected = crate::sql::statement::UserChange::SetPassword { new: "new".into(), current: Some("old".into()) };
    assert!(*change == expected);
}

#[test]
fn execute_as() {
    check(&[
        (
            "EXECUTE AS USER 'alice' ( INSERT INTO t VALUES (1) )",
            r#"ExecuteAs(One(UserId("alice")), INSERT INTO t VALUES (1), Insert(INSERT INTO t VALUES (1)))"#,
        ),
        ("EXECUTE AS USER bob (SELECT (1);)", r#"ExecuteAs(One(UserId("bob")), SELECT (1), Query(SELECT (1)))"#),
        (
            "execute as user '*' (SELECT * FROM t WHERE a IN (1, 2)); SELECT 2",
            "ExecuteAs(All, SELECT * FROM t WHERE a IN (1, 2), Query(SELECT * FROM t WHERE a IN (1, 2))) | Query(SELECT 2)",
        ),
        (
            "EXECUTE AS USER a (EXECUTE AS USER b (SELECT 1))",
            "Invalid SQL: EXECUTE AS USER cannot stand inside EXECUTE AS USER",
        ),
        ("EXECUTE AS USER a (SELECT 1; SELECT 2)", "1:30: Expected: ), found: SELECT"),
        ("EXECUTE AS USER a SELECT 1", "1:19: Expected: (, found: SELECT"),
        ("EXECUTE AS USER 'a/b' (SELECT 1)", "Invalid user name 'a/b': it contains '/'"),
    ]);
}

#[test]
fn live_queries() {
    let subscribe = |sql: &str, last_rows: &str, batch_size: &str, from: &str| {
        let options = format!("SubscribeOptions {{ last_rows: {last_rows}, batch_size: {batch_size}, from: {from} }}");
        format!("SubscribeTo(SubscribeTo {{ sql: {sql:?}, options: {options} }})")
    };
    let cases = [
        ("SUBSCRIBE TO chat.msgs", subscribe("SELECT * FROM chat.msgs", "None", "None", "None")),
        (
            "SUBSCRIBE TO chat.msgs WHERE room = 'a' OPTIONS (last_rows = 10, from = 7);",
            subscribe("SELECT * FROM chat.msgs WHERE room = 'a'", "Some(10)", "None", "Some(7)"),
        ),
        (
            "SUBSCRIBE TO SELECT id, body FROM chat.msgs OPTIONS (batch_size = 5, from_seq_id = '9')",
            subscribe("SELECT id, body FROM chat.msgs", "None", "Some(5)", "Some(9)"),
        ),
        (
            "SUBSCRIBE TO SELECT options FROM c.t WHERE f(options) > 0",
            subscribe("SELECT options FROM c.t WHERE f(options) > 0", "None", "None", "None"),
        ),
        ("SUBSCRIBE TO SELECT * FROM", "1:27: Expected: identifier, found: EOF".to_owned()),
        ("SUBSCRIBE TO SELECT * FROM OPTIONS ()", "1:28: Expected: identifier, found: EOF".to_owned()),
        (
            "SUBSCRIBE TO t LIMIT 5",
            "1:16: Expected: WHERE, OPTIONS or the end of the statement, found: LIMIT".to_owned(),
        ),
        (
            "SUBSCRIBE TO t OPTIONS (speed = 5)",
            "Invalid SQL: Unknown subscription option 'speed'; options are last_rows, batch_size and from".to_owned(),
        ),
        (
            "SUBSCRIBE TO t OPTIONS (last_rows = -1)",
            "Invalid SQL: Subscription option 'last_rows' takes a whole number from 0 on, not '-1'".to_owned(),
        ),
        ("KILL LIVE QUERY 'u-1-2'", r#"KillLiveQuery { live_id: "u-1-2" }"#.to_owned()),
        ("KILL JOB 'FL-1'", r#"KillJob { job_id: "FL-1" }"#.to_owned()),
    ];
    for (sql, expected) in &cases {
        check(&[(sql, expected)]);
    }
}

#[test]
fn queries_and_changes_keep_their_own_text() {
    let sql = "-- first\nSELECT 'ä;ö' ;\n\n /* two */ INSERT INTO t VALUES ($1);;UPDATE t SET a = 1 WHERE b = 2;DELETE FROM t WHERE a = 1 ";
    let texts: Vec<String> = parse(sql).unwrap().into_iter().map(|s| s.text).collect();
    assert_eq!(
        texts,
        ["SELECT 'ä;ö'", "INSERT INTO t VALUES ($1)", "UPDATE t SET a = 1 WHERE b = 2", "DELETE FROM t WHERE a = 1"]
    );
    check(&[
        ("(SELECT 1)", "Query((SELECT 1))"),
        ("WITH a AS (SELECT 1) SELECT * FROM a", "Query(WITH a AS (SELECT 1) SELECT * FROM a)"),
        ("VALUES (1), (2)", "Query(VALUES (1), (2))"),
        ("EXPLAIN SELECT 1", "Explain(EXPLAIN SELECT 1)"),
        ("EXPLAIN ANALYZE SELECT 1", "Explain(EXPLAIN ANALYZE SELECT 1)"),
        ("SELECT a -> 'b' ->> 'c', x::TEXT FROM t", "Query(SELECT a -> 'b' ->> 'c', x::TEXT FROM t)"),
        ("INSERT INTO t DEFAULT VALUES", "Insert(INSERT INTO t DEFAULT VALUES)"),
    ]);
}

/// Expressions whose beginning our dialect reads itself come out as sqlparser's generic dialect reads them.
#[test]
fn our_dialect_reads_expressions_as_the_generic_one_does() {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    let cases = [
        "CAST(a AS INT), TRY_CAST('x' AS DATE), a::TEXT, CONVERT(a, INT)",
        "EXTRACT(YEAR FROM a), CEIL(a), FLOOR(a TO DAY), POSITION('a' IN b), position('a', b)",
        "SUBSTRING(a FROM 1 FOR 2), substr(a, 1, 2), TRIM(BOTH 'x' FROM a), OVERLAY(a PLACING 'b' FROM 1)",
        "INTERVAL '1 day', INTERVAL '5' MINUTE, NOW() - INTERVAL '1 day'",
        "ARRAY[1, 2], [1, 2], CASE WHEN a THEN 1 ELSE 2 END, CASE a WHEN 1 THEN 2 END, NOT a, NOT EXISTS (SELECT 1)",
        "EXISTS (SELECT 1), CURRENT_TIMESTAMP, CURRENT_DATE, CURRENT_TIMESTAMP(3), floor, position, CURRENT_USER",
        "NULL, TRUE, false, -1, +2, 'a', $1, \"Q\".\"x\", t.a.b, `t`, a[1], x.*, DATE '2026-01-01', TIMESTAMP '2026-01-01'",
        "COUNT(*) FILTER (WHERE a > 1), SUM(a) OVER (PARTITION BY b ORDER BY c), f(DISTINCT a), E'a\\nb', X'ff'",
        "(1, 2), (a), ((a)), a IN (1, 2), a BETWEEN 1 AND 2, a IS NULL, a LIKE 'b%', {'a': 1}, MAP {'a': 1}",
    ];
    for exprs in cases {
        let sql = format!("SELECT {exprs} FROM t");
        let generic = Parser::parse_sql(&GenericDialect, &sql).unwrap();
        let [ParsedStatement { statement: Statement::Query(query), .. }] = &parse(&sql).unwrap()[..] else {
            panic!("{sql}")
        };
        assert_eq!(query.to_string(), generic[0].to_string());
        let datafusion::sql::sqlparser::ast::Statement::Query(expected) = &generic[0] else { panic!("{sql}") };
        assert_eq!(query, expected, "{sql}");
    }
}

#[test]
fn syntax_errors_tell_their_place() {
    check(&[
        ("SELEC 1", "1:1: Expected: an SQL statement, found: SELEC"),
        ("SELECT 1;\n  42", "2:3: Expected: an SQL statement, found: 42"),
        ("SELECT * FRM t", "1:10: Expected: end of statement, found: FRM"),
        ("SELECT 1 SELECT 2", "1:10: Expected: end of statement, found: SELECT"),
        ("SELECT\n  'ä' || ,", "2:10: Expected: an expression, found: ,"),
        ("SELECT (1", "1:10: Expected: ), found: EOF"),
        ("SELECT (1  \n\n", "1:10: Expected: ), found: EOF"),
        ("SELECT 'abc", "1:8: Unterminated string literal"),
        ("SELECT 1;\nINSERT INTO t VALUES (1,, 2)", "2:25: Expected: an expression, found: ,"),
        ("UPDATE t a = 1", "1:12: Expected: SET, found: ="),
        (
            "CREATE ELEPHANT x",
            "1:8: Expected: NAMESPACE, TABLE, USER TABLE, SHARED TABLE, VIEW, USER, STORAGE or TOPIC, found: ELEPHANT",
        ),
        ("DROP ELEPHANT x", "1:6: Expected: NAMESPACE, TABLE, VIEW, USER, STORAGE, TOPIC or CURSOR, found: ELEPHANT"),
        (
            "ALTER ELEPHANT x",
            "1:7: Expected: NAMESPACE, TABLE, USER TABLE, SHARED TABLE, USER, STORAGE or TOPIC, found: ELEPHANT",
        ),
        ("SHOW ELEPHANTS", "1:6: Expected: NAMESPACES, TABLES, VIEWS, COLUMNS, STORAGES or EXPORT, found: ELEPHANTS"),
        ("CREATE TABLE t", "1:15: Expected: (, or AS SELECT, found: EOF"),
        ("CREATE TABLE t (id INT,, b INT)", "1:24: Expected: column name or constraint definition, found: ,"),
        ("CREATE TABLE t (id INT) WITH (a b)", "1:33: Expected: =, found: b"),
        ("KILL IT", "1:6: Expected: LIVE QUERY or JOB, found: IT"),
        ("KILL JOB FL", "1:10: Expected: the job's id in single quotes, found: FL"),
    ]);
}

#[test]
fn empty_requests_and_too_many_statements() {
    for sql in ["", "  \n", ";;", "-- nothing\n", "/* nothing */ ;"] {
        assert_eq!(parse(sql).unwrap_err().code(), ErrorCode::EmptySql, "{sql:?}");
    }
    assert_eq!(parse(&"SELECT 1;".repeat(STATEMENTS_MAX)).unwrap().len(), STATEMENTS_MAX);
    check(&[(&"SELECT 1;".repeat(STATEMENTS_MAX + 1), "Invalid SQL: a request holds at most 1000 statements")]);
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let cases = [
        ("BEGIN", "BEGIN (explicit transactions)"),
        ("COMMIT", "COMMIT (explicit transactions)"),
        ("ALTER TABLE t RENAME TO u", "ALTER TABLE … RENAME TO"),
        ("ALTER TABLE t ADD CONSTRAINT c UNIQUE (a)", "ALTER TABLE … ADD CONSTRAINT c UNIQUE (a)"),
        ("ALTER TABLE t DROP PRIMARY KEY", "ALTER TABLE … DROP PRIMARY"),
        ("ALTER TABLE t CREATE VECTOR INDEX v USING COSINE", "ALTER TABLE … CREATE VECTOR"),
        ("ALTER TABLE t DROP INDEX v", "ALTER TABLE … DROP INDEX"),
        ("CREATE MATERIALIZED VIEW v AS SELECT 1", "CREATE MATERIALIZED VIEW"),
        ("CREATE UNIQUE INDEX i ON t (a)", "CREATE UNIQUE INDEX"),
        ("CREATE INDEX i ON t (a)", "CREATE INDEX"),
        ("COPY t FROM STDIN", "COPY"),
        ("IMPORT USER DATA", "IMPORT"),
        ("SHOW STATS FOR TABLE t", "SHOW STATS"),
        ("MERGE INTO t USING s ON 1 = 1", "MERGE"),
    ];
    for (sql, what) in cases {
        assert_eq!(outcome(sql), format!("Invalid SQL: {what} is not supported yet"), "{sql}");
    }
    let others = [
        "GRANT SELECT ON t TO u",
        "CREATE SCHEMA s",
        "CREATE TEMPORARY TABLE t (id INT)",
        "CREATE OR REPLACE TABLE t (id INT)",
        "SET search_path = x",
        "INSERT OVERWRITE t VALUES (1)",
        "INSERT OR REPLACE INTO t VALUES (1)",
        "INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = 1",
        "UPDATE t JOIN s ON t.id = s.id SET a = 1 WHERE t.id = 1",
        "UPDATE t FROM s SET a = 1 WHERE t.id = s.id",
        "UPDATE t SET a = 1 WHERE b = 2 LIMIT 1",
        "DELETE FROM t, s WHERE t.id = s.id",
        "DELETE FROM t WHERE a = 1 LIMIT 1",
        "SELECT * INTO x FROM t",
        "SELECT * FROM t FOR UPDATE",
        "WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a",
        "WITH a AS (DELETE FROM t) SELECT * FROM a",
        "EXPLAIN INSERT INTO t VALUES (1)",
        "EXPLAIN ANALYZE DELETE FROM t WHERE a = 1",
    ];
    for sql in others {
        let error = parse(sql).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unsupported, "{sql}: {error}");
    }
}

/// Each of these takes sqlparser by itself hours, or all of the stack.
#[test]
fn hostile_texts_are_refused_in_time() {
    let nested = [
        "CAST(",
        "POSITION(",
        "CASE ",
        "NOT (",
        "INTERVAL (",
        "ARRAY[",
        "[",
        "(",
        "CEIL(",
        "f(",
        "IN(SELECT ",
        "a.b[",
        "a.",
        "-",
        "(SELECT ",
        "EXISTS(SELECT ",
        "SUBSTRING(",
        "CONVERT(",
        "TRIM(",
        "{",
        "CURRENT_TIMESTAMP(",
        "NOT ",
    ];
    for form in nested {
        for n in [20, 48, 2_000] {
            let error = parse(&format!("SELECT {}", form.repeat(n)));
            // NOT behind NOT is a column called NOT to sqlparser; everything else is no SQL.
            assert!(error.is_err() || form == "NOT ", "{form} {n}");
        }
    }
    for link in [" + 1", " AND a", "::int", " OR a = 1", " UNION SELECT 1", "[1]", " || 'a'", " IS NULL", "->'a'"] {
        let chain = |n| format!("SELECT a{}", link.repeat(n));
        // The deepest trees that pass can be cloned and dropped on a thread with the usual 2 MiB of stack.
        let deepest = (1..=300).rev().find_map(|n| parse(&chain(n)).ok()).unwrap();
        assert_eq!(deepest.clone().len(), 1, "{link}");
        let error = parse(&chain(20_000)).unwrap_err();
        assert!(error.to_string().contains("too deep"), "{link}: {error}");
        assert!(error.position().is_some(), "{link}");
    }
    let list = format!("SELECT * FROM t WHERE id IN ({}1)", "1, ".repeat(50_000));
    assert!(parse(&list).is_ok(), "a long list is not deep");
    let rows = format!("INSERT INTO t VALUES {}(1, -2)", "(1, -2), ".repeat(20_000));
    assert!(parse(&rows).is_ok(), "many rows are not deep");
}

const SEEDS: &[&str] = &[
    "CREATE USER TABLE IF NOT EXISTS chat.msgs (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), body TEXT NOT NULL) WITH (TYPE = 'USER')",
    "INSERT INTO chat.msgs (id, body) VALUES (1, 'it''s'), ($1, NULL), (-3.5e2, DEFAULT)",
    "UPDATE t SET a = a + 1, b = CASE WHEN c THEN 1 ELSE 2 END WHERE id IN (1, 2) AND NOT d",
    "DELETE FROM t AS x WHERE x.id = CAST('1' AS BIGINT)",
    "SELECT a.b, COUNT(*) FROM t JOIN s ON t.id = s.id WHERE x LIKE '%y' GROUP BY 1 ORDER BY 2 LIMIT 3",
    "WITH q AS (SELECT INTERVAL '1 day' AS d) SELECT POSITION('a' IN b), ARRAY[1, 2] FROM q",
    "EXECUTE AS USER '*' (SELECT * FROM chat.msgs)",
    "SUBSCRIBE TO SELECT * FROM chat.msgs WHERE a = 1 OPTIONS (last_rows = 10)",
    "CREATE USER 'alice' WITH PASSWORD 'p' ROLE dba EMAIL 'e'",
    "ALTER TABLE a.b ADD COLUMN IF NOT EXISTS c INT NOT NULL DEFAULT 1; ALTER USER me SET PASSWORD 'new' CURRENT 'old'; SHOW TABLES IN chat; DESC TABLE a.b",
    "EXPLAIN ANALYZE SELECT 1; KILL LIVE QUERY 'a-b-c'; DROP NAMESPACE IF EXISTS n CASCADE",
    "CREATE TOPIC a.b PARTITIONS 3 WITH (max_deliveries = 3); ALTER TOPIC a.b ADD SOURCE c ON UPDATE WHERE d > 1 WITH (payload = 'diff')",
    "CONSUME FROM a.b GROUP 'g' PARTITION 1 FROM 7 LIMIT 3; ACK a.b GROUP g UPTO OFFSET 9; CLEAR TOPIC a.b; DROP TOPIC IF EXISTS a.b",
];

/// A seed cut into words and put together anew: some left out, doubled, swapped, or replaced by another seed's.
fn mangled() -> impl Strategy<Value = String> {
    let words: Vec<&'static str> = SEEDS.iter().flat_map(|seed| seed.split(' ')).collect();
    let seed = prop::sample::select(SEEDS.to_vec());
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, prop::sample::select(words)), 0..8);
    (seed, edits).prop_map(|(seed, edits)| {
        let mut parts: Vec<&str> = seed.split(' ').collect();
        for (at, edit, word) in edits {
            let at = at.index(parts.len());
            match edit {
                0 if parts.len() > 1 => drop(parts.remove(at)),
                1 => parts.insert(at, parts[at]),
                2 => parts.swap(at, 0),
                _ => parts[at] = word,
            }
        }
        parts.join(" ")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_makes_the_parser_panic(sql in "\\PC{0,80}") {
        let _ = parse(&sql);
    }

    #[test]
    fn no_mangled_statement_makes_the_parser_panic(sql in mangled(), cut in any::<prop::sample::Index>()) {
        let _ = parse(&sql);
        let cut = (0..=cut.index(sql.len() + 1)).rev().find(|at| sql.is_char_boundary(*at)).unwrap_or(0);
        let _ = parse(&sql[..cut]);
    }

    #[test]
    fn a_statements_text_parses_to_the_same_statement(sql in mangled()) {
        if let Ok(statements) = parse(&sql) {
            for statement in statements {
                let again = parse(&statement.text).expect("its own text");
                prop_assert_eq!(again.len(), 1);
                prop_assert_eq!(short(&again[0].statement), short(&statement.statement));
            }
        }
    }
}

#[test]
fn batches_of_literals_take_the_short_way() {
    let short = [
        "INSERT INTO t VALUES (1, 'a'), (-2.5e3, 'it''s'), ($1, NULL)",
        "insert into ns.\"t\" (a, b)\nvalues (true,DEFAULT) ,\n( false , $2 ) ;",
        "EXECUTE AS USER 'alice' (INSERT INTO t VALUES (1), (2))",
    ];
    let long = [
        "INSERT INTO t VALUES (1, 'a')",
        "INSERT INTO t VALUES (1, 'a'), (1 + 1, 'b')",
        "INSERT INTO t VALUES (1, 'a'), (2)",
        "INSERT INTO t VALUES (1), (2) ORDER BY 1",
        "INSERT INTO t VALUES (1), (2); SELECT 1",
        "/* c */ INSERT INTO t VALUES (1), (2)",
    ];
    assert!(short.iter().all(|sql| tuples::parse_literal_insert(sql).is_some()));
    for sql in long {
        assert!(tuples::parse_literal_insert(sql).is_none(), "{sql}");
    }
}
