//! Leaves out pages in which no wanted row can be, by what the page index says of one column.
//!
//! Owns how pages become ranges of rows. What a predicate makes of a page's least and greatest value is not decided here.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;

use super::footer::Footer;
use crate::model::TableMeta;

/// Of fewer rows, reading is as cheap as asking.
const WORTH_ASKING: u32 = 8_192;

/// What is known of some pages of a column: of each page its least and its greatest value (or less, or more; null where there is
/// no telling), how many of its rows hold NULL, and how many rows it has.
#[derive(Debug)]
pub struct PageStats {
    pub mins: ArrayRef,
    pub maxes: ArrayRef,
    pub nulls: ArrayRef,
    pub rows: ArrayRef,
}

/// Of each page: may a wanted row be in it? `None`: there is no telling.
pub type MayHold = Arc<dyn Fn(&PageStats) -> Option<Vec<bool>> + Send + Sync>;

/// What is asked of the pages of one column.
#[derive(Clone)]
pub struct PageFilter {
    /// Position in the table's columns.
    pub column: usize,
    pub may_hold: MayHold,
}

impl std::fmt::Debug for PageFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PageFilter({})", self.column)
    }
}

/// What is left of `ranges`.
pub(super) fn pruned(
    table: &TableMeta,
    footer: &Footer,
    filters: &[PageFilter],
    mut ranges: Vec<Range<u32>>,
) -> Vec<Range<u32>> {
    for filter in filters {
        let rows: u32 = ranges.iter().map(|range| range.end - range.start).sum();
        if rows < WORTH_ASKING {
            break;
        }
        if let Some(pages) = pages_without(table, footer, filter, &ranges) {
            ranges = less(ranges, &pages);
        }
    }
    ranges
}

/// The pages that reach into `ranges` and hold nothing, ascending.
fn pages_without(
    table: &TableMeta,
    footer: &Footer,
    filter: &PageFilter,
    ranges: &[Range<u32>],
) -> Option<Vec<Range<u32>>> {
    let meta = table.columns.get(filter.column)?;
    let column = footer.column(meta.id)?;
    let field = footer.plain.schema().field(column);
    // As another type its values have another order.
    if field.data_type() != table.arrow_schema().field(filter.column).data_type() {
        return None;
    }
    let file = footer.file();
    let (indexes, offsets) = (file.column_index()?, file.offset_index()?);
    let converter = StatisticsConverter::from_column_index(column, field, file.file_metadata().schema_descr()).ok()?;
    let mut without = Vec::new();
    for (group, rows) in footer.row_groups().into_iter().enumerate() {
        if !ranges.iter().any(|range| range.start < rows.end && rows.start < range.end) {
            continue;
        }
        let of = &[group];
        let counts = converter.data_page_row_counts(offsets, file.row_groups(), of).ok()??;
        let stats = PageStats {
            mins: converter.data_page_mins(indexes, offsets, of).ok()?,
            maxes: converter.data_page_maxes(indexes, offsets, of).ok()?,
            nulls: Arc::new(converter.data_page_null_counts(indexes, offsets, of).ok()?),
            rows: Arc::new(counts),
        };
        let may_hold = (filter.may_hold)(&stats)?;
        let locations = offsets.get(group)?.get(column)?.page_locations();
        if may_hold.len() != locations.len() {
            return None;
        }
        for (page, location) in locations.iter().enumerate().filter(|(page, _)| !may_hold[*page]) {
            let start = rows.start + u32::try_from(location.first_row_index).ok()?;
            let end = match locations.get(page + 1) {
                Some(next) => rows.start + u32::try_from(next.first_row_index).ok()?,
                None => rows.end,
            };
            without.push(start..end);
        }
    }
    Some(without)
}

/// `ranges` less `out`, both ascending.
fn less(ranges: Vec<Range<u32>>, out: &[Range<u32>]) -> Vec<Range<u32>> {
    let mut left = Vec::with_capacity(ranges.len());
    for mut range in ranges {
        let first = out.partition_point(|gone| gone.end <= range.start);
        for gone in out[first..].iter().take_while(|gone| gone.start < range.end) {
            if range.start < gone.start {
                left.push(range.start..gone.start);
            }
            range.start = gone.end.min(range.end);
        }
        if range.start < range.end {
            left.push(range);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges() -> impl Strategy<Value = Vec<Range<u32>>> {
        let steps = proptest::collection::vec((1u32..9, 1u32..9), 0..12);
        steps.prop_map(|steps| {
            let mut at = 0;
            let mut ranges = Vec::new();
            for (gap, length) in steps {
                ranges.push(at + gap - 1..at + gap - 1 + length);
                at += gap + length;
            }
            ranges
        })
    }

    proptest! {
        #[test]
        fn what_is_left_is_what_is_not_out(all in ranges(), out in ranges()) {
            let rows = |ranges: &[Range<u32>]| ranges.iter().cloned().flatten().collect::<Vec<u32>>();
            let gone = rows(&out);
            let expected: Vec<u32> = rows(&all).into_iter().filter(|row| !gone.contains(row)).collect();
            prop_assert_eq!(rows(&less(all, &out)), expected);
        }
    }
}
