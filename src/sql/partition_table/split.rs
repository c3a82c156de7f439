//! Aggregates and top rows over many cold rows, computed side by side.
//!
//! Owns what may be cut into shares: what gives the same answer, to the bit and in the same order, as it would in one go. So sums
//! of floating-point numbers stay whole, and shares lie one behind the other and are put together in that order.
//! Everything else reads a table in one go: hot rows and small files are faster so.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures_util::StreamExt;

use super::count_rows::{CountRows, only_counts_rows};
use super::group_by_text::{GroupByText, Sums};
use super::scan::PartitionScan;
use crate::storage::Share;

/// Batches that a share may be ahead of those before it; at the bound it waits.
const AHEAD: usize = 4;

#[derive(Debug)]
pub(crate) struct SplitScans {
    /// Shares at most: the engine's threads.
    pub threads: usize,
    /// Cold rows that are worth a share.
    pub rows_each: u64,
}

impl PhysicalOptimizerRule for SplitScans {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_down(|node| match self.split(&node)? {
            // What is below is cut already.
            Some(split) => Ok(Transformed::new(split, true, TreeNodeRecursion::Jump)),
            None => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "split_scans"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

impl SplitScans {
    fn split(&self, node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        if let Some(aggregate) = node.downcast_ref::<AggregateExec>()
            && may_be_split(aggregate)
        {
            let split = self.split_aggregate(aggregate)?;
            let counts = split.is_none() && only_counts_rows(aggregate);
            return Ok(if counts {
                Some(Arc::new(CountRows::new(aggregate.input().clone(), aggregate.schema())))
            } else {
                split
            });
        }
        if let Some(sort) = node.downcast_ref::<SortExec>()
            && sort.fetch().is_some()
            && !sort.preserve_partitioning()
        {
            return self.split_top(sort);
        }
        Ok(None)
    }

    /// Groups of each share, then the groups of all: both in the order in which rows first name them.
    fn split_aggregate(&self, whole: &AggregateExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(inputs) = self.shares(whole.input())? else { return Ok(None) };
        let parts = inputs.into_iter().map(|input| groups_of_share(whole, input)).collect::<Result<Vec<_>>>()?;
        let (aggregates, filters) = (whole.aggr_expr().to_vec(), whole.filter_expr().to_vec());
        let merged = Arc::new(InOrder::new(parts));
        let (mode, groups) = (AggregateMode::Final, whole.group_expr().as_final());
        let merged = AggregateExec::try_new(mode, groups, aggregates, filters, merged, whole.input_schema())?;
        Ok(Some(Arc::new(merged)))
    }

    /// The first rows of each share, then the first of these. Each share has a threshold of its own: with one for all, which of
    /// equal rows stay would depend on which thread was faster.
    fn split_top(&self, whole: &SortExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(inputs) = self.shares(whole.input())? else { return Ok(None) };
        let top = |input| SortExec::new(whole.expr().clone(), input).with_fetch(whole.fetch());
        let parts = inputs.into_iter().map(|input| Arc::new(top(input)) as Arc<dyn ExecutionPlan>).collect();
        Ok(Some(Arc::new(top(Arc::new(InOrder::new(parts))))))
    }

    /// `plan` once for each share, where nothing but filters and projections lies over a scan that is worth it.
    fn shares(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Vec<Arc<dyn ExecutionPlan>>>> {
        let Some(scan) = scan_below(plan) else { return Ok(None) };
        let rows = scan.cold_rows().map_err(|error| DataFusionError::External(Box::new(error)))?;
        let of = usize::try_from(rows / self.rows_each).unwrap_or(usize::MAX).min(self.threads);
        if of < 2 {
            return Ok(None);
        }
        (0..of).map(|number| with_share(plan, Share { number, of })).collect::<Result<Vec<_>>>().map(Some)
    }
}

fn groups_of_share(whole: &AggregateExec, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let (groups, schema) = (whole.group_expr().clone(), whole.input_schema());
    let (functions, filters) = (whole.aggr_expr().to_vec(), whole.filter_expr().to_vec());
    let mode = AggregateMode::Partial;
    let partial = AggregateExec::try_new(mode, groups, functions.clone(), filters.clone(), input.clone(), schema)?;
    if only_counts_rows(whole) {
        return Ok(Arc::new(CountRows::new(input, partial.schema())));
    }
    let Some(column) = grouping_text(whole) else { return Ok(Arc::new(partial)) };
    let Some(input) = with_dictionary(&input, column)? else { return Ok(Arc::new(partial)) };
    let sums = Sums { functions, filters, schema: partial.schema() };
    Ok(Arc::new(GroupByText::new(input, column, Arc::new(sums))))
}

/// The position in the input of the one column that it groups by, if that is one of texts that nothing else is asked of.
fn grouping_text(aggregate: &AggregateExec) -> Option<usize> {
    let [(group, _)] = aggregate.group_expr().expr() else { return None };
    let column = group.downcast_ref::<Column>()?.index();
    let text = *aggregate.input_schema().field(column).data_type() == DataType::Utf8;
    let arguments = aggregate.aggr_expr().iter().flat_map(|function| function.expressions());
    let mut asked = arguments.chain(aggregate.filter_expr().iter().flatten().cloned());
    let alone = !asked.any(|of| asks_for(&of, column)) && !aggregate.group_expr().has_grouping_set();
    let known = aggregate.aggr_expr().iter().all(|function| function.groups_accumulator_supported());
    (text && alone && known).then_some(column)
}

fn asks_for(expression: &Arc<dyn PhysicalExpr>, column: usize) -> bool {
    collect_columns(expression).iter().any(|asked| asked.index() == column)
}

/// `plan` with a dictionary in place of these texts; `None` where something below asks for them.
fn with_dictionary(plan: &Arc<dyn ExecutionPlan>, column: usize) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(scan) = plan.downcast_ref::<PartitionScan>() {
        return Ok(scan.with_dictionary(column).map(|scan| Arc::new(scan) as Arc<dyn ExecutionPlan>));
    }
    let Some(filter) = plan.downcast_ref::<FilterExec>() else { return Ok(None) };
    let below = filter.projection().as_deref().map_or(column, |projection| projection[column]);
    if asks_for(filter.predicate(), below) {
        return Ok(None);
    }
    let Some(input) = with_dictionary(filter.input(), below)? else { return Ok(None) };
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    plan.clone().replace_children(vec![input], options).map(Some)
}

fn scan_below(plan: &Arc<dyn ExecutionPlan>) -> Option<&PartitionScan> {
    if let Some(scan) = plan.downcast_ref::<PartitionScan>() {
        return Some(scan);
    }
    let passes = plan.downcast_ref::<ProjectionExec>().is_some() || plan.downcast_ref::<FilterExec>().is_some();
    match (passes, plan.fetch(), plan.children().as_slice()) {
        (true, None, [input]) => scan_below(input),
        _ => None,
    }
}

fn with_share(plan: &Arc<dyn ExecutionPlan>, share: Share) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(scan) = plan.downcast_ref::<PartitionScan>() {
        return Ok(Arc::new(scan.with_share(share)));
    }
    let inputs: Result<Vec<_>> = plan.children().into_iter().map(|input| with_share(input, share)).collect();
    plan.clone().replace_children(inputs?, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}

fn may_be_split(aggregate: &AggregateExec) -> bool {
    let whole = matches!(aggregate.mode(), AggregateMode::Single | AggregateMode::SinglePartitioned);
    let schema = aggregate.input_schema();
    whole && aggregate.limit_options().is_none() && aggregate.aggr_expr().iter().all(|f| adds_up(f, &schema))
}

/// Does the aggregate of two parts follow exactly from the aggregates of each?
fn adds_up(function: &AggregateFunctionExpr, schema: &Schema) -> bool {
    if !function.order_bys().is_empty() {
        return false;
    }
    match function.fun().name() {
        "count" | "min" | "max" | "bool_and" | "bool_or" | "bit_and" | "bit_or" | "bit_xor" => true,
        "sum" | "avg" => !function.is_distinct() && function.expressions().iter().all(|of| adds_exactly(of, schema)),
        _ => false,
    }
}

/// Whole numbers and decimals do. So do whole numbers of 32 bits that AVG adds up as doubles: up to 2^53 each sum is exact.
fn adds_exactly(of: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    let whole = |ty: &DataType| ty.is_integer() || matches!(ty, DataType::Decimal128(..) | DataType::Decimal256(..));
    let small = |ty: DataType| matches!(ty, DataType::Int16 | DataType::Int32);
    let cast = of.downcast_ref::<CastExpr>();
    of.data_type(schema).is_ok_and(|ty| whole(&ty))
        || cast.is_some_and(|cast| cast.expr().data_type(schema).is_ok_and(small))
}

/// Runs its inputs at the same time and gives what the first one gives, then what the second one gives, and so on.
struct InOrder {
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    properties: Arc<PlanProperties>,
}

impl InOrder {
    fn new(inputs: Vec<Arc<dyn ExecutionPlan>>) -> Self {
        let schema = inputs.first().map_or_else(|| Arc::new(Schema::empty()), |input| input.schema());
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { inputs, properties: Arc::new(properties) }
    }
}

impl fmt::Debug for InOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as(DisplayFormatType::Default, f)
    }
}

impl DisplayAs for InOrder {
    fn fmt_as(&self, _form: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InOrder: shares={}", self.inputs.len())
    }
}

impl ExecutionPlan for InOrder {
    fn name(&self) -> &str {
        "InOrder"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(children)))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    /// Whoever drops the stream stops all inputs; one that panics ends it with an error.
    fn execute(&self, _partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut running = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            let mut batches = input.execute(0, context.clone())?;
            let mut share = RecordBatchReceiverStream::builder(self.schema(), AHEAD);
            let answers = share.tx();
            share.spawn(async move {
                while let Some(batch) = batches.next().await {
                    let failed = batch.is_err();
                    // Nobody waits for it any more, or there is nothing to wait for.
                    if answers.send(batch).await.is_err() || failed {
                        break;
                    }
                }
                Ok(())
            });
            running.push(share.build());
        }
        let batches = futures_util::stream::iter(running).flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}
