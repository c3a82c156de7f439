//! A small table and a query over it, for the tests of this layer: no engine needed.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, SchemaRef};

use super::encoding::{MapWriter, Tail, Wire};
use super::pages::{LiveReader, ScanOrder};
use super::{Equality, EqualityValue, EventKind, Format, Formats, LiveEvent, LiveQuery, StoredRows, WireFrame};
use crate::error::{Error, Result};
use crate::model::result::ResultSchema;
use crate::model::{
    AccessLevel, ColumnMeta, ColumnName, DataType, NamespaceName, SchemaHistory, Seq, TableId, TableKind, TableMeta,
    TableName,
};

/// `notes(id BIGINT PRIMARY KEY, body TEXT, score INT)`
pub(crate) fn notes() -> Arc<TableMeta> {
    let column = |id, name: &str, data_type, nullable| ColumnMeta {
        id,
        name: ColumnName::parse(name).unwrap(),
        data_type,
        nullable,
        default: None,
    };
    Arc::new(TableMeta {
        id: TableId(1),
        name: TableName::new(NamespaceName::parse("demo").unwrap(), "notes").unwrap(),
        kind: TableKind::User,
        columns: vec![
            column(1, "id", DataType::BigInt, false),
            column(2, "body", DataType::Text, true),
            column(3, "score", DataType::Int, true),
        ],
        primary_key: vec![0],
        access: AccessLevel::Private,
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

pub(crate) fn seq(raw: i64) -> Seq {
    Seq::new(raw).unwrap()
}

/// A stored row of `notes`; `body` is "b1", "b2", … by its number, or NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Note {
    pub id: i64,
    pub body: Option<i32>,
    pub score: Option<i32>,
    pub seq: i64,
    pub deleted: bool,
}

pub(crate) fn note(id: i64, body: impl Into<Option<i32>>, score: impl Into<Option<i32>>, seq: i64) -> Note {
    Note { id, body: body.into(), score: score.into(), seq, deleted: false }
}

impl Note {
    pub(crate) fn deleted(self) -> Note {
        Note { deleted: true, ..self }
    }
}

pub(crate) fn rows(notes: &[Note]) -> RecordBatch {
    batch(notes, self::notes().arrow_schema(), Vec::new())
}

/// Rows of all owners; the owner of each is "u" and its id.
pub(crate) fn rows_of_all_owners(notes: &[Note]) -> RecordBatch {
    let users: StringArray = notes.iter().map(|n| Some(format!("u{}", n.id))).collect();
    let storages: StringArray = notes.iter().map(|_| Some("local")).collect();
    batch(notes, self::notes().arrow_schema_all_owners(), vec![Arc::new(users), Arc::new(storages)])
}

fn batch(notes: &[Note], schema: SchemaRef, owner_columns: Vec<ArrayRef>) -> RecordBatch {
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(notes.iter().map(|n| n.id))),
        Arc::new(notes.iter().map(|n| n.body.map(|b| format!("b{b}"))).collect::<StringArray>()),
        Arc::new(notes.iter().map(|n| n.score).collect::<Int32Array>()),
        Arc::new(Int64Array::from_iter_values(notes.iter().map(|n| n.seq))),
        Arc::new(notes.iter().map(|n| Some(n.deleted)).collect::<BooleanArray>()),
    ];
    columns.extend(owner_columns);
    RecordBatch::try_new(schema, columns).unwrap()
}

/// `SELECT columns FROM notes WHERE score >= at_least [AND _deleted = …]`; a score of -1 can not be computed with.
#[derive(Debug)]
pub(crate) struct ScoreQuery {
    table: Arc<TableMeta>,
    schema: ResultSchema,
    positions: Vec<usize>,
    key: [Option<usize>; 1],
    at_least: Option<i32>,
    all_owners: bool,
    tombstones: bool,
    deleted: Option<bool>,
    /// `score = at_least` in place of `>=`.
    exactly: bool,
    equality: Option<Equality>,
    identity: String,
}

impl ScoreQuery {
    pub(crate) fn new(positions: &[usize], at_least: Option<i32>) -> Self {
        let table = notes();
        let names: Vec<String> =
            table.arrow_schema_all_owners().fields().iter().map(|field| field.name().clone()).collect();
        let names: Vec<String> = positions.iter().map(|at| names[*at].clone()).collect();
        let schema = ResultSchema::of_table_projection(&table, positions, &names);
        let identity = format!("{positions:?} {at_least:?}");
        Self {
            table,
            schema,
            positions: positions.to_vec(),
            key: [positions.iter().position(|at| *at == 0)],
            at_least,
            all_owners: false,
            tombstones: false,
            deleted: None,
            exactly: false,
            equality: None,
            identity,
        }
    }

    /// `SELECT * FROM notes WHERE score = score`, which is asked of no other rows.
    pub(crate) fn exactly(score: i32) -> Self {
        let equality = Equality { column: "score".to_owned(), value: EqualityValue::Int(score.into()) };
        let identity = format!("= {score}");
        Self { exactly: true, equality: Some(equality), identity, ..Self::all(Some(score)) }
    }

    /// The same, asked of all rows.
    pub(crate) fn of_all_changes(self) -> Self {
        Self { equality: None, ..self }
    }

    /// `SELECT *`
    pub(crate) fn all(at_least: Option<i32>) -> Self {
        Self::new(&[0, 1, 2, 3, 4], at_least)
    }

    pub(crate) fn over_all_owners(self) -> Self {
        Self { all_owners: true, ..self }
    }

    pub(crate) fn with_tombstones(self) -> Self {
        Self { tombstones: true, ..self }
    }

    pub(crate) fn where_deleted(self, deleted: bool) -> Self {
        Self { deleted: Some(deleted), ..self }
    }
}

impl LiveQuery for ScoreQuery {
    fn table(&self) -> &Arc<TableMeta> {
        &self.table
    }

    fn all_owners(&self) -> bool {
        self.all_owners
    }

    fn sees_tombstones(&self) -> bool {
        self.tombstones
    }

    fn schema(&self) -> &ResultSchema {
        &self.schema
    }

    fn key_positions(&self) -> &[Option<usize>] {
        &self.key
    }

    fn matches(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        let scores = rows.column(2).as_primitive::<Int32Type>();
        if scores.iter().any(|score| score == Some(-1)) {
            return Err(Error::Execution("a score of -1".into()));
        }
        let deleted = rows.column(4).as_boolean();
        let matches = scores.iter().zip(deleted).map(|(score, deleted)| {
            let passes = |score, least| if self.exactly { score == least } else { score >= least };
            let scores = self.at_least.map_or(Some(true), |least| score.map(|score| passes(score, least)));
            scores.map(|scores| scores && self.deleted.is_none_or(|wanted| deleted == Some(wanted)))
        });
        Ok(matches.collect())
    }

    fn project(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        rows.project(&self.positions).map_err(Error::internal)
    }

    fn equality(&self) -> Option<&Equality> {
        self.equality.as_ref()
    }

    fn identity(&self) -> &str {
        &self.identity
    }
}

/// A frame's JSON text, whether or not it was compressed.
pub(crate) fn text(frame: &WireFrame) -> String {
    match frame {
        WireFrame::Text(text) => text.to_string(),
        WireFrame::Binary(bytes) => {
            String::from_utf8(super::encoding::unpack(bytes, usize::MAX).unwrap()).expect("a JSON frame")
        }
    }
}

/// The event's frame for subscription "s", without what all have in common.
pub(crate) fn event_text(event: &LiveEvent) -> String {
    let text = text(&event.frame("s", Wire { format: Format::Json, compress: false }).unwrap());
    let rest = text.strip_prefix(r#"{"type":"change","subscription_id":"s","change_type":"#).expect("a change frame");
    rest.strip_suffix('}').expect("an object").to_owned()
}

pub(crate) fn some_event(at: i64) -> Arc<LiveEvent> {
    some_event_of(1, at)
}

pub(crate) fn some_event_of(table: u32, at: i64) -> Arc<LiveEvent> {
    let what = (TableId(table), seq(at), EventKind::Insert);
    LiveEvent::new(what, Some(at), None::<()>, Formats::only(Format::Json)).unwrap()
}

/// Stored rows with the position of their insert, ascending: a view for tests, read in batches of 100.
#[derive(Debug, Default)]
pub(crate) struct StoredNotes {
    rows: Vec<(Note, i64)>,
}

impl StoredNotes {
    pub(crate) fn new(rows: Vec<(Note, i64)>) -> Self {
        Self { rows }
    }
}

impl LiveReader for StoredNotes {
    fn head(&self) -> Seq {
        self.rows.last().map_or(Seq::ZERO, |(row, _)| seq(row.seq))
    }

    fn replayable_from(&self) -> Seq {
        Seq::ZERO
    }

    fn scan(
        &self,
        range: RangeInclusive<Seq>,
        order: ScanOrder,
    ) -> Box<dyn Iterator<Item = Result<StoredRows>> + Send + '_> {
        let mut found: Vec<(Note, i64)> =
            self.rows.iter().filter(|(row, _)| range.contains(&seq(row.seq))).copied().collect();
        if order == ScanOrder::NewestFirst {
            found.reverse();
        }
        let batches: Vec<_> = found
            .chunks(100)
            .map(|chunk| {
                let notes: Vec<Note> = chunk.iter().map(|(row, _)| *row).collect();
                Ok(StoredRows { rows: rows(&notes), created: chunk.iter().map(|(_, at)| seq(*at)).collect() })
            })
            .collect();
        Box::new(batches.into_iter())
    }
}

/// A list of rows that are just numbers.
pub(crate) fn rows_of(numbers: &[i64]) -> Tail {
    let mut map = MapWriter::tail(Format::Json);
    map.entry("rows", numbers).unwrap();
    Tail::new(map)
}

/// The list of rows in JSON.
pub(crate) fn rows_text(rows: &Tail) -> String {
    let text = text(&rows.frame(Wire { format: Format::Json, compress: false }, Vec::new()));
    text.strip_prefix(r#","rows":"#).and_then(|rest| rest.strip_suffix('}')).expect("rows").to_owned()
}
