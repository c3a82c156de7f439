//! `SET …` of UPDATE and of ON CONFLICT DO UPDATE: which column gets which expression.

use datafusion::sql::sqlparser::ast::{Assignment, AssignmentTarget, Expr};

use super::name::written_column;
use crate::error::{Error, Result};
use crate::model::TableMeta;

/// The assigned columns' positions, each once, with what is assigned; `(a, b) = (1, 2)` is two of them. Keys may be among
/// them: that is the caller's to judge.
///
/// # Errors
/// `COLUMN_NOT_FOUND`; `INVALID_SQL` where a column is assigned twice or a list does not fit.
pub(super) fn assignments<'e>(table: &TableMeta, set: &'e [Assignment]) -> Result<Vec<(usize, &'e Expr)>> {
    let mut assigned: Vec<(usize, &Expr)> = Vec::with_capacity(set.len());
    for Assignment { target, value } in set {
        let pairs = match target {
            AssignmentTarget::ColumnName(name) => vec![(name, value)],
            AssignmentTarget::Tuple(names) => {
                let Expr::Tuple(values) = value else {
                    return Err(Error::Unsupported(
                        "SET (a, b) = … takes a list of values, (1, 2); assign the columns one by one".to_owned(),
                    ));
                };
                if names.len() != values.len() {
                    return Err(Error::InvalidSql(format!(
                        "SET has {} value(s) for {} column(s)",
                        values.len(),
                        names.len()
                    )));
                }
                names.iter().zip(values).collect()
            }
        };
        for (name, value) in pairs {
            let position = written_column(table, name)?;
            if assigned.iter().any(|(other, _)| *other == position) {
                let column = &table.columns[position].name;
                return Err(Error::InvalidSql(format!("Column '{column}' is assigned twice in SET")));
            }
            assigned.push((position, value));
        }
    }
    Ok(assigned)
}

/// # Errors
/// `INVALID_SQL`: a row's key stays what it is.
pub(super) fn check_no_key(table: &TableMeta, position: usize) -> Result<()> {
    if table.is_key(position) {
        let column = &table.columns[position].name;
        return Err(Error::InvalidSql(format!("UPDATE cannot modify primary key column '{column}'")));
    }
    Ok(())
}
