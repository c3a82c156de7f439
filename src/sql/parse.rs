//! Text to statements.
//!
//! Owns the grammar of our own statements, which SQL is refused, and the place of every syntax error. Queries, INSERT,
//! UPDATE and DELETE are sqlparser's, in DataFusion's generic dialect.
//! Never looks anything up: whether a table exists is the binder's business.
//! One parser walks the tokens of a request, so places stay those of the request. Start at [`parse`].

use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word};

use crate::error::{Error, Result};
use crate::model::NamespaceName;
use crate::sql::statement::{ParsedStatement, Statement, TableRef};
use dialect::InboxDialect;
use source::{Source, syntax};

mod alter;
mod dialect;
mod dml;
mod guard;
mod live;
mod maintain;
mod object;
mod operations;
mod question;
pub(crate) mod redact;
mod refused;
mod source;
mod storage;
mod table;
mod topic;
mod tuples;
mod user;

/// What an operator decides about the shape of a text. The defaults are the most that the parser takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseLimits {
    /// Brackets in brackets.
    pub nesting: usize,
    /// Operators in a row, between two commas.
    pub operators: usize,
}

impl Default for ParseLimits {
    fn default() -> Self {
        Self { nesting: RECURSION_MAX, operators: guard::CHAIN_MAX }
    }
}

/// Statements in one request.
pub const STATEMENTS_MAX: usize = 1_000;

/// How deep brackets and sub-queries may nest: DataFusion's own default.
const RECURSION_MAX: usize = 50;

/// The statements of a request, in order.
///
/// # Errors
/// `EMPTY_SQL`; `INVALID_SQL` with line and column where the text is no SQL, without where it is SQL that we refuse.
pub fn parse(sql: &str) -> Result<Vec<ParsedStatement>> {
    parse_within(sql, ParseLimits::default())
}

/// [`parse`], of texts that may be less deep.
///
/// # Errors
/// As [`parse`].
pub fn parse_within(sql: &str, limits: ParseLimits) -> Result<Vec<ParsedStatement>> {
    match tuples::parse_literal_insert(sql) {
        Some(statements) => Ok(statements),
        None => parse_text(sql, limits),
    }
}

/// [`parse`] without its short way for batches of literals.
pub(in crate::sql) fn parse_whole(sql: &str) -> Result<Vec<ParsedStatement>> {
    parse_text(sql, ParseLimits::default())
}

fn parse_text(sql: &str, limits: ParseLimits) -> Result<Vec<ParsedStatement>> {
    let source = Source::new(sql);
    let tokens = Tokenizer::new(&InboxDialect, sql)
        .tokenize_with_location()
        .map_err(|error| syntax(error.message, error.location))?;
    let tokens = question::name_operators(tokens);
    guard::check_shape(&tokens, limits)?;
    let tokens = live::name_all_tables(tokens);
    let mut walk = StatementParser::new(tokens, source);
    let mut statements = Vec::new();
    loop {
        while walk.parser.consume_token(&Token::SemiColon) {}
        if walk.at(&Token::EOF) {
            break;
        }
        if statements.len() == STATEMENTS_MAX {
            return Err(Error::InvalidSql(format!("a request holds at most {STATEMENTS_MAX} statements")));
        }
        statements.push(walk.parsed_statement(Nesting::Top)?);
        if !walk.at(&Token::SemiColon) && !walk.at(&Token::EOF) {
            return Err(walk.expected("end of statement"));
        }
    }
    if statements.is_empty() { Err(Error::EmptySql) } else { Ok(statements) }
}

/// Where a statement stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nesting {
    Top,
    /// Between the brackets of EXECUTE AS USER.
    ExecuteAs,
}

/// The tokens of a request, and how far we are in them.
struct StatementParser<'a> {
    parser: Parser<'static>,
    source: Source<'a>,
}

impl<'a> StatementParser<'a> {
    fn new(tokens: Vec<TokenWithSpan>, source: Source<'a>) -> Self {
        let parser = Parser::new(&InboxDialect).with_recursion_limit(RECURSION_MAX).with_tokens_with_locations(tokens);
        Self { parser, source }
    }

    fn parsed_statement(&mut self, nesting: Nesting) -> Result<ParsedStatement> {
        let start = self.place();
        let statement = self.statement(nesting)?;
        let text = self.source.slice(start, self.place()).to_owned();
        Ok(ParsedStatement { text, statement })
    }

    fn statement(&mut self, nesting: Nesting) -> Result<Statement> {
        if self.at(&Token::LParen) {
            return self.query();
        }
        let Some(word) = self.peek_word() else { return Err(self.expected("an SQL statement")) };
        match word.to_ascii_uppercase().as_str() {
            "SELECT" | "WITH" | "VALUES" | "FROM" => self.query(),
            "INSERT" => self.insert(),
            "UPDATE" => self.update(),
            "DELETE" => self.delete(),
            "EXPLAIN" if self.peek_nth_is(1, "LIVE") => self.explain_live(),
            "EXPLAIN" => self.explain(),
            "CREATE" => self.create(),
            "DROP" => self.drop_object(),
            "ALTER" => self.alter(),
            "USE" => self.use_namespace(),
            "SET" => self.set(),
            "SHOW" => self.show(),
            "DESCRIBE" | "DESC" => self.describe(),
            "SUBSCRIBE" => self.subscribe(),
            "KILL" => self.kill(),
            "TRUNCATE" => self.truncate(),
            "COMMENT" => self.comment(),
            "STORAGE" => self.storage(),
            "BACKUP" => self.backup(),
            "RESTORE" => self.restore(),
            "EXPORT" => self.export(),
            "CLEAR" => self.clear_topic(),
            "CONSUME" => self.consume(),
            "ACK" => self.ack(),
            "EXECUTE" if nesting == Nesting::Top => self.execute_as(),
            "EXECUTE" => Err(Error::InvalidSql("EXECUTE AS USER cannot stand inside EXECUTE AS USER".to_owned())),
            other => match refused::by_first_word(other) {
                Some(error) => Err(error),
                None => Err(self.expected("an SQL statement")),
            },
        }
    }

    fn create(&mut self) -> Result<Statement> {
        self.expect_word("CREATE")?;
        if self.accept_word("NAMESPACE") {
            let if_not_exists = self.accept_words(&["IF", "NOT", "EXISTS"]);
            let name = NamespaceName::parse_new(&self.identifier("a namespace name")?)?;
            return Ok(Statement::CreateNamespace { name, if_not_exists });
        }
        // `CREATE USER TABLE …` makes a table; a user called table needs quotes.
        if self.peek_is("USER") && !self.peek_nth_is(1, "TABLE") {
            return self.create_user();
        }
        if ["TABLE", "USER", "SHARED", "STREAM"].iter().any(|word| self.peek_is(word)) {
            return self.create_table();
        }
        if self.peek_is("VIEW") {
            return self.create_view(false);
        }
        if self.peek_is("OR") && self.peek_nth_is(1, "REPLACE") && self.peek_nth_is(2, "VIEW") {
            self.accept_words(&["OR", "REPLACE"]);
            return self.create_view(true);
        }
        if self.peek_is("STORAGE") {
            return self.create_storage();
        }
        if self.peek_is("TOPIC") {
            return self.create_topic();
        }
        match refused::creation(&self.peek_words()) {
            Some(error) => Err(error),
            None => Err(self.expected("NAMESPACE, TABLE, USER TABLE, SHARED TABLE, VIEW, USER, STORAGE or TOPIC")),
        }
    }

    fn drop_object(&mut self) -> Result<Statement> {
        self.expect_word("DROP")?;
        if self.accept_word("NAMESPACE") {
            let if_exists = self.accept_words(&["IF", "EXISTS"]);
            let name = NamespaceName::parse(&self.identifier("a namespace name")?)?;
            return Ok(Statement::DropNamespace { name, if_exists, cascade: self.cascade() });
        }
        if self.peek_is("USER") && !self.peek_nth_is(1, "TABLE") {
            return self.drop_user();
        }
        if ["TABLE", "USER", "SHARED", "STREAM"].iter().any(|word| self.peek_is(word)) {
            return self.drop_table();
        }
        if self.peek_is("STORAGE") {
            return self.drop_storage();
        }
        if self.peek_is("TOPIC") {
            return self.drop_topic();
        }
        if self.peek_is("CURSOR") {
            return self.drop_cursor();
        }
        if self.peek_is("VIEW") {
            return self.drop_view();
        }
        match refused::other_object("DROP", &self.peek_words()) {
            Some(error) => Err(error),
            None => Err(self.expected("NAMESPACE, TABLE, VIEW, USER, STORAGE, TOPIC or CURSOR")),
        }
    }

    fn alter(&mut self) -> Result<Statement> {
        self.expect_word("ALTER")?;
        if self.accept_word("NAMESPACE") {
            let name = NamespaceName::parse(&self.identifier("a namespace name")?)?;
            self.expect_word("SET")?;
            self.expect_word("OPTIONS")?;
            return Ok(Statement::AlterNamespace { name, options: self.options()? });
        }
        if self.peek_is("USER") && !self.peek_nth_is(1, "TABLE") {
            return self.alter_user();
        }
        if ["TABLE", "USER", "SHARED", "STREAM"].iter().any(|word| self.peek_is(word)) {
            return self.alter_table();
        }
        if self.peek_is("STORAGE") {
            return self.alter_storage();
        }
        if self.peek_is("TOPIC") {
            return self.alter_topic();
        }
        match refused::other_object("ALTER", &self.peek_words()) {
            Some(error) => Err(error),
            None => Err(self.expected("NAMESPACE, TABLE, USER TABLE, SHARED TABLE, USER, STORAGE or TOPIC")),
        }
    }

    fn use_namespace(&mut self) -> Result<Statement> {
        self.expect_word("USE")?;
        // `USE namespace` switches to a namespace of that name.
        if !matches!(self.parser.peek_nth_token_ref(1).token, Token::SemiColon | Token::EOF) {
            self.accept_word("NAMESPACE");
        }
        Ok(Statement::Use(NamespaceName::parse(&self.identifier("a namespace name")?)?))
    }

    fn set(&mut self) -> Result<Statement> {
        self.expect_word("SET")?;
        if self.accept_word("NAMESPACE") {
            return Ok(Statement::Use(NamespaceName::parse(&self.identifier("a namespace name")?)?));
        }
        if self.peek_word().is_none() {
            return Err(self.expected("NAMESPACE"));
        }
        Err(Error::Unsupported("SET of anything but NAMESPACE is not supported".to_owned()))
    }

    /// `(k = v, …)`: names as written, values without their quotes.
    fn options(&mut self) -> Result<Vec<(String, String)>> {
        self.expect(&Token::LParen)?;
        let mut options = Vec::new();
        if self.parser.consume_token(&Token::RParen) {
            return Ok(options);
        }
        loop {
            let name = match self.string_opt() {
                Some(name) => name,
                None => self.identifier("an option's name")?,
            };
            self.expect(&Token::Eq)?;
            options.push((name, self.option_value()?));
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        self.expect(&Token::RParen)?;
        Ok(options)
    }

    fn option_value(&mut self) -> Result<String> {
        let negative = self.parser.consume_token(&Token::Minus);
        let value = match &self.parser.peek_token_ref().token {
            Token::Number(number, _) if negative => format!("-{number}"),
            Token::Number(number, _) => number.clone(),
            Token::SingleQuotedString(text) if !negative => text.clone(),
            Token::Word(word) if !negative => word.value.clone(),
            _ => return Err(self.expected("a string, a number or a word")),
        };
        self.parser.advance_token();
        Ok(value)
    }

    /// `[namespace.]table`, in lower case.
    fn table_ref(&mut self) -> Result<TableRef> {
        let first = self.identifier("a table name")?.to_ascii_lowercase();
        if !self.parser.consume_token(&Token::Period) {
            return Ok(TableRef { namespace: None, table: first });
        }
        let table = self.identifier("a table name")?.to_ascii_lowercase();
        if self.at(&Token::Period) {
            return Err(Error::InvalidSql(format!("{first}.{table}.… has too many parts; use namespace.table")));
        }
        Ok(TableRef { namespace: Some(first), table })
    }

    /// A word or a quoted name, as written.
    fn identifier(&mut self, what: &str) -> Result<String> {
        let Token::Word(Word { value, .. }) = &self.parser.peek_token_ref().token else {
            return Err(self.expected(what));
        };
        let value = value.clone();
        self.parser.advance_token();
        Ok(value)
    }

    fn string(&mut self, what: &str) -> Result<String> {
        self.string_opt().ok_or_else(|| self.expected(what))
    }

    fn string_opt(&mut self) -> Option<String> {
        let Token::SingleQuotedString(text) = &self.parser.peek_token_ref().token else { return None };
        let text = text.clone();
        self.parser.advance_token();
        Some(text)
    }

    /// A name that may also stand in single quotes.
    fn name_or_string(&mut self, what: &str) -> Result<String> {
        match self.string_opt() {
            Some(name) => Ok(name),
            None => self.identifier(what),
        }
    }

    /// Lets sqlparser read something; its error gets our form.
    fn with<T>(&mut self, read: impl FnOnce(&mut Parser<'static>) -> Result<T, ParserError>) -> Result<T> {
        read(&mut self.parser).map_err(|error| self.source.fault(error, self.place()))
    }

    /// Where the next token begins; line 0 behind the last.
    fn place(&self) -> Location {
        self.parser.peek_token_ref().span.start
    }

    fn at(&self, token: &Token) -> bool {
        self.parser.peek_token_ref().token == *token
    }

    /// The next token, where it is an unquoted word.
    fn peek_word(&self) -> Option<&str> {
        unquoted(&self.parser.peek_token_ref().token)
    }

    /// The next words in upper case, up to five: what an object is, once a statement is known to be none of ours.
    fn peek_words(&self) -> Vec<String> {
        (0..5).map_while(|n| unquoted(&self.parser.peek_nth_token_ref(n).token)).map(str::to_ascii_uppercase).collect()
    }

    fn peek_is(&self, word: &str) -> bool {
        self.peek_nth_is(0, word)
    }

    fn peek_nth_is(&self, n: usize, word: &str) -> bool {
        unquoted(&self.parser.peek_nth_token_ref(n).token).is_some_and(|found| found.eq_ignore_ascii_case(word))
    }

    fn accept_word(&mut self, word: &str) -> bool {
        let found = self.peek_is(word);
        if found {
            self.parser.advance_token();
        }
        found
    }

    /// All of them, or none.
    fn accept_words(&mut self, words: &[&str]) -> bool {
        let found = words.iter().enumerate().all(|(n, word)| self.peek_nth_is(n, word));
        if found {
            words.iter().for_each(|_| self.parser.advance_token());
        }
        found
    }

    fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.accept_word(word) { Ok(()) } else { Err(self.expected(word)) }
    }

    fn expect(&mut self, token: &Token) -> Result<()> {
        if self.parser.consume_token(token) { Ok(()) } else { Err(self.expected(&token.to_string())) }
    }

    fn expected(&self, what: &str) -> Error {
        self.source.expected(what, self.parser.peek_token_ref())
    }
}

fn unquoted(token: &Token) -> Option<&str> {
    match token {
        Token::Word(Word { value, quote_style: None, .. }) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
