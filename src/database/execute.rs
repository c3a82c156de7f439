//! From SQL text to results: one statement after the other.
//!
//! Owns what a request is (its namespace, parameters, caller) and the order *parse all, check all, run each*.
//! Never knows how a statement is bound or planned.

use std::net::IpAddr;
use std::time::Instant;

use super::Database;
use super::request::{CallerGone, Outcome, RowStream, SqlRequest, SqlResponse, StatementError, StatementResult};
use super::slow::SlowWatch;
use crate::auth::{ActAs, AdminAction, ExecuteAs};
use crate::error::{Error, Result};
use crate::model::{AuditEntry, Durability, NamespaceName, Param, Principal, Role};
use crate::sql::bind;
use crate::sql::statement::{ExecuteTarget, ParsedStatement, Statement};

/// Whose eyes and hands a statement has.
pub(super) struct Scope<'a> {
    /// Inside `EXECUTE AS USER`, its target with a user's rights.
    pub principal: Principal,
    pub impersonates: bool,
    /// `EXECUTE AS USER '*'`.
    pub all_owners: bool,
    pub namespace: &'a str,
    pub params: &'a [Param],
    pub durability: Option<Durability>,
    pub base_url: Option<&'a str>,
    pub caller: CallerGone,
    /// Microseconds since the Unix epoch: NOW() of the whole statement.
    pub now_us: i64,
}

/// What lasts from statement to statement of one request.
struct Request<'a> {
    principal: &'a Principal,
    sql: &'a SqlRequest,
    namespace: String,
}

impl Database {
    /// Runs a request's statements in order. The rows of a single statement are streamed; those of several are
    /// gathered, within `limits.max_result_bytes` in all.
    ///
    /// # Errors
    /// The first failing statement's, with its number; nothing after it is run. Statements before it stay done.
    pub async fn execute(&self, principal: &Principal, request: SqlRequest) -> Result<SqlResponse, StatementError> {
        if self.is_stopping() {
            return Err(Error::ShuttingDown.into());
        }
        let statements = self.parsed.parse(&request.sql, !request.params.is_empty())?;
        if statements.len() > self.options.max_statements {
            return Err(Error::InvalidSql(format!(
                "{} statements in one request; {} are allowed",
                statements.len(),
                self.options.max_statements
            ))
            .into());
        }
        if statements.len() > 1 && request.one_statement {
            return Err(
                Error::InvalidInput("An Arrow stream answers one statement; send them one by one".to_owned()).into()
            );
        }
        let namespace = request.namespace.as_deref().unwrap_or("default").to_ascii_lowercase();
        let request_ip = request.ip;
        let mut run = Request { principal, sql: &request, namespace };
        if let [statement] = &*statements {
            self.check_audited(principal, &statement.statement, request_ip)?;
            let result = self.run(&mut run, statement).await?;
            return Ok(SqlResponse { results: vec![result] });
        }
        // Every statement is checked before any is run: a forbidden one refuses the whole batch.
        for (i, statement) in statements.iter().enumerate() {
            self.check_audited(principal, &statement.statement, request_ip).map_err(|e| at(i, e))?;
            // All share the request's parameters.
            check_parameters(&statement.statement, request.params.len()).map_err(|e| at(i, e))?;
        }
        let mut results = Vec::with_capacity(statements.len());
        let mut budget = self.options.max_result_bytes;
        for (i, statement) in statements.iter().enumerate() {
            let result = self.run(&mut run, statement).await.map_err(|e| at(i, e))?;
            results.push(self.gathered(result, &mut budget).await.map_err(|e| at(i, e))?);
        }
        Ok(SqlResponse { results })
    }

    /// [`Self::check`]; who is refused is in the audit log.
    fn check_audited(&self, principal: &Principal, statement: &Statement, ip: Option<IpAddr>) -> Result<()> {
        let checked = self.check(principal, statement);
        if let Err(error) = &checked {
            self.audit.note_denied_statement(principal, statement, error, ip);
        }
        checked
    }

    /// What the caller's role alone decides.
    fn check(&self, principal: &Principal, statement: &Statement) -> Result<()> {
        let action = match statement {
            Statement::CreateNamespace { .. } | Statement::DropNamespace { .. } | Statement::AlterNamespace { .. } => {
                AdminAction::ManageNamespaces
            }
            Statement::CreateUser { role, .. } => return self.policy.may_create_user(principal, *role),
            Statement::DropUser { .. } => AdminAction::ManageUsers,
            Statement::CreateView(_) | Statement::DropView { .. } => AdminAction::ManageViews,
            Statement::KillLiveQuery { .. } | Statement::KillJob { .. } => AdminAction::Kill,
            Statement::BackupDatabase { .. } | Statement::RestoreDatabase { .. } => AdminAction::Backup,
            Statement::MaintainStorage { .. } => AdminAction::FlushAndCompact,
            Statement::CreateStorage(_)
            | Statement::AlterStorage(_)
            | Statement::DropStorage { .. }
            | Statement::CheckStorage { .. } => AdminAction::ManageStorages,
            Statement::CreateTopic(_)
            | Statement::AlterTopic { .. }
            | Statement::ClearTopic { .. }
            | Statement::DropTopic { .. } => AdminAction::ManageTopics,
            Statement::Consume(_) | Statement::Ack(_) => AdminAction::ConsumeTopics,
            Statement::DropTable { .. } => return self.policy.may_drop_table(principal),
            Statement::ExecuteAs { target, inner } => {
                let runs_as = match target {
                    ExecuteTarget::All => self.policy.may_execute_as(principal, ExecuteAs::All)?,
                    ExecuteTarget::One(user) => {
                        self.policy.may_execute_as_others(principal, user)?;
                        Principal { user: user.clone(), role: principal.role.min(Role::User), ..*principal }
                    }
                };
                return self.check(&runs_as, &inner.statement);
            }
            // Tables decide, or everyone may.
            Statement::Use(_)
            | Statement::ShowNamespaces
            | Statement::ShowStorages
            | Statement::ShowCursors
            | Statement::DropCursor { .. }
            | Statement::ExplainLive { .. }
            | Statement::ExportUserData
            | Statement::ShowExport
            | Statement::CreateTable(_)
            | Statement::AlterTable(_)
            | Statement::ShowTables { .. }
            | Statement::ShowViews { .. }
            | Statement::Truncate { .. }
            | Statement::Comment { .. }
            | Statement::DescribeTable { .. }
            | Statement::AlterUser { .. }
            | Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::Query(_)
            // Whoever may read may see how it is read: names are resolved as for SELECT.
            | Statement::Explain(_)
            | Statement::SubscribeTo(_) => return Ok(()),
        };
        self.policy.may_administer(principal, action)
    }

    async fn run(&self, request: &mut Request<'_>, statement: &ParsedStatement) -> Result<StatementResult> {
        let threshold = self.options.slow_query_threshold;
        if threshold.is_zero() {
            return self.run_one(request, statement).await;
        }
        let watch = SlowWatch {
            started: Instant::now(),
            threshold,
            text: statement.text.clone(),
            user: request.principal.user.clone(),
            request_id: request.sql.request_id.clone(),
            metrics: self.metrics.clone(),
        };
        watch.over(self.run_one(request, statement).await)
    }

    async fn run_one(&self, request: &mut Request<'_>, statement: &ParsedStatement) -> Result<StatementResult> {
        if let Statement::Use(name) = &statement.statement {
            let outcome = self.use_namespace(request, name)?;
            return Ok(StatementResult { as_user: request.principal.user.clone(), outcome });
        }
        let scope = Scope {
            principal: request.principal.clone(),
            impersonates: false,
            all_owners: false,
            namespace: &request.namespace,
            params: &request.sql.params,
            durability: request.sql.durability,
            base_url: request.sql.base_url.as_deref(),
            caller: request.sql.caller.clone(),
            now_us: self.clock.now_us(),
        };
        let ip = request.sql.ip;
        let (scope, inner) = match &statement.statement {
            Statement::ExecuteAs { target, inner } => {
                let (principal, all_owners) = self.target(&scope.principal, &statement.statement, target, ip)?;
                (Scope { principal, impersonates: true, all_owners, ..scope }, &inner.statement)
            }
            statement => (scope, statement),
        };
        let outcome = self.run_in(&scope, inner).await;
        let outcome = outcome.inspect_err(|error| {
            self.audit.note_denied(request.principal, inner.kind(), error, ip);
        })?;
        // Before it is answered: what was answered is in the log.
        if let Some(entry) = self.audit.entry_of(&request.principal.user, inner) {
            let subject = scope.impersonates.then(|| scope.principal.user.clone());
            let entry = AuditEntry { subject: entry.subject.clone().or(subject), ..entry };
            self.audit.write(entry.from_ip(ip)).await?;
        }
        Ok(StatementResult { as_user: scope.principal.user, outcome })
    }

    /// Whom an `EXECUTE AS USER` runs as, and whether it addresses all owners. `statement` is the whole of it.
    pub(super) fn target(
        &self,
        caller: &Principal,
        statement: &Statement,
        target: &ExecuteTarget,
        ip: Option<IpAddr>,
    ) -> Result<(Principal, bool)> {
        let decided = match target {
            ExecuteTarget::All => self.auth.execute_as(caller, ActAs::All).map(|runs_as| (runs_as, true)),
            ExecuteTarget::One(user) => self.auth.execute_as(caller, ActAs::User(user)).map(|runs_as| (runs_as, false)),
        };
        match &decided {
            Ok(_) => self.audit.note_acting_for(caller, target, ip),
            Err(error) => self.audit.note_denied_statement(caller, statement, error, ip),
        }
        decided
    }

    async fn run_in(&self, scope: &Scope<'_>, statement: &Statement) -> Result<Outcome> {
        match statement {
            Statement::Query(query) => self.query(scope, query).await.map(Outcome::Rows),
            Statement::Insert(insert) => self.insert(scope, insert).await,
            Statement::Update(update) => self.update(scope, update).await,
            Statement::Delete(delete) => self.delete(scope, delete).await,
            Statement::Explain(explain) => self.plan_and_run(scope, explain).await.map(Outcome::Rows),
            Statement::CreateTable(create) => self.create_table(scope, create).await,
            Statement::AlterTable(alter) => self.alter_table(scope, alter).await,
            Statement::DropTable { kind, name, if_exists, cascade } => {
                self.drop_table(scope, *kind, name, (*if_exists, *cascade)).await
            }
            Statement::CreateView(create) => self.create_view(scope, create).await,
            Statement::DropView { name, if_exists, cascade } => self.drop_view(scope, name, *if_exists, *cascade).await,
            Statement::Truncate { name } => self.truncate(scope, name).await,
            Statement::Comment { on, text } => self.comment_on(scope, on, text.as_deref()).await,
            Statement::CreateNamespace { name, if_not_exists } => self.create_namespace(name, *if_not_exists).await,
            Statement::DropNamespace { name, if_exists, cascade } => {
                self.drop_namespace(name, *if_exists, *cascade).await
            }
            Statement::AlterNamespace { name, options } => self.alter_namespace(name, options).await,
            Statement::ShowNamespaces => self.show_namespaces().map(Outcome::Rows),
            Statement::ShowTables { namespace } => self.show_tables(scope, namespace.as_ref()).map(Outcome::Rows),
            Statement::ShowViews { namespace } => self.show_views(scope, namespace.as_ref()).map(Outcome::Rows),
            Statement::DescribeTable { name } => self.describe_table(scope, name).map(Outcome::Rows),
            Statement::CreateUser { .. } | Statement::AlterUser { .. } | Statement::DropUser { .. } => {
                self.manage_user(scope, statement).await
            }
            Statement::SubscribeTo(subscribe) => self.subscribe_to(scope, subscribe).map(Outcome::Rows),
            Statement::KillLiveQuery { live_id } => self.kill_live_query(live_id),
            Statement::DropCursor { group, user, if_exists } => {
                self.drop_cursor(scope, group, user.as_ref(), *if_exists)
            }
            Statement::ShowCursors => self.show_cursors(scope).map(Outcome::Rows),
            Statement::ExplainLive { live_id } => self.explain_live(scope, live_id).map(Outcome::Rows),
            Statement::KillJob { job_id } => self.kill_job(scope, job_id).await,
            Statement::BackupDatabase { to } => self.backup_database(to).await,
            Statement::RestoreDatabase { from } => self.restore_database(from).await,
            Statement::ExportUserData => self.export_user_data(scope).await,
            Statement::ShowExport => self.show_export(scope).await.map(Outcome::Rows),
            Statement::MaintainStorage { work, scope: what } => self.maintain_storage(scope, *work, what).await,
            Statement::CreateStorage(create) => self.create_storage(create).await,
            Statement::AlterStorage(alter) => self.alter_storage(alter).await,
            Statement::DropStorage { id, if_exists } => self.drop_storage(id, *if_exists).await,
            Statement::ShowStorages => self.show_storages().map(Outcome::Rows),
            Statement::CheckStorage { id, extended } => self.check_storage(id, *extended).await.map(Outcome::Rows),
            Statement::CreateTopic(create) => self.create_topic(scope, create).await,
            Statement::AlterTopic { name, operation } => self.alter_topic(scope, name, operation).await,
            Statement::ClearTopic { name } => self.clear_topic(scope, name).await,
            Statement::DropTopic { name, if_exists } => self.drop_topic(scope, name, *if_exists).await,
            Statement::Consume(consume) => self.consume_rows(scope, consume).await.map(Outcome::Rows),
            Statement::Ack(ack) => self.ack_rows(scope, ack).await.map(Outcome::Rows),
            Statement::Use(_) | Statement::ExecuteAs { .. } => {
                Err(Error::Unsupported("this statement cannot stand inside EXECUTE AS USER; put it before".to_owned()))
            }
        }
    }

    fn use_namespace(&self, request: &mut Request<'_>, name: &NamespaceName) -> Result<Outcome> {
        let built_in = matches!(name.as_str(), "system" | "sys" | "information_schema");
        if !built_in && !self.catalog.current().namespaces.contains_key(name) {
            return Err(Error::NamespaceNotFound(name.clone()));
        }
        request.namespace = name.to_string();
        Ok(Outcome::Done { rows: 0, message: format!("Namespace switched to '{name}'") })
    }

    async fn gathered(&self, result: StatementResult, budget: &mut u64) -> Result<StatementResult> {
        let StatementResult { as_user, outcome } = result;
        let outcome = match outcome {
            Outcome::Done { .. } => outcome,
            Outcome::Rows(rows) => {
                let (schema, batches) = self.within_limit(rows).await?;
                let bytes: usize = batches.iter().map(|b| b.get_array_memory_size()).sum();
                if self.options.max_result_bytes > 0 {
                    *budget = budget
                        .checked_sub(bytes as u64)
                        .ok_or(Error::ResultTooLarge { max_bytes: self.options.max_result_bytes })?;
                }
                Outcome::Rows(RowStream {
                    schema,
                    batches: Box::pin(futures_util::stream::iter(batches.into_iter().map(Ok))),
                })
            }
        };
        Ok(StatementResult { as_user, outcome })
    }
}

fn check_parameters(statement: &Statement, given: usize) -> Result<()> {
    match statement.greatest_parameter() {
        Some(position) if position > given => Err(bind::no_parameter(position, given)),
        _ => Ok(()),
    }
}

fn at(index: usize, error: Error) -> StatementError {
    StatementError { error, statement: Some(index + 1) }
}
