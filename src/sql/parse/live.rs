//! SUBSCRIBE TO, KILL LIVE QUERY and KILL JOB.

use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};

use super::dialect::InboxDialect;
use super::{RECURSION_MAX, StatementParser, refused, unquoted};
use crate::error::{Error, Result};
use crate::model::UserId;
use crate::sql::live_query::namespace::ALL_TABLES;
use crate::sql::statement::{Statement, SubscribeOptions, SubscribeTo};

/// `FROM namespace.*` names a table that none is called: sqlparser takes no star there.
pub(super) fn name_all_tables(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut last: [Option<&Token>; 3] = [None; 3];
    let mut stars = Vec::new();
    for (at, TokenWithSpan { token, .. }) in tokens.iter().enumerate() {
        if matches!(token, Token::Whitespace(_)) {
            continue;
        }
        if let (Token::Mul, [Some(from), Some(Token::Word(_)), Some(Token::Period)]) = (token, last)
            && unquoted(from).is_some_and(|word| word.eq_ignore_ascii_case("FROM"))
        {
            stars.push(at);
        }
        last = [last[1], last[2], Some(token)];
    }
    for at in stars {
        tokens[at].token = Token::make_word(ALL_TABLES, Some('"'));
    }
    tokens
}

impl StatementParser<'_> {
    /// `SUBSCRIBE TO [namespace.]table [WHERE …] [OPTIONS (…)]`, or a whole SELECT in the table's place.
    pub(super) fn subscribe(&mut self) -> Result<Statement> {
        self.expect_word("SUBSCRIBE")?;
        self.expect_word("TO")?;
        let start = self.place();
        let (tokens, end) = self.tokens_before_options();
        let mut sql = self.source.slice(start, end).to_owned();
        if self.peek_is("SELECT") {
            self.check_select(tokens)?;
            while self.place() != end {
                self.parser.advance_token();
            }
        } else {
            self.table_ref()?;
            if self.accept_word("WHERE") {
                self.with(|parser| parser.parse_expr())?;
            }
            if self.place() != end {
                return Err(self.expected("WHERE, OPTIONS or the end of the statement"));
            }
            sql = format!("SELECT * FROM {sql}");
        }
        let options = if self.accept_word("OPTIONS") { self.subscribe_options()? } else { SubscribeOptions::default() };
        Ok(Statement::SubscribeTo(SubscribeTo { sql, options }))
    }

    pub(super) fn kill(&mut self) -> Result<Statement> {
        self.expect_word("KILL")?;
        if self.accept_word("JOB") {
            return Ok(Statement::KillJob { job_id: self.string("the job's id in single quotes")? });
        }
        if !self.accept_word("LIVE") {
            return Err(self.expected("LIVE QUERY or JOB"));
        }
        self.expect_word("QUERY")?;
        Ok(Statement::KillLiveQuery { live_id: self.string("the live query's id in single quotes")? })
    }

    /// `DROP CURSOR [IF EXISTS] 'group' [FOR USER 'name']`, behind DROP.
    pub(super) fn drop_cursor(&mut self) -> Result<Statement> {
        self.expect_word("CURSOR")?;
        let if_exists = self.accept_words(&["IF", "EXISTS"]);
        let group = self.name_or_string("the group's name")?;
        let user = if self.accept_words(&["FOR", "USER"]) {
            Some(UserId::parse(&self.name_or_string("a user's name")?)?)
        } else {
            None
        };
        Ok(Statement::DropCursor { group, user, if_exists })
    }

    pub(super) fn explain_live(&mut self) -> Result<Statement> {
        self.expect_word("EXPLAIN")?;
        self.expect_word("LIVE")?;
        Ok(Statement::ExplainLive { live_id: self.string("the live query's id in single quotes")? })
    }

    /// The coming tokens as far as the statement's OPTIONS or its end, and where that is.
    fn tokens_before_options(&self) -> (Vec<TokenWithSpan>, Location) {
        let mut tokens = Vec::new();
        let mut depth = 0_usize;
        loop {
            let next = self.parser.peek_nth_token_no_skip(tokens.len());
            match &next.token {
                Token::LParen => depth += 1,
                Token::RParen if depth > 0 => depth -= 1,
                Token::EOF | Token::SemiColon | Token::RParen => return (tokens, next.span.start),
                token if depth == 0 && unquoted(token).is_some_and(|word| word.eq_ignore_ascii_case("OPTIONS")) => {
                    let behind = (tokens.len() + 1..).map(|n| self.parser.peek_nth_token_no_skip(n).token);
                    let mut behind = behind.skip_while(|token| matches!(token, Token::Whitespace(_)));
                    if behind.next() == Some(Token::LParen) {
                        return (tokens, next.span.start);
                    }
                }
                _ => {}
            }
            tokens.push(next);
        }
    }

    /// Reads a SELECT on its own tokens: sqlparser would take a following OPTIONS for the table's alias.
    fn check_select(&self, mut tokens: Vec<TokenWithSpan>) -> Result<()> {
        let end = tokens.last().map_or(Location::empty(), |token| token.span.end);
        // Tells errors where the SELECT ends.
        tokens.push(TokenWithSpan { token: Token::EOF, span: Span::new(end, end) });
        let mut parser =
            Parser::new(&InboxDialect).with_recursion_limit(RECURSION_MAX).with_tokens_with_locations(tokens);
        let query =
            parser.parse_query().map_err(|error| self.source.fault(error, parser.peek_token_ref().span.start))?;
        if parser.peek_token_ref().token != Token::EOF {
            return Err(self.source.expected("OPTIONS or the end of the statement", parser.peek_token_ref()));
        }
        refused::check_query(&query)
    }

    fn subscribe_options(&mut self) -> Result<SubscribeOptions> {
        let mut options = SubscribeOptions::default();
        for (name, value) in self.options()? {
            let number = value.parse::<i64>().ok().filter(|n| *n >= 0);
            let Some(number) = number else {
                let message = format!("Subscription option '{name}' takes a whole number from 0 on, not '{value}'");
                return Err(Error::InvalidSql(message));
            };
            match name.to_ascii_lowercase().as_str() {
                "last_rows" => options.last_rows = Some(number.unsigned_abs()),
                "batch_size" => options.batch_size = Some(number.unsigned_abs()),
                "from" | "from_seq_id" => options.from = Some(number),
                _ => {
                    let known = "options are last_rows, batch_size and from";
                    return Err(Error::InvalidSql(format!("Unknown subscription option '{name}'; {known}")));
                }
            }
        }
        Ok(options)
    }
}
