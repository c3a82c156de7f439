//! Our SQL dialect: DataFusion's generic one, parsed in one pass.
//!
//! Owns how an expression begins. sqlparser tries a word such as CAST first as a special form and, when anything inside
//! it fails, again as an ordinary function: nested n deep that is 2^n attempts, so a 300-byte statement takes hours.
//! Here the word and the token behind it decide which it is. Literals and plain names take a short way, since they
//! are nearly all of an INSERT.
//! Never gives another tree than the generic dialect for what both accept.

use std::any::TypeId;

use datafusion::sql::sqlparser::ast::{
    CastKind, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

#[derive(Debug)]
pub(super) struct InboxDialect;

/// What the generic dialect turns on and DataFusion can plan. Left off: CONNECT BY, MATCH_RECOGNIZE, XML, and comments
/// whose text is SQL (`/*! … */`), which also would not be where they say they are.
macro_rules! as_generic {
    ($($feature:ident)*) => { $(fn $feature(&self) -> bool { GenericDialect.$feature() })* };
}

impl Dialect for InboxDialect {
    fn dialect(&self) -> TypeId {
        GenericDialect.dialect()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        GenericDialect.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        GenericDialect.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        GenericDialect.is_identifier_part(ch)
    }

    as_generic! {
        supports_unicode_string_literal
        supports_partition_by_after_order_by
        supports_array_join_syntax
        supports_group_by_expr
        supports_group_by_with_modifier
        supports_left_associative_joins_without_parens
        supports_pipe_operator
        supports_start_transaction_modifier
        supports_window_function_null_treatment_arg
        supports_dictionary_syntax
        supports_window_clause_named_window_reference
        supports_parenthesized_set_variables
        supports_select_wildcard_except
        support_map_literal_syntax
        allow_extract_custom
        allow_extract_single_quotes
        supports_extract_comma_syntax
        supports_create_view_comment_syntax
        supports_parens_around_table_factor
        supports_values_as_table_factor
        supports_create_index_with_clause
        supports_explain_with_utility_options
        supports_limit_comma
        supports_update_order_by
        supports_from_first_select
        supports_projection_trailing_commas
        supports_asc_desc_in_column_definition
        supports_try_convert
        supports_bitwise_shift_operators
        supports_comment_on
        supports_load_extension
        supports_named_fn_args_with_assignment_operator
        supports_struct_literal
        supports_empty_projections
        supports_nested_comments
        supports_user_host_grantee
        supports_string_escape_constant
        supports_array_typedef_with_brackets
        supports_match_against
        supports_set_names
        supports_comma_separated_set_assignments
        supports_filter_during_aggregation
        supports_select_wildcard_exclude
        supports_data_type_signed_suffix
        supports_interval_options
        supports_quote_delimited_string
        supports_select_wildcard_replace
        supports_select_wildcard_ilike
        supports_select_wildcard_rename
        supports_optimize_table
        supports_install
        supports_detach
        supports_prewhere
        supports_with_fill
        supports_limit_by
        supports_interpolate
        supports_settings
        supports_select_format
        supports_comment_optimizer_hint
        supports_constraint_keyword_without_name
        supports_key_column_option
        supports_comma_separated_trim
        supports_cte_without_as
        supports_select_item_multi_column_alias
    }

    /// As PostgreSQL has it: DO UPDATE may call the table by it.
    fn supports_insert_table_alias(&self) -> bool {
        true
    }

    /// As in PostgreSQL, JSON operators bind closer than comparisons and less close than `+`.
    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        match parser.peek_token_ref().token {
            Token::Arrow | Token::LongArrow | Token::Question => {
                Some(Ok(self.prec_value(Precedence::PlusMinus).saturating_sub(1)))
            }
            _ => None,
        }
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let [first, second] = parser.peek_tokens_ref();
        match &first.token {
            Token::Number(..) | Token::SingleQuotedString(_) | Token::Placeholder(_) => {
                Some(parser.parse_value().map(Expr::Value))
            }
            Token::Word(word) if word.keyword == Keyword::NoKeyword => {
                if !ends_a_name(&second.token) {
                    return None;
                }
                let ident = word.to_ident(first.span);
                parser.advance_token();
                Some(Ok(Expr::Identifier(ident)))
            }
            Token::Word(word) => {
                let form = Form::of(word.keyword, &second.token)?;
                let ident = word.to_ident(first.span);
                Some(form.parse(ident, parser))
            }
            _ => None,
        }
    }
}

/// Behind a word: then the word is a name, whatever it means elsewhere.
fn ends_a_name(token: &Token) -> bool {
    matches!(
        token,
        Token::Comma
            | Token::RParen
            | Token::Period
            | Token::Eq
            | Token::Neq
            | Token::Lt
            | Token::LtEq
            | Token::Gt
            | Token::GtEq
            | Token::SemiColon
            | Token::EOF
    )
}

/// An expression that a word begins and that is not an ordinary function call.
enum Form {
    Value,
    Name,
    Not,
    Case,
    Exists,
    Cast(CastKind),
    Convert {
        is_try: bool,
    },
    Extract,
    Round {
        up: bool,
    },
    Position,
    Substring,
    Overlay,
    Trim,
    Interval,
    Array,
    ArrayOfQuery,
    /// Called with or without brackets.
    Niladic,
    /// IN is no function, though sqlparser would try one.
    Nothing,
}

impl Form {
    /// `None`: the word has no such meaning here.
    fn of(keyword: Keyword, next: &Token) -> Option<Form> {
        let call = *next == Token::LParen;
        Some(match keyword {
            Keyword::TRUE | Keyword::FALSE | Keyword::NULL => Form::Value,
            Keyword::NOT => Form::Not,
            Keyword::CASE => Form::Case,
            Keyword::EXISTS if call => Form::Exists,
            Keyword::CAST if call => Form::Cast(CastKind::Cast),
            Keyword::TRY_CAST if call => Form::Cast(CastKind::TryCast),
            Keyword::SAFE_CAST if call => Form::Cast(CastKind::SafeCast),
            Keyword::CONVERT if call => Form::Convert { is_try: false },
            Keyword::TRY_CONVERT if call => Form::Convert { is_try: true },
            Keyword::EXTRACT if call => Form::Extract,
            Keyword::CEIL if call => Form::Round { up: true },
            Keyword::FLOOR if call => Form::Round { up: false },
            Keyword::POSITION if call => Form::Position,
            Keyword::SUBSTR | Keyword::SUBSTRING if call => Form::Substring,
            Keyword::OVERLAY if call => Form::Overlay,
            Keyword::TRIM if call => Form::Trim,
            Keyword::CURRENT_TIMESTAMP | Keyword::CURRENT_TIME | Keyword::CURRENT_DATE if call => Form::Niladic,
            Keyword::LOCALTIME | Keyword::LOCALTIMESTAMP if call => Form::Niladic,
            Keyword::CURRENT_USER | Keyword::CURRENT_ROLE => Form::Niladic,
            Keyword::ARRAY if *next == Token::LBracket => Form::Array,
            Keyword::ARRAY if call => Form::ArrayOfQuery,
            Keyword::IN if call => Form::Nothing,
            Keyword::INTERVAL => match next {
                Token::SingleQuotedString(_)
                | Token::Number(..)
                | Token::Placeholder(_)
                | Token::LParen
                | Token::Minus
                | Token::Plus => Form::Interval,
                _ => Form::Name,
            },
            _ => return None,
        })
    }

    fn parse(self, ident: Ident, parser: &mut Parser) -> Result<Expr, ParserError> {
        // These two read the word themselves.
        match self {
            Form::Value => return parser.parse_value().map(Expr::Value),
            Form::Substring => return parser.parse_substring(),
            Form::Nothing => return parser.expected_ref("an expression", parser.peek_token_ref()),
            _ => parser.advance_token(),
        }
        match self {
            Form::Value | Form::Substring | Form::Nothing | Form::Name => Ok(Expr::Identifier(ident)),
            Form::Not => parser.parse_not(),
            Form::Case => parser.parse_case_expr(),
            Form::Exists => parser.parse_exists_expr(false),
            Form::Cast(kind) => parser.parse_cast_expr(kind),
            Form::Convert { is_try } => parser.parse_convert_expr(is_try),
            Form::Extract => parser.parse_extract_expr(),
            Form::Round { up } => parser.parse_ceil_floor_expr(up),
            Form::Position => parse_position(ident, parser),
            Form::Overlay => parser.parse_overlay_expr(),
            Form::Trim => parser.parse_trim_expr(),
            Form::Interval => parser.parse_interval(),
            Form::Array => {
                parser.expect_token(&Token::LBracket)?;
                parser.parse_array_expr(true)
            }
            Form::ArrayOfQuery => parser.expected_ref("ARRAY[…]", parser.peek_token_ref()),
            Form::Niladic => parser.parse_time_functions(ObjectName::from(vec![ident])),
        }
    }
}

/// `POSITION(a IN b)`, or the function `position(a, b)`.
fn parse_position(ident: Ident, parser: &mut Parser) -> Result<Expr, ParserError> {
    parser.expect_token(&Token::LParen)?;
    // Below IN, or `a IN b` would be read as a condition.
    let first = parser.parse_subexpr(InboxDialect.prec_value(Precedence::Between))?;
    if parser.parse_keyword(Keyword::IN) {
        let r#in = Box::new(parser.parse_expr()?);
        parser.expect_token(&Token::RParen)?;
        return Ok(Expr::Position { expr: Box::new(first), r#in });
    }
    parser.expect_token(&Token::Comma)?;
    let mut args = vec![first];
    args.extend(parser.parse_comma_separated(Parser::parse_expr)?);
    parser.expect_token(&Token::RParen)?;
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    Ok(Expr::Function(Function {
        name: ObjectName::from(vec![ident]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }))
}
