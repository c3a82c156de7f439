//! A table as DataFusion sees it: one partition of it, or all owners' rows.
//!
//! Owns which filters reach the store: `_seq` ranges, the whole primary key, and what segments' statistics can answer.
//! Never chooses an owner: [`PartitionTable`] is made for one, before planning. Never decides whether tombstones are shown:
//! that is told by the query as it was written.
//! Invariants: LQ-3 (a scan reads the partition it was made for and no other), S7 (rows come in `_seq` order).

mod bounds;
mod count_rows;
mod group_by_text;
mod scan;
mod scan_filter;
mod split;
mod turn;

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::model::{Owner, TableMeta};
use crate::storage::{Order, ReadView};

use bounds::{ColumnBound, ScanBounds};
use scan::PartitionScan;
pub(crate) use split::SplitScans;
pub(crate) use turn::TurnScans;

/// Whose rows of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RowScope {
    Partition(Owner),
    /// The feed: rows carry `_user_id` and `_storage_id`.
    AllOwners,
}

pub(crate) struct PartitionTable {
    meta: Arc<TableMeta>,
    scope: RowScope,
    /// `None` where it stands in a plan that is kept: such a plan is never run.
    view: Option<ReadView>,
    schema: SchemaRef,
    tombstones: bool,
}

impl PartitionTable {
    pub(crate) fn new(meta: Arc<TableMeta>, scope: RowScope, view: ReadView) -> Self {
        let schema = meta.shown_schema(scope == RowScope::AllOwners);
        Self { meta, scope, view: Some(view), schema, tombstones: false }
    }

    /// The same rows, and those that were deleted.
    pub(crate) fn with_tombstones(&self) -> Self {
        Self { tombstones: true, ..self.over(self.view.clone()) }
    }

    /// The same rows of another moment.
    pub(crate) fn over(&self, view: Option<ReadView>) -> Self {
        Self {
            meta: self.meta.clone(),
            scope: self.scope.clone(),
            view,
            schema: self.schema.clone(),
            tombstones: self.tombstones,
        }
    }

    pub(crate) fn shows_tombstones(&self) -> bool {
        self.tombstones
    }

    pub(crate) fn meta(&self) -> &Arc<TableMeta> {
        &self.meta
    }

    fn pushdown(&self, filter: &Expr) -> TableProviderFilterPushDown {
        if bounds::seq_range(filter).is_some() {
            // The scan keeps to the range by itself, so that a LIMIT above may reach it as well.
            TableProviderFilterPushDown::Exact
        } else if ColumnBound::any_of(&self.meta, filter).is_some() {
            TableProviderFilterPushDown::Inexact
        } else {
            TableProviderFilterPushDown::Unsupported
        }
    }
}

impl fmt::Debug for PartitionTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartitionTable({}, {:?})", self.meta.name, self.scope)
    }
}

#[async_trait]
impl TableProvider for PartitionTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters.iter().map(|filter| self.pushdown(filter)).collect())
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let view = self.view.clone().ok_or_else(|| internal_datafusion_err!("a plan without a view is run"))?;
        let bounds = ScanBounds::of_filters(&self.meta, filters, self.tombstones);
        let projection = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let projection = projection.into_iter().map(|position| self.meta.stored_position(position)).collect();
        let stored = match self.scope {
            RowScope::Partition(_) => self.meta.arrow_schema(),
            RowScope::AllOwners => self.meta.arrow_schema_all_owners(),
        };
        let source = scan::ScanSource {
            meta: self.meta.clone(),
            scope: self.scope.clone(),
            view,
            projection,
            bounds,
            share: None,
            filters: Vec::new(),
            dictionaries: Vec::new(),
        };
        Ok(Arc::new(PartitionScan::new(source, &stored, Order::Ascending, limit)?))
    }
}
