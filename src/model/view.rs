//! A view: a query under a name.
//!
//! Owns what is kept of one: its text, the columns that it showed when it was made, and what it reads.
//! Never holds rows or rights: whoever reads a view reads the tables below it, with their own rights and rows.

use serde::{Deserialize, Serialize};

use super::{DataType, TableName, UserId};

/// A view as the catalog stores it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ViewMeta {
    pub name: TableName,
    /// The SELECT as it was written.
    pub query: String,
    /// Of unqualified names in `query`: the namespace of the request that made the view.
    pub namespace: String,
    /// What it shows, in order. A column that a table below gets later is not among them.
    pub columns: Vec<ViewColumn>,
    /// The tables and views that `query` names itself.
    pub reads: Vec<TableName>,
    /// Does it name a system table itself?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reads_system: bool,
    pub created_by: UserId,
    /// Microseconds since the Unix epoch.
    pub created_at: i64,
    pub updated_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ViewColumn {
    pub name: String,
    /// What the query calls it; `None`: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(rename = "type")]
    pub data_type: DataType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

impl ViewColumn {
    /// What the query calls it.
    pub fn source(&self) -> &str {
        self.source.as_deref().unwrap_or(&self.name)
    }
}
