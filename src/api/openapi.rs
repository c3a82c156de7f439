//! `/openapi.json`: the HTTP interface as a document; `/docs`: a page that shows it and tries it.
//!
//! Owns both, from the binary itself: the page loads nothing from elsewhere. The document is written by hand
//! ([ADR 45](../../docs/adr/0045-seen-from-outside.md)); a test holds it against the routes.

use actix_web::http::header;
use actix_web::{HttpResponse, web};

use super::get;

/// The page runs no script that is not its own file, and calls no other host.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

const DOCUMENT: &str = include_str!("openapi/openapi.json");
const PAGE: &str = include_str!("openapi/docs.html");
const STYLE: &str = include_str!("openapi/docs.css");
const SCRIPT: &str = include_str!("openapi/docs.js");

pub(super) fn configure(routes: &mut web::ServiceConfig) {
    routes
        .service(get("/openapi.json", web::get().to(async || asset("application/json", document()))))
        .service(get("/docs", web::get().to(async || asset("text/html; charset=utf-8", PAGE.to_owned()))))
        .service(get("/docs/docs.css", web::get().to(async || asset("text/css; charset=utf-8", STYLE.to_owned()))))
        .service(get(
            "/docs/docs.js",
            web::get().to(async || asset("text/javascript; charset=utf-8", SCRIPT.to_owned())),
        ));
}

fn document() -> String {
    DOCUMENT.replace("__VERSION__", env!("CARGO_PKG_VERSION"))
}

fn asset(content_type: &'static str, text: String) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, content_type))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::X_FRAME_OPTIONS, "DENY"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .body(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(fields) => {
                    found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    fields.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document: Value = serde_json::from_str(&document()).unwrap();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "nothing at {reference}");
        }
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn the_page_names_no_other_host_and_has_no_script_of_its_own() {
        for text in [PAGE, STYLE, SCRIPT] {
            assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("innerHTML"));
        }
        assert!(!PAGE.contains("<script>") && !PAGE.contains(" style=") && !PAGE.contains("onclick"));
    }
}
