//! EXPORT USER DATA, SHOW EXPORT, and who may fetch what came of it.
//!
//! Owns what an export is called and that it is found by the holder of the name that it was made for, and by nobody after
//! them. Never reads a row: a job does.
//! Invariant: LQ-3.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use arrow::array::TimestampMicrosecondArray;

use super::Database;
use super::execute::Scope;
use super::request::{Outcome, RowStream};
use super::show::{optional_texts, rows, texts};
use crate::auth::UserRecord;
use crate::error::{Error, Result};
use crate::jobs::{Job, JobId, JobKind, JobParams, JobState};
use crate::model::{AuditEntry, DataType, Principal, UserId};
use crate::storage::ExportId;

/// An export's file, to be sent.
pub struct ExportFile {
    pub file: File,
    pub bytes: u64,
    pub name: String,
}

/// A row of SHOW EXPORT.
struct Shown {
    job: String,
    status: &'static str,
    created_at: i64,
    message: Option<String>,
    url: Option<String>,
}

impl Database {
    pub(super) async fn export_user_data(&self, scope: &Scope<'_>) -> Result<Outcome> {
        let holder = self.export_holder(scope)?;
        let user = &holder.user_id;
        let params = JobParams::UserExport { user_id: user.clone(), user_since: holder.created_at };
        if let Some(job) = self.jobs.unfinished(&params) {
            let message = format!("Export of the data of user '{user}' is queued or running already. Job ID: {job}");
            return Ok(Outcome::Done { rows: 0, message });
        }
        let job = self.jobs.submit(params).await?;
        let message = format!(
            "Export of the data of user '{user}' started. Job ID: {job}. SHOW EXPORT says when and where it can be fetched"
        );
        Ok(Outcome::Done { rows: 0, message })
    }

    /// The newest first: jobs that are remembered, and files whose jobs are not.
    pub(super) async fn show_export(&self, scope: &Scope<'_>) -> Result<RowStream> {
        let holder = self.export_holder(scope)?;
        let (folder, user, since) = (self.exports.clone(), holder.user_id.clone(), holder.created_at);
        let files = self.engine.blocking(move || folder.list(&user, since)).await?;
        let mut files: HashMap<String, ExportId> =
            files.into_iter().map(|id| (JobId::new(JobKind::UserExport, id.job).to_string(), id)).collect();
        let url = |id: &ExportId| {
            let user: String = holder.user_id.as_str().bytes().map(in_url).collect();
            format!("/v1/exports/{user}/{id}")
        };
        let mine = |job: &Job| {
            matches!(&job.params, JobParams::UserExport { user_id, user_since }
            if *user_id == holder.user_id && *user_since == holder.created_at)
        };
        let mut shown: Vec<Shown> = Vec::new();
        for job in self.jobs.list().into_iter().filter(mine) {
            let file = files.remove(job.job_id.as_str()).filter(|_| job.status == JobState::Completed);
            shown.push(Shown {
                job: job.job_id.to_string(),
                status: job.status.as_str(),
                created_at: job.created_at,
                message: job.message,
                url: file.as_ref().map(url),
            });
        }
        for (job, id) in files {
            let (status, created_at, url) = (JobState::Completed.as_str(), id.created_at(), Some(url(&id)));
            shown.push(Shown { job, status, created_at, message: None, url });
        }
        shown.sort_by(|a, b| (b.created_at, &b.job).cmp(&(a.created_at, &a.job)));
        let created = TimestampMicrosecondArray::from_iter_values(shown.iter().map(|row| row.created_at));
        rows(vec![
            ("job_id", DataType::Text, false, texts(shown.iter().map(|row| row.job.as_str()))),
            ("status", DataType::Text, false, texts(shown.iter().map(|row| row.status))),
            ("created_at", DataType::Timestamp, false, Arc::new(created)),
            ("message", DataType::Text, true, optional_texts(shown.iter().map(|row| row.message.as_deref()))),
            ("download_url", DataType::Text, true, optional_texts(shown.iter().map(|row| row.url.as_deref()))),
        ])
    }

    /// The file of an export, by the names that stand in its address.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` for whoever is neither its owner nor an administrator, whether it is there or not;
    /// `EXPORT_NOT_FOUND`; `SHUTTING_DOWN`.
    pub async fn fetch_export(&self, principal: &Principal, user: &str, export: &str) -> Result<ExportFile> {
        if self.is_stopping() {
            return Err(Error::ShuttingDown);
        }
        let Ok(user) = UserId::parse(user) else {
            // No user has such a name.
            return Err(if principal.role.is_admin() { Error::ExportNotFound } else { denied(user) });
        };
        self.policy.may_fetch_export(principal, &user).inspect_err(|error| {
            self.audit.note_denied(principal, "FETCH EXPORT", error, None);
        })?;
        let holder = self.auth.user(&user).map_err(|_| Error::ExportNotFound)?;
        let id: ExportId = export.parse()?;
        if id.user_since != holder.created_at {
            return Err(Error::ExportNotFound);
        }
        self.auth.check_holder(principal)?;
        let folder = self.exports.clone();
        let found = self.engine.blocking(move || folder.open(&user, &id)).await?;
        let (file, bytes) = found.ok_or(Error::ExportNotFound)?;
        let entry = AuditEntry::of(&principal.user, "FETCH_EXPORT", id.to_string(), self.clock.now_us());
        self.audit.write(entry.about(holder.user_id.clone())).await?;
        Ok(ExportFile { file, bytes, name: format!("{id}.zip") })
    }

    /// A dropped user's exports are for nobody. What can not be removed now goes with the mailbox, and is found by nobody
    /// until then.
    pub(super) async fn remove_exports_of(&self, user: &UserId) {
        let (folder, name) = (self.exports.clone(), user.clone());
        if let Err(error) = self.engine.blocking(move || folder.remove_user(&name)).await {
            tracing::warn!(%user, %error, "exports of a dropped user can not be removed now");
        }
    }

    pub(super) async fn remove_old_exports(&self) {
        let kept_us = i64::try_from(self.options.exports.retention.as_micros()).unwrap_or(i64::MAX);
        let (folder, until) = (self.exports.clone(), self.clock.now_us().saturating_sub(kept_us));
        match self.engine.blocking(move || folder.remove_older(until)).await {
            Ok(0) | Err(Error::ShuttingDown) => {}
            Ok(removed) => tracing::info!(removed, "old exports are removed"),
            Err(error) => tracing::warn!(%error, "old exports can not be removed"),
        }
    }

    /// For whom the statement is: the caller, or whom EXECUTE AS USER names.
    fn export_holder(&self, scope: &Scope<'_>) -> Result<Arc<UserRecord>> {
        if scope.all_owners {
            return Err(Error::InvalidInput("an export is of one user: EXECUTE AS USER 'name' (…)".to_owned()));
        }
        let holder = self.auth.user(&scope.principal.user).map_err(|_| Error::InvalidCredentials)?;
        // Behind the look: then it is the one who asks, and not one who has the name after them.
        self.auth.check_holder(&scope.principal)?;
        Ok(holder)
    }
}

fn denied(user: &str) -> Error {
    Error::PermissionDenied(format!("exports of user '{user}' are for that user and for administrators"))
}

/// A byte of a name as it stands in an address.
fn in_url(byte: u8) -> String {
    match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'@' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    }
}
