//! Opening a subscription: compile, count, attach, then read. The order is what LQ-1 rests on.
//!
//! Attached first: from here on every change comes. Then the view is opened: it contains every change before. A change
//! between the two is in both, and is told once: the cut says by whom.
//! Of a namespace all tables are attached, then one view is opened for all.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{AttachedTable, Attachment, LiveEndpoint, OpenOutcome};
use crate::error::{Error, Result, SubscriptionFault};
use crate::live::cursors::{CursorKey, CursorTarget, CursorWish};
use crate::live::database::{Attached, LiveScope, LiveTarget};
use crate::live::directory::{CursorClaim, Follows, LiveConnection, SubscriptionGuard, SubscriptionSpec};
use crate::live::history::End;
use crate::live::namespace::FeedTable;
use crate::live::pages::{LiveReader, Page, PageJob};
use crate::live::session::{HeldCursor, JoinRequest, Joined, OpenRequest, Opened, OpenedFeed};
use crate::live::subscription::Start;
use crate::live::{Position, Subscriber, Wire};
use crate::model::result::ResultSchema;
use crate::model::{NamespaceName, Owner, Principal, Seq, TableId, UserId};

/// # Errors
/// Whatever of it fails; what was done before is undone.
pub(super) async fn open(
    endpoint: Arc<LiveEndpoint>,
    connection: Arc<LiveConnection>,
    principal: Principal,
    request: OpenRequest,
) -> Result<(OpenOutcome, Attachment)> {
    let turn = endpoint.clone();
    let _turn = turn.admission.turn().await?;
    let scope = endpoint.database.compile(&principal, &request.request.sql).await?;
    let opening = Opening { endpoint, connection, principal, request };
    let wire = opening.request.wire;
    let spec = match &scope {
        LiveScope::Table(target) => {
            let table = target.query.table().clone();
            opening.spec(Follows::Table(table), target.reader.clone(), target.actor.clone())
        }
        LiveScope::Namespace { namespace, reader, actor, .. } => {
            opening.spec(Follows::Namespace(namespace.clone()), reader.clone(), actor.clone())
        }
    };
    let entry = opening.count(spec)?;
    let opened = match scope {
        LiveScope::Table(target) => opening.table(target).await,
        LiveScope::Namespace { namespace, tables, .. } => opening.namespace(&namespace, tables).await,
    };
    let (outcome, tables, claim) = opened.inspect_err(|error| entry.subscription().ends(End::of(error)))?;
    Ok((outcome, Attachment { tables, wire, entry, _claim: claim.map(Box::new) }))
}

/// What is attached for an opened subscription.
type Attachments = (OpenOutcome, Vec<AttachedTable>, Option<CursorClaim>);

struct Opening {
    endpoint: Arc<LiveEndpoint>,
    connection: Arc<LiveConnection>,
    principal: Principal,
    request: OpenRequest,
}

impl Opening {
    async fn table(self, target: LiveTarget) -> Result<Attachments> {
        let table = target.query.table().clone();
        let group = self.claim(
            CursorTarget::Table { table: table.id, name: table.name.clone() },
            target.owner.as_ref().and_then(Owner::user).cloned(),
        )?;
        let from = self.from(&group, false, |positions| positions.get(&table.id).copied().unwrap_or(Seq::ZERO).into());
        let start = self.start_of(from.as_ref(), &table.name.to_string());

        let database = &self.endpoint.database;
        let attached = database.attach(&target, self.subscriber(false)).await?;
        let (mut cut, mut reader, mut first) = (attached.head, None, None);
        if start != Start::Changes {
            let view = self.readers(std::slice::from_ref(&target)).await?.swap_remove(0);
            cut = cut.max(view.head());
            check_position(start, &*view)
                .map_err(|from| SubscriptionFault::PositionLost { from }.into())
                .inspect_err(|lost| self.begin_anew(&group, lost))?;
            first = self.first_page(&target, &view, start, cut).await?;
            reader = Some(view);
        }
        self.note_beginning(&group, start, [(table.id, cut)]);
        let cursor = group.as_ref().map(|group| HeldCursor { key: group.claim.key().clone(), table: Some(table.id) });
        let opened = Opened { schema: target.query.schema().clone(), start: Some(start), cut, first, cursor };
        let tables = vec![AttachedTable::new(target.query, reader, attached.guard)];
        Ok((OpenOutcome::Table(opened), tables, group.map(|group| group.claim)))
    }

    async fn namespace(self, namespace: &NamespaceName, mut targets: Vec<LiveTarget>) -> Result<Attachments> {
        let database = &self.endpoint.database;
        // It is in the directory by now: of tables made from here on it is told. Those made before that are looked for.
        for name in database.tables_of(namespace) {
            if targets.iter().all(|target| target.query.table().name != name)
                && let Some(made) = database.compile_table(&self.principal, &self.request.request.sql, &name).await?
            {
                targets.push(made);
            }
        }
        let mut attached = Vec::with_capacity(targets.len());
        for target in &targets {
            attached.push(database.attach(target, self.subscriber(true)).await?);
        }
        let group = self.claim(CursorTarget::Namespace { name: namespace.clone() }, None)?;
        let from = self.from(&group, true, |positions| {
            let of = |target: &LiveTarget| {
                let table = target.query.table();
                Some((table.name.to_string(), *positions.get(&table.id)?))
            };
            Position::Tables(targets.iter().filter_map(of).collect())
        });
        let starts: Vec<Start> =
            targets.iter().map(|t| self.start_of(from.as_ref(), &t.query.table().name.to_string())).collect();
        let reads = starts.iter().any(|start| *start != Start::Changes);
        let mut readers: Vec<Option<Arc<dyn LiveReader>>> = vec![None; targets.len()];
        if reads {
            readers = self.readers(&targets).await?.into_iter().map(Some).collect();
        }
        let schema = union(targets.iter().map(|target| target.query.schema()));
        let (mut tables, mut parts, mut first) = (Vec::new(), Vec::new(), None);
        for (((target, attached), start), reader) in targets.into_iter().zip(attached).zip(starts).zip(readers) {
            let table = target.query.table().clone();
            let mut cut = attached.head;
            if let Some(view) = &reader {
                cut = cut.max(view.head());
                check_table_position(start, &**view, &target).inspect_err(|lost| self.begin_anew(&group, lost))?;
                if tables.is_empty() {
                    first = self.first_page(&target, view, start, cut).await?;
                }
            }
            tables.push(FeedTable { id: table.id, name: table.name.to_string(), start, cut });
            parts.push(AttachedTable::new(target.query, reader, attached.guard));
        }
        let loads = from.is_none() && self.request.start.loads();
        if let Some(first) = tables.first() {
            self.note_beginning(&group, first.start, tables.iter().map(|table| (table.id, table.cut)));
        }
        let cursor = group.as_ref().map(|group| HeldCursor { key: group.claim.key().clone(), table: None });
        let opened = OpenedFeed { schema, tables, first, loads, cursor };
        Ok((OpenOutcome::Namespace(opened), parts, group.map(|group| group.claim)))
    }

    /// Takes the cursor that the options name.
    fn claim(&self, target: CursorTarget, rows_of: Option<UserId>) -> Result<Option<Group>> {
        let options = self.request.request.options.as_ref();
        let Some(group) = options.and_then(|options| options.group.as_ref()) else { return Ok(None) };
        let wish = CursorWish { key: CursorKey::new(&self.principal.user, group)?, target, rows_of };
        let LiveEndpoint { directory, limits, clock, .. } = &*self.endpoint;
        let max = limits.max_cursors_per_user;
        let (claim, positions) = directory.claim(wish, &self.principal, self.request.key, max, clock)?;
        Ok(Some(Group { claim, positions }))
    }

    /// Where the client stands: as it says, else where its cursor is. And may it have heard more? So it may beyond what it
    /// acknowledged, and where it gives one number for several tables.
    fn from(
        &self,
        group: &Option<Group>,
        of_many: bool,
        of: impl Fn(&BTreeMap<TableId, Seq>) -> Position,
    ) -> Option<(Position, bool)> {
        let options = self.request.request.options.as_ref();
        if let Some(given) = options.and_then(|options| options.from.clone()) {
            let at_least = of_many && given.seq().is_some();
            return Some((given, at_least));
        }
        group.as_ref().filter(|group| !group.positions.is_empty()).map(|group| (of(&group.positions), true))
    }

    /// What the cursor stood at is gone: it is told once, and the next time begins with a snapshot.
    fn begin_anew(&self, group: &Option<Group>, lost: &Error) {
        tracing::debug!(%lost, "a position is lost");
        let given = self.request.request.options.as_ref().is_some_and(|options| options.from.is_some());
        if let (Some(group), false) = (group, given) {
            self.endpoint.directory.cursors().forget_positions(group.claim.key(), self.request.key);
        }
    }

    /// Who wants no rows of before stands at the beginning, acknowledged or not.
    fn note_beginning(&self, group: &Option<Group>, start: Start, cuts: impl IntoIterator<Item = (TableId, Seq)>) {
        if let Some(group) = group
            && matches!(start, Start::Newest { rows: 0 })
        {
            let cursors = self.endpoint.directory.cursors();
            // Another may have taken over this moment: then it is none of our business.
            let _ = cursors.ack(group.claim.key(), self.request.key, cuts, self.endpoint.clock.now_us());
        }
    }

    fn start_of(&self, from: Option<&(Position, bool)>, table: &str) -> Start {
        Start::of_table(self.request.request.options.as_ref(), from, table)
    }

    fn spec(&self, follows: Follows, reader: Principal, actor: Option<Principal>) -> SubscriptionSpec {
        let request = &self.request.request;
        SubscriptionSpec {
            follows,
            reader,
            actor,
            subscription_id: request.id.clone().into(),
            query: request.sql.clone().into(),
            options: request.options.as_ref().and_then(|options| serde_json::to_string(options).ok()).map(Into::into),
        }
    }

    fn count(&self, spec: SubscriptionSpec) -> Result<SubscriptionGuard> {
        let max = self.endpoint.limits.max_subscriptions_per_user;
        let whose = (&self.connection, &self.principal.user);
        self.endpoint.directory.subscribe(self.request.key, whose, spec, max, &self.endpoint.clock)
    }

    fn subscriber(&self, of_many: bool) -> Subscriber {
        let (key, format) = (self.request.key, self.request.wire.format);
        Subscriber { key, format, outbox: self.connection.outbox().clone(), of_many }
    }

    /// One view, and a reader of it for each.
    async fn readers(&self, targets: &[LiveTarget]) -> Result<Vec<Arc<dyn LiveReader>>> {
        readers(&self.endpoint, targets).await
    }

    async fn first_page(
        &self,
        target: &LiveTarget,
        view: &Arc<dyn LiveReader>,
        start: Start,
        cut: Seq,
    ) -> Result<Option<Page>> {
        first_page(&self.endpoint, target, view, (start, cut, self.request.wire)).await
    }
}

/// The cursor that is read with, and where it stood.
struct Group {
    claim: CursorClaim,
    positions: BTreeMap<TableId, Seq>,
}

/// A table on its way into a subscription to its namespace.
pub(super) struct Joining {
    pub sql: String,
    /// Tables that are in it.
    pub present: Vec<TableId>,
    pub subscriber: Subscriber,
    pub wire: Wire,
    pub request: JoinRequest,
}

/// # Errors
/// Whatever of it fails; what was done before is undone. `None`: it is in already, or in no feed.
pub(super) async fn join(
    endpoint: Arc<LiveEndpoint>,
    principal: Principal,
    joining: Joining,
) -> Result<Option<(Joined, AttachedTable)>> {
    let Joining { sql, present, subscriber, wire, request } = joining;
    let database = &endpoint.database;
    let Some(target) = database.compile_table(&principal, &sql, &request.table).await? else { return Ok(None) };
    let table = target.query.table().clone();
    if present.contains(&table.id) {
        return Ok(None);
    }
    let Attached { head, guard } = database.attach(&target, subscriber).await?;
    let view = readers(&endpoint, std::slice::from_ref(&target)).await?.swap_remove(0);
    let (start, cut) = (Start::Resume { from: request.told, at_least: false }, head.max(view.head()));
    check_table_position(start, &*view, &target)?;
    let first = first_page(&endpoint, &target, &view, (start, cut, wire)).await?;
    let first = first.ok_or_else(|| Error::internal("a table joins without a page"))?;
    let table = FeedTable { id: table.id, name: table.name.to_string(), start, cut };
    let joined = Joined { table, schema: target.query.schema().clone(), first };
    Ok(Some((joined, AttachedTable::new(target.query, Some(view), guard))))
}

async fn readers(endpoint: &LiveEndpoint, targets: &[LiveTarget]) -> Result<Vec<Arc<dyn LiveReader>>> {
    let readers = endpoint.database.open_readers(targets).await?;
    if readers.len() == targets.len() { Ok(readers) } else { Err(Error::internal("a view without its readers")) }
}

async fn first_page(
    endpoint: &LiveEndpoint,
    target: &LiveTarget,
    view: &Arc<dyn LiveReader>,
    (start, cut, wire): (Start, Seq, Wire),
) -> Result<Option<Page>> {
    let Some(request) = start.first_page(cut) else { return Ok(None) };
    let job = PageJob { query: target.query.clone(), reader: view.clone(), request, wire };
    endpoint.database.read_page(job).await.map(Some)
}

/// Are all changes above the position that a replay starts from still there? If not, that position.
fn check_position(start: Start, view: &dyn LiveReader) -> Result<(), Seq> {
    let from = match start {
        Start::Resume { from, .. } => from,
        Start::Continue { end, .. } => end,
        Start::Changes | Start::Load { .. } | Start::Newest { .. } => return Ok(()),
    };
    if from < view.replayable_from() { Err(from) } else { Ok(()) }
}

/// The same, of one of several tables. Of one that the client has never heard of, it misses no delete.
fn check_table_position(start: Start, view: &dyn LiveReader, target: &LiveTarget) -> Result<()> {
    if start.from() == Some(Seq::ZERO) {
        return Ok(());
    }
    let table = target.query.table().name.clone();
    check_position(start, view).map_err(|from| SubscriptionFault::PositionOfTableLost { from, table }.into())
}

/// The columns of all tables, each by its first occurrence.
fn union<'a>(schemas: impl Iterator<Item = &'a ResultSchema>) -> ResultSchema {
    let mut columns = Vec::new();
    for column in schemas.flat_map(ResultSchema::columns) {
        if columns.iter().all(|known: &crate::model::ResultColumn| known.name != column.name) {
            columns.push(column.clone());
        }
    }
    ResultSchema::new(columns)
}
