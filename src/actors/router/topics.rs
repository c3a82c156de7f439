//! Which topics get what of a table's changes.
//!
//! Owns that a table's routes change between two of its writes, never under one: behind its closed gate.

use std::sync::{Arc, PoisonError};

use super::Router;
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

    /// Before anything is written: what topics get of a table's changes.
    pub fn start_routes(&self, table: TableId, routes: TableRoutes) {
        self.routes.write().unwrap_or_else(PoisonError::into_inner).insert(table, Arc::new(routes));
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
