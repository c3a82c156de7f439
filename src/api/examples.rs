//! `/examples/chat`: a chat in the browser, from the binary itself.
//!
//! Owns which files there are and how they are served: fresh each time, and held to this server by their policy.
//! The page is a client like any other: it uses the wire protocol only.

use actix_web::http::header;
use actix_web::{HttpResponse, web};

use super::get;

/// The page loads nothing from elsewhere and runs no script that is not one of these files.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

struct Asset {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! chat {
    ($file:literal) => {
        include_str!(concat!("../../examples/chat/", $file))
    };
}

const ASSETS: &[Asset] = &[
    Asset { path: "/examples/chat", content_type: HTML, text: chat!("index.html") },
    Asset { path: "/examples/chat/", content_type: HTML, text: chat!("index.html") },
    Asset { path: "/examples/chat/style.css", content_type: CSS, text: chat!("style.css") },
    Asset { path: "/examples/chat/chat.js", content_type: JAVASCRIPT, text: chat!("chat.js") },
    Asset { path: "/examples/chat/live.js", content_type: JAVASCRIPT, text: chat!("live.js") },
    Asset { path: "/examples/chat/messages.js", content_type: JAVASCRIPT, text: chat!("messages.js") },
    Asset { path: "/examples/chat/server.js", content_type: JAVASCRIPT, text: chat!("server.js") },
];

pub(super) fn configure(routes: &mut web::ServiceConfig) {
    for asset in ASSETS {
        routes.service(get(asset.path, web::get().to(async || response(asset))));
    }
}

fn response(asset: &Asset) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, asset.content_type))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .body(asset.text)
}

#[cfg(test)]
mod tests {
    use actix_web::App;
    use actix_web::http::StatusCode;
    use actix_web::test::{TestRequest, call_service, init_service, read_body};

    use super::*;

    #[actix::test]
    async fn every_file_is_served_fresh_and_under_its_policy() {
        let app = init_service(App::new().configure(configure)).await;
        for asset in ASSETS {
            let response = call_service(&app, TestRequest::get().uri(asset.path).to_request()).await;
            assert_eq!(response.status(), StatusCode::OK, "{}", asset.path);
            let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            assert_eq!(header(header::CONTENT_TYPE), asset.content_type);
            assert_eq!(header(header::CACHE_CONTROL), "no-cache");
            assert!(header(header::CONTENT_SECURITY_POLICY).contains("default-src 'none'"));
            assert_eq!(read_body(response).await, asset.text);
        }
        let request = TestRequest::post().uri("/examples/chat").to_request();
        assert_eq!(call_service(&app, request).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    }

    /// There is no build step that would notice a wrong name.
    #[test]
    fn files_name_only_files_that_are_served() {
        let served: Vec<&str> = ASSETS.iter().map(|asset| asset.path).collect();
        for asset in ASSETS {
            let quoted = asset.text.split(['"', '\'']);
            for name in quoted.filter(|text| text.starts_with("./") || text.starts_with("/examples/")) {
                let path = name.strip_prefix("./").map_or(name.to_owned(), |file| format!("/examples/chat/{file}"));
                assert!(served.contains(&path.as_str()), "{} names {name}", asset.path);
            }
            let outside = ["http://", "https://", "innerHTML", "insertAdjacentHTML"];
            assert!(outside.iter().all(|word| !asset.text.contains(word)), "{}", asset.path);
        }
    }
}
