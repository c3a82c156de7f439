//! Cuts a partition's rows into shares that are read side by side.
//!
//! Owns where the cuts lie: at pages of segments, so that no page is decoded twice, with about as many cold rows in each share.
//! Hot rows belong to the last one. Shares cover a range without a gap or a double: SG-1 holds for them together.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::manifest::PartitionManifest;
use super::read_view::ReadView;
use crate::error::Result;
use crate::model::{Owner, PartitionKey, Seq, TableMeta};

/// One of several equal shares of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// From 0.
    pub number: usize,
    pub of: usize,
}

impl ReadView {
    /// Rows of the segments that reach into `range`: what a scan may have to decode. No file is opened.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn cold_rows(&self, table: &TableMeta, owner: &Owner, range: &RangeInclusive<Seq>) -> Result<u64> {
        let manifest = self.manifest(&PartitionKey { table: table.id, owner: owner.clone() })?;
        Ok(manifest.map_or(0, |manifest| rows_in(&manifest, range)))
    }

    /// The positions of a share of `range`; an empty range where nothing is left for it.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `SEGMENT_DAMAGED`, `COLD_STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub async fn share(
        &self,
        table: &Arc<TableMeta>,
        owner: &Owner,
        range: RangeInclusive<Seq>,
        share: Share,
    ) -> Result<RangeInclusive<Seq>> {
        let manifest = self.manifest(&PartitionKey { table: table.id, owner: owner.clone() })?.unwrap_or_default();
        let rows = rows_in(&manifest, &range);
        let before = |shares: usize| rows * shares as u64 / share.of as u64;
        let (mut start, mut end) = (*range.start(), *range.end());
        if share.number > 0 {
            start = start.max(self.cut(table, owner, &manifest, &range, before(share.number)).await?);
        }
        if share.number + 1 < share.of {
            let next = self.cut(table, owner, &manifest, &range, before(share.number + 1)).await?;
            end = next.max(*range.start()).before();
        }
        Ok(start..=end)
    }

    /// Where the page begins that holds the `row`th of the range's cold rows.
    async fn cut(
        &self,
        table: &Arc<TableMeta>,
        owner: &Owner,
        manifest: &PartitionManifest,
        range: &RangeInclusive<Seq>,
        mut row: u64,
    ) -> Result<Seq> {
        for segment in manifest.in_range(range) {
            let rows = u64::from(segment.meta.rows);
            if row < rows {
                let reader = self.segment(table, owner, segment)?;
                return reader.page_before(u32::try_from(row).unwrap_or(u32::MAX)).await;
            }
            row -= rows;
        }
        Ok(manifest.flushed_up_to.after())
    }
}

fn rows_in(manifest: &PartitionManifest, range: &RangeInclusive<Seq>) -> u64 {
    manifest.in_range(range).iter().map(|segment| u64::from(segment.meta.rows)).sum()
}
