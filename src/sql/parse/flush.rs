//! STORAGE FLUSH.

use super::StatementParser;
use crate::error::Result;
use crate::model::NamespaceName;
use crate::sql::statement::{FlushScope, Statement};

impl StatementParser<'_> {
    /// Behind `STORAGE FLUSH`: `TABLE [namespace.]table`, or `ALL [IN [NAMESPACE] namespace]`.
    pub(super) fn storage_flush(&mut self) -> Result<Statement> {
        if self.accept_word("TABLE") {
            return Ok(Statement::StorageFlush(FlushScope::Table(self.table_ref()?)));
        }
        if !self.accept_word("ALL") {
            return Err(self.expected("TABLE or ALL"));
        }
        if !self.accept_word("IN") {
            return Ok(Statement::StorageFlush(FlushScope::Namespace(None)));
        }
        self.accept_word("NAMESPACE");
        let name = NamespaceName::parse(&self.identifier("a namespace name")?)?;
        Ok(Statement::StorageFlush(FlushScope::Namespace(Some(name))))
    }
}
