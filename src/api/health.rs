//! Is the server there, and does it take requests?
//!
//! Owns [`ServerStatus`] and the routes `/health`, `/v1/api/healthcheck`, `/healthz`, `/readyz` (A5).
//! Tells anyone that it lives and which version it is; more only to this machine.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::client::ClientIp;
use super::problem;

pub(crate) const API_VERSION: &str = "v1";

/// What the server is doing, as load balancers ask.
#[derive(Debug)]
pub struct ServerStatus {
    started: Instant,
    stopping: AtomicBool,
}

impl ServerStatus {
    pub fn ready() -> Self {
        Self { started: Instant::now(), stopping: AtomicBool::new(false) }
    }

    /// From now on `/readyz` sends clients elsewhere.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
    api_version: &'static str,
    #[serde(flatten)]
    details: Option<Details>,
}

/// For this machine only.
#[derive(Serialize)]
struct Details {
    uptime_seconds: u64,
    pid: u32,
}

pub(super) async fn health(request: HttpRequest, status: web::Data<ServerStatus>) -> HttpResponse {
    let details = ClientIp::is_loopback(&request)
        .then(|| Details { uptime_seconds: status.started.elapsed().as_secs(), pid: std::process::id() });
    let word = if status.is_stopping() { "stopping" } else { "healthy" };
    HttpResponse::Ok().json(Health {
        status: word,
        version: env!("CARGO_PKG_VERSION"),
        api_version: API_VERSION,
        details,
    })
}

pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({ "status": "alive" }))
}

pub(super) async fn readyz(status: web::Data<ServerStatus>) -> HttpResponse {
    if status.is_stopping() {
        let message = "The server is shutting down; connect again in a moment".to_owned();
        return problem::plain(StatusCode::SERVICE_UNAVAILABLE, "SHUTTING_DOWN", message);
    }
    HttpResponse::Ok().json(serde_json::json!({ "status": "ready" }))
}
