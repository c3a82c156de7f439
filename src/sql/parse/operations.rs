//! BACKUP, RESTORE and EXPORT.

use super::StatementParser;
use crate::error::Result;
use crate::sql::statement::Statement;

impl StatementParser<'_> {
    /// `BACKUP DATABASE TO 'folder'`.
    pub(super) fn backup(&mut self) -> Result<Statement> {
        self.expect_word("BACKUP")?;
        self.expect_word("DATABASE")?;
        self.expect_word("TO")?;
        Ok(Statement::BackupDatabase { to: self.string("a folder in single quotes")? })
    }

    /// `RESTORE DATABASE FROM 'folder'`.
    pub(super) fn restore(&mut self) -> Result<Statement> {
        self.expect_word("RESTORE")?;
        self.expect_word("DATABASE")?;
        self.expect_word("FROM")?;
        Ok(Statement::RestoreDatabase { from: self.string("a folder in single quotes")? })
    }

    /// `EXPORT USER DATA`.
    pub(super) fn export(&mut self) -> Result<Statement> {
        self.expect_word("EXPORT")?;
        self.expect_word("USER")?;
        self.expect_word("DATA")?;
        Ok(Statement::ExportUserData)
    }
}
