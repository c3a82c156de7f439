//! CREATE TABLE, DROP TABLE, SHOW and DESCRIBE.

use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, Word};

use super::dialect::InboxDialect;
use super::{StatementParser, refused};
use crate::error::{Error, Result};
use crate::model::{NamespaceName, TableKind};
use crate::sql::define::is_reserved_word;
use crate::sql::statement::{CreateTable, Statement, TableRef};

impl StatementParser<'_> {
    /// From the word behind CREATE on.
    pub(super) fn create_table(&mut self) -> Result<Statement> {
        let prefix = self.kind_prefix()?;
        self.expect_word("TABLE")?;
        let if_not_exists = self.accept_words(&["IF", "NOT", "EXISTS"]);
        let name = self.new_table_ref()?;
        if self.peek_is("LIKE") {
            return Err(Error::Unsupported("CREATE TABLE … LIKE is not supported yet".to_owned()));
        }
        let is_listed = self.at(&Token::LParen);
        if !is_listed && !["AS", "WITH", "USING"].iter().any(|word| self.peek_is(word)) {
            return Err(self.expected("(, or AS SELECT"));
        }
        let (columns, constraints) =
            if is_listed { self.with(|parser| parser.parse_columns())? } else { (Vec::new(), Vec::new()) };
        // `USING engine` says nothing here: there is one.
        if self.accept_word("USING") {
            self.identifier("the name of a storage format")?;
        }
        let mut kind = prefix;
        let mut options = Vec::new();
        if self.accept_word("WITH") {
            for (name, value) in self.table_options()? {
                if name == "TYPE" {
                    kind = Some(agreed_kind(prefix, &value)?);
                } else {
                    options.push((name, value));
                }
            }
        }
        let mut query = None;
        if self.accept_word("AS") {
            if let Some(column) = columns.first() {
                return Err(Error::Unsupported(format!(
                    "'{}' before AS is not supported: the columns are those of the SELECT; only constraints may stand there",
                    column.name
                )));
            }
            let select = self.with(|parser| parser.parse_query())?;
            refused::check_query(&select)?;
            query = Some(select);
        } else if !is_listed {
            return Err(self.expected("AS"));
        }
        Ok(Statement::CreateTable(Box::new(CreateTable {
            name,
            kind,
            if_not_exists,
            columns,
            constraints,
            options,
            query,
        })))
    }

    /// From the word behind DROP on.
    pub(super) fn drop_table(&mut self) -> Result<Statement> {
        let kind = self.kind_prefix()?;
        self.expect_word("TABLE")?;
        let if_exists = self.accept_words(&["IF", "EXISTS"]);
        let name = self.table_ref()?;
        Ok(Statement::DropTable { kind, name, if_exists, cascade: self.cascade() })
    }

    pub(super) fn show(&mut self) -> Result<Statement> {
        self.expect_word("SHOW")?;
        if self.accept_word("NAMESPACES") {
            return Ok(Statement::ShowNamespaces);
        }
        if self.accept_word("STORAGES") {
            return Ok(Statement::ShowStorages);
        }
        if self.accept_word("CURSORS") {
            return Ok(Statement::ShowCursors);
        }
        if self.accept_word("EXPORT") {
            return Ok(Statement::ShowExport);
        }
        if self.accept_word("TABLES") {
            return Ok(Statement::ShowTables { namespace: self.in_namespace()? });
        }
        if self.accept_word("VIEWS") {
            return Ok(Statement::ShowViews { namespace: self.in_namespace()? });
        }
        if self.accept_word("COLUMNS") {
            if !self.accept_word("IN") {
                self.expect_word("FROM")?;
            }
            return Ok(Statement::DescribeTable { name: self.table_ref()? });
        }
        if self.accept_word("MANIFEST") {
            let mut parser =
                Parser::new(&InboxDialect).try_with_sql("SELECT * FROM system.manifest").map_err(Error::internal)?;
            return Ok(Statement::Query(parser.parse_query().map_err(Error::internal)?));
        }
        match refused::show(&self.peek_words()) {
            Some(error) => Err(error),
            None => Err(self.expected("NAMESPACES, TABLES, VIEWS, COLUMNS, STORAGES or EXPORT")),
        }
    }

    fn in_namespace(&mut self) -> Result<Option<NamespaceName>> {
        if !self.accept_word("IN") && !self.accept_word("FROM") {
            return Ok(None);
        }
        self.accept_word("NAMESPACE");
        Ok(Some(NamespaceName::parse(&self.identifier("a namespace name")?)?))
    }

    /// DESCRIBE and DESC, with or without TABLE.
    pub(super) fn describe(&mut self) -> Result<Statement> {
        self.parser.advance_token();
        // `DESCRIBE table` describes a table of that name.
        if !matches!(self.parser.peek_nth_token_ref(1).token, Token::SemiColon | Token::EOF)
            && !self.accept_word("TABLE")
        {
            self.accept_word("VIEW");
        }
        let name = self.table_ref()?;
        self.accept_word("HISTORY");
        Ok(Statement::DescribeTable { name })
    }

    /// `(k = v, …)`: names in upper case, each once.
    pub(super) fn table_options(&mut self) -> Result<Vec<(String, String)>> {
        let mut options: Vec<(String, String)> = Vec::new();
        for (name, value) in self.options()? {
            let name = name.to_ascii_uppercase();
            if options.iter().any(|(other, _)| *other == name) {
                return Err(Error::InvalidSql(format!("Table option '{name}' is given twice")));
            }
            options.push((name, value));
        }
        Ok(options)
    }

    pub(super) fn kind_prefix(&mut self) -> Result<Option<TableKind>> {
        if self.accept_word("USER") {
            Ok(Some(TableKind::User))
        } else if self.accept_word("SHARED") {
            Ok(Some(TableKind::Shared))
        } else if self.accept_word("STREAM") {
            Ok(Some(TableKind::Stream))
        } else {
            Ok(None)
        }
    }

    pub(super) fn new_table_ref(&mut self) -> Result<TableRef> {
        let mut last = self.parser.peek_token_ref().token.clone();
        if self.parser.peek_nth_token_ref(1).token == Token::Period {
            last = self.parser.peek_nth_token_ref(2).token.clone();
        }
        if let Token::Word(Word { value, quote_style: None, .. }) = last
            && is_reserved_word(&value)
        {
            let fault = "it is a reserved word of SQL; choose another name or put it in double quotes".to_owned();
            return Err(Error::InvalidName { what: "table", name: value, fault });
        }
        self.table_ref()
    }
}

fn agreed_kind(prefix: Option<TableKind>, value: &str) -> Result<TableKind> {
    let kind = match value.to_ascii_uppercase().as_str() {
        "USER" => TableKind::User,
        "SHARED" => TableKind::Shared,
        "STREAM" => TableKind::Stream,
        _ => {
            let message = format!("Unknown table type '{value}'; types are USER, SHARED and STREAM");
            return Err(Error::InvalidSql(message));
        }
    };
    match prefix {
        Some(other) if other != kind => {
            let (prefix, value) = (other.as_str().to_ascii_uppercase(), value.to_ascii_uppercase());
            Err(Error::InvalidSql(format!("The table is {prefix} by its prefix and {value} by TYPE; say one of them")))
        }
        _ => Ok(kind),
    }
}
