//! The answer of `POST /v1/api/sql`, written as the rows come.
//!
//! Owns the success body (protocol §4.2) and how a failure is told once part of it is sent.
//! Never holds more than a chunk: what is below [`WHOLE`] bytes is answered in one piece, so its failures have their
//! proper status; a longer answer is streamed. A stream says `status` last, after `results`, since JSON has no order and
//! nobody knows before: a late failure ends the rows, and `status` is "error" and `error` says why, with HTTP 200.

use std::time::Instant;

use actix_web::HttpResponse;
use actix_web::web::Bytes;
use futures_util::future::{self, LocalBoxFuture};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use crate::api::problem::{SqlProblem, millis};
use crate::database::request::{Outcome, RowStream, SqlResponse, StatementResult};
use crate::error::{Error, Result};
use crate::model::result::{CellEncoders, ResultSchema};
use crate::model::{Role, UserId};

/// Longer answers are streamed.
pub(super) const WHOLE: usize = 256 * 1024;
/// What a stream hands to the connection at a time.
pub(super) const CHUNK: usize = 64 * 1024;

const HEAD: &[u8] = br#"{"status":"success","results":["#;
/// Where `"results"` begins in [`HEAD`], with the comma before it: a stream starts here, the comma made a brace.
const RESULTS: usize = br#"{"status":"success""#.len();

/// What the answer needs to know about the request.
pub(crate) struct ReplyContext {
    pub(crate) started: Instant,
    pub(crate) max_result_bytes: u64,
    pub(crate) role: Role,
    /// The request's text, for an administrator's error.
    pub(crate) sql: String,
    /// Returns when nobody reads the answer any more.
    pub(crate) gone: LocalBoxFuture<'static, ()>,
}

impl ReplyContext {
    pub(super) fn problem<'a>(&'a self, error: &'a Error) -> SqlProblem<'a> {
        SqlProblem { error, statement: None, sql: &self.sql, role: self.role, took: self.started.elapsed() }
    }
}

/// Writes the answer: at once, or as a stream.
pub(crate) async fn respond(response: SqlResponse, context: ReplyContext) -> HttpResponse {
    let mut writer = ReplyWriter::new(response, context);
    match writer.fill(WHOLE).await {
        Ok(Progress::Done) => json().body(writer.whole()),
        Ok(Progress::More) => {
            let first = writer.first_chunk();
            let gone = std::mem::replace(&mut writer.context.gone, Box::pin(future::pending()));
            let rest = stream::unfold(Some((writer, gone)), |state| async {
                let (mut writer, gone) = state?;
                let (chunk, gone) = match future::select(Box::pin(writer.next_chunk()), gone).await {
                    future::Either::Left((chunk, gone)) => (chunk, gone),
                    // The rest is for nobody: dropping it stops the query.
                    future::Either::Right(_) => return None,
                };
                Some((Ok::<_, actix_web::Error>(chunk), (!writer.ended).then_some((writer, gone))))
            });
            json().streaming(stream::once(async { Ok(first) }).chain(rest))
        }
        Err(error) => writer.context.problem(&error).response(),
    }
}

fn json() -> actix_web::HttpResponseBuilder {
    let mut builder = HttpResponse::Ok();
    builder.content_type("application/json");
    builder
}

enum Progress {
    More,
    Done,
}

struct ReplyWriter {
    context: ReplyContext,
    results: std::vec::IntoIter<StatementResult>,
    /// The statement whose rows are being written.
    open: Option<OpenRows>,
    out: Vec<u8>,
    /// Bytes handed out already.
    handed: u64,
    any_result: bool,
    any_rows: bool,
    ended: bool,
}

struct OpenRows {
    rows: RowStream,
    as_user: UserId,
    /// The batch being written, and its next row.
    batch: Option<(CellEncoders, usize)>,
    count: u64,
}

impl ReplyWriter {
    fn new(response: SqlResponse, context: ReplyContext) -> Self {
        let mut out = Vec::with_capacity(1_024);
        out.extend_from_slice(HEAD);
        Self {
            context,
            results: response.results.into_iter(),
            open: None,
            out,
            handed: 0,
            any_result: false,
            any_rows: false,
            ended: false,
        }
    }

    /// Writes until there are `enough` bytes to hand out or nothing is left.
    async fn fill(&mut self, enough: usize) -> Result<Progress> {
        while self.out.len() < enough {
            if let Some(open) = &mut self.open {
                if let Some((encoders, next)) = &mut open.batch {
                    while *next < encoders.rows() && self.out.len() < enough {
                        if open.count > 0 {
                            self.out.push(b',');
                        }
                        write(&mut self.out, &encoders.array(*next))?;
                        *next += 1;
                        open.count += 1;
                        if self.handed + self.out.len() as u64 > self.context.max_result_bytes {
                            return Err(Error::ResultTooLarge { max_bytes: self.context.max_result_bytes });
                        }
                    }
                    if *next == encoders.rows() {
                        open.batch = None;
                    }
                    continue;
                }
                match open.rows.batches.next().await {
                    Some(batch) => open.batch = Some((CellEncoders::new(&batch?)?, 0)),
                    None => self.close_rows()?,
                }
                continue;
            }
            match self.results.next() {
                Some(result) => self.begin(result)?,
                None => return Ok(Progress::Done),
            }
        }
        Ok(Progress::More)
    }

    fn begin(&mut self, result: StatementResult) -> Result<()> {
        if self.any_result {
            self.out.push(b',');
        }
        self.any_result = true;
        match result.outcome {
            Outcome::Done { rows, message } => {
                #[derive(Serialize)]
                struct Done<'a> {
                    row_count: u64,
                    message: &'a str,
                    as_user: &'a UserId,
                }
                write(&mut self.out, &Done { row_count: rows, message: &message, as_user: &result.as_user })
            }
            Outcome::Rows(rows) => {
                self.any_rows = true;
                self.out.extend_from_slice(b"{");
                self.schema(&rows.schema)?;
                self.out.extend_from_slice(b"\"rows\":[");
                self.open = Some(OpenRows { rows, as_user: result.as_user, batch: None, count: 0 });
                Ok(())
            }
        }
    }

    fn schema(&mut self, schema: &ResultSchema) -> Result<()> {
        if !schema.is_empty() {
            self.out.extend_from_slice(b"\"schema\":");
            write(&mut self.out, schema)?;
            self.out.push(b',');
        }
        Ok(())
    }

    fn close_rows(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        self.out.extend_from_slice(b"],\"row_count\":");
        write(&mut self.out, &open.count)?;
        self.out.extend_from_slice(b",\"as_user\":");
        write(&mut self.out, &open.as_user)?;
        self.out.push(b'}');
        Ok(())
    }

    /// The body, all of it.
    fn whole(mut self) -> Bytes {
        self.out.extend_from_slice(b"],\"took\":");
        self.took();
        self.out.extend_from_slice(if self.any_rows { b",\"error\":null}" } else { b"}" });
        Bytes::from(self.out)
    }

    /// What a stream begins with: the head without its status.
    fn first_chunk(&mut self) -> Bytes {
        let mut chunk = self.take();
        // Cheaper than a second way to begin: `{"status":"success","results":[` becomes `{"results":[`.
        chunk[RESULTS] = b'{';
        Bytes::from(chunk).slice(RESULTS..)
    }

    async fn next_chunk(&mut self) -> Bytes {
        match self.fill(CHUNK).await {
            Ok(Progress::More) => {}
            Ok(Progress::Done) => self.end(None),
            Err(error) => self.end(Some(&error)),
        }
        self.take().into()
    }

    fn take(&mut self) -> Vec<u8> {
        self.handed += self.out.len() as u64;
        std::mem::replace(&mut self.out, Vec::with_capacity(CHUNK + CHUNK / 4))
    }

    fn end(&mut self, error: Option<&Error>) {
        self.ended = true;
        // Rows that came before the failure stay valid; closing them writes numbers and a name, which can not fail.
        let closed = self.close_rows();
        debug_assert!(closed.is_ok());
        let status: &[u8] = if error.is_some() { b"],\"status\":\"error\"" } else { b"],\"status\":\"success\"" };
        self.out.extend_from_slice(status);
        self.out.extend_from_slice(b",\"took\":");
        self.took();
        self.out.extend_from_slice(b",\"error\":");
        let mut body = b"null".to_vec();
        if let Some(error) = error {
            crate::api::problem::log(error);
            body = serde_json::to_vec(&self.context.problem(error).body()).unwrap_or(body);
        }
        self.out.extend_from_slice(&body);
        self.out.push(b'}');
    }

    fn took(&mut self) {
        let took = millis(self.context.started.elapsed());
        self.out.extend_from_slice(took.to_string().as_bytes());
    }
}

fn write(out: &mut Vec<u8>, value: &impl Serialize) -> Result<()> {
    serde_json::to_writer(out, value).map_err(Error::internal)
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
