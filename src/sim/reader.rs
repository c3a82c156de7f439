//! A subscriber: attached to a partition or to the feed, fed from a view and from its outbox, cut off now and then.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use serde_json::Value;

use super::log::Log;
use super::owner;
use super::table::cells;
use crate::error::Result;
use crate::live::change_batch::replayed_events;
use crate::live::outbox::Taken;
use crate::live::resume::Merge;
use crate::live::{
    Delivery, Format, Formats, LiveEvent, LiveQuery, Outbox, OutboxLimits, QueryRegistry, StoredRows, Subscriber,
    SubscriptionKey, Wire, WireFrame,
};
use crate::model::{Owner, ResultSchema, Seq, TableMeta};
use crate::storage::BatchBuilder;

const JSON: Wire = Wire { format: Format::Json, compress: false };

/// `SELECT * FROM t`, of one owner or of all.
#[derive(Debug)]
struct AllRows {
    table: Arc<TableMeta>,
    schema: ResultSchema,
    key: Vec<Option<usize>>,
    all_owners: bool,
}

impl LiveQuery for AllRows {
    fn table(&self) -> &Arc<TableMeta> {
        &self.table
    }

    fn all_owners(&self) -> bool {
        self.all_owners
    }

    fn sees_tombstones(&self) -> bool {
        false
    }

    fn schema(&self) -> &ResultSchema {
        &self.schema
    }

    fn key_positions(&self) -> &[Option<usize>] {
        &self.key
    }

    fn matches(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        Ok(BooleanArray::from(vec![true; rows.num_rows()]))
    }

    fn project(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        Ok(rows.clone())
    }

    fn identity(&self) -> &str {
        "*"
    }
}

/// Owner (empty in one owner's own subscription) and key → value.
type Rows = BTreeMap<(String, i64), Option<i64>>;

pub(super) struct Reader {
    query: Arc<AllRows>,
    /// `None`: the feed of all owners.
    of: Option<usize>,
    rows: Rows,
    known: Seq,
    attached: Option<Attached>,
}

struct Attached {
    key: SubscriptionKey,
    outbox: Arc<Outbox>,
    head: Seq,
    /// `None`: the view is not opened yet.
    merge: Option<Merge>,
}

impl Reader {
    pub(super) fn new(table: &Arc<TableMeta>, of: Option<usize>) -> Self {
        let schema =
            if of.is_none() { ResultSchema::of_table_all_owners(table) } else { ResultSchema::of_table(table) };
        let key = table.primary_key.iter().copied().map(Some).collect();
        let query = Arc::new(AllRows { table: table.clone(), schema, key, all_owners: of.is_none() });
        Self { query, of, rows: Rows::new(), known: Seq::ZERO, attached: None }
    }

    pub(super) fn owner(&self) -> Option<usize> {
        self.of
    }

    pub(super) fn is_detached(&self) -> bool {
        self.attached.is_none()
    }

    /// Registered first; the view is opened later.
    pub(super) fn attach(&mut self, queries: &mut QueryRegistry, head: Seq, key: SubscriptionKey) {
        let outbox = Outbox::new(OutboxLimits { events: 12, bytes: 1 << 20 });
        let subscriber = Subscriber { key, format: Format::Json, outbox: outbox.clone(), of_many: false };
        queries.attach(self.query.clone(), subscriber);
        self.attached = Some(Attached { key, outbox, head, merge: None });
    }

    /// Cut off. What it knows, it keeps, and comes back with it.
    pub(super) fn detach(&mut self) {
        if let Some(attached) = self.attached.take() {
            attached.outbox.close();
        }
    }

    pub(super) fn forget(&mut self) {
        self.detach();
        self.rows.clear();
        self.known = Seq::ZERO;
    }

    /// Opens the view and takes what it replays, or takes what waits in the outbox.
    pub(super) fn read(&mut self, log: &Log, count: usize) {
        let Some(mut attached) = self.attached.take() else { return };
        let Some(merge) = &mut attached.merge else {
            attached.merge = Some(self.replay(log, attached.head));
            self.attached = Some(attached);
            return;
        };
        let mut taken = VecDeque::new();
        if attached.outbox.take(count, &mut taken) == Taken::Overflowed {
            // It was too slow: it has to come back.
            return;
        }
        for delivery in taken {
            let Delivery::Event(key, event) = delivery else { panic!("nothing ends here: {delivery:?}") };
            assert_eq!(key, attached.key);
            assert!(log.head() >= event.seq, "{} was delivered and is not in the log", event.seq);
            if merge.live(event.seq).unwrap_or_else(|fault| panic!("LQ-1: {fault}")) {
                self.take(&event);
            }
        }
        self.attached = Some(attached);
    }

    fn replay(&mut self, log: &Log, head: Seq) -> Merge {
        let owner = self.of.map(owner);
        let cut = head.max(log.head_of(owner.as_ref()));
        let mut merge = Merge::new(self.known, cut);
        let stored = self.stored(&log.scan(owner.as_ref(), self.known, cut));
        for event in replayed_events(&*self.query, &stored, self.known.into(), Formats::only(Format::Json)).unwrap() {
            merge.replayed(event.seq).unwrap_or_else(|fault| panic!("LQ-1: {fault}"));
            self.take(&event);
        }
        merge.replay_done();
        merge
    }

    fn stored(&self, rows: &[(Owner, crate::model::StoredRow)]) -> StoredRows {
        let table = self.query.table.clone();
        let mut batch = if self.of.is_none() {
            BatchBuilder::all_owners(table, Default::default(), None)
        } else {
            BatchBuilder::new(table, None)
        };
        for (owner, row) in rows {
            batch.push(owner, row).unwrap();
        }
        StoredRows { rows: batch.finish().unwrap(), created: rows.iter().map(|(_, row)| row.created).collect() }
    }

    /// Reads the event as a client does.
    fn take(&mut self, event: &LiveEvent) {
        assert!(event.seq > self.known, "{} after {}", event.seq, self.known);
        self.known = event.seq;
        let WireFrame::Text(text) = event.frame("s", JSON).unwrap() else { panic!("short frames are text") };
        let frame: Value = serde_json::from_str(&text).unwrap();
        let row = if frame["change_type"] == "delete" { &frame["old_values"][0] } else { &frame["rows"][0] };
        let key =
            (row["_user_id"].as_str().unwrap_or_default().to_owned(), row["id"].as_str().unwrap().parse().unwrap());
        if frame["change_type"] == "delete" {
            self.rows.remove(&key);
        } else {
            self.rows.insert(key, row["v"].as_i64());
        }
    }

    /// At rest: it knows what is stored.
    pub(super) fn check(&self, log: &Log) {
        let of = self.of.map(owner);
        let stored = log.scan(of.as_ref(), Seq::ZERO, Seq::MAX).into_iter().filter(|(_, row)| !row.deleted);
        let expected: Rows = stored
            .map(|(owner, row)| {
                let (id, v) = cells(&self.query.table, &row.row);
                let whose = if of.is_none() { owner.as_str().to_owned() } else { String::new() };
                ((whose, id), v)
            })
            .collect();
        assert_eq!(self.rows, expected, "of {of:?}");
    }
}
