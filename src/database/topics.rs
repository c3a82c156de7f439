//! Topics: made, altered, cleared and dropped, and their routes compiled.
//!
//! Owns the order of a change of routes: compiled; the table's gate closed; durable; told to the table's actor; the gate
//! opens. So each change that is answered behind ADD SOURCE has its entry, and no write is under way while routes change.
//! Never decides which changes match ([`crate::topics::route`]) or who gets what ([`groups`]).

mod consume;
mod groups;
mod rows;

pub use consume::{ConsumeRequest, Consumed, Message};

use std::sync::Arc;

use datafusion::sql::sqlparser::ast;
use tokio::sync::Semaphore;

use super::Database;
use super::catalog::{DroppedTopic, TableAlteration};
use super::define::said;
use super::execute::Scope;
use super::jobs::topic_cleanup_of;
use super::request::{CallerGone, Outcome};
use crate::actors::{CommitterHandle, TopicSignals};
use crate::config::TopicsConfig;
use crate::error::{Error, Result};
use crate::live::LiveQuery;
use crate::model::topic::ROUTES_PER_TABLE_MAX;
use crate::model::{
    Catalog, ChangeKind, DeadLetter, GroupId, Principal, Role, TableKind, TableMeta, TableName, TopicMeta, TopicRoute,
    UserId,
};
use crate::sql::define::topic::{self, DeadLetterWish, TopicDefaults};
use crate::sql::parse;
use crate::sql::statement::{AddSource, CreateTopic, Statement, TableRef, TopicOperation};
use crate::storage::{CommitEntry, TopicChange};
use crate::topics::{Route, TableRoutes};
use groups::Groups;

/// Deliveries and acknowledgements on their way to the log: with the writes under way, fewer than the committer's channel
/// holds. More wait, each in its request.
const TURNS_MAX: usize = 1_024;

/// What consumers need of a database.
pub(super) struct Topics {
    pub groups: Arc<Groups>,
    pub signals: Arc<TopicSignals>,
    /// One for each consumer that waits.
    waiters: Arc<Semaphore>,
    /// One for each delivery and acknowledgement whose commit is under way.
    turns: Semaphore,
    committer: CommitterHandle,
    config: TopicsConfig,
}

impl Topics {
    pub(super) fn new(signals: Arc<TopicSignals>, committer: CommitterHandle, config: TopicsConfig) -> Self {
        let waiters = Arc::new(Semaphore::new(config.max_waiters.min(Semaphore::MAX_PERMITS)));
        Self { groups: Arc::default(), signals, waiters, turns: Semaphore::new(TURNS_MAX), committer, config }
    }

    fn defaults(&self) -> TopicDefaults {
        TopicDefaults {
            retention_seconds: self.config.default_retention.as_secs().max(1),
            retention_max_bytes: self.config.default_retention_bytes.as_u64(),
        }
    }
}

impl Database {
    pub(super) async fn create_topic(&self, scope: &Scope<'_>, create: &CreateTopic) -> Result<Outcome> {
        let name = self.topic_name(scope, &create.name)?;
        let mut alteration = self.catalog.begin_alteration().await;
        let catalog = self.catalog.current();
        if !catalog.namespaces.contains_key(name.namespace()) {
            return Err(Error::NamespaceNotFound(name.namespace().clone()));
        }
        if catalog.topics.contains_key(&name) {
            return match create.if_not_exists {
                true => Ok(said(format!("Topic '{name}' already exists"))),
                false => Err(Error::TopicExists(name)),
            };
        }
        let id = alteration.next_topic_id();
        let (mut made, wish) = topic::define_topic(create, name.clone(), id, self.topics.defaults(), scope.now_us)?;
        let mut put = Vec::new();
        if let Some(wish) = wish {
            put.extend(self.set_dead_letter(&mut alteration, &mut made, wish, scope.now_us)?);
        }
        let partitions = made.partitions;
        put.push(made);
        alteration.commit_topics(put, &[]).await?;
        Ok(said(format!("Created topic '{name}' with {partitions} partition(s)")))
    }

    pub(super) fn topic_name(&self, scope: &Scope<'_>, name: &TableRef) -> Result<TableName> {
        self.table_name(scope, name).map_err(|error| match error {
            Error::InvalidName { what: "table", name, fault } => Error::InvalidName { what: "topic", name, fault },
            other => other,
        })
    }

    /// Answers with the dead-letter topic where it has to be made.
    fn set_dead_letter(
        &self,
        alteration: &mut TableAlteration,
        topic: &mut TopicMeta,
        wish: DeadLetterWish,
        now_us: i64,
    ) -> Result<Option<TopicMeta>> {
        let DeadLetterWish::To { topic: name, max_deliveries } = wish else {
            topic.dead_letter = None;
            return Ok(None);
        };
        let catalog = self.catalog.current();
        let serves = |other: &&Arc<TopicMeta>| other.dead_letter.as_ref().is_some_and(|dead| dead.topic_id == topic.id);
        if let Some(other) = catalog.topics.values().find(serves) {
            let text =
                format!("Topic '{}' is the dead-letter topic of '{}' and can not have its own", topic.name, other.name);
            return Err(Error::InvalidSql(text));
        }
        let (id, made) = match catalog.topics.get(&name) {
            Some(found) if found.dead_letter.is_some() => {
                return Err(Error::InvalidSql(format!("Topic '{name}' has a dead-letter topic and can not be one")));
            }
            Some(found) => (found.id, None),
            None => {
                let id = alteration.next_topic_id();
                (id, Some(topic::plain_topic(name.clone(), id, 1, self.topics.defaults(), now_us)))
            }
        };
        topic.dead_letter = Some(DeadLetter { topic_id: id, topic: name, max_deliveries });
        Ok(made)
    }

    pub(super) async fn alter_topic(
        &self,
        scope: &Scope<'_>,
        name: &TableRef,
        operation: &TopicOperation,
    ) -> Result<Outcome> {
        let name = self.topic_name(scope, name)?;
        match operation {
            TopicOperation::AddSource(source) => self.add_source(scope, &name, source).await,
            TopicOperation::DropSource { table, op } => {
                self.drop_source(scope, &name, &self.table_name(scope, table)?, *op).await
            }
            TopicOperation::SetOptions(options) => self.set_topic_options(scope, &name, options).await,
            TopicOperation::DropGroup(group) => self.drop_group(&name, group).await,
        }
    }

    async fn add_source(&self, scope: &Scope<'_>, name: &TableName, source: &AddSource) -> Result<Outcome> {
        let table_name = self.table_name(scope, &source.table)?;
        let alteration = self.catalog.begin_alteration().await;
        let catalog = self.catalog.current();
        let topic = catalog.topic(name)?;
        let table = catalog.table(table_name.namespace().as_str(), table_name.table())?.clone();
        self.policy.may_be_routed(&table)?;
        let op = source.op;
        if topic.routes.iter().any(|route| route.table_id == table.id && route.op == op) {
            return Err(Error::SourceExists { topic: name.clone(), table: table_name, op: words(op) });
        }
        let mut routes = self.router.routes_of(table.id).routes().to_vec();
        if routes.len() >= ROUTES_PER_TABLE_MAX {
            return Err(Error::InvalidSql(format!(
                "Table {table_name} has {ROUTES_PER_TABLE_MAX} routes, and may not have more"
            )));
        }
        let AddSource { condition, payload, .. } = source;
        let route = TopicRoute {
            table_id: table.id,
            table: table_name.clone(),
            op,
            condition: condition.clone(),
            payload: *payload,
        };
        routes.push(self.compile_route(&catalog, topic, &route, &table).await?);
        let mut altered = TopicMeta::clone(topic);
        altered.routes.push(route);
        altered.updated_at = scope.now_us;
        self.change_routes(alteration, altered, vec![(table, TableRoutes::new(routes))]).await?;
        Ok(said(format!("Topic '{name}' altered successfully: source {table_name} ON {} added", words(op))))
    }

    async fn drop_source(
        &self,
        scope: &Scope<'_>,
        name: &TableName,
        table_name: &TableName,
        op: Option<ChangeKind>,
    ) -> Result<Outcome> {
        let alteration = self.catalog.begin_alteration().await;
        let catalog = self.catalog.current();
        let topic = catalog.topic(name)?;
        let mut altered = TopicMeta::clone(topic);
        let goes = |table: &TableName, of: ChangeKind| table == table_name && op.is_none_or(|op| op == of);
        altered.routes.retain(|route| !goes(&route.table, route.op));
        let count = topic.routes.len() - altered.routes.len();
        if count == 0 {
            let on = op.map_or_else(String::new, |op| format!(" ON {}", words(op)));
            return Err(Error::NotFound(format!("Topic '{name}' has no source {table_name}{on}")));
        }
        altered.updated_at = scope.now_us;
        let table = catalog.table(table_name.namespace().as_str(), table_name.table())?.clone();
        let mut routes = self.router.routes_of(table.id).routes().to_vec();
        routes.retain(|route| route.topic != topic.id || op.is_some_and(|op| op != route.op));
        self.change_routes(alteration, altered, vec![(table, TableRoutes::new(routes))]).await?;
        Ok(said(format!("Topic '{name}' altered successfully: {count} source(s) dropped")))
    }

    /// A task of its own: who asked may go away, but a change that is durable must become visible.
    async fn change_routes(
        &self,
        alteration: TableAlteration,
        altered: TopicMeta,
        tables: Vec<(Arc<TableMeta>, TableRoutes)>,
    ) -> Result<()> {
        let mut gates = Vec::with_capacity(tables.len());
        for (table, routes) in tables {
            gates.push((self.router.close_gate(&table).await?, table, routes));
        }
        let router = self.router.clone();
        let done = actix::spawn(async move {
            alteration.commit_topics(vec![altered], &[]).await?;
            for (gate, table, routes) in &mut gates {
                router.set_routes(gate, table, std::mem::take(routes));
            }
            Ok(())
        });
        done.await.unwrap_or(Err(Error::Aborted))
    }

    async fn set_topic_options(
        &self,
        scope: &Scope<'_>,
        name: &TableName,
        options: &[(String, String)],
    ) -> Result<Outcome> {
        let mut alteration = self.catalog.begin_alteration().await;
        let mut altered = TopicMeta::clone(self.catalog.current().topic(name)?);
        let mut put = Vec::new();
        if let Some(wish) = topic::set_topic_options(&mut altered, options)? {
            put.extend(self.set_dead_letter(&mut alteration, &mut altered, wish, scope.now_us)?);
        }
        altered.updated_at = scope.now_us;
        put.push(altered);
        alteration.commit_topics(put, &[]).await?;
        let named: Vec<&str> = options.iter().map(|(name, _)| name.as_str()).collect();
        Ok(said(format!("Topic '{name}' altered successfully: {} set", named.join(", "))))
    }

    async fn drop_group(&self, name: &TableName, group: &GroupId) -> Result<Outcome> {
        let topic = self.catalog.current().topic(name)?.clone();
        let (view, id, of) = (self.store.read_view(), topic.id, group.clone());
        let is_there = self.engine.blocking(move || {
            let mut groups = view.topic_groups(id);
            groups.try_fold(false, |found, group| Ok(found || group?.0.group == of))
        });
        if !is_there.await? {
            return Err(Error::NotFound(format!("Topic '{name}' has no group '{group}'")));
        }
        let change = TopicChange::RemoveGroup { topic: topic.id, partitions: topic.partitions, group: group.clone() };
        // What was under way for the group was handed over before, so the removal is behind it.
        let dropping = self.topics.groups.begin_drop(topic.id, group);
        self.topics.committer.commit(CommitEntry::Topics(vec![change])).await?;
        drop(dropping);
        Ok(said(format!("Topic '{name}' altered successfully: group '{group}' dropped")))
    }

    pub(super) async fn clear_topic(&self, scope: &Scope<'_>, name: &TableRef) -> Result<Outcome> {
        let name = self.topic_name(scope, name)?;
        let topic = self.catalog.current().topic(&name)?.clone();
        let changes = topic.partitions().map(|at| TopicChange::Clear { at }).collect();
        self.topics.committer.commit(CommitEntry::Topics(changes)).await?;
        self.submit_topic_retention(&topic).await;
        Ok(said(format!("Topic '{name}' cleared successfully")))
    }

    pub(super) async fn drop_topic(&self, scope: &Scope<'_>, name: &TableRef, if_exists: bool) -> Result<Outcome> {
        let name = self.topic_name(scope, name)?;
        let alteration = self.catalog.begin_alteration().await;
        let catalog = self.catalog.current();
        let topic = match catalog.topic(&name) {
            Ok(topic) => topic.clone(),
            Err(_) if if_exists => return Ok(said(format!("Topic '{name}' does not exist"))),
            Err(error) => return Err(error),
        };
        let uses = |other: &&Arc<TopicMeta>| other.dead_letter.as_ref().is_some_and(|dead| dead.topic_id == topic.id);
        if let Some(other) = catalog.topics.values().find(uses) {
            return Err(Error::TopicInUse { topic: name, by: other.name.clone() });
        }
        let mut tables: Vec<TableName> = topic.routes.iter().map(|route| route.table.clone()).collect();
        tables.sort();
        tables.dedup();
        let mut gates = Vec::with_capacity(tables.len());
        for table in tables {
            let table = catalog.table(table.namespace().as_str(), table.table())?.clone();
            gates.push((self.router.close_gate(&table).await?, table));
        }
        let router = self.router.clone();
        let dropped = topic.clone();
        let done = actix::spawn(async move {
            alteration.commit_topics(Vec::new(), std::slice::from_ref(&dropped)).await?;
            for (gate, table) in &mut gates {
                let mut routes = router.routes_of(table.id).routes().to_vec();
                routes.retain(|route| route.topic != dropped.id);
                router.set_routes(gate, table, TableRoutes::new(routes));
            }
            Ok(())
        });
        done.await.unwrap_or(Err(Error::Aborted))?;
        self.retire_topic(&topic).await;
        Ok(said(format!("Topic '{name}' dropped successfully")))
    }

    /// The topic went with its namespace: tables of others have no routes into it any more.
    pub(super) async fn drop_routes_into(&self, topic: &TopicMeta) {
        let _alteration = self.catalog.begin_alteration().await;
        for route in &topic.routes {
            let catalog = self.catalog.current();
            let found = catalog.find(route.table.namespace().as_str(), route.table.table());
            let Some(table) = found.filter(|table| table.id == route.table_id) else { continue };
            // An error: the table was dropped meanwhile.
            if let Ok(mut gate) = self.router.close_gate(table).await {
                let mut routes = self.router.routes_of(table.id).routes().to_vec();
                routes.retain(|route| route.topic != topic.id);
                self.router.set_routes(&mut gate, table, TableRoutes::new(routes));
            }
        }
    }

    /// The topic is out of the catalog: its consumers are told, its keys removed behind.
    pub(super) async fn retire_topic(&self, topic: &TopicMeta) {
        self.topics.groups.retire(topic.id);
        self.topics.signals.forget(topic.id);
        self.jobs.submit_owed(topic_cleanup_of(&DroppedTopic { id: topic.id, name: topic.name.clone() })).await;
    }

    /// A route's condition, as SELECT over the rows of all owners would have it.
    async fn compile_route(
        &self,
        catalog: &Arc<Catalog>,
        topic: &TopicMeta,
        route: &TopicRoute,
        table: &TableMeta,
    ) -> Result<Route> {
        let condition = match &route.condition {
            Some(condition) => Some(self.compile_condition(catalog, condition, table).await?),
            None => None,
        };
        Ok(Route { topic: topic.id, partitions: topic.partitions, op: route.op, payload: route.payload, condition })
    }

    async fn compile_condition(
        &self,
        catalog: &Arc<Catalog>,
        condition: &str,
        table: &TableMeta,
    ) -> Result<Arc<dyn LiveQuery>> {
        let (namespace, name) = (table.name.namespace(), table.name.table());
        // A line of its own: it may end in a comment.
        let sql = format!("SELECT * FROM \"{namespace}\".\"{name}\" WHERE (\n{condition}\n)");
        let Some(Statement::Query(query)) = parse::parse(&sql)?.pop().map(|parsed| parsed.statement) else {
            return Err(Error::internal("a route's condition is no condition"));
        };
        let scope = Scope {
            principal: Principal { user: UserId::root(), role: Role::Dba, generation: 0 },
            impersonates: false,
            all_owners: table.kind == TableKind::User,
            namespace: "default",
            params: &[],
            durability: None,
            base_url: None,
            caller: CallerGone::default(),
            now_us: self.clock.now_us(),
        };
        let ctx = self.query_context_in(&scope, self.store.read_view(), catalog.clone());
        let query = self.engine.compile_live(ctx, &ast::Statement::Query(query)).await?;
        // What names its caller means something else to each: a route has none.
        if query.identity().contains('\0') {
            let text = "a route has no caller: CURRENT_USER and CURRENT_ROLE can not stand in its WHERE";
            return Err(Error::Unsupported(text.to_owned()));
        }
        Ok(query)
    }

    /// The routes of a table that is to become `table`. `None`: it has none.
    ///
    /// # Errors
    /// `INVALID_SQL` where a condition would not hold any more, or the table may not be routed then.
    pub(super) async fn routes_of_altered(
        &self,
        catalog: &Arc<Catalog>,
        table: &TableMeta,
    ) -> Result<Option<TableRoutes>> {
        let mut next = Catalog::clone(catalog);
        next.insert_table(Arc::new(table.clone()));
        let next = Arc::new(next);
        let mut routes = Vec::new();
        for topic in catalog.topics.values() {
            for route in topic.routes.iter().filter(|route| route.table_id == table.id) {
                let compiled = match self.policy.may_be_routed(table) {
                    Ok(()) => self.compile_route(&next, topic, route, table).await,
                    Err(error) => Err(error),
                };
                routes.push(compiled.map_err(|error| {
                    let (name, op) = (&topic.name, words(route.op));
                    let text =
                        format!("{} is a source ON {op} of topic '{name}', which would not go on: {error}", table.name);
                    Error::InvalidSql(text)
                })?);
            }
        }
        Ok((!routes.is_empty()).then(|| TableRoutes::new(routes)))
    }

    /// Compiles the routes of all tables, before anything is written. A condition that does not compile any more lets all
    /// through: what is left out is gone.
    pub(super) async fn start_routes(&self) {
        let catalog = self.catalog.current();
        for table in catalog.tables() {
            let mut routes = Vec::new();
            for topic in catalog.topics.values() {
                for route in topic.routes.iter().filter(|route| route.table_id == table.id) {
                    let compiled = self.compile_route(&catalog, topic, route, table).await;
                    routes.push(compiled.unwrap_or_else(|error| {
                        tracing::error!(topic = %topic.name, table = %table.name, %error, "a route's condition does not hold any more");
                        let (op, payload) = (route.op, route.payload);
                        Route { topic: topic.id, partitions: topic.partitions, op, payload, condition: None }
                    }));
                }
            }
            if !routes.is_empty() {
                self.router.start_routes(table.id, TableRoutes::new(routes));
            }
        }
    }
}

fn words(op: ChangeKind) -> &'static str {
    match op {
        ChangeKind::Insert => "INSERT",
        ChangeKind::Update => "UPDATE",
        ChangeKind::Delete => "DELETE",
    }
}
