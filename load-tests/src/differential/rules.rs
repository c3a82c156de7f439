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
const TOLD: &[&str] = &["cast-to-integer", "round-half", "timestamp-text"];

const RULES: &[Rule] = &[Rule {
    id: "not-supported",
    applies: |case| case.only_postgres_answers() && case.inboxdb.sqlstate() == Some("0A000"),
}];

impl Case<'_> {
    fn only_postgres_answers(&self) -> bool {
        self.difference == Difference::OnlyPostgresAnswers
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
