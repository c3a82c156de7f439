//! Shapes of text that are refused before they are parsed.
//!
//! sqlparser bounds how deep brackets nest, but not how deep a tree a flat text makes (`1+1+1+…` is as deep as it is
//! long, and dropping it takes as much stack), nor how often it reads one text again (after a dot and a bracket).
//! Owns the limits for both. One pass over the tokens, no recursion.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use super::ParseLimits;
use super::source::syntax;
use crate::error::Result;

/// Operators between two commas on one level of brackets: each makes the tree one deeper.
pub(super) const CHAIN_MAX: usize = 300;
/// A set operation takes as much stack as so many operators, since it holds whole queries.
const SET_OPERATION_WEIGHT: usize = 3;
/// `a.b.c`: each dot doubles the attempts.
const DOTS_MAX: usize = 8;
/// `[[…]]`: each level behind a dot doubles the attempts.
const SQUARE_MAX: usize = 8;

/// # Errors
/// `INVALID_SQL` at the place where a limit is passed.
pub(super) fn check_shape(tokens: &[TokenWithSpan], limits: ParseLimits) -> Result<()> {
    let most = limits.operators;
    // Operators so far on each open level; the last is the innermost.
    let mut chains = vec![0_usize];
    let mut squares = 0_usize;
    let mut dots = 0_usize;
    let mut behind_dot = false;
    for TokenWithSpan { token, span } in tokens {
        match token {
            Token::Whitespace(_) => continue,
            Token::Period => {
                dots += 1;
                behind_dot = true;
                if dots > DOTS_MAX {
                    return too_deep("a name has too many parts", span.start);
                }
                continue;
            }
            Token::Word(word) => {
                // Behind a dot a word continues the name, whatever it is; elsewhere it begins another.
                if !std::mem::take(&mut behind_dot) {
                    dots = 0;
                }
                match word.keyword {
                    Keyword::NoKeyword => {}
                    Keyword::WHEN | Keyword::THEN | Keyword::ELSE => reset(&mut chains),
                    Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::MINUS => {
                        count(&mut chains, (SET_OPERATION_WEIGHT, most), span.start)?;
                    }
                    keyword if deepens(keyword) => count(&mut chains, (1, most), span.start)?,
                    _ => {}
                }
                continue;
            }
            Token::LBracket => {
                squares += 1;
                if squares > SQUARE_MAX {
                    return too_deep("square brackets nest too deep", span.start);
                }
                count(&mut chains, (1, most), span.start)?;
                open(&mut chains, limits, span.start)?;
            }
            Token::LParen | Token::LBrace => open(&mut chains, limits, span.start)?,
            Token::RBracket => {
                squares = squares.saturating_sub(1);
                close(&mut chains);
            }
            Token::RParen | Token::RBrace => close(&mut chains),
            Token::Comma | Token::SemiColon => reset(&mut chains),
            Token::Number(..) | Token::SingleQuotedString(_) | Token::Placeholder(_) => {}
            _ => count(&mut chains, (1, most), span.start)?,
        }
        dots = 0;
        behind_dot = false;
    }
    Ok(())
}

/// Words that join what stands before them with what follows.
fn deepens(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::AND
            | Keyword::OR
            | Keyword::XOR
            | Keyword::NOT
            | Keyword::IS
            | Keyword::IN
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::RLIKE
            | Keyword::REGEXP
            | Keyword::SIMILAR
            | Keyword::BETWEEN
            | Keyword::DIV
            | Keyword::COLLATE
            | Keyword::AT
            | Keyword::OVERLAPS
            | Keyword::MEMBER
            | Keyword::NOTNULL
            | Keyword::OPERATOR
            | Keyword::PIVOT
            | Keyword::UNPIVOT
    )
}

fn count(chains: &mut [usize], (weight, most): (usize, usize), at: Location) -> Result<()> {
    let Some(chain) = chains.last_mut() else { return Ok(()) };
    *chain += weight;
    if *chain > most {
        return too_deep("too many operators in a row; use IN (…) for many alternatives", at);
    }
    Ok(())
}

fn reset(chains: &mut [usize]) {
    if let Some(chain) = chains.last_mut() {
        *chain = 0;
    }
}

fn open(chains: &mut Vec<usize>, limits: ParseLimits, at: Location) -> Result<()> {
    chains.push(0);
    if chains.len() > limits.nesting + 1 {
        return too_deep("brackets nest too deep", at);
    }
    Ok(())
}

/// A bracket too many is the parser's to report.
fn close(chains: &mut Vec<usize>) {
    if chains.len() > 1 {
        chains.pop();
    }
}

fn too_deep(message: &str, at: Location) -> Result<()> {
    Err(syntax(format!("the statement is too deep: {message}"), at))
}
