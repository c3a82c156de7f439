//! Live queries: compiled, attached, read and ended.

use super::Database;
use super::request::Outcome;
use crate::error::{Error, Result};

impl Database {
    pub(super) fn kill_live_query(&self, live_id: &str) -> Result<Outcome> {
        Err(Error::NotFound(format!("live query '{live_id}'")))
    }
}
