//! What the filters of a scan say about where its rows lie.
//!
//! Sees filters as the optimiser hands them over: coerced, simplified (no BETWEEN is left), split at AND.

use std::cmp::Ordering::{self, Equal, Greater, Less};
use std::ops::RangeInclusive;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use crate::model::schema::SEQ_COLUMN;
use crate::model::{PkBytes, Seq, TableMeta, Value};
use crate::storage::keys;
use crate::storage::segment::SegmentMeta;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ScanBounds {
    /// Empty (`start > end`) where the filters contradict each other.
    pub seqs: RangeInclusive<Seq>,
    /// All of the primary key is given.
    pub key: Option<PkBytes>,
    /// What is asked of columns, each an alternative of several: segments none of whose rows can meet one are not opened.
    pub columns: Vec<Vec<ColumnBound>>,
    pub tombstones: bool,
}

/// `column op literal`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ColumnBound {
    /// Position in the table's columns.
    pub column: usize,
    op: Operator,
    value: Value,
}

impl ColumnBound {
    /// The alternatives that the filter is, where it is nothing else.
    pub(super) fn any_of(table: &TableMeta, filter: &Expr) -> Option<Vec<Self>> {
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
                let mut bounds = Self::any_of(table, left)?;
                bounds.extend(Self::any_of(table, right)?);
                Some(bounds)
            }
            Expr::InList(InList { expr, list, negated: false }) => {
                let equals = |literal: &Expr| Self::of(table, &(**expr).clone().eq(literal.clone()));
                list.iter().map(equals).collect()
            }
            comparison => Some(vec![Self::of(table, comparison)?]),
        }
    }

    /// Of a column whose values have an order that its statistics keep.
    fn of(table: &TableMeta, filter: &Expr) -> Option<Self> {
        let (name, op, literal) = comparison(filter)?;
        let column = table.column_index(name)?;
        let Expr::Literal(scalar, _) = literal else { return None };
        let ordered = matches!(op, Operator::Eq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq);
        let value = value_of(scalar).filter(|value| ordered && value.fits(table.columns[column].data_type))?;
        Some(Self { column, op, value })
    }

    /// May a row of a segment meet it?
    pub(super) fn may_hold(&self, table: &TableMeta, segment: &SegmentMeta) -> bool {
        let column = &table.columns[self.column];
        // A column that the segment has not, or had as another type, says nothing.
        let Some(stats) = segment.stats.get(&column.id).filter(|stats| stats.data_type == column.data_type) else {
            return true;
        };
        if stats.nulls == u64::from(segment.rows) {
            return false;
        }
        let below = |bound: &Option<Value>| bound.as_ref().and_then(|bound| order(bound, &self.value));
        let (min, max) = (below(&stats.min), below(&stats.max));
        let starts_by = |allowed: &[Ordering]| min.is_none_or(|min| allowed.contains(&min));
        let ends_from = |allowed: &[Ordering]| max.is_none_or(|max| allowed.contains(&max));
        match self.op {
            Operator::Eq => starts_by(&[Less, Equal]) && ends_from(&[Greater, Equal]),
            Operator::Lt => starts_by(&[Less]),
            Operator::LtEq => starts_by(&[Less, Equal]),
            Operator::Gt => ends_from(&[Greater]),
            Operator::GtEq => ends_from(&[Greater, Equal]),
            _ => true,
        }
    }
}

/// How two values of one type compare in a query.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Text(a), Value::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Uuid(a), Value::Uuid(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

impl ScanBounds {
    pub(super) fn of_filters(table: &TableMeta, filters: &[Expr], tombstones: bool) -> ScanBounds {
        let mut seqs = Seq::ZERO..=Seq::MAX;
        let mut key: Vec<Option<Value>> = vec![None; table.unique_key().len()];
        for filter in filters {
            if let Some(range) = seq_range(filter) {
                seqs = (*seqs.start()).max(*range.start())..=(*seqs.end()).min(*range.end());
            } else if let Some((column, value)) = key_value(table, filter)
                && let Some(part) = table.unique_key().iter().position(|key| *key == column)
            {
                key[part] = Some(value);
            }
        }
        // A tombstone is not under its key any more: those who ask for tombstones scan.
        let key = if tombstones || key.is_empty() { None } else { key.into_iter().collect::<Option<Vec<_>>>() };
        let key = key.and_then(|values| encode_key(table, values));
        let columns = filters.iter().filter_map(|filter| ColumnBound::any_of(table, filter)).collect();
        ScanBounds { seqs, key, columns, tombstones }
    }
}

/// `encode_pk` reads the values at their columns' places.
fn encode_key(table: &TableMeta, key: Vec<Value>) -> Option<PkBytes> {
    let mut values = vec![Value::Null; table.columns.len()];
    for (column, value) in table.primary_key.iter().zip(key) {
        values[*column] = value;
    }
    // A value that can not be a key (too long) is in no row; the scan finds that out.
    keys::encode_pk(table, &values, 1).ok()
}

/// The range of `_seq` that `filter` allows, where it says nothing else.
pub(super) fn seq_range(filter: &Expr) -> Option<RangeInclusive<Seq>> {
    let (column, op, literal) = comparison(filter)?;
    let bound = int64(literal).filter(|_| column == SEQ_COLUMN)?;
    let nothing = Seq::MAX..=Seq::ZERO;
    let from = |low: i64| Seq::new(low).unwrap_or(Seq::ZERO)..=Seq::MAX;
    let up_to = |high: i64| Seq::new(high).map_or(nothing.clone(), |high| Seq::ZERO..=high);
    Some(match op {
        Operator::Eq => Seq::new(bound).map_or(nothing, |seq| seq..=seq),
        Operator::Gt => bound.checked_add(1).map_or(nothing, from),
        Operator::GtEq => from(bound),
        Operator::Lt => bound.checked_sub(1).map_or(nothing.clone(), up_to),
        Operator::LtEq => up_to(bound),
        _ => return None,
    })
}

/// `column = literal` on a column of the primary key: position and value.
pub(super) fn key_value(table: &TableMeta, filter: &Expr) -> Option<(usize, Value)> {
    let (name, op, literal) = comparison(filter)?;
    let column = table.column_index(name).filter(|column| table.unique_key().contains(column))?;
    let Expr::Literal(scalar, _) = literal else { return None };
    let value = (op == Operator::Eq).then(|| value_of(scalar))??;
    value.fits(table.columns[column].data_type).then_some((column, value))
}

/// `column op literal`, turned round where it is written the other way.
fn comparison(filter: &Expr) -> Option<(&str, Operator, &Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return None };
    match (&**left, &**right) {
        (Expr::Column(column), literal @ Expr::Literal(..)) => Some((column.name.as_str(), *op, literal)),
        (literal @ Expr::Literal(..), Expr::Column(column)) => Some((column.name.as_str(), op.swap()?, literal)),
        _ => None,
    }
}

fn int64(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::Int64(value), _) => *value,
        _ => None,
    }
}

/// A literal that coercion has given the column's type. Others stay with the filter above the scan.
fn value_of(scalar: &ScalarValue) -> Option<Value> {
    Some(match scalar {
        ScalarValue::Boolean(Some(v)) => Value::Bool(*v),
        ScalarValue::Int16(Some(v)) => Value::Int(i64::from(*v)),
        ScalarValue::Int32(Some(v)) | ScalarValue::Date32(Some(v)) => Value::Int(i64::from(*v)),
        ScalarValue::Int64(Some(v))
        | ScalarValue::Time64Microsecond(Some(v))
        | ScalarValue::TimestampMicrosecond(Some(v), _) => Value::Int(*v),
        ScalarValue::Utf8(Some(v)) => Value::Text(v.clone()),
        ScalarValue::Binary(Some(v)) => Value::Bytes(v.clone()),
        ScalarValue::FixedSizeBinary(16, Some(v)) => Value::Uuid(v.as_slice().try_into().ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::*;
    use crate::sql::engine::world::notes;

    fn seqs(low: i64, high: i64) -> RangeInclusive<Seq> {
        Seq::new(low).unwrap()..=Seq::new(high).unwrap()
    }

    #[test]
    fn seq_comparisons_become_ranges() {
        let seq = || col("_seq");
        let all = i64::MAX;
        let cases = [
            (seq().gt(lit(5i64)), Some(seqs(6, all))),
            (seq().gt_eq(lit(5i64)), Some(seqs(5, all))),
            (seq().lt(lit(5i64)), Some(seqs(0, 4))),
            (lit(5i64).gt_eq(seq()), Some(seqs(0, 5))),
            (seq().eq(lit(5i64)), Some(seqs(5, 5))),
            (seq().gt(lit(-5i64)), Some(seqs(0, all))),
            (seq().not_eq(lit(5i64)), None),
            (seq().gt(lit("5")), None),
            (col("id").gt(lit(5i64)), None),
        ];
        for (filter, expected) in cases {
            assert_eq!(seq_range(&filter), expected, "{filter}");
        }
        for nothing in [seq().lt(lit(0i64)), seq().gt(lit(i64::MAX)), seq().eq(lit(-1i64))] {
            assert!(seq_range(&nothing).is_some_and(|range| range.is_empty()), "{nothing}");
        }
    }

    #[test]
    fn a_whole_key_is_a_point_unless_tombstones_are_asked_for() {
        let table = notes();
        let bounds = ScanBounds::of_filters(&table, &[col("id").eq(lit(5i64)), col("_seq").gt(lit(7i64))], false);
        assert!(bounds.key.is_some() && !bounds.tombstones);
        assert_eq!(bounds.seqs, seqs(8, i64::MAX));

        let bounds = ScanBounds::of_filters(&table, &[col("id").eq(lit(5i64))], true);
        assert!(bounds.key.is_none() && bounds.tombstones, "a tombstone is not found under its key");

        let bounds = ScanBounds::of_filters(&table, &[col("id").gt(lit(5i64))], false);
        assert!(bounds.key.is_none());
    }
}
