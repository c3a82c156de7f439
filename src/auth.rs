//! Who you are, and what you may do.
//!
//! Owns users, passwords, tokens, their limits, and, in [`policy`], every access rule there is.
//! Never touches a disk, a socket or SQL text: records leave through [`AuthLog`], durable before they are visible,
//! and what a statement does arrives as model types.
//! Start at [`Authenticator`] for who is asking, at [`Policy`] for whether they may.

mod accounts;
mod administration;
mod authenticator;
pub mod config;
mod departure;
mod limits;
mod log;
mod password;
pub mod policy;
mod revoked;
mod strangers;
mod token;
mod users;

pub use accounts::AuthEvent;
pub use administration::{NewUser, SetupRequest, UserChange};
pub use authenticator::{ActAs, Authenticator, LoggedIn, RefreshFault, Session};
pub use config::{Argon2Config, AuthConfig, Secret, WeakSecret, check_secret};
pub(crate) use limits::network_of;
pub use log::{AuthLog, AuthRecord};
pub(crate) use password::PASSWORD_READ_LIMIT;
pub use password::PasswordHash;
pub use policy::{AdminAction, Authorized, ExecuteAs, Policy};
pub use token::{SessionId, TokenPair};
pub use users::{AuthType, Mailbox, UserAck, UserRecord};

#[cfg(test)]
pub(crate) mod testing;
