//! One row of a table under construction: values by column, defaults for what is not given, and the checks.

use std::sync::Arc;

use super::BindContext;
use super::constant::Constant;
use super::given::Given;
use crate::error::{Error, Result};
use crate::model::value::ConvertFault;
use crate::model::{ColumnDefault, ColumnMeta, PkBytes, RowBytes, TableMeta, Value, WriteOp};
use crate::sql::define::default_value;
use crate::storage::{keys, row_codec};

/// What goes into a column where no expression says so.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fill {
    Fixed(Value),
    /// Made anew for each row.
    Generated(ColumnDefault),
}

impl Fill {
    /// What DEFAULT means in this column.
    pub(super) fn default_of(column: &ColumnMeta) -> Result<Fill> {
        match &column.default {
            None => Ok(Fill::Fixed(Value::Null)),
            Some(ColumnDefault::Literal(literal)) => match default_value(literal, column.data_type) {
                Ok(value) => Ok(Fill::Fixed(value)),
                Err(fault) => Err(not_convertible(column, fault, 1)),
            },
            Some(function) => Ok(Fill::Generated(function.clone())),
        }
    }

    /// What a constant of a statement puts into this column.
    pub(super) fn of_constant(constant: Constant<'_>, column: &ColumnMeta) -> Result<Fill> {
        match constant {
            Constant::Given(given) => Ok(Fill::Fixed(to_value(given, column, 1)?)),
            Constant::Default => Fill::default_of(column),
            Constant::Generated(function) => Ok(Fill::Generated(function)),
        }
    }

    pub(super) fn value(&self, ctx: &BindContext<'_>, column: &ColumnMeta, row: usize) -> Result<Value> {
        match self {
            Fill::Fixed(value) => Ok(value.clone()),
            Fill::Generated(function) => to_value(ctx.generate(function), column, row),
        }
    }
}

/// Builds the rows of one statement, one after the other, in one set of values.
pub(super) struct RowBuilder<'a> {
    ctx: &'a BindContext<'a>,
    table: &'a Arc<TableMeta>,
    values: Vec<Value>,
    /// Columns that are not given and get a new value for each row.
    generated: Vec<(usize, ColumnDefault)>,
    /// From 1.
    row: usize,
}

impl<'a> RowBuilder<'a> {
    /// `columns` are those that each row gives; the others get their defaults.
    pub(super) fn new(ctx: &'a BindContext<'a>, table: &'a Arc<TableMeta>, columns: &[usize]) -> Result<Self> {
        let mut values = vec![Value::Null; table.columns.len()];
        let mut generated = Vec::new();
        for (position, column) in table.columns.iter().enumerate() {
            if column.default.is_none() || columns.contains(&position) {
                continue;
            }
            match Fill::default_of(column)? {
                Fill::Fixed(value) => values[position] = value,
                Fill::Generated(function) => generated.push((position, function)),
            }
        }
        Ok(Self { ctx, table, values, generated, row: 0 })
    }

    /// For rows whose every column is given.
    pub(super) fn updating(ctx: &'a BindContext<'a>, table: &'a Arc<TableMeta>) -> Self {
        Self { ctx, table, values: vec![Value::Null; table.columns.len()], generated: Vec::new(), row: 0 }
    }

    /// Starts the next row.
    pub(super) fn begin(&mut self) -> Result<()> {
        self.row += 1;
        for (position, function) in &self.generated {
            self.values[*position] = to_value(self.ctx.generate(function), &self.table.columns[*position], self.row)?;
        }
        Ok(())
    }

    pub(super) fn set(&mut self, position: usize, given: Given<'_>) -> Result<()> {
        self.values[position] = to_value(given, &self.table.columns[position], self.row)?;
        Ok(())
    }

    pub(super) fn fill(&mut self, position: usize, fill: &Fill) -> Result<()> {
        self.values[position] = fill.value(self.ctx, &self.table.columns[position], self.row)?;
        Ok(())
    }

    /// A cell that the column held already.
    pub(super) fn keep(&mut self, position: usize, given: Given<'_>) -> Result<()> {
        match given {
            // JSON was checked when it was written.
            Given::Text(text) => {
                self.values[position] = Value::Text(text.into_owned());
                Ok(())
            }
            given => self.set(position, given),
        }
    }

    /// The row's key and encoding.
    pub(super) fn end(&self) -> Result<(PkBytes, RowBytes)> {
        let row = checked(self.table, &self.values, self.row)?;
        Ok((keys::encode_pk(self.table, &self.values, self.row)?, row))
    }

    /// The row as a new one.
    pub(super) fn end_new(&self) -> Result<WriteOp> {
        let (pk, row) = self.end()?;
        Ok(if self.table.is_stream() { WriteOp::Append { row } } else { WriteOp::Insert { pk, row } })
    }

    /// From 1: of the row that was begun last.
    pub(super) fn row(&self) -> usize {
        self.row
    }
}

/// A whole row, held to the table's rules.
///
/// # Errors
/// `NOT_NULL` naming `row`, which counts from 1.
pub(super) fn checked(table: &TableMeta, values: &[Value], row: usize) -> Result<RowBytes> {
    for (column, value) in table.columns.iter().zip(values) {
        if value.is_null() && !column.nullable {
            return Err(Error::NotNull { column: column.name.to_string(), row });
        }
    }
    Ok(row_codec::encode(table, values))
}

pub(super) fn to_value(given: Given<'_>, column: &ColumnMeta, row: usize) -> Result<Value> {
    given.into_value(column.data_type).map_err(|fault| not_convertible(column, fault, row))
}

fn not_convertible(column: &ColumnMeta, fault: ConvertFault, row: usize) -> Error {
    let (name, expected_type) = (column.name.to_string(), column.data_type.to_string());
    match fault {
        ConvertFault::Mismatch { given, expected } => {
            let given = format!("'{given}'");
            Error::TypeMismatch { column: name, expected_type, given, expected: expected.to_owned(), row }
        }
        ConvertFault::OutOfRange { given } => Error::OutOfRange { column: name, expected_type, given, row },
    }
}
