//! `GET /v1/exports/{user_id}/{export_id}`: the file of an export (protocol §5).
//!
//! Owns the answer's headers, and that the file is read piece by piece as the client takes it. Who may have it is decided
//! behind [`Database::fetch_export`].

use std::fs::File;
use std::io::{self, Read as _};

use actix_web::body::SizedStream;
use actix_web::http::header;
use actix_web::web::{Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::{Stream, stream};
use serde::Serialize;

use super::{get, problem, sql};
use crate::auth::Authenticator;
use crate::database::Database;
use crate::error::Error;

/// Bytes read at once.
const PIECE: usize = 64 << 10;

/// The route. It needs `web::Data` of [`Authenticator`] and [`Database`].
pub(super) fn configure(routes: &mut web::ServiceConfig) {
    routes.service(get("/v1/exports/{user_id}/{export_id}", web::get().to(fetch)));
}

async fn fetch(
    request: HttpRequest,
    path: Path<(String, String)>,
    authenticator: Data<Authenticator>,
    database: Data<Database>,
) -> HttpResponse {
    let found = async {
        let principal = sql::principal(&request, &authenticator).await?;
        database.fetch_export(&principal, &path.0, &path.1).await
    };
    match found.await {
        Ok(export) => HttpResponse::Ok()
            .content_type("application/zip")
            .insert_header((header::CONTENT_DISPOSITION, format!("attachment; filename=\"{}\"", export.name)))
            .insert_header((header::CACHE_CONTROL, "private, no-store"))
            .body(SizedStream::new(export.bytes, pieces(export.file))),
        Err(error) => refused(&error),
    }
}

fn pieces(file: File) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold(file, |mut file| async move {
        let read = web::block(move || {
            let mut piece = vec![0; PIECE];
            let read = file.read(&mut piece)?;
            piece.truncate(read);
            Ok::<_, io::Error>((file, piece))
        });
        let (file, piece) = read.await.map_err(io::Error::other)??;
        Ok((!piece.is_empty()).then(|| (Bytes::from(piece), file)))
    })
}

fn refused(error: &Error) -> HttpResponse {
    #[derive(Serialize)]
    struct Body {
        error: String,
        code: &'static str,
    }
    problem::log(error);
    let code = error.code();
    problem::builder(code).json(Body { error: error.to_string(), code: code.wire() })
}
