//! SQL that we know and refuse by name, so that nobody takes it for a typing mistake.

use datafusion::sql::sqlparser::ast;

use crate::error::{Error, Result};

fn not_yet(what: impl std::fmt::Display) -> Error {
    Error::Unsupported(format!("{what} is not supported yet"))
}

fn never(what: impl std::fmt::Display, instead: &str) -> Error {
    Error::Unsupported(format!("{what} is not supported; {instead}"))
}

/// A statement that begins with this word (upper case); `None` where no statement of SQL does.
pub(super) fn by_first_word(word: &str) -> Option<Error> {
    Some(match word {
        "BEGIN" | "START" | "COMMIT" | "ROLLBACK" | "END" | "SAVEPOINT" | "RELEASE" | "ABORT" => {
            not_yet(format!("{word} (explicit transactions)"))
        }
        "MERGE" | "REPLACE" | "COPY" | "IMPORT" | "CLUSTER" | "ANALYZE" | "VACUUM" | "PREPARE" | "DEALLOCATE"
        | "REFRESH" | "LISTEN" | "UNLISTEN" | "NOTIFY" | "DECLARE" | "FETCH" | "CLOSE" | "CALL" | "LOAD" | "UNLOAD"
        | "OPTIMIZE" => not_yet(word),
        "GRANT" | "REVOKE" | "DENY" => never(word, "give a user a role with ALTER USER … SET ROLE"),
        "RESET" | "DISCARD" | "LOCK" | "PRAGMA" | "ATTACH" | "DETACH" | "INSTALL" => {
            Error::Unsupported(format!("{word} is not supported"))
        }
        _ => return None,
    })
}

/// `CREATE` followed by these words.
pub(super) fn creation(words: &[String]) -> Option<Error> {
    let skipped = if words.starts_with(&["OR".to_owned(), "REPLACE".to_owned()]) { 2 } else { 0 };
    let words = &words[skipped..];
    match words.first().map(String::as_str) {
        Some("TEMP" | "TEMPORARY") => Some(never("CREATE TEMPORARY TABLE", "use CREATE TABLE")),
        Some("EXTERNAL") => Some(not_yet("CREATE EXTERNAL TABLE")),
        Some("TABLE" | "USER" | "SHARED" | "STREAM") if skipped > 0 => {
            Some(never("CREATE OR REPLACE TABLE", "use DROP TABLE first"))
        }
        _ => other_object("CREATE", words),
    }
}

/// `CREATE`, `ALTER` or `DROP` of an object that we do not have (yet).
pub(super) fn other_object(verb: &str, words: &[String]) -> Option<Error> {
    let mut words = words.iter().map(String::as_str);
    Some(match words.next()? {
        "MATERIALIZED" => not_yet(format!("{verb} MATERIALIZED VIEW")),
        "UNIQUE" if words.next() == Some("INDEX") => not_yet(format!("{verb} UNIQUE INDEX")),
        "VECTOR" if words.next() == Some("INDEX") => not_yet(format!("{verb} VECTOR INDEX")),
        object @ ("INDEX" | "FUNCTION" | "TRIGGER" | "SEQUENCE" | "TYPE" | "DOMAIN" | "PROCEDURE" | "EXTENSION"
        | "POLICY" | "MACRO") => not_yet(format!("{verb} {object}")),
        "VIEW" => never(format!("{verb} VIEW"), "use CREATE OR REPLACE VIEW"),
        object @ ("SCHEMA" | "DATABASE" | "CATALOG") => never(format!("{verb} {object}"), "use NAMESPACE"),
        object @ ("ROLE" | "GROUP") => never(format!("{verb} {object}"), "a user has one of five fixed roles"),
        _ => return None,
    })
}

/// `ALTER TABLE t` followed by these words.
pub(super) fn alteration(words: &[String]) -> Option<Error> {
    let mut words = words.iter().map(String::as_str);
    let verb = words.next()?;
    let object = words.next()?;
    // A column may be called like an object: then nothing follows its name that could be one's.
    let named = words.next().is_some();
    Some(match (verb, object) {
        ("ADD" | "DROP", "PRIMARY" | "FOREIGN" | "UNIQUE") if named => {
            not_yet(format!("ALTER TABLE … {verb} {object}"))
        }
        ("ADD" | "CREATE" | "DROP", "INDEX" | "VECTOR" | "PARTITION") if named => {
            not_yet(format!("ALTER TABLE … {verb} {object}"))
        }
        ("RENAME", "TO") => not_yet("ALTER TABLE … RENAME TO"),
        ("RENAME", "CONSTRAINT") => not_yet("ALTER TABLE … RENAME CONSTRAINT"),
        ("SET", "SCHEMA" | "TABLESPACE" | "LOGGED" | "UNLOGGED" | "WITHOUT") => {
            Error::Unsupported(format!("ALTER TABLE … SET {object} is not supported"))
        }
        ("OWNER", "TO") => never("ALTER TABLE … OWNER TO", "rights come from roles and ACCESS_LEVEL"),
        ("ENABLE" | "DISABLE" | "CLUSTER" | "INHERIT" | "ATTACH" | "DETACH" | "VALIDATE" | "CHANGE", _) => {
            Error::Unsupported(format!("ALTER TABLE … {verb} is not supported"))
        }
        _ => return None,
    })
}

/// `SHOW` followed by these words.
pub(super) fn show(words: &[String]) -> Option<Error> {
    match words.first()?.as_str() {
        object @ ("STATS" | "TOPICS" | "USERS" | "INDEXES" | "JOBS" | "ALL" | "FUNCTIONS" | "CREATE" | "VARIABLES") => {
            Some(not_yet(format!("SHOW {object}")))
        }
        object @ ("DATABASES" | "SCHEMAS") => Some(never(format!("SHOW {object}"), "use SHOW NAMESPACES")),
        _ => None,
    }
}

/// # Errors
/// `INVALID_SQL` that names the first part of the statement that we do not have.
pub(super) fn check_insert(insert: &ast::Insert) -> Result<()> {
    let fault = if insert.replace_into || insert.or.is_some() || insert.ignore {
        Some(never("INSERT OR …", "use ON CONFLICT"))
    } else if insert.overwrite {
        Some(never("INSERT OVERWRITE", "use DELETE, then INSERT"))
    } else if let Some(fault) = conflict_fault(insert) {
        Some(fault)
    } else if insert.output.is_some() {
        Some(never("OUTPUT", "use RETURNING"))
    } else if !insert.assignments.is_empty() {
        Some(never("INSERT … SET", "use VALUES"))
    } else if insert.partitioned.is_some() || !insert.after_columns.is_empty() {
        Some(Error::Unsupported("INSERT … PARTITION is not supported".to_owned()))
    } else if insert.format_clause.is_some() || insert.settings.is_some() {
        Some(never("INSERT … FORMAT", "use VALUES"))
    } else if insert.insert_alias.is_some() || insert.priority.is_some() || insert.multi_table_insert_type.is_some() {
        Some(Error::Unsupported("this form of INSERT is not supported".to_owned()))
    } else {
        None
    };
    fault.map_or(Ok(()), Err)
}

fn conflict_fault(insert: &ast::Insert) -> Option<Error> {
    match insert.on.as_ref()? {
        ast::OnInsert::OnConflict(clause) => match &clause.action {
            ast::OnConflictAction::DoUpdate(_) if clause.conflict_target.is_none() => Some(Error::InvalidSql(
                "ON CONFLICT DO UPDATE names what conflicts: ON CONFLICT (key columns) DO UPDATE …".to_owned(),
            )),
            _ => None,
        },
        _ => Some(never("ON DUPLICATE KEY UPDATE", "use ON CONFLICT (key columns) DO UPDATE SET …")),
    }
}

/// # Errors
/// Like [`check_insert`].
pub(super) fn check_update(update: &ast::Update) -> Result<()> {
    let fault = if !update.table.joins.is_empty() || matches!(update.from, Some(ast::UpdateTableFromKind::BeforeSet(_)))
    {
        Some(never("UPDATE t JOIN …", "use UPDATE t SET … FROM …"))
    } else if update.output.is_some() {
        Some(never("OUTPUT", "use RETURNING"))
    } else if update.or.is_some() {
        Some(Error::Unsupported("UPDATE OR … is not supported".to_owned()))
    } else if update.limit.is_some() || !update.order_by.is_empty() {
        Some(never("UPDATE … LIMIT", "say which rows in WHERE"))
    } else {
        None
    };
    fault.map_or(Ok(()), Err)
}

/// # Errors
/// Like [`check_insert`].
pub(super) fn check_delete(delete: &ast::Delete) -> Result<()> {
    let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) = &delete.from;
    let several = from.len() != 1 || from.iter().any(|table| !table.joins.is_empty());
    let fault = if several || !delete.tables.is_empty() {
        Some(never("DELETE from several tables", "name one, and those that it is joined with in USING"))
    } else if delete.output.is_some() {
        Some(never("OUTPUT", "use RETURNING"))
    } else if delete.limit.is_some() || !delete.order_by.is_empty() {
        Some(never("DELETE … LIMIT", "say which rows in WHERE"))
    } else {
        None
    };
    fault.map_or(Ok(()), Err)
}

/// A query that only reads, without clauses whose meaning we do not have.
///
/// # Errors
/// Like [`check_insert`].
pub(super) fn check_query(query: &ast::Query) -> Result<()> {
    if !query.locks.is_empty() {
        return Err(Error::Unsupported("SELECT … FOR UPDATE is not supported".to_owned()));
    }
    if query.settings.is_some() || query.format_clause.is_some() || query.for_clause.is_some() {
        return Err(Error::Unsupported("SETTINGS, FORMAT and FOR behind a SELECT are not supported".to_owned()));
    }
    for table in query.with.iter().flat_map(|with| &with.cte_tables) {
        check_query(&table.query)?;
    }
    check_body(&query.body)
}

fn check_body(body: &ast::SetExpr) -> Result<()> {
    match body {
        ast::SetExpr::Select(select) if select.into.is_some() => {
            Err(never("SELECT … INTO", "use CREATE TABLE, then INSERT … SELECT"))
        }
        ast::SetExpr::Select(_) | ast::SetExpr::Values(_) | ast::SetExpr::Table(_) => Ok(()),
        ast::SetExpr::Query(query) => check_query(query),
        ast::SetExpr::SetOperation { left, right, .. } => {
            check_body(left)?;
            check_body(right)
        }
        ast::SetExpr::Insert(_) | ast::SetExpr::Update(_) | ast::SetExpr::Delete(_) | ast::SetExpr::Merge(_) => {
            Err(Error::Unsupported("a query that changes data is not supported".to_owned()))
        }
    }
}
