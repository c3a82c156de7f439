//! What a query may join, and how long its patterns may be: looked at before anything is planned, since planning a join of
//! thousands of tables takes as long as running it.
//!
//! Owns the walk over the syntax tree, whose depth [`parse`](crate::sql::parse) has bounded.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Statement, TableFactor, Value, Visit,
    Visitor,
};

use regex::RegexBuilder;

use crate::error::{Error, Result};

/// What a regular expression may take when it is compiled.
const REGEX_MAX_BYTES: usize = 1 << 20;

/// What an operator decides about the size of one query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryBounds {
    /// Tables and sub-queries that stand in its FROMs, all of them together.
    pub tables: usize,
    /// Of a literal pattern of LIKE, SIMILAR TO, `~` and regexp functions.
    pub pattern_bytes: usize,
}

impl Default for QueryBounds {
    fn default() -> Self {
        Self { tables: 64, pattern_bytes: 4 << 10 }
    }
}

impl QueryBounds {
    /// # Errors
    /// `INVALID_SQL`: it joins more tables, or has a longer pattern.
    pub(super) fn check(&self, statement: &Statement) -> Result<()> {
        match statement.visit(&mut Walk { bounds: *self, tables: 0 }) {
            ControlFlow::Break(error) => Err(error),
            ControlFlow::Continue(()) => Ok(()),
        }
    }
}

struct Walk {
    bounds: QueryBounds,
    tables: usize,
}

impl Walk {
    fn pattern(&self, pattern: &Expr) -> ControlFlow<Error> {
        let (text, most) = (literal(pattern).unwrap_or_default(), self.bounds.pattern_bytes);
        if text.len() <= most {
            return ControlFlow::Continue(());
        }
        let text = format!("a pattern of {} bytes; {most} are allowed (limits.max_pattern_bytes)", text.len());
        ControlFlow::Break(Error::InvalidSql(text))
    }

    /// A short pattern may stand for a huge machine, as `((a{1,1000}){1,1000}){1,1000}` does.
    fn regex(&self, pattern: &Expr) -> ControlFlow<Error> {
        self.pattern(pattern)?;
        let Some(text) = literal(pattern) else { return ControlFlow::Continue(()) };
        match RegexBuilder::new(text).size_limit(REGEX_MAX_BYTES).build() {
            Ok(_) => ControlFlow::Continue(()),
            Err(regex::Error::CompiledTooBig(_)) => ControlFlow::Break(Error::InvalidSql(format!(
                "the regular expression takes more than {REGEX_MAX_BYTES} bytes when it is compiled; repeat less in it"
            ))),
            Err(fault) => ControlFlow::Break(Error::InvalidSql(fault.to_string())),
        }
    }
}

impl Visitor for Walk {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, _: &TableFactor) -> ControlFlow<Error> {
        self.tables += 1;
        let most = self.bounds.tables;
        if self.tables <= most {
            return ControlFlow::Continue(());
        }
        let text = format!("a query reads at most {most} tables and sub-queries (limits.max_tables)");
        ControlFlow::Break(Error::InvalidSql(text))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        match expr {
            Expr::Like { pattern, .. } | Expr::ILike { pattern, .. } => self.pattern(pattern),
            Expr::SimilarTo { pattern, .. } | Expr::RLike { pattern, .. } => self.regex(pattern),
            Expr::BinaryOp { op, right, .. } if is_regex(op) => self.regex(right),
            Expr::Function(function) if function.name.to_string().to_ascii_lowercase().starts_with("regexp_") => {
                let FunctionArguments::List(list) = &function.args else { return ControlFlow::Continue(()) };
                // The second one. The first is what is searched.
                match list.args.get(1) {
                    Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(pattern))) => self.regex(pattern),
                    _ => ControlFlow::Continue(()),
                }
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

fn is_regex(op: &BinaryOperator) -> bool {
    matches!(
        op,
        BinaryOperator::PGRegexMatch
            | BinaryOperator::PGRegexIMatch
            | BinaryOperator::PGRegexNotMatch
            | BinaryOperator::PGRegexNotIMatch
            | BinaryOperator::Regexp
    )
}

fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text),
            _ => None,
        },
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => literal(inner),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parse::parse;
    use crate::sql::statement::Statement as Ours;

    fn check(sql: &str) -> Option<String> {
        let Ours::Query(query) = parse(sql).unwrap().remove(0).statement else { panic!("{sql} is no query") };
        let bounds = QueryBounds { tables: 3, pattern_bytes: 5 };
        bounds.check(&Statement::Query(query)).err().map(|error| error.to_string())
    }

    #[test]
    fn tables_are_counted_wherever_they_stand() {
        for sql in
            ["SELECT 1", "SELECT * FROM a, b, c", "SELECT * FROM a JOIN b ON a.x = b.x WHERE a.x IN (SELECT x FROM c)"]
        {
            assert_eq!(check(sql), None, "{sql}");
        }
        for sql in [
            "SELECT * FROM a, b, c, d",
            "SELECT * FROM a JOIN b ON true JOIN c ON true CROSS JOIN d",
            "WITH x AS (SELECT * FROM a, b) SELECT * FROM x, c",
            "SELECT * FROM (SELECT * FROM a, b) x, c",
            "SELECT * FROM a WHERE x IN (SELECT x FROM b) AND EXISTS (SELECT 1 FROM c, d)",
            "SELECT 1 FROM a UNION SELECT 1 FROM b UNION SELECT 1 FROM c UNION SELECT 1 FROM d",
        ] {
            assert!(check(sql).is_some_and(|error| error.contains("limits.max_tables")), "{sql}");
        }
    }

    #[test]
    fn regular_expressions_have_a_size() {
        let check = |sql: &str| {
            let Ours::Query(query) = parse(sql).unwrap().remove(0).statement else { panic!("{sql} is no query") };
            QueryBounds::default().check(&Statement::Query(query)).err().map(|error| error.to_string())
        };
        assert_eq!(check("SELECT x ~ '^(a+)+$', x LIKE '(', regexp_like(x, '[0-9]{1,10}')"), None);
        for sql in ["SELECT x ~ '((a{1,1000}){1,1000}){1,1000}'", "SELECT regexp_count(x, '(\\w{1,1000}){1,1000}')"] {
            assert!(check(sql).is_some_and(|error| error.contains("repeat less")), "{sql}");
        }
        assert!(check("SELECT x ~ '('").is_some_and(|error| error.contains("unclosed group")));
    }

    #[test]
    fn patterns_have_a_length() {
        for sql in ["SELECT x LIKE 'abc%'", "SELECT x ~ '^ab$'", "SELECT regexp_like('a long text', 'ab')"] {
            assert_eq!(check(sql), None, "{sql}");
        }
        for sql in [
            "SELECT x LIKE '%abcd%'",
            "SELECT x NOT ILIKE ('%abcd%')",
            "SELECT x SIMILAR TO '(abcd)'",
            "SELECT x !~* '(abcd)'",
            "SELECT Regexp_Replace(x, '(abcd)', '')",
        ] {
            assert!(check(sql).is_some_and(|error| error.contains("limits.max_pattern_bytes")), "{sql}");
        }
    }
}
