//! CREATE, ALTER and DROP STORAGE, and what begins with the word STORAGE.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::StatementParser;
use super::source::is_quoted;
use crate::error::{Error, Result};
use crate::model::storage::UnknownStorageKind;
use crate::model::{StorageId, StorageKind};
use crate::sql::statement::{AlterStorage, ColdWork, CreateStorage, SecretText, Statement, StorageSettings};

/// The words that say where a storage is.
const PLACES: &[&str] = &["PATH", "BASE_DIRECTORY", "BUCKET"];

const SETTINGS: &str = "NAME, DESCRIPTION, SHARED_TABLES_TEMPLATE, USER_TABLES_TEMPLATE, CONFIG or CREDENTIALS";

impl StatementParser<'_> {
    /// From the word STORAGE on.
    pub(super) fn create_storage(&mut self) -> Result<Statement> {
        self.expect_word("STORAGE")?;
        let id = self.storage_id()?;
        let (mut kind, mut place, mut region) = (None, None, None);
        let mut settings = StorageSettings::default();
        while let Some(word) = self.peek_word().map(str::to_ascii_uppercase) {
            if word == "TYPE" {
                self.parser.advance_token();
                self.skip_equals();
                let text = self.name_or_string("a type of storage")?;
                let parsed = text.parse().map_err(|unknown: UnknownStorageKind| Error::InvalidSql(unknown.to_string()));
                once(&mut kind, parsed?, &word)?;
            } else if PLACES.contains(&word.as_str()) {
                let text = self.clause("the storage's place in single quotes")?;
                let message = "PATH, BASE_DIRECTORY and BUCKET say where the storage is; say one of them, once";
                if place.replace((word, text)).is_some() {
                    return Err(Error::InvalidSql(message.to_owned()));
                }
            } else if word == "REGION" {
                let text = self.clause("a region in single quotes")?;
                once(&mut region, text, &word)?;
            } else if !self.storage_setting(&mut settings)? {
                return Err(self.expected(&format!("TYPE, PATH, BASE_DIRECTORY, BUCKET, REGION, {SETTINGS}")));
            }
        }
        self.refuse_stray_text()?;
        let Some(kind) = kind else { return Err(self.expected("TYPE filesystem, s3, gcs or azure")) };
        let Some((word, place)) = place else {
            return Err(self.expected(match kind {
                StorageKind::Filesystem => "PATH '…' or BASE_DIRECTORY '…'",
                StorageKind::S3 => "BUCKET '…' or BASE_DIRECTORY 's3://…'",
                StorageKind::Gcs => "BASE_DIRECTORY 'gs://…'",
                StorageKind::Azure => "BASE_DIRECTORY 'az://…'",
            }));
        };
        let extra = match kind {
            StorageKind::Filesystem if word == "BUCKET" => Some("BUCKET"),
            StorageKind::S3 | StorageKind::Gcs | StorageKind::Azure if word == "PATH" => Some("PATH"),
            StorageKind::Filesystem | StorageKind::Gcs | StorageKind::Azure if region.is_some() => Some("REGION"),
            _ => None,
        };
        if let Some(extra) = extra {
            return Err(Error::InvalidSql(format!("A storage of type {} has no {extra}", kind.as_str())));
        }
        Ok(Statement::CreateStorage(Box::new(CreateStorage { id, kind, place, region, settings })))
    }

    /// From the word STORAGE on.
    pub(super) fn alter_storage(&mut self) -> Result<Statement> {
        self.expect_word("STORAGE")?;
        let id = self.storage_id()?;
        let mut settings = StorageSettings::default();
        self.expect_word("SET")?;
        loop {
            if !self.storage_setting(&mut settings)? {
                return Err(self.expected_near_secret(SETTINGS));
            }
            // `SET a '…' SET b '…'`, or with commas.
            let comma = self.parser.consume_token(&Token::Comma);
            if !self.accept_word("SET") && !comma {
                break;
            }
        }
        self.refuse_stray_text()?;
        Ok(Statement::AlterStorage(Box::new(AlterStorage { id, settings })))
    }

    /// From the word STORAGE on.
    pub(super) fn drop_storage(&mut self) -> Result<Statement> {
        self.expect_word("STORAGE")?;
        let if_exists = self.accept_words(&["IF", "EXISTS"]);
        Ok(Statement::DropStorage { id: self.storage_id()?, if_exists })
    }

    /// What follows the word STORAGE at a statement's beginning.
    pub(super) fn storage(&mut self) -> Result<Statement> {
        self.expect_word("STORAGE")?;
        if self.accept_word("CHECK") {
            let id = self.storage_id()?;
            return Ok(Statement::CheckStorage { id, extended: self.accept_word("EXTENDED") });
        }
        for (verb, work) in [("FLUSH", ColdWork::Flush), ("COMPACT", ColdWork::Compact)] {
            if self.accept_word(verb) {
                return self.maintain_storage(work);
            }
        }
        Err(self.expected("CHECK, FLUSH or COMPACT"))
    }

    /// Reads a setting and its value; `false` where none is next.
    fn storage_setting(&mut self, settings: &mut StorageSettings) -> Result<bool> {
        let Some(word) = self.peek_word().map(str::to_ascii_uppercase) else { return Ok(false) };
        let slot = match word.as_str() {
            "NAME" => &mut settings.name,
            "DESCRIPTION" => &mut settings.description,
            "SHARED_TABLES_TEMPLATE" => &mut settings.shared_template,
            "USER_TABLES_TEMPLATE" => &mut settings.user_template,
            "CONFIG" => &mut settings.config,
            "CREDENTIALS" => {
                let text = SecretText::new(self.clause("a JSON object in single quotes")?);
                once(&mut settings.credentials, text, &word)?;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        let text = self.clause("a text in single quotes")?;
        once(slot, text, &word)?;
        Ok(true)
    }

    /// A word, perhaps `=`, and a text.
    fn clause(&mut self, what: &str) -> Result<String> {
        self.parser.advance_token();
        self.skip_equals();
        self.string_opt().ok_or_else(|| self.expected_near_secret(what))
    }

    /// A text that belongs to no clause may be a secret: whoever parses on would repeat it.
    fn refuse_stray_text(&self) -> Result<()> {
        match is_quoted(&self.parser.peek_token_ref().token) {
            true => Err(self.expected_near_secret("end of statement")),
            false => Ok(()),
        }
    }

    fn expected_near_secret(&self, what: &str) -> Error {
        self.source.expected_near_secret(what, self.parser.peek_token_ref())
    }

    pub(super) fn skip_equals(&mut self) {
        if self.at(&Token::Eq) {
            self.parser.advance_token();
        }
    }

    pub(super) fn storage_id(&mut self) -> Result<StorageId> {
        self.skip_equals();
        StorageId::parse(&self.name_or_string("a storage's name")?)
    }
}

fn once<T>(slot: &mut Option<T>, value: T, word: &str) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::InvalidSql(format!("{word} is given twice"))),
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::parse::parse;

    fn shown(sql: &str) -> String {
        format!("{:?}", parse(sql).unwrap_or_else(|e| panic!("{sql}: {e}")).remove(0).statement)
    }

    #[test]
    fn clauses_come_in_any_order() {
        let nothing = "name: None, description: None, shared_template: None, user_template: None, config: None, \
                       credentials: None";
        let cases = [
            (
                "CREATE STORAGE Archive TYPE filesystem PATH '/srv/cold'",
                format!(
                    "CreateStorage(CreateStorage {{ id: StorageId(\"archive\"), kind: Filesystem, place: \"/srv/cold\", \
                     region: None, settings: StorageSettings {{ {nothing} }} }})"
                ),
            ),
            (
                "create storage b bucket 'x' region 'eu-1' type = 's3' credentials = '{\"access_key_id\":\"A\"}'",
                "CreateStorage(CreateStorage { id: StorageId(\"b\"), kind: S3, place: \"x\", region: Some(\"eu-1\"), \
                 settings: StorageSettings { name: None, description: None, shared_template: None, user_template: None, \
                 config: None, credentials: Some(***) } })"
                    .to_owned(),
            ),
            (
                "ALTER STORAGE b SET NAME 'N' SET CONFIG '{}'",
                "AlterStorage(AlterStorage { id: StorageId(\"b\"), settings: StorageSettings { name: Some(\"N\"), \
                 description: None, shared_template: None, user_template: None, config: Some(\"{}\"), credentials: None } })"
                    .to_owned(),
            ),
            ("DROP STORAGE IF EXISTS b", "DropStorage { id: StorageId(\"b\"), if_exists: true }".to_owned()),
            ("STORAGE CHECK 'b' EXTENDED", "CheckStorage { id: StorageId(\"b\"), extended: true }".to_owned()),
            ("SHOW STORAGES", "ShowStorages".to_owned()),
            (
                "STORAGE FLUSH TABLE a.b",
                "MaintainStorage { work: Flush, scope: Table(TableRef { namespace: Some(\"a\"), table: \"b\" }) }".to_owned(),
            ),
            ("STORAGE FLUSH ALL", "MaintainStorage { work: Flush, scope: Namespace(None) }".to_owned()),
            (
                "STORAGE COMPACT ALL IN NAMESPACE n",
                "MaintainStorage { work: Compact, scope: Namespace(Some(NamespaceName(\"n\"))) }".to_owned(),
            ),
        ];
        for (sql, expected) in cases {
            assert_eq!(shown(sql), expected, "{sql}");
        }
        let commas = "ALTER STORAGE b SET NAME = 'N', DESCRIPTION 'D', SET USER_TABLES_TEMPLATE 'T'";
        assert!(shown(commas).contains("description: Some(\"D\")"));
    }

    #[test]
    fn what_else_is_said_has_its_own_answer() {
        let cases = [
            ("CREATE STORAGE s", "Expected: TYPE filesystem, s3, gcs or azure, found: EOF"),
            ("CREATE STORAGE s TYPE ftp PATH '/x'", "Unknown storage type 'ftp'"),
            ("CREATE STORAGE s TYPE s3", "Expected: BUCKET '…' or BASE_DIRECTORY 's3://…', found: EOF"),
            ("CREATE STORAGE s TYPE gcs", "BASE_DIRECTORY 'gs://…'"),
            ("CREATE STORAGE s TYPE azure", "BASE_DIRECTORY 'az://…'"),
            ("CREATE STORAGE s TYPE filesystem", "PATH '…' or BASE_DIRECTORY '…'"),
            ("CREATE STORAGE s TYPE s3 PATH '/x'", "A storage of type s3 has no PATH"),
            ("CREATE STORAGE s TYPE gcs BUCKET 'x' REGION 'y'", "A storage of type gcs has no REGION"),
            ("CREATE STORAGE s TYPE filesystem BUCKET 'x'", "A storage of type filesystem has no BUCKET"),
            ("CREATE STORAGE s TYPE filesystem PATH '/x' REGION 'y'", "A storage of type filesystem has no REGION"),
            ("CREATE STORAGE s TYPE s3 BUCKET 'x' BUCKET 'y'", "say one of them, once"),
            ("CREATE STORAGE s TYPE s3 TYPE gcs BUCKET 'x'", "TYPE is given twice"),
            ("CREATE STORAGE s TYPE s3 BUCKET x", "the storage's place in single quotes"),
            ("CREATE STORAGE s TYPE s3 BUCKET 'x' ENDPOINT 'y'", "Expected: TYPE, PATH, BASE_DIRECTORY"),
            ("CREATE STORAGE 9s TYPE s3 BUCKET 'x'", "a storage's name"),
            ("ALTER STORAGE s SET", "Expected: NAME, DESCRIPTION"),
            ("ALTER STORAGE s SET NAME 'a' SET NAME 'b'", "NAME is given twice"),
            ("ALTER STORAGE s SET TYPE 's3'", "Expected: NAME, DESCRIPTION"),
            ("ALTER STORAGE s SET NAME 'a',", "Expected: NAME, DESCRIPTION"),
            ("STORAGE FLUSH t", "Expected: TABLE or ALL, found: t"),
            ("STORAGE COMPACT ALL OF x", "Expected: end of statement"),
            ("CREATE STORAGE s TYPE s3 BUCKET 'b' 'hunter2'", "Expected: end of statement, found: a quoted text"),
            ("CREATE STORAGE s TYPE s3 BUCKET 'b' CREDENTIALS \"hunter2\"", "single quotes, found: a quoted text"),
            ("CREATE STORAGE s TYPE s3 BUCKET 'b' CREDENTIALS 'a' $$hunter2$$", "found: a quoted text"),
            ("ALTER STORAGE s SET CREDENTIALS 'a' 'hunter2'", "found: a quoted text"),
            ("ALTER STORAGE s SET 'hunter2'", "found: a quoted text"),
            ("ALTER STORAGE s SET CREDENTIALS E'hunter2'", "found: a quoted text"),
            ("STORAGE WIPE s", "Expected: CHECK, FLUSH or COMPACT, found: WIPE"),
        ];
        for (sql, expected) in cases {
            let error = parse(sql).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{sql}: {error}");
        }
    }
}
