//! The only home of access rules.
//!
//! Owns the words for those who may not; who may is in the table of [`rights`]. Stateless: a decision needs the principal,
//! and what the statement is about, nothing else.
//! Never looks anything up: roles of other users and facts about tables come in as arguments.
//! Invariant: LQ-3, no statement reads or writes another owner's partition except through [`Policy::may_execute_as`].
//! Start at [`Policy::authorize_write`].

pub mod rights;

use std::fmt;

use crate::error::{Error, Result};
use crate::model::{
    AccessLevel, Catalog, NamespaceName, OnConflict, Principal, Role, TableKind, TableMeta, TableName, UserId,
    ViewMeta, WriteCommand,
};
pub use rights::{AdminAction, TableAction, TableClass};

/// Namespaces that hold no table of a user.
const BUILT_IN_NAMESPACES: &[&str] = &["system", "sys", "information_schema", "pg_catalog"];

/// A command that its principal may run. Only [`Policy`] makes one.
#[derive(Debug, Clone)]
pub struct Authorized<T> {
    command: T,
    principal: Principal,
}

impl<T> Authorized<T> {
    pub fn command(&self) -> &T {
        &self.command
    }

    /// What is done, and for whom.
    pub fn into_parts(self) -> (T, Principal) {
        (self.command, self.principal)
    }

    pub fn principal(&self) -> &Principal {
        &self.principal
    }
}

impl Authorized<WriteCommand> {
    /// The same rows by the same principal: what becomes of conflicts is asked once more.
    pub fn on_conflict(mut self, on_conflict: OnConflict) -> Self {
        self.command.on_conflict = on_conflict;
        self
    }
}

/// Whose rows an `EXECUTE AS USER` statement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecuteAs<'a> {
    /// `EXECUTE AS USER 'name'`: a live user, as they would come themselves.
    One(&'a Principal),
    /// `EXECUTE AS USER '*'`: the rows of all users of a USER table, read-only.
    All,
}

impl fmt::Display for ExecuteAs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Not the target's role: those who are refused need not learn it.
            ExecuteAs::One(target) => write!(f, "user '{}'", target.user),
            ExecuteAs::All => f.write_str("all users ('*')"),
        }
    }
}

/// Decides.
#[derive(Debug, Clone, Copy, Default)]
pub struct Policy;

impl Policy {
    /// # Errors
    /// `PERMISSION_DENIED`: the table is not writable to the role, or the rows are another user's.
    pub fn authorize_write(&self, principal: &Principal, command: WriteCommand) -> Result<Authorized<WriteCommand>> {
        let table = &*command.table;
        may_on(principal, TableAction::Write, table)?;
        if command.owner != table.owner_of(principal) {
            return Err(Error::PermissionDenied(format!(
                "rows of {} in {} are not yours; EXECUTE AS USER reaches them for those who may",
                command.owner, table.name
            )));
        }
        Ok(Authorized { command, principal: principal.clone() })
    }

    /// May `principal` read their own rows of a USER table, or a SHARED table?
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub fn may_read(&self, principal: &Principal, table: &TableMeta) -> Result<()> {
        may_on(principal, TableAction::Read, table)
    }

    /// [`Policy::may_read`] without words: what lists of tables and completions show.
    pub fn sees(&self, principal: &Principal, table: &TableMeta) -> bool {
        principal.role >= least(TableAction::Read, table)
    }

    /// Is the view to be in lists? Where all that it reads is: its text tells of it. `catalog`: what it reads is in there.
    pub fn sees_view(&self, principal: &Principal, catalog: &Catalog, view: &ViewMeta) -> bool {
        if view.reads_system && self.may_read_system(principal).is_err() {
            return false;
        }
        // Views read what was there before them, so this ends; what is missing can not be read.
        view.reads.iter().all(|name| {
            let (namespace, name) = (name.namespace().as_str(), name.table());
            match (catalog.find(namespace, name), catalog.find_view(namespace, name)) {
                (Some(table), _) => self.sees(principal, table),
                (None, Some(below)) => self.sees_view(principal, catalog, below),
                (None, None) => false,
            }
        })
    }

    /// # Errors
    /// `PERMISSION_DENIED`: who may read may subscribe.
    pub fn may_subscribe(&self, principal: &Principal, table: &TableMeta) -> Result<()> {
        may_on(principal, TableAction::Subscribe, table)
    }

    /// # Errors
    /// `PERMISSION_DENIED`.
    pub fn may_read_system(&self, principal: &Principal) -> Result<()> {
        self.may_administer(principal, AdminAction::ReadSystemTables)
    }

    /// # Errors
    /// `PERMISSION_DENIED`.
    pub fn may_create_table(&self, principal: &Principal, kind: TableKind, namespace: &NamespaceName) -> Result<()> {
        let words = match kind {
            TableKind::User => "create USER tables",
            TableKind::Stream => "create STREAM tables",
            TableKind::Shared => "create SHARED tables",
        };
        // Its access level does not matter: whoever makes a table that they can not read has given it away.
        let class = TableClass::of(kind, AccessLevel::Private);
        require(principal, rights::least_on(TableAction::Create, class), words)?;
        if BUILT_IN_NAMESPACES.contains(&namespace.as_str()) {
            return Err(Error::PermissionDenied(format!(
                "namespace '{namespace}' is the server's own; create the table in another one"
            )));
        }
        Ok(())
    }

    /// # Errors
    /// `PERMISSION_DENIED`.
    pub fn may_alter_table(&self, principal: &Principal, table: &TableMeta) -> Result<()> {
        may_on(principal, TableAction::Alter, table)
    }

    /// # Errors
    /// `PERMISSION_DENIED`.
    pub fn may_drop_table(&self, principal: &Principal) -> Result<()> {
        // The same for all classes, so it is decided before the table is looked up.
        require(principal, rights::least_on(TableAction::Drop, TableClass::Own), "drop tables")
    }

    /// May a table of this name be dropped, or altered? Those that the server makes for itself stay as they are, whoever
    /// asks.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub fn may_redefine(&self, table: &TableName) -> Result<()> {
        if !table.is_built_in() {
            return Ok(());
        }
        Err(Error::PermissionDenied(format!(
            "table {table} is the server's own: its rows are written like any others, but it is neither altered nor dropped"
        )))
    }

    /// May a namespace of this name be dropped?
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub fn may_drop_namespace(&self, namespace: &NamespaceName) -> Result<()> {
        if *namespace != NamespaceName::dba() {
            return Ok(());
        }
        Err(Error::PermissionDenied(format!(
            "namespace '{namespace}' holds tables of the server; drop what else is in it one by one"
        )))
    }

    /// # Errors
    /// `PERMISSION_DENIED`, saying the action and the role that it needs.
    pub fn may_administer(&self, principal: &Principal, action: AdminAction) -> Result<()> {
        let right = rights::of_admin(action);
        require(principal, right.least, right.words)
    }

    /// May `principal` take away a file that was made of this user's rows? `EXECUTE AS USER` does not count: who may act
    /// for others may have their exports made, and not fetch them.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub fn may_fetch_export(&self, principal: &Principal, owner: &UserId) -> Result<()> {
        if principal.user == *owner || principal.role.is_admin() {
            return Ok(());
        }
        Err(Error::PermissionDenied(format!("exports of user '{owner}' are for that user and for administrators")))
    }

    /// May its changes go into topics? Services consume those, and could not read a DBA table.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub fn may_be_routed(&self, table: &TableMeta) -> Result<()> {
        let consumer = rights::of_admin(AdminAction::ConsumeTopics).least;
        if least(TableAction::Read, table) <= consumer {
            return Ok(());
        }
        Err(Error::PermissionDenied(format!(
            "{} has access level {}, and topics are consumed by role {}: its changes can not go into one",
            table.name,
            table.access.as_str(),
            consumer
        )))
    }

    /// The principal that the inner statement of `EXECUTE AS USER` runs as: the target, never with more than a user's
    /// rights. For [`ExecuteAs::All`] it is the caller with a user's rights: the statement may then read the rows of
    /// all owners of a USER table, and nothing else that the caller's role could.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub fn may_execute_as(&self, caller: &Principal, target: ExecuteAs<'_>) -> Result<Principal> {
        let (allowed, runs_as) = match target {
            // As whom they came: by now somebody else may have the name.
            ExecuteAs::One(target) if target.user == caller.user => (true, caller),
            ExecuteAs::One(target) => (may_act_for(caller.role, target.role), target),
            ExecuteAs::All => (rights::over_users(caller.role).acts_for_all, caller),
        };
        if !allowed {
            return Err(Error::PermissionDenied(format!(
                "Role {} is not authorized to use AS USER for {target}",
                caller.role
            )));
        }
        // An anonymous caller that acts as itself stays anonymous.
        let role = if runs_as.user == caller.user { caller.role.min(Role::User) } else { Role::User };
        Ok(Principal { role, ..runs_as.clone() })
    }

    /// Could `caller` act for anyone else? Asked before the target is looked up, so that those who may not do not
    /// learn who exists.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub fn may_execute_as_others(&self, caller: &Principal, target: &UserId) -> Result<()> {
        if *target == caller.user || rights::over_users(caller.role).acts_for.is_some() {
            return Ok(());
        }
        Err(Error::PermissionDenied(format!(
            "Role {} is not authorized to use AS USER for user '{target}'",
            caller.role
        )))
    }

    /// Inside `EXECUTE AS USER`, rows of USER tables are written, those of SHARED tables are not.
    ///
    /// # Errors
    /// `INVALID_INPUT`.
    pub fn may_write_as(&self, table: &TableMeta) -> Result<()> {
        match table.kind {
            TableKind::User | TableKind::Stream => Ok(()),
            TableKind::Shared => Err(Error::InvalidInput(format!(
                "EXECUTE AS USER is not allowed on SHARED tables (table '{}:{}'). \
                 AS USER impersonation is only supported for USER tables.",
                table.name.namespace(),
                table.name.table()
            ))),
        }
    }

    /// May `granter` make a user of `role`? Nobody hands out more than they have.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub fn may_create_user(&self, granter: &Principal, role: Role) -> Result<()> {
        self.may_administer(granter, AdminAction::CreateUsers)?;
        let most = rights::over_users(granter.role).creates;
        if most.is_some_and(|most| role <= most) {
            return Ok(());
        }
        let most = most.map_or("nobody", Role::as_str);
        Err(Error::PermissionDenied(format!(
            "role {} can not grant role {role}; it creates users up to role {most}",
            granter.role
        )))
    }

    /// May `granter` give `role` to a user who is there, or change one who has it?
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub fn may_change_user(&self, granter: &Principal, role: Role) -> Result<()> {
        self.may_administer(granter, AdminAction::ManageUsers)?;
        if rights::over_users(granter.role).changes.is_some_and(|most| role <= most) {
            return Ok(());
        }
        Err(Error::PermissionDenied(format!(
            "role {} can not grant role {role}, nor change a user who has it",
            granter.role
        )))
    }
}

/// The least role that may do it with this table.
fn least(action: TableAction, table: &TableMeta) -> Role {
    rights::least_on(action, TableClass::of(table.kind, table.access))
}

fn may_on(principal: &Principal, action: TableAction, table: &TableMeta) -> Result<()> {
    let least = least(action, table);
    if principal.role >= least {
        return Ok(());
    }
    Err(table_denied(principal, rights::of_table(action).verb, table, least))
}

fn may_act_for(caller: Role, target: Role) -> bool {
    rights::over_users(caller).acts_for.is_some_and(|most| target <= most)
}

fn require(principal: &Principal, least: Role, words: &str) -> Result<()> {
    if principal.role >= least {
        return Ok(());
    }
    Err(Error::PermissionDenied(format!("role {} may not {words}; it needs role {least}", principal.role)))
}

fn table_denied(principal: &Principal, verb: &str, table: &TableMeta, least: Role) -> Error {
    let level = match table.kind {
        TableKind::User | TableKind::Stream => String::new(),
        TableKind::Shared => format!(" (SHARED, access level {})", table.access.as_str()),
    };
    Error::PermissionDenied(format!(
        "role {} may not {verb} table {}{level}; it needs role {least}",
        principal.role, table.name
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Durability, Owner, SchemaHistory, TableId};

    const ROLES: [Role; 5] = [Role::Anonymous, Role::User, Role::Service, Role::Dba, Role::System];

    fn table(kind: TableKind, access: AccessLevel) -> Arc<TableMeta> {
        Arc::new(TableMeta {
            id: TableId(1),
            name: TableName::new(NamespaceName::parse("chat").unwrap(), "msgs").unwrap(),
            kind,
            columns: Vec::new(),
            primary_key: Vec::new(),
            access,
            durability: None,
            flush: Default::default(),
            compression: Default::default(),
            storage: crate::model::StorageId::local(),
            use_user_storage: false,
            deleted_retention_hours: None,
            ttl: None,
            unnamed_storage: None,
            checks: Vec::new(),
            comments: Default::default(),
            schema_version: 1,
            created_at: 0,
            updated_at: 0,
            history: SchemaHistory::default(),
        })
    }

    fn principal(role: Role) -> Principal {
        Principal { user: UserId::parse("alice").unwrap(), role, generation: 1 }
    }

    fn write(table: Arc<TableMeta>, owner: Owner) -> WriteCommand {
        WriteCommand {
            table,
            owner,
            ops: Vec::new(),
            notes: Vec::new(),
            durability: Durability::Sync,
            on_conflict: Default::default(),
            returning: None,
        }
    }

    fn writes(role: Role, kind: TableKind, access: AccessLevel) -> bool {
        let (principal, table) = (principal(role), table(kind, access));
        let owner = table.owner_of(&principal);
        Policy.authorize_write(&principal, write(table, owner)).is_ok()
    }

    /// `.` refused, `y` allowed, by role from anonymous to system.
    fn check(what: &str, expected: &str, allowed: impl Fn(Role) -> bool) {
        let got: String = ROLES.iter().map(|role| if allowed(*role) { 'y' } else { '.' }).collect();
        assert_eq!(got, expected, "{what}");
    }

    #[test]
    fn tables() {
        use AccessLevel::{Dba, Private, Public, Restricted};
        use TableKind::{Shared, User};
        for (kind, access, reads, written, altered) in [
            (User, Private, ".yyyy", ".yyyy", ".yyyy"),
            (Shared, Public, "yyyyy", "..yyy", "..yyy"),
            (Shared, Private, "..yyy", "..yyy", "..yyy"),
            (Shared, Restricted, "..yyy", "..yyy", "..yyy"),
            (Shared, Dba, "...yy", "...yy", "...yy"),
        ] {
            let what = format!("{kind:?} {access:?}");
            let meta = table(kind, access);
            check(&format!("read {what}"), reads, |role| Policy.may_read(&principal(role), &meta).is_ok());
            check(&format!("subscribe {what}"), reads, |role| Policy.may_subscribe(&principal(role), &meta).is_ok());
            check(&format!("see {what}"), reads, |role| Policy.sees(&principal(role), &meta));
            check(&format!("write {what}"), written, |role| writes(role, kind, access));
            check(&format!("alter {what}"), altered, |role| Policy.may_alter_table(&principal(role), &meta).is_ok());
        }
        check("drop", "...yy", |role| Policy.may_drop_table(&principal(role)).is_ok());
        check("system tables", "...yy", |role| Policy.may_read_system(&principal(role)).is_ok());
    }

    #[test]
    fn creating_tables() {
        let chat = NamespaceName::parse("chat").unwrap();
        let system = NamespaceName::built_in("system");
        let create = |kind, namespace| move |role| Policy.may_create_table(&principal(role), kind, namespace).is_ok();
        check("create USER", ".yyyy", create(TableKind::User, &chat));
        check("create SHARED", "..yyy", create(TableKind::Shared, &chat));
        check("create in system", ".....", create(TableKind::User, &system));
    }

    #[test]
    fn administration() {
        for right in rights::ADMIN_RIGHTS {
            let action = right.action;
            let expected = match action {
                AdminAction::FlushAndCompact | AdminAction::ConsumeTopics | AdminAction::CreateUsers => "..yyy",
                _ => "...yy",
            };
            check(&format!("{action:?}"), expected, |role| Policy.may_administer(&principal(role), action).is_ok());
        }
        let denied = Policy.may_administer(&principal(Role::User), AdminAction::ManageNamespaces).unwrap_err();
        assert_eq!(
            denied.to_string(),
            "Permission denied: role user may not create, alter or drop namespaces; it needs role dba"
        );
    }

    #[test]
    fn what_services_may_not_read_goes_into_no_topic() {
        for access in [AccessLevel::Public, AccessLevel::Private, AccessLevel::Restricted, AccessLevel::Dba] {
            assert!(Policy.may_be_routed(&table(TableKind::User, access)).is_ok());
            let routed = Policy.may_be_routed(&table(TableKind::Shared, access)).is_ok();
            assert_eq!(routed, access != AccessLevel::Dba, "{access:?}");
        }
    }

    #[test]
    fn nobody_grants_more_than_they_have() {
        for (role, creates, changes) in [
            (Role::Anonymous, "..yyy", "...yy"),
            (Role::User, "..yyy", "...yy"),
            (Role::Service, "...yy", "...yy"),
            (Role::Dba, "...yy", "...yy"),
            (Role::System, "....y", "....y"),
        ] {
            check(&format!("create {role}"), creates, |by| Policy.may_create_user(&principal(by), role).is_ok());
            check(&format!("change {role}"), changes, |by| Policy.may_change_user(&principal(by), role).is_ok());
        }
        let refused = Policy.may_create_user(&principal(Role::Service), Role::Service).unwrap_err().to_string();
        assert!(refused.ends_with("role service can not grant role service; it creates users up to role user"));
    }

    #[test]
    fn execute_as() {
        let bob = UserId::parse("bob").unwrap();
        for (target, expected) in [
            (Role::Anonymous, "..yyy"),
            (Role::User, "..yyy"),
            (Role::Service, "...yy"),
            (Role::Dba, "....y"),
            (Role::System, "....y"),
        ] {
            check(&format!("as {target}"), expected, |role| {
                let target = Principal { user: bob.clone(), role: target, generation: 7 };
                match Policy.may_execute_as(&principal(role), ExecuteAs::One(&target)) {
                    Ok(inner) => inner == Principal { role: Role::User, ..target },
                    Err(_) => false,
                }
            });
        }
        check("as all", "..yyy", |role| Policy.may_execute_as(&principal(role), ExecuteAs::All).is_ok());
        check("may learn of others", "..yyy", |role| Policy.may_execute_as_others(&principal(role), &bob).is_ok());

        let target = Principal { user: bob, role: Role::User, generation: 1 };
        let denied = Policy.may_execute_as(&principal(Role::User), ExecuteAs::One(&target));
        assert_eq!(
            denied.unwrap_err().to_string(),
            "Permission denied: Role user is not authorized to use AS USER for user 'bob'"
        );
    }

    #[test]
    fn executing_as_oneself_gives_a_users_rights_and_no_more() {
        for role in ROLES {
            let caller = principal(role);
            let inner = Policy.may_execute_as(&caller, ExecuteAs::One(&caller)).unwrap();
            assert_eq!(inner, Principal { role: role.min(Role::User), ..caller });
        }
    }

    #[test]
    fn shared_tables_are_not_written_in_somebodys_name() {
        assert!(Policy.may_write_as(&table(TableKind::User, AccessLevel::Private)).is_ok());
        let refused = Policy.may_write_as(&table(TableKind::Shared, AccessLevel::Public)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "EXECUTE AS USER is not allowed on SHARED tables (table 'chat:msgs'). \
             AS USER impersonation is only supported for USER tables."
        );
    }

    #[test]
    fn nobody_writes_another_owners_partition() {
        let bob = Owner::User(UserId::parse("bob").unwrap());
        for role in ROLES {
            for owner in [bob.clone(), Owner::Shared] {
                let command = write(table(TableKind::User, AccessLevel::Private), owner);
                assert!(Policy.authorize_write(&principal(role), command).is_err(), "{role} USER");
            }
            let command = write(table(TableKind::Shared, AccessLevel::Public), bob.clone());
            assert!(Policy.authorize_write(&principal(role), command).is_err(), "{role} SHARED");
        }
    }
}
