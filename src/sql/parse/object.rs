//! Views, TRUNCATE and COMMENT ON.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::{StatementParser, refused};
use crate::error::{Error, Result};
use crate::sql::statement::{CommentOn, CreateView, Statement, TableRef};

impl StatementParser<'_> {
    /// From the word behind CREATE [OR REPLACE] on.
    pub(super) fn create_view(&mut self, or_replace: bool) -> Result<Statement> {
        self.expect_word("VIEW")?;
        let if_not_exists = self.accept_words(&["IF", "NOT", "EXISTS"]);
        if or_replace && if_not_exists {
            let message = "CREATE VIEW takes OR REPLACE or IF NOT EXISTS, not both";
            return Err(Error::InvalidSql(message.to_owned()));
        }
        let name = self.new_table_ref()?;
        let mut columns = Vec::new();
        if self.parser.consume_token(&Token::LParen) {
            loop {
                columns.push(self.with(|parser| parser.parse_identifier())?.value.to_ascii_lowercase());
                if !self.parser.consume_token(&Token::Comma) {
                    break;
                }
            }
            self.expect(&Token::RParen)?;
        }
        self.expect_word("AS")?;
        let start = self.place();
        let query = self.with(|parser| parser.parse_query())?;
        refused::check_query(&query)?;
        let text = self.source.slice(start, self.place()).to_owned();
        Ok(Statement::CreateView(Box::new(CreateView { name, or_replace, if_not_exists, columns, query, text })))
    }

    /// From VIEW on.
    pub(super) fn drop_view(&mut self) -> Result<Statement> {
        self.expect_word("VIEW")?;
        let if_exists = self.accept_words(&["IF", "EXISTS"]);
        let name = self.table_ref()?;
        Ok(Statement::DropView { name, if_exists, cascade: self.cascade() })
    }

    /// CASCADE, or RESTRICT, which is what happens without either.
    pub(super) fn cascade(&mut self) -> bool {
        let cascade = self.accept_word("CASCADE");
        if !cascade {
            self.accept_word("RESTRICT");
        }
        cascade
    }

    pub(super) fn truncate(&mut self) -> Result<Statement> {
        self.expect_word("TRUNCATE")?;
        // `TRUNCATE table` empties a table of that name.
        if !matches!(self.parser.peek_nth_token_ref(1).token, Token::SemiColon | Token::EOF) {
            self.accept_word("TABLE");
        }
        self.accept_word("ONLY");
        let name = self.table_ref()?;
        if self.at(&Token::Comma) {
            let message = "TRUNCATE takes one table; send the others as statements of their own";
            return Err(Error::Unsupported(message.to_owned()));
        }
        if self.accept_words(&["RESTART", "IDENTITY"]) {
            let message = "TRUNCATE … RESTART IDENTITY is not supported: ids that were given are never given again";
            return Err(Error::Unsupported(message.to_owned()));
        }
        // Both say what happens anyway: no other table refers to this one.
        self.accept_words(&["CONTINUE", "IDENTITY"]);
        self.cascade();
        Ok(Statement::Truncate { name })
    }

    /// `COMMENT ON TABLE t IS '…'`, of a VIEW and of a COLUMN t.c as well.
    pub(super) fn comment(&mut self) -> Result<Statement> {
        self.expect_word("COMMENT")?;
        self.expect_word("ON")?;
        let on = if self.accept_word("TABLE") {
            CommentOn::Table(self.table_ref()?)
        } else if self.accept_word("VIEW") {
            CommentOn::View(self.table_ref()?)
        } else if self.accept_word("COLUMN") {
            self.commented_column()?
        } else {
            return Err(self.expected("TABLE, VIEW or COLUMN"));
        };
        self.expect_word("IS")?;
        let text = if self.accept_word("NULL") { None } else { Some(self.string("a text in quotes, or NULL")?) };
        Ok(Statement::Comment { on, text: text.filter(|text| !text.is_empty()) })
    }

    /// `table.column` or `namespace.table.column`.
    fn commented_column(&mut self) -> Result<CommentOn> {
        let mut parts = vec![self.identifier("a column with its table: table.column")?.to_ascii_lowercase()];
        while parts.len() < 3 && self.parser.consume_token(&Token::Period) {
            parts.push(self.identifier("a column name")?.to_ascii_lowercase());
        }
        match (parts.pop(), parts.pop(), parts.pop()) {
            (Some(column), Some(table), namespace) => Ok(CommentOn::Column(TableRef { namespace, table }, column)),
            _ => Err(self.expected("a column with its table: table.column")),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::parse::parse;
    use crate::sql::statement::Statement;

    fn shown(sql: &str) -> String {
        match parse(sql).unwrap_or_else(|e| panic!("{sql}: {e}")).remove(0).statement {
            Statement::CreateView(view) => {
                format!("{} {} {} {:?} [{}]", view.name, view.or_replace, view.if_not_exists, view.columns, view.text)
            }
            Statement::DropView { name, if_exists, cascade } => format!("{name} {if_exists} {cascade}"),
            Statement::Truncate { name } => name.to_string(),
            Statement::Comment { on, text } => format!("{on:?} {text:?}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn statements_are_read() {
        let cases = [
            ("CREATE VIEW v AS SELECT 1", "v false false [] [SELECT 1]"),
            (
                "create or replace view A.V (X, y) as (select 1, 2) ; SELECT 1",
                "a.v true false [\"x\", \"y\"] [(select 1, 2)]",
            ),
            (
                "CREATE VIEW IF NOT EXISTS v AS WITH q AS (SELECT 1) SELECT * FROM q",
                "v false true [] [WITH q AS (SELECT 1) SELECT * FROM q]",
            ),
            ("DROP VIEW IF EXISTS a.v CASCADE", "a.v true true"),
            ("DROP VIEW v RESTRICT", "v false false"),
            ("TRUNCATE t", "t"),
            ("TRUNCATE TABLE ONLY a.t CONTINUE IDENTITY RESTRICT", "a.t"),
            ("TRUNCATE table", "table"),
            (
                "COMMENT ON TABLE a.t IS 'it''s'",
                "Table(TableRef { namespace: Some(\"a\"), table: \"t\" }) Some(\"it's\")",
            ),
            ("COMMENT ON VIEW v IS NULL", "View(TableRef { namespace: None, table: \"v\" }) None"),
            ("COMMENT ON COLUMN t.C IS ''", "Column(TableRef { namespace: None, table: \"t\" }, \"c\") None"),
        ];
        for (sql, expected) in cases {
            assert_eq!(shown(sql), expected, "{sql}");
        }
    }

    #[test]
    fn what_else_is_said_has_its_own_answer() {
        let cases = [
            ("CREATE OR REPLACE VIEW IF NOT EXISTS v AS SELECT 1", "not both"),
            ("CREATE VIEW v SELECT 1", "Expected: AS, found: SELECT"),
            ("CREATE VIEW v AS INSERT INTO t VALUES (1)", "changes data"),
            ("CREATE VIEW select AS SELECT 1", "reserved word"),
            ("TRUNCATE a, b", "takes one table"),
            ("TRUNCATE a RESTART IDENTITY", "never given again"),
            ("COMMENT ON INDEX i IS 'x'", "Expected: TABLE, VIEW or COLUMN"),
            ("COMMENT ON COLUMN c IS 'x'", "table.column"),
            ("COMMENT ON TABLE t IS 5", "a text in quotes, or NULL"),
        ];
        for (sql, expected) in cases {
            let error = parse(sql).unwrap_err().to_string();
            assert!(error.contains(expected), "{sql}: {error}");
        }
    }
}
