//! ALTER TABLE to the table that it makes of one that is there.
//!
//! Owns what may be altered: nothing that the rows which are stored could not follow without loss, nothing about the
//! key's columns but their default. Never reads a row: where rows decide, it says which column they must be asked about.
//! Start at [`alter_table`].

use datafusion::sql::sqlparser::ast;

use super::default::{column_default, fits};
use super::{COLUMNS_MAX, check_of, define_column, new_name, types, with_options};
use crate::error::{Error, Result};
use crate::model::schema::history::VERSIONS_MAX;
use crate::model::schema::{DELETED_COLUMN, SEQ_COLUMN};
use crate::model::{CheckMeta, ColumnMeta, DataType, SchemaChange, TableMeta};
use crate::sql::bind::{BindContext, column_named};
use crate::sql::check::define_check;
use crate::sql::statement::AlterOperation;

/// What an ALTER TABLE comes to.
#[derive(Debug)]
pub enum Alteration {
    /// It is so already; the text says what.
    Unchanged(String),
    Altered(Box<AlteredTable>),
}

#[derive(Debug)]
pub struct AlteredTable {
    pub table: TableMeta,
    /// What was done, for the answer.
    pub what: String,
    /// The column that no live row may hold NULL in, or the table stays as it was.
    pub without_nulls: Option<String>,
    /// Constraints that no live row may fail, or the table stays as it was. They are about its new columns.
    pub without_failing: Vec<CheckMeta>,
    /// Do queries that were compiled before see other columns now?
    pub columns_changed: bool,
    /// The TTL that the table is to have: which of its rows that is for depends on the position it stands at.
    pub ttl_seconds: Option<u64>,
}

/// The table that `operation` makes of `table`.
///
/// # Errors
/// `INVALID_SQL`, `INVALID_NAME`, `COLUMN_NOT_FOUND`, `ALREADY_EXISTS`.
pub fn alter_table(ctx: &BindContext<'_>, table: &TableMeta, operation: &AlterOperation) -> Result<Alteration> {
    let step = match operation {
        AlterOperation::AddColumn { definition, if_not_exists } => add(ctx, table, definition, *if_not_exists)?,
        AlterOperation::DropColumn { column, if_exists } => drop_column(table, column, *if_exists)?,
        AlterOperation::RenameColumn { column, to } => rename(table, column, to)?,
        AlterOperation::ModifyColumn { column, data_type, nullable } => modify(table, column, data_type, *nullable)?,
        AlterOperation::SetNotNull { column } => set_nullable(table, column, false)?,
        AlterOperation::DropNotNull { column } => set_nullable(table, column, true)?,
        AlterOperation::SetDefault { column, default } => set_default(table, column, Some(default))?,
        AlterOperation::DropDefault { column } => set_default(table, column, None)?,
        AlterOperation::AddConstraint(constraint) => add_check(table, constraint)?,
        AlterOperation::DropConstraint { name, if_exists } => drop_check(table, name, *if_exists)?,
        AlterOperation::SetOptions(options) => set_options(table, options)?,
    };
    let (change, what) = match step {
        Step::Unchanged(why) => return Ok(Alteration::Unchanged(why)),
        Step::Change(change, what) => (change, what),
    };
    if table.schema_version >= VERSIONS_MAX {
        return Err(Error::InvalidSql(format!(
            "Table {} has {VERSIONS_MAX} versions, and rows of each may be stored; make a new table and INSERT … SELECT",
            table.name
        )));
    }
    let (without_nulls, columns_changed) = match &change {
        SchemaChange::ChangeColumn { position, column } => {
            let before = &table.columns[*position];
            let tightened = before.nullable && !column.nullable;
            let only_default =
                ColumnMeta { default: None, ..before.clone() } == ColumnMeta { default: None, ..column.clone() };
            (tightened.then(|| before.name.to_string()), !only_default)
        }
        SchemaChange::AddColumn { .. } | SchemaChange::DropColumn { .. } => (None, true),
        SchemaChange::SetOptions(_) | SchemaChange::SetChecks(_) => (None, false),
    };
    let ttl_seconds = match &change {
        SchemaChange::SetOptions(options) => {
            options.ttl_seconds.filter(|_| options.ttl_seconds != table.options().ttl_seconds)
        }
        _ => None,
    };
    let checks_before = table.checks.len();
    let mut table = table.altered(change, ctx.now_us);
    if let AlterOperation::AddColumn { definition, .. } = operation {
        // Behind the change: they name the column by the id that it got.
        for constraint in definition.options.iter().filter_map(check_of) {
            let check = define_check((&table.name, &table.columns), &constraint, &table.checks)?;
            table.checks.push(check);
        }
    }
    let without_failing = table.checks.get(checks_before..).unwrap_or_default().to_vec();
    let altered = AlteredTable { table, what, without_nulls, without_failing, columns_changed, ttl_seconds };
    Ok(Alteration::Altered(Box::new(altered)))
}

enum Step {
    Unchanged(String),
    Change(SchemaChange, String),
}

fn add(ctx: &BindContext<'_>, table: &TableMeta, definition: &ast::ColumnDef, if_not_exists: bool) -> Result<Step> {
    let (column, is_key) = define_column(definition, 0)?;
    if let Some(there) = named(table, column.name.as_str()) {
        return match if_not_exists {
            true => Ok(Step::Unchanged(format!("column '{}' is there already", there.name))),
            false => Err(exists(table, there)),
        };
    }
    if is_key {
        return Err(Error::InvalidSql(
            "A column cannot be added to the PRIMARY KEY of a table that is there".to_owned(),
        ));
    }
    if !column.nullable && column.default.is_none() {
        return Err(Error::InvalidSql(format!(
            "Column '{}' is NOT NULL and has no DEFAULT: rows that are stored would hold NULL",
            column.name
        )));
    }
    if table.columns.len() >= COLUMNS_MAX {
        return Err(Error::InvalidSql(format!("The table has {COLUMNS_MAX} columns; no more are allowed")));
    }
    // Once, for all rows there are: reading one must give the same value each time.
    let missing = ctx.default_of(&column)?;
    let what = format!("column '{}' added", column.name);
    Ok(Step::Change(SchemaChange::AddColumn { column, missing }, what))
}

fn drop_column(table: &TableMeta, column: &str, if_exists: bool) -> Result<Step> {
    if if_exists && named(table, column).is_none() && !is_system(column) {
        return Ok(Step::Unchanged(format!("there is no column '{}'", column.to_ascii_lowercase())));
    }
    let position = position(table, column)?;
    refuse_key(table, position, "be dropped")?;
    refuse_checked(table, position, "be dropped")?;
    let what = format!("column '{}' dropped", table.columns[position].name);
    Ok(Step::Change(SchemaChange::DropColumn { position }, what))
}

fn rename(table: &TableMeta, column: &str, to: &ast::Ident) -> Result<Step> {
    let position = position(table, column)?;
    refuse_key(table, position, "be renamed")?;
    refuse_checked(table, position, "be renamed")?;
    let name = new_name(to)?;
    if let Some(there) = named(table, name.as_str()) {
        return Err(exists(table, there));
    }
    let before = &table.columns[position];
    let what = format!("column '{}' renamed to '{name}'", before.name);
    Ok(Step::Change(SchemaChange::ChangeColumn { position, column: ColumnMeta { name, ..before.clone() } }, what))
}

fn modify(table: &TableMeta, column: &str, ty: &ast::DataType, nullable: Option<bool>) -> Result<Step> {
    let position = position(table, column)?;
    let before = &table.columns[position];
    let data_type = types::data_type(ty)?;
    let nullable = nullable.unwrap_or(before.nullable);
    if data_type != before.data_type {
        refuse_key(table, position, "get another type")?;
        // A number compares with others as any number does; a text does not.
        if data_type == DataType::Text {
            refuse_checked(table, position, "become TEXT")?;
        }
        if !before.data_type.widens_to(data_type) {
            return Err(not_wider(before, data_type));
        }
        if let Some(default) = &before.default
            && !fits(default, data_type)
        {
            return Err(Error::InvalidSql(format!(
                "DEFAULT {default} of column '{}' is none of type {data_type}; DROP DEFAULT first",
                before.name
            )));
        }
    }
    if nullable && !before.nullable {
        refuse_key(table, position, "take NULL")?;
    }
    let after = ColumnMeta { data_type, nullable, ..before.clone() };
    let described = format!("{data_type}{}", if nullable { "" } else { " NOT NULL" });
    if after == *before {
        return Ok(Step::Unchanged(format!("column '{}' is {described} already", before.name)));
    }
    let what = format!("column '{}' modified to {described}", before.name);
    Ok(Step::Change(SchemaChange::ChangeColumn { position, column: after }, what))
}

fn set_nullable(table: &TableMeta, column: &str, nullable: bool) -> Result<Step> {
    let position = position(table, column)?;
    let before = &table.columns[position];
    if nullable {
        refuse_key(table, position, "take NULL")?;
    }
    let (now, done) = if nullable { ("takes NULL", "takes NULL now") } else { ("is NOT NULL", "is NOT NULL now") };
    if before.nullable == nullable {
        return Ok(Step::Unchanged(format!("column '{}' {now} already", before.name)));
    }
    let what = format!("column '{}' {done}", before.name);
    Ok(Step::Change(SchemaChange::ChangeColumn { position, column: ColumnMeta { nullable, ..before.clone() } }, what))
}

fn set_default(table: &TableMeta, column: &str, default: Option<&ast::Expr>) -> Result<Step> {
    let position = position(table, column)?;
    let before = &table.columns[position];
    let default = match default {
        Some(expr) => column_default(expr, before.name.as_str(), before.data_type)?,
        None => None,
    };
    let described = default.as_ref().map_or_else(|| "no DEFAULT".to_owned(), |default| format!("DEFAULT {default}"));
    if default == before.default {
        return Ok(Step::Unchanged(format!("column '{}' has {described} already", before.name)));
    }
    let what = format!("column '{}' has {described} now", before.name);
    Ok(Step::Change(SchemaChange::ChangeColumn { position, column: ColumnMeta { default, ..before.clone() } }, what))
}

fn set_options(table: &TableMeta, given: &[(String, String)]) -> Result<Step> {
    if given.iter().any(|(name, _)| name == "TYPE") {
        return Err(Error::InvalidSql(
            "The TYPE of a table cannot be altered: its rows belong to other owners".to_owned(),
        ));
    }
    let before = table.options();
    let after = with_options(before.clone(), given, table.kind)?;
    let mut what = Vec::new();
    if after.access != before.access {
        what.push(format!("ACCESS_LEVEL is {} now", after.access.as_str()));
    }
    if let Some(durability) = after.durability.filter(|_| after.durability != before.durability) {
        what.push(format!("DURABILITY is {durability} now"));
    }
    if after.flush != before.flush {
        what.push(format!("FLUSH_POLICY is {} now", after.flush));
    }
    if after.compression != before.compression {
        what.push(format!("COMPRESSION is {} now", after.compression));
    }
    if after.storage != before.storage {
        what.push(format!("STORAGE_ID is {} now", after.storage));
    }
    if after.use_user_storage != before.use_user_storage {
        what.push(format!("USE_USER_STORAGE is {} now", after.use_user_storage));
    }
    if let Some(hours) =
        after.deleted_retention_hours.filter(|_| after.deleted_retention_hours != before.deleted_retention_hours)
    {
        what.push(format!("DELETED_RETENTION_HOURS is {hours} now"));
    }
    if let Some(seconds) = after.ttl_seconds.filter(|_| after.ttl_seconds != before.ttl_seconds) {
        what.push(format!("TTL_SECONDS is {seconds} now"));
    }
    if what.is_empty() {
        let given: Vec<String> = given.iter().map(|(name, value)| format!("{name} is {value}")).collect();
        return Ok(Step::Unchanged(format!("{} already", given.join(", "))));
    }
    Ok(Step::Change(SchemaChange::SetOptions(Box::new(after)), what.join(", ")))
}

fn named<'t>(table: &'t TableMeta, name: &str) -> Option<&'t ColumnMeta> {
    table.column_index(name).map(|position| &table.columns[position])
}

fn is_system(column: &str) -> bool {
    [SEQ_COLUMN, DELETED_COLUMN].iter().any(|system| system.eq_ignore_ascii_case(column))
}

fn position(table: &TableMeta, column: &str) -> Result<usize> {
    if is_system(column) {
        let name = column.to_ascii_lowercase();
        return Err(Error::InvalidSql(format!("Column '{name}' is kept by the database and cannot be altered")));
    }
    column_named(table, column)
}

fn refuse_key(table: &TableMeta, position: usize, what: &str) -> Result<()> {
    if !table.is_key(position) {
        return Ok(());
    }
    Err(Error::InvalidSql(format!(
        "Column '{}' is in the PRIMARY KEY of {} and cannot {what}",
        table.columns[position].name, table.name
    )))
}

fn refuse_checked(table: &TableMeta, position: usize, what: &str) -> Result<()> {
    let column = &table.columns[position];
    match table.checks.iter().find(|check| check.columns.contains(&column.id)) {
        None => Ok(()),
        Some(check) => Err(Error::InvalidSql(format!(
            "Column '{}' is in the CHECK constraint '{}' of {} and cannot {what}; DROP CONSTRAINT first",
            column.name, check.name, table.name
        ))),
    }
}

fn add_check(table: &TableMeta, constraint: &ast::TableConstraint) -> Result<Step> {
    let ast::TableConstraint::Check(constraint) = constraint else {
        return Err(Error::Unsupported(format!("ALTER TABLE … ADD {constraint} is not supported yet")));
    };
    let check = define_check((&table.name, &table.columns), constraint, &table.checks)?;
    let what = format!("constraint '{}' added", check.name);
    let checks = table.checks.iter().cloned().chain([check]).collect();
    Ok(Step::Change(SchemaChange::SetChecks(checks), what))
}

fn drop_check(table: &TableMeta, name: &str, if_exists: bool) -> Result<Step> {
    if !table.checks.iter().any(|check| check.name == name) {
        return match if_exists {
            true => Ok(Step::Unchanged(format!("there is no constraint '{name}'"))),
            false => Err(Error::NotFound(format!("Constraint '{name}' of {} does not exist", table.name))),
        };
    }
    let checks = table.checks.iter().filter(|check| check.name != name).cloned().collect();
    Ok(Step::Change(SchemaChange::SetChecks(checks), format!("constraint '{name}' dropped")))
}

fn exists(table: &TableMeta, column: &ColumnMeta) -> Error {
    Error::ColumnExists { column: column.name.to_string(), table: table.name.clone() }
}

fn not_wider(column: &ColumnMeta, to: DataType) -> Error {
    let from = column.data_type;
    let wider = match from {
        DataType::SmallInt => "INT, BIGINT, DECIMAL with 5 digits before its point, FLOAT, DOUBLE or TEXT",
        DataType::Int => "BIGINT, DECIMAL with 10 digits before its point, DOUBLE or TEXT",
        DataType::BigInt => "DECIMAL with 19 digits before its point, or TEXT",
        DataType::Float => "DOUBLE or TEXT",
        DataType::Decimal { .. } => "a DECIMAL with no fewer digits on either side of its point, or TEXT",
        DataType::Text | DataType::Embedding(_) => "no other type",
        _ => "TEXT",
    };
    Error::InvalidSql(format!(
        "Column '{}' of type {from} cannot become {to} without loss; it can become {wider}. \
         Otherwise add a column, UPDATE it, and drop this one",
        column.name
    ))
}

#[cfg(test)]
mod tests;
