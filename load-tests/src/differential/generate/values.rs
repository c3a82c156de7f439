//! Expressions of each type: columns, literals, operators, functions, casts, sub-queries.
//!
//! Owns the list of functions that are compared. Where a documented difference says what InboxDB answers instead, the
//! expression says it, too (`told`), so that the rest of its query is compared all the same.

use super::super::query::{Expr, Query, Ty};
use super::super::tables::{constant, pattern};
use super::{Generator, Scope};

/// In templates `{}` stands for the parts, whose types these are.
type Form = (&'static str, &'static [Ty]);

use Ty::{Big, Bool, Date, Decimal, Double, Int, Text, Timestamp};

const INTS: &[Form] = &[
    ("({} + {})", &[Int, Int]),
    ("({} - {})", &[Int, Int]),
    ("({} * {})", &[Int, Int]),
    ("({} / NULLIF({}, 0))", &[Int, Int]),
    ("({} % NULLIF({}, 0))", &[Int, Int]),
    ("({} / {})", &[Int, Int]),
    ("(- {})", &[Int]),
    ("abs({})", &[Int]),
    ("length({})", &[Text]),
    ("char_length({})", &[Text]),
    ("octet_length({})", &[Text]),
    ("ascii({})", &[Text]),
    ("strpos({}, {})", &[Text, Text]),
    ("position({} IN {})", &[Text, Text]),
    ("CAST({} AS INT)", &[Bool]),
    ("CAST({} AS INT)", &[Big]),
    ("CAST(CAST({} AS TEXT) AS INT)", &[Int]),
    ("CAST(EXTRACT(YEAR FROM {}) AS INT)", &[Timestamp]),
    ("CAST(EXTRACT(MONTH FROM {}) AS INT)", &[Date]),
    ("CAST(EXTRACT(DAY FROM {}) AS INT)", &[Date]),
    ("CAST(EXTRACT(DOW FROM {}) AS INT)", &[Date]),
    ("CAST(EXTRACT(DOY FROM {}) AS INT)", &[Date]),
    ("CAST(EXTRACT(WEEK FROM {}) AS INT)", &[Date]),
    ("CAST(EXTRACT(QUARTER FROM {}) AS INT)", &[Timestamp]),
    ("CAST(EXTRACT(HOUR FROM {}) AS INT)", &[Timestamp]),
    ("CAST(EXTRACT(MINUTE FROM {}) AS INT)", &[Timestamp]),
    ("CAST(date_part('year', {}) AS INT)", &[Date]),
    ("({} - {})", &[Date, Date]),
    ("({} & {})", &[Int, Int]),
    ("({} | {})", &[Int, Int]),
    ("({} # {})", &[Int, Int]),
];
const BIGS: &[Form] = &[
    ("CAST({} AS BIGINT)", &[Int]),
    ("CAST({} AS BIGINT)", &[Int]),
    ("(CAST({} AS BIGINT) + {})", &[Int, Int]),
    ("(CAST({} AS BIGINT) * {})", &[Int, Int]),
    ("({} + {})", &[Big, Int]),
    ("({} / NULLIF({}, 0))", &[Big, Int]),
    ("({} % NULLIF({}, 0))", &[Big, Int]),
    ("CAST(CAST({} AS TEXT) AS BIGINT)", &[Big]),
];
const DOUBLES: &[Form] = &[
    ("({} + {})", &[Double, Double]),
    ("({} - {})", &[Double, Double]),
    ("({} * {})", &[Double, Double]),
    ("({} / NULLIF({}, 0))", &[Double, Double]),
    ("(- {})", &[Double]),
    ("abs({})", &[Double]),
    ("floor({})", &[Double]),
    ("ceil({})", &[Double]),
    ("trunc({})", &[Double]),
    ("sqrt(abs({}))", &[Double]),
    ("power({}, 2)", &[Double]),
    ("ln(abs({}) + 1)", &[Double]),
    ("exp(least({}, 5))", &[Double]),
    ("sin({})", &[Double]),
    ("atan2({}, {})", &[Double, Double]),
    ("degrees({})", &[Double]),
    ("CAST({} AS DOUBLE PRECISION)", &[Int]),
    ("CAST({} AS DOUBLE PRECISION)", &[Decimal]),
    ("CAST({} AS DOUBLE PRECISION)", &[Big]),
    ("CAST(EXTRACT(EPOCH FROM {}) AS DOUBLE PRECISION)", &[Timestamp]),
];
const DECIMALS: &[Form] = &[
    ("({} + {})", &[Decimal, Decimal]),
    ("({} - {})", &[Decimal, Decimal]),
    ("({} * {})", &[Decimal, Decimal]),
    ("({} * {})", &[Decimal, Int]),
    ("(- {})", &[Decimal]),
    ("abs({})", &[Decimal]),
    ("round({}, 1)", &[Decimal]),
    ("round({})", &[Decimal]),
    ("trunc({}, 1)", &[Decimal]),
    ("floor({})", &[Decimal]),
    ("ceil({})", &[Decimal]),
    ("CAST({} AS DECIMAL(12,2))", &[Int]),
    ("CAST({} AS DECIMAL(10,1))", &[Decimal]),
    ("({} / NULLIF({}, 0))", &[Decimal, Decimal]),
    ("({} % NULLIF({}, 0))", &[Decimal, Decimal]),
];
const TEXTS: &[Form] = &[
    ("upper({})", &[Text]),
    ("lower({})", &[Text]),
    ("initcap({})", &[Text]),
    ("({} || {})", &[Text, Text]),
    ("substr({}, 2, 3)", &[Text]),
    ("substr({}, {})", &[Text, Int]),
    ("substring({} FROM 2 FOR 2)", &[Text]),
    ("left({}, {})", &[Text, Int]),
    ("right({}, {})", &[Text, Int]),
    ("lpad({}, 6, '*')", &[Text]),
    ("rpad({}, 6, 'é')", &[Text]),
    ("lpad({}, {})", &[Text, Int]),
    ("trim({})", &[Text]),
    ("ltrim({})", &[Text]),
    ("rtrim({}, 'a ')", &[Text]),
    ("trim(BOTH 'a' FROM {})", &[Text]),
    ("btrim({}, {})", &[Text, Text]),
    ("replace({}, 'a', 'ü')", &[Text]),
    ("replace({}, {}, {})", &[Text, Text, Text]),
    ("reverse({})", &[Text]),
    ("repeat({}, 2)", &[Text]),
    ("concat({}, {})", &[Text, Text]),
    ("concat({}, {}, {})", &[Text, Int, Date]),
    ("concat_ws('-', {}, {})", &[Text, Text]),
    ("split_part({}, ',', 2)", &[Text]),
    ("split_part({}, 'a', 1)", &[Text]),
    ("translate({}, 'abc', 'xy')", &[Text]),
    ("overlay({} PLACING 'XX' FROM 2 FOR 1)", &[Text]),
    ("regexp_replace({}, '[a-c]+', '#')", &[Text]),
    ("regexp_replace({}, 'a', '', 'g')", &[Text]),
    ("md5({})", &[Text]),
    ("chr(65 + abs({}))", &[Int]),
    ("to_hex(abs({}))", &[Int]),
    ("CAST({} AS TEXT)", &[Int]),
    ("CAST({} AS TEXT)", &[Big]),
    ("CAST({} AS TEXT)", &[Bool]),
    ("CAST({} AS TEXT)", &[Date]),
    ("({} || CAST({} AS TEXT))", &[Text, Int]),
];
const BOOLS: &[Form] = &[
    ("({} AND {})", &[Bool, Bool]),
    ("({} AND {})", &[Bool, Bool]),
    ("({} OR {})", &[Bool, Bool]),
    ("({} OR {})", &[Bool, Bool]),
    ("(NOT {})", &[Bool]),
    ("({} IS TRUE)", &[Bool]),
    ("({} IS NOT TRUE)", &[Bool]),
    ("({} IS FALSE)", &[Bool]),
    ("({} IS UNKNOWN)", &[Bool]),
    ("({} IS NOT UNKNOWN)", &[Bool]),
    ("starts_with({}, {})", &[Text, Text]),
    ("({} ~ '^[a-z]+$')", &[Text]),
    ("({} !~ '[0-9]')", &[Text]),
    ("({} ~* 'A')", &[Text]),
    ("({} < {})", &[Int, Double]),
    ("({} = {})", &[Int, Big]),
    ("({} >= {})", &[Decimal, Int]),
    ("(CAST({} AS TIMESTAMP) <= {})", &[Date, Timestamp]),
    ("CAST({} AS BOOLEAN)", &[Int]),
];
const DATES: &[Form] = &[
    ("({} + 1)", &[Date]),
    ("({} - {})", &[Date, Int]),
    ("CAST({} AS DATE)", &[Timestamp]),
    ("CAST(CAST({} AS TEXT) AS DATE)", &[Date]),
    ("CAST(date_trunc('month', {}) AS DATE)", &[Timestamp]),
];
const TIMESTAMPS: &[Form] = &[
    ("date_trunc('year', {})", &[Timestamp]),
    ("date_trunc('week', {})", &[Timestamp]),
    ("date_trunc('day', {})", &[Timestamp]),
    ("date_trunc('hour', {})", &[Timestamp]),
    ("date_trunc('second', {})", &[Timestamp]),
    ("({} + INTERVAL '1 day')", &[Timestamp]),
    ("({} - INTERVAL '1 month')", &[Timestamp]),
    ("({} + INTERVAL '90 minutes')", &[Timestamp]),
    ("CAST({} AS TIMESTAMP)", &[Date]),
];

fn forms(ty: Ty) -> &'static [Form] {
    match ty {
        Int => INTS,
        Big => BIGS,
        Double => DOUBLES,
        Decimal => DECIMALS,
        Text => TEXTS,
        Bool => BOOLS,
        Date => DATES,
        Timestamp => TIMESTAMPS,
    }
}

impl Generator<'_> {
    pub(super) fn leaf(&mut self, ty: Ty, scope: &Scope) -> Expr {
        if self.chance(4) {
            return Expr::atom(ty, format!("CAST(NULL AS {})", ty.sql()));
        }
        // A correlated query looks outward now and then.
        let outward = self.outer.last().cloned();
        if let Some(outer) = outward
            && self.chance(20)
        {
            let columns = outer.of_type(ty);
            if !columns.is_empty() {
                return Expr::atom(ty, self.pick(&columns));
            }
        }
        let columns = scope.of_type(ty);
        if !columns.is_empty() && self.chance(80) {
            return Expr::atom(ty, self.pick(&columns));
        }
        Expr::atom(ty, constant(ty, &mut self.random))
    }

    /// An expression over `scope`; `queries` bounds how deep sub-queries may nest in it.
    pub(super) fn value(&mut self, ty: Ty, depth: usize, scope: &Scope, queries: usize) -> Expr {
        if depth == 0 || (ty != Bool && self.chance(35)) {
            return if ty == Bool && depth == 0 && self.chance(50) {
                self.comparison(0, scope, queries)
            } else {
                self.leaf(ty, scope)
            };
        }
        let deeper = depth - 1;
        if queries > 0 && self.chance(5) {
            return self.sub_query(ty, scope, queries - 1);
        }
        if self.chance(22) {
            return self.of_any_type(ty, deeper, scope, queries);
        }
        if ty == Bool && self.chance(70) {
            return self.comparison(deeper, scope, queries);
        }
        if self.chance(5)
            && let Some(told) = self.told_cast(ty, deeper, scope, queries)
        {
            return told;
        }
        let (template, types) = self.pick(forms(ty));
        let parts: Vec<Expr> = types.iter().map(|&ty| self.value(ty, deeper, scope, queries)).collect();
        Expr::of(ty, template, parts)
    }

    fn values<const N: usize>(&mut self, types: [Ty; N], depth: usize, scope: &Scope, queries: usize) -> [Expr; N] {
        types.map(|ty| self.value(ty, depth, scope, queries))
    }

    /// Casts whose text or rounding is a documented difference.
    fn told_cast(&mut self, ty: Ty, depth: usize, scope: &Scope, queries: usize) -> Option<Expr> {
        let (template, of, rule, told) = match ty {
            Int => {
                let of = self.pick(&[Double, Decimal]);
                ("CAST({} AS INT)", of, "cast-to-integer", "CAST(trunc({}) AS INT)")
            }
            Double => ("round({})", Double, "round-half", "CAST(round(CAST({} AS NUMERIC)) AS DOUBLE PRECISION)"),
            Text => ("CAST({} AS TEXT)", Timestamp, "timestamp-text", "replace(CAST({} AS TEXT), ' ', 'T')"),
            Timestamp => {
                ("({} + INTERVAL '1 month')", Date, "date-plus-interval", "CAST({} + INTERVAL '1 month' AS DATE)")
            }
            _ => return None,
        };
        let part = self.value(of, depth, scope, queries);
        Some(Expr::of(ty, template, [part]).told(rule, told))
    }

    /// What takes any type and gives the same.
    fn of_any_type(&mut self, ty: Ty, depth: usize, scope: &Scope, queries: usize) -> Expr {
        match self.random.below(8) {
            0 | 1 => Expr::of(ty, "COALESCE({}, {})", self.values([ty, ty], depth, scope, queries)),
            2 => Expr::of(ty, "NULLIF({}, {})", self.values([ty, ty], depth, scope, queries)),
            3 => Expr::of(ty, "greatest({}, {})", self.values([ty, ty], depth, scope, queries)),
            4 => Expr::of(ty, "least({}, {})", self.values([ty, ty], depth, scope, queries)),
            5 => Expr::of(ty, "CASE WHEN {} THEN {} END", self.values([Bool, ty], depth, scope, queries)),
            6 => Expr::of(
                ty,
                "CASE WHEN {} THEN {} WHEN {} THEN {} ELSE {} END",
                self.values([Bool, ty, Bool, ty, ty], depth, scope, queries),
            ),
            _ => {
                let of = self.pick(&[Int, Text, Date]);
                let when = Expr::atom(of, constant(of, &mut self.random));
                let [subject, then, other] = self.values([of, ty, ty], depth, scope, queries);
                Expr::of(ty, "CASE {} WHEN {} THEN {} ELSE {} END", [subject, when, then, other])
            }
        }
    }

    fn comparison(&mut self, depth: usize, scope: &Scope, queries: usize) -> Expr {
        let ty = self.any_type();
        match self.random.below(14) {
            0..=4 => {
                let template =
                    self.pick(&["({} = {})", "({} <> {})", "({} < {})", "({} <= {})", "({} > {})", "({} >= {})"]);
                Expr::of(Bool, template, self.values([ty, ty], depth, scope, queries))
            }
            5 => Expr::of(Bool, "({} IS NULL)", self.values([ty], depth, scope, queries)),
            6 => Expr::of(Bool, "({} IS NOT NULL)", self.values([ty], depth, scope, queries)),
            7 => {
                let template = self.pick(&["({} IS DISTINCT FROM {})", "({} IS NOT DISTINCT FROM {})"]);
                Expr::of(Bool, template, self.values([ty, ty], depth, scope, queries))
            }
            8 => {
                let template = self.pick(&["({} BETWEEN {} AND {})", "({} NOT BETWEEN {} AND {})"]);
                Expr::of(Bool, template, self.values([ty, ty, ty], depth, scope, queries))
            }
            9 | 10 => self.in_list(ty, depth, scope, queries),
            _ => {
                let operator = self.pick(&["LIKE", "LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE"]);
                let template = format!("({{}} {operator} '{}')", pattern(&mut self.random));
                Expr::of(Bool, &template, self.values([Text], depth, scope, queries))
            }
        }
    }

    fn in_list(&mut self, ty: Ty, depth: usize, scope: &Scope, queries: usize) -> Expr {
        let mut items: Vec<String> = (0..1 + self.random.below(3)).map(|_| constant(ty, &mut self.random)).collect();
        if self.chance(30) {
            items.push("NULL".to_owned());
        }
        let operator = self.pick(&["IN", "NOT IN"]);
        let template = format!("({{}} {operator} ({}))", items.join(", "));
        Expr::of(Bool, &template, self.values([ty], depth, scope, queries))
    }

    fn sub_query(&mut self, ty: Ty, scope: &Scope, queries: usize) -> Expr {
        // Every other one sees the columns around it.
        let correlated = self.chance(50);
        let around = std::mem::take(&mut self.outer);
        if correlated {
            self.outer.push(scope.clone());
        }
        let expr = if ty == Bool {
            match self.random.below(5) {
                0 | 1 => {
                    let template = self.pick(&["EXISTS ({})", "(NOT EXISTS ({}))"]);
                    Expr::over(Bool, template, [], self.plain_query(Int, queries))
                }
                2 => {
                    let of = self.any_type();
                    let query = self.plain_query(of, queries);
                    let template = self.pick(&["({} = ANY ({}))", "({} > ALL ({}))"]);
                    self.outer.clear();
                    Expr::over(Bool, template, [self.leaf(of, scope)], query)
                }
                _ => {
                    let of = self.any_type();
                    let query = self.plain_query(of, queries);
                    let template = self.pick(&["({} IN ({}))", "({} NOT IN ({}))"]);
                    self.outer.clear();
                    Expr::over(Bool, template, [self.leaf(of, scope)], query)
                }
            }
        } else {
            Expr::over(ty, "({})", [], self.one_row(ty, queries))
        };
        self.outer = around;
        expr
    }
}

/// Sub-queries of the two shapes that an expression may hold.
impl Generator<'_> {
    fn plain_query(&mut self, ty: Ty, queries: usize) -> Query {
        let mut select = self.select(&[ty], queries, &[]);
        select.distinct = false;
        Query::of(select)
    }
}
