//! Who asks, where a browser may ask by itself: a token in the header, or the cookie of the login.
//!
//! An `EventSource` can send no header, and a token in the address would stand in logs and histories. So `GET /v1/live`
//! and the streams take the access cookie as well, from pages that may have it: the cookie is `SameSite=Strict`, and a
//! request that brings it must say that it is of the server's own origin, or of one that is named as allowed.
//! Never takes both: who sends a header is who the header says.

use actix_web::HttpRequest;
use actix_web::cookie::Cookie;
use actix_web::http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};

use super::auth::ACCESS_COOKIE;
use crate::config::Config;
use crate::error::{Error, Result};

/// What a request shows of its sender.
pub(super) enum Shown {
    /// The Authorization header.
    Header(String),
    /// The access token of a cookie.
    Cookie(Cookie<'static>),
}

/// # Errors
/// `MISSING_AUTHORIZATION`; `INVALID_CREDENTIALS` where the header is no text; `PERMISSION_DENIED` where a page of
/// another origin sends the cookie.
pub(super) fn shown(request: &HttpRequest, config: &Config) -> Result<Shown> {
    if let Some(header) = request.headers().get(AUTHORIZATION) {
        let header = header.to_str().map_err(|_| Error::InvalidCredentials)?;
        return Ok(Shown::Header(header.to_owned()));
    }
    let cookie = request.cookie(ACCESS_COOKIE).ok_or(Error::MissingAuthorization)?;
    if is_own_page(request.headers(), request.uri().authority().map(|host| host.as_str()), config) {
        Ok(Shown::Cookie(cookie))
    } else {
        let text = "a page of this origin may not use the login's cookie; name it in security.cors.allowed_origins";
        Err(Error::PermissionDenied(text.to_owned()))
    }
}

/// The bearer token, or the cookie's.
///
/// # Errors
/// Those of [`shown`]; `INVALID_CREDENTIALS` where the header has another scheme.
pub(super) fn token(request: &HttpRequest, config: &Config) -> Result<String> {
    match shown(request, config)? {
        Shown::Cookie(cookie) => Ok(cookie.value().to_owned()),
        Shown::Header(header) => match header.trim().split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim().to_owned()),
            _ => Err(Error::InvalidCredentials),
        },
    }
}

/// Browsers tell the origin of what they send elsewhere, and of writes; of a page's own reads they tell the site.
fn is_own_page(headers: &HeaderMap, authority: Option<&str>, config: &Config) -> bool {
    const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(origin) = text(ORIGIN) {
        let named = config.security.cors.allowed_origins.iter().any(|allowed| allowed == origin);
        let public = config.server.public_origin.as_deref() == Some(origin);
        let host = origin.split_once("://").map(|(_, host)| host);
        let own = host.is_some() && host == text(HOST).or(authority);
        return named || public || own;
    }
    // `none`: the user's own doing, such as an address typed in.
    text(SITE).is_none_or(|site| site == "same-origin" || site == "none")
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn a_cookie_counts_from_pages_that_may_have_it() {
        let mut config = Config::default();
        config.security.cors.allowed_origins = vec!["*".to_owned(), "https://named.example".to_owned()];
        config.server.public_origin = Some("https://public.example".to_owned());
        let cases: &[(&[(&str, &str)], bool)] = &[
            (&[], true),
            (&[("host", "db.example:8080"), ("origin", "http://db.example:8080")], true),
            (&[("host", "db.example:8080"), ("origin", "http://db.example")], false),
            (&[("host", "db.example"), ("origin", "https://evil.example")], false),
            (&[("host", "db.example"), ("origin", "null")], false),
            (&[("host", "db.example"), ("origin", "https://named.example")], true),
            (&[("host", "db.example"), ("origin", "https://public.example")], true),
            (&[("host", "db.example"), ("sec-fetch-site", "same-origin")], true),
            (&[("host", "db.example"), ("sec-fetch-site", "none")], true),
            (&[("host", "db.example"), ("sec-fetch-site", "same-site")], false),
            (&[("host", "db.example"), ("sec-fetch-site", "cross-site")], false),
        ];
        for (given, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in *given {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            assert_eq!(is_own_page(&headers, None, &config), *expected, "{given:?}");
        }
    }
}
