//! Rows of an older version, read as rows of today's columns.
//!
//! Owns the walk over such a row: its own cells, each to the column that it is today, and what stands in columns that it
//! has no cell for. Which goes where is the table's history's ([`RowLayout`]).

use super::{Builders, CellBuilder, Cells};
use crate::model::schema::{OlderCell, RowLayout};
use crate::model::{Value, ValueRef};

/// One value per column of today; `None` where the bytes are no such row.
pub(super) fn values(layout: &RowLayout, mut cells: Cells<'_>, columns: usize) -> Option<Vec<Value>> {
    let mut values = vec![Value::Null; columns];
    for cell in &layout.cells {
        let value = cells.next(cell.data_type)?;
        if let Some(target) = cell.target {
            values[target] = cell.todays(value.to_owned())?;
        }
    }
    for (position, value) in &layout.missing {
        values[*position] = value.clone();
    }
    Some(values)
}

impl Builders<'_> {
    /// `None` where the bytes are no such row.
    pub(super) fn push_older(&mut self, layout: &RowLayout, mut cells: Cells<'_>) -> Option<()> {
        for cell in &layout.cells {
            let value = cells.next(cell.data_type)?;
            if let Some(builder) = cell.target.and_then(|position| self.of(position)) {
                push(builder, cell, value)?;
            }
        }
        for (position, value) in &layout.missing {
            if let Some(builder) = self.of(*position) {
                builder.push_value(value)?;
            }
        }
        Some(())
    }
}

fn push(builder: &mut CellBuilder, cell: &OlderCell, value: ValueRef<'_>) -> Option<()> {
    if cell.via.is_empty() {
        return builder.push(value);
    }
    builder.push_value(&cell.todays(value.to_owned())?)
}

impl CellBuilder {
    fn push_value(&mut self, value: &Value) -> Option<()> {
        match value {
            Value::Null => self.push(ValueRef::Null),
            Value::Bool(v) => self.push(ValueRef::Bool(*v)),
            Value::Int(v) => self.push(ValueRef::Int(*v)),
            Value::Float(v) => self.push(ValueRef::Float(*v)),
            Value::Text(v) => self.push(ValueRef::Text(v)),
            Value::Bytes(v) => self.push(ValueRef::Bytes(v)),
            Value::Uuid(v) => self.push(ValueRef::Uuid(v)),
            Value::Decimal(v) => self.push(ValueRef::Decimal(*v)),
            Value::Vector(v) => {
                let cell: Vec<u8> = v.iter().flat_map(|x| x.to_le_bytes()).collect();
                self.push(ValueRef::Vector(&cell))
            }
        }
    }
}

#[cfg(test)]
mod tests;
