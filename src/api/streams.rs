//! `/v1/streams/{namespace}/{table}/{key}`: Durable Streams over HTTP.
//!
//! Owns which headers and parameters are what, in both directions. Whatever they mean is `crate::streams`'.
//! A key may hold slashes: everything behind the table's is the key.
//! Start at [`configure`].

mod answer;
mod live;

use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_TYPE, IF_NONE_MATCH};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{Bytes, Data, Path, Query};
use actix_web::{HttpRequest, HttpResponse, web};

use super::caller::{self, Shown};
use super::client::{self, ClientIp};
use super::problem;
use crate::auth::{Authenticator, Session};
use crate::config::Config;
use crate::database::Database;
use crate::database::durable_streams::{StreamAddress, StreamReader};
use crate::error::{Error, Result};
use crate::model::Principal;
use crate::streams::append::{Append, AppendHeaders};
use crate::streams::create::{Create, CreateHeaders};
use crate::streams::offset::ReadFrom;

/// Where streams are.
const ROOT: &str = "/v1/streams";

/// The route. Needs `web::Data` of [`Config`], [`Authenticator`] and [`Database`].
pub(super) fn configure(routes: &mut web::ServiceConfig) {
    let resource = web::resource(format!("{ROOT}/{{namespace}}/{{table}}/{{key:.+}}"))
        .route(web::put().to(create))
        .route(web::post().to(append))
        .route(web::get().to(read))
        .route(web::head().to(head))
        .route(web::delete().to(delete))
        .default_service(web::to(wrong_method));
    routes.service(resource);
}

/// What every request needs.
struct Services {
    config: Data<Config>,
    database: Data<Database>,
    authenticator: Data<Authenticator>,
}

impl actix_web::FromRequest for Services {
    type Error = actix_web::Error;
    type Future = std::future::Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut actix_web::dev::Payload) -> Self::Future {
        fn data<T: 'static>(request: &HttpRequest) -> Result<Data<T>, actix_web::Error> {
            let missing = || actix_web::error::ErrorInternalServerError("a service is missing");
            request.app_data::<Data<T>>().cloned().ok_or_else(missing)
        }
        let services = || Ok(Self { config: data(request)?, database: data(request)?, authenticator: data(request)? });
        std::future::ready(services())
    }
}

impl Services {
    /// Who asks, by header or cookie.
    async fn session(&self, request: &HttpRequest) -> Result<Session> {
        let session = match caller::shown(request, &self.config)? {
            Shown::Cookie(cookie) => self.authenticator.authenticate_bearer(cookie.value())?,
            Shown::Header(header) => {
                let address = ClientIp::of(request).unwrap_or(super::sql::NOBODY);
                self.authenticator.authenticate_header(Some(&header), address).await?
            }
        };
        self.authenticator.admit_request(&session.principal)?;
        Ok(session)
    }

    async fn principal(&self, request: &HttpRequest) -> Result<Principal> {
        self.session(request).await.map(|session| session.principal)
    }
}

/// The parameters that mean something; others are no concern of ours.
#[derive(Debug, Default, PartialEq, Eq)]
struct Params {
    offset: Option<String>,
    live: Option<String>,
    cursor: Option<String>,
    user: Option<String>,
}

impl Params {
    fn of(query: &str) -> Result<Self> {
        let pairs = Query::<Vec<(String, String)>>::from_query(query);
        let pairs = pairs.map_err(|fault| Error::InvalidInput(fault.to_string()))?.into_inner();
        let mut params = Self::default();
        for (name, value) in pairs {
            let param = match name.as_str() {
                "offset" => &mut params.offset,
                "live" => &mut params.live,
                "cursor" => &mut params.cursor,
                "user" => &mut params.user,
                _ => continue,
            };
            if param.replace(value).is_some() {
                return Err(Error::InvalidInput(format!("{name} is given twice")));
            }
        }
        Ok(params)
    }
}

type StreamPath = Path<(String, String, String)>;

fn address(path: StreamPath, user: Option<String>) -> StreamAddress {
    let (namespace, table, key) = path.into_inner();
    StreamAddress { namespace: namespace.to_ascii_lowercase(), table: table.to_ascii_lowercase(), key, user }
}

/// A header's text; one that is no text is as one that is wrong.
fn text<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    request.headers().get(name).map(|value| value.to_str().unwrap_or("?"))
}

/// The whole body, or the answer where it is too large.
fn whole(services: &Services, body: Result<Bytes, actix_web::Error>) -> Result<Bytes, Box<HttpResponse>> {
    body.map_err(|error| {
        Box::new(match error.as_error::<PayloadError>() {
            Some(PayloadError::Overflow) => client::too_large(None, services.config.server.request_body_limit.as_u64()),
            _ => answer::refused(&Error::InvalidInput(format!("The request body can not be read: {error}"))),
        })
    })
}

async fn create(
    request: HttpRequest,
    path: StreamPath,
    services: Services,
    body: Result<Bytes, actix_web::Error>,
) -> HttpResponse {
    let body = match whole(&services, body) {
        Ok(body) => body,
        Err(refused) => return answer::secured(*refused),
    };
    let made = async {
        let principal = services.principal(&request).await?;
        let root = format!("{ROOT}/{}/{}/", path.0, path.1);
        let headers = CreateHeaders {
            content_type: text(&request, CONTENT_TYPE.as_str()),
            ttl: text(&request, "stream-ttl"),
            expires_at: text(&request, "stream-expires-at"),
            closed: text(&request, "stream-closed"),
            forked_from: text(&request, "stream-forked-from"),
            fork_offset: text(&request, "stream-fork-offset"),
            fork_sub_offset: text(&request, "stream-fork-sub-offset"),
        };
        let create = Create::parse(headers, &root)?;
        let address = address(path, Params::of(request.query_string())?.user);
        services.database.create_stream(&principal, &address, &create, &body).await
    };
    match made.await {
        Ok(created) => answer::created(&location(&request, &services.config), &created),
        Err(error) => answer::refused(&error),
    }
}

/// The stream's address as its clients have it.
fn location(request: &HttpRequest, config: &Config) -> String {
    let path = request.uri().path();
    match &config.server.public_origin {
        Some(origin) => format!("{origin}{path}"),
        None => {
            let connection = request.connection_info();
            format!("{}://{}{path}", connection.scheme(), connection.host())
        }
    }
}

async fn append(
    request: HttpRequest,
    path: StreamPath,
    services: Services,
    body: Result<Bytes, actix_web::Error>,
) -> HttpResponse {
    let body = match whole(&services, body) {
        Ok(body) => body,
        Err(refused) => return answer::secured(*refused),
    };
    let appended = async {
        let principal = services.principal(&request).await?;
        let headers = AppendHeaders {
            content_type: text(&request, CONTENT_TYPE.as_str()),
            closed: text(&request, "stream-closed"),
            producer_id: text(&request, "producer-id"),
            producer_epoch: text(&request, "producer-epoch"),
            producer_seq: text(&request, "producer-seq"),
            stream_seq: text(&request, "stream-seq"),
            expected: text(&request, "stream-expected-offset"),
        };
        let append = Append::parse(headers, !body.is_empty())?;
        let address = address(path, Params::of(request.query_string())?.user);
        services.database.append_to_stream(&principal, &address, &append, &body).await
    };
    match appended.await {
        Ok(appended) => answer::appended(appended),
        Err(error) => answer::refused(&error),
    }
}

async fn read(request: HttpRequest, path: StreamPath, services: Services) -> HttpResponse {
    let begun = async {
        let session = services.session(&request).await?;
        let params = Params::of(request.query_string())?;
        let from = ReadFrom::parse(params.offset.as_deref())?;
        let Params { offset, live, cursor, user } = params;
        if live.is_some() && offset.is_none() {
            return Err(Error::InvalidInput("A live read says where it begins: offset".to_owned()));
        }
        let address = address(path, user);
        let reader =
            StreamReader::new(services.database.clone().into_inner(), session.principal.clone(), address, from);
        match live.as_deref() {
            None => live::catch_up(reader, from, text(&request, IF_NONE_MATCH.as_str())).await,
            Some("long-poll") => live::long_poll(reader, cursor, &services.config.streams).await,
            Some("sse") => live::events(reader, cursor, &services, &session).await,
            Some(other) => Err(Error::InvalidInput(format!("live is long-poll or sse, not '{other}'"))),
        }
    };
    begun.await.unwrap_or_else(|error| answer::refused(&error))
}

async fn head(request: HttpRequest, path: StreamPath, services: Services) -> HttpResponse {
    let found = async {
        let principal = services.principal(&request).await?;
        let address = address(path, Params::of(request.query_string())?.user);
        services.database.stream_head(&principal, &address)
    };
    match found.await {
        Ok(head) => answer::head(&head),
        Err(error) => answer::refused(&error),
    }
}

async fn delete(request: HttpRequest, path: StreamPath, services: Services) -> HttpResponse {
    let deleted = async {
        let principal = services.principal(&request).await?;
        let address = address(path, Params::of(request.query_string())?.user);
        services.database.delete_stream(&principal, &address).await
    };
    match deleted.await {
        Ok(()) => answer::secured(HttpResponse::NoContent().finish()),
        Err(error) => answer::refused(&error),
    }
}

async fn wrong_method(request: HttpRequest) -> HttpResponse {
    let allowed =
        [Method::PUT, Method::POST, Method::GET, Method::HEAD, Method::DELETE].map(|m| m.to_string()).join(", ");
    let message = format!("A stream does not take {}; use one of {allowed}", request.method());
    let mut refused = problem::plain(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message);
    if let Ok(allowed) = allowed.parse() {
        refused.headers_mut().insert(actix_web::http::header::ALLOW, allowed);
    }
    answer::secured(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_once_each() {
        let read = |query: &str| Params::of(query).map_err(|error| error.to_string());
        let some = |text: &str| Some(text.to_owned());
        let all = Params { offset: some("a_b"), live: some("sse"), cursor: some("7"), user: some("alice") };
        assert_eq!(read("offset=a_b&live=sse&cursor=7&user=alice&other=1&other=2"), Ok(all));
        assert_eq!(read(""), Ok(Params::default()));
        assert_eq!(read("offset="), Ok(Params { offset: some(""), ..Params::default() }));
        assert_eq!(read("offset=1&offset=2"), Err("offset is given twice".to_owned()));
    }
}
