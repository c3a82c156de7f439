//! CREATE, ALTER and DROP USER, and EXECUTE AS USER.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::{Nesting, StatementParser};
use crate::error::{Error, Result};
use crate::model::{Role, StorageMode, UserId, UserStorage};
use crate::sql::statement::{ExecuteTarget, Statement, UserChange, UserSecret};

impl StatementParser<'_> {
    /// From the word USER on.
    pub(super) fn create_user(&mut self) -> Result<Statement> {
        self.expect_word("USER")?;
        let name = self.user_id()?;
        self.accept_word("WITH");
        let secret = if self.accept_word("PASSWORD") {
            UserSecret::Password(self.string("a password in single quotes")?)
        } else if self.accept_word("INTERNAL") {
            UserSecret::Internal
        } else if self.peek_is("OAUTH") {
            return Err(Error::Unsupported("CREATE USER … WITH OAUTH is not supported yet".to_owned()));
        } else {
            return Err(self.expected("WITH PASSWORD '…' or WITH INTERNAL"));
        };
        self.expect_word("ROLE")?;
        let role = self.role()?;
        let email = match self.accept_word("EMAIL") {
            true => Some(self.string("an e-mail address in single quotes")?),
            false => None,
        };
        let mut storage = UserStorage::default();
        if self.accept_word("STORAGE_MODE") {
            storage.mode = Some(self.storage_mode()?);
        }
        if self.accept_word("STORAGE_ID") {
            storage.storage = Some(self.storage_id()?);
        }
        Ok(Statement::CreateUser { name, secret, role, email, storage })
    }

    /// From the word USER on.
    pub(super) fn alter_user(&mut self) -> Result<Statement> {
        self.expect_word("USER")?;
        let name = self.user_id()?;
        if self.accept_word("RESTORE") {
            return Ok(Statement::AlterUser { name, change: UserChange::Restore });
        }
        if !self.accept_word("SET") {
            return Err(self.expected("SET or RESTORE"));
        }
        let change = if self.accept_word("PASSWORD") {
            let new = self.string("a password in single quotes")?;
            let current = match self.accept_word("CURRENT") {
                true => Some(self.string("the current password in single quotes")?),
                false => None,
            };
            UserChange::SetPassword { new, current }
        } else if self.accept_word("ROLE") {
            UserChange::SetRole(self.role()?)
        } else if self.accept_word("EMAIL") {
            UserChange::SetEmail(self.string("an e-mail address in single quotes")?)
        } else if self.accept_word("STORAGE_MODE") {
            UserChange::SetStorage(UserStorage { mode: Some(self.storage_mode()?), storage: None })
        } else if self.accept_word("STORAGE_ID") {
            UserChange::SetStorage(UserStorage { mode: None, storage: Some(self.storage_id()?) })
        } else {
            return Err(self.expected("PASSWORD, ROLE, EMAIL, STORAGE_MODE or STORAGE_ID"));
        };
        Ok(Statement::AlterUser { name, change })
    }

    /// From the word USER on.
    pub(super) fn drop_user(&mut self) -> Result<Statement> {
        self.expect_word("USER")?;
        let if_exists = self.accept_words(&["IF", "EXISTS"]);
        Ok(Statement::DropUser { name: self.user_id()?, if_exists })
    }

    pub(super) fn execute_as(&mut self) -> Result<Statement> {
        self.expect_word("EXECUTE")?;
        self.expect_word("AS")?;
        self.expect_word("USER")?;
        let target = match self.name_or_string("a user's name, or '*'")?.as_str() {
            "*" => ExecuteTarget::All,
            name => ExecuteTarget::One(UserId::parse(name)?),
        };
        self.expect(&Token::LParen)?;
        let inner = Box::new(self.parsed_statement(Nesting::ExecuteAs)?);
        if self.at(&Token::SemiColon) {
            self.parser.advance_token();
        }
        self.expect(&Token::RParen)?;
        Ok(Statement::ExecuteAs { target, inner })
    }

    /// As written: ids keep their case, unlike names of tables.
    fn user_id(&mut self) -> Result<UserId> {
        UserId::parse(&self.name_or_string("a user's name")?)
    }

    fn storage_mode(&mut self) -> Result<StorageMode> {
        self.skip_equals();
        let mode = self.name_or_string("a storage mode")?;
        mode.parse().map_err(|unknown: crate::model::UnknownStorageMode| Error::InvalidSql(unknown.to_string()))
    }

    fn role(&mut self) -> Result<Role> {
        let role = self.name_or_string("a role")?;
        role.parse().map_err(|unknown: crate::model::principal::UnknownRole| Error::InvalidSql(unknown.to_string()))
    }
}
