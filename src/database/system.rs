//! What `system.users` and `system.live` show.

use std::sync::Arc;

use crate::auth::Authenticator;
use crate::sql::system_tables::{LiveRow, SystemData, UserRow};

pub(super) struct System {
    pub auth: Arc<Authenticator>,
}

impl SystemData for System {
    fn users(&self) -> Vec<UserRow> {
        let row = |user: &Arc<crate::auth::UserRecord>| UserRow {
            user_id: user.user_id.clone(),
            role: user.role,
            email: user.email.clone(),
            auth_type: user.auth_type.as_str(),
            failed_login_attempts: i32::try_from(user.failed_login_attempts).unwrap_or(i32::MAX),
            locked_until: user.locked_until,
            last_login_at: user.last_login_at,
            created_at: user.created_at,
            updated_at: user.updated_at,
            last_seen: user.last_login_at,
            deleted_at: user.deleted_at,
        };
        self.auth.users().iter().map(row).collect()
    }

    fn live(&self) -> Vec<LiveRow> {
        Vec::new()
    }
}
