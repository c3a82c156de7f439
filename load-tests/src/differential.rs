//! `differential`: generated queries on the same rows, answered by InboxDB and by PostgreSQL.
//!
//! Owns the run: tables, queries, what becomes of a difference, and the exit code. A difference is made as small as it
//! gets; it is accounted for only by a rule of docs/postgresql-differences.md, which `rules.rs` has as code.
//! Never measures time.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

mod answer;
mod generate;
mod query;
mod rules;
mod sides;
mod tables;

use answer::{Difference, Outcome};
use generate::Generator;
use query::{Query, Wording};
use rules::Case;
use sides::Sides;
use tables::Table;

use crate::options::Options;
use crate::peers::{Instance, Launch, Population, Postgres};
use crate::zipf::Random;

/// Then come other tables.
const QUERIES_A_ROUND: u64 = 100;
const TABLES: usize = 3;
/// Questions that one difference may cost: most shrink to a line within a hundred.
const SHRINK_QUESTIONS: usize = 300;

/// Whether all answers were equal, or their difference is documented.
pub(crate) async fn run(options: &Options) -> Result<bool> {
    let programs = options.programs();
    let (near, far) = (folder(options)?, folder(options)?);
    let launch = Launch { programs: &programs, folder: far.path(), population: Population::Pool(0) };
    let postgres = Postgres::start(&launch).await?;
    let instance = Instance::start(&programs, near.path(), &[]).await?;
    println!("{} beside {}, seed {}", instance.version(), postgres.version(), options.seed);
    let mut run = Run { sides: Sides::connect(&postgres, &instance).await?, counts: Counts::default() };
    let mut tables = Vec::new();
    for number in options.first..options.first + options.queries {
        if tables.is_empty() || number % QUERIES_A_ROUND == 0 {
            tables = run.next_tables(options.seed, number / QUERIES_A_ROUND, &tables).await?;
        }
        let query = Generator::new(Random::new(mixed(options.seed, number)), &tables).query();
        run.compare(options.seed, number, &query).await.with_context(|| format!("query {number}"))?;
    }
    Ok(run.counts.report())
}

fn folder(options: &Options) -> Result<tempfile::TempDir> {
    options.scratch_folder().context("make a temporary folder")
}

/// Neighbours have nothing in common.
fn mixed(seed: u64, number: u64) -> u64 {
    Random::new(seed).next() ^ Random::new(!number).next()
}

struct Run {
    sides: Sides,
    counts: Counts,
}

impl Run {
    async fn next_tables(&mut self, seed: u64, round: u64, before: &[Table]) -> Result<Vec<Table>> {
        for table in before {
            self.sides.drop(table).await?;
        }
        let mut random = Random::new(mixed(!seed, round));
        let mut tables = Vec::new();
        for number in 0..TABLES {
            let table = Table::new(format!("t{round}_{number}"), &mut random);
            // Every third is read from files.
            self.sides.make(&table, number == TABLES - 1).await?;
            tables.push(table);
        }
        Ok(tables)
    }

    async fn compare(&mut self, seed: u64, number: u64, query: &Query) -> Result<()> {
        let sql = query.sql(Wording::Plain);
        let postgres = self.sides.ask_postgres(&sql).await.with_context(|| sql.clone())?;
        let inboxdb = self.sides.ask_inboxdb(&sql).await.with_context(|| sql.clone())?;
        let Some(difference) = Outcome::difference(&postgres, &inboxdb, &query.order) else {
            match postgres {
                Outcome::Rows(_) => self.counts.equal += 1,
                Outcome::Refused { .. } => self.counts.both_refused += 1,
            }
            return Ok(());
        };
        if let Some(rules) = self.told(query, &inboxdb).await? {
            for rule in rules {
                self.counts.of_rule(rule);
            }
            return Ok(());
        }
        // Nothing hides behind a refusal: it is the whole answer, and its message says which it is.
        let refused = matches!(inboxdb, Outcome::Refused { .. });
        let case = Case { sql: &sql, difference, postgres: &postgres, inboxdb: &inboxdb };
        if let Some(rule) = rules::rule_of(&case).filter(|_| refused) {
            self.counts.of_rule(rule);
            return Ok(());
        }
        let smallest = self.smallest(query.clone(), &Sort::of(difference, &postgres, &inboxdb)).await?;
        let small = smallest.sql(Wording::Plain);
        let postgres = self.sides.ask_postgres(&small).await?;
        let inboxdb = self.sides.ask_inboxdb(&small).await?;
        let case = Case { sql: &small, difference, postgres: &postgres, inboxdb: &inboxdb };
        let rule = match self.told(&smallest, &inboxdb).await? {
            Some(rules) => rules.first().copied(),
            None => rules::rule_of(&case),
        };
        match rule {
            Some(rule) => self.counts.of_rule(rule),
            None => {
                self.counts.undocumented.push(number);
                println!(
                    "\nquery {number} of seed {seed}: {difference:?}\n  {small}\n  PostgreSQL: {postgres}\n  InboxDB: {inboxdb}"
                );
                if small.len() < sql.len() {
                    println!("  from: {sql}");
                }
            }
        }
        Ok(())
    }

    /// The rules by which PostgreSQL gives InboxDB's answer, when it is asked for it in their words.
    async fn told(&mut self, query: &Query, inboxdb: &Outcome) -> Result<Option<Vec<&'static str>>> {
        let rules = query.rules();
        if rules.is_empty() {
            return Ok(None);
        }
        let postgres = self.sides.ask_postgres(&query.sql(Wording::Told)).await?;
        Ok(Outcome::difference(&postgres, inboxdb, &query.order).is_none().then_some(rules))
    }

    /// Drops clause after clause while the same sort of difference is left.
    async fn smallest(&mut self, mut query: Query, sort: &Sort) -> Result<Query> {
        let mut questions = 0;
        'smaller: loop {
            for candidate in query.smaller() {
                questions += 1;
                if questions > SHRINK_QUESTIONS {
                    return Ok(query);
                }
                let sql = candidate.sql(Wording::Plain);
                let postgres = self.sides.ask_postgres(&sql).await?;
                let inboxdb = self.sides.ask_inboxdb(&sql).await?;
                let difference = Outcome::difference(&postgres, &inboxdb, &candidate.order);
                if difference.is_some_and(|difference| Sort::of(difference, &postgres, &inboxdb) == *sort) {
                    query = candidate;
                    continue 'smaller;
                }
            }
            return Ok(query);
        }
    }
}

/// What a smaller query has to show, too: it would else be another fault that is found.
#[derive(Debug, PartialEq, Eq)]
struct Sort {
    difference: Difference,
    postgres: Option<String>,
    inboxdb: Option<String>,
}

impl Sort {
    fn of(difference: Difference, postgres: &Outcome, inboxdb: &Outcome) -> Self {
        let state = |outcome: &Outcome| outcome.sqlstate().map(str::to_owned);
        Self { difference, postgres: state(postgres), inboxdb: state(inboxdb) }
    }
}

#[derive(Debug, Default)]
struct Counts {
    equal: u64,
    both_refused: u64,
    documented: BTreeMap<&'static str, u64>,
    undocumented: Vec<u64>,
}

impl Counts {
    fn of_rule(&mut self, rule: &'static str) {
        *self.documented.entry(rule).or_default() += 1;
    }

    fn report(&self) -> bool {
        println!("\n{} equal, {} refused by both", self.equal, self.both_refused);
        for (rule, count) in &self.documented {
            println!("{count} by {rule}");
        }
        if self.undocumented.is_empty() {
            println!("no other difference");
        } else {
            println!("{} not documented: queries {:?}", self.undocumented.len(), self.undocumented);
        }
        self.undocumented.is_empty()
    }
}
