//! Well-typed queries, drawn at random from what applications write.
//!
//! Owns which clauses there are and how often; expressions are in [`values`], aggregates and windows in [`groups`].
//! Invariants: the answer to a query is decided by its text and the rows alone. What keeps rows by their number has an
//! order over all its columns; what looks at neighbours in a window has one over the keys of all tables.

use super::query::{Expr, OrderItem, Query, Relation, Select, Source, Ty};
use super::tables::Table;
use crate::zipf::Random;

mod groups;
mod values;

/// Deeper expressions say little more and hide what differs.
const EXPRESSION_DEPTH: usize = 3;
const QUERY_DEPTH: usize = 2;

#[derive(Debug, Clone, Default)]
struct Scope {
    columns: Vec<(String, Ty)>,
    /// Together they tell every row from every other. Empty where nothing does.
    keys: Vec<String>,
}

impl Scope {
    fn of_type(&self, ty: Ty) -> Vec<&str> {
        self.columns.iter().filter(|(_, of)| *of == ty).map(|(name, _)| name.as_str()).collect()
    }
}

pub(super) struct Generator<'a> {
    random: Random,
    tables: &'a [Table],
    aliases: usize,
    /// The columns of the queries around, for correlated ones.
    outer: Vec<Scope>,
}

impl<'a> Generator<'a> {
    pub(super) fn new(random: Random, tables: &'a [Table]) -> Self {
        Self { random, tables, aliases: 0, outer: Vec::new() }
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.random.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.random.below(list.len())]
    }

    fn any_type(&mut self) -> Ty {
        self.pick(&Ty::ALL)
    }

    pub(super) fn query(&mut self) -> Query {
        let types: Vec<Ty> = (0..1 + self.random.below(4)).map(|_| self.any_type()).collect();
        let mut with = Vec::new();
        if self.chance(12) {
            let types: Vec<Ty> = (0..2 + self.random.below(3)).map(|_| self.any_type()).collect();
            with.push(("w".to_owned(), types.clone(), self.part(&types, QUERY_DEPTH - 1)));
        }
        let named: Vec<(String, Vec<Ty>)> = with.iter().map(|(name, types, _)| (name.clone(), types.clone())).collect();
        let mut query = self.part_over(&types, QUERY_DEPTH, &named);
        query.with = with.into_iter().map(|(name, _, query)| (name, query)).collect();
        query
    }

    /// A query within another.
    fn part(&mut self, types: &[Ty], depth: usize) -> Query {
        self.part_over(types, depth, &[])
    }

    fn part_over(&mut self, types: &[Ty], depth: usize, named: &[(String, Vec<Ty>)]) -> Query {
        let mut query = Query::of(self.select(types, depth, named));
        if self.chance(14) {
            let operator =
                self.pick(&["UNION", "UNION ALL", "UNION ALL", "INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL"]);
            let select = self.select(types, depth.saturating_sub(1), &[]);
            query.rest.push((operator, select));
        }
        if self.chance(35) {
            self.order(&mut query, types.len());
        }
        query
    }

    fn order(&mut self, query: &mut Query, columns: usize) {
        let mut left: Vec<usize> = (0..columns).collect();
        while !left.is_empty() {
            let column = left.remove(self.random.below(left.len()));
            let direction =
                self.pick(&["", "", " ASC", " DESC", " DESC", " NULLS FIRST", " DESC NULLS LAST", " ASC NULLS LAST"]);
            query.order.push(OrderItem { column, direction });
        }
        if self.chance(60) {
            query.limit = Some(self.random.below(12));
        }
        if self.chance(25) {
            query.offset = Some(self.random.below(6));
        }
        if query.limit.is_none() && query.offset.is_none() && self.chance(50) {
            // Then rows that are equal in what is left may come in any order.
            let kept = 1 + self.random.below(columns);
            query.order.truncate(kept);
        }
    }

    fn select(&mut self, types: &[Ty], depth: usize, named: &[(String, Vec<Ty>)]) -> Select {
        let (from, scope) = self.sources(depth, named);
        let filter = self.chance(60).then(|| self.value(Ty::Bool, EXPRESSION_DEPTH, &scope, depth));
        if self.chance(30) {
            return self.grouped(types, from, filter, &scope);
        }
        let windows = self.chance(22);
        let items = types
            .iter()
            .map(|&ty| {
                if windows && self.chance(60) {
                    self.window(ty, &scope)
                } else {
                    self.value(ty, EXPRESSION_DEPTH, &scope, depth)
                }
            })
            .collect();
        let distinct = self.chance(15);
        Select { distinct, items, from, filter, grouping: "", group: Vec::new(), having: None }
    }

    fn sources(&mut self, depth: usize, named: &[(String, Vec<Ty>)]) -> (Vec<Source>, Scope) {
        let (first, mut scope) = self.source(depth, named);
        let mut sources = vec![first];
        let joins = self.pick(&[0, 0, 0, 1, 1, 2]);
        for _ in 0..joins {
            let (mut source, added) = self.source(0, &[]);
            source.join =
                self.pick(&["JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN"]);
            if source.join != "CROSS JOIN" {
                source.on = Some(self.join_condition(source.join, &scope, &added));
            } else if sources.len() > 1 {
                // Two in a row are thousands of rows that show nothing new.
                source.join = "JOIN";
                source.on = Some(self.join_condition("JOIN", &scope, &added));
            }
            if scope.keys.is_empty() || added.keys.is_empty() {
                scope.keys.clear();
            } else {
                scope.keys.extend(added.keys);
            }
            scope.columns.extend(added.columns);
            sources.push(source);
        }
        (sources, scope)
    }

    /// An equality, as a full join needs it; for others with more beside it.
    fn join_condition(&mut self, join: &str, left: &Scope, right: &Scope) -> Expr {
        let pairs: Vec<(&str, &str, Ty)> = left
            .columns
            .iter()
            .flat_map(|(a, ty)| {
                right.columns.iter().filter(move |(_, of)| of == ty).map(move |(b, _)| (&**a, &**b, *ty))
            })
            .collect();
        let (a, b, ty) = if pairs.is_empty() {
            return Expr::atom(Ty::Bool, "TRUE");
        } else {
            pairs[self.random.below(pairs.len())]
        };
        let equal = Expr::of(Ty::Bool, "({} = {})", [Expr::atom(ty, a), Expr::atom(ty, b)]);
        if join == "FULL JOIN" || self.chance(65) {
            return equal;
        }
        let mut both = left.clone();
        both.columns.extend(right.columns.iter().cloned());
        let more = self.value(Ty::Bool, 1, &both, 0);
        Expr::of(Ty::Bool, "({} AND {})", [equal, more])
    }

    fn source(&mut self, depth: usize, named: &[(String, Vec<Ty>)]) -> (Source, Scope) {
        self.aliases += 1;
        let alias = format!("r{}", self.aliases);
        let of_query = |types: &[Ty], alias: &str| Scope {
            columns: types.iter().enumerate().map(|(place, ty)| (format!("{alias}.c{place}"), *ty)).collect(),
            keys: Vec::new(),
        };
        if let [(name, types), ..] = named
            && self.chance(75)
        {
            let scope = of_query(types, &alias);
            return (Source { join: "", relation: Relation::Table(name.clone()), alias, on: None }, scope);
        }
        if depth > 0 && self.chance(15) {
            let types: Vec<Ty> = (0..1 + self.random.below(3)).map(|_| self.any_type()).collect();
            let outer = std::mem::take(&mut self.outer);
            let query = self.part(&types, depth - 1);
            self.outer = outer;
            let scope = of_query(&types, &alias);
            return (Source { join: "", relation: Relation::Query(Box::new(query)), alias, on: None }, scope);
        }
        let table = &self.tables[self.random.below(self.tables.len())];
        let mut columns = vec![(format!("{alias}.id"), Ty::Int)];
        columns.extend(table.columns.iter().map(|column| (format!("{alias}.{}", column.name), column.ty)));
        let scope = Scope { columns, keys: vec![format!("{alias}.id")] };
        (Source { join: "", relation: Relation::Table(table.name.clone()), alias, on: None }, scope)
    }
}

#[cfg(test)]
mod tests {
    use super::super::query::Wording;
    use super::*;

    fn texts(seed: u64) -> Vec<String> {
        let mut random = Random::new(seed);
        let tables: Vec<Table> = (0..3).map(|number| Table::new(format!("t{number}"), &mut random)).collect();
        (0..200).map(|n| Generator::new(Random::new(seed ^ n), &tables).query().sql(Wording::Plain)).collect()
    }

    #[test]
    fn a_seed_gives_its_queries_again_and_another_gives_others() {
        assert_eq!(texts(1), texts(1));
        assert_ne!(texts(1), texts(2));
    }

    #[test]
    fn every_clause_comes_up() {
        let all = texts(3).join("\n");
        for clause in [
            "WITH ",
            "DISTINCT",
            "LEFT JOIN",
            "FULL JOIN",
            "WHERE",
            "GROUP BY",
            "HAVING",
            "UNION",
            "EXCEPT",
            "OVER (",
            "ORDER BY",
            "NULLS FIRST",
            "LIMIT",
            "OFFSET",
            "EXISTS",
            "NOT IN",
            "LIKE",
            "CASE",
            "COALESCE",
            "CAST(",
        ] {
            assert!(all.contains(clause), "{clause}");
        }
    }
}
