//! The parameters that a statement names.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Value, ValueWithSpan, Visit, Visitor};

use super::{Insert, Literal, Statement};

impl Statement {
    /// The greatest `n` of its `$n`; `None`: it names none. Only queries and writes do.
    pub fn greatest_parameter(&self) -> Option<usize> {
        let mut greatest = Greatest(None);
        match self {
            Statement::Insert(insert) => greatest.see_insert(insert),
            Statement::Update(update) => greatest.see(update.as_ref()),
            Statement::Delete(delete) => greatest.see(delete.as_ref()),
            Statement::Query(query) => greatest.see(query.as_ref()),
            Statement::Explain(explain) => greatest.see(explain.as_ref()),
            Statement::ExecuteAs { inner, .. } => return inner.statement.greatest_parameter(),
            _ => {}
        }
        greatest.0
    }
}

struct Greatest(Option<usize>);

impl Greatest {
    fn see(&mut self, node: &impl Visit) {
        // Nothing stops it.
        let _ = node.visit(self);
    }

    fn see_insert(&mut self, insert: &Insert) {
        self.see(&insert.statement);
        for cell in insert.more.rows().flatten() {
            if let Literal::Param(name) = insert.more.literal(*cell) {
                self.name(name);
            }
        }
    }

    fn name(&mut self, placeholder: &str) {
        let position = placeholder.strip_prefix('$').and_then(|digits| digits.parse().ok());
        self.0 = self.0.max(position);
    }
}

impl Visitor for Greatest {
    type Break = ();

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        if let Value::Placeholder(name) = &value.value {
            self.name(name);
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::parse::parse;

    #[test]
    fn parameters_are_found_wherever_they_stand() {
        let cases = [
            ("SELECT 1", None),
            ("SELECT $2 FROM t WHERE a = $1", Some(2)),
            ("SELECT a FROM t LIMIT $1 OFFSET $3", Some(3)),
            ("SELECT a FROM t WHERE b IN (SELECT c FROM u WHERE d = $4)", Some(4)),
            ("INSERT INTO t VALUES (1, $1)", Some(1)),
            ("INSERT INTO t VALUES (1, 2), (3, $5)", Some(5)),
            ("INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = $6 RETURNING $7", Some(7)),
            ("UPDATE t SET a = 1 FROM (VALUES ($3)) AS v (x) WHERE b = v.x", Some(3)),
            ("DELETE FROM t WHERE a = $2 RETURNING a + $1", Some(2)),
            ("EXECUTE AS USER 'u' (SELECT $1)", Some(1)),
            ("SHOW NAMESPACES", None),
        ];
        for (sql, expected) in cases {
            assert_eq!(parse(sql).unwrap()[0].statement.greatest_parameter(), expected, "{sql}");
        }
    }
}
