//! Joins that let others run.
//!
//! A query can be stopped, by its deadline or because nobody waits for it any more, only where it yields. DataFusion's
//! scans do, but a join makes any number of batches of one batch that it has scanned: without this, a cross join of a
//! few thousand rows keeps its thread for minutes.
//! Never changes what a plan computes.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;

#[derive(Debug)]
pub(crate) struct BreathingJoins;

impl PhysicalOptimizerRule for BreathingJoins {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            // Whatever has several inputs: joins of every kind.
            if node.children().len() < 2 {
                return Ok(Transformed::no(node));
            }
            Ok(Transformed::yes(Arc::new(CooperativeExec::new(node))))
        })
        .data()
    }

    fn name(&self) -> &str {
        "breathing_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
