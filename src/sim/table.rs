//! What is written: one small table, and statements on it.

use std::sync::Arc;

use crate::error::Result;
use crate::model::{
    AccessLevel, Assignment, ColumnMeta, ColumnName, DataType, NamespaceName, PkBytes, RowBytes, SchemaHistory,
    StoredRow, TableId, TableKind, TableMeta, TableName, Value, WriteOp,
};
use crate::partition::core::RowEditor;
use crate::storage::{keys, row_codec};

/// Few, so that statements meet.
const KEYS: u64 = 6;

/// `t(id BIGINT PRIMARY KEY, v INT)`
pub(super) fn simulated_table() -> Arc<TableMeta> {
    let column = |id, name: &str, data_type, nullable| ColumnMeta {
        id,
        name: ColumnName::parse(name).unwrap(),
        data_type,
        nullable,
        default: None,
    };
    Arc::new(TableMeta {
        id: TableId(1),
        name: TableName::new(NamespaceName::parse("sim").unwrap(), "t").unwrap(),
        kind: TableKind::User,
        columns: vec![column(1, "id", DataType::BigInt, false), column(2, "v", DataType::Int, true)],
        primary_key: vec![0],
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
        created_at: 0,
        updated_at: 0,
        history: SchemaHistory::default(),
    })
}

/// One statement: an insert of some rows, updates or deletes by key, or a computed change of rows that were read before.
pub(super) fn any_ops(
    table: &TableMeta,
    live: &[(PkBytes, StoredRow)],
    mut below: impl FnMut(u64) -> u64,
) -> Vec<WriteOp> {
    let row = |key: u64, v: u64| {
        let values = [Value::Int(key as i64), Value::Int(v as i64)];
        (keys::encode_pk(table, &values, 1).unwrap(), row_codec::encode(table, &values))
    };
    let (kind, first, count) = (below(6), below(KEYS), 1 + below(3));
    let keys: Vec<u64> = (0..count).map(|n| (first + n) % KEYS).collect();
    match kind {
        0 | 1 => {
            let inserts = keys.iter().map(|key| row(*key, below(4)));
            inserts.map(|(pk, row)| WriteOp::Insert { pk, row }).collect()
        }
        2 => {
            let assignments: Arc<[Assignment]> = [Assignment { column: 1, value: Value::Int(below(4) as i64) }].into();
            vec![WriteOp::Patch { pk: row(first, 0).0, assignments }]
        }
        3 => vec![WriteOp::Delete { pk: row(first, 0).0, expected: None }],
        // Computed of what was read a moment ago: it may have changed since.
        4 => {
            let chosen = live.iter().filter(|(pk, _)| keys.iter().any(|key| row(*key, 0).0 == *pk));
            let replace = |(pk, old): &(PkBytes, StoredRow)| {
                let key = keys.iter().find(|key| row(**key, 0).0 == *pk).copied().unwrap_or_default();
                WriteOp::Replace { pk: pk.clone(), expected: old.seq, row: row(key, below(4)).1 }
            };
            chosen.map(replace).collect()
        }
        _ => {
            let chosen = live.iter().filter(|(pk, _)| keys.iter().any(|key| row(*key, 0).0 == *pk));
            chosen.map(|(pk, old)| WriteOp::Delete { pk: pk.clone(), expected: Some(old.seq) }).collect()
        }
    }
}

/// `id` and `v` of a stored row.
pub(super) fn cells(table: &TableMeta, row: &RowBytes) -> (i64, Option<i64>) {
    let int = |value: &Value| match value {
        Value::Int(v) => Some(*v),
        _ => None,
    };
    let values = row_codec::decode(table, row).unwrap();
    (int(&values[0]).unwrap(), int(&values[1]))
}

/// The storage layer's codecs, as in the partition's actor.
pub(super) struct Editor<'a>(pub &'a TableMeta);

impl RowEditor for Editor<'_> {
    fn patch(&self, row: &RowBytes, assignments: &[Assignment]) -> Result<RowBytes> {
        row_codec::patch(self.0, row, assignments)
    }

    fn todays(&self, row: &RowBytes) -> Result<RowBytes> {
        row_codec::todays(self.0, row)
    }

    fn describe_key(&self, pk: &PkBytes) -> (String, String) {
        ("id".to_owned(), keys::display_pk(self.0, pk))
    }
}
