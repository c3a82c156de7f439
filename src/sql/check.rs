//! CHECK constraints: defined, compiled, and asked of rows that are to be written.
//!
//! Owns what may stand in one: what depends on the row alone. The conditions are planned as the filter of a live query, so they
//! mean to a row what they mean in SELECT; there is no second evaluator.
//! Never reads a row from the store.
//! Start at [`define_check`] and [`Checks::first_failing`].

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::sql::sqlparser::ast::{self, Expr, Ident, Visit, Visitor};

use super::functions::CALLER_FUNCTIONS;
use super::parse;
use super::statement::Statement;
use crate::error::{Error, Result};
use crate::live::LiveQuery;
use crate::model::schema::{DELETED_COLUMN, SEQ_COLUMN};
use crate::model::{CheckMeta, ColumnMeta, ColumnName, TableMeta, TableName};

/// Of one table.
pub(crate) const CHECKS_MAX: usize = 100;

/// The longest condition.
const CONDITION_BYTES_MAX: usize = 8_192;

/// The constraints of one definition of a table, compiled.
#[derive(Debug)]
pub struct Checks {
    /// The name of each, and the query of the rows that fail it.
    failing: Vec<(String, Arc<dyn LiveQuery>)>,
}

impl Checks {
    pub fn new(failing: Vec<(String, Arc<dyn LiveQuery>)>) -> Self {
        Self { failing }
    }

    /// The first row, from 0, that fails a constraint, and which. `rows` have the table's full schema.
    ///
    /// # Errors
    /// `EXECUTION` where a condition can not be computed on one of the rows.
    pub fn first_failing(&self, rows: &RecordBatch) -> Result<Option<(usize, &str)>> {
        let mut first: Option<(usize, &str)> = None;
        for (name, query) in &self.failing {
            let fails = query.matches(rows)?;
            let row = (0..fails.len()).find(|row| fails.value(*row));
            if let Some(row) = row
                && first.is_none_or(|(before, _)| row < before)
            {
                first = Some((row, name));
            }
        }
        Ok(first)
    }
}

/// The query of the rows of `table` that fail `check`.
///
/// # Errors
/// `INVALID_SQL` where the condition is no expression.
pub fn failing_rows(table: &TableMeta, check: &CheckMeta) -> Result<Box<ast::Query>> {
    let (namespace, name) = (table.name.namespace(), table.name.table());
    let column = table.columns.first().map_or("_seq", |column| column.name.as_str());
    let sql = format!(r#"SELECT "{column}" FROM "{namespace}"."{name}" WHERE ({}) IS FALSE"#, check.condition);
    match parse::parse_whole(&sql)?.pop().map(|parsed| parsed.statement) {
        Some(Statement::Query(query)) => Ok(query),
        _ => Err(Error::InvalidSql(format!("'{}' is no condition", check.condition))),
    }
}

/// The constraint that `constraint` writes. `column`: the one that it stands behind.
///
/// # Errors
/// `INVALID_SQL`, `INVALID_NAME`, `COLUMN_NOT_FOUND`, `ALREADY_EXISTS`.
pub(crate) fn define_check(
    (table, columns): (&TableName, &[ColumnMeta]),
    constraint: &ast::CheckConstraint,
    others: &[CheckMeta],
) -> Result<CheckMeta> {
    if constraint.enforced == Some(false) {
        return Err(Error::Unsupported("CHECK … NOT ENFORCED is not supported".to_owned()));
    }
    if others.len() >= CHECKS_MAX {
        return Err(Error::InvalidSql(format!("The table has {CHECKS_MAX} CHECK constraints; no more are allowed")));
    }
    let condition = constraint.expr.to_string();
    if condition.len() > CONDITION_BYTES_MAX {
        return Err(Error::InvalidSql(format!("The condition of a CHECK has at most {CONDITION_BYTES_MAX} bytes")));
    }
    let mut named = NamedColumns { table, columns, found: BTreeSet::new() };
    if let ControlFlow::Break(error) = constraint.expr.visit(&mut named) {
        return Err(error);
    }
    let found: Vec<u32> = named.found.into_iter().collect();
    let name = match &constraint.name {
        Some(name) => given_name(table, name, others)?,
        None => free_name(table, columns, &found, others),
    };
    Ok(CheckMeta { name, condition, columns: found })
}

fn given_name(table: &TableName, name: &Ident, others: &[CheckMeta]) -> Result<String> {
    let parsed = ColumnName::parse(&name.value).map_err(|error| match error {
        Error::InvalidName { name, fault, .. } => Error::InvalidName { what: "constraint", name, fault },
        other => other,
    })?;
    let name = parsed.as_str().to_owned();
    if others.iter().any(|other| other.name == name) {
        return Err(Error::ConstraintExists { name, table: table.clone() });
    }
    Ok(name)
}

/// PostgreSQL's: the table, the column if it is about one, `check`, and a number where that is taken.
fn free_name(table: &TableName, columns: &[ColumnMeta], named: &[u32], others: &[CheckMeta]) -> String {
    let column = match named {
        [id] => columns.iter().find(|column| column.id == *id).map(|column| format!("_{}", column.name)),
        _ => None,
    };
    let base = format!("{}{}_check", table.table(), column.unwrap_or_default());
    let taken = |name: &str| others.iter().any(|other| other.name == name);
    if !taken(&base) {
        return base;
    }
    (1..=CHECKS_MAX + 1).map(|n| format!("{base}{n}")).find(|name| !taken(name)).unwrap_or(base)
}

/// Collects the columns that a condition names, and refuses what is none of the row's.
struct NamedColumns<'a> {
    table: &'a TableName,
    columns: &'a [ColumnMeta],
    found: BTreeSet<u32>,
}

impl NamedColumns<'_> {
    fn column(&mut self, ident: &Ident) -> Result<()> {
        let name = &ident.value;
        if let Some(column) = self.columns.iter().find(|column| column.name.as_str().eq_ignore_ascii_case(name)) {
            self.found.insert(column.id);
            return Ok(());
        }
        if [SEQ_COLUMN, DELETED_COLUMN].iter().any(|system| system.eq_ignore_ascii_case(name)) {
            return Err(Error::Unsupported(format!(
                "'{name}' in a CHECK is not supported: it is not known before the write"
            )));
        }
        if ident.quote_style.is_none() && CALLER_FUNCTIONS.iter().any(|own| own.eq_ignore_ascii_case(name)) {
            return Err(caller_function(name));
        }
        Err(Error::ColumnNotFound { column: name.clone(), table: self.table.to_string(), suggestion: None })
    }
}

impl Visitor for NamedColumns<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, _: &ast::Query) -> ControlFlow<Error> {
        ControlFlow::Break(Error::Unsupported("a sub-query in a CHECK is not supported".to_owned()))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        let checked = match expr {
            Expr::Identifier(ident) => self.column(ident),
            Expr::CompoundIdentifier(path) => path.last().map_or(Ok(()), |ident| self.column(ident)),
            Expr::Function(call) => {
                let name = call.name.to_string();
                match CALLER_FUNCTIONS.iter().any(|own| own.eq_ignore_ascii_case(&name)) {
                    true => Err(caller_function(&name)),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        };
        checked.map_or_else(ControlFlow::Break, ControlFlow::Continue)
    }
}

fn caller_function(name: &str) -> Error {
    Error::Unsupported(format!(
        "{} in a CHECK is not supported: a row is right or wrong whoever writes it",
        name.to_ascii_uppercase()
    ))
}
