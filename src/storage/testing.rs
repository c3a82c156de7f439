//! What tests read of a view, hot and cold, as plain lists.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::{Found, Order, ReadView};
use crate::model::{Owner, PkBytes, Seq, StoredRow, TableMeta};

/// Some tests have a runtime of their own already.
fn run<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|threads| threads.spawn(|| super::segment::testing::run(future)).join().unwrap())
}

pub(crate) fn rows(
    view: &ReadView,
    table: &Arc<TableMeta>,
    owner: &Owner,
    range: RangeInclusive<Seq>,
    order: Order,
) -> Vec<StoredRow> {
    run(async {
        let mut scan = view.rows(table, owner, range, order).unwrap();
        let mut rows = Vec::new();
        while let Some(next) = scan.next(usize::MAX).await.unwrap() {
            rows.extend(next);
        }
        rows
    })
}

pub(crate) fn feed(
    view: &ReadView,
    table: &Arc<TableMeta>,
    range: RangeInclusive<Seq>,
    order: Order,
) -> Vec<(Owner, StoredRow)> {
    run(async {
        let mut scan = view.feed(table, range, order);
        let mut rows = Vec::new();
        while let Some((owner, next)) = scan.next().await.unwrap() {
            rows.extend(next.into_iter().map(|row| (owner.clone(), row)));
        }
        rows
    })
}

pub(crate) fn live(view: &ReadView, table: &Arc<TableMeta>, owner: &Owner, pk: &PkBytes) -> Option<StoredRow> {
    match view.find(table, owner, pk).unwrap() {
        Found::Row(row) => Some(row),
        Found::Absent => None,
        Found::Cold(lookup) => run(lookup.row()).unwrap(),
    }
}
