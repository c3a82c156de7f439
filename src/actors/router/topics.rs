//! Which topics get what of a table's changes.
//!
//! Owns that a table's routes change between two of its writes, never under one: behind its closed gate.

use std::sync::{Arc, PoisonError};

use super::{Router, TableEntry};
use crate::actors::gate::ClosedGate;
use crate::actors::inbox;
use crate::actors::table::SetRoutes;
use crate::model::{TableId, TableMeta};
use crate::topics::TableRoutes;

impl Router {
    /// What topics get of a table's changes.
    pub fn routes_of(&self, table: TableId) -> Arc<TableRoutes> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).get(&table).cloned().unwrap_or_default()
    }

    /// At a start, before anybody writes: what topics get of a table's changes. A job that goes on may have the table in use
    /// already.
    pub fn start_routes(&self, table: TableId, routes: TableRoutes) {
        let routes = Arc::new(routes);
        self.routes.write().unwrap_or_else(PoisonError::into_inner).insert(table, routes.clone());
        // Behind it: an actor that did not see them is found here.
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(TableEntry::Live(live)) = tables.get(&table) {
            inbox::send(&live.addr, SetRoutes(routes));
        }
    }

    /// What topics get of a table's changes, from the first one behind the gate on.
    pub fn set_routes(&self, _gate: &mut ClosedGate, table: &Arc<TableMeta>, routes: TableRoutes) {
        let routes = Arc::new(routes);
        self.routes.write().unwrap_or_else(PoisonError::into_inner).insert(table.id, routes.clone());
        // In use since its gate was closed. Its actor takes messages in order: a write comes behind this.
        if let Ok(live) = self.table(table) {
            inbox::send(&live.addr, SetRoutes(routes));
        }
    }
}
