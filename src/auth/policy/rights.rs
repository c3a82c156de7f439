//! The table of rights: which role may do what, on which kind of table, at which access level.
//!
//! Owns the table and its page, docs/roles.md; [`Policy`](super::Policy) decides by nothing else.
//! Never looks at a statement: `database` says which right one needs.
//! A new right is a variant and its row; a test holds the page and, over HTTP, the server to the table.

use std::fmt::Write as _;

use crate::model::{AccessLevel, Role, TableKind};

/// What is done with a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TableAction {
    Read,
    Subscribe,
    Write,
    Create,
    Alter,
    Drop,
}

/// What of a table decides who may do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TableClass {
    /// USER and STREAM: each caller has rows of their own, and these are meant.
    Own,
    Public,
    Private,
    Restricted,
    Dba,
}

impl TableClass {
    pub const ALL: [TableClass; 5] =
        [TableClass::Own, TableClass::Public, TableClass::Private, TableClass::Restricted, TableClass::Dba];

    pub fn of(kind: TableKind, access: AccessLevel) -> Self {
        match (kind, access) {
            (TableKind::User | TableKind::Stream, _) => TableClass::Own,
            (TableKind::Shared, AccessLevel::Public) => TableClass::Public,
            (TableKind::Shared, AccessLevel::Private) => TableClass::Private,
            (TableKind::Shared, AccessLevel::Restricted) => TableClass::Restricted,
            (TableKind::Shared, AccessLevel::Dba) => TableClass::Dba,
        }
    }

    fn words(self) -> &'static str {
        match self {
            TableClass::Own => "USER, STREAM: own rows",
            TableClass::Public => "SHARED, PUBLIC",
            TableClass::Private => "SHARED, PRIVATE",
            TableClass::Restricted => "SHARED, RESTRICTED",
            TableClass::Dba => "SHARED, DBA",
        }
    }
}

/// A row of the first half of the table.
#[derive(Debug, Clone, Copy)]
pub struct TableRight {
    pub action: TableAction,
    /// As a refusal says it: "role user may not *write to* table …".
    pub verb: &'static str,
    pub statements: &'static str,
    /// The least role that may, in the order of [`TableClass::ALL`].
    pub least: [Role; 5],
}

/// By the order of [`TableAction`]'s variants.
#[rustfmt::skip]
pub const TABLE_RIGHTS: [TableRight; 6] = {
    use Role::{Anonymous, Dba, Service, User};
    [
        //                                                                                          own   PUBLIC     PRIVATE  RESTRICTED DBA
        TableRight { action: TableAction::Read, verb: "read", statements: "SELECT, EXPLAIN, DESCRIBE TABLE; of SHOW TABLES and information_schema, what is listed",
            least: [User, Anonymous, Service, Service, Dba] },
        TableRight { action: TableAction::Subscribe, verb: "subscribe to", statements: "SUBSCRIBE TO, live queries",
            least: [User, Anonymous, Service, Service, Dba] },
        TableRight { action: TableAction::Write, verb: "write to", statements: "INSERT, UPDATE, DELETE, TRUNCATE",
            least: [User, Service, Service, Service, Dba] },
        TableRight { action: TableAction::Create, verb: "create", statements: "CREATE TABLE",
            least: [User, Service, Service, Service, Service] },
        // Who could alter a DBA table could lower its access level, and so read it.
        TableRight { action: TableAction::Alter, verb: "alter", statements: "ALTER TABLE, COMMENT ON",
            least: [User, Service, Service, Service, Dba] },
        TableRight { action: TableAction::Drop, verb: "drop", statements: "DROP TABLE",
            least: [Dba, Dba, Dba, Dba, Dba] },
    ]
};

/// What is done to the server rather than to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AdminAction {
    ManageNamespaces,
    ManageStorages,
    CreateUsers,
    ManageUsers,
    ManageViews,
    ManageTopics,
    Backup,
    Cluster,
    Kill,
    ReadSystemTables,
    ShowManifest,
    FlushAndCompact,
    ConsumeTopics,
}

/// A row of the second half of the table.
#[derive(Debug, Clone, Copy)]
pub struct AdminRight {
    pub action: AdminAction,
    /// As a refusal says it: "role user may not *back up or restore the database*".
    pub words: &'static str,
    pub statements: &'static str,
    pub least: Role,
}

/// By the order of [`AdminAction`]'s variants.
#[rustfmt::skip]
pub const ADMIN_RIGHTS: [AdminRight; 13] = [
    AdminRight { action: AdminAction::ManageNamespaces, words: "create, alter or drop namespaces",
        statements: "CREATE, ALTER, DROP NAMESPACE", least: Role::Dba },
    AdminRight { action: AdminAction::ManageStorages, words: "create, alter, check or drop storages",
        statements: "CREATE, ALTER, DROP STORAGE; STORAGE CHECK", least: Role::Dba },
    AdminRight { action: AdminAction::CreateUsers, words: "create users",
        statements: "CREATE USER, of the roles below", least: Role::Service },
    AdminRight { action: AdminAction::ManageUsers, words: "create, alter or drop users",
        statements: "ALTER USER of others; DROP USER", least: Role::Dba },
    AdminRight { action: AdminAction::ManageViews, words: "create or drop views",
        statements: "CREATE, DROP VIEW", least: Role::Dba },
    AdminRight { action: AdminAction::ManageTopics, words: "create, alter, clear or drop topics",
        statements: "CREATE, ALTER, CLEAR, DROP TOPIC", least: Role::Dba },
    AdminRight { action: AdminAction::Backup, words: "back up or restore the database",
        statements: "BACKUP DATABASE, RESTORE DATABASE", least: Role::Dba },
    AdminRight { action: AdminAction::Cluster, words: "run cluster statements",
        statements: "CLUSTER", least: Role::Dba },
    AdminRight { action: AdminAction::Kill, words: "stop other people's queries and jobs",
        statements: "KILL LIVE QUERY, KILL JOB; cursors and EXPLAIN LIVE of others", least: Role::Dba },
    AdminRight { action: AdminAction::ReadSystemTables, words: "read system tables",
        statements: "SELECT of system.*", least: Role::Dba },
    AdminRight { action: AdminAction::ShowManifest, words: "see the manifest",
        statements: "SHOW MANIFEST", least: Role::Dba },
    AdminRight { action: AdminAction::FlushAndCompact, words: "flush or compact tables",
        statements: "STORAGE FLUSH, STORAGE COMPACT", least: Role::Service },
    AdminRight { action: AdminAction::ConsumeTopics, words: "consume or acknowledge topics",
        statements: "CONSUME, ACK, /v1/api/topics/…", least: Role::Service },
];

/// What a role may do with other users. `None`: nothing.
#[derive(Debug, Clone, Copy)]
pub struct UserRight {
    pub role: Role,
    /// The highest role of users it may create.
    pub creates: Option<Role>,
    /// The highest role of users it may alter, drop, or raise a user to.
    pub changes: Option<Role>,
    /// The highest role of users it may act for with EXECUTE AS USER. For oneself everyone may.
    pub acts_for: Option<Role>,
    /// EXECUTE AS USER '*'.
    pub acts_for_all: bool,
}

/// From the least role to the highest.
#[rustfmt::skip]
pub const USER_RIGHTS: [UserRight; 5] = [
    UserRight { role: Role::Anonymous, creates: None, changes: None, acts_for: None, acts_for_all: false },
    UserRight { role: Role::User, creates: None, changes: None, acts_for: None, acts_for_all: false },
    UserRight { role: Role::Service, creates: Some(Role::User), changes: None, acts_for: Some(Role::User), acts_for_all: true },
    UserRight { role: Role::Dba, creates: Some(Role::Dba), changes: Some(Role::Dba), acts_for: Some(Role::Service), acts_for_all: true },
    UserRight { role: Role::System, creates: Some(Role::System), changes: Some(Role::System), acts_for: Some(Role::System), acts_for_all: true },
];

/// What everybody may who is logged in, with their own things only.
pub const EVERYONE: &str = "USE, SHOW NAMESPACES, SHOW STORAGES (without credentials), SHOW CURSORS, DROP CURSOR, \
                            EXPLAIN LIVE, EXPORT USER DATA, SHOW EXPORT, ALTER USER of oneself with the CURRENT password, \
                            and EXECUTE AS USER of oneself";

/// The row of a table's right.
pub(super) fn of_table(action: TableAction) -> &'static TableRight {
    &TABLE_RIGHTS[action as usize]
}

/// The least role that may do it.
pub fn least_on(action: TableAction, class: TableClass) -> Role {
    of_table(action).least[class as usize]
}

/// The row of an administrative right.
pub fn of_admin(action: AdminAction) -> &'static AdminRight {
    &ADMIN_RIGHTS[action as usize]
}

/// What `role` may do with other users.
pub fn over_users(role: Role) -> &'static UserRight {
    &USER_RIGHTS[role as usize]
}

const PAGE_HEAD: &str = "\
# Roles and rights

Made by `inboxdb roles` of the table by which the server decides (src/auth/policy/rights.rs); do not edit this page.

A role may what every lesser role may: anonymous < user < service < dba < system. Whatever the role, a statement reads and
writes the caller's own rows of USER and STREAM tables; those of others are reached through EXECUTE AS USER only, as whom
a statement has the rights of role user. A change of a user's role, a lock, a drop and a logout act at once, on open sockets
too.
";

/// docs/roles.md.
pub fn page() -> String {
    let roles = USER_RIGHTS.map(|right| right.role);
    let columns: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    let head = |first: &str, second: &str| {
        format!("\n| {first} | {second} | {} |\n|---|---|{}\n", columns.join(" | "), "---|".repeat(roles.len()))
    };
    let marks = |least: Role| roles.map(|role| if role >= least { "yes" } else { "" }).join(" | ");
    let mut text = format!("{PAGE_HEAD}\n## Tables\n{}", head("statements", "tables"));
    for right in TABLE_RIGHTS {
        for class in TableClass::ALL {
            let least = least_on(right.action, class);
            let _ = writeln!(text, "| {} | {} | {} |", right.statements, class.words(), marks(least));
        }
    }
    let _ = write!(text, "\n## The server\n{}", head("statements", "that is"));
    for right in ADMIN_RIGHTS {
        let _ = writeln!(text, "| {} | {} | {} |", right.statements, right.words, marks(right.least));
    }
    text += "\n## Other users\n\n| role | may create users up to | may alter and drop users up to | may act for users up to | for all users ('*') |\n|---|---|---|---|---|\n";
    for right in USER_RIGHTS {
        let up_to = |role: Option<Role>| role.map_or("nobody", Role::as_str);
        let all = if right.acts_for_all { "yes" } else { "" };
        let (creates, changes, acts_for) = (up_to(right.creates), up_to(right.changes), up_to(right.acts_for));
        let _ = writeln!(text, "| {} | {creates} | {changes} | {acts_for} | {all} |", right.role);
    }
    let _ = writeln!(text, "\n## Everyone\n\nWhoever is logged in may: {EVERYONE}.");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_what_they_are_found_by() {
        for (at, right) in TABLE_RIGHTS.iter().enumerate() {
            assert_eq!(right.action as usize, at);
        }
        for (at, right) in ADMIN_RIGHTS.iter().enumerate() {
            assert_eq!(right.action as usize, at);
        }
        for (at, right) in USER_RIGHTS.iter().enumerate() {
            assert_eq!(right.role as usize, at);
        }
        for (at, class) in TableClass::ALL.iter().enumerate() {
            assert_eq!(*class as usize, at);
        }
    }

    #[test]
    fn the_page_is_that_of_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/roles.md");
        let stored = std::fs::read_to_string(path).unwrap_or_default();
        assert!(stored == page(), "docs/roles.md is stale: inboxdb roles > docs/roles.md");
    }
}
