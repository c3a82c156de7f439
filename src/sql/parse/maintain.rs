//! STORAGE FLUSH and STORAGE COMPACT.

use super::StatementParser;
use crate::error::Result;
use crate::model::NamespaceName;
use crate::sql::statement::{ColdScope, ColdWork, Statement};

impl StatementParser<'_> {
    /// Behind the verb: `TABLE [namespace.]table`, or `ALL [IN [NAMESPACE] namespace]`.
    pub(super) fn maintain_storage(&mut self, work: ColdWork) -> Result<Statement> {
        let scope = if self.accept_word("TABLE") {
            ColdScope::Table(self.table_ref()?)
        } else if !self.accept_word("ALL") {
            return Err(self.expected("TABLE or ALL"));
        } else if self.accept_word("IN") {
            self.accept_word("NAMESPACE");
            ColdScope::Namespace(Some(NamespaceName::parse(&self.identifier("a namespace name")?)?))
        } else {
            ColdScope::Namespace(None)
        };
        Ok(Statement::MaintainStorage { work, scope })
    }
}
