//! How a table came to its columns, and how rows written under an older version are read as rows of today.
//!
//! Owns the steps between versions, each kept as what undoes it, and what follows from them: which cells a row of an
//! older version has, where each goes, and what stands where it has none.
//! Never rewrites a row and never forgets a version: rows of it may be anywhere.
//! Invariants: a column's id is never given twice; version n + 1 is version n and one step.
//! Start at [`TableMeta::altered`] and [`TableMeta::layout`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::{AccessLevel, ColumnMeta, Durability, TableMeta, TableOptions};
use crate::model::{CheckMeta, DataType, Value};

/// Versions of one table: bounds its record, each version of which takes some hundred bytes.
pub const VERSIONS_MAX: u32 = 1_000;

/// What is remembered of a table's older versions. Empty for one that was never altered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SchemaHistory {
    /// From version 1 on: the first one made version 2.
    steps: Vec<SchemaStep>,
    /// The id of the next column.
    next_column: u32,
    /// By column id: what a row written before the column was added holds in it. Not listed: NULL.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    missing: BTreeMap<u32, Value>,
    /// Ids of NOT NULL columns that took NULL once: a tombstone may still hold one.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    once_nullable: BTreeSet<u32>,
    #[serde(skip)]
    layouts: Layouts,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SchemaStep {
    /// Microseconds since the Unix epoch.
    at: i64,
    #[serde(flatten)]
    undo: Undo,
}

/// What makes the version before out of the version after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Undo {
    /// The column with this id was added.
    Remove(u32),
    /// This column stood at this position.
    Insert(usize, ColumnMeta),
    /// The column with this id was like this.
    Restore(ColumnMeta),
    /// The options were these.
    Options(AccessLevel, Option<Durability>),
}

/// One change of a table's definition, checked by `sql::define`.
#[derive(Debug, Clone, PartialEq)]
pub enum SchemaChange {
    /// The column gets an id of its own. `missing`: what rows hold in it that are there already.
    AddColumn {
        column: ColumnMeta,
        missing: Value,
    },
    DropColumn {
        position: usize,
    },
    /// The column at `position` becomes this one; its id stays. A new type is one that the old one widens to.
    ChangeColumn {
        position: usize,
        column: ColumnMeta,
    },
    SetOptions(Box<TableOptions>),
    SetChecks(Vec<CheckMeta>),
}

/// A table's definition as it was from `since` on.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaVersion {
    pub version: u32,
    /// Microseconds since the Unix epoch.
    pub since: i64,
    pub columns: Vec<ColumnMeta>,
    pub primary_key: Vec<usize>,
    pub access: AccessLevel,
    pub durability: Option<Durability>,
}

/// How a row of an older version is read as one of today.
#[derive(Debug)]
pub struct RowLayout {
    /// The row's cells, in their order.
    pub cells: Vec<OlderCell>,
    /// Positions of today's columns that the row has no cell for, and what stands there.
    pub missing: Vec<(usize, Value)>,
    /// Are its cells those of today, one by one?
    pub is_todays: bool,
}

#[derive(Debug)]
pub struct OlderCell {
    pub data_type: DataType,
    /// Today's position; `None`: the column was dropped.
    pub target: Option<usize>,
    /// The types that it became since, in order: each step of a widening keeps what the step before made of the value.
    pub via: Vec<DataType>,
}

impl OlderCell {
    /// The stored value as the column has it today; `None` where it is not of the cell's type.
    pub fn todays(&self, value: Value) -> Option<Value> {
        let mut from = self.data_type;
        self.via.iter().try_fold(value, |value, to| value.widened(std::mem::replace(&mut from, *to), *to))
    }
}

impl SchemaHistory {
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl TableMeta {
    /// This table after one change: a version more.
    pub fn altered(&self, change: SchemaChange, now_us: i64) -> TableMeta {
        let mut table = self.clone();
        let history = &mut table.history;
        let undo = match change {
            SchemaChange::AddColumn { column, missing } => {
                let highest = self.columns.iter().map(|column| column.id).max().unwrap_or(0);
                let id = history.next_column.max(highest + 1);
                history.next_column = id + 1;
                if !missing.is_null() {
                    history.missing.insert(id, missing);
                }
                table.columns.push(ColumnMeta { id, ..column });
                Undo::Remove(id)
            }
            SchemaChange::DropColumn { position } => {
                let column = table.columns.remove(position);
                history.next_column = history.next_column.max(column.id + 1);
                history.missing.remove(&column.id);
                history.once_nullable.remove(&column.id);
                shift(&mut table.primary_key, position, false);
                table.comments.columns.remove(&column.id);
                Undo::Insert(position, column)
            }
            SchemaChange::ChangeColumn { position, column } => {
                let id = self.columns[position].id;
                let before = std::mem::replace(&mut table.columns[position], ColumnMeta { id, ..column });
                let after = &table.columns[position];
                if let Some(missing) = history.missing.remove(&id) {
                    // A value that does not widen cannot be: the change was checked.
                    let widened = missing.widened(before.data_type, after.data_type);
                    history.missing.extend(widened.map(|missing| (id, missing)));
                }
                match (before.nullable, after.nullable) {
                    (true, false) => history.once_nullable.insert(id),
                    (_, true) => history.once_nullable.remove(&id),
                    (false, false) => false,
                };
                Undo::Restore(before)
            }
            SchemaChange::SetOptions(options) => {
                let TableOptions { access, durability, flush, compression, storage, .. } = *options;
                (table.access, table.durability) = (access, durability);
                // Nothing tells rows of one policy from those of another: no version remembers it.
                (table.flush, table.compression) = (flush, compression);
                table.deleted_retention_hours = options.deleted_retention_hours;
                table.use_user_storage = options.use_user_storage;
                if storage != self.storage {
                    table.unnamed_storage.get_or_insert_with(|| self.storage.clone());
                    table.storage = storage;
                }
                Undo::Options(self.access, self.durability)
            }
            SchemaChange::SetChecks(checks) => {
                table.checks = checks;
                // No version remembers them either: rows are read the same.
                Undo::Options(self.access, self.durability)
            }
        };
        history.steps.push(SchemaStep { at: now_us, undo });
        table.schema_version += 1;
        table.updated_at = now_us;
        table
    }

    /// Can a stored row, or a tombstone, hold NULL in this column?
    pub fn may_hold_null(&self, position: usize) -> bool {
        let column = &self.columns[position];
        column.nullable || self.history.once_nullable.contains(&column.id)
    }

    /// How rows of an older version are read; `None` where there was no such version.
    pub fn layout(&self, version: u32) -> Option<&RowLayout> {
        let steps = &self.history.steps;
        let layouts = self.history.layouts.0.get_or_init(|| steps.iter().map(|_| OnceLock::new()).collect());
        let layout = layouts.get(usize::try_from(version.checked_sub(1)?).ok()?)?;
        Some(layout.get_or_init(|| self.work_out(version)))
    }

    fn work_out(&self, version: u32) -> RowLayout {
        let mut at = self.latest();
        let mut via: HashMap<u32, Vec<DataType>> = HashMap::new();
        for step in self.history.steps.iter().rev() {
            if at.version == version {
                break;
            }
            if let Some((column, became)) = at.undo(step) {
                via.entry(column).or_default().insert(0, became);
            }
        }
        let today: HashMap<u32, usize> =
            self.columns.iter().enumerate().map(|(position, column)| (column.id, position)).collect();
        let cells: Vec<OlderCell> = at
            .columns
            .iter()
            .map(|column| OlderCell {
                data_type: column.data_type,
                target: today.get(&column.id).copied(),
                via: via.remove(&column.id).unwrap_or_default(),
            })
            .collect();
        let there: BTreeSet<u32> = at.columns.iter().map(|column| column.id).collect();
        let missing: Vec<(usize, Value)> = self
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| !there.contains(&column.id))
            .map(|(position, column)| (position, self.history.missing.get(&column.id).cloned().unwrap_or(Value::Null)))
            .collect();
        let same = |(nth, cell): (usize, &OlderCell)| cell.target == Some(nth) && cell.via.is_empty();
        let is_todays = missing.is_empty() && cells.iter().enumerate().all(same);
        RowLayout { cells, missing, is_todays }
    }

    /// Every version there was, the newest first.
    pub fn versions(&self) -> impl Iterator<Item = SchemaVersion> {
        let mut steps = self.history.steps.iter().rev();
        std::iter::successors(Some(self.latest()), move |at| {
            let mut before = at.clone();
            before.undo(steps.next()?);
            before.since = self.since(before.version);
            Some(before)
        })
    }

    fn latest(&self) -> SchemaVersion {
        SchemaVersion {
            version: self.schema_version,
            since: self.since(self.schema_version),
            columns: self.columns.clone(),
            primary_key: self.primary_key.clone(),
            access: self.access,
            durability: self.durability,
        }
    }

    fn since(&self, version: u32) -> i64 {
        let step = version.checked_sub(2).and_then(|nth| self.history.steps.get(usize::try_from(nth).ok()?));
        step.map_or(self.created_at, |step| step.at)
    }
}

impl SchemaVersion {
    /// Becomes the version before `step`. The column whose type the step changed, and the type that it became.
    fn undo(&mut self, step: &SchemaStep) -> Option<(u32, DataType)> {
        self.version -= 1;
        match &step.undo {
            Undo::Remove(id) => self.columns.retain(|column| column.id != *id),
            Undo::Insert(position, column) => {
                self.columns.insert((*position).min(self.columns.len()), column.clone());
                shift(&mut self.primary_key, *position, true);
            }
            Undo::Restore(before) => {
                let column = self.columns.iter_mut().find(|column| column.id == before.id)?;
                let became = std::mem::replace(column, before.clone()).data_type;
                return (became != before.data_type).then_some((before.id, became));
            }
            Undo::Options(access, durability) => (self.access, self.durability) = (*access, *durability),
        }
        None
    }
}

/// The key's positions after a column came to `position`, or went from it. Columns of the key never go.
fn shift(key: &mut [usize], position: usize, came: bool) {
    for column in key {
        match came {
            true if *column >= position => *column += 1,
            false if *column > position => *column -= 1,
            _ => {}
        }
    }
}

/// By version from 1 on; each is worked out when a row of it is first read.
#[derive(Debug, Default)]
struct Layouts(OnceLock<Vec<OnceLock<RowLayout>>>);

/// What was worked out for one definition is not that of another: a copy is made to be changed.
impl Clone for Layouts {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Layouts {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
