//! BACKUP DATABASE and RESTORE DATABASE: what can be refused at once is, and a job is made of the rest.

use std::path::{Component, Path};

use super::Database;
use super::request::Outcome;
use crate::error::{Error, Result};
use crate::jobs::JobParams;
use crate::storage::backup::{BackupIndex, BackupTarget};

impl Database {
    pub(super) async fn backup_database(&self, to: &str) -> Result<Outcome> {
        let path = folder(to)?;
        let params = JobParams::Backup { path: path.clone() };
        if let Some(job) = self.jobs.unfinished(&params) {
            return Ok(said(format!("Backup to '{path}' is queued or running already. Job ID: {job}")));
        }
        let (place, data) = (path.clone(), self.options.data.clone());
        self.engine.blocking(move || BackupTarget::check(Path::new(&place), &data).map(drop)).await?;
        let job = self.jobs.submit(params).await?;
        Ok(said(format!("Backup to '{path}' started. Job ID: {job}")))
    }

    pub(super) async fn restore_database(&self, from: &str) -> Result<Outcome> {
        let path = folder(from)?;
        let params = JobParams::Restore { path: path.clone() };
        if let Some(job) = self.jobs.unfinished(&params) {
            return Err(Error::Conflict(format!(
                "a restore is queued or running already (job {job}); wait, or kill it"
            )));
        }
        let place = path.clone();
        let index = self.engine.blocking(move || BackupIndex::read(Path::new(&place))).await?;
        let job = self.jobs.submit(params).await?;
        Ok(said(format!(
            "Restore from '{path}', a backup of {}, started. Job ID: {job}. Once it has completed, a restart of the server \
             is required; until then the database is what it was",
            index.created_at
        )))
    }
}

fn said(message: String) -> Outcome {
    Outcome::Done { rows: 0, message }
}

/// A folder as a statement names it, absolute: a relative one is beside the server.
fn folder(text: &str) -> Result<String> {
    let fault = |fault: &str| Error::InvalidInput(format!("Invalid folder of a backup '{text}': {fault}"));
    if text.is_empty() || text.contains('\0') {
        return Err(fault("it is empty or holds NUL"));
    }
    let path = Path::new(text);
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(fault("'..' is not allowed"));
    }
    let absolute = std::path::absolute(path).map_err(|error| fault(&error.to_string()))?;
    let plain: std::path::PathBuf = absolute.components().collect();
    plain.to_str().map(ToOwned::to_owned).ok_or_else(|| fault("the server's own folder is no UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_absolute_and_lead_nowhere_else() {
        assert_eq!(folder("/a//b/./c/").unwrap(), "/a/b/c");
        assert!(folder("a/b").unwrap().ends_with("/a/b"));
        for wrong in ["", "/a/../b", "..", "/a\0b"] {
            assert!(matches!(folder(wrong), Err(Error::InvalidInput(_))), "{wrong:?}");
        }
    }
}
