//! The physical scan: stored rows to record batches, in `_seq` order.
//!
//! Reads block on the disk where blocks are cold: this runs on the engine's own runtime only. Between two batches it
//! yields, so that cancellation and the deadline of a statement take effect.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions, SchedulingType,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

use super::{RowScope, ScanBounds};
use crate::error;
use crate::model::schema::SEQ_COLUMN;
use crate::model::{Owner, PartitionKey, StoredRow, TableMeta};
use crate::storage::{BatchBuilder, Order, ReadView};

const BATCH_ROWS: usize = 8192;
/// The first batch is small: a filter with a LIMIT above often needs no second one.
const FIRST_BATCH_ROWS: usize = 512;
/// Stored rows, hidden tombstones included, that are read without a yield.
const READ_AT_ONCE: usize = 4 * BATCH_ROWS;

/// What is read, whatever the order and the limit.
#[derive(Clone)]
pub(super) struct ScanSource {
    pub meta: Arc<TableMeta>,
    pub scope: RowScope,
    pub view: ReadView,
    /// Positions in the full schema.
    pub projection: Vec<usize>,
    pub bounds: ScanBounds,
}

pub(super) struct PartitionScan {
    source: ScanSource,
    order: Order,
    limit: Option<usize>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl PartitionScan {
    pub(super) fn new(source: ScanSource, full: &Schema, order: Order, limit: Option<usize>) -> Result<Self> {
        let schema: SchemaRef = Arc::new(full.project(&source.projection)?);
        Ok(Self::with_schema(source, schema, order, limit))
    }

    /// The same rows, the newest first. `None` where a limit keeps the oldest ones.
    pub(super) fn turned(&self) -> Option<Self> {
        let order = match self.order {
            Order::Ascending => Order::Descending,
            Order::Descending => Order::Ascending,
        };
        self.limit.is_none().then(|| Self::with_schema(self.source.clone(), self.schema.clone(), order, None))
    }

    fn with_schema(source: ScanSource, schema: SchemaRef, order: Order, limit: Option<usize>) -> Self {
        let mut equivalences = EquivalenceProperties::new(schema.clone());
        if let Ok(position) = schema.index_of(SEQ_COLUMN) {
            let options = SortOptions { descending: order == Order::Descending, nulls_first: false };
            let column = Arc::new(Column::new(SEQ_COLUMN, position));
            equivalences.add_orderings([[PhysicalSortExpr { expr: column, options }]]);
        }
        let properties = PlanProperties::new(
            equivalences,
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Self { source, order, limit, schema, properties: Arc::new(properties) }
    }
}

impl fmt::Debug for PartitionScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as(DisplayFormatType::Default, f)
    }
}

impl DisplayAs for PartitionScan {
    fn fmt_as(&self, _form: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ScanSource { meta, scope, bounds, .. } = &self.source;
        write!(f, "PartitionScan: table={}", meta.name)?;
        match scope {
            RowScope::Partition(owner) => write!(f, ", owner={owner}")?,
            RowScope::AllOwners => f.write_str(", all owners")?,
        }
        if bounds.key.is_some() {
            f.write_str(", by key")?;
        }
        write!(f, ", _seq={}..={}, {:?}", bounds.seqs.start(), bounds.seqs.end(), self.order)?;
        if bounds.tombstones {
            f.write_str(", with tombstones")?;
        }
        self.limit.map_or(Ok(()), |limit| write!(f, ", limit={limit}"))
    }
}

impl ExecutionPlan for PartitionScan {
    fn name(&self) -> &str {
        "PartitionScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, _partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = ScanRows::new(&self.source, self.order, self.limit);
        let batches = futures_util::stream::try_unfold(rows, |mut rows| async move {
            let batch = rows.next_batch().map_err(|error| DataFusionError::External(Box::new(error)))?;
            tokio::task::yield_now().await;
            Ok(batch.map(|batch| (batch, rows)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches)))
    }

    fn supports_limit_pushdown(&self) -> bool {
        false
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let limit = [self.limit, limit].into_iter().flatten().min();
        Some(Arc::new(Self::with_schema(self.source.clone(), self.schema.clone(), self.order, limit)))
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }
}

/// The scan at work.
struct ScanRows {
    rows: Box<dyn Iterator<Item = error::Result<(Owner, StoredRow)>> + Send>,
    builder: BatchBuilder,
    tombstones: bool,
    /// Rows that may still be given.
    left: usize,
    batch_rows: usize,
}

impl ScanRows {
    fn new(source: &ScanSource, order: Order, limit: Option<usize>) -> Self {
        let ScanSource { meta, scope, view, projection, bounds } = source;
        let projection = Some(projection.as_slice());
        let builder = match scope {
            RowScope::Partition(_) => BatchBuilder::new(meta.clone(), projection),
            RowScope::AllOwners => BatchBuilder::all_owners(meta.clone(), projection),
        };
        Self {
            rows: stored_rows(view, meta, scope, bounds, order),
            builder,
            tombstones: bounds.tombstones,
            left: limit.unwrap_or(usize::MAX),
            batch_rows: FIRST_BATCH_ROWS,
        }
    }

    fn next_batch(&mut self) -> error::Result<Option<RecordBatch>> {
        let wanted = self.batch_rows.min(self.left);
        let mut at_end = wanted == 0;
        for _ in 0..READ_AT_ONCE {
            if self.builder.len() == wanted {
                break;
            }
            let Some(row) = self.rows.next() else {
                at_end = true;
                break;
            };
            let (owner, stored) = row?;
            if self.tombstones || !stored.deleted {
                self.builder.push(&owner, &stored)?;
            }
        }
        if at_end && self.builder.is_empty() {
            return Ok(None);
        }
        self.left -= self.builder.len();
        self.batch_rows = BATCH_ROWS;
        Ok(Some(self.builder.finish()?))
    }
}

fn stored_rows(
    view: &ReadView,
    meta: &TableMeta,
    scope: &RowScope,
    bounds: &ScanBounds,
    order: Order,
) -> Box<dyn Iterator<Item = error::Result<(Owner, StoredRow)>> + Send> {
    let seqs = bounds.seqs.clone();
    if seqs.is_empty() {
        return Box::new(std::iter::empty());
    }
    let RowScope::Partition(owner) = scope else { return Box::new(view.feed(meta.id, seqs, order)) };
    let key = PartitionKey { table: meta.id, owner: owner.clone() };
    let owner = owner.clone();
    match &bounds.key {
        Some(pk) => {
            let found = view.get(&key, pk).transpose();
            let in_range =
                move |row: &error::Result<StoredRow>| row.as_ref().map_or(true, |row| seqs.contains(&row.seq));
            Box::new(found.filter(in_range).map(|row| row.map(|row| (owner, row))).into_iter())
        }
        None => Box::new(view.scan(&key, seqs, order).map(move |row| row.map(|row| (owner.clone(), row)))),
    }
}
