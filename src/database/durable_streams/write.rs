//! Making, appending to, closing and deleting streams.
//!
//! Each is decided on a view that is opened in the mailbox's turn, and the turn lasts until its commit has ended: so no
//! decision is made on a record that is about to change, also where the caller goes away in the middle.

use bytes::Bytes;

use super::read::StretchRows;
use super::turns::Turn;
use super::{Notes, StreamAddress, StreamScope, producer_in, producer_name, producers_prefix, record_name, stream_in};
use crate::database::Database;
use crate::database::execute::Scope;
use crate::database::request::CallerGone;
use crate::error::{Error, Result};
use crate::model::{PkBytes, Principal, Seq, WriteAck, WriteCommand, WriteOp};
use crate::sql::bind;
use crate::storage::ReadView;
use crate::streams::append::{self, Append, Decision};
use crate::streams::body;
use crate::streams::content_type;
use crate::streams::create::{self, Branch, Create, Fork};
use crate::streams::expiry::Expiry;
use crate::streams::offset::Offset;
use crate::streams::record::{Mark, Presence, ProducerState, StoredStream, Stream, StreamState, Stretch, there};

/// Records that have expired and are removed with the making of another stream.
const SWEPT: usize = 8;
/// Producers that are forgotten with their stream. Of more, some notes stay that nobody asks for.
const PRODUCERS: usize = 4_096;
/// Rows that are deleted in one commit.
const DELETED_ROWS: usize = 1_000;

/// The answer to the making of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// It was not there before.
    pub new: bool,
    pub content_type: String,
    pub tail: Offset,
    pub closed: bool,
    pub expiry: Expiry,
}

/// The answer to an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub tail: Offset,
    pub closed: bool,
    /// Rows were written: not where it was done before, or nothing was brought.
    pub wrote: bool,
    /// What is remembered of its producer.
    pub producer: Option<ProducerState>,
}

impl Database {
    /// # Errors
    /// `STREAM_CONFLICT`, `STREAM_NOT_FOUND` of a fork's source, `INVALID_INPUT`, and those of a write.
    pub async fn create_stream(
        &self,
        caller: &Principal,
        address: &StreamAddress,
        create: &Create,
        content: &Bytes,
    ) -> Result<Created> {
        self.write(async |_| self.try_to_create(caller, address, create, content).await).await
    }

    async fn try_to_create(
        &self,
        caller: &Principal,
        address: &StreamAddress,
        create: &Create,
        content: &Bytes,
    ) -> Result<Created> {
        let (scope, turn, view, existing) = self.begin(caller, address).await?;
        if !create::is_free(existing.as_ref(), create, scope.ttl_us, scope.now_us)? {
            // It says so where it is there.
            let Some(existing) = existing else { return Err(Error::internal("a stream that is there and is not")) };
            return Ok(Created {
                new: false,
                content_type: existing.state.content_type.clone(),
                tail: Offset(existing.tail),
                closed: existing.is_closed(),
                expiry: existing.state.expiry,
            });
        }
        let mut notes = Notes::default();
        if let Some(expired) = &existing {
            forget(&view, &scope, (&address.key, expired), &mut notes)?;
        }
        sweep(&view, &scope, &address.key, &mut notes)?;
        let (state, inherits, mut rows) = match &create.fork {
            None => (create::new_state(create, scope.now_us), None, Vec::new()),
            Some(fork) => {
                let (state, until, prefix) = self.fork(&view, &scope, (create, fork), &mut notes).await?;
                (state, Some(until), prefix.into_iter().collect())
            }
        };
        scope.shape.check_content_type(&state.content_type)?;
        if !content.is_empty() {
            rows.extend(body::messages(&state.content_type, content)?);
        }
        let tail = match (rows.is_empty(), inherits) {
            (false, _) => Mark::Last,
            (true, Some(until)) => Mark::At(until),
            (true, None) => Mark::Before,
        };
        let (content_type, closed, expiry) = (state.content_type.clone(), state.closed.is_some(), state.expiry);
        let record = StoredStream { start: Mark::Before, tail, state };
        notes.put(&address.key, &record)?;
        let ack = self.write_stream(&scope, (&address.key, &rows), notes, turn).await?;
        let last = ack.last.ok_or_else(|| Error::internal("a stream was made at no position"))?;
        let tail = match tail {
            Mark::Last => last,
            Mark::At(seq) => seq,
            Mark::Before => last.before(),
        };
        Ok(Created { new: true, content_type, tail: Offset(tail), closed, expiry })
    }

    /// Takes the mailbox's turn, and then a view: what it has by this key is so until the turn is given back.
    async fn begin(
        &self,
        caller: &Principal,
        address: &StreamAddress,
    ) -> Result<(StreamScope, Turn, ReadView, Option<Stream>)> {
        let scope = self.stream_scope(caller, address)?;
        let turn = self.turns.take(&scope.partition).await;
        let view = self.stream_view(&scope)?;
        let stream = stream_in(&view, &scope.partition, &address.key)?;
        Ok((scope, turn, view, stream))
    }

    /// Appends, and closes where that is asked for.
    ///
    /// # Errors
    /// `STREAM_NOT_FOUND`, `STREAM_GONE`, `STREAM_CLOSED`, `STREAM_CONFLICT`, `PRODUCER_FENCED`, `PRODUCER_GAP`,
    /// `INVALID_INPUT`, and those of a write.
    pub async fn append_to_stream(
        &self,
        caller: &Principal,
        address: &StreamAddress,
        append: &Append,
        content: &Bytes,
    ) -> Result<Appended> {
        self.write(async |_| self.try_to_append(caller, address, append, content).await).await
    }

    async fn try_to_append(
        &self,
        caller: &Principal,
        address: &StreamAddress,
        append: &Append,
        content: &Bytes,
    ) -> Result<Appended> {
        let (scope, turn, view, stream) = self.begin(caller, address).await?;
        let stream = there(stream, &address.key, scope.ttl_us, scope.now_us)?;
        let known = match &append.producer {
            Some(producer) => producer_in(&view, &scope.partition, (&address.key, stream.start), &producer.id)?,
            None => None,
        };
        let (state, producer) = match append::decide(&stream, known, append, scope.now_us)? {
            Decision::Write { state, producer } => (state, producer),
            Decision::Done { producer } => {
                let (tail, closed) = (Offset(stream.tail), stream.is_closed());
                return Ok(Appended { tail, closed, wrote: false, producer });
            }
        };
        let rows = if append.has_body { body::messages(&state.content_type, content)? } else { Vec::new() };
        if append.has_body && rows.is_empty() {
            return Err(Error::InvalidInput("An empty list appends nothing".to_owned()));
        }
        let closed = state.closed.is_some();
        let mut notes = Notes::default();
        let tail = if rows.is_empty() { Mark::At(stream.tail) } else { Mark::Last };
        notes.put(&address.key, &stream.with(state, tail))?;
        if let (Some(sent), Some(state)) = (&append.producer, &producer) {
            notes.put_producer(producer_name(&address.key, stream.start, &sent.id), *state)?;
        }
        let wrote = !rows.is_empty();
        let ack = self.write_stream(&scope, (&address.key, &rows), notes, turn).await?;
        let tail = ack.last.filter(|_| wrote).unwrap_or(stream.tail);
        Ok(Appended { tail: Offset(tail), closed, wrote, producer })
    }

    /// Deletes the stream and its rows. While streams that were forked from it are there, its rows are kept for them.
    ///
    /// # Errors
    /// `STREAM_NOT_FOUND`, `STREAM_GONE`, and those of a write.
    pub async fn delete_stream(&self, caller: &Principal, address: &StreamAddress) -> Result<()> {
        self.write(async |_| self.try_to_delete(caller, address).await).await
    }

    async fn try_to_delete(&self, caller: &Principal, address: &StreamAddress) -> Result<()> {
        let (scope, turn, view, stream) = self.begin(caller, address).await?;
        let stream = there(stream, &address.key, scope.ttl_us, scope.now_us)?;
        let mut notes = Notes::default();
        if stream.state.forks > 0 {
            let state = StreamState { deleted: true, ..stream.state.clone() };
            notes.put(&address.key, &stream.with(state, Mark::At(stream.tail)))?;
            self.write_stream(&scope, (&address.key, &[]), notes, turn).await?;
            return Ok(());
        }
        let gone = forget(&view, &scope, (&address.key, &stream), &mut notes)?;
        // First nobody sees it any more. A crash behind this leaves rows that expire with all others.
        self.write_stream(&scope, (&address.key, &[]), notes, turn).await?;
        for stretch in gone {
            match self.delete_rows(&scope, &view, &stretch).await {
                // Somebody deletes them with SQL at the same time; what both leave expires.
                Ok(()) | Err(Error::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Notes that a stream with a time of its own is read.
    pub(super) async fn touch_stream(&self, scope: &StreamScope, key: &str) -> Result<()> {
        let turn = self.turns.take(&scope.partition).await;
        let view = self.stream_view(scope)?;
        let stream = there(stream_in(&view, &scope.partition, key)?, key, scope.ttl_us, scope.now_us)?;
        if !stream.state.expiry.is_worth_noting(stream.state.touched_us, scope.now_us) {
            return Ok(());
        }
        let state = StreamState { touched_us: scope.now_us, ..stream.state.clone() };
        let mut notes = Notes::default();
        notes.put(key, &stream.with(state, Mark::At(stream.tail)))?;
        self.write_stream(scope, (key, &[]), notes, turn).await.map(|_| ())
    }

    /// The state of a fork, where what it inherits ends, and the part of a row that is its own first one.
    async fn fork(
        &self,
        view: &ReadView,
        scope: &StreamScope,
        (create, fork): (&Create, &Fork),
        notes: &mut Notes,
    ) -> Result<(StreamState, Seq, Option<Bytes>)> {
        let source = notes.stream(view, &scope.partition, &fork.source)?;
        let mut branch = create::branch(source.as_ref(), create, fork, scope.ttl_us, scope.now_us)?;
        // Without one there is no branch.
        let Some(source) = source else { return Err(Error::internal("a fork of nothing")) };
        let mut prefix = None;
        if fork.sub_offset > 0 {
            (branch, prefix) = branch_within(view, scope, &source, (branch, fork)).await?;
        }
        let (state, source_state) = create::forked(create, fork, &source, branch, scope.now_us);
        notes.put(&fork.source, &source.with(source_state, Mark::At(source.tail)))?;
        Ok((state, branch.until, prefix))
    }

    async fn write_stream(
        &self,
        scope: &StreamScope,
        (key, messages): (&str, &[Bytes]),
        notes: Notes,
        turn: Turn,
    ) -> Result<WriteAck> {
        let rows = if messages.is_empty() { Vec::new() } else { vec![scope.shape.rows(key, messages)?] };
        let command =
            self.bind_stream(scope, |ctx| bind::bind_rows(ctx, &scope.shape.table, &scope.shape.columns(), &rows))?;
        self.write_as(scope, WriteCommand { notes: notes.into_writes(), ..command }, Some(Box::new(turn))).await
    }

    async fn delete_rows(&self, scope: &StreamScope, view: &ReadView, stretch: &Stretch) -> Result<()> {
        let mut rows = StretchRows::open(view, scope, stretch)?;
        loop {
            let mut ops = Vec::new();
            while ops.len() < DELETED_ROWS
                && let Some((seq, _)) = rows.next().await?
            {
                ops.push(WriteOp::Delete { pk: PkBytes::of_seq(seq), expected: Some(seq) });
            }
            if ops.is_empty() {
                return Ok(());
            }
            let command = self.bind_stream(scope, |ctx| bind::bind_rows(ctx, &scope.shape.table, &[], &[]))?;
            self.write_as(scope, WriteCommand { ops, ..command }, None).await?;
        }
    }

    fn bind_stream(
        &self,
        scope: &StreamScope,
        bind: impl FnOnce(&bind::BindContext<'_>) -> Result<WriteCommand>,
    ) -> Result<WriteCommand> {
        let catalog = self.catalog.current();
        let statement = Scope {
            principal: scope.principal.clone(),
            impersonates: scope.impersonates,
            all_owners: false,
            namespace: "default",
            params: &[],
            durability: None,
            base_url: None,
            caller: CallerGone::default(),
            now_us: scope.now_us,
        };
        bind(&self.bind_context(&statement, &catalog))
    }

    async fn write_as(
        &self,
        scope: &StreamScope,
        command: WriteCommand,
        held: Option<crate::actors::Held>,
    ) -> Result<WriteAck> {
        if scope.impersonates {
            self.policy.may_write_as(&command.table)?;
        }
        let authorized = self.policy.authorize_write(&scope.principal, command)?;
        self.router.append_holding(self.with_checks(authorized).await?, held).await
    }
}

/// Where a fork branches off within what follows its offset: behind so many messages, or bytes of the next row. Bytes
/// become a row of the fork's own.
async fn branch_within(
    view: &ReadView,
    scope: &StreamScope,
    source: &Stream,
    (branch, fork): (Branch, &Fork),
) -> Result<(Branch, Option<Bytes>)> {
    let beyond = || Error::InvalidInput("Stream-Fork-Sub-Offset lies behind what follows the offset".to_owned());
    let sub_offset = usize::try_from(fork.sub_offset).map_err(|_| beyond())?;
    let json = content_type::is_json(&source.state.content_type);
    let mut messages = 0;
    for stretch in source.stretches(&fork.source, branch.offset) {
        let mut rows = StretchRows::open(view, scope, &stretch)?;
        while let Some((seq, message)) = rows.next().await? {
            messages += 1;
            let whole = if json { messages == sub_offset } else { message.len() == sub_offset };
            if whole {
                return Ok((Branch { until: seq, ..branch }, None));
            }
            if !json {
                let prefix = message.get(..sub_offset).ok_or_else(beyond)?;
                return Ok((branch, Some(Bytes::copy_from_slice(prefix))));
            }
        }
    }
    Err(beyond())
}

/// Removes a stream's record and its producers', and lets go of what it was forked from, and so on. Gives the rows that
/// nobody reads any more.
fn forget(
    view: &ReadView,
    scope: &StreamScope,
    (key, stream): (&str, &Stream),
    notes: &mut Notes,
) -> Result<Vec<Stretch>> {
    let mut gone = Vec::new();
    let mut next = Some((key.to_owned(), stream.clone()));
    while let Some((key, stream)) = next.take() {
        let prefix = producers_prefix(&key, stream.start);
        for (name, _) in view.notes(&scope.partition, (&prefix, &prefix), PRODUCERS)? {
            notes.remove(name);
        }
        notes.remove(record_name(&key));
        gone.push(Stretch { key, above: stream.start, until: stream.tail });
        let Some(origin) = &stream.state.origin else { break };
        let source = notes.stream(view, &scope.partition, &origin.key)?;
        let Some(source) = source.filter(|source| source.start == origin.start) else { break };
        match create::released(&source, scope.ttl_us, scope.now_us) {
            Some(state) => notes.put(&origin.key, &source.with(state, Mark::At(source.tail)))?,
            None => next = Some((origin.key.clone(), source)),
        }
    }
    Ok(gone)
}

/// Removes some of the records that have expired, among those that follow this key. Keys are made in all orders, so each
/// is met some time; those of a mailbox in which no stream is made any more stay.
fn sweep(view: &ReadView, scope: &StreamScope, key: &str, notes: &mut Notes) -> Result<()> {
    let (prefix, from) = (record_name(""), record_name(key));
    let mut found = view.notes(&scope.partition, (&prefix, &from), SWEPT)?;
    if found.len() < SWEPT {
        found.extend(view.notes(&scope.partition, (&prefix, &prefix), SWEPT - found.len())?);
    }
    for (name, _) in found {
        let Ok(swept) = std::str::from_utf8(&name[prefix.len()..]) else { continue };
        // As the notes so far leave it: letting go of a fork may have removed it.
        let Some(stream) = notes.stream(view, &scope.partition, swept)? else { continue };
        if swept != key && stream.presence(scope.ttl_us, scope.now_us) == Presence::Absent {
            forget(view, scope, (swept, &stream), notes)?;
        }
    }
    Ok(())
}
