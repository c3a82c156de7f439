//! A statement as it was written, made ready for the planner: parameters become literals, and the caller's functions
//! may be written without parentheses.
//!
//! A parameter so becomes exactly what its literal would be, wherever a literal may stand. It is a node of the syntax
//! tree, never text: nothing in it can be taken for SQL.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, Function, FunctionArgumentList, FunctionArguments, Ident, ObjectName, Value, VisitMut, VisitorMut,
};

use crate::error::{Error, Result};
use crate::model::Param;
use crate::sql::functions::CALLER_FUNCTIONS;

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
            Expr::Identifier(ident) if is_caller_function(ident) => *expr = call(ident.clone()),
            _ => {}
        }
        ControlFlow::Continue(())
    }
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

fn call(name: Ident) -> Expr {
    let no_arguments = FunctionArgumentList { duplicate_treatment: None, args: Vec::new(), clauses: Vec::new() };
    Expr::Function(Function {
        name: ObjectName::from(vec![name]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(no_arguments),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
