//! What a query asks of rows, asked before their other columns are read.
//!
//! Owns which filters a scan of a segment takes on: those that spare it the decoding of texts. Whoever set a filter keeps it:
//! here it only leaves out rows that would not pass it later, so a filter that fails lets every row pass.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::cast::as_boolean_array;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::DynamicFilterPhysicalExpr;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};

use crate::storage::segment::RowPredicate;

/// A condition on columns of a scan's output.
#[derive(Debug, Clone)]
pub(super) struct ScanFilter {
    /// Positions in the scan's output, ascending.
    columns: Vec<usize>,
    /// On those columns alone.
    condition: Arc<dyn PhysicalExpr>,
}

impl ScanFilter {
    /// `None` where it would spare nothing: no column of varying length is left when the condition's own are read.
    pub(super) fn new(condition: &Arc<dyn PhysicalExpr>, output: &Schema) -> Option<Self> {
        let mut columns: Vec<usize> = collect_columns(condition).iter().map(|column| column.index()).collect();
        columns.sort_unstable();
        let wide = |position: &usize| {
            let long = matches!(output.field(*position).data_type(), DataType::Utf8 | DataType::Binary);
            long && !columns.contains(position)
        };
        let spares = (0..output.fields().len()).any(|position| wide(&position));
        if !spares || columns.is_empty() {
            return None;
        }
        let narrow = output.project(&columns).ok()?;
        let condition = reassign_expr_columns(condition.clone(), &narrow).ok()?;
        Some(Self { columns, condition })
    }

    /// Does it ask for more while the query goes on?
    pub(super) fn sharpens(&self) -> bool {
        self.condition.downcast_ref::<DynamicFilterPhysicalExpr>().is_some()
    }

    /// `projection`: where the output's columns stand in the table's schema.
    pub(super) fn predicate(&self, projection: &[usize]) -> RowPredicate {
        let condition = self.condition.clone();
        RowPredicate {
            columns: self.columns.iter().map(|position| projection[*position]).collect(),
            evaluate: Arc::new(move |batch| Ok(passing(&*condition, batch))),
        }
    }
}

fn passing(condition: &dyn PhysicalExpr, batch: &RecordBatch) -> BooleanArray {
    let evaluated = condition.evaluate(batch).and_then(|value| value.into_array(batch.num_rows()));
    let passing = evaluated.and_then(|array| as_boolean_array(&array).cloned());
    passing.unwrap_or_else(|_| BooleanArray::from(vec![true; batch.num_rows()]))
}
