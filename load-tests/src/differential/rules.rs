//! The documented differences from PostgreSQL, as code.
//!
//! Owns which differences are accounted for: each rule has its section in docs/postgresql-differences.md, and a test holds
//! the two equal. A rule looks at the smallest form of a query, so that it cannot hide another fault beside its own.

use super::answer::{Difference, Outcome};

/// A difference in its smallest form.
pub(super) struct Case<'a> {
    pub(super) sql: &'a str,
    pub(super) difference: Difference,
    pub(super) postgres: &'a Outcome,
    pub(super) inboxdb: &'a Outcome,
}

struct Rule {
    id: &'static str,
    applies: fn(&Case<'_>) -> bool,
}

/// Those that the generator says in both wordings: the answer is PostgreSQL's to another question.
#[cfg(test)]
const TOLD: &[&str] = &["cast-to-integer", "date-plus-interval", "round-half", "timestamp-text"];

const RULES: &[Rule] = &[
    Rule {
        id: "not-supported",
        applies: |case| {
            case.inboxdb_refuses("0A000", "")
                || case.inboxdb_refuses("42000", "outer reference columns is not allowed")
                || case.inboxdb_refuses("42000", "outer references and inner columns")
        },
    },
    Rule {
        id: "correlated-one-row",
        applies: |case| case.inboxdb_refuses("42000", "Correlated scalar subquery must be aggregated"),
    },
    // Beside the wordings: with more around them, or other digits.
    Rule {
        id: "timestamp-text",
        applies: |case| case.difference == Difference::Rows && case.has("AS TEXT)") && case.has("at"),
    },
    Rule {
        id: "date-plus-interval",
        applies: |case| case.difference == Difference::Rows && case.has(" + INTERVAL '1 month'"),
    },
    Rule { id: "engine-faults", applies: |case| case.inboxdb_refuses("XX000", "") },
    Rule { id: "grouping-twice", applies: |case| case.inboxdb_refuses("42000", "duplicate qualified field name") },
    Rule { id: "date-range", applies: |case| case.inboxdb_refuses("22000", "Cannot cast to Interval") },
    Rule {
        id: "minus-of-bits",
        applies: |case| case.difference == Difference::Rows && case.has("(- (") && (case.has(" & ") || case.has(" | ")),
    },
    Rule {
        id: "order-behind-boolean",
        applies: |case| case.difference == Difference::Rows && case.has("OVER (") && case.has(" AS BOOLEAN)"),
    },
    Rule { id: "having-alone", applies: |case| case.inboxdb_refuses("42000", "HAVING clause references") },
    Rule { id: "xor-operator", applies: |case| case.has(" # ") && case.inboxdb_refuses("42601", "") },
    Rule {
        id: "empty-scalar-query",
        applies: |case| {
            case.has("(SELECT ") && case.inboxdb_refuses("22000", "declared as non-nullable")
                || case.difference == Difference::Rows
                    && case.has("(SELECT ")
                    && case.has(" WHERE CAST(NULL AS BOOLEAN))")
        },
    },
    Rule {
        id: "decimals-of-two-scales",
        applies: |case| {
            ["round(", "trunc(", "greatest(", "least(", " / "].iter().any(|form| case.has(form))
                && ["same data type", "Decimal128"]
                    .iter()
                    .any(|text| case.inboxdb_refuses("22000", text) || case.inboxdb_refuses("42000", text))
        },
    },
    Rule {
        id: "in-query-as-value",
        applies: |case| {
            case.difference == Difference::Rows
                && (case.has("IN (SELECT ") || case.has("ANY (SELECT ") || case.has("ALL (SELECT "))
        },
    },
    Rule {
        id: "set-operations-all",
        applies: |case| {
            case.difference == Difference::Rows && (case.has(" EXCEPT ALL ") || case.has(" INTERSECT ALL "))
        },
    },
    Rule {
        id: "floating-underflow",
        applies: |case| case.only_inboxdb_answers() && case.postgres.message().contains("underflow"),
    },
    Rule {
        id: "integer-range",
        applies: |case| case.only_inboxdb_answers() && case.postgres.sqlstate() == Some("22003"),
    },
    Rule {
        id: "decimal-division",
        applies: |case| {
            let decimals = ["DECIMAL(", ".m0", ".m1"].iter().any(|text| case.has(text));
            let compared = matches!(case.difference, Difference::Rows | Difference::Order) && decimals;
            (case.has(" / ") && compared)
                || case.has("avg(") && Outcome::within(case.postgres, case.inboxdb, DECIMAL_DIGITS)
        },
    },
    Rule {
        id: "rows-not-needed",
        applies: |case| {
            case.only_inboxdb_answers() && case.postgres.sqlstate().is_some_and(|state| state.starts_with("22"))
                || case.inboxdb_refuses("22000", "Can't cast value")
                || case.inboxdb_refuses("22000", "ivision by zero")
                || case.inboxdb_refuses("22000", "ivide by zero")
        },
    },
];

/// What the fewest digits behind the point that InboxDB keeps may hide.
const DECIMAL_DIGITS: f64 = 1e-4;

impl Case<'_> {
    /// Whatever PostgreSQL does.
    fn inboxdb_refuses(&self, sqlstate: &str, message: &str) -> bool {
        self.inboxdb.sqlstate() == Some(sqlstate) && self.inboxdb.message().contains(message)
    }

    fn only_inboxdb_answers(&self) -> bool {
        self.difference == Difference::OnlyInboxDbAnswers
    }

    fn has(&self, text: &str) -> bool {
        self.sql.contains(text)
    }
}

pub(super) fn rule_of(case: &Case<'_>) -> Option<&'static str> {
    RULES.iter().find(|rule| (rule.applies)(case)).map(|rule| rule.id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_rule_has_its_section_and_every_section_its_rule() {
        let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/postgresql-differences.md"));
        let sections: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
        let rules: BTreeSet<&str> = RULES.iter().map(|rule| rule.id).chain(TOLD.iter().copied()).collect();
        assert_eq!(sections, rules);
    }
}
