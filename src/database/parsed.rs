//! Parsed statements, kept by their text.
//!
//! Owns the cache's bounds and what may be in it: never a statement that holds a password.

use std::sync::Arc;

use moka::sync::Cache;

use crate::error::Result;
use crate::sql::parse::{self, ParseLimits};
use crate::sql::statement::{ParsedStatement, Statement};

/// Texts longer than this are parsed each time: they are batches of literals, which do not come twice.
const CACHED_TEXT_MAX: usize = 4 << 10;

/// Bytes of text in the cache; a parsed statement takes about ten times its text.
const CACHE_BYTES: u64 = 1 << 20;

pub(super) struct ParseCache {
    cache: Cache<String, Arc<[ParsedStatement]>>,
    limits: ParseLimits,
}

impl ParseCache {
    pub(super) fn new(limits: ParseLimits) -> Self {
        let weigh = |text: &String, _: &Arc<[ParsedStatement]>| u32::try_from(text.len()).unwrap_or(u32::MAX);
        Self { cache: Cache::builder().max_capacity(CACHE_BYTES).weigher(weigh).build(), limits }
    }

    /// `parameterised`: the text comes again with other parameters.
    ///
    /// # Errors
    /// `INVALID_SQL`, `EMPTY_SQL`.
    pub(super) fn parse(&self, sql: &str, parameterised: bool) -> Result<Arc<[ParsedStatement]>> {
        if sql.len() > CACHED_TEXT_MAX {
            return Ok(parse::parse_within(sql, self.limits)?.into());
        }
        if let Some(found) = self.cache.get(sql) {
            return Ok(found);
        }
        let parsed: Arc<[ParsedStatement]> = parse::parse_within(sql, self.limits)?.into();
        if parsed.iter().all(|s| worth_keeping(&s.statement, parameterised)) {
            self.cache.insert(sql.to_owned(), parsed.clone());
        }
        Ok(parsed)
    }
}

/// A write of literals does not come twice, a query does.
fn worth_keeping(statement: &Statement, parameterised: bool) -> bool {
    match statement {
        Statement::Query(_) => true,
        Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) => parameterised,
        Statement::ExecuteAs { inner, .. } => worth_keeping(&inner.statement, parameterised),
        _ => false,
    }
}
