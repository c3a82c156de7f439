//! Rows by table, in a bounded number of series.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Tables with a series of their own; the rows of further ones are counted together, as of table `other`.
pub const TABLES_MAX: usize = 500;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TableLabel {
    table: String,
}

/// A count of rows for each table.
#[derive(Debug, Clone, Default)]
pub struct TableRows {
    family: Family<TableLabel, Counter>,
    known: Arc<AtomicUsize>,
}

impl TableRows {
    pub(super) fn register(&self, registry: &mut Registry, name: &str, help: &str) {
        registry.register(name, help, self.family.clone());
    }

    /// `table` with its namespace.
    pub fn add(&self, table: &str, rows: u64) {
        if rows == 0 {
            return;
        }
        let label = TableLabel { table: table.to_owned() };
        if let Some(counter) = self.family.get(&label) {
            counter.inc_by(rows);
            return;
        }
        // Two that are the same new table count twice: a series less, once.
        let is_known = self.known.fetch_add(1, Ordering::Relaxed) < TABLES_MAX;
        let label = if is_known { label } else { TableLabel { table: "other".to_owned() } };
        self.family.get_or_create(&label).inc_by(rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_tables_than_there_is_room_for_are_counted_together() {
        let rows = TableRows::default();
        for table in 0..TABLES_MAX + 50 {
            rows.add(&format!("n.t{table}"), 2);
        }
        assert!(rows.family.get(&TableLabel { table: format!("n.t{}", TABLES_MAX - 1) }).is_some());
        assert!(rows.family.get(&TableLabel { table: format!("n.t{TABLES_MAX}") }).is_none());
        assert_eq!(rows.family.get_or_create(&TableLabel { table: "other".to_owned() }).get(), 100);
        rows.add("n.t1", 5);
        assert_eq!(rows.family.get_or_create(&TableLabel { table: "n.t1".to_owned() }).get(), 7);
    }
}
