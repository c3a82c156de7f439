//! What a query answers: its columns as the wire names them, and its rows as bytes.
//!
//! Owns the schema that clients see and, in [`cells`], the one cell encoding for JSON and MessagePack.
//! Never builds a document of values: rows go from Arrow arrays straight into a serializer.

mod cells;

use std::sync::Arc;

use arrow::datatypes::Schema;
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

pub use cells::{Cell, CellEncoders, RowArray, RowArrays, RowObject, RowObjects};

use super::schema::{DELETED_COLUMN, SEQ_COLUMN, STORAGE_ID_COLUMN, USER_ID_COLUMN};
use super::{DataType, TableMeta};

/// What is true of each value of a table's column. Computed columns have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ColumnFlags {
    /// Part of the primary key.
    pub pk: bool,
    /// Never NULL.
    pub nn: bool,
    /// No value twice.
    pub uq: bool,
}

impl ColumnFlags {
    pub const NONE: ColumnFlags = ColumnFlags { pk: false, nn: false, uq: false };
    const NOT_NULL: ColumnFlags = ColumnFlags { pk: false, nn: true, uq: false };

    fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

impl Serialize for ColumnFlags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let flags = [(self.pk, "pk"), (self.nn, "nn"), (self.uq, "uq")];
        let mut list = serializer.serialize_seq(Some(flags.iter().filter(|(set, _)| *set).count()))?;
        for (_, name) in flags.iter().filter(|(set, _)| *set) {
            list.serialize_element(name)?;
        }
        list.end()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultColumn {
    pub name: String,
    pub data_type: DataType,
    pub flags: ColumnFlags,
}

impl ResultColumn {
    /// Column `position` of [`TableMeta::arrow_schema_all_owners`]; `None` where there is no such column.
    pub fn of_table(table: &TableMeta, position: usize) -> Option<ResultColumn> {
        if let Some(column) = table.columns.get(position) {
            let pk = table.is_key(position);
            // Of several key columns, none is unique by itself.
            let uq = pk && table.unique_key().len() == 1;
            let flags = ColumnFlags { pk, nn: pk || !table.may_hold_null(position), uq };
            return Some(ResultColumn { name: column.name.as_str().to_owned(), data_type: column.data_type, flags });
        }
        let (name, data_type) = match position - table.columns.len() {
            0 => (SEQ_COLUMN, DataType::BigInt),
            1 => (DELETED_COLUMN, DataType::Boolean),
            2 => (USER_ID_COLUMN, DataType::Text),
            3 => (STORAGE_ID_COLUMN, DataType::Text),
            _ => return None,
        };
        Some(ResultColumn { name: name.to_owned(), data_type, flags: ColumnFlags::NOT_NULL })
    }
}

/// The columns of a result, in order. Serialized as the wire's `schema` list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultSchema(Arc<[ResultColumn]>);

impl ResultSchema {
    pub fn new(columns: Vec<ResultColumn>) -> Self {
        Self(columns.into())
    }

    /// What `SELECT *` shows: the table's columns, `_seq` and `_deleted`.
    pub fn of_table(table: &TableMeta) -> Self {
        Self::of_positions(table, table.columns.len() + 2)
    }

    /// [`ResultSchema::of_table`], `_user_id` and `_storage_id`: what `SELECT *` over all owners shows.
    pub fn of_table_all_owners(table: &TableMeta) -> Self {
        Self::of_positions(table, table.columns.len() + 4)
    }

    fn of_positions(table: &TableMeta, count: usize) -> Self {
        let shown = (0..count).filter(|position| !table.is_stream() || *position != table.columns.len() + 1);
        Self(shown.filter_map(|position| ResultColumn::of_table(table, position)).collect())
    }

    /// Some columns of a table: `positions` in [`TableMeta::arrow_schema_all_owners`], each shown as the name at the
    /// same place of `names`. Positions that no column has are left out.
    pub fn of_table_projection(table: &TableMeta, positions: &[usize], names: &[String]) -> Self {
        let columns = positions.iter().zip(names).filter_map(|(position, name)| {
            ResultColumn::of_table(table, *position).map(|column| ResultColumn { name: name.clone(), ..column })
        });
        Self(columns.collect())
    }

    /// Computed columns: no flags.
    pub fn of_arrow(schema: &Schema) -> Self {
        let columns = schema.fields().iter().map(|field| ResultColumn {
            name: field.name().clone(),
            data_type: DataType::of_field(field),
            flags: ColumnFlags::NONE,
        });
        Self(columns.collect())
    }

    pub fn columns(&self) -> &[ResultColumn] {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for ResultSchema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct WireColumn<'a> {
            name: &'a str,
            data_type: DataType,
            index: usize,
            #[serde(skip_serializing_if = "ColumnFlags::is_none")]
            flags: ColumnFlags,
        }

        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for (index, column) in self.0.iter().enumerate() {
            list.serialize_element(&WireColumn {
                name: &column.name,
                data_type: column.data_type,
                index,
                flags: column.flags,
            })?;
        }
        list.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        AccessLevel, ColumnMeta, ColumnName, NamespaceName, SchemaHistory, TableId, TableKind, TableName,
    };

    fn notes() -> TableMeta {
        let column = |id, name: &str, data_type, nullable| ColumnMeta {
            id,
            name: ColumnName::parse(name).unwrap(),
            data_type,
            nullable,
            default: None,
        };
        TableMeta {
            id: TableId(1),
            name: TableName::new(NamespaceName::parse("demo").unwrap(), "notes").unwrap(),
            kind: TableKind::User,
            columns: vec![
                column(1, "id", DataType::BigInt, false),
                column(2, "body", DataType::Text, false),
                column(3, "price", DataType::Decimal { precision: 10, scale: 2 }, true),
            ],
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
        }
    }

    #[test]
    fn a_tables_schema_as_the_wire_shows_it() {
        let json = serde_json::to_string(&ResultSchema::of_table(&notes())).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"[{"name":"id","data_type":"BigInt","index":0,"flags":["pk","nn","uq"]},"#,
                r#"{"name":"body","data_type":"Text","index":1,"flags":["nn"]},"#,
                r#"{"name":"price","data_type":{"Decimal":{"precision":10,"scale":2}},"index":2},"#,
                r#"{"name":"_seq","data_type":"BigInt","index":3,"flags":["nn"]},"#,
                r#"{"name":"_deleted","data_type":"Boolean","index":4,"flags":["nn"]}]"#,
            )
        );
    }

    #[test]
    fn a_column_of_a_composite_key_is_not_unique_by_itself() {
        let table = TableMeta { primary_key: vec![0, 1], ..notes() };
        let schema = ResultSchema::of_table(&table);
        let flags: Vec<ColumnFlags> = schema.columns().iter().map(|column| column.flags).collect();
        let of_key = ColumnFlags { pk: true, nn: true, uq: false };
        assert_eq!(flags[..3], [of_key, of_key, ColumnFlags::NONE]);
    }

    #[test]
    fn a_projection_keeps_types_and_flags_under_its_own_names() {
        let schema =
            ResultSchema::of_table_projection(&notes(), &[1, 5, 9], &["text".into(), "who".into(), "x".into()]);
        let json = serde_json::to_string(&schema).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"[{"name":"text","data_type":"Text","index":0,"flags":["nn"]},"#,
                r#"{"name":"who","data_type":"Text","index":1,"flags":["nn"]}]"#,
            )
        );
    }
}
