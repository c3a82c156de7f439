//! Live queries: compiled, attached, read, and ended from outside.
//!
//! Owns the bridge from sessions to the actors that deliver and the views that pages are read from.
//! Never decides what an event is: that is `live`'s.
//! Invariant: a subscriber is attached before its view is opened, so no change is in neither (LQ-1).

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::sql::sqlparser::ast;
use tokio::sync::broadcast::error::RecvError;

use super::Database;
use super::execute::Scope;
use super::request::{CallerGone, Outcome};
use crate::auth::{AuthEvent, Authenticator};
use crate::error::{Error, Result, SubscriptionFault};
use crate::live::database::{AttachGuard, Attached, LiveDatabase, LiveLogin, LiveScope, LiveTarget};
use crate::live::pages::{LiveReader, Page, PageJob, ScanOrder};
use crate::live::{LiveDirectory, LiveQuery, StoredRows, Subscriber};
use crate::model::{Catalog, NamespaceName, Owner, Principal, Seq, StoredRow, TableKind, TableMeta, TableName};
use crate::sql::live_query::namespace;
use crate::sql::statement::{ExecuteTarget, ParsedStatement, Statement};
use crate::storage::{BatchBuilder, FeedScan, Order, PartitionRows, ReadView};

/// Rows read and decoded at once.
const SCAN_ROWS: usize = 512;

impl Database {
    pub fn live(&self) -> &Arc<LiveDirectory> {
        &self.live
    }

    pub(super) fn kill_live_query(&self, live_id: &str) -> Result<Outcome> {
        self.live.kill(live_id)?;
        Ok(Outcome::Done { rows: 0, message: format!("Live query '{live_id}' killed") })
    }

    /// Compiles and authorises a query of one table.
    async fn live_target(
        &self,
        caller: &Principal,
        reader: Principal,
        all_owners: bool,
        query: ast::Query,
    ) -> Result<LiveTarget> {
        let scope = Scope {
            principal: reader,
            impersonates: false,
            all_owners,
            namespace: DEFAULT_NAMESPACE,
            params: &[],
            durability: None,
            base_url: None,
            caller: CallerGone::default(),
            now_us: self.clock.now_us(),
        };
        let statement = ast::Statement::Query(Box::new(query));
        let query = self.engine.compile_live(self.query_context(&scope)?, &statement).await;
        let allowed =
            query.and_then(|query| self.policy.may_subscribe(&scope.principal, query.table()).map(|()| query));
        let query = allowed.inspect_err(|error| self.audit.note_denied(caller, "SUBSCRIBE", error, None))?;
        let owner = (!query.all_owners()).then(|| query.table().owner_of(&scope.principal));
        let actor = (caller.user != scope.principal.user).then(|| caller.clone());
        Ok(LiveTarget { query, owner, reader: scope.principal, actor })
    }

    /// The SELECT of a subscription, and for whom it runs.
    fn live_statement<'p>(
        &self,
        principal: &Principal,
        parsed: &'p [ParsedStatement],
    ) -> Result<(&'p ast::Query, Principal, bool)> {
        let one = |statement: &'p Statement| match statement {
            Statement::Query(query) => Ok(&**query),
            _ => Err(Error::InvalidSql("a subscription takes one SELECT … FROM namespace.table [WHERE …]".to_owned())),
        };
        let [statement] = parsed else {
            return Err(Error::InvalidSql("a subscription takes one statement".to_owned()));
        };
        match &statement.statement {
            Statement::ExecuteAs { target, inner } => {
                let (principal, all_owners) = self.target(principal, &statement.statement, target, None)?;
                debug_assert!(all_owners == (*target == ExecuteTarget::All));
                Ok((one(&inner.statement)?, principal, all_owners))
            }
            statement => Ok((one(statement)?, principal.clone(), false)),
        }
    }
}

/// Of the SQL of a subscription, which names its tables in full.
const DEFAULT_NAMESPACE: &str = "default";

/// Has it a feed over all owners?
fn is_in_feeds(table: &TableMeta) -> bool {
    table.kind != TableKind::Shared
}

fn feed_tables(catalog: &Catalog, namespace: &NamespaceName) -> impl Iterator<Item = Arc<TableMeta>> + use<> {
    catalog.tables_in(namespace).into_iter().filter(|table| is_in_feeds(table))
}

fn known_columns(catalog: &Catalog, namespace: &NamespaceName) -> HashSet<String> {
    let tables: Vec<_> = feed_tables(catalog, namespace).collect();
    namespace::columns_of(tables.iter().map(|table| &**table))
}

#[async_trait]
impl LiveDatabase for Database {
    async fn authenticate(&self, token: &str, peer: Option<IpAddr>) -> Result<LiveLogin> {
        let session = match (self.auth.authenticate_bearer(token), peer) {
            (Ok(session), _) => session,
            // Only wrong tokens count: ten thousand clients behind one address may reconnect at once.
            (Err(error), Some(peer)) => return Err(self.auth.admit_login(peer).err().unwrap_or(error)),
            (Err(error), None) => return Err(error),
        };
        Ok(LiveLogin {
            session: session.sid.map(|sid| sid.to_string()),
            expires_at: session.ends_s().map(|s| s.saturating_mul(1_000_000)),
            principal: session.principal,
        })
    }

    async fn compile(&self, principal: &Principal, sql: &str) -> Result<LiveScope> {
        let parsed = self.parsed.parse(sql, true)?;
        let (query, reader, all_owners) = self.live_statement(principal, &parsed)?;
        let Some(namespace) = namespace::namespace_of(query) else {
            let mut query = query.clone();
            if all_owners {
                namespace::name_table(&mut query, DEFAULT_NAMESPACE);
            }
            return Ok(LiveScope::Table(self.live_target(principal, reader, all_owners, query).await?));
        };
        let namespace = NamespaceName::parse(&namespace)?;
        if !all_owners {
            let text = format!("FROM {namespace}.* is about the rows of all users: EXECUTE AS USER '*' (SELECT …)");
            return Err(Error::Unsupported(text));
        }
        let catalog = self.catalog.current();
        if !catalog.namespaces.contains_key(&namespace) {
            return Err(Error::NamespaceNotFound(namespace));
        }
        let known = known_columns(&catalog, &namespace);
        let mut tables = Vec::new();
        for table in feed_tables(&catalog, &namespace) {
            let query = namespace::query_of(query, &table, &known);
            tables.push(self.live_target(principal, reader.clone(), true, query).await?);
        }
        let actor = (principal.user != reader.user).then(|| principal.clone());
        Ok(LiveScope::Namespace { namespace, tables, reader, actor })
    }

    async fn compile_table(&self, principal: &Principal, sql: &str, table: &TableName) -> Result<Option<LiveTarget>> {
        let parsed = self.parsed.parse(sql, true)?;
        let (query, reader, all_owners) = self.live_statement(principal, &parsed)?;
        let catalog = self.catalog.current();
        let meta = catalog.table(table.namespace().as_str(), table.table())?;
        if !all_owners || !is_in_feeds(meta) {
            return Ok(None);
        }
        let query = namespace::query_of(query, meta, &known_columns(&catalog, table.namespace()));
        self.live_target(principal, reader, true, query).await.map(Some)
    }

    fn tables_of(&self, namespace: &NamespaceName) -> Vec<TableName> {
        feed_tables(&self.catalog.current(), namespace).map(|table| table.name.clone()).collect()
    }

    async fn attach(&self, target: &LiveTarget, subscriber: Subscriber) -> Result<Attached> {
        // It is in the directory by now: whoever loses this right later is found there.
        if let Some(actor) = &target.actor {
            self.auth.may_act_for(actor, &target.reader.user)?;
        }
        let key = subscriber.key;
        let query = target.query.clone();
        // Made first: whoever gives up while waiting for the head is detached all the same.
        let guard = {
            // Not with the compiled query: where another subscriber has the same, only that one's is kept.
            let (router, table, owner) = (self.router.clone(), query.table().clone(), target.owner.clone());
            AttachGuard::new(move || router.detach(&table, owner, key))
        };
        let owner = target.owner.clone().unwrap_or(Owner::Shared);
        let head = self.router.attach(&owner, query, subscriber).await?;
        // Who is dropped later is found by the erasure.
        self.auth.check_holder(&target.reader)?;
        Ok(Attached { head, guard })
    }

    async fn open_readers(&self, targets: &[LiveTarget]) -> Result<Vec<Arc<dyn LiveReader>>> {
        let view = self.store.read_view();
        // Behind the view: then it is not of one who has the name after a drop.
        for target in targets {
            self.auth.check_holder(&target.reader)?;
        }
        let wanted: Vec<_> = targets.iter().map(|target| (target.query.clone(), target.owner.clone())).collect();
        let open = move || wanted.into_iter().map(|(query, owner)| reader_of(view.clone(), query, owner)).collect();
        self.engine.blocking(open).await
    }

    async fn read_page(&self, job: PageJob) -> Result<Page> {
        self.engine.blocking(move || job.run()).await
    }
}

/// The rows of one partition, or of all owners of a table, at one moment.
struct ViewReader {
    view: ReadView,
    query: Arc<dyn LiveQuery>,
    owner: Option<Owner>,
    head: Seq,
    replayable_from: Seq,
}

fn reader_of(view: ReadView, query: Arc<dyn LiveQuery>, owner: Option<Owner>) -> Result<Arc<dyn LiveReader>> {
    let (head, replayable_from) = view.reach(query.table(), owner.as_ref())?;
    Ok(Arc::new(ViewReader { view, query, owner, head, replayable_from }))
}

impl LiveReader for ViewReader {
    fn head(&self) -> Seq {
        self.head
    }

    fn replayable_from(&self) -> Seq {
        self.replayable_from
    }

    fn scan(
        &self,
        range: RangeInclusive<Seq>,
        order: ScanOrder,
    ) -> Box<dyn Iterator<Item = Result<StoredRows>> + Send + '_> {
        let order = match order {
            ScanOrder::OldestFirst => Order::Ascending,
            ScanOrder::NewestFirst => Order::Descending,
        };
        let table = self.query.table();
        let (rows, builder) = match &self.owner {
            Some(owner) => match self.view.rows(table, owner, range, order) {
                Ok(rows) if table.is_stream() => {
                    let builder = BatchBuilder::all_owners(table.clone(), self.view.homes().clone(), None);
                    (StoredScan::Own(owner.clone(), rows), builder)
                }
                Ok(rows) => (StoredScan::Own(owner.clone(), rows), BatchBuilder::new(table.clone(), None)),
                Err(error) => return Box::new(std::iter::once(Err(error))),
            },
            None => {
                let feed = Box::new(self.view.feed(table, range, order));
                (StoredScan::Feed(feed), BatchBuilder::all_owners(table.clone(), self.view.homes().clone(), None))
            }
        };
        Box::new(Batches { rows, owner: Owner::Shared, ready: VecDeque::new(), builder })
    }
}

enum StoredScan {
    Own(Owner, PartitionRows),
    Feed(Box<FeedScan>),
}

impl StoredScan {
    async fn next(&mut self) -> Result<Option<(Owner, Vec<StoredRow>)>> {
        match self {
            StoredScan::Own(owner, rows) => Ok(rows.next(SCAN_ROWS).await?.map(|rows| (owner.clone(), rows))),
            StoredScan::Feed(feed) => feed.next().await,
        }
    }
}

/// Stored rows, some at a time.
struct Batches {
    rows: StoredScan,
    /// Whose rows are ready.
    owner: Owner,
    ready: VecDeque<StoredRow>,
    builder: BatchBuilder,
}

impl Batches {
    fn next_rows(&mut self) -> Result<Option<StoredRows>> {
        let mut created = Vec::new();
        while created.len() < SCAN_ROWS {
            if let Some(row) = self.ready.pop_front() {
                created.push(row.created);
                self.builder.push(&self.owner, &row)?;
                continue;
            }
            match wait_for(self.rows.next())? {
                Some((owner, rows)) => (self.owner, self.ready) = (owner, rows.into()),
                None => break,
            }
        }
        if created.is_empty() {
            return Ok(None);
        }
        Ok(Some(StoredRows { rows: self.builder.finish()?, created }))
    }
}

impl Iterator for Batches {
    type Item = Result<StoredRows>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_rows().transpose()
    }
}

/// Pages are read on a thread of the engine, which does nothing else meanwhile. What a future needs of its runtime goes
/// on, on another thread.
fn wait_for<T>(future: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future))
}

/// Closes the sockets of users who lost their right to them, within moments (A15), and ends subscriptions in the name of
/// users whom their subscriber may not act for any more. Runs until the authenticator is gone.
pub(super) async fn follow_rights(auth: Arc<Authenticator>, live: Arc<LiveDirectory>) {
    let mut changes = auth.changes();
    // Only the channel keeps it going: a task must not keep the authenticator alive.
    let auth = Arc::downgrade(&auth);
    loop {
        let change = changes.recv().await;
        let Some(auth) = auth.upgrade() else { return };
        match change {
            Ok(AuthEvent::UserDropped(user) | AuthEvent::UserLocked(user) | AuthEvent::UserChanged(user)) => {
                if auth.user(&user).is_err() {
                    live.cursors().remove_all(|cursor| cursor.user == user);
                }
                live.close_user(&user, &Error::InvalidCredentials);
                let lost = |actor: &Principal| auth.may_act_for(actor, &user).is_err();
                live.end(
                    |s| s.reader.user == user && s.actor.as_deref().is_some_and(lost),
                    &SubscriptionFault::RightRevoked.into(),
                );
            }
            Ok(AuthEvent::SessionRevoked(sid)) => {
                live.close_session(&sid.to_string(), &Error::InvalidCredentials);
            }
            Err(RecvError::Lagged(_)) => {
                // Too many at once to be told each: everyone proves who they are again. 4499 brings them back.
                live.close(|_| true, &Error::Aborted);
            }
            Err(RecvError::Closed) => return,
        }
    }
}
