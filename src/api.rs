//! HTTP, WebSocket and server-sent events: bytes to model and back, nothing else.
//!
//! Owns the route map and what an unknown path or method is told.
//! Never decides anything about data or rights: handlers call `Database` and auth.
//! Start at [`configure`].

pub mod auth;
mod caller;
pub mod client;
mod events;
mod examples;
mod exports;
pub mod health;
mod metrics;
pub mod observe;
mod openapi;
pub(crate) mod problem;
pub mod sql;
mod sse;
mod streams;
mod topics;
pub mod ws;

use actix_cors::Cors;
use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, Resource, Route, web};

use crate::config::{Config, CorsConfig};

/// The routes of a server.
pub fn configure(config: &Config) -> impl Fn(&mut web::ServiceConfig) + Clone + use<> {
    let body_limit = usize::try_from(config.server.request_body_limit.as_u64()).unwrap_or(usize::MAX);
    move |routes: &mut web::ServiceConfig| {
        routes
            .app_data(web::PayloadConfig::new(body_limit))
            .service(get("/health", web::get().to(health::health)))
            .service(get("/v1/api/healthcheck", web::get().to(health::health)))
            .service(get("/healthz", web::get().to(health::healthz)))
            .service(get("/readyz", web::get().to(health::readyz)))
            .service(post("/v1/api/sql", web::post().to(sql::execute)))
            .configure(auth::configure)
            .configure(ws::configure)
            .configure(sse::configure)
            .configure(streams::configure)
            .configure(exports::configure)
            .configure(topics::configure)
            .configure(metrics::configure)
            .configure(openapi::configure)
            .configure(examples::configure)
            .default_service(web::to(not_found));
    }
}

/// A path that is read only.
pub(crate) fn get(path: &str, route: Route) -> Resource {
    web::resource(path).route(route).default_service(web::to(|request| wrong_method(request, "GET")))
}

/// A path that is posted to only.
pub(crate) fn post(path: &str, route: Route) -> Resource {
    web::resource(path).route(route).default_service(web::to(|request| wrong_method(request, "POST")))
}

async fn wrong_method(request: HttpRequest, allowed: &'static str) -> HttpResponse {
    let message = format!("{} does not take {}; use {allowed}", request.path(), request.method());
    let mut response = problem::plain(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message);
    response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allowed));
    response
}

async fn not_found(request: HttpRequest) -> HttpResponse {
    let hint = match request.path() {
        "/v1/api/query" | "/api/sql" | "/sql" => "SQL goes to POST /v1/api/sql",
        "/ws" => "the WebSocket is at /v1/ws",
        "/live" => "live queries as server-sent events are at GET /v1/live?sql=…",
        "/" => "SQL goes to POST /v1/api/sql, live queries to the WebSocket at /v1/ws; /health says how the server is",
        _ => {
            "the paths are /v1/api/sql, /v1/api/auth/…, /v1/api/topics/…, /v1/ws, /v1/live, /v1/streams/… and /health; /docs shows them all"
        }
    };
    let message = format!("There is no {} {}: {hint}", request.method(), request.path());
    problem::plain(StatusCode::NOT_FOUND, "NOT_FOUND", message)
}

/// Which web pages may call.
pub fn cors(config: &CorsConfig) -> Cors {
    let methods = config.allowed_methods.iter().filter_map(|name| Method::from_bytes(name.as_bytes()).ok());
    let mut cors = Cors::default()
        .allowed_methods(methods.collect::<Vec<_>>())
        .allowed_headers(&config.allowed_headers)
        .expose_headers(&config.expose_headers)
        .max_age(usize::try_from(config.max_age.as_secs()).unwrap_or(usize::MAX));
    if config.allowed_origins.is_empty() || config.allowed_origins.iter().any(|origin| origin == "*") {
        cors = cors.allow_any_origin();
    } else {
        for origin in &config.allowed_origins {
            cors = cors.allowed_origin(origin);
        }
    }
    if config.allow_credentials { cors.supports_credentials() } else { cors }
}

#[cfg(test)]
mod tests;
