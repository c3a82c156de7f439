//! CREATE TABLE and ALTER TABLE to a checked table.
//!
//! Owns every rule about what a table may be: its kind, key, columns, defaults and options.
//! Never stores anything and gives out no ids. What is accepted here is honoured; the rest is refused by name.
//! Start at [`define_table`] and [`alter_table`].

use std::collections::HashSet;

use datafusion::sql::sqlparser::ast;

use crate::error::{Error, Result};
use crate::model::schema::stream_ttl::TTL_SECONDS_MAX;
use crate::model::{
    AccessLevel, CheckMeta, ColumnDefault, ColumnMeta, ColumnName, DataType, Principal, Role, SchemaHistory, StorageId,
    StreamTtl, TableId, TableKind, TableMeta, TableName, TableOptions,
};
use crate::sql::check::define_check;
use crate::sql::statement::CreateTable;

pub use alter::{Alteration, AlteredTable, alter_table};
pub use as_query::{QueryColumns, columns_of_query};
pub(crate) use default::default_value;
pub use storage::{alter_storage, define_storage};
pub(crate) use types::data_type;
pub(crate) use words::is_reserved_word;

mod alter;
mod as_query;
mod default;
mod storage;
pub mod topic;
mod types;
mod words;

/// Columns of one table.
pub const COLUMNS_MAX: usize = 1_000;

/// The longest DELETED_RETENTION_HOURS: a hundred years.
const RETENTION_HOURS_MAX: u32 = 876_600;

/// The table that `create` describes.
///
/// # Errors
/// `INVALID_SQL`, `INVALID_NAME`.
pub fn define_table(
    create: &CreateTable,
    name: TableName,
    id: TableId,
    caller: &Principal,
    now_us: i64,
) -> Result<TableMeta> {
    let kind = create.kind.unwrap_or_else(|| default_kind(&name, caller));
    if create.columns.len() > COLUMNS_MAX {
        let count = create.columns.len();
        return Err(Error::InvalidSql(format!("The table has {count} columns; {COLUMNS_MAX} are allowed")));
    }
    let mut columns = Vec::with_capacity(create.columns.len());
    let mut names = HashSet::with_capacity(create.columns.len());
    let mut primary_key = Vec::new();
    for (definition, id) in create.columns.iter().zip(1..) {
        let (column, is_key) = define_column(definition, id)?;
        if !names.insert(column.name.clone()) {
            return Err(Error::InvalidSql(format!("Column '{}' is defined twice", column.name)));
        }
        if is_key {
            primary_key.push(columns.len());
        }
        columns.push(column);
    }
    let primary_key = define_key(create, kind, &mut columns, primary_key)?;
    let checks = define_checks(create, &name, &columns)?;
    let options = with_options(TableOptions::default(), &create.options, kind)?;
    if kind == TableKind::Stream && options.ttl_seconds.is_none() {
        return Err(Error::InvalidSql(
            "A STREAM table needs TTL_SECONDS, the time that its rows live: WITH (TTL_SECONDS = 60)".to_owned(),
        ));
    }
    Ok(TableMeta {
        id,
        name,
        kind,
        columns,
        primary_key,
        access: options.access,
        durability: options.durability,
        flush: options.flush,
        compression: options.compression,
        storage: options.storage,
        use_user_storage: options.use_user_storage,
        deleted_retention_hours: options.deleted_retention_hours,
        ttl: options.ttl_seconds.map(StreamTtl::new),
        unnamed_storage: None,
        checks,
        comments: Default::default(),
        schema_version: 1,
        created_at: now_us,
        updated_at: now_us,
        history: SchemaHistory::default(),
    })
}

/// SHARED, except for users who create a table in the namespace that is named like them.
fn default_kind(name: &TableName, caller: &Principal) -> TableKind {
    let own = name.namespace().as_str().eq_ignore_ascii_case(caller.user.as_str());
    if own && matches!(caller.role, Role::User | Role::Service) { TableKind::User } else { TableKind::Shared }
}

/// The column, and whether PRIMARY KEY stands behind it.
fn define_column(definition: &ast::ColumnDef, id: u32) -> Result<(ColumnMeta, bool)> {
    let name = new_name(&definition.name)?;
    let serial = types::is_serial(&definition.data_type);
    let data_type = if serial { DataType::BigInt } else { data_type(&definition.data_type)? };
    let mut column = ColumnMeta { id, name, data_type, nullable: true, default: None };
    if serial {
        column.default = Some(ColumnDefault::SnowflakeId);
    }
    let mut is_key = false;
    let mut unique = false;
    let mut says_null = false;
    for option in &definition.options {
        match &option.option {
            ast::ColumnOption::Null => says_null = true,
            ast::ColumnOption::NotNull => column.nullable = false,
            ast::ColumnOption::PrimaryKey(_) => is_key = true,
            ast::ColumnOption::Unique(_) => unique = true,
            ast::ColumnOption::Default(expr) => {
                column.default = default::column_default(expr, column.name.as_str(), data_type)?;
            }
            // Of the table as much as of the column: see `define_checks`.
            ast::ColumnOption::Check(_) => {}
            other => make_generated(&mut column, other)?,
        }
    }
    if says_null && (is_key || !column.nullable) {
        let message = format!("Column '{}' is NULL and NOT NULL (or the key) at once", column.name);
        return Err(Error::InvalidSql(message));
    }
    if unique && !is_key {
        return Err(unsupported_constraint("UNIQUE"));
    }
    Ok((column, is_key))
}

/// The name of a column that does not exist yet.
fn new_name(name: &ast::Ident) -> Result<ColumnName> {
    let parsed = ColumnName::parse(&name.value)?;
    if name.quote_style.is_none() && is_reserved_word(&name.value) {
        let fault = "it is a reserved word of SQL; choose another name or put it in double quotes".to_owned();
        return Err(Error::InvalidName { what: "column", name: name.value.clone(), fault });
    }
    Ok(parsed)
}

/// AUTO_INCREMENT, IDENTITY and GENERATED … AS IDENTITY make ids; nothing else is left that we have.
fn make_generated(column: &mut ColumnMeta, option: &ast::ColumnOption) -> Result<()> {
    let makes_ids = match option {
        ast::ColumnOption::Generated { generation_expr: None, .. } | ast::ColumnOption::Identity(_) => true,
        ast::ColumnOption::DialectSpecific(tokens) => {
            tokens.first().is_some_and(|word| word.to_string().to_ascii_uppercase().starts_with("AUTO"))
        }
        _ => false,
    };
    if makes_ids {
        if !default::generates(&ColumnDefault::SnowflakeId, column.data_type) {
            return Err(Error::InvalidSql(format!(
                "Column '{}' generates 64-bit ids: declare it BIGINT, not {}",
                column.name, column.data_type
            )));
        }
        column.default = Some(ColumnDefault::SnowflakeId);
        return Ok(());
    }
    Err(match option {
        ast::ColumnOption::ForeignKey(_) => unsupported_constraint("FOREIGN KEY"),
        ast::ColumnOption::Generated { .. } => unsupported_constraint("GENERATED ALWAYS AS (expression)"),
        other => Error::Unsupported(format!("'{other}' of column '{}' is not supported", column.name)),
    })
}

/// The CHECKs of the columns, then those of the table.
fn define_checks(create: &CreateTable, name: &TableName, columns: &[ColumnMeta]) -> Result<Vec<CheckMeta>> {
    let of_columns = create.columns.iter().flat_map(|column| column.options.iter()).filter_map(check_of);
    let of_table = create.constraints.iter().filter_map(|constraint| match constraint {
        ast::TableConstraint::Check(check) => Some(check.clone()),
        _ => None,
    });
    let mut checks = Vec::new();
    for constraint in of_columns.chain(of_table) {
        let check = define_check((name, columns), &constraint, &checks)?;
        checks.push(check);
    }
    Ok(checks)
}

/// `CONSTRAINT name` before a column's CHECK stands beside it in the tree.
pub(in crate::sql) fn check_of(option: &ast::ColumnOptionDef) -> Option<ast::CheckConstraint> {
    let ast::ColumnOption::Check(check) = &option.option else { return None };
    let name = check.name.clone().or_else(|| option.name.clone());
    Some(ast::CheckConstraint { name, ..check.clone() })
}

/// The key's columns in key order, each made NOT NULL.
fn define_key(
    create: &CreateTable,
    kind: TableKind,
    columns: &mut [ColumnMeta],
    inline: Vec<usize>,
) -> Result<Vec<usize>> {
    let mut key: Option<Vec<usize>> = None;
    for constraint in &create.constraints {
        match constraint {
            ast::TableConstraint::PrimaryKey(primary) => {
                let positions = primary.columns.iter().map(|column| key_column(columns, column));
                if key.replace(positions.collect::<Result<_>>()?).is_some() {
                    return Err(Error::InvalidSql("The table has more than one PRIMARY KEY".to_owned()));
                }
            }
            ast::TableConstraint::Unique(_) => return Err(unsupported_constraint("UNIQUE")),
            ast::TableConstraint::ForeignKey(_) => return Err(unsupported_constraint("FOREIGN KEY")),
            ast::TableConstraint::Check(_) => {}
            other => return Err(Error::Unsupported(format!("'{other}' in CREATE TABLE is not supported"))),
        }
    }
    let key = match (key, inline.as_slice()) {
        (Some(key), []) => key,
        (None, [_]) => inline,
        (None, []) if kind == TableKind::Stream => inline,
        (None, []) => {
            let kind = kind.as_str().to_ascii_uppercase();
            return Err(Error::InvalidSql(format!("{kind} tables require a PRIMARY KEY column")));
        }
        _ => {
            let message = "The table has more than one PRIMARY KEY; a key of several columns is PRIMARY KEY (a, b)";
            return Err(Error::InvalidSql(message.to_owned()));
        }
    };
    for (nth, position) in key.iter().enumerate() {
        let column = &mut columns[*position];
        if key[..nth].contains(position) {
            return Err(Error::InvalidSql(format!("Column '{}' stands twice in the PRIMARY KEY", column.name)));
        }
        if !column.data_type.can_be_key() {
            let (name, ty) = (&column.name, column.data_type);
            return Err(Error::InvalidSql(format!("Column '{name}' of type {ty} cannot be in a PRIMARY KEY")));
        }
        column.nullable = false;
    }
    Ok(key)
}

fn key_column(columns: &[ColumnMeta], column: &ast::IndexColumn) -> Result<usize> {
    let ast::Expr::Identifier(name) = &column.column.expr else {
        return Err(Error::InvalidSql(format!("'{}' in the PRIMARY KEY is no column", column.column.expr)));
    };
    columns
        .iter()
        .position(|c| c.name.as_str().eq_ignore_ascii_case(&name.value))
        .ok_or_else(|| Error::InvalidSql(format!("Column '{}' of the PRIMARY KEY is not defined", name.value)))
}

fn unsupported_constraint(what: &str) -> Error {
    Error::Unsupported(format!("{what} constraints are not supported yet"))
}

/// The options `before`, but for what is `given`: names in upper case. Checked against the kind.
fn with_options(before: TableOptions, given: &[(String, String)], kind: TableKind) -> Result<TableOptions> {
    let mut options = before;
    for (name, value) in given {
        let only_for = |kinds: &str| Err(Error::InvalidSql(format!("Table option '{name}' is for {kinds} tables")));
        match (name.as_str(), kind) {
            ("ACCESS_LEVEL", TableKind::Shared) => options.access = access_level(value)?,
            ("ACCESS_LEVEL", _) => return only_for("SHARED"),
            ("TTL_SECONDS", TableKind::Stream) => options.ttl_seconds = Some(ttl(value)?),
            ("TTL_SECONDS", _) => return only_for("STREAM"),
            ("FLUSH_POLICY" | "COMPRESSION" | "STORAGE_ID" | "DELETED_RETENTION_HOURS", TableKind::Stream) => {
                return only_for("USER and SHARED");
            }
            ("DURABILITY", _) => {
                let level = value.parse().map_err(|e: crate::model::schema::UnknownDurability| e.to_string());
                options.durability = Some(level.map_err(Error::InvalidSql)?);
            }
            ("FLUSH_POLICY", _) => {
                let policy = value.parse().map_err(|e: crate::model::flush_policy::UnknownFlushPolicy| e.to_string());
                options.flush = policy.map_err(Error::InvalidSql)?;
            }
            ("COMPRESSION", _) => {
                let named = value.parse().map_err(|e: crate::model::compression::UnknownCompression| e.to_string());
                options.compression = named.map_err(Error::InvalidSql)?;
            }
            ("STORAGE_ID", _) => options.storage = StorageId::parse(value)?,
            ("USE_USER_STORAGE", TableKind::User) => options.use_user_storage = switch(name, value)?,
            ("USE_USER_STORAGE", _) => return only_for("USER"),
            ("DELETED_RETENTION_HOURS", _) => options.deleted_retention_hours = Some(retention(value)?),
            _ => return Err(Error::InvalidSql(format!("Unknown table option '{name}'"))),
        }
    }
    Ok(options)
}

fn switch(name: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::InvalidSql(format!("Table option '{name}' is true or false, not '{value}'"))),
    }
}

fn ttl(value: &str) -> Result<u64> {
    value.parse().ok().filter(|seconds| (1..=TTL_SECONDS_MAX).contains(seconds)).ok_or_else(|| {
        Error::InvalidSql(format!(
            "Table option 'TTL_SECONDS' is a number of seconds from 1 to {TTL_SECONDS_MAX}, not '{value}'"
        ))
    })
}

fn retention(value: &str) -> Result<u32> {
    value.parse().ok().filter(|hours| *hours <= RETENTION_HOURS_MAX).ok_or_else(|| {
        Error::InvalidSql(format!(
            "Table option 'DELETED_RETENTION_HOURS' is a number of hours from 0 to {RETENTION_HOURS_MAX}, not '{value}'"
        ))
    })
}

fn access_level(value: &str) -> Result<AccessLevel> {
    match value.to_ascii_uppercase().as_str() {
        "PUBLIC" => Ok(AccessLevel::Public),
        "PRIVATE" => Ok(AccessLevel::Private),
        "RESTRICTED" => Ok(AccessLevel::Restricted),
        "DBA" => Ok(AccessLevel::Dba),
        _ => Err(Error::InvalidSql(format!(
            "Unknown access level '{value}'; levels are PUBLIC, PRIVATE, RESTRICTED and DBA"
        ))),
    }
}

#[cfg(test)]
pub(crate) mod tests;
