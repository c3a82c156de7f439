//! `?` between two operands: the JSON operator, and no parameter.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Parameters are `$1`, `$2`, …, so a `?` behind something that ends an operand can be meant as the operator only.
pub(super) fn name_operators(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut behind_operand = false;
    for TokenWithSpan { token, .. } in &mut tokens {
        if matches!(token, Token::Whitespace(_)) {
            continue;
        }
        if behind_operand && matches!(token, Token::Placeholder(text) if text == "?") {
            *token = Token::Question;
        }
        behind_operand = ends_operand(token);
    }
    tokens
}

fn ends_operand(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.keyword == Keyword::NoKeyword || word.quote_style.is_some(),
        Token::RParen | Token::RBracket | Token::SingleQuotedString(_) => true,
        Token::Placeholder(text) => text.starts_with('$'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::parse::parse;

    #[test]
    fn a_question_mark_between_operands_is_an_operator() {
        for sql in [
            "SELECT doc ? 'a' FROM t",
            "SELECT (doc -> 'a') ? $1 FROM t",
            "SELECT \"doc\" ? 'a' ? 'b'",
            "SELECT '{}' ? 'a'",
        ] {
            let parsed = format!("{:?}", parse(sql).unwrap());
            assert!(parsed.contains("op: Question"), "{sql}: {parsed}");
        }
        for sql in ["SELECT ?", "SELECT a FROM t WHERE a = ?", "SELECT a FROM t LIMIT ?"] {
            let parsed = format!("{:?}", parse(sql).unwrap());
            assert!(parsed.contains("Placeholder(\"?\")"), "{sql}: {parsed}");
        }
    }
}
