//! A statement's text without its literals: what a log may hold.
//!
//! Owns which parts of a text are values: every literal becomes `?`, comments go, names and words stay. A text that is no
//! SQL is not shown at all.

use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Whitespace};

use super::dialect::InboxDialect;

/// Longer texts are cut off.
const TEXT_MAX: usize = 2_048;

/// `text` as it may be logged.
pub(crate) fn without_literals(text: &str) -> String {
    let Ok(tokens) = Tokenizer::new(&InboxDialect, text).tokenize() else {
        return format!("({} bytes that are no SQL)", text.len());
    };
    let mut shown = String::with_capacity(text.len().min(TEXT_MAX));
    for token in tokens {
        let part = match token {
            Token::Whitespace(Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_)) => continue,
            Token::Whitespace(_) if shown.ends_with(' ') => continue,
            Token::Whitespace(_) => " ".to_owned(),
            Token::Word(word) => word.to_string(),
            other if is_sign(&other) => other.to_string(),
            // Numbers, and strings of every kind there is or will be.
            _ => "?".to_owned(),
        };
        if shown.len() + part.len() > TEXT_MAX {
            shown.push('…');
            break;
        }
        shown.push_str(&part);
    }
    shown.trim().to_owned()
}

/// Written with signs alone: an operator, a bracket, a comma; or `$1`.
fn is_sign(token: &Token) -> bool {
    matches!(token, Token::Placeholder(_))
        || token.to_string().chars().all(|c| c.is_ascii_punctuation() && !matches!(c, '\'' | '"' | '$'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_left_out() {
        let cases = [
            ("SELECT * FROM a.b WHERE id = 42 AND t LIKE 'x%'", "SELECT * FROM a.b WHERE id = ? AND t LIKE ?"),
            ("SELECT -- secret 1\n  /* secret 2 */ $1, \"Col\" ", "SELECT $1, \"Col\""),
            ("CREATE USER 'eve' WITH PASSWORD 'hunter2'", "CREATE USER ? WITH PASSWORD ?"),
            ("SELECT E'a\\'b', X'00ff', N'n', $$dollar$$, 1e5, .5", "SELECT ?, ?, ?, ?, ?, ?"),
            ("SELECT 'it''s', U&'x'", "SELECT ?, ?"),
            ("SELECT 'open", "(12 bytes that are no SQL)"),
        ];
        for (text, expected) in cases {
            assert_eq!(without_literals(text), expected, "{text}");
        }
        let long = format!("SELECT {}1", "a, ".repeat(5_000));
        let shown = without_literals(&long);
        assert!(shown.len() <= TEXT_MAX + '…'.len_utf8() && shown.ends_with('…'));
    }
}
