//! Who you are, and what you may do.
//!
//! Owns users, passwords, tokens, their limits, and, in [`policy`], every access rule there is.
//! Never touches a disk, a socket or SQL text: records leave through [`AuthLog`], durable before they are visible,
//! and what a statement does arrives as model types.
//! Start at [`Authenticator`] for who is asking, at [`Policy`] for whether they may.

pub mod config;
pub mod policy;

pub use config::{Argon2Config, AuthConfig, Secret};
pub use policy::{AdminAction, Authorized, ExecuteAs, Policy};
