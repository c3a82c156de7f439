//! Bodies of BACKUP DATABASE and RESTORE DATABASE.
//!
//! Owns which records a backup leaves out, and what people are told meanwhile. Both work on a thread of their own and on
//! nothing that writers wait for. Cut off anywhere, a backup is written anew from its beginning by the next try, of a later
//! moment; so is what a restore brings.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::Bodies;
use crate::actors::jobs::{Cancelled, JobControl, JobDone};
use crate::database::restore::{self, date, folders_in_use, gone_users, is_gone};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::jobs::Job;
use crate::model::TableMeta;
use crate::storage::backup::{BackupIndex, BackupMoment, BackupTarget, Step};
use crate::storage::{RecordKind, Store};

/// How often is said how far it is.
const SAY_ROUND: Duration = Duration::from_millis(250);

/// How far a copy is, and whether it is to go on.
struct Copying {
    bytes: AtomicU64,
    cancelled: Cancelled,
}

impl Copying {
    fn new(control: &JobControl) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicU64::new(0), cancelled: control.cancelled() })
    }

    fn step(&self, bytes: u64) -> Result<()> {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.cancelled.check()
    }
}

impl Bodies {
    pub(super) async fn back_up(&self, path: &str, control: &JobControl) -> Result<JobDone> {
        let copying = Copying::new(control);
        let work = BackupWork {
            store: self.store.clone(),
            place: PathBuf::from(path),
            data: self.data.clone(),
            // In between the view is opened: close enough for people.
            now_us: self.clock.now_us(),
            job: control.id().to_string(),
        };
        let said = copying.clone();
        let task = tokio::task::spawn_blocking(move || work.run(&|bytes| said.step(bytes)));
        let index = watched(task, &copying, control, "copied").await?;
        let (segments, bytes) = (index.segments().count(), index.bytes());
        let files = index.files.len();
        Ok(JobDone::Completed(format!(
            "backup of {} in '{path}': {bytes} bytes in {files} files, {segments} of them segments",
            index.created_at
        )))
    }

    pub(super) async fn bring_back(&self, path: &str, control: &JobControl) -> Result<JobDone> {
        let copying = Copying::new(control);
        let (from, data, now_us) = (PathBuf::from(path), self.data.clone(), self.clock.now_us());
        let used = folders_in_use(&self.catalog.current());
        let said = copying.clone();
        let task = tokio::task::spawn_blocking(move || {
            let step: Step<'_> = &|bytes| said.step(bytes);
            restore::stage(&from, &data, used, now_us, step)
        });
        let staged = watched(task, &copying, control, "checked and copied").await?;
        Ok(JobDone::Completed(format!(
            "the backup of {} in '{path}' is checked and ready: restart the server to use it. What the database holds by \
             then is kept in '{}'",
            staged.index.created_at,
            staged.replaced.display()
        )))
    }
}

/// Waits for a copy, and says how far it is.
async fn watched<T>(mut task: JoinHandle<Result<T>>, copying: &Copying, control: &JobControl, done: &str) -> Result<T> {
    let mut rounds = tokio::time::interval(SAY_ROUND);
    loop {
        tokio::select! {
            ended = &mut task => return ended.map_err(Error::internal)?,
            _ = rounds.tick() => control.say(|| format!("{} bytes {done} so far", copying.bytes.load(Ordering::Relaxed))),
        }
    }
}

struct BackupWork {
    store: Arc<Store>,
    place: PathBuf,
    data: PathBuf,
    now_us: i64,
    job: String,
}

impl BackupWork {
    fn run(self, step: Step<'_>) -> Result<BackupIndex> {
        // A try before this one got to its end, and the process did not live to say so.
        if let Some(made) = BackupIndex::read(&self.place).ok().filter(|index| index.made_by == self.job) {
            return Ok(made);
        }
        let target = BackupTarget::check(&self.place, &self.data)?;
        let mut writer = target.begin()?;
        failpoint::pass("backup_begun");
        let moment = BackupMoment::now(&self.store);
        let tables = tables(&moment)?;
        let gone = gone_users(moment.records(RecordKind::User)?)?;
        writer.copy_keyspaces(&moment, &is_worth_copying, step)?;
        failpoint::pass("backup_keyspaces");
        for table in &tables {
            for segment in moment.segments_of(table, &|owner| is_gone(&gone, owner))? {
                let store = self.store.cold().store(&segment.storage)?;
                Handle::current().block_on(writer.copy_segment(&store, &segment, step))?;
                failpoint::pass("backup_segment");
            }
        }
        let index = writer.write_index(&moment, &tables, (date(self.now_us), self.job))?;
        failpoint::pass("backup_indexed");
        moment.release_files();
        step(0)?;
        writer.publish()?;
        failpoint::pass("backup_published");
        Ok(index)
    }
}

fn tables(moment: &BackupMoment) -> Result<Vec<Arc<TableMeta>>> {
    let records = moment.records(RecordKind::Table)?;
    records.iter().map(|(_, json)| serde_json::from_slice(json).map(Arc::new).map_err(Error::internal)).collect()
}

/// A job that has not finished would begin again where the backup comes back, this one among them. What is owed stands in
/// records of its own.
fn is_worth_copying(kind: RecordKind, value: &[u8]) -> bool {
    kind != RecordKind::Job || Job::decode(value).is_ok_and(|job| job.status.is_finished())
}
