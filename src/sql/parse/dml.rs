//! Queries, INSERT, UPDATE, DELETE and EXPLAIN: sqlparser reads them, we refuse the parts that we do not have.

use datafusion::sql::sqlparser::ast;

use super::{StatementParser, refused};
use crate::error::{Error, Result};
use crate::sql::statement::{Insert, LiteralRows, Statement};

impl StatementParser<'_> {
    pub(super) fn query(&mut self) -> Result<Statement> {
        let query = self.with(|parser| parser.parse_query())?;
        refused::check_query(&query)?;
        Ok(Statement::Query(query))
    }

    pub(super) fn insert(&mut self) -> Result<Statement> {
        match self.with(|parser| {
            let keyword = parser.next_token();
            parser.parse_insert(keyword)
        })? {
            ast::Statement::Insert(insert) => {
                refused::check_insert(&insert)?;
                if let Some(source) = &insert.source {
                    refused::check_query(source)?;
                }
                Ok(Statement::Insert(Box::new(Insert { statement: insert, more: LiteralRows::default() })))
            }
            _ => Err(Error::Unsupported("INSERT into anything but a table is not supported".to_owned())),
        }
    }

    pub(super) fn update(&mut self) -> Result<Statement> {
        match self.with(|parser| {
            let keyword = parser.next_token();
            parser.parse_update(keyword)
        })? {
            ast::Statement::Update(update) => {
                refused::check_update(&update)?;
                Ok(Statement::Update(Box::new(update)))
            }
            _ => Err(Error::Unsupported("this form of UPDATE is not supported".to_owned())),
        }
    }

    pub(super) fn delete(&mut self) -> Result<Statement> {
        match self.with(|parser| {
            let keyword = parser.next_token();
            parser.parse_delete(keyword)
        })? {
            ast::Statement::Delete(delete) => {
                refused::check_delete(&delete)?;
                Ok(Statement::Delete(Box::new(delete)))
            }
            _ => Err(Error::Unsupported("this form of DELETE is not supported".to_owned())),
        }
    }

    pub(super) fn explain(&mut self) -> Result<Statement> {
        let explain = self.with(|parser| {
            parser.advance_token();
            parser.parse_explain(ast::DescribeAlias::Explain)
        })?;
        if let ast::Statement::Explain { statement, .. } = &explain
            && let ast::Statement::Query(query) = statement.as_ref()
        {
            refused::check_query(query)?;
            return Ok(Statement::Explain(Box::new(explain)));
        }
        Err(Error::Unsupported("EXPLAIN of anything but a query is not supported".to_owned()))
    }
}
