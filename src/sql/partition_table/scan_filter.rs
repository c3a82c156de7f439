//! What a query asks of rows, asked before their other columns are read, and of whole pages before anything is.
//!
//! Owns which filters a scan of a segment takes on: those that spare it the decoding of texts, and the threshold of a query's top
//! rows. Whoever set a filter keeps it: here it only leaves out rows that would not pass it later, so a filter that fails lets
//! every row pass.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::cast::as_boolean_array;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, DynamicFilterPhysicalExpr};
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};

use crate::storage::segment::{PageFilter, PageStats, RowPredicate};

/// A condition on columns of a scan's output.
#[derive(Debug, Clone)]
pub(super) struct ScanFilter {
    /// Positions in the scan's output, ascending.
    columns: Vec<usize>,
    /// On those columns alone.
    condition: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
    /// Does it spare the decoding of a column of varying length? If not, only pages are asked.
    spares: bool,
}

impl ScanFilter {
    /// `None` where it asks nothing of columns.
    pub(super) fn new(condition: &Arc<dyn PhysicalExpr>, output: &Schema) -> Option<Self> {
        let mut columns: Vec<usize> = collect_columns(condition).iter().map(|column| column.index()).collect();
        columns.sort_unstable();
        let wide = |position: &usize| {
            let long = matches!(output.field(*position).data_type(), DataType::Utf8 | DataType::Binary);
            long && !columns.contains(position)
        };
        let spares = (0..output.fields().len()).any(|position| wide(&position)) || sharpens(condition);
        if columns.is_empty() || is_volatile(condition) {
            return None;
        }
        let schema = Arc::new(output.project(&columns).ok()?);
        let condition = reassign_expr_columns(condition.clone(), &schema).ok()?;
        Some(Self { columns, condition, schema, spares })
    }

    /// Of this column of the scan's output?
    pub(super) fn asks_for(&self, output: usize) -> bool {
        self.columns.contains(&output)
    }

    /// Does it ask for more while the query goes on?
    pub(super) fn sharpens(&self) -> bool {
        sharpens(&self.condition)
    }

    /// `projection`: where the output's columns stand in the table's schema.
    pub(super) fn predicate(&self, projection: &[usize]) -> Option<RowPredicate> {
        let condition = self.condition.clone();
        self.spares.then(|| RowPredicate {
            columns: self.columns.iter().map(|position| projection[*position]).collect(),
            evaluate: Arc::new(move |batch| Ok(passing(&*condition, batch))),
        })
    }

    /// `own`: columns that the table has beside those of the system.
    pub(super) fn pages(&self, projection: &[usize], own: usize) -> Vec<PageFilter> {
        let columns = self.columns.iter().map(|position| projection[*position]).enumerate();
        columns.filter(|(_, column)| *column < own).filter_map(|(place, column)| self.page(place, column)).collect()
    }

    fn page(&self, place: usize, column: usize) -> Option<PageFilter> {
        // A page's range of floats says nothing of its NaNs.
        if self.schema.field(place).data_type().is_floating() {
            return None;
        }
        let question = PageQuestion {
            condition: self.condition.clone(),
            schema: self.schema.clone(),
            column: self.schema.field(place).name().clone(),
            asked: Mutex::default(),
        };
        Some(PageFilter { column, may_hold: Arc::new(move |pages| question.may_hold(pages)) })
    }
}

fn sharpens(condition: &Arc<dyn PhysicalExpr>) -> bool {
    condition.downcast_ref::<DynamicFilterPhysicalExpr>().is_some()
}

fn passing(condition: &dyn PhysicalExpr, batch: &RecordBatch) -> BooleanArray {
    let evaluated = condition.evaluate(batch).and_then(|value| value.into_array(batch.num_rows()));
    let passing = evaluated.and_then(|array| as_boolean_array(&array).cloned());
    passing.unwrap_or_else(|_| BooleanArray::from(vec![true; batch.num_rows()]))
}

/// A condition as it was, and what it asks of pages.
type Asked = (Arc<dyn PhysicalExpr>, Option<Arc<PruningPredicate>>);

/// A condition, as far as one column decides it, asked of pages.
struct PageQuestion {
    condition: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
    column: String,
    asked: Mutex<Option<Asked>>,
}

impl PageQuestion {
    fn may_hold(&self, pages: &PageStats) -> Option<Vec<bool>> {
        let condition = match self.condition.downcast_ref::<DynamicFilterPhysicalExpr>() {
            Some(threshold) => threshold.current().ok()?,
            None => self.condition.clone(),
        };
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let known = asked.take().filter(|(before, _)| Arc::ptr_eq(before, &condition));
        let (condition, question) = known.unwrap_or_else(|| {
            let question = weakened(&condition, &self.column);
            let question = question.and_then(|condition| {
                PruningPredicateBuilder::new().with_file_schema(self.schema.clone()).try_build(condition).ok()
            });
            (condition, question.filter(|question| !question.always_true()).map(Arc::new))
        });
        *asked = Some((condition, question.clone()));
        drop(asked);
        question?.prune(&ColumnPages { pages, column: &self.column }).ok()
    }
}

/// What follows from the condition for one column alone.
fn weakened(condition: &Arc<dyn PhysicalExpr>, column: &str) -> Option<Arc<dyn PhysicalExpr>> {
    let columns = collect_columns(condition);
    if !columns.is_empty() && columns.iter().all(|other| other.name() == column) {
        return Some(condition.clone());
    }
    let both = condition.downcast_ref::<BinaryExpr>()?;
    let (left, right) = (weakened(both.left(), column), weakened(both.right(), column));
    match (both.op(), left, right) {
        (Operator::And | Operator::Or, Some(left), Some(right)) => {
            Some(Arc::new(BinaryExpr::new(left, *both.op(), right)))
        }
        (Operator::And, left, right) => left.or(right),
        _ => None,
    }
}

struct ColumnPages<'a> {
    pages: &'a PageStats,
    column: &'a str,
}

impl ColumnPages<'_> {
    fn of(&self, column: &Column, stats: &ArrayRef) -> Option<ArrayRef> {
        (column.name == self.column).then(|| stats.clone())
    }
}

impl PruningStatistics for ColumnPages<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column, &self.pages.mins)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column, &self.pages.maxes)
    }

    fn num_containers(&self) -> usize {
        self.pages.rows.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column, &self.pages.nulls)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(self.pages.rows.clone())
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
