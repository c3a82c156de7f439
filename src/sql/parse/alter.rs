//! ALTER TABLE: one operation a statement.

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::{StatementParser, refused};
use crate::error::{Error, Result};
use crate::sql::statement::{AlterOperation, AlterTable, Statement};

impl StatementParser<'_> {
    /// From the word behind ALTER on.
    pub(super) fn alter_table(&mut self) -> Result<Statement> {
        let kind = self.kind_prefix()?;
        self.expect_word("TABLE")?;
        let if_exists = self.accept_words(&["IF", "EXISTS"]);
        // There are no tables that inherit: ONLY says nothing.
        self.accept_word("ONLY");
        let name = self.table_ref()?;
        if let Some(error) = refused::alteration(&self.peek_words()) {
            return Err(error);
        }
        let operation = self.alter_operation()?;
        if self.at(&Token::Comma) {
            let message = "ALTER TABLE takes one operation; send the others as statements of their own";
            return Err(Error::Unsupported(message.to_owned()));
        }
        Ok(Statement::AlterTable(Box::new(AlterTable { kind, if_exists, name, operation })))
    }

    fn alter_operation(&mut self) -> Result<AlterOperation> {
        if self.peek_is("ADD") && (self.peek_nth_is(1, "CONSTRAINT") || self.peek_nth_is(1, "CHECK")) {
            return self.add_constraint();
        }
        if self.accept_words(&["DROP", "CONSTRAINT"]) {
            let if_exists = self.accept_words(&["IF", "EXISTS"]);
            let name = self.identifier("a constraint's name")?.to_ascii_lowercase();
            self.cascade();
            return Ok(AlterOperation::DropConstraint { name, if_exists });
        }
        if self.accept_word("ADD") {
            self.accept_word("COLUMN");
            let if_not_exists = self.accept_words(&["IF", "NOT", "EXISTS"]);
            let definition = Box::new(self.with(|parser| parser.parse_column_def())?);
            self.refuse_place()?;
            return Ok(AlterOperation::AddColumn { definition, if_not_exists });
        }
        if self.accept_word("DROP") {
            self.accept_word("COLUMN");
            let if_exists = self.accept_words(&["IF", "EXISTS"]);
            let column = self.identifier("a column name")?;
            self.cascade();
            return Ok(AlterOperation::DropColumn { column, if_exists });
        }
        if self.accept_word("RENAME") {
            self.accept_word("COLUMN");
            let column = self.identifier("a column name")?;
            self.expect_word("TO")?;
            let to = self.with(|parser| parser.parse_identifier())?;
            return Ok(AlterOperation::RenameColumn { column, to });
        }
        if self.accept_word("MODIFY") {
            self.accept_word("COLUMN");
            let column = self.identifier("a column name")?;
            return self.modify(column);
        }
        if self.accept_word("ALTER") {
            self.accept_word("COLUMN");
            let column = self.identifier("a column name")?;
            return self.alter_column(column);
        }
        if self.accept_word("SET") {
            return self.set_options();
        }
        Err(self.expected("ADD, DROP, RENAME, MODIFY, ALTER or SET"))
    }

    fn add_constraint(&mut self) -> Result<AlterOperation> {
        self.expect_word("ADD")?;
        match self.with(|parser| parser.parse_optional_table_constraint())? {
            Some(constraint @ ast::TableConstraint::Check(_)) => {
                Ok(AlterOperation::AddConstraint(Box::new(constraint)))
            }
            Some(other) => Err(Error::Unsupported(format!("ALTER TABLE … ADD {other} is not supported yet"))),
            None => Err(self.expected("CHECK (…)")),
        }
    }

    fn modify(&mut self, column: String) -> Result<AlterOperation> {
        let data_type = self.data_type()?;
        let nullable =
            if self.accept_words(&["NOT", "NULL"]) { Some(false) } else { self.accept_word("NULL").then_some(true) };
        if self.peek_is("DEFAULT") {
            let message = "MODIFY COLUMN … DEFAULT is not supported; use ALTER COLUMN … SET DEFAULT";
            return Err(Error::Unsupported(message.to_owned()));
        }
        self.refuse_place()?;
        Ok(AlterOperation::ModifyColumn { column, data_type, nullable })
    }

    fn alter_column(&mut self, column: String) -> Result<AlterOperation> {
        if self.accept_words(&["SET", "NOT", "NULL"]) {
            return Ok(AlterOperation::SetNotNull { column });
        }
        if self.accept_words(&["DROP", "NOT", "NULL"]) {
            return Ok(AlterOperation::DropNotNull { column });
        }
        if self.accept_words(&["SET", "DEFAULT"]) {
            let default = Box::new(self.with(|parser| parser.parse_expr())?);
            return Ok(AlterOperation::SetDefault { column, default });
        }
        if self.accept_words(&["DROP", "DEFAULT"]) {
            return Ok(AlterOperation::DropDefault { column });
        }
        if self.accept_words(&["SET", "DATA", "TYPE"]) || self.accept_word("TYPE") {
            let data_type = self.data_type()?;
            if self.peek_is("USING") {
                let message = "ALTER COLUMN … TYPE … USING is not supported; add a column and UPDATE it";
                return Err(Error::Unsupported(message.to_owned()));
            }
            return Ok(AlterOperation::ModifyColumn { column, data_type, nullable: None });
        }
        Err(self.expected("SET NOT NULL, DROP NOT NULL, SET DEFAULT, DROP DEFAULT or TYPE"))
    }

    fn set_options(&mut self) -> Result<AlterOperation> {
        if self.accept_words(&["ACCESS", "LEVEL"]) {
            let level = self.name_or_string("an access level")?;
            return Ok(AlterOperation::SetOptions(vec![("ACCESS_LEVEL".to_owned(), level)]));
        }
        // One option alone needs no parentheses.
        if self.parser.peek_nth_token_ref(1).token == Token::Eq {
            let name = self.identifier("an option's name")?.to_ascii_uppercase();
            self.expect(&Token::Eq)?;
            return Ok(AlterOperation::SetOptions(vec![(name, self.option_value()?)]));
        }
        if !self.accept_word("TBLPROPERTIES") && !self.at(&Token::LParen) {
            return Err(self.expected("TBLPROPERTIES or ACCESS LEVEL"));
        }
        let options = self.table_options()?;
        if options.is_empty() {
            return Err(Error::InvalidSql("SET names no option".to_owned()));
        }
        Ok(AlterOperation::SetOptions(options))
    }

    fn data_type(&mut self) -> Result<ast::DataType> {
        self.with(|parser| parser.parse_data_type())
    }

    /// FIRST and AFTER, which MySQL has here.
    fn refuse_place(&mut self) -> Result<()> {
        if self.peek_is("FIRST") || self.peek_is("AFTER") {
            let message = "FIRST and AFTER are not supported: a new column is the last one, an old one keeps its place";
            return Err(Error::Unsupported(message.to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::parse::parse;
    use crate::sql::statement::{AlterOperation, AlterTable, Statement};

    fn shown(sql: &str) -> String {
        let Statement::AlterTable(alter) = parse(sql).unwrap_or_else(|e| panic!("{sql}: {e}")).remove(0).statement
        else {
            panic!("{sql} is no ALTER TABLE")
        };
        let AlterTable { kind, if_exists, name, operation } = *alter;
        let kind = kind.map_or("", |kind| kind.as_str());
        let operation = match operation {
            AlterOperation::AddColumn { definition, if_not_exists } => format!("add {definition} {if_not_exists}"),
            AlterOperation::DropColumn { column, if_exists } => format!("drop {column} {if_exists}"),
            AlterOperation::RenameColumn { column, to } => format!("rename {column} {to}"),
            AlterOperation::ModifyColumn { column, data_type, nullable } => {
                format!("modify {column} {data_type} {nullable:?}")
            }
            AlterOperation::SetNotNull { column } => format!("not null {column}"),
            AlterOperation::DropNotNull { column } => format!("null {column}"),
            AlterOperation::SetDefault { column, default } => format!("default {column} {default}"),
            AlterOperation::DropDefault { column } => format!("no default {column}"),
            AlterOperation::AddConstraint(constraint) => format!("add {constraint}"),
            AlterOperation::DropConstraint { name, if_exists } => format!("drop constraint {name} {if_exists}"),
            AlterOperation::SetOptions(options) => format!("set {options:?}"),
        };
        format!("{kind} {if_exists} {name}: {operation}")
    }

    #[test]
    fn operations_have_several_spellings() {
        let cases = [
            ("ALTER TABLE t ADD COLUMN c INT", " false t: add c INT false"),
            (
                "alter user table a.T add column if not exists C decimal(9,2) default 1.5 not null;",
                "user false a.t: add C DECIMAL(9,2) DEFAULT 1.5 NOT NULL true",
            ),
            ("ALTER SHARED TABLE IF EXISTS ONLY t ADD c SERIAL", "shared true t: add c SERIAL false"),
            ("ALTER TABLE t DROP COLUMN IF EXISTS c CASCADE", " false t: drop c true"),
            ("ALTER TABLE t DROP c RESTRICT", " false t: drop c false"),
            ("ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)", " false t: add CONSTRAINT c CHECK (a > 0)"),
            ("ALTER TABLE t ADD CHECK (a > 0)", " false t: add CHECK (a > 0)"),
            ("ALTER TABLE t DROP CONSTRAINT IF EXISTS C CASCADE", " false t: drop constraint c true"),
            ("ALTER TABLE t DROP index", " false t: drop index false"),
            ("ALTER TABLE t RENAME COLUMN a TO \"order\"", " false t: rename a \"order\""),
            ("ALTER TABLE t RENAME a TO b", " false t: rename a b"),
            ("ALTER TABLE t MODIFY COLUMN c BIGINT", " false t: modify c BIGINT None"),
            ("ALTER TABLE t MODIFY c BIGINT NOT NULL", " false t: modify c BIGINT Some(false)"),
            ("ALTER TABLE t MODIFY COLUMN c TEXT NULL", " false t: modify c TEXT Some(true)"),
            ("ALTER TABLE t ALTER COLUMN c TYPE TEXT", " false t: modify c TEXT None"),
            ("ALTER TABLE t ALTER c SET DATA TYPE TEXT", " false t: modify c TEXT None"),
            ("ALTER TABLE t ALTER COLUMN c SET NOT NULL", " false t: not null c"),
            ("ALTER TABLE t ALTER COLUMN c DROP NOT NULL", " false t: null c"),
            ("ALTER TABLE t ALTER COLUMN c SET DEFAULT NOW()", " false t: default c NOW()"),
            ("ALTER TABLE t ALTER COLUMN c DROP DEFAULT", " false t: no default c"),
            (
                "ALTER TABLE t SET TBLPROPERTIES (access_level = 'PUBLIC', Durability = sync)",
                " false t: set [(\"ACCESS_LEVEL\", \"PUBLIC\"), (\"DURABILITY\", \"sync\")]",
            ),
            ("ALTER TABLE t SET (DURABILITY = 'sync')", " false t: set [(\"DURABILITY\", \"sync\")]"),
            ("ALTER STREAM TABLE t SET TTL_SECONDS = 5", "stream false t: set [(\"TTL_SECONDS\", \"5\")]"),
            ("ALTER TABLE t SET storage_id = 'eu'", " false t: set [(\"STORAGE_ID\", \"eu\")]"),
            ("ALTER TABLE t SET DELETED_RETENTION_HOURS = 24", " false t: set [(\"DELETED_RETENTION_HOURS\", \"24\")]"),
            ("ALTER TABLE t SET ACCESS LEVEL private", " false t: set [(\"ACCESS_LEVEL\", \"private\")]"),
        ];
        for (sql, expected) in cases {
            assert_eq!(shown(sql), expected, "{sql}");
        }
    }

    #[test]
    fn what_else_is_said_has_its_own_answer() {
        let cases = [
            ("ALTER TABLE t", "Expected: ADD, DROP, RENAME, MODIFY, ALTER or SET, found: EOF"),
            ("ALTER TABLE t GROW c", "Expected: ADD, DROP, RENAME, MODIFY, ALTER or SET, found: GROW"),
            ("ALTER TABLE t ADD COLUMN a INT, ADD COLUMN b INT", "takes one operation"),
            ("ALTER TABLE t DROP a, DROP b", "takes one operation"),
            ("ALTER TABLE t ADD COLUMN a INT FIRST", "FIRST and AFTER are not supported"),
            ("ALTER TABLE t MODIFY COLUMN a INT AFTER b", "FIRST and AFTER are not supported"),
            ("ALTER TABLE t MODIFY COLUMN a INT DEFAULT 1", "use ALTER COLUMN … SET DEFAULT"),
            ("ALTER TABLE t ALTER COLUMN a TYPE INT USING a::INT", "USING is not supported"),
            ("ALTER TABLE t ALTER COLUMN a RESET", "Expected: SET NOT NULL, DROP NOT NULL, SET DEFAULT"),
            ("ALTER TABLE t SET TBLPROPERTIES ()", "SET names no option"),
            ("ALTER TABLE t SET TBLPROPERTIES (a = 1, A = 2)", "Table option 'A' is given twice"),
            ("ALTER TABLE t SET STORAGE_ID = 'a', COMPRESSION = 'zstd'", "takes one operation"),
            ("ALTER TABLE t SET STORAGE_ID =", "Expected: a string, a number or a word"),
            ("ALTER TABLE t SET FREE", "Expected: TBLPROPERTIES or ACCESS LEVEL, found: FREE"),
            ("ALTER TABLE t OWNER TO bob", "rights come from roles"),
            ("ALTER TABLE t SET SCHEMA x", "SET SCHEMA is not supported"),
            ("ALTER TABLE t ADD COLUMN a", "data type"),
            ("ALTER TABLE t ADD COLUMN a INT nonsense", "Expected: end of statement, found: nonsense"),
        ];
        for (sql, expected) in cases {
            let error = parse(sql).unwrap_err().to_string();
            assert!(error.contains(expected), "{sql}: {error}");
        }
    }
}
