//! Statements about views, and comments.

use datafusion::sql::sqlparser::ast;

use super::TableRef;

/// CREATE VIEW.
#[derive(Debug, Clone)]
pub struct CreateView {
    pub name: TableRef,
    pub or_replace: bool,
    pub if_not_exists: bool,
    /// Names of the columns in the place of the query's; empty: the query's own.
    pub columns: Vec<String>,
    pub query: Box<ast::Query>,
    /// The query as it was written.
    pub text: String,
}

/// What a comment is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommentOn {
    Table(TableRef),
    View(TableRef),
    /// Of a table or a view.
    Column(TableRef, String),
}
