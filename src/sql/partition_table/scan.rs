//! The physical scan: stored rows to record batches, in `_seq` order.
//!
//! Hot rows become columns; a segment's columns are read as such. Hot reads block on the disk: this runs on the engine's own
//! runtime only. Between two batches it yields, so that cancellation and the deadline of a statement take effect.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, DictionaryArray, Int32Array, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions, SchedulingType,
};
use datafusion::physical_plan::filter_pushdown::{ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;

use super::scan_filter::ScanFilter;
use super::{RowScope, ScanBounds};
use crate::error::{self, Error};
use crate::metrics::Metrics;
use crate::model::schema::SEQ_COLUMN;
use crate::model::{DataType, Owner, StoredRow, TableMeta};
use crate::storage::segment::{RowPredicate, SegmentBatch, SegmentMeta, SegmentScan, dictionary_of_texts};
use crate::storage::{BatchBuilder, FeedScan, Found, Order, ReadView, RowsPart, Share};

const BATCH_ROWS: usize = 8192;
/// The first batch is small: a filter with a LIMIT above often needs no second one.
const FIRST_BATCH_ROWS: usize = 512;
/// A batch of wide rows ends before it has that many.
const BATCH_BYTES: usize = 2 << 20;
/// What compression may have made of a segment's rows.
const COMPRESSED: u64 = 4;
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
    /// Of the cold rows in these bounds, if they are read by several.
    pub share: Option<Share>,
    /// What segments are asked before all columns are read.
    pub filters: Vec<ScanFilter>,
    /// Columns of texts that are given as `Dictionary(Int32, Utf8)`: their positions in the output, and ids.
    pub dictionaries: Vec<(usize, u32)>,
}

pub(super) struct PartitionScan {
    source: ScanSource,
    order: Order,
    limit: Option<usize>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
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

    /// Of the rows, those of one share.
    pub(super) fn with_share(&self, share: Share) -> Self {
        let source = ScanSource { share: Some(share), ..self.source.clone() };
        Self::with_schema(source, self.schema.clone(), self.order, self.limit)
    }

    /// Cold rows that it may have to decode; none where it reads by key, up to a limit, or in feed order.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub(super) fn cold_rows(&self) -> error::Result<u64> {
        let ScanSource { meta, scope, view, bounds, share, .. } = &self.source;
        match scope {
            RowScope::Partition(owner) if bounds.key.is_none() && share.is_none() && self.limit.is_none() => {
                view.cold_rows(meta, owner, &bounds.seqs)
            }
            _ => Ok(0),
        }
    }

    /// The same rows with a column of texts as `Dictionary(Int32, Utf8)`, whose values may come several times; `None` where the
    /// texts are asked for before that.
    pub(super) fn with_dictionary(&self, output: usize) -> Option<Self> {
        let ScanSource { meta, projection, filters, .. } = &self.source;
        let column = meta.columns.get(projection[output])?;
        if column.data_type != DataType::Text || filters.iter().any(|filter| filter.asks_for(output)) {
            return None;
        }
        let mut fields: Vec<FieldRef> = self.schema.fields().iter().cloned().collect();
        fields[output] = Arc::new(fields[output].as_ref().clone().with_data_type(dictionary_of_texts()));
        let schema = Schema::new_with_metadata(fields, self.schema.metadata().clone());
        let mut source = self.source.clone();
        source.dictionaries.push((output, column.id));
        Some(Self::with_schema(source, Arc::new(schema), self.order, self.limit))
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
        let metrics = ExecutionPlanMetricsSet::new();
        Self { source, order, limit, schema, properties: Arc::new(properties), metrics }
    }
}

impl fmt::Debug for PartitionScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as(DisplayFormatType::Default, f)
    }
}

impl DisplayAs for PartitionScan {
    fn fmt_as(&self, _form: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ScanSource { meta, scope, bounds, share, filters, dictionaries, .. } = &self.source;
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
        if let Some(share) = share {
            write!(f, ", share={} of {}", share.number + 1, share.of)?;
        }
        if !filters.is_empty() {
            write!(f, ", filters={}", filters.len())?;
        }
        if !dictionaries.is_empty() {
            write!(f, ", dictionaries={}", dictionaries.len())?;
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

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let output = MetricBuilder::new(&self.metrics).output_rows(partition);
        let read = context.session_config().get_extension::<Metrics>();
        let rows = ScanRows::new(&self.source, self.order, self.limit);
        let schema = self.schema.clone();
        let batches = futures_util::stream::try_unfold(rows, move |mut rows| {
            let (schema, output, read) = (schema.clone(), output.clone(), read.clone());
            async move {
                let batch = rows.next_batch().await.map_err(|error| DataFusionError::External(Box::new(error)))?;
                tokio::task::yield_now().await;
                if let Some(batch) = &batch {
                    output.add(batch.num_rows());
                    if let Some(read) = &read {
                        read.rows_read.add(&rows.source.meta.name.to_string(), batch.num_rows() as u64);
                    }
                }
                let batch = match batch {
                    Some(batch) if !rows.source.dictionaries.is_empty() => {
                        Some(with_dictionaries(&batch, &rows.source.dictionaries, schema)?)
                    }
                    batch => batch,
                };
                Ok(batch.map(|batch| (batch, rows)))
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    /// Takes filters on for segments. Whoever set them keeps them all the same.
    fn handle_child_pushdown_result(
        &self,
        _phase: FilterPushdownPhase,
        filters: ChildPushdownResult,
        _config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let taken: Vec<ScanFilter> =
            filters.parent_filters.iter().filter_map(|set| ScanFilter::new(&set.filter, &self.schema)).collect();
        let kept = FilterPushdownPropagation::all_unsupported(filters);
        // A limit counts the rows that this scan gives, whatever is asked of them later.
        let whole = matches!(self.source.scope, RowScope::Partition(_)) && self.limit.is_none();
        if taken.is_empty() || !whole || self.source.bounds.key.is_some() {
            return Ok(kept);
        }
        let mut source = self.source.clone();
        source.filters.extend(taken);
        let scan = Self::with_schema(source, self.schema.clone(), self.order, self.limit);
        Ok(kept.with_updated_node(Arc::new(scan)))
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
    source: ScanSource,
    order: Order,
    rows: Rows,
    builder: BatchBuilder,
    /// Bytes of the stored rows in the builder.
    bytes: usize,
    /// Rows that may still be given.
    left: usize,
    /// No segment was read yet.
    first_segment: bool,
    batch_rows: usize,
}

enum Rows {
    /// Nothing was read yet.
    Unopened,
    /// The row with a key.
    Key(Option<(Owner, StoredRow)>),
    /// Stretches of one partition in the scan's order.
    Parts(VecDeque<RowsPart>),
    /// A stretch that is read as columns, and those behind it.
    Segment(BoxStream<'static, error::Result<SegmentBatch>>, VecDeque<RowsPart>),
    /// All owners, and rows of one that were read and not taken.
    Feed(Box<FeedScan>, Owner, VecDeque<StoredRow>),
    End,
}

impl ScanRows {
    fn new(source: &ScanSource, order: Order, limit: Option<usize>) -> Self {
        let projection = Some(source.projection.as_slice());
        let builder = match source.scope {
            RowScope::Partition(_) => BatchBuilder::new(source.meta.clone(), projection),
            RowScope::AllOwners => {
                BatchBuilder::all_owners(source.meta.clone(), source.view.homes().clone(), projection)
            }
        };
        Self {
            source: source.clone(),
            order,
            rows: Rows::Unopened,
            builder,
            bytes: 0,
            left: limit.unwrap_or(usize::MAX),
            first_segment: true,
            batch_rows: FIRST_BATCH_ROWS,
        }
    }

    async fn open(source: &ScanSource, order: Order) -> error::Result<Rows> {
        let ScanSource { meta, scope, view, bounds, .. } = source;
        let mut seqs = bounds.seqs.clone();
        if let (Some(share), RowScope::Partition(owner)) = (source.share, scope) {
            seqs = view.share(meta, owner, seqs, share).await?;
        }
        if seqs.is_empty() {
            return Ok(Rows::End);
        }
        let RowScope::Partition(owner) = scope else {
            let feed = view.feed(meta, seqs, order);
            return Ok(Rows::Feed(Box::new(feed), Owner::Shared, VecDeque::new()));
        };
        let Some(pk) = &bounds.key else {
            return Ok(Rows::Parts(view.rows(meta, owner, seqs, order)?.into_parts()));
        };
        let row = match view.find(meta, owner, pk)? {
            Found::Row(row) => Some(row),
            Found::Absent => None,
            Found::Cold(lookup) => lookup.row().await?,
        };
        Ok(Rows::Key(row.filter(|row| seqs.contains(&row.seq)).map(|row| (owner.clone(), row))))
    }

    /// The next batch; an empty one lets others have their turn. `None` at the end.
    async fn next_batch(&mut self) -> error::Result<Option<RecordBatch>> {
        if self.left == 0 {
            return Ok(None);
        }
        let rows = match std::mem::replace(&mut self.rows, Rows::End) {
            Rows::Unopened => Self::open(&self.source, self.order).await?,
            rows => rows,
        };
        let (batch, rest) = match rows {
            Rows::Unopened | Rows::End => (None, Rows::End),
            Rows::Key(row) => {
                if let Some((owner, row)) = row {
                    self.push(&owner, &row)?;
                }
                (None, Rows::End)
            }
            Rows::Parts(parts) => self.next_part(parts).await?,
            Rows::Segment(mut open, parts) => match open.try_next().await? {
                Some(read) => (Some(read.batch), Rows::Segment(open, parts)),
                None => (None, Rows::Parts(parts)),
            },
            Rows::Feed(feed, owner, ready) => (None, self.next_of_feed(feed, owner, ready).await?),
        };
        let at_end = matches!(rest, Rows::End);
        self.rows = rest;
        let batch = match batch {
            Some(batch) => batch.slice(0, batch.num_rows().min(self.left)),
            None if at_end && self.builder.is_empty() => return Ok(None),
            None => {
                self.bytes = 0;
                self.builder.finish()?
            }
        };
        self.left -= batch.num_rows();
        self.batch_rows = BATCH_ROWS;
        Ok(Some(batch))
    }

    fn push(&mut self, owner: &Owner, row: &StoredRow) -> error::Result<()> {
        if self.source.bounds.tombstones || !row.deleted {
            self.builder.push(owner, row)?;
            self.bytes += row.row.0.len();
        }
        Ok(())
    }

    fn may_hold(&self, segment: &SegmentMeta) -> bool {
        let ScanSource { meta, bounds, .. } = &self.source;
        bounds.columns.iter().all(|any| any.iter().any(|bound| bound.may_hold(meta, segment)))
    }

    fn is_full(&self) -> bool {
        self.builder.len() == self.batch_rows.min(self.left) || self.bytes >= BATCH_BYTES
    }

    /// Of the stretch in front: its columns, or its rows into the builder.
    async fn next_part(&mut self, mut parts: VecDeque<RowsPart>) -> error::Result<(Option<RecordBatch>, Rows)> {
        match parts.pop_front() {
            None => Ok((None, Rows::End)),
            Some(RowsPart::Hot(mut scan)) => {
                let RowScope::Partition(owner) = self.source.scope.clone() else { return Ok((None, Rows::End)) };
                for _ in 0..READ_AT_ONCE {
                    if self.is_full() {
                        break;
                    }
                    let Some(row) = scan.next() else { return Ok((None, Rows::Parts(parts))) };
                    self.push(&owner, &row?)?;
                }
                parts.push_front(RowsPart::Hot(scan));
                Ok((None, Rows::Parts(parts)))
            }
            Some(RowsPart::Cold(reader, _)) if !self.may_hold(&reader.entry().meta) => Ok((None, Rows::Parts(parts))),
            Some(RowsPart::Cold(reader, scan)) => {
                let tombstones = reader.entry().meta.tombstones > 0 && !self.source.bounds.tombstones;
                let ScanSource { meta, projection, filters, dictionaries, .. } = &self.source;
                let sharpens = std::mem::take(&mut self.first_segment) && filters.iter().any(ScanFilter::sharpens);
                let pages = filters.iter().flat_map(|filter| filter.pages(projection, meta.columns.len()));
                let predicates = filters.iter().filter_map(|filter| filter.predicate(projection));
                let scan = SegmentScan {
                    projection: Some(projection.clone()),
                    dictionaries: dictionaries.clone(),
                    predicates: tombstones.then(|| not_deleted(meta)).into_iter().chain(predicates).collect(),
                    pages: pages.collect(),
                    sharpens,
                    limit: (self.left < usize::MAX).then_some(self.left),
                    batch_rows: rows_of_segment(&reader.entry().meta),
                    ..scan
                };
                Ok((None, Rows::Segment(reader.scan(scan).await?, parts)))
            }
        }
    }

    async fn next_of_feed(
        &mut self,
        mut feed: Box<FeedScan>,
        mut owner: Owner,
        mut ready: VecDeque<StoredRow>,
    ) -> error::Result<Rows> {
        for _ in 0..READ_AT_ONCE {
            if self.is_full() {
                break;
            }
            match ready.pop_front() {
                Some(row) => self.push(&owner, &row)?,
                None => match feed.next().await? {
                    Some((of, rows)) => (owner, ready) = (of, rows.into()),
                    None => return Ok(Rows::End),
                },
            }
        }
        Ok(Rows::Feed(feed, owner, ready))
    }
}

/// Rows of a segment that make a batch: about [`BATCH_BYTES`] of wide ones.
fn rows_of_segment(segment: &SegmentMeta) -> usize {
    let row = segment.bytes.saturating_mul(COMPRESSED) / u64::from(segment.rows).max(1);
    let rows = (BATCH_BYTES as u64).checked_div(row).unwrap_or(u64::MAX);
    usize::try_from(rows).unwrap_or(BATCH_ROWS).clamp(16, BATCH_ROWS)
}

/// Columns that are texts still become dictionaries that have each row's text at the row's own place.
fn with_dictionaries(batch: &RecordBatch, columns: &[(usize, u32)], schema: SchemaRef) -> Result<RecordBatch> {
    let mut arrays = batch.columns().to_vec();
    for (output, _) in columns {
        if let Some(texts) = arrays[*output].as_string_opt::<i32>() {
            let keys = Int32Array::from_iter_values((0..batch.num_rows()).map(|row| row as i32));
            arrays[*output] = Arc::new(DictionaryArray::try_new(keys, Arc::new(texts.clone()))?);
        }
    }
    Ok(RecordBatch::try_new(schema, arrays)?)
}

/// Of a segment's rows, those that are no tombstones.
fn not_deleted(meta: &TableMeta) -> RowPredicate {
    RowPredicate {
        columns: vec![meta.columns.len() + 1],
        evaluate: Arc::new(|batch| arrow::compute::not(batch.column(0).as_boolean()).map_err(Error::internal)),
    }
}
