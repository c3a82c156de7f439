//! CHECK constraints and comments of a table: what is said of it beside its columns.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A condition that no row of the table may fail. NULL does not fail it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckMeta {
    /// In lower case; one of its name in the table.
    pub name: String,
    /// The condition as SQL.
    pub condition: String,
    /// The ids of the columns that it names.
    pub columns: Vec<u32>,
}

/// What COMMENT ON says of a table and its columns.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TableComments {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// By column id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<u32, String>,
}
