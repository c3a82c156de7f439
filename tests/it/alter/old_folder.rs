//! A data folder of format 1, from before there was an ALTER TABLE: opens, reads, and can be altered.

use std::sync::Arc;

use bytes::Bytes;
use inboxdb::model::{
    Change, CommittedChanges, Durability, Owner, PkBytes, RowBytes, Seq, SeqRange, TableMeta, UserId,
};
use inboxdb::storage::{CommitEntry, CommitLog as _, FjallLog, RecordKind, RecordWrite, Store};
use serde_json::json;

use super::with_server;

/// The record of `old.t(id BIGINT PRIMARY KEY, s SMALLINT, body TEXT NOT NULL)` as format 1 wrote it.
const TABLE: &str = concat!(
    r#"{"id":77,"name":{"namespace":"old","table":"t"},"kind":"user","columns":[{"id":1,"name":"id","type":"BigInt","nullable":false},"#,
    r#"{"id":2,"name":"s","type":"SmallInt","nullable":true,"default":{"literal":"5"}},"#,
    r#"{"id":3,"name":"body","type":"Text","nullable":false}],"primary_key":[0],"access":"PRIVATE","schema_version":1,"#,
    r#""created_at":1750000000000000,"updated_at":1750000000000000}"#,
);

/// Rows (1, 7, 'one') and (2, NULL, 'two'), byte by byte.
const ROWS: [(i64, &[u8]); 2] = [
    (1, &[1, 0b000, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 3, b'o', b'n', b'e']),
    (2, &[1, 0b010, 2, 0, 0, 0, 0, 0, 0, 0, 3, b't', b'w', b'o']),
];

#[test]
fn a_folder_of_format_1_opens_and_can_be_altered() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    with_server(&data, |server| {
        let mut admin = server.set_up();
        admin.sql("CREATE NAMESPACE old");
    });
    write_format_1(&data);
    with_server(&data, |server| {
        let mut admin = server.log_in("admin");
        let rows = "SELECT id, s, body FROM old.t";
        assert_eq!(admin.rows(rows), json!([["1", 7, "one"], ["2", null, "two"]]));
        admin.sql("ALTER TABLE old.t ADD COLUMN more TEXT DEFAULT 'm'");
        admin.sql("ALTER TABLE old.t MODIFY COLUMN s INT");
        admin.sql("INSERT INTO old.t (id, body) VALUES (3, 'three')");
        admin.sql("UPDATE old.t SET body = 'two!' WHERE id = 2");
    });
    with_server(&data, |server| {
        let mut admin = server.log_in("admin");
        let rows = admin.rows("SELECT id, s, body, more FROM old.t ORDER BY id");
        assert_eq!(rows, json!([["1", 7, "one", "m"], ["2", null, "two!", "m"], ["3", 5, "three", "m"]]));
        let versions = "SELECT schema_version, is_latest FROM system.schemas WHERE table_id = 'old:t' ORDER BY 1";
        assert_eq!(admin.rows(versions), json!([[1, false], [2, false], [3, true]]));
    });
}

/// Puts the table, two rows of the administrator's, and the old format number into the folder.
fn write_format_1(data: &std::path::Path) {
    let (store, recovered) = Store::open(data, 1 << 20).unwrap();
    let mut log = FjallLog::new(store, recovered);
    let record = |kind, key: &str, value: &[u8]| RecordWrite { kind, key: key.to_owned(), value: Some(value.to_vec()) };
    let records = vec![
        record(RecordKind::Store, "format", &1u32.to_be_bytes()),
        record(RecordKind::Table, "77", TABLE.as_bytes()),
        record(RecordKind::Setting, "next_table_id", b"78"),
    ];
    let table: Arc<TableMeta> = Arc::new(serde_json::from_str(TABLE).unwrap());
    let seq = |n| Seq::new(1_000 + n).unwrap();
    let changes: Vec<(Seq, Change)> = ROWS
        .iter()
        .map(|(id, row)| {
            let pk = PkBytes(Bytes::copy_from_slice(&(id ^ i64::MIN).to_be_bytes()));
            (seq(*id), Change { pk, row: RowBytes(Bytes::from_static(row)), replaces: None, deletes: false })
        })
        .collect();
    let owner = Owner::User(UserId::parse("admin").unwrap());
    let range = SeqRange { first: seq(1), last: seq(2) };
    let changes = changes.into();
    let committed = CommittedChanges { table, owner, range, changes, notes: Vec::new(), stats: None, quota: None };
    log.append(&[CommitEntry::Records(records), CommitEntry::Changes(committed)], Durability::Sync).unwrap();
}
