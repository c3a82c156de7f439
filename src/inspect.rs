//! `inboxdb inspect`: what the data folder of a stopped server holds, and whether its files are what was written.
//!
//! Owns the order: open as it is → catalog → files of the storages → partition by partition, each segment checked as it is
//! met → what no manifest named. What goes wrong on the way is a fault in the findings; only a folder that can not be opened
//! ends it.
//! Never changes the folder, and reads no byte itself: `storage` does.
//! Start at [`run`].

mod catalog;
mod files;
mod findings;
mod partitions;
mod report;
mod topics;

use std::io::{self, Write as _};
use std::sync::Arc;

use tokio::runtime::{Builder, Handle};

use crate::cli::InspectArgs;
use crate::config::{LoggingConfig, RemoteTimeouts};
use crate::error::Error;
use crate::logging;
use crate::storage::{ColdStores, OpenError, RemoteIo, Store};
use catalog::Catalog;
use files::Files;
use findings::{Findings, Hot, KeyspaceFinding, Verified};
use partitions::Inspection;
use report::Progress;

/// Nothing is read twice but footers.
const CACHE_BYTES: u64 = 16 << 20;

/// Why there is no clean bill.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] Error),
    #[error("there is no table '{0}' in the data folder; name it as namespace.table")]
    NoTable(String),
    #[error("this program's threads can not be started: {0}")]
    Threads(io::Error),
    #[error("the findings can not be written: {0}")]
    Output(io::Error),
    #[error("{0} found")]
    Faults(String),
}

/// # Errors
/// [`InspectError::Faults`] where the folder is not sound, after the findings were shown.
pub fn run(args: &InspectArgs) -> Result<(), InspectError> {
    // What the storage engine has to say goes to stderr.
    logging::start(&LoggingConfig { level: "error".to_owned(), ..LoggingConfig::default() }, || 0);
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(InspectError::Threads)?;
    let found = runtime.block_on(inspect(args))?;
    let text = if args.json { findings::to_json(&found)? } else { report::text(&found) };
    io::stdout().lock().write_all(text.as_bytes()).map_err(InspectError::Output)?;
    match found.faults.len() {
        0 => Ok(()),
        faults => Err(InspectError::Faults(report::counted(faults as u64, "fault"))),
    }
}

async fn inspect(args: &InspectArgs) -> Result<Findings, InspectError> {
    let (store, recovered) = Store::open_as_is(&args.data, CACHE_BYTES)?;
    let stores = ColdStores::as_is(&args.data, RemoteTimeouts::default(), RemoteIo::new(Handle::current()));
    let stores = Arc::new(stores);
    store.cold().open(stores.clone());
    let mut found = Findings::new(&args.data, store.format()?, recovered);
    let catalog = Catalog::read(&store, &stores, &mut found)?;
    let chosen = match &args.table {
        None => catalog.tables.clone(),
        Some(name) => vec![catalog.find(name).ok_or_else(|| InspectError::NoTable(name.clone()))?],
    };
    found.hot = hot(&store, &mut found)?;
    if args.table.is_none() {
        topics::look(&store, &catalog.topics, &mut found);
    }
    let only = args.table.is_some().then(|| chosen.iter().map(|table| table.id).collect());
    let files = Files::list(&catalog, &stores, only, &mut found).await;
    let progress = Progress::new(if args.no_verify { 0 } else { files.bytes() });
    if !args.no_verify {
        found.verified = Some(Verified::default());
    }
    let mut inspection = Inspection { store, catalog, files, found, progress, with_owners: args.table.is_some() };
    for table in &chosen {
        inspection.table(table).await;
    }
    let mut found = inspection.finish();
    if args.table.is_some() {
        let named = |id: &str| chosen.iter().any(|table| table.storage.as_str() == id);
        found.storages.retain(|storage| storage.segments > 0 || named(&storage.id));
    }
    Ok(found)
}

fn hot(store: &Store, found: &mut Findings) -> Result<Hot, InspectError> {
    let mut keyspaces = Vec::new();
    for size in store.keyspace_sizes() {
        let entries = match size.entries {
            Ok(entries) => Some(entries),
            Err(error) => {
                found.fault_of(format!("hot, keyspace {}", size.name), &error);
                None
            }
        };
        keyspaces.push(KeyspaceFinding { name: size.name, entries, bytes: size.bytes });
    }
    Ok(Hot { keyspaces, journal_bytes: store.journal_bytes()? })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::model::{
        DataType, Durability, HotStats, PartitionKey, RowPlace, StorageId, StorageKind, StoredRow, TableMeta, Value,
    };
    use crate::storage::row_codec::{self, tests::table_with};
    use crate::storage::segment::testing::{Fixture, alice, seq, small};
    use crate::storage::{ColdCommit, CommitEntry, CommitLog, FjallLog, PartitionManifest, RecordKind, RecordWrite};

    fn record(kind: RecordKind, key: &str, value: impl serde::Serialize) -> RecordWrite {
        RecordWrite { kind, key: key.to_owned(), value: Some(serde_json::to_vec(&value).unwrap()) }
    }

    fn write(data: &Path, entries: &[CommitEntry]) {
        let (store, recovered) = Store::open(data, 1 << 20).unwrap();
        FjallLog::new(store, recovered).append(entries, Durability::Sync).unwrap();
    }

    fn look(data: &Path) -> Findings {
        let args = InspectArgs { data: data.to_owned(), table: None, no_verify: false, json: false };
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(inspect(&args)).unwrap()
    }

    fn faults(found: &Findings) -> Vec<String> {
        found.faults.iter().map(|fault| format!("{} | {}", fault.file, fault.reason)).collect()
    }

    #[test]
    fn what_can_not_be_read_is_told_and_the_rest_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut far = ColdStores::local(0);
        far.id = StorageId::parse("far").unwrap();
        far.kind = StorageKind::S3;
        far.base = "s3://bucket".to_owned();
        // Nobody listens there.
        far.config = [("endpoint", "http://127.0.0.1:1"), ("skip_signature", "true")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let table = table_with(&[DataType::BigInt], &[0]);
        let records = vec![
            record(RecordKind::Table, "1", &table),
            record(RecordKind::Table, "2", "no table"),
            record(RecordKind::Storage, "far", &far),
        ];
        write(folder.path(), &[CommitEntry::Records(records)]);
        fs::write(folder.path().join("commits.mark"), 9u64.to_be_bytes()).unwrap();
        let found = look(folder.path());
        let faults = faults(&found);
        assert_eq!(faults.len(), 3, "{faults:#?}");
        assert!(faults[0].starts_with("hot | 8 of the last commits"), "{faults:#?}");
        assert!(faults[1].starts_with("hot, record of table 2 | invalid type"), "{faults:#?}");
        assert!(faults[2].starts_with("storage far (s3://bucket) | "), "{faults:#?}");
        assert_eq!(found.tables.len(), 1);
        assert!(!folder.path().join("spool").exists(), "nothing is made");
    }

    /// A folder whose manifest names a segment of alice that is not there.
    fn without_its_file(data: &Path) -> TableMeta {
        let fixture = Fixture::new(table_with(&[DataType::BigInt], &[0]));
        let row = row_codec::encode(&fixture.table, &[Value::Int(1)]);
        let row = StoredRow { seq: seq(1), created: seq(1), deleted: false, row, place: RowPlace::Own };
        let readers = fixture.write(fixture.spec(small(10)), &[row]).unwrap();
        let added = vec![readers[0].entry().clone()];
        let commit = ColdCommit {
            key: PartitionKey { table: fixture.table.id, owner: alice() },
            manifest: Arc::new(PartitionManifest::default().changed(seq(1), &added, &[]).unwrap()),
            added,
            removed: Vec::new(),
            moved: Vec::new(),
            deleted: Vec::new(),
            expired: Vec::new(),
            expired_up_to: None,
            flushes: true,
            stats: HotStats::default(),
        };
        let table = TableMeta::clone(&fixture.table);
        let records = vec![
            record(RecordKind::Table, &table.id.to_string(), &table),
            record(RecordKind::Storage, "local", ColdStores::local(0)),
        ];
        write(data, &[CommitEntry::Records(records), CommitEntry::Cold(Box::new(commit))]);
        table
    }

    #[test]
    fn what_is_on_its_way_out_need_not_be_whole() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let table = without_its_file(data);
        let found = faults(&look(data));
        assert!(found.len() == 1 && found[0].ends_with(" | the file is missing"), "{found:#?}");
        let leaving = record(RecordKind::User, "alice", serde_json::json!({ "mailbox": "erasing" }));
        write(data, &[CommitEntry::Records(vec![leaving])]);
        assert_eq!(faults(&look(data)), Vec::<String>::new());

        // A file that no manifest names, until its table is a dropped one.
        fs::create_dir_all(data.join("cold/t")).unwrap();
        fs::write(data.join(format!("cold/t/{}-0000000000000009.parquet", table.id)), "").unwrap();
        assert_eq!(look(data).faults.len(), 1);
        let id = table.id.to_string();
        let gone = RecordWrite { kind: RecordKind::Table, key: id.clone(), value: None };
        let dropped = record(RecordKind::DroppedTable, &id, &table.name);
        write(data, &[CommitEntry::Records(vec![gone, dropped])]);
        let found = look(data);
        assert_eq!((found.faults.len(), found.dropped_tables), (0, 1));
    }
}
