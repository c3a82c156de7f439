//! GROUP BY, aggregates and windows.
//!
//! Owns the lists of aggregates and window functions that are compared.

use super::super::query::{Expr, Query, Select, Source, Ty};
use super::{Generator, Scope};

impl Generator<'_> {
    pub(super) fn grouped(&mut self, types: &[Ty], from: Vec<Source>, filter: Option<Expr>, scope: &Scope) -> Select {
        let keys = if self.chance(20) { 0 } else { 1 + self.random.below(2) };
        let mut group: Vec<Expr> = Vec::new();
        for _ in 0..keys {
            let ty = self.any_type();
            let key = if self.chance(75) { self.leaf(ty, scope) } else { self.value(ty, 1, scope, 0) };
            // A constant would be a column's number, or nothing to group by.
            if scope.columns.iter().any(|(name, _)| key.text().contains(name.as_str())) {
                group.push(key);
            }
        }
        let items = types
            .iter()
            .map(|&ty| {
                let keys: Vec<&Expr> = group.iter().filter(|key| key.ty == ty).collect();
                match keys.first() {
                    Some(&key) if self.chance(70) => key.clone(),
                    _ => self.aggregate(ty, scope),
                }
            })
            .collect();
        let having = self.chance(25).then(|| {
            let ty = self.any_type();
            let (a, b) = (self.aggregate(ty, scope), self.leaf_constant(ty));
            let template = self.pick(&["({} > {})", "({} <= {})", "({} <> {})", "({} IS NOT NULL OR {} IS NULL)"]);
            Expr::of(Ty::Bool, template, [a, b])
        });
        let grouping = if group.len() > 1 && self.chance(20) { self.pick(&["ROLLUP", "CUBE"]) } else { "" };
        Select { distinct: false, items, from, filter, grouping, group, having }
    }

    fn leaf_constant(&mut self, ty: Ty) -> Expr {
        self.leaf(ty, &Scope::default())
    }

    /// Exactly one row of one column.
    pub(super) fn one_row(&mut self, ty: Ty, queries: usize) -> Query {
        let (from, scope) = self.sources(queries, &[]);
        let filter = self.chance(60).then(|| self.value(Ty::Bool, 1, &scope, 0));
        let items = vec![self.aggregate(ty, &scope)];
        Query::of(Select { distinct: false, items, from, filter, grouping: "", group: Vec::new(), having: None })
    }

    fn aggregate(&mut self, ty: Ty, scope: &Scope) -> Expr {
        // An aggregate of columns from around would be one of the query around.
        let around = std::mem::take(&mut self.outer);
        let aggregate = self.inner_aggregate(ty, scope);
        self.outer = around;
        aggregate
    }

    fn inner_aggregate(&mut self, ty: Ty, scope: &Scope) -> Expr {
        // (template, type of its argument)
        let of_type: &[(&str, Ty)] = match ty {
            Ty::Int => &[
                ("CAST(count(*){F} AS INT)", Ty::Int),
                ("CAST(sum({}){F} AS INT)", Ty::Int),
                ("CAST(count(DISTINCT {}){F} AS INT)", Ty::Text),
                ("bit_and({}){F}", Ty::Int),
                ("bit_or({}){F}", Ty::Int),
            ],
            Ty::Big => &[
                ("count(*){F}", Ty::Int),
                ("count({}){F}", Ty::Text),
                ("count({}){F}", Ty::Bool),
                ("count(DISTINCT {}){F}", Ty::Big),
                ("count(DISTINCT {}){F}", Ty::Text),
                ("sum({}){F}", Ty::Int),
                ("sum(DISTINCT {}){F}", Ty::Int),
            ],
            Ty::Double => &[
                ("sum({}){F}", Ty::Double),
                ("avg({}){F}", Ty::Double),
                ("CAST(avg({}){F} AS DOUBLE PRECISION)", Ty::Int),
                ("stddev({}){F}", Ty::Double),
                ("var_pop({}){F}", Ty::Double),
                ("var_samp({}){F}", Ty::Double),
                ("corr({0}, {0} + 1){F}", Ty::Double),
                ("percentile_cont(0.5) WITHIN GROUP (ORDER BY {}){F}", Ty::Double),
            ],
            Ty::Decimal => &[("sum({}){F}", Ty::Decimal), ("avg({}){F}", Ty::Decimal)],
            Ty::Text => &[
                ("string_agg({0}, ',' ORDER BY {0}){F}", Ty::Text),
                ("string_agg({0}, '' ORDER BY {0} DESC){F}", Ty::Text),
                ("string_agg(DISTINCT {0}, '|' ORDER BY {0}){F}", Ty::Text),
            ],
            Ty::Bool => &[("bool_and({}){F}", Ty::Bool), ("bool_or({}){F}", Ty::Bool)],
            Ty::Date | Ty::Timestamp => &[],
        };
        let choice = self.random.below(of_type.len() + if ty == Ty::Bool { 0 } else { 2 });
        let (template, of) = match of_type.get(choice) {
            Some(&form) => form,
            None => (self.pick(&["min({}){F}", "max({}){F}"]), ty),
        };
        let argument = if self.chance(60) { self.leaf(of, scope) } else { self.value(of, 1, scope, 0) };
        let argument = typed(argument);
        let template = template.replace("{0}", &argument.text());
        let mut parts = Vec::new();
        if template.contains("{}") {
            parts.push(argument);
        }
        let template = if self.chance(15) {
            parts.push(self.value(Ty::Bool, 1, scope, 0));
            template.replace("{F}", " FILTER (WHERE {})")
        } else {
            template.replace("{F}", "")
        };
        Expr::of(ty, &template, parts)
    }

    pub(super) fn window(&mut self, ty: Ty, scope: &Scope) -> Expr {
        // Rows that are equal in the order are told apart by these.
        let keyed = !scope.keys.is_empty();
        let tail = scope.keys.join(", ");
        let by = self.any_type();
        let order = self.leaf(by, scope).text();
        let direction = self.pick(&["", "", " DESC", " NULLS FIRST", " DESC NULLS LAST"]);
        let partition = if self.chance(60) {
            let of = self.any_type();
            format!("PARTITION BY {} ", self.leaf(of, scope).text())
        } else {
            String::new()
        };
        let total = format!("{partition}ORDER BY {order}{direction}, {tail}");
        let peers = format!("{partition}ORDER BY {order}{direction}");
        let frame = self.pick(&[
            "",
            " ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING",
            " ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
            " ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
            " ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
            " ROWS 2 PRECEDING",
            " GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING",
            " RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
            " ROWS BETWEEN 3 PRECEDING AND 2 PRECEDING",
        ]);
        let framed = if keyed { format!("{total}{frame}") } else { peers.clone() };
        let argument = |generator: &mut Self, of: Ty| typed(generator.leaf(of, scope));
        let ranked = match (ty, self.random.below(6)) {
            (Ty::Big, 0) => Some(format!("rank() OVER ({peers})")),
            (Ty::Big, 1) => Some(format!("dense_rank() OVER ({peers})")),
            (Ty::Big, 2) if keyed => Some(format!("row_number() OVER ({total})")),
            (Ty::Big, 3) => Some(format!("count(*) OVER ({framed})")),
            (Ty::Double, 0) => Some(format!("percent_rank() OVER ({peers})")),
            (Ty::Double, 1) => Some(format!("cume_dist() OVER ({peers})")),
            (Ty::Int, 0) if keyed => Some(format!("CAST(ntile(3) OVER ({total}) AS INT)")),
            _ => None,
        };
        if let Some(text) = ranked {
            return Expr::atom(ty, text);
        }
        let summed = match (ty, self.random.below(2)) {
            (Ty::Big, _) => Some((format!("sum({{}}) OVER ({framed})"), Ty::Int)),
            (Ty::Double, 0) => Some((format!("avg({{}}) OVER ({framed})"), Ty::Double)),
            (Ty::Double, _) => Some((format!("sum({{}}) OVER ({framed})"), Ty::Double)),
            (Ty::Decimal, 0) => Some((format!("sum({{}}) OVER ({framed})"), Ty::Decimal)),
            (Ty::Bool, 0) => Some((format!("bool_or({{}}) OVER ({framed})"), Ty::Bool)),
            _ => None,
        };
        if let Some((template, of)) = summed {
            let argument = argument(self, of);
            return Expr::of(ty, &template, [argument]);
        }
        let argument = argument(self, ty);
        if !keyed {
            if ty == Ty::Bool {
                return Expr::of(ty, &format!("bool_and({{}}) OVER ({peers})"), [argument]);
            }
            return Expr::of(ty, &format!("max({{}}) OVER ({peers})"), [argument]);
        }
        let template = match self.random.below(7) {
            0 => format!("lag({{}}) OVER ({total})"),
            1 => format!("lead({{}}, 2) OVER ({total})"),
            2 => format!("first_value({{}}) OVER ({framed})"),
            3 => format!("last_value({{}}) OVER ({framed})"),
            4 => format!("nth_value({{}}, 2) OVER ({framed})"),
            5 if ty != Ty::Bool => format!("min({{}}) OVER ({framed})"),
            _ => format!("lag({{0}}, 1, {{0}}) OVER ({total})").replace("{0}", &argument.text()),
        };
        let parts = template.contains("{}").then_some(argument);
        Expr::of(ty, &template, parts)
    }
}

/// A bare text has no type yet, which some functions want to know.
fn typed(argument: Expr) -> Expr {
    if argument.text().starts_with('\'') { Expr::of(argument.ty, "CAST({} AS TEXT)", [argument]) } else { argument }
}
