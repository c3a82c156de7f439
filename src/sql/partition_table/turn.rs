//! `ORDER BY _seq DESC` without a sort: the scan below is turned round instead.
//!
//! Never decides by itself that an order is right: the turned plan's own properties have to say so.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use super::scan::PartitionScan;

#[derive(Debug)]
pub(crate) struct TurnScans;

impl PhysicalOptimizerRule for TurnScans {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_down(|node| match without_sort(&node)? {
            Some(turned) => Ok(Transformed::yes(turned)),
            None => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "turn_scans"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn without_sort(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(sort) = node.downcast_ref::<SortExec>() else { return Ok(None) };
    let Some(input) = turned(sort.input())? else { return Ok(None) };
    if !input.equivalence_properties().ordering_satisfy(sort.expr().clone())? {
        return Ok(None);
    }
    Ok(Some(match sort.fetch() {
        None => input,
        Some(fetch) => {
            input.with_fetch(Some(fetch)).unwrap_or_else(|| Arc::new(GlobalLimitExec::new(input, 0, Some(fetch))))
        }
    }))
}

/// `plan` over a turned scan, where nothing but filters and projections lies between.
fn turned(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(scan) = plan.downcast_ref::<PartitionScan>() {
        return Ok(scan.turned().map(|scan| Arc::new(scan) as Arc<dyn ExecutionPlan>));
    }
    let passes = plan.downcast_ref::<ProjectionExec>().is_some() || plan.downcast_ref::<FilterExec>().is_some();
    let children = plan.children();
    let (true, None, [input]) = (passes, plan.fetch(), children.as_slice()) else { return Ok(None) };
    let Some(input) = turned(input)? else { return Ok(None) };
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    plan.clone().replace_children(vec![input], options).map(Some)
}
