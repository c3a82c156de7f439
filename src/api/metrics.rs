//! `GET /metrics`: what the server counts, for Prometheus.
//!
//! Owns who may ask: this machine, and administrators from elsewhere (`Authorization: Basic` or `Bearer`): names of tables
//! are in it. Never names a user.

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, web};

use super::client::ClientIp;
use super::{problem, sql};
use crate::auth::Authenticator;
use crate::database::Database;
use crate::metrics::CONTENT_TYPE as OPEN_METRICS;

pub(super) fn configure(routes: &mut web::ServiceConfig) {
    routes.service(super::get("/metrics", web::get().to(metrics)));
}

async fn metrics(
    request: HttpRequest,
    authenticator: web::Data<Authenticator>,
    database: web::Data<Database>,
) -> HttpResponse {
    let written = async {
        let principal = match ClientIp::is_loopback(&request) {
            true => None,
            false => Some(sql::principal(&request, &authenticator).await?),
        };
        database.metrics_text(principal.as_ref())
    };
    match written.await {
        Ok(text) => HttpResponse::Ok().insert_header((CONTENT_TYPE, OPEN_METRICS)).body(text),
        Err(error) => problem::coded(&error),
    }
}
