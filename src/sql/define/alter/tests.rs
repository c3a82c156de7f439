//! Tables of ALTER TABLE statements: what each makes of a table, and why each wrong one is refused.

use super::*;
use crate::model::Value;
use crate::sql::bind::tests::{Fixture, NOW_US};
use crate::sql::parse::parse;
use crate::sql::statement::Statement;

fn alter(sql: &str) -> Result<Alteration> {
    let Statement::AlterTable(alter) = parse(sql)?.remove(0).statement else { panic!("{sql} is no ALTER TABLE") };
    let fixture = Fixture::new();
    let ctx = fixture.context(&[]);
    alter_table(&ctx, ctx.catalog.table("chat", &alter.name.table)?, &alter.operation)
}

/// What it says, then each column that is not as before, then what it needs and ends.
fn shown(sql: &str) -> String {
    match alter(sql).unwrap_or_else(|error| panic!("{sql}: {error}")) {
        Alteration::Unchanged(why) => format!("= {why}"),
        Alteration::Altered(altered) => {
            let AlteredTable { table, what, without_nulls, columns_changed, .. } = *altered;
            let before = table.versions().nth(1).unwrap();
            let new = table.columns.iter().filter(|column| !before.columns.contains(column)).map(|c| {
                let not_null = if c.nullable { "" } else { " NOT NULL" };
                let default = c.default.as_ref().map_or_else(String::new, |d| format!(" DEFAULT {d}"));
                format!(" {}:{} {}{not_null}{default}", c.id, c.name, c.data_type)
            });
            let new: String = new.collect();
            let nulls = without_nulls.map_or_else(String::new, |column| format!(" no NULL in {column}"));
            let ends = if columns_changed { "" } else { " queries go on" };
            assert_eq!((table.schema_version, table.updated_at), (2, NOW_US));
            format!("{what}{}{new}{nulls}{ends}", if new.is_empty() { "" } else { " |" })
        }
    }
}

#[test]
fn each_operation_makes_one_version() {
    let cases = [
        ("ALTER TABLE msgs ADD COLUMN Extra INT", "column 'extra' added | 5:extra INT"),
        (
            "ALTER TABLE msgs ADD COLUMN c DECIMAL(5,2) NOT NULL DEFAULT 1.5",
            "column 'c' added | 5:c DECIMAL(5,2) NOT NULL DEFAULT 1.5",
        ),
        ("ALTER TABLE msgs ADD COLUMN f FILE", "column 'f' added | 5:f FILE"),
        (
            "ALTER TABLE msgs ADD COLUMN \"order\" SERIAL",
            "column 'order' added | 5:order BIGINT DEFAULT SNOWFLAKE_ID()",
        ),
        ("ALTER TABLE msgs ADD COLUMN IF NOT EXISTS BODY INT", "= column 'body' is there already"),
        ("ALTER TABLE msgs DROP COLUMN N", "column 'n' dropped"),
        ("ALTER TABLE msgs DROP COLUMN IF EXISTS Nothing", "= there is no column 'nothing'"),
        (
            "ALTER TABLE msgs RENAME COLUMN body TO Content",
            "column 'body' renamed to 'content' | 2:content TEXT NOT NULL",
        ),
        ("ALTER TABLE msgs MODIFY COLUMN n BIGINT", "column 'n' modified to BIGINT | 3:n BIGINT DEFAULT 7"),
        ("ALTER TABLE msgs MODIFY COLUMN n TEXT", "column 'n' modified to TEXT | 3:n TEXT DEFAULT 7"),
        (
            "ALTER TABLE msgs MODIFY COLUMN n DECIMAL(12,2) NOT NULL",
            "column 'n' modified to DECIMAL(12,2) NOT NULL | 3:n DECIMAL(12,2) NOT NULL DEFAULT 7 no NULL in n",
        ),
        ("ALTER TABLE msgs MODIFY COLUMN body TEXT NULL", "column 'body' modified to TEXT | 2:body TEXT"),
        ("ALTER TABLE msgs MODIFY COLUMN body TEXT", "= column 'body' is TEXT NOT NULL already"),
        ("ALTER TABLE msgs MODIFY COLUMN id BIGINT NOT NULL", "= column 'id' is BIGINT NOT NULL already"),
        ("ALTER TABLE msgs MODIFY COLUMN at TEXT", "column 'at' modified to TEXT | 4:at TEXT DEFAULT NOW()"),
        (
            "ALTER TABLE msgs ALTER COLUMN n SET NOT NULL",
            "column 'n' is NOT NULL now | 3:n INT NOT NULL DEFAULT 7 no NULL in n",
        ),
        ("ALTER TABLE msgs ALTER COLUMN body SET NOT NULL", "= column 'body' is NOT NULL already"),
        ("ALTER TABLE msgs ALTER COLUMN body DROP NOT NULL", "column 'body' takes NULL now | 2:body TEXT"),
        ("ALTER TABLE msgs ALTER COLUMN n DROP NOT NULL", "= column 'n' takes NULL already"),
        (
            "ALTER TABLE msgs ALTER COLUMN n SET DEFAULT -1",
            "column 'n' has DEFAULT -1 now | 3:n INT DEFAULT -1 queries go on",
        ),
        (
            "ALTER TABLE msgs ALTER COLUMN id SET DEFAULT SNOWFLAKE_ID()",
            "column 'id' has DEFAULT SNOWFLAKE_ID() now | 1:id BIGINT NOT NULL DEFAULT SNOWFLAKE_ID() queries go on",
        ),
        ("ALTER TABLE msgs ALTER COLUMN n SET DEFAULT NULL", "column 'n' has no DEFAULT now | 3:n INT queries go on"),
        ("ALTER TABLE msgs ALTER COLUMN n SET DEFAULT 7", "= column 'n' has DEFAULT 7 already"),
        ("ALTER TABLE msgs ALTER COLUMN n DROP DEFAULT", "column 'n' has no DEFAULT now | 3:n INT queries go on"),
        ("ALTER TABLE msgs ALTER COLUMN body DROP DEFAULT", "= column 'body' has no DEFAULT already"),
        ("ALTER TABLE pairs SET ACCESS LEVEL public", "ACCESS_LEVEL is PUBLIC now queries go on"),
        ("ALTER TABLE pairs SET ACCESS LEVEL PRIVATE", "= ACCESS_LEVEL is PRIVATE already"),
        (
            "ALTER TABLE pairs SET TBLPROPERTIES (ACCESS_LEVEL = 'DBA', DURABILITY = 'buffered')",
            "ACCESS_LEVEL is DBA now, DURABILITY is buffered now queries go on",
        ),
        ("ALTER TABLE pairs SET TBLPROPERTIES (STORAGE_ID = 'local')", "= STORAGE_ID is local already"),
        ("ALTER TABLE pairs SET STORAGE_ID = 'archive'", "STORAGE_ID is archive now queries go on"),
        ("ALTER TABLE msgs SET USE_USER_STORAGE = true", "USE_USER_STORAGE is true now queries go on"),
        ("ALTER TABLE msgs SET DELETED_RETENTION_HOURS = 5", "DELETED_RETENTION_HOURS is 5 now queries go on"),
        ("ALTER TABLE msgs SET USE_USER_STORAGE = false", "= USE_USER_STORAGE is false already"),
    ];
    for (sql, expected) in cases {
        assert_eq!(shown(sql), expected, "{sql}");
    }
}

#[test]
fn rows_that_are_there_get_the_default_of_the_moment() {
    let missing = |definition: &str| {
        let Alteration::Altered(altered) = alter(&format!("ALTER TABLE msgs ADD COLUMN c {definition}")).unwrap()
        else {
            panic!("{definition}")
        };
        altered.table.layout(1).unwrap().missing.clone()
    };
    assert_eq!(missing("INT"), [(4, Value::Null)]);
    assert_eq!(missing("INT DEFAULT 7"), [(4, Value::Int(7))]);
    assert_eq!(missing("TIMESTAMP DEFAULT NOW()"), [(4, Value::Int(NOW_US))]);
    assert_eq!(missing("TEXT DEFAULT CURRENT_USER()"), [(4, Value::Text("alice".into()))]);
    assert_eq!(missing("EMBEDDING(2) DEFAULT '[1, 2]'"), [(4, Value::Vector(vec![1.0, 2.0]))]);
    assert!(matches!(missing("BIGINT DEFAULT SNOWFLAKE_ID()")[..], [(4, Value::Int(1..))]));
}

#[test]
fn what_cannot_be_is_refused() {
    let cases = [
        ("ALTER TABLE msgs ADD COLUMN body INT", "Already exists: Column 'body' already exists in chat.msgs"),
        ("ALTER TABLE msgs ADD COLUMN c INT NOT NULL", "Column 'c' is NOT NULL and has no DEFAULT"),
        ("ALTER TABLE msgs ADD COLUMN c INT NOT NULL DEFAULT NULL", "Column 'c' is NOT NULL and has no DEFAULT"),
        ("ALTER TABLE msgs ADD COLUMN c INT PRIMARY KEY", "cannot be added to the PRIMARY KEY"),
        ("ALTER TABLE msgs ADD COLUMN c INT UNIQUE", "UNIQUE constraints are not supported yet"),
        ("ALTER TABLE msgs ADD COLUMN c TINYINT", "use SMALLINT"),
        ("ALTER TABLE msgs ADD COLUMN c INT DEFAULT 'x'", "DEFAULT of column 'c': x is not valid for type INT"),
        ("ALTER TABLE msgs ADD COLUMN order INT", "Invalid column name 'order': it is a reserved word"),
        ("ALTER TABLE msgs ADD COLUMN _seq INT", "Invalid column name '_seq': it is reserved"),
        ("ALTER TABLE msgs DROP COLUMN id", "Column 'id' is in the PRIMARY KEY of chat.msgs and cannot be dropped"),
        ("ALTER TABLE pairs DROP COLUMN a", "Column 'a' is in the PRIMARY KEY of chat.pairs and cannot be dropped"),
        ("ALTER TABLE msgs DROP COLUMN bodi", "Column not found: 'bodi' in chat.msgs. Did you mean 'body'?"),
        ("ALTER TABLE msgs DROP COLUMN _seq", "Column '_seq' is kept by the database and cannot be altered"),
        ("ALTER TABLE msgs DROP COLUMN IF EXISTS _deleted", "Column '_deleted' is kept by the database"),
        (
            "ALTER TABLE msgs RENAME COLUMN id TO key",
            "Column 'id' is in the PRIMARY KEY of chat.msgs and cannot be renamed",
        ),
        ("ALTER TABLE msgs RENAME COLUMN _SEQ TO s", "Column '_seq' is kept by the database"),
        ("ALTER TABLE msgs RENAME COLUMN body TO n", "Column 'n' already exists in chat.msgs"),
        ("ALTER TABLE msgs RENAME COLUMN body TO Body", "Column 'body' already exists in chat.msgs"),
        ("ALTER TABLE msgs RENAME COLUMN body TO order", "it is a reserved word"),
        ("ALTER TABLE msgs RENAME COLUMN body TO \"a b\"", "Invalid column name 'a b'"),
        (
            "ALTER TABLE msgs MODIFY COLUMN id TEXT",
            "Column 'id' is in the PRIMARY KEY of chat.msgs and cannot get another type",
        ),
        ("ALTER TABLE msgs MODIFY COLUMN id BIGINT NULL", "cannot take NULL"),
        ("ALTER TABLE msgs ALTER COLUMN id DROP NOT NULL", "cannot take NULL"),
        (
            "ALTER TABLE msgs MODIFY COLUMN n SMALLINT",
            "Column 'n' of type INT cannot become SMALLINT without loss; it can become BIGINT, DECIMAL with 10 digits",
        ),
        ("ALTER TABLE msgs MODIFY COLUMN n DECIMAL(10,1)", "without loss"),
        ("ALTER TABLE msgs MODIFY COLUMN body INT", "it can become no other type. Otherwise add a column"),
        ("ALTER TABLE all_types MODIFY COLUMN v EMBEDDING(3)", "without loss"),
        ("ALTER TABLE all_types MODIFY COLUMN d FLOAT", "it can become TEXT."),
        ("ALTER TABLE made MODIFY COLUMN l SERIAL", "Unknown type 'SERIAL'"),
        ("ALTER TABLE msgs ALTER COLUMN n SET DEFAULT 'x'", "x is not valid for type INT"),
        ("ALTER TABLE msgs ALTER COLUMN n SET DEFAULT n + 1", "is neither a literal nor one of NOW()"),
        ("ALTER TABLE msgs SET ACCESS LEVEL public", "Table option 'ACCESS_LEVEL' is for SHARED tables"),
        ("ALTER TABLE pairs SET ACCESS LEVEL most", "Unknown access level 'most'"),
        ("ALTER TABLE pairs SET TBLPROPERTIES (TYPE = 'USER')", "The TYPE of a table cannot be altered"),
        ("ALTER TABLE pairs SET TBLPROPERTIES (COLOUR = 'red')", "Unknown table option 'COLOUR'"),
        ("ALTER TABLE pairs SET TBLPROPERTIES (FLUSH_POLICY = 'rows:x')", "'rows:x' is no flush policy"),
        ("ALTER TABLE pairs SET TBLPROPERTIES (USE_USER_STORAGE = true)", "'USE_USER_STORAGE' is for USER tables"),
    ];
    for (sql, expected) in cases {
        let error = alter(sql).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "{sql}: {error}");
    }
}

#[test]
fn a_default_must_fit_the_wider_type() {
    let fixture = Fixture::new();
    let ctx = fixture.context(&[]);
    let table = ctx.catalog.table("chat", "all_types").unwrap();
    let add = |table: &TableMeta, sql: &str| match alter_table(&ctx, table, &operation(sql)).unwrap() {
        Alteration::Altered(altered) => altered.table,
        Alteration::Unchanged(why) => panic!("{sql}: {why}"),
    };
    let table = add(table, "ALTER TABLE all_types ADD COLUMN c BIGINT DEFAULT SNOWFLAKE_ID()");
    let wider = operation("ALTER TABLE all_types MODIFY COLUMN c DECIMAL(19,0)");
    let error = alter_table(&ctx, &table, &wider).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("DEFAULT SNOWFLAKE_ID() of column 'c' is none of type DECIMAL(19,0)"), "{error}");
    add(
        &add(&table, "ALTER TABLE all_types ALTER COLUMN c DROP DEFAULT"),
        "ALTER TABLE t MODIFY COLUMN c DECIMAL(19,0)",
    );
}

fn operation(sql: &str) -> AlterOperation {
    let Statement::AlterTable(alter) = parse(sql).unwrap().remove(0).statement else { panic!("{sql}") };
    alter.operation
}

#[test]
fn versions_and_columns_are_bounded() {
    let fixture = Fixture::new();
    let ctx = fixture.context(&[]);
    let mut table = (**ctx.catalog.table("chat", "pairs").unwrap()).clone();
    let step = |table: &TableMeta, sql: &str| alter_table(&ctx, table, &operation(sql));
    for n in 1..VERSIONS_MAX {
        let sql = format!("ALTER TABLE pairs ALTER COLUMN c SET DEFAULT {}", n + 1);
        let Alteration::Altered(altered) = step(&table, &sql).unwrap() else { panic!("version {n}") };
        table = altered.table;
    }
    let error = step(&table, "ALTER TABLE pairs ALTER COLUMN c DROP DEFAULT").map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("has 1000 versions"), "{error}");
    assert!(matches!(step(&table, "ALTER TABLE pairs SET ACCESS LEVEL PRIVATE"), Ok(Alteration::Unchanged(_))));
    let record = serde_json::to_string(&table).unwrap();
    assert!(record.len() < 200_000, "a record of {} bytes", record.len());
    table.columns = (0..COLUMNS_MAX).map(|_| table.columns[0].clone()).collect();
    let error = step(&table, "ALTER TABLE pairs ADD COLUMN x INT").map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("The table has 1000 columns; no more are allowed"), "{error}");
}
