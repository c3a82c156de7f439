//! Tables after changes: their versions, their records, how their older rows are read.

use super::*;
use crate::model::{ColumnDefault, ColumnName, NamespaceName, TableId, TableKind, TableName};

fn column(name: &str, data_type: DataType, nullable: bool) -> ColumnMeta {
    ColumnMeta { id: 0, name: ColumnName::parse(name).unwrap(), data_type, nullable, default: None }
}

/// `t(a TEXT, id BIGINT PRIMARY KEY, n INT)`
fn table() -> TableMeta {
    let columns = [("a", DataType::Text, true), ("id", DataType::BigInt, false), ("n", DataType::Int, true)];
    let columns =
        columns.iter().zip(1..).map(|((name, ty, nullable), id)| ColumnMeta { id, ..column(name, *ty, *nullable) });
    TableMeta {
        id: TableId(1),
        name: TableName::new(NamespaceName::parse("t").unwrap(), "t").unwrap(),
        kind: TableKind::Shared,
        columns: columns.collect(),
        primary_key: vec![1],
        access: AccessLevel::Private,
        durability: None,
        flush: Default::default(),
        compression: Default::default(),
        storage: crate::model::StorageId::local(),
        use_user_storage: false,
        deleted_retention_hours: None,
        ttl: None,
        unnamed_storage: None,
        checks: Vec::new(),
        comments: Default::default(),
        schema_version: 1,
        created_at: 5,
        updated_at: 5,
        history: SchemaHistory::default(),
    }
}

fn add(name: &str, data_type: DataType, missing: Value) -> SchemaChange {
    SchemaChange::AddColumn { column: column(name, data_type, true), missing }
}

fn change(table: &TableMeta, position: usize, of: impl FnOnce(&mut ColumnMeta)) -> SchemaChange {
    let mut column = table.columns[position].clone();
    of(&mut column);
    SchemaChange::ChangeColumn { position, column }
}

/// Versions 1 to 7: add b, drop a, n to BIGINT, n NOT NULL, open to all, drop b.
fn altered() -> TableMeta {
    let mut table = table().altered(add("b", DataType::SmallInt, Value::Int(9)), 10);
    table = table.altered(SchemaChange::DropColumn { position: 0 }, 20);
    table = table.altered(change(&table, 1, |n| n.data_type = DataType::BigInt), 30);
    table = table.altered(change(&table, 1, |n| n.nullable = false), 40);
    table = table.altered(
        SchemaChange::SetOptions(Box::new(TableOptions { access: AccessLevel::Public, ..table.options() })),
        50,
    );
    table.altered(SchemaChange::DropColumn { position: 2 }, 60)
}

fn shown(version: &SchemaVersion) -> String {
    let columns = version
        .columns
        .iter()
        .map(|c| format!("{}:{} {}{}", c.id, c.name, c.data_type, if c.nullable { "" } else { "!" }));
    let columns: Vec<String> = columns.collect();
    let access = version.access.as_str();
    format!("{}@{} {} key {:?} {access}", version.version, version.since, columns.join(", "), version.primary_key)
}

#[test]
fn every_version_is_remembered() {
    let shown: Vec<String> = altered().versions().map(|version| shown(&version)).collect();
    assert_eq!(
        shown,
        [
            "7@60 2:id BIGINT!, 3:n BIGINT! key [0] PUBLIC",
            "6@50 2:id BIGINT!, 3:n BIGINT!, 4:b SMALLINT key [0] PUBLIC",
            "5@40 2:id BIGINT!, 3:n BIGINT!, 4:b SMALLINT key [0] PRIVATE",
            "4@30 2:id BIGINT!, 3:n BIGINT, 4:b SMALLINT key [0] PRIVATE",
            "3@20 2:id BIGINT!, 3:n INT, 4:b SMALLINT key [0] PRIVATE",
            "2@10 1:a TEXT, 2:id BIGINT!, 3:n INT, 4:b SMALLINT key [1] PRIVATE",
            "1@5 1:a TEXT, 2:id BIGINT!, 3:n INT key [1] PRIVATE",
        ]
    );
}

#[test]
fn an_id_is_never_given_again() {
    let mut table = altered();
    for expected in [5, 6] {
        table = table.altered(add("b", DataType::Text, Value::Null), 70);
        assert_eq!(table.columns.last().unwrap().id, expected);
        table = table.altered(SchemaChange::DropColumn { position: 2 }, 80);
    }
    // Also where the first column to go is the last one there was.
    let table = super::tests::table().altered(SchemaChange::DropColumn { position: 2 }, 1);
    assert_eq!(table.altered(add("n", DataType::Int, Value::Null), 2).columns[2].id, 4);
}

#[test]
fn a_row_is_read_by_the_columns_that_it_was_written_with() {
    let table = altered().altered(add("c", DataType::Text, Value::Text("new".into())), 70);
    let layout = |version| {
        let layout = table.layout(version).unwrap();
        let cells: Vec<String> = layout
            .cells
            .iter()
            .map(|cell| format!("{}>{:?}{}", cell.data_type, cell.target, if cell.via.is_empty() { "" } else { "+" }))
            .collect();
        format!("{} | {:?} {}", cells.join(" "), layout.missing, layout.is_todays)
    };
    let new = r#"[(2, Text("new"))] false"#;
    assert_eq!(layout(1), format!("TEXT>None BIGINT>Some(0) INT>Some(1)+ | {new}"));
    assert_eq!(layout(2), format!("TEXT>None BIGINT>Some(0) INT>Some(1)+ SMALLINT>None | {new}"));
    assert_eq!(layout(4), format!("BIGINT>Some(0) BIGINT>Some(1) SMALLINT>None | {new}"));
    assert_eq!(layout(7), format!("BIGINT>Some(0) BIGINT>Some(1) | {new}"));
    assert!(table.layout(8).is_none() && table.layout(0).is_none(), "8 is today's");
    // Names, defaults, rights: the cells stay the same.
    let renamed = table.altered(change(&table, 1, |n| n.name = ColumnName::parse("m").unwrap()), 80);
    assert!(renamed.layout(8).unwrap().is_todays);
    assert!(!renamed.layout(7).unwrap().is_todays);
}

#[test]
fn widening_goes_step_by_step() {
    let mut table = table().altered(add("f", DataType::Float, Value::Float(f64::from(0.1f32))), 1);
    table = table.altered(change(&table, 3, |f| f.data_type = DataType::Double), 2);
    table = table.altered(change(&table, 3, |f| f.data_type = DataType::Text), 3);
    let expected = Value::Text("0.10000000149011612".into());
    assert_eq!(table.layout(1).unwrap().missing, [(3, expected.clone())], "as a row that was there is");
    let cell = &table.layout(2).unwrap().cells[3];
    assert_eq!(cell.via, [DataType::Double, DataType::Text]);
    assert_eq!(cell.todays(Value::Float(f64::from(0.1f32))), Some(expected));
}

#[test]
fn a_column_that_took_null_once_may_hold_one() {
    let nullable = table();
    let tightened = nullable.altered(change(&nullable, 2, |n| n.nullable = false), 1);
    assert!(nullable.may_hold_null(2) && tightened.may_hold_null(2), "tombstones keep what was there");
    assert!(!tightened.may_hold_null(1));
    let loosened = tightened.altered(change(&tightened, 2, |n| n.nullable = true), 2);
    assert!(loosened.history.once_nullable.is_empty());
    let added = nullable
        .altered(SchemaChange::AddColumn { column: column("c", DataType::Int, false), missing: Value::Int(1) }, 1);
    assert!(!added.may_hold_null(3), "no row ever held NULL there");
}

#[test]
fn the_record_keeps_it_all_and_an_old_record_has_none_of_it() {
    let mut table = altered();
    table = table.altered(add("c", DataType::Text, Value::Text("x".into())), 70);
    table = table.altered(change(&table, 2, |c| c.default = Some(ColumnDefault::Now)), 80);
    let json = serde_json::to_string(&table).unwrap();
    let back: TableMeta = serde_json::from_str(&json).unwrap();
    assert_eq!(back, table);
    assert_eq!(back.versions().collect::<Vec<_>>(), table.versions().collect::<Vec<_>>());
    let steps = &json[json.find("\"history\"").unwrap()..];
    assert_eq!(
        steps,
        concat!(
            r#""history":{"steps":[{"at":10,"remove":4},"#,
            r#"{"at":20,"insert":[0,{"id":1,"name":"a","type":"Text","nullable":true}]},"#,
            r#"{"at":30,"restore":{"id":3,"name":"n","type":"Int","nullable":true}},"#,
            r#"{"at":40,"restore":{"id":3,"name":"n","type":"BigInt","nullable":true}},"#,
            r#"{"at":50,"options":["PRIVATE",null]},"#,
            r#"{"at":60,"insert":[2,{"id":4,"name":"b","type":"SmallInt","nullable":true}]},"#,
            r#"{"at":70,"remove":5},"#,
            r#"{"at":80,"restore":{"id":5,"name":"c","type":"Text","nullable":true}}],"#,
            r#""next_column":6,"missing":{"5":{"text":"x"}},"once_nullable":[3]}}"#,
        )
    );

    let before_alter = concat!(
        r#"{"id":1,"name":{"namespace":"t","table":"t"},"kind":"shared","columns":[{"id":1,"name":"a","type":"Text","nullable":true},"#,
        r#"{"id":2,"name":"id","type":"BigInt","nullable":false},{"id":3,"name":"n","type":"Int","nullable":true}],"#,
        r#""primary_key":[1],"access":"PRIVATE","schema_version":1,"created_at":5,"updated_at":5}"#,
    );
    assert_eq!(serde_json::from_str::<TableMeta>(before_alter).unwrap(), super::tests::table());
    assert_eq!(serde_json::to_string(&super::tests::table()).unwrap(), before_alter, "it is written as before");
}
