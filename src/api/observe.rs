//! What is known of each request from outside: its id, its route, how it was answered and how long that took.
//!
//! Owns the request id: the caller's, where it is one, or a new one; it is in every answer, and in every log line that is
//! written for the request. Counts by route as registered, so that a path that nobody registered is `other`.
//! Never refuses a request. The outermost middleware: what the ones inside refuse is counted, too.

use std::sync::Arc;
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error as HttpError, HttpMessage as _, HttpRequest, web};
use tracing::Instrument as _;

use crate::metrics::Metrics;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_MAX: usize = 128;

/// The id of a request.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) Arc<str>);

impl RequestId {
    /// Of a request that passed [`observe`].
    pub(crate) fn of(request: &HttpRequest) -> Option<Arc<str>> {
        request.extensions().get::<RequestId>().map(|id| id.0.clone())
    }

    /// The caller's, if it is short and plain: it is written into logs. Anything else is replaced.
    fn given_or_new(headers: &HeaderMap) -> RequestId {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(&byte);
        let given = headers.get(&REQUEST_ID).map(HeaderValue::as_bytes);
        let given = given.filter(|id| (1..=REQUEST_ID_MAX).contains(&id.len()) && id.iter().copied().all(plain));
        match given.and_then(|id| std::str::from_utf8(id).ok()) {
            Some(id) => RequestId(id.into()),
            None => RequestId(uuid::Uuid::new_v4().to_string().into()),
        }
    }
}

/// # Errors
/// Those of the inner services.
pub async fn observe(
    metrics: web::Data<Metrics>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, HttpError> {
    let started = Instant::now();
    let id = RequestId::given_or_new(request.headers());
    let method = request.method().clone();
    request.extensions_mut().insert(id.clone());
    let span = tracing::info_span!("request", request_id = %id.0);
    let answered = next.call(request).instrument(span.clone()).await;
    let took = started.elapsed();
    let mut response = match answered {
        Ok(response) => response.map_into_boxed_body(),
        Err(error) => {
            metrics.request("other", method.as_str(), error.as_response_error().status_code().as_u16(), took);
            return Err(error);
        }
    };
    let route = response.request().match_pattern();
    let (route, code) = (route.as_deref().unwrap_or("other"), response.status().as_u16());
    metrics.request(route, method.as_str(), code, took);
    span.in_scope(|| tracing::debug!(route, %method, code, ?took, "answered"));
    // Letters, digits and a few signs: always a header's value.
    if let Ok(id) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_over_only_where_it_is_plain_and_short() {
        let taken = |given: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(given).unwrap());
            *RequestId::given_or_new(&headers).0 == *given
        };
        assert!(taken("abc-123") && taken("a:b/c=") && taken(&"x".repeat(128)));
        assert!(!taken("") && !taken("a b") && !taken("a\"b") && !taken("a\\nb") && !taken(&"x".repeat(129)));
        let made = RequestId::given_or_new(&HeaderMap::new());
        assert_eq!(made.0.len(), 36);
        assert_ne!(*made.0, *RequestId::given_or_new(&HeaderMap::new()).0);
    }
}
