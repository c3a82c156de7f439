//! `/v1/api/auth/…`: login, refresh, logout, me, status, setup (protocol §3).
//!
//! Owns these endpoints' bodies, cookies and error slugs. Never decides anything: [`Authenticator`] does.
//! Start at [`configure`].

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use actix_web::cookie::time::Duration as CookieLife;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::DateTime;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::client::ClientIp;
use super::{get, post, problem};
use crate::auth::{Authenticator, LoggedIn, PASSWORD_READ_LIMIT, RefreshFault, Secret, SetupRequest, UserRecord};
use crate::error::{Error, ErrorCode, Result};
use crate::model::Role;

pub(super) const ACCESS_COOKIE: &str = "inboxdb_auth";
const REFRESH_COOKIE: &str = "inboxdb_refresh";
/// The largest body is a setup with two long passwords.
const BODY_LIMIT_BYTES: usize = 16 * 1024;
const USER_READ_LIMIT: usize = 128;

type Auth = web::Data<Authenticator>;
type Body = Result<web::Bytes, actix_web::Error>;

/// The routes. They need `web::Data<Authenticator>`.
pub fn configure(routes: &mut web::ServiceConfig) {
    let scope = web::scope("/v1/api/auth")
        .app_data(web::PayloadConfig::new(BODY_LIMIT_BYTES))
        .service(post("/login", web::post().to(login)))
        .service(post("/refresh", web::post().to(refresh)))
        .service(post("/logout", web::post().to(logout)))
        .service(get("/me", web::get().to(me)))
        .service(get("/status", web::get().to(status)))
        .service(post("/setup", web::post().to(setup)));
    routes.service(scope);
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginBody {
    #[serde(alias = "username")]
    user: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetupBody {
    #[serde(alias = "username")]
    user: String,
    password: String,
    root_password: String,
    #[serde(default)]
    email: Option<String>,
}

async fn login(request: HttpRequest, auth: Auth, body: Body) -> HttpResponse {
    let answer = async {
        let LoginBody { user, password } = parse(body, r#"{"user":"…","password":"…"}"#)?;
        check_length("user", &user, USER_READ_LIMIT)?;
        check_length("password", &password, PASSWORD_READ_LIMIT)?;
        auth.login(&user, Secret::new(password), client_ip(&request)).await
    };
    match answer.await {
        Ok(logged_in) => tokens_response(&request, &auth, &logged_in),
        Err(error) => problem(&error),
    }
}

async fn refresh(request: HttpRequest, auth: Auth) -> HttpResponse {
    let cookie = request.cookie(REFRESH_COOKIE);
    let token = cookie.as_ref().map(Cookie::value).or_else(|| bearer(&request));
    let Some(token) = token else { return problem(&Error::MissingAuthorization) };
    match auth.refresh(token, client_ip(&request)).await {
        Ok(logged_in) => tokens_response(&request, &auth, &logged_in),
        Err(RefreshFault::Refused(error)) => problem(&error),
        Err(fault) => error_body(StatusCode::UNAUTHORIZED, "unauthorized", fault.to_string()),
    }
}

/// Always works, unless what it did could not be stored.
async fn logout(request: HttpRequest, auth: Auth) -> HttpResponse {
    let cookies = [request.cookie(ACCESS_COOKIE), request.cookie(REFRESH_COOKIE)];
    let tokens = bearer(&request).into_iter().chain(cookies.iter().flatten().map(Cookie::value));
    for token in tokens {
        match auth.logout(token).await {
            Ok(()) | Err(Error::InvalidCredentials | Error::TokenExpired) => {}
            Err(error) => return problem(&error),
        }
    }
    HttpResponse::Ok()
        .cookie(cookie(&request, &auth, ACCESS_COOKIE, "", 0))
        .cookie(cookie(&request, &auth, REFRESH_COOKIE, "", 0))
        .json(Message { message: "Logged out successfully" })
}

async fn me(request: HttpRequest, auth: Auth) -> HttpResponse {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let session = match (header, request.cookie(ACCESS_COOKIE)) {
        (None, Some(cookie)) => auth.authenticate_bearer(cookie.value()),
        (header, _) => auth.authenticate_header(header, client_ip(&request)).await,
    };
    match session.and_then(|session| auth.user(&session.principal.user)) {
        Ok(user) => HttpResponse::Ok().json(Me { user: UserView::of(&user), admin_ui_access: user.role.is_admin() }),
        Err(error) => problem(&error),
    }
}

async fn status(request: HttpRequest, auth: Auth) -> HttpResponse {
    #[derive(Serialize)]
    struct Status {
        needs_setup: bool,
        message: &'static str,
    }
    match auth.status(client_ip(&request)) {
        Ok(true) => HttpResponse::Ok().json(Status { needs_setup: true, message: "Server requires initial setup" }),
        Ok(false) => HttpResponse::Ok().json(Status { needs_setup: false, message: "Server is set up" }),
        Err(Error::RemoteAccessDenied) => {
            let message = "Setup status can only be checked from localhost".to_owned();
            error_body(StatusCode::FORBIDDEN, "forbidden", message)
        }
        Err(error) => problem(&error),
    }
}

async fn setup(request: HttpRequest, auth: Auth, body: Body) -> HttpResponse {
    #[derive(Serialize)]
    struct SetUp {
        user: UserView,
        message: String,
    }
    let answer = async {
        let body: SetupBody = parse(body, r#"{"user":"…","password":"…","root_password":"…"}"#)?;
        let wish = SetupRequest {
            user: body.user,
            password: Secret::new(body.password),
            root_password: Secret::new(body.root_password),
            email: body.email,
        };
        auth.setup(wish, client_ip(&request)).await
    };
    match answer.await {
        Ok(user) => {
            let message = format!("Server is set up; log in as '{}'", user.user_id);
            HttpResponse::Ok().json(SetUp { user: UserView::of(&user), message })
        }
        Err(Error::RemoteAccessDenied) => {
            let message = "Setup can only be done from localhost".to_owned();
            error_body(StatusCode::FORBIDDEN, "forbidden", message)
        }
        Err(error) => problem(&error),
    }
}

#[derive(Serialize)]
struct UserView {
    id: String,
    role: Role,
    email: Option<String>,
    created_at: String,
    updated_at: String,
}

impl UserView {
    fn of(user: &UserRecord) -> Self {
        Self {
            id: user.user_id.to_string(),
            role: user.role,
            email: user.email.clone(),
            created_at: date(user.created_at),
            updated_at: date(user.updated_at),
        }
    }
}

#[derive(Serialize)]
struct Me {
    user: UserView,
    admin_ui_access: bool,
}

#[derive(Serialize)]
struct Message {
    message: &'static str,
}

fn tokens_response(request: &HttpRequest, auth: &Authenticator, logged_in: &LoggedIn) -> HttpResponse {
    #[derive(Serialize)]
    struct Tokens<'a> {
        #[serde(flatten)]
        me: Me,
        expires_at: String,
        access_token: &'a str,
        refresh_token: &'a str,
        refresh_expires_at: String,
    }
    let LoggedIn { user, tokens } = logged_in;
    let (access, refresh) = (tokens.access.expose(), tokens.refresh.expose());
    let life = |expires_s: i64| expires_s - tokens.issued_s;
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .cookie(cookie(request, auth, ACCESS_COOKIE, access, life(tokens.access_expires_s)))
        .cookie(cookie(request, auth, REFRESH_COOKIE, refresh, life(tokens.refresh_expires_s)))
        .json(Tokens {
            me: Me { user: UserView::of(user), admin_ui_access: user.role.is_admin() },
            expires_at: date(tokens.access_expires_s.saturating_mul(1_000_000)),
            access_token: access,
            refresh_token: refresh,
            refresh_expires_at: date(tokens.refresh_expires_s.saturating_mul(1_000_000)),
        })
}

/// A life of 0 takes the cookie away.
fn cookie(
    request: &HttpRequest,
    auth: &Authenticator,
    name: &'static str,
    value: &str,
    life_s: i64,
) -> Cookie<'static> {
    // A proxy's word about https is taken from anyone: it decides only about the asker's own cookie.
    let secure = auth.cookie_secure() && request.connection_info().scheme() == "https";
    Cookie::build(name, value.to_owned())
        .path("/")
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(secure)
        .max_age(CookieLife::seconds(life_s))
        .finish()
}

/// The token of an `Authorization: Bearer` header.
fn bearer(request: &HttpRequest) -> Option<&str> {
    let (scheme, token) = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Without an address nobody knows where a request is from: then not from this machine.
fn client_ip(request: &HttpRequest) -> IpAddr {
    ClientIp::of(request).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

fn parse<T: DeserializeOwned>(body: Body, shape: &str) -> Result<T> {
    let bytes = body.map_err(|fault| {
        Error::InvalidInput(format!("The body can not be read: {fault}; at most {BODY_LIMIT_BYTES} bytes are taken"))
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|fault| Error::InvalidInput(format!("Invalid JSON payload: {fault}; send {shape}")))
}

fn check_length(what: &str, text: &str, max: usize) -> Result<()> {
    let length = text.chars().count();
    if length > max {
        return Err(Error::InvalidInput(format!("{what} has {length} characters; {max} are allowed")));
    }
    Ok(())
}

/// An RFC 3339 date of microseconds since the Unix epoch.
fn date(us: i64) -> String {
    DateTime::from_timestamp_micros(us).unwrap_or_default().to_rfc3339()
}

/// The status and slug that these endpoints have for an error; what they have none for keeps its own.
fn problem(error: &Error) -> HttpResponse {
    super::problem::log(error);
    let code = error.code();
    let (status, slug) = match code {
        ErrorCode::InvalidCredentials | ErrorCode::MissingAuthorization | ErrorCode::TokenExpired => {
            (401, "unauthorized")
        }
        ErrorCode::AccountLocked => (401, "account_locked"),
        ErrorCode::RemoteAccessDenied | ErrorCode::PermissionDenied => (403, "forbidden"),
        ErrorCode::SetupRequired => {
            let message = "Server requires initial setup. Root password is not configured.".to_owned();
            return error_body(StatusCode::PRECONDITION_REQUIRED, "setup_required", message);
        }
        ErrorCode::RateLimited => (429, "rate_limited"),
        ErrorCode::WeakPassword => (400, "weak_password"),
        ErrorCode::InvalidName => (400, "invalid_user"),
        ErrorCode::AlreadyConfigured => (409, "already_configured"),
        ErrorCode::AlreadyExists => (409, "user_exists"),
        other => {
            let status = StatusCode::from_u16(other.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return error_body(status, other.wire().to_ascii_lowercase(), error.to_string());
        }
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    error_body(status, slug, error.to_string())
}

fn error_body(status: StatusCode, slug: impl Into<Cow<'static, str>>, message: String) -> HttpResponse {
    #[derive(Serialize)]
    struct Problem {
        error: Cow<'static, str>,
        message: String,
    }
    problem::builder_of(status).json(Problem { error: slug.into(), message })
}

#[cfg(test)]
mod tests;
