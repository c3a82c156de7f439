//! A statement as it was written, made ready for the planner: parameters become literals, and the caller's functions
//! may be written without parentheses.
//!
//! A parameter so becomes what its literal would be, wherever a literal may stand. It is a node of the syntax tree, never
//! text: nothing in it can be taken for SQL. JSON does not say which type a value is meant to have, the statement does: where
//! a parameter meets another value it stands in a call of [`PARAMETER`], which whoever plans the meeting takes away, and
//! LIMIT and OFFSET take it as a whole number.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    LimitClause, ObjectName, Query, Value, VisitMut, VisitorMut,
};

use crate::error::{Error, Result};
use crate::model::Param;
use crate::sql::functions::{CALLER_FUNCTIONS, PARAMETER};

/// # Errors
/// `INVALID_PARAMETER`: a placeholder without a value, or a value that SQL can not write.
pub(crate) fn prepare(statement: &ast::Statement, params: &[Param]) -> Result<ast::Statement> {
    let mut prepared = statement.clone();
    match prepared.visit(&mut Preparation { params }) {
        ControlFlow::Continue(()) => Ok(prepared),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Preparation<'a> {
    params: &'a [Param],
}

impl VisitorMut for Preparation<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        let counts: [Option<&mut Expr>; 2] = match &mut query.limit_clause {
            None => [None, None],
            Some(LimitClause::LimitOffset { limit, offset, .. }) => {
                [limit.as_mut(), offset.as_mut().map(|offset| &mut offset.value)]
            }
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => [Some(limit), Some(offset)],
        };
        for count in counts.into_iter().flatten() {
            if let Err(error) = self.count(count) {
                return ControlFlow::Break(error);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match expr {
            Expr::BinaryOp { left, op, right } => {
                self.mark(left, calculates(op));
                self.mark(right, calculates(op));
            }
            Expr::InList { list, .. } => list.iter_mut().for_each(|item| self.mark(item, false)),
            Expr::Between { low, high, .. } => {
                self.mark(low, false);
                self.mark(high, false);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match expr {
            Expr::Value(value) => {
                if let Value::Placeholder(name) = &value.value {
                    match literal(name, self.params) {
                        Ok(literal) => value.value = literal,
                        Err(error) => return ControlFlow::Break(error),
                    }
                }
            }
            Expr::Identifier(ident) if is_caller_function(ident) => *expr = call(ident.clone(), Vec::new()),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Preparation<'_> {
    /// `expr` as a parameter that was sent.
    fn param(&self, expr: &Expr) -> Option<(usize, &Param)> {
        let Expr::Value(value) = expr else { return None };
        let Value::Placeholder(name) = &value.value else { return None };
        let position = name.strip_prefix('$')?.parse::<usize>().ok()?;
        Some((position, self.params.get(position.checked_sub(1)?)?))
    }

    /// Puts a parameter that may be meant as another type into a call of [`PARAMETER`]. A text is read as what it meets
    /// anyway, unless it is to be calculated with.
    fn mark(&self, expr: &mut Expr, calculated: bool) {
        let marked = match self.param(expr) {
            Some((_, Param::Int(_) | Param::Float(_) | Param::Bool(_))) => true,
            Some((_, Param::Text(_))) => calculated,
            _ => false,
        };
        if marked {
            *expr = call(Ident::with_quote('"', PARAMETER), vec![expr.clone()]);
        }
    }

    /// A number of rows.
    fn count(&self, expr: &mut Expr) -> Result<()> {
        let rows = match self.param(expr) {
            None | Some((_, Param::Int(_) | Param::Null)) => return Ok(()),
            Some((_, Param::Text(text))) => text.trim().parse::<u64>().ok(),
            Some((_, Param::Float(v))) if v.fract() == 0.0 && (0.0..1e15).contains(v) => Some(*v as u64),
            Some(_) => None,
        };
        match (rows, self.param(expr)) {
            (Some(rows), _) => *expr = Expr::Value(Value::Number(rows.to_string(), false).with_empty_span()),
            (None, Some((position, _))) => {
                let fault = "LIMIT and OFFSET take a whole number".to_owned();
                return Err(Error::InvalidParameter { position, fault });
            }
            (None, None) => {}
        }
        Ok(())
    }
}

fn calculates(op: &BinaryOperator) -> bool {
    use BinaryOperator as Op;
    matches!(op, Op::Plus | Op::Minus | Op::Multiply | Op::Divide | Op::Modulo)
}

fn literal(placeholder: &str, params: &[Param]) -> Result<Value> {
    let position = placeholder.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok()).filter(|n| *n > 0);
    let Some(position) = position else {
        return Err(Error::InvalidSql(format!("'{placeholder}' is no parameter; parameters are $1, $2, …")));
    };
    let invalid = |fault: &str| Error::InvalidParameter { position, fault: fault.to_owned() };
    let param = params.get(position - 1).ok_or_else(|| invalid("no value was given"))?;
    Ok(match param {
        Param::Null => Value::Null,
        Param::Bool(v) => Value::Boolean(*v),
        Param::Int(v) => Value::Number(v.to_string(), false),
        // Debug writes 1.0 and 1e300, so that the number stays a floating one.
        Param::Float(v) if v.is_finite() => Value::Number(format!("{v:?}"), false),
        Param::Float(_) => return Err(invalid("the number is not finite")),
        Param::Text(v) => Value::SingleQuotedString(v.clone()),
    })
}

fn is_caller_function(ident: &Ident) -> bool {
    ident.quote_style.is_none() && CALLER_FUNCTIONS.iter().any(|name| ident.value.eq_ignore_ascii_case(name))
}

fn call(name: Ident, arguments: Vec<Expr>) -> Expr {
    let args = arguments.into_iter().map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).collect();
    let arguments = FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() };
    Expr::Function(Function {
        name: ObjectName::from(vec![name]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(arguments),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
