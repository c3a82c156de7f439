//! The columns of CREATE TABLE … AS SELECT: those of the query, and an id where it names no key.

use datafusion::sql::sqlparser::ast;

use crate::error::{Error, Result};
use crate::model::schema::{DELETED_COLUMN, SEQ_COLUMN, STORAGE_ID_COLUMN, USER_ID_COLUMN};
use crate::model::{ResultSchema, TableKind};
use crate::sql::parse;
use crate::sql::statement::{CreateTable, Statement};

/// The key of a table that is not given one.
const ID: &str = "id";

/// A CREATE TABLE … AS as a CREATE TABLE.
#[derive(Debug)]
pub struct QueryColumns {
    pub create: CreateTable,
    /// Of the query's columns, those that the table has. Its last columns are for them, in this order.
    pub positions: Vec<usize>,
}

/// # Errors
/// `INVALID_SQL` where the key has to be named, or two columns have one name.
pub fn columns_of_query(create: &CreateTable, kind: TableKind, schema: &ResultSchema) -> Result<QueryColumns> {
    let of_the_database = [SEQ_COLUMN, DELETED_COLUMN, USER_ID_COLUMN, STORAGE_ID_COLUMN];
    let mut columns = Vec::new();
    let mut positions = Vec::new();
    for (position, column) in schema.columns().iter().enumerate() {
        // `SELECT *` brings them along; the new table has its own.
        if of_the_database.contains(&column.name.as_str()) {
            continue;
        }
        positions.push(position);
        columns.push((column.name.as_str(), column.data_type.to_string()));
    }
    let has_key = create.constraints.iter().any(|constraint| matches!(constraint, ast::TableConstraint::PrimaryKey(_)));
    let mut definitions = Vec::with_capacity(columns.len() + 1);
    if !has_key && kind != TableKind::Stream {
        if columns.iter().any(|(name, _)| name.eq_ignore_ascii_case(ID)) {
            let table = &create.name;
            return Err(Error::InvalidSql(format!(
                "Say which columns are the key: CREATE TABLE {table} (PRIMARY KEY ({ID})) AS SELECT …. \
                 Without one, a column '{ID}' with fresh ids is added, and the query has a column of this name"
            )));
        }
        definitions.push(format!("{ID} BIGINT DEFAULT SNOWFLAKE_ID() PRIMARY KEY"));
    }
    for (name, data_type) in columns {
        definitions.push(format!("\"{}\" {data_type}", name.replace('"', "\"\"")));
    }
    let sql = format!("CREATE TABLE t ({})", definitions.join(", "));
    let parsed = parse::parse(&sql)?.pop().map(|parsed| parsed.statement);
    let Some(Statement::CreateTable(defined)) = parsed else {
        return Err(Error::internal("the columns of a query are no columns of a table"));
    };
    let create = CreateTable { columns: defined.columns, query: None, ..create.clone() };
    Ok(QueryColumns { create, positions })
}
