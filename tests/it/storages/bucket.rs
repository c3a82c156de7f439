//! A server with one S3 bucket, in this process: as much of the protocol as a store of files needs.
//!
//! Knows objects, ranges, lists, bulk deletes and uploads in parts. Signatures are not recomputed: the key's id alone says
//! who comes, and a wrong one is answered as S3 does, with what was sent quoted.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};

use actix_web::dev::ServerHandle;
use actix_web::http::{Method, StatusCode, header};
use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};

pub const ACCESS_KEY: &str = "AKIATEST";
pub const BUCKET: &str = "inboxdb-test";

#[derive(Default)]
struct Objects {
    stored: BTreeMap<String, Bytes>,
    /// Upload id → parts by number.
    uploads: BTreeMap<String, BTreeMap<u32, Bytes>>,
}

type Shared = Data<Mutex<Objects>>;

pub struct Held<'a> {
    _objects: MutexGuard<'a, Objects>,
}

/// A running bucket; it ends when this is dropped.
pub struct Bucket {
    pub endpoint: String,
    objects: Arc<Mutex<Objects>>,
    server: ServerHandle,
}

impl Bucket {
    /// On a thread of its own.
    pub fn start() -> Self {
        let objects: Shared = Data::new(Mutex::default());
        let (app, shared) = (objects.clone(), objects.into_inner());
        let (started, server) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            actix::System::new().block_on(async move {
                let server = HttpServer::new(move || {
                    let limit = web::PayloadConfig::new(64 << 20);
                    App::new().app_data(app.clone()).app_data(limit).default_service(web::to(answer))
                });
                let server = server.workers(1).disable_signals().bind("127.0.0.1:0").unwrap();
                let address = server.addrs()[0];
                let server = server.run();
                started.send((address, server.handle())).unwrap();
                server.await.unwrap();
            });
        });
        let (address, server) = server.recv().unwrap();
        Self { endpoint: format!("http://{address}"), objects: shared, server }
    }

    pub fn names(&self) -> Vec<String> {
        self.objects.lock().unwrap().stored.keys().cloned().collect()
    }

    /// Answers nothing while this lives.
    pub fn hold(&self) -> Held<'_> {
        Held { _objects: self.objects.lock().unwrap() }
    }

    /// The server goes away.
    pub async fn stop(&self) {
        self.server.stop(false).await;
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // The order is given at once; nobody waits for its end.
        drop(self.server.stop(false));
    }
}

async fn answer(request: HttpRequest, body: Bytes, objects: Shared) -> HttpResponse {
    let sent = request.headers().get(header::AUTHORIZATION).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    if !sent.contains(&format!("Credential={ACCESS_KEY}/")) || !sent.contains("Signature=") {
        let quoted = format!("<Error><Code>InvalidAccessKeyId</Code><AWSAccessKeyId>{sent}</AWSAccessKeyId></Error>");
        return HttpResponse::Forbidden().body(quoted);
    }
    let query = web::Query::<BTreeMap<String, String>>::from_query(request.query_string()).unwrap().into_inner();
    let path = request.path().trim_start_matches('/');
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    if bucket != BUCKET {
        return HttpResponse::NotFound().body("<Error><Code>NoSuchBucket</Code></Error>");
    }
    let mut objects = objects.lock().unwrap();
    match (request.method().clone(), key) {
        (Method::GET, "") => list(&objects, query.get("prefix").map_or("", String::as_str)),
        (Method::POST, "") if query.contains_key("delete") => delete_all(&mut objects, &body),
        (Method::POST, _) if query.contains_key("uploads") => {
            let id = format!("upload-{}", objects.uploads.len() + 1);
            objects.uploads.insert(id.clone(), BTreeMap::new());
            xml(&format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
        }
        (Method::PUT, _) if query.contains_key("uploadId") => {
            let part = query["partNumber"].parse().unwrap();
            objects.uploads.get_mut(&query["uploadId"]).unwrap().insert(part, body);
            stored()
        }
        (Method::POST, _) if query.contains_key("uploadId") => {
            let parts = objects.uploads.remove(&query["uploadId"]).unwrap();
            let whole: Vec<u8> = parts.into_values().flatten().collect();
            objects.stored.insert(key.to_owned(), whole.into());
            xml("<CompleteMultipartUploadResult><ETag>\"1\"</ETag></CompleteMultipartUploadResult>")
        }
        (Method::PUT, _) => {
            objects.stored.insert(key.to_owned(), body);
            stored()
        }
        (Method::GET | Method::HEAD, _) => match objects.stored.get(key) {
            Some(found) => object(&request, found),
            None => HttpResponse::NotFound().body("<Error><Code>NoSuchKey</Code></Error>"),
        },
        _ => HttpResponse::build(StatusCode::NOT_IMPLEMENTED).finish(),
    }
}

fn xml(body: &str) -> HttpResponse {
    HttpResponse::Ok().content_type("application/xml").body(body.to_owned())
}

fn stored() -> HttpResponse {
    HttpResponse::Ok().insert_header((header::ETAG, "\"1\"")).finish()
}

fn list(objects: &Objects, prefix: &str) -> HttpResponse {
    let mut body = "<ListBucketResult>".to_owned();
    for (key, content) in objects.stored.iter().filter(|(key, _)| key.starts_with(prefix)) {
        let (modified, size) = ("2026-01-01T00:00:00.000Z", content.len());
        let _ = write!(
            body,
            "<Contents><Key>{key}</Key><LastModified>{modified}</LastModified><Size>{size}</Size><ETag>\"1\"</ETag></Contents>"
        );
    }
    xml(&format!("{body}</ListBucketResult>"))
}

fn delete_all(objects: &mut Objects, body: &Bytes) -> HttpResponse {
    let text = std::str::from_utf8(body).unwrap();
    let mut answer = "<DeleteResult>".to_owned();
    for key in text.split("<Key>").skip(1).map(|rest| rest.split_once("</Key>").unwrap().0) {
        objects.stored.remove(key);
        let _ = write!(answer, "<Deleted><Key>{key}</Key></Deleted>");
    }
    xml(&format!("{answer}</DeleteResult>"))
}

fn object(request: &HttpRequest, content: &Bytes) -> HttpResponse {
    let mut status = StatusCode::OK;
    let mut part = content.clone();
    let range = request.headers().get(header::RANGE).map(|range| range.to_str().unwrap());
    let mut answer_range = None;
    if let Some((first, last)) = range.and_then(|range| range.strip_prefix("bytes=")).and_then(|r| r.split_once('-')) {
        let size = content.len();
        let (first, end) = match (first, last) {
            ("", last) => (size.saturating_sub(last.parse().unwrap()), size),
            (first, "") => (first.parse().unwrap(), size),
            (first, last) => (first.parse().unwrap(), size.min(last.parse::<usize>().unwrap() + 1)),
        };
        part = content.slice(first..end);
        answer_range = Some(format!("bytes {first}-{}/{size}", end - 1));
        status = StatusCode::PARTIAL_CONTENT;
    }
    let mut answer = HttpResponse::build(status);
    answer.insert_header((header::ETAG, "\"1\""));
    answer.insert_header((header::LAST_MODIFIED, "Thu, 01 Jan 2026 00:00:00 GMT"));
    if let Some(range) = answer_range {
        answer.insert_header((header::CONTENT_RANGE, range));
    }
    answer.body(part)
}
