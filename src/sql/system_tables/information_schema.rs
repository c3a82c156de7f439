//! `information_schema.*`: what the standard has tools ask, in PostgreSQL's words.
//!
//! Owns the tables' names and columns. Each is computed when a statement names it, of what its reader may read: a table that
//! they may not read is not there, and a view only where all that it reads is.
//! Never shows a row of a table.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::{Result, ScalarValue};

use super::{Column, SystemTable, batch_of, bigint, count, int, null, text, words};
use crate::auth::policy::Policy;
use crate::model::{Catalog, CheckMeta, DataType, Principal, TableMeta, ViewMeta};

/// The one database, as SQL names it.
const DATABASE: &str = "kalam";
const SYSTEM: &str = "system";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InformationTable {
    Schemata,
    Tables,
    Columns,
    Views,
    TableConstraints,
    KeyColumnUsage,
    ConstraintColumnUsage,
    CheckConstraints,
    ReferentialConstraints,
    Routines,
}

impl InformationTable {
    const ALL: &'static [(InformationTable, &'static str)] = &[
        (InformationTable::Schemata, "schemata"),
        (InformationTable::Tables, "tables"),
        (InformationTable::Columns, "columns"),
        (InformationTable::Views, "views"),
        (InformationTable::TableConstraints, "table_constraints"),
        (InformationTable::KeyColumnUsage, "key_column_usage"),
        (InformationTable::ConstraintColumnUsage, "constraint_column_usage"),
        (InformationTable::CheckConstraints, "check_constraints"),
        (InformationTable::ReferentialConstraints, "referential_constraints"),
        (InformationTable::Routines, "routines"),
    ];

    pub(crate) fn named(name: &str) -> Option<InformationTable> {
        Self::ALL.iter().find(|(_, own)| own.eq_ignore_ascii_case(name)).map(|(table, _)| *table)
    }

    /// What `reader` may see. `functions`: the names of all there are.
    pub(crate) fn rows(self, catalog: &Catalog, reader: &Principal, functions: &[String]) -> Result<RecordBatch> {
        let seen = Seen { catalog, reader };
        match self {
            InformationTable::Schemata => batch_of(SCHEMATA, &seen.schemas()),
            InformationTable::Tables => batch_of(TABLES, &seen.relations()),
            InformationTable::Columns => batch_of(COLUMNS, &seen.columns()),
            InformationTable::Views => batch_of(VIEWS, &seen.views()),
            InformationTable::TableConstraints => batch_of(TABLE_CONSTRAINTS, &seen.constraints()),
            InformationTable::KeyColumnUsage => {
                let mut columns = seen.constraint_columns();
                columns.retain(|column| column.of.is_key());
                batch_of(KEY_COLUMN_USAGE, &columns)
            }
            InformationTable::ConstraintColumnUsage => batch_of(CONSTRAINT_COLUMN_USAGE, &seen.constraint_columns()),
            InformationTable::CheckConstraints => {
                let mut checks = seen.constraints();
                checks.retain(|constraint| !constraint.is_key());
                batch_of(CHECK_CONSTRAINTS, &checks)
            }
            InformationTable::ReferentialConstraints => batch_of(REFERENTIAL_CONSTRAINTS, &[]),
            InformationTable::Routines => batch_of(ROUTINES, functions),
        }
    }
}

/// The catalog as one reader sees it.
struct Seen<'c> {
    catalog: &'c Catalog,
    reader: &'c Principal,
}

impl<'c> Seen<'c> {
    fn tables(&self) -> impl Iterator<Item = &'c Arc<TableMeta>> {
        self.catalog.tables().filter(|table| Policy.sees(self.reader, table))
    }

    fn views(&self) -> Vec<Arc<ViewMeta>> {
        self.catalog.views.values().filter(|view| Policy.sees_view(self.reader, self.catalog, view)).cloned().collect()
    }

    fn sees_system(&self) -> bool {
        Policy.may_read_system(self.reader).is_ok()
    }

    fn schemas(&self) -> Vec<String> {
        let mut names: Vec<String> = self.catalog.namespaces.keys().map(ToString::to_string).collect();
        if self.sees_system() {
            names.push(SYSTEM.to_owned());
        }
        names
    }

    fn relations(&self) -> Vec<Relation> {
        let own = self.tables().map(|table| Relation {
            schema: table.name.namespace().to_string(),
            name: table.name.table().to_owned(),
            is_table: true,
        });
        let views = self.views().into_iter().map(|view| Relation {
            schema: view.name.namespace().to_string(),
            name: view.name.table().to_owned(),
            is_table: false,
        });
        let mut relations: Vec<Relation> = own.chain(views).collect();
        if self.sees_system() {
            relations.extend(SystemTable::ALL.iter().map(|table| Relation {
                schema: SYSTEM.to_owned(),
                name: table.name().to_owned(),
                is_table: false,
            }));
        }
        relations
    }

    fn columns(&self) -> Vec<ColumnRow> {
        let mut rows = Vec::new();
        for table in self.tables() {
            for (position, field) in table.declared_schema().fields().iter().enumerate() {
                let own = table.columns.get(position);
                rows.push(ColumnRow {
                    schema: table.name.namespace().to_string(),
                    table: table.name.table().to_owned(),
                    name: field.name().clone(),
                    position: position + 1,
                    data_type: own.map_or_else(|| DataType::of_arrow(field.data_type()), |own| own.data_type),
                    nullable: field.is_nullable(),
                    default: own.and_then(|own| own.default.as_ref()).map(ToString::to_string),
                    is_updatable: own.is_some() && !table.is_stream() && !table.is_key(position),
                });
            }
        }
        for view in self.views() {
            for (position, column) in view.columns.iter().enumerate() {
                let of = (view.name.namespace().to_string(), view.name.table().to_owned());
                rows.push(ColumnRow::computed(of, &column.name, position, column.data_type));
            }
        }
        if self.sees_system() {
            for table in SystemTable::ALL {
                for (position, field) in table.schema().fields().iter().enumerate() {
                    let of = (SYSTEM.to_owned(), table.name().to_owned());
                    let nullable = field.is_nullable();
                    let row = ColumnRow::computed(of, field.name(), position, DataType::of_field(field));
                    rows.push(ColumnRow { nullable, ..row });
                }
            }
        }
        rows
    }

    fn constraints(&self) -> Vec<Constraint> {
        let mut rows = Vec::new();
        for table in self.tables() {
            if !table.unique_key().is_empty() {
                rows.push(Constraint { table: table.clone(), check: None });
            }
            rows.extend(
                table.checks.iter().map(|check| Constraint { table: table.clone(), check: Some(check.clone()) }),
            );
        }
        rows
    }

    fn constraint_columns(&self) -> Vec<ConstraintColumn> {
        let mut rows = Vec::new();
        for of in self.constraints() {
            let columns: Vec<usize> = match &of.check {
                None => of.table.unique_key().to_vec(),
                Some(check) => {
                    let ids = of.table.columns.iter().enumerate();
                    ids.filter(|(_, column)| check.columns.contains(&column.id)).map(|(position, _)| position).collect()
                }
            };
            for (nth, column) in columns.into_iter().enumerate() {
                rows.push(ConstraintColumn { of: of.clone(), column, nth: nth + 1 });
            }
        }
        rows
    }
}

struct Relation {
    schema: String,
    name: String,
    is_table: bool,
}

struct ColumnRow {
    schema: String,
    table: String,
    name: String,
    /// From 1.
    position: usize,
    data_type: DataType,
    nullable: bool,
    default: Option<String>,
    is_updatable: bool,
}

impl ColumnRow {
    fn computed((schema, table): (String, String), name: &str, position: usize, data_type: DataType) -> Self {
        let (name, position) = (name.to_owned(), position + 1);
        Self { schema, table, name, position, data_type, nullable: true, default: None, is_updatable: false }
    }
}

/// The primary key, or a CHECK.
#[derive(Clone)]
struct Constraint {
    table: Arc<TableMeta>,
    check: Option<CheckMeta>,
}

impl Constraint {
    fn is_key(&self) -> bool {
        self.check.is_none()
    }

    fn name(&self) -> String {
        match &self.check {
            Some(check) => check.name.clone(),
            None => format!("{}_pkey", self.table.name.table()),
        }
    }
}

struct ConstraintColumn {
    of: Constraint,
    column: usize,
    /// From 1.
    nth: usize,
}

fn yes_no(yes: bool) -> ScalarValue {
    if yes { "YES" } else { "NO" }.into()
}

fn nothing() -> ScalarValue {
    words(None::<String>)
}

fn number(n: Option<i32>) -> ScalarValue {
    ScalarValue::Int32(n)
}

/// PostgreSQL's name of the type, as the standard has it and as it is called inside.
fn names_of(ty: DataType) -> (&'static str, &'static str) {
    match ty {
        DataType::Boolean => ("boolean", "bool"),
        DataType::SmallInt => ("smallint", "int2"),
        DataType::Int => ("integer", "int4"),
        DataType::BigInt => ("bigint", "int8"),
        DataType::Float => ("real", "float4"),
        DataType::Double => ("double precision", "float8"),
        DataType::Text => ("text", "text"),
        DataType::Bytes => ("bytea", "bytea"),
        DataType::Date => ("date", "date"),
        DataType::Time => ("time without time zone", "time"),
        DataType::Timestamp => ("timestamp without time zone", "timestamp"),
        DataType::DateTime => ("timestamp with time zone", "timestamptz"),
        DataType::Uuid => ("uuid", "uuid"),
        DataType::Decimal { .. } => ("numeric", "numeric"),
        DataType::Json => ("json", "json"),
        DataType::File => ("USER-DEFINED", "file"),
        DataType::Embedding(_) => ("USER-DEFINED", "embedding"),
    }
}

/// Digits, in which base, and how many of them behind the point.
fn digits_of(ty: DataType) -> (Option<i32>, Option<i32>, Option<i32>) {
    match ty {
        DataType::SmallInt => (Some(16), Some(2), Some(0)),
        DataType::Int => (Some(32), Some(2), Some(0)),
        DataType::BigInt => (Some(64), Some(2), Some(0)),
        DataType::Float => (Some(24), Some(2), None),
        DataType::Double => (Some(53), Some(2), None),
        DataType::Decimal { precision, scale } => (Some(i32::from(precision)), Some(10), Some(i32::from(scale))),
        _ => (None, None, None),
    }
}

fn second_digits_of(ty: DataType) -> Option<i32> {
    match ty {
        DataType::Date => Some(0),
        DataType::Time | DataType::Timestamp | DataType::DateTime => Some(6),
        _ => None,
    }
}

const SCHEMATA: &[Column<String>] = &[
    text("catalog_name", |_| DATABASE.into()),
    text("schema_name", |r| r.as_str().into()),
    null(text("schema_owner", |_| nothing())),
    null(text("default_character_set_catalog", |_| nothing())),
    null(text("default_character_set_schema", |_| nothing())),
    null(text("default_character_set_name", |_| nothing())),
    null(text("sql_path", |_| nothing())),
];

const TABLES: &[Column<Relation>] = &[
    text("table_catalog", |_| DATABASE.into()),
    text("table_schema", |r| r.schema.as_str().into()),
    text("table_name", |r| r.name.as_str().into()),
    text("table_type", |r| if r.is_table { "BASE TABLE" } else { "VIEW" }.into()),
    null(text("self_referencing_column_name", |_| nothing())),
    null(text("reference_generation", |_| nothing())),
    null(text("user_defined_type_catalog", |_| nothing())),
    null(text("user_defined_type_schema", |_| nothing())),
    null(text("user_defined_type_name", |_| nothing())),
    text("is_insertable_into", |r| yes_no(r.is_table)),
    text("is_typed", |_| "NO".into()),
    null(text("commit_action", |_| nothing())),
];

const COLUMNS: &[Column<ColumnRow>] = &[
    text("table_catalog", |_| DATABASE.into()),
    text("table_schema", |r| r.schema.as_str().into()),
    text("table_name", |r| r.table.as_str().into()),
    text("column_name", |r| r.name.as_str().into()),
    bigint("ordinal_position", |r| count(r.position).into()),
    null(text("column_default", |r| words(r.default.as_deref()))),
    text("is_nullable", |r| yes_no(r.nullable)),
    text("data_type", |r| names_of(r.data_type).0.into()),
    null(int("character_maximum_length", |_| number(None))),
    null(int("character_octet_length", |_| number(None))),
    null(int("numeric_precision", |r| number(digits_of(r.data_type).0))),
    null(int("numeric_precision_radix", |r| number(digits_of(r.data_type).1))),
    null(int("numeric_scale", |r| number(digits_of(r.data_type).2))),
    null(int("datetime_precision", |r| number(second_digits_of(r.data_type)))),
    text("udt_catalog", |_| DATABASE.into()),
    text("udt_schema", |_| "pg_catalog".into()),
    text("udt_name", |r| names_of(r.data_type).1.into()),
    text("is_identity", |_| "NO".into()),
    text("is_generated", |_| "NEVER".into()),
    text("is_updatable", |r| yes_no(r.is_updatable)),
];

const VIEWS: &[Column<Arc<ViewMeta>>] = &[
    text("table_catalog", |_| DATABASE.into()),
    text("table_schema", |r| r.name.namespace().as_str().into()),
    text("table_name", |r| r.name.table().into()),
    text("view_definition", |r| r.query.as_str().into()),
    text("check_option", |_| "NONE".into()),
    text("is_updatable", |_| "NO".into()),
    text("is_insertable_into", |_| "NO".into()),
    text("is_trigger_updatable", |_| "NO".into()),
    text("is_trigger_deletable", |_| "NO".into()),
    text("is_trigger_insertable_into", |_| "NO".into()),
];

const TABLE_CONSTRAINTS: &[Column<Constraint>] = &[
    text("constraint_catalog", |_| DATABASE.into()),
    text("constraint_schema", |r| r.table.name.namespace().as_str().into()),
    text("constraint_name", |r| r.name().into()),
    text("table_catalog", |_| DATABASE.into()),
    text("table_schema", |r| r.table.name.namespace().as_str().into()),
    text("table_name", |r| r.table.name.table().into()),
    text("constraint_type", |r| if r.is_key() { "PRIMARY KEY" } else { "CHECK" }.into()),
    text("is_deferrable", |_| "NO".into()),
    text("initially_deferred", |_| "NO".into()),
    text("enforced", |_| "YES".into()),
];

const KEY_COLUMN_USAGE: &[Column<ConstraintColumn>] = &[
    text("constraint_catalog", |_| DATABASE.into()),
    text("constraint_schema", |r| r.of.table.name.namespace().as_str().into()),
    text("constraint_name", |r| r.of.name().into()),
    text("table_catalog", |_| DATABASE.into()),
    text("table_schema", |r| r.of.table.name.namespace().as_str().into()),
    text("table_name", |r| r.of.table.name.table().into()),
    text("column_name", |r| r.of.table.columns[r.column].name.as_str().into()),
    bigint("ordinal_position", |r| count(r.nth).into()),
    null(bigint("position_in_unique_constraint", |_| ScalarValue::Int64(None))),
];

const CONSTRAINT_COLUMN_USAGE: &[Column<ConstraintColumn>] = &[
    text("table_catalog", |_| DATABASE.into()),
    text("table_schema", |r| r.of.table.name.namespace().as_str().into()),
    text("table_name", |r| r.of.table.name.table().into()),
    text("column_name", |r| r.of.table.columns[r.column].name.as_str().into()),
    text("constraint_catalog", |_| DATABASE.into()),
    text("constraint_schema", |r| r.of.table.name.namespace().as_str().into()),
    text("constraint_name", |r| r.of.name().into()),
];

const CHECK_CONSTRAINTS: &[Column<Constraint>] = &[
    text("constraint_catalog", |_| DATABASE.into()),
    text("constraint_schema", |r| r.table.name.namespace().as_str().into()),
    text("constraint_name", |r| r.name().into()),
    text("check_clause", |r| r.check.as_ref().map_or("", |check| check.condition.as_str()).into()),
];

/// There are no foreign keys; tools ask all the same.
const REFERENTIAL_CONSTRAINTS: &[Column<Constraint>] = &[
    text("constraint_catalog", |_| DATABASE.into()),
    text("constraint_schema", |r| r.table.name.namespace().as_str().into()),
    text("constraint_name", |r| r.name().into()),
    null(text("unique_constraint_catalog", |_| nothing())),
    null(text("unique_constraint_schema", |_| nothing())),
    null(text("unique_constraint_name", |_| nothing())),
    text("match_option", |_| "NONE".into()),
    text("update_rule", |_| "NO ACTION".into()),
    text("delete_rule", |_| "NO ACTION".into()),
];

const ROUTINES: &[Column<String>] = &[
    text("specific_catalog", |_| DATABASE.into()),
    text("specific_schema", |_| "pg_catalog".into()),
    text("specific_name", |r| r.as_str().into()),
    text("routine_catalog", |_| DATABASE.into()),
    text("routine_schema", |_| "pg_catalog".into()),
    text("routine_name", |r| r.as_str().into()),
    text("routine_type", |_| "FUNCTION".into()),
    null(text("data_type", |_| nothing())),
    text("routine_body", |_| "EXTERNAL".into()),
    null(text("routine_definition", |_| nothing())),
];
