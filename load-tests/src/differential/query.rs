//! A query as a tree: written as SQL for both sides, and made smaller part by part.
//!
//! Owns the shape of queries. Never knows what an answer is: `smaller` gives everything that is one step smaller, right
//! or wrong, and whoever asks keeps what still shows what they look for.

use std::fmt::Write as _;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ty {
    Int,
    Big,
    Double,
    Decimal,
    Text,
    Bool,
    Date,
    Timestamp,
}

impl Ty {
    pub(super) const ALL: [Ty; 8] =
        [Ty::Int, Ty::Big, Ty::Double, Ty::Decimal, Ty::Text, Ty::Bool, Ty::Date, Ty::Timestamp];

    pub(super) fn sql(self) -> &'static str {
        match self {
            Ty::Int => "INT",
            Ty::Big => "BIGINT",
            Ty::Double => "DOUBLE PRECISION",
            Ty::Decimal => "DECIMAL(12,2)",
            Ty::Text => "TEXT",
            Ty::Bool => "BOOLEAN",
            Ty::Date => "DATE",
            Ty::Timestamp => "TIMESTAMP",
        }
    }

    /// What any expression of this type may be replaced by.
    fn simplest(self) -> &'static str {
        match self {
            Ty::Int => "1",
            Ty::Big => "CAST(1 AS BIGINT)",
            Ty::Double => "CAST(1.5 AS DOUBLE PRECISION)",
            Ty::Decimal => "CAST(1.25 AS DECIMAL(12,2))",
            Ty::Text => "'a'",
            Ty::Bool => "TRUE",
            Ty::Date => "DATE '2024-02-29'",
            Ty::Timestamp => "TIMESTAMP '2024-02-29 01:02:03'",
        }
    }
}

#[derive(Debug, Clone)]
enum Part {
    Expr(Expr),
    Query(Box<Query>),
}

/// Texts with parts between them.
#[derive(Debug, Clone)]
pub(super) struct Expr {
    pub(super) ty: Ty,
    texts: Vec<String>,
    parts: Vec<Part>,
    told: Option<Told>,
}

/// How PostgreSQL is asked for what InboxDB answers, where a documented difference says what that is.
#[derive(Debug, Clone)]
struct Told {
    rule: &'static str,
    texts: Vec<String>,
}

/// For which ear a query is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wording {
    Plain,
    /// With the documented differences spelt out.
    Told,
}

fn split(template: &str) -> Vec<String> {
    template.split("{}").map(str::to_owned).collect()
}

impl Expr {
    /// A literal or a column.
    pub(super) fn atom(ty: Ty, text: impl Into<String>) -> Self {
        Self { ty, texts: vec![text.into()], parts: Vec::new(), told: None }
    }

    /// `template` with each `{}` replaced by a part.
    pub(super) fn of(ty: Ty, template: &str, parts: impl IntoIterator<Item = Expr>) -> Self {
        let parts: Vec<Part> = parts.into_iter().map(Part::Expr).collect();
        let texts = split(template);
        debug_assert_eq!(texts.len(), parts.len() + 1, "{template}");
        Self { ty, texts, parts, told: None }
    }

    /// With one query as its last part, behind the expressions.
    pub(super) fn over(ty: Ty, template: &str, parts: impl IntoIterator<Item = Expr>, query: Query) -> Self {
        let mut parts: Vec<Part> = parts.into_iter().map(Part::Expr).collect();
        parts.push(Part::Query(Box::new(query)));
        Self { ty, texts: split(template), parts, told: None }
    }

    /// The same parts in another template are what InboxDB answers, and `rule` says why.
    pub(super) fn told(mut self, rule: &'static str, template: &str) -> Self {
        self.told = Some(Told { rule, texts: split(template) });
        self
    }

    pub(super) fn write(&self, wording: Wording, out: &mut String) {
        let texts = match (&self.told, wording) {
            (Some(told), Wording::Told) => &told.texts,
            _ => &self.texts,
        };
        for (place, text) in texts.iter().enumerate() {
            out.push_str(text);
            match self.parts.get(place) {
                Some(Part::Expr(expr)) => expr.write(wording, out),
                Some(Part::Query(query)) => query.write(wording, out),
                None => {}
            }
        }
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        self.write(Wording::Plain, &mut out);
        out
    }

    fn rules(&self, found: &mut Vec<&'static str>) {
        found.extend(self.told.as_ref().map(|told| told.rule));
        for part in &self.parts {
            match part {
                Part::Expr(expr) => expr.rules(found),
                Part::Query(query) => query.rules_into(found),
            }
        }
    }

    /// Those of type `ty` within it.
    fn inner(&self, ty: Ty, found: &mut Vec<Expr>) {
        for part in &self.parts {
            if let Part::Expr(expr) = part {
                if expr.ty == ty {
                    found.push(expr.clone());
                }
                expr.inner(ty, found);
            }
        }
    }

    pub(super) fn smaller(&self) -> Vec<Expr> {
        let mut found = Vec::new();
        if self.parts.is_empty() {
            return found;
        }
        self.inner(self.ty, &mut found);
        found.push(Expr::atom(self.ty, self.ty.simplest()));
        found.push(Expr::atom(self.ty, format!("CAST(NULL AS {})", self.ty.sql())));
        for (place, part) in self.parts.iter().enumerate() {
            let replaced = |part: Part| {
                let mut copy = self.clone();
                copy.parts[place] = part;
                copy
            };
            match part {
                Part::Expr(expr) => found.extend(expr.smaller().into_iter().map(|e| replaced(Part::Expr(e)))),
                Part::Query(query) => {
                    found.extend(query.smaller().into_iter().map(|q| replaced(Part::Query(Box::new(q)))));
                }
            }
        }
        found
    }
}

#[derive(Debug, Clone)]
pub(super) enum Relation {
    Table(String),
    Query(Box<Query>),
}

#[derive(Debug, Clone)]
pub(super) struct Source {
    /// Empty for the first.
    pub(super) join: &'static str,
    pub(super) relation: Relation,
    pub(super) alias: String,
    pub(super) on: Option<Expr>,
}

#[derive(Debug, Clone)]
pub(super) struct Select {
    pub(super) distinct: bool,
    pub(super) items: Vec<Expr>,
    pub(super) from: Vec<Source>,
    pub(super) filter: Option<Expr>,
    /// `ROLLUP`, `CUBE`, or nothing.
    pub(super) grouping: &'static str,
    pub(super) group: Vec<Expr>,
    pub(super) having: Option<Expr>,
}

/// By the column of this number, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OrderItem {
    pub(super) column: usize,
    pub(super) direction: &'static str,
}

#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) with: Vec<(String, Query)>,
    pub(super) first: Select,
    /// `UNION ALL` and its like, in this order.
    pub(super) rest: Vec<(&'static str, Select)>,
    pub(super) order: Vec<OrderItem>,
    pub(super) limit: Option<usize>,
    pub(super) offset: Option<usize>,
}

impl Query {
    pub(super) fn of(first: Select) -> Self {
        Self { with: Vec::new(), first, rest: Vec::new(), order: Vec::new(), limit: None, offset: None }
    }

    pub(super) fn sql(&self, wording: Wording) -> String {
        let mut out = String::new();
        self.write(wording, &mut out);
        out
    }

    fn write(&self, wording: Wording, out: &mut String) {
        for (place, (name, query)) in self.with.iter().enumerate() {
            out.push_str(if place == 0 { "WITH " } else { ", " });
            out.push_str(name);
            out.push_str(" AS (");
            query.write(wording, out);
            out.push(')');
        }
        if !self.with.is_empty() {
            out.push(' ');
        }
        self.first.write(wording, out);
        for (operator, select) in &self.rest {
            let _ = write!(out, " {operator} ");
            select.write(wording, out);
        }
        for (place, item) in self.order.iter().enumerate() {
            let lead = if place == 0 { " ORDER BY " } else { ", " };
            let _ = write!(out, "{lead}{}{}", item.column + 1, item.direction);
        }
        if let Some(limit) = self.limit {
            let _ = write!(out, " LIMIT {limit}");
        }
        if let Some(offset) = self.offset {
            let _ = write!(out, " OFFSET {offset}");
        }
    }

    /// The documented differences that it is known to touch.
    pub(super) fn rules(&self) -> Vec<&'static str> {
        let mut found = Vec::new();
        self.rules_into(&mut found);
        found.sort_unstable();
        found.dedup();
        found
    }

    fn rules_into(&self, found: &mut Vec<&'static str>) {
        self.with.iter().for_each(|(_, query)| query.rules_into(found));
        for select in std::iter::once(&self.first).chain(self.rest.iter().map(|(_, select)| select)) {
            select.exprs().for_each(|expr| expr.rules(found));
            for source in &select.from {
                if let Relation::Query(query) = &source.relation {
                    query.rules_into(found);
                }
            }
        }
    }

    /// Everything that is one step smaller, the largest steps first.
    pub(super) fn smaller(&self) -> Vec<Query> {
        let mut found = Vec::new();
        // A part instead of the whole.
        found.extend(self.with.iter().map(|(_, query)| query.clone()));
        for source in &self.first.from {
            if let Relation::Query(query) = &source.relation {
                found.push((**query).clone());
            }
        }
        let changed = |change: &dyn Fn(&mut Query)| {
            let mut copy = self.clone();
            change(&mut copy);
            copy
        };
        if !self.rest.is_empty() {
            found.push(changed(&|query| query.rest.clear()));
            found.push(changed(&|query| {
                if let Some((_, select)) = query.rest.pop() {
                    query.first = select;
                    query.rest.clear();
                }
            }));
        }
        if !self.with.is_empty() {
            found.push(changed(&|query| drop(query.with.pop())));
        }
        if self.limit.is_some() || self.offset.is_some() {
            found.push(changed(&|query| (query.limit, query.offset) = (None, None)));
            found.push(changed(&|query| query.offset = None));
        }
        if !self.order.is_empty() {
            // A limit without an order would keep any rows.
            found.push(changed(&|query| {
                query.order.clear();
                (query.limit, query.offset) = (None, None);
            }));
        }
        for item in 0..self.first.items.len() {
            if self.first.items.len() > 1 {
                found.push(changed(&|query| query.drop_item(item)));
            }
        }
        for select in self.first.smaller() {
            found.push(Query { first: select, ..self.clone() });
        }
        for (place, (_, select)) in self.rest.iter().enumerate() {
            for select in select.smaller() {
                found.push(changed(&|query| query.rest[place].1 = select.clone()));
            }
        }
        for (place, (_, query)) in self.with.iter().enumerate() {
            for smaller in query.smaller() {
                found.push(changed(&|query| query.with[place].1 = smaller.clone()));
            }
        }
        found
    }

    fn drop_item(&mut self, item: usize) {
        self.first.items.remove(item);
        self.rest.iter_mut().for_each(|(_, select)| drop(select.items.remove(item)));
        self.order.retain(|order| order.column != item);
        for order in &mut self.order {
            order.column -= usize::from(order.column > item);
        }
    }
}

impl Select {
    fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let joins = self.from.iter().filter_map(|source| source.on.as_ref());
        self.items.iter().chain(joins).chain(&self.filter).chain(&self.group).chain(&self.having)
    }

    fn write(&self, wording: Wording, out: &mut String) {
        out.push_str(if self.distinct { "SELECT DISTINCT " } else { "SELECT " });
        for (place, item) in self.items.iter().enumerate() {
            if place > 0 {
                out.push_str(", ");
            }
            item.write(wording, out);
            let _ = write!(out, " AS c{place}");
        }
        for source in &self.from {
            out.push_str(if source.join.is_empty() { " FROM " } else { " " });
            if !source.join.is_empty() {
                let _ = write!(out, "{} ", source.join);
            }
            match &source.relation {
                Relation::Table(name) => out.push_str(name),
                Relation::Query(query) => {
                    out.push('(');
                    query.write(wording, out);
                    out.push(')');
                }
            }
            let _ = write!(out, " AS {}", source.alias);
            clause(" ON ", source.on.as_ref(), wording, out);
        }
        clause(" WHERE ", self.filter.as_ref(), wording, out);
        for (place, expr) in self.group.iter().enumerate() {
            match (place, self.grouping) {
                (0, "") => out.push_str(" GROUP BY "),
                (0, grouping) => {
                    let _ = write!(out, " GROUP BY {grouping}(");
                }
                _ => out.push_str(", "),
            }
            expr.write(wording, out);
        }
        if !self.group.is_empty() && !self.grouping.is_empty() {
            out.push(')');
        }
        clause(" HAVING ", self.having.as_ref(), wording, out);
    }

    fn smaller(&self) -> Vec<Select> {
        let mut found = Vec::new();
        let changed = |change: &dyn Fn(&mut Select)| {
            let mut copy = self.clone();
            change(&mut copy);
            copy
        };
        if self.filter.is_some() {
            found.push(changed(&|select| select.filter = None));
        }
        if self.having.is_some() {
            found.push(changed(&|select| select.having = None));
        }
        if self.distinct {
            found.push(changed(&|select| select.distinct = false));
        }
        if !self.grouping.is_empty() {
            found.push(changed(&|select| select.grouping = ""));
        }
        for place in 0..self.group.len() {
            found.push(changed(&|select| drop(select.group.remove(place))));
        }
        for place in 0..self.from.len() {
            found.push(changed(&|select| {
                select.from.remove(place);
                if let Some(first) = select.from.first_mut() {
                    (first.join, first.on) = ("", None);
                }
            }));
        }
        for (place, source) in self.from.iter().enumerate() {
            if let Relation::Query(query) = &source.relation {
                for smaller in query.smaller() {
                    found.push(changed(&|select| {
                        select.from[place].relation = Relation::Query(Box::new(smaller.clone()));
                    }));
                }
            }
            for smaller in source.on.iter().flat_map(Expr::smaller) {
                found.push(changed(&|select| select.from[place].on = Some(smaller.clone())));
            }
        }
        for (place, item) in self.items.iter().enumerate() {
            for smaller in item.smaller() {
                found.push(changed(&|select| select.items[place] = smaller.clone()));
            }
        }
        for smaller in self.filter.iter().flat_map(Expr::smaller) {
            found.push(changed(&|select| select.filter = Some(smaller.clone())));
        }
        for smaller in self.having.iter().flat_map(Expr::smaller) {
            found.push(changed(&|select| select.having = Some(smaller.clone())));
        }
        found
    }
}

fn clause(lead: &str, expr: Option<&Expr>, wording: Wording, out: &mut String) {
    if let Some(expr) = expr {
        out.push_str(lead);
        expr.write(wording, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query() -> Query {
        let column = Expr::atom(Ty::Int, "a.n");
        let sum = Expr::of(Ty::Int, "({} + {})", [column.clone(), Expr::atom(Ty::Int, "2")]);
        let cast = Expr::of(Ty::Int, "CAST({} AS INT)", [Expr::atom(Ty::Double, "a.d")]).told("r", "trunc({})");
        let first = Select {
            distinct: false,
            items: vec![sum, cast],
            from: vec![Source { join: "", relation: Relation::Table("t".to_owned()), alias: "a".to_owned(), on: None }],
            filter: Some(Expr::of(Ty::Bool, "({} IS NULL)", [column])),
            grouping: "",
            group: Vec::new(),
            having: None,
        };
        let order = vec![OrderItem { column: 1, direction: " DESC" }];
        Query { order, limit: Some(3), ..Query::of(first) }
    }

    #[test]
    fn both_wordings() {
        let rest = " FROM t AS a WHERE (a.n IS NULL) ORDER BY 2 DESC LIMIT 3";
        assert_eq!(query().sql(Wording::Plain), format!("SELECT (a.n + 2) AS c0, CAST(a.d AS INT) AS c1{rest}"));
        assert_eq!(query().sql(Wording::Told), format!("SELECT (a.n + 2) AS c0, trunc(a.d) AS c1{rest}"));
        assert_eq!(query().rules(), ["r"]);
    }

    #[test]
    fn each_step_is_smaller_and_the_order_follows_its_column() {
        let smaller: Vec<String> = query().smaller().iter().map(|query| query.sql(Wording::Plain)).collect();
        for expected in [
            "SELECT CAST(a.d AS INT) AS c0 FROM t AS a WHERE (a.n IS NULL) ORDER BY 1 DESC LIMIT 3",
            "SELECT (a.n + 2) AS c0 FROM t AS a WHERE (a.n IS NULL) LIMIT 3",
            "SELECT (a.n + 2) AS c0, CAST(a.d AS INT) AS c1 FROM t AS a WHERE (a.n IS NULL)",
            "SELECT (a.n + 2) AS c0, CAST(a.d AS INT) AS c1 FROM t AS a ORDER BY 2 DESC LIMIT 3",
            "SELECT a.n AS c0, CAST(a.d AS INT) AS c1 FROM t AS a WHERE (a.n IS NULL) ORDER BY 2 DESC LIMIT 3",
        ] {
            assert!(smaller.iter().any(|sql| sql == expected), "{expected} is not among {smaller:#?}");
        }
    }
}
