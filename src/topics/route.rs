//! Routes: which changes of a table a topic gets, and what its entries say of them.
//!
//! Owns the meaning of a condition (asked of the row as it is behind the change, of a delete as it was before it) and of the
//! payload modes. Conditions are live queries: SELECT's own evaluator.
//! Never gives an offset, nor chooses a partition.
//! A condition that can not be computed on a row lets the change through: a consumer can look again, and what was left out
//! is gone.

use std::sync::Arc;

use arrow::array::{Array as _, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use tracing::warn;

use crate::error::{Error, Result};
use crate::live::{ChangeBatch, LiveQuery};
use crate::model::{CellEncoders, ChangeKind, PayloadMode, TableMeta, TopicId};

/// One route, compiled.
#[derive(Debug, Clone)]
pub struct Route {
    pub topic: TopicId,
    pub partitions: u32,
    pub op: ChangeKind,
    pub payload: PayloadMode,
    /// `None`: all changes match.
    pub condition: Option<Arc<dyn LiveQuery>>,
}

/// All routes of a table.
#[derive(Debug, Clone, Default)]
pub struct TableRoutes(Vec<Route>);

impl TableRoutes {
    pub fn new(routes: Vec<Route>) -> Self {
        Self(routes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn routes(&self) -> &[Route] {
        &self.0
    }
}

/// A change that a route matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// Which of the batch's changes.
    pub row: usize,
    pub topic: TopicId,
    pub partitions: u32,
    /// The primary key as text, where the table has one.
    pub key: Option<String>,
    pub payload: Vec<u8>,
}

/// What `routes` make of the changes of one commit: in their order, and each once for a route.
///
/// # Errors
/// `EXECUTION` where a row can not be written as JSON; `INTERNAL`.
pub fn evaluate(routes: &TableRoutes, table: &TableMeta, batch: &ChangeBatch) -> Result<Vec<Routed>> {
    let matches = routes.0.iter().map(|route| matching(route, batch)).collect::<Result<Vec<_>>>()?;
    if matches.iter().all(Vec::is_empty) {
        return Ok(Vec::new());
    }
    let rows = Rows::new(table, batch)?;
    let mut routed = Vec::new();
    let mut old_row = 0;
    for (row, kind) in batch.kinds().iter().enumerate() {
        let replaced = (*kind != ChangeKind::Insert).then_some(old_row);
        old_row += usize::from(replaced.is_some());
        for (route, matching) in routes.0.iter().zip(&matches) {
            if matching.binary_search(&row).is_err() {
                continue;
            }
            let payload = Payload { rows: &rows, row, replaced, kind: *kind, mode: route.payload };
            routed.push(Routed {
                row,
                topic: route.topic,
                partitions: route.partitions,
                key: rows.key(row)?,
                payload: serde_json::to_vec(&payload).map_err(Error::internal)?,
            });
        }
    }
    Ok(routed)
}

/// The rows that a route is about, ascending.
fn matching(route: &Route, batch: &ChangeBatch) -> Result<Vec<usize>> {
    let of_op: Vec<usize> =
        batch.kinds().iter().enumerate().filter(|(_, kind)| **kind == route.op).map(|(row, _)| row).collect();
    let Some(condition) = route.condition.as_deref().filter(|_| !of_op.is_empty()) else { return Ok(of_op) };
    // Of its own operation alone: on others it may not be computable.
    let positions = of_op.iter().map(|row| u32::try_from(*row).map_err(Error::internal));
    let positions = UInt32Array::from(positions.collect::<Result<Vec<u32>>>()?);
    let rows = take_record_batch(batch.rows(), &positions).map_err(Error::internal)?;
    if let Ok(answer) = condition.matches(&rows) {
        let holds = |(at, row): (usize, usize)| (answer.is_valid(at) && answer.value(at)).then_some(row);
        return Ok(of_op.into_iter().enumerate().filter_map(holds).collect());
    }
    let holds = |at: usize| match condition.matches(&rows.slice(at, 1)) {
        Ok(answer) => answer.is_valid(0) && answer.value(0),
        Err(error) => {
            warn!(topic = %route.topic, %error, "a route's condition can not be computed; the change is let through");
            true
        }
    };
    Ok(of_op.into_iter().enumerate().filter(|(at, _)| holds(*at)).map(|(_, row)| row).collect())
}

/// A batch's rows, ready to be written.
struct Rows<'a> {
    table: &'a TableMeta,
    new: &'a RecordBatch,
    old: Option<&'a RecordBatch>,
    new_cells: CellEncoders,
    old_cells: Option<CellEncoders>,
}

impl<'a> Rows<'a> {
    fn new(table: &'a TableMeta, batch: &'a ChangeBatch) -> Result<Self> {
        let old = batch.replaced();
        Ok(Self {
            table,
            new: batch.rows(),
            old,
            new_cells: CellEncoders::new(batch.rows())?,
            old_cells: old.map(CellEncoders::new).transpose()?,
        })
    }

    /// A key of one column as its text, of several as a JSON list; `None`: the table has none.
    fn key(&self, row: usize) -> Result<Option<String>> {
        let cell = |column: &usize| serde_json::to_value(self.new_cells.cell(*column, row)).map_err(Error::internal);
        let mut cells = self.table.primary_key.iter().map(cell).collect::<Result<Vec<_>>>()?;
        Ok(match (cells.len(), cells.pop()) {
            (_, None) => None,
            (1, Some(serde_json::Value::String(text))) => Some(text),
            (1, Some(only)) => Some(only.to_string()),
            (_, last) => {
                cells.extend(last);
                Some(serde_json::Value::Array(cells).to_string())
            }
        })
    }

    fn differs(&self, column: usize, row: usize, old_row: usize) -> bool {
        let Some(old) = self.old else { return true };
        self.new.column(column).slice(row, 1).as_ref() != old.column(column).slice(old_row, 1).as_ref()
    }

    fn name(&self, column: usize) -> &str {
        self.table.columns[column].name.as_str()
    }
}

struct Payload<'a> {
    rows: &'a Rows<'a>,
    row: usize,
    /// The row's place among those that were replaced.
    replaced: Option<usize>,
    kind: ChangeKind,
    mode: PayloadMode,
}

impl Payload<'_> {
    fn cells<M: SerializeMap>(&self, map: &mut M, columns: impl Iterator<Item = usize>) -> Result<(), M::Error> {
        for column in columns {
            map.serialize_entry(self.rows.name(column), &self.rows.new_cells.cell(column, self.row))?;
        }
        Ok(())
    }

    /// `_seq`, `_deleted` (a STREAM table shows none) and `_table`, behind the row's own cells.
    fn marks<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let table = self.rows.table;
        let marks = if table.is_stream() { 1 } else { 2 };
        for at in (table.columns.len()..).take(marks) {
            let schema = self.rows.new.schema_ref();
            map.serialize_entry(schema.field(at).name(), &self.rows.new_cells.cell(at, self.row))?;
        }
        map.serialize_entry("_table", &format!("{}:{}", table.name.namespace(), table.name.table()))
    }

    /// Of an insert, all columns are new; of a delete, none is; of an update, those that differ.
    fn changed(&self) -> Vec<usize> {
        let own = 0..self.rows.table.columns.len();
        let beside_key = own.filter(|column| !self.rows.table.is_key(*column));
        match (self.kind, self.replaced) {
            (ChangeKind::Update, Some(old)) => {
                beside_key.filter(|column| self.rows.differs(*column, self.row, old)).collect()
            }
            _ => beside_key.collect(),
        }
    }
}

impl Serialize for Payload<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let table = self.rows.table;
        let key = table.primary_key.iter().copied();
        let mut map = serializer.serialize_map(None)?;
        match self.mode {
            PayloadMode::Key => self.cells(&mut map, key)?,
            PayloadMode::Full => {
                self.cells(&mut map, 0..table.columns.len())?;
                self.marks(&mut map)?;
            }
            PayloadMode::Diff => {
                let changed = self.changed();
                self.cells(&mut map, key)?;
                if self.kind != ChangeKind::Delete {
                    self.cells(&mut map, changed.iter().copied())?;
                }
                self.marks(&mut map)?;
                if let (Some(cells), Some(row)) = (&self.rows.old_cells, self.replaced) {
                    map.serialize_entry("_old", &Old { rows: self.rows, cells, row, columns: &changed })?;
                }
            }
        }
        map.end()
    }
}

/// What columns held before.
struct Old<'a> {
    rows: &'a Rows<'a>,
    cells: &'a CellEncoders,
    row: usize,
    columns: &'a [usize],
}

impl Serialize for Old<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = |column: &usize| (self.rows.name(*column), self.cells.cell(*column, self.row));
        serializer.collect_map(self.columns.iter().map(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::testing::{ScoreQuery, note, notes, rows};

    fn batch() -> ChangeBatch {
        use ChangeKind::{Delete, Insert, Update};
        let new = rows(&[note(1, 1, 10, 21), note(2, 3, 20, 22), note(3, 3, None, 23).deleted()]);
        let old = rows(&[note(2, 2, 20, 5), note(3, 3, None, 6)]);
        ChangeBatch::new(vec![Insert, Update, Delete], new, Some(old)).unwrap()
    }

    fn route(op: ChangeKind, payload: PayloadMode, condition: Option<Arc<dyn LiveQuery>>) -> Route {
        Route { topic: TopicId(9), partitions: 1, op, payload, condition }
    }

    /// `row key payload` of each.
    fn routed(routes: Vec<Route>) -> Vec<String> {
        let routed = evaluate(&TableRoutes::new(routes), &notes(), &batch()).unwrap();
        routed
            .iter()
            .map(|r| format!("{} {} {}", r.row, r.key.as_deref().unwrap_or("-"), String::from_utf8_lossy(&r.payload)))
            .collect()
    }

    #[test]
    fn payloads_are_what_they_say() {
        let all = |payload| {
            [ChangeKind::Insert, ChangeKind::Update, ChangeKind::Delete].map(|op| route(op, payload, None)).to_vec()
        };
        assert_eq!(routed(all(PayloadMode::Key)), [r#"0 1 {"id":"1"}"#, r#"1 2 {"id":"2"}"#, r#"2 3 {"id":"3"}"#]);
        assert_eq!(
            routed(all(PayloadMode::Full)),
            [
                r#"0 1 {"id":"1","body":"b1","score":10,"_seq":"21","_deleted":false,"_table":"demo:notes"}"#,
                r#"1 2 {"id":"2","body":"b3","score":20,"_seq":"22","_deleted":false,"_table":"demo:notes"}"#,
                r#"2 3 {"id":"3","body":"b3","score":null,"_seq":"23","_deleted":true,"_table":"demo:notes"}"#,
            ]
        );
        assert_eq!(
            routed(all(PayloadMode::Diff)),
            [
                r#"0 1 {"id":"1","body":"b1","score":10,"_seq":"21","_deleted":false,"_table":"demo:notes"}"#,
                r#"1 2 {"id":"2","body":"b3","_seq":"22","_deleted":false,"_table":"demo:notes","_old":{"body":"b2"}}"#,
                r#"2 3 {"id":"3","_seq":"23","_deleted":true,"_table":"demo:notes","_old":{"body":"b3","score":null}}"#,
            ]
        );
    }

    #[test]
    fn a_route_sees_its_operation_and_what_its_condition_selects() {
        assert_eq!(routed(vec![route(ChangeKind::Delete, PayloadMode::Key, None)]), [r#"2 3 {"id":"3"}"#]);
        let condition = |min| Some(Arc::new(ScoreQuery::all(Some(min))) as Arc<dyn LiveQuery>);
        let of = |min| routed(vec![route(ChangeKind::Update, PayloadMode::Key, condition(min))]);
        assert_eq!(of(20), [r#"1 2 {"id":"2"}"#]);
        assert!(of(21).is_empty());
        // NULL is no.
        assert!(routed(vec![route(ChangeKind::Delete, PayloadMode::Key, condition(0))]).is_empty());
        assert!(routed(Vec::new()).is_empty());
    }

    #[test]
    fn what_can_not_be_computed_is_let_through() {
        // On a score of -1 this query fails.
        let new = rows(&[note(1, 1, 5, 21), note(2, 1, -1, 22), note(3, 1, 50, 23)]);
        let batch = ChangeBatch::new(vec![ChangeKind::Insert; 3], new, None).unwrap();
        let condition = Some(Arc::new(ScoreQuery::all(Some(20))) as Arc<dyn LiveQuery>);
        let routes = TableRoutes::new(vec![route(ChangeKind::Insert, PayloadMode::Key, condition)]);
        let routed = evaluate(&routes, &notes(), &batch).unwrap();
        assert_eq!(routed.iter().map(|r| r.key.as_deref()).collect::<Vec<_>>(), [Some("2"), Some("3")]);
    }

    #[test]
    fn a_key_of_several_columns_is_a_list() {
        let mut table = TableMeta::clone(&notes());
        table.primary_key = vec![0, 1];
        let routes = TableRoutes::new(vec![route(ChangeKind::Insert, PayloadMode::Key, None)]);
        let routed = evaluate(&routes, &table, &batch()).unwrap();
        assert_eq!(
            (routed[0].key.as_deref().unwrap(), &routed[0].payload[..]),
            (r#"["1","b1"]"#, &br#"{"id":"1","body":"b1"}"#[..])
        );
    }
}
