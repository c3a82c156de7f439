//! `system.storages`. No credential is in it: only that there is one.

use std::sync::Arc;

use super::{Column, json, micros, null, text, time, words};
use crate::model::StorageMeta;

pub(super) const STORAGES: &[Column<Arc<StorageMeta>>] = &[
    text("storage_id", |r| r.id.as_str().into()),
    text("storage_name", |r| r.name.as_str().into()),
    null(text("description", |r| words(r.description.as_deref()))),
    text("storage_type", |r| r.kind.as_str().into()),
    text("base_directory", |r| r.base.as_str().into()),
    null(json("credentials", |r| words(r.credentials.masked()))),
    null(json("config_json", |r| words(r.config_json()))),
    text("shared_tables_template", |r| r.shared_template.as_str().into()),
    text("user_tables_template", |r| r.user_template.as_str().into()),
    time("created_at", |r| micros(r.created_at)),
    time("updated_at", |r| micros(r.updated_at)),
];
