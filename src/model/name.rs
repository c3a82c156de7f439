//! Names and ids.
//!
//! Owns which names are allowed. Every name is checked once, where it enters; afterwards its type says it is good.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Names no user may give to a namespace: they are ours, or SQL tools attach a meaning to them.
const RESERVED_NAMESPACES: &[&str] = &[
    "system",
    "sys",
    "root",
    "inboxdb",
    "kalamdb",
    "kalam",
    "main",
    "default",
    "sql",
    "admin",
    "internal",
    "information_schema",
    "pg_catalog",
    "datafusion",
];

const RESERVED_COLUMNS: &[&str] = &[
    "_seq",
    "_deleted",
    "_id",
    "_row_id",
    "_rowid",
    "_key",
    "_updated",
    "_created",
    "_timestamp",
    "_version",
    "_hash",
];

/// Where the server keeps tables of its own; anyone who may has others there, too.
const DBA_NAMESPACE: &str = "dba";

const BUILT_IN_TABLES: &[&str] = &["notifications", "stats"];

const LOCAL_STORAGE: &str = "local";

const NAMESPACE_MAX: usize = 32;
const NAME_MAX: usize = 64;
const USER_ID_MAX: usize = 128;

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::stored(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_type! {
    /// A namespace: 1 to 32 letters, digits or underscores, a letter first; stored in lower case.
    NamespaceName
}
text_type! {
    /// A column: 1 to 64 letters, digits or underscores; no leading digit or underscore; stored in lower case.
    ColumnName
}
text_type! {
    /// A user id, which is also the user's name: 1 to 128 bytes, without `/`, `\`, `..`, NUL and other control characters.
    UserId
}
text_type! {
    /// A storage: named like a table, stored in lower case.
    StorageId
}

impl NamespaceName {
    /// A name that a user wishes to create or to look up.
    ///
    /// # Errors
    /// `INVALID_NAME`: the rule that the name breaks.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let lower = text.to_ascii_lowercase();
        let fault = if lower.is_empty() {
            "it is empty".to_owned()
        } else if lower.len() > NAMESPACE_MAX {
            format!("it has {} characters; {NAMESPACE_MAX} are allowed", lower.len())
        } else if !lower.starts_with(|c: char| c.is_ascii_alphabetic()) {
            "it must start with a letter".to_owned()
        } else if let Some(bad) = bad_identifier_char(&lower) {
            format!("'{bad}' is not a letter, a digit or an underscore")
        } else {
            return Ok(Self(lower.into()));
        };
        Err(Error::InvalidName { what: "namespace", name: text.to_owned(), fault })
    }

    /// A name for a new namespace: also refuses the reserved ones.
    ///
    /// # Errors
    /// `INVALID_NAME`.
    pub fn parse_new(text: &str) -> Result<Self, Error> {
        let name = Self::parse(text)?;
        if RESERVED_NAMESPACES.contains(&name.as_str()) {
            return Err(Error::InvalidName {
                what: "namespace",
                name: text.to_owned(),
                fault: "it is reserved; choose another name".to_owned(),
            });
        }
        Ok(name)
    }

    /// For names built into the program.
    pub fn built_in(text: &'static str) -> Self {
        Self(text.into())
    }

    /// The namespace of the tables that the server makes for itself.
    pub fn dba() -> Self {
        Self(DBA_NAMESPACE.into())
    }

    fn stored(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl ColumnName {
    /// # Errors
    /// `INVALID_NAME`: the rule that the name breaks.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let lower = text.to_ascii_lowercase();
        if RESERVED_COLUMNS.contains(&lower.as_str()) {
            let fault = "it is reserved for the database itself".to_owned();
            return Err(Error::InvalidName { what: "column", name: text.to_owned(), fault });
        }
        check_name("column", text, &lower)?;
        Ok(Self(lower.into()))
    }

    fn stored(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl UserId {
    /// # Errors
    /// `INVALID_NAME`: the rule that the id breaks.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let fault = if text.is_empty() {
            "it is empty".to_owned()
        } else if text.len() > USER_ID_MAX {
            format!("it has {} bytes; {USER_ID_MAX} are allowed", text.len())
        } else if text.contains("..") {
            "it contains '..'".to_owned()
        } else if let Some(bad) = text.chars().find(|c| matches!(c, '/' | '\\' | '*') || c.is_control()) {
            format!("it contains {bad:?}")
        } else if text.trim() != text {
            "it starts or ends with white space".to_owned()
        } else {
            return Ok(Self(text.into()));
        };
        Err(Error::InvalidName { what: "user", name: text.to_owned(), fault })
    }

    /// The built-in administrator.
    pub fn root() -> Self {
        Self("root".into())
    }

    fn stored(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl StorageId {
    /// # Errors
    /// `INVALID_NAME`: the rule that the name breaks.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let lower = text.to_ascii_lowercase();
        check_name("storage", text, &lower)?;
        Ok(Self(lower.into()))
    }

    /// The built-in one, where rows lie until another is named.
    pub fn local() -> Self {
        Self(LOCAL_STORAGE.into())
    }

    pub fn is_local(&self) -> bool {
        self.as_str() == LOCAL_STORAGE
    }

    fn stored(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

/// `namespace.table`, both checked and in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    namespace: NamespaceName,
    table: Arc<str>,
}

impl TableName {
    /// # Errors
    /// `INVALID_NAME`: the rule that the table's name breaks.
    pub fn new(namespace: NamespaceName, table: &str) -> Result<Self, Error> {
        let lower = table.to_ascii_lowercase();
        check_name("table", table, &lower)?;
        Ok(Self { namespace, table: lower.into() })
    }

    pub fn namespace(&self) -> &NamespaceName {
        &self.namespace
    }

    pub fn table(&self) -> &str {
        &self.table
    }

    /// One of those that the server makes for itself.
    pub fn is_built_in(&self) -> bool {
        self.namespace.as_str() == DBA_NAMESPACE && BUILT_IN_TABLES.contains(&self.table())
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.namespace, self.table)
    }
}

fn bad_identifier_char(text: &str) -> Option<char> {
    text.chars().find(|c| !(c.is_ascii_alphanumeric() || *c == '_'))
}

fn check_name(what: &'static str, given: &str, lower: &str) -> Result<(), Error> {
    let fault = if lower.is_empty() {
        "it is empty".to_owned()
    } else if lower.chars().count() > NAME_MAX {
        format!("it has {} characters; {NAME_MAX} are allowed", lower.chars().count())
    } else if lower.starts_with('_') {
        "it must not start with an underscore; such names are kept for the database itself".to_owned()
    } else if lower.starts_with(|c: char| c.is_ascii_digit()) {
        "it must not start with a digit".to_owned()
    } else if let Some(bad) = bad_identifier_char(lower) {
        format!("'{bad}' is not a letter, a digit or an underscore")
    } else {
        return Ok(());
    };
    Err(Error::InvalidName { what, name: given.to_owned(), fault })
}

/// A table's number: the first bytes of each of its keys. Never used again after a DROP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TableId(pub u32);

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whose rows: one user's, or the one reserved owner of a SHARED table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    Shared,
    User(UserId),
}

impl Owner {
    /// The owner's bytes in keys, and its text in the all-owners feed: empty for [`Owner::Shared`], which no user id is.
    pub fn as_str(&self) -> &str {
        match self {
            Owner::Shared => "",
            Owner::User(user) => user.as_str(),
        }
    }

    /// `None`: of a SHARED table.
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Owner::Shared => None,
            Owner::User(user) => Some(user),
        }
    }

    /// The inverse of [`Owner::as_str`]; `None` for text that no owner has.
    pub fn from_stored(text: &str) -> Option<Self> {
        if text.is_empty() { Some(Owner::Shared) } else { UserId::parse(text).ok().map(Owner::User) }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Owner::Shared { "(shared)" } else { self.as_str() })
    }
}

/// One table's rows of one owner: the unit of order, isolation, flush, export and erasure.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    pub table: TableId,
    pub owner: Owner,
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.table, self.owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_rule_a_name_breaks() {
        let cases = [
            (NamespaceName::parse_new("system").unwrap_err(), "reserved"),
            (NamespaceName::parse("9lives").unwrap_err(), "start with a letter"),
            (NamespaceName::parse(&"n".repeat(33)).unwrap_err(), "32 are allowed"),
            (ColumnName::parse("_seq").unwrap_err(), "reserved"),
            (ColumnName::parse("a-b").unwrap_err(), "'-' is not a letter"),
            (StorageId::parse("a-b").unwrap_err(), "'-' is not a letter"),
            (UserId::parse("a/b").unwrap_err(), "'/'"),
            (UserId::parse("../x").unwrap_err(), "'..'"),
            (UserId::parse("").unwrap_err(), "empty"),
        ];
        for (error, expected) in cases {
            assert!(error.to_string().contains(expected), "{error} should say {expected}");
        }
    }

    #[test]
    fn names_are_stored_in_lower_case() {
        assert_eq!(NamespaceName::parse("Chat").unwrap().as_str(), "chat");
        assert_eq!(ColumnName::parse("Body").unwrap().as_str(), "body");
        assert_eq!(UserId::parse("Alice").unwrap().as_str(), "Alice", "a user id keeps its case");
    }
}
