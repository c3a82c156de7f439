//! COUNT(*) without a value for each row.
//!
//! DataFusion counts the values of a constant, which it makes for each batch as long as that is: of a segment that is counted without
//! being read, that is all the work there is.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures_util::TryStreamExt;

/// Does it tell nothing but how many rows there are?
pub(super) fn only_counts_rows(aggregate: &AggregateExec) -> bool {
    aggregate.group_expr().is_empty()
        && !aggregate.aggr_expr().is_empty()
        && aggregate.filter_expr().iter().all(Option::is_none)
        && aggregate.aggr_expr().iter().all(|function| counts_rows(function))
}

/// Is it COUNT(*), or of another constant?
pub(super) fn counts_rows(function: &AggregateFunctionExpr) -> bool {
    let one = |of: &Arc<dyn PhysicalExpr>| of.downcast_ref::<Literal>().is_some_and(|one| !one.value().is_null());
    function.fun().name() == "count" && !function.is_distinct() && function.expressions().iter().all(one)
}

/// One row: in each column the number of its input's rows.
pub(super) struct CountRows {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl CountRows {
    /// `schema`: columns of BIGINT.
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, schema: SchemaRef) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { input, properties: Arc::new(properties) }
    }
}

impl fmt::Debug for CountRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as(DisplayFormatType::Default, f)
    }
}

impl DisplayAs for CountRows {
    fn fmt_as(&self, _form: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CountRows")
    }
}

impl ExecutionPlan for CountRows {
    fn name(&self) -> &str {
        "CountRows"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.pop()) {
            (Some(input), None) => Ok(Arc::new(Self::new(input, self.schema()))),
            _ => internal_err!("CountRows has one input"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let schema = self.schema();
        let counted = async move {
            let rows = input.try_fold(0, |rows, batch| std::future::ready(Ok(rows + batch.num_rows() as i64))).await?;
            let columns = schema.fields().iter().map(|_| Arc::new(Int64Array::from(vec![rows])) as ArrayRef);
            Ok(RecordBatch::try_new(schema.clone(), columns.collect())?)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), futures_util::stream::once(counted))))
    }
}
