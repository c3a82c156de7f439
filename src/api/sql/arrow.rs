//! The answer of `POST /v1/api/sql` as an Arrow IPC stream, for who asks for it by `Accept`.
//!
//! Owns who asks for it, and the stream: a schema, record batches as they come, and the end mark. What fails before
//! [`WHOLE`] bytes are there is answered as JSON with its proper status; what fails later ends the body without its last
//! chunk and without the end mark, which every reader of Arrow streams takes for an error.
//! Never holds more than a piece of a batch.

use actix_web::http::header::{ACCEPT, HeaderMap};
use actix_web::web::Bytes;
use actix_web::{HttpResponse, ResponseError};
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow_ipc::writer::StreamWriter;
use futures_util::{FutureExt as _, StreamExt as _, future, stream};
use std::sync::Arc;

use super::reply::{CHUNK, ReplyContext, WHOLE};
use crate::database::request::RowStream;
use crate::error::{Error, Result};
use crate::model::{ResultSchema, UserId};

pub(super) const MEDIA_TYPE: &str = "application/vnd.apache.arrow.stream";

/// Rows that are encoded at a time, of a batch of any width.
const PIECE_ROWS: usize = 1_024;

/// Does the caller prefer an Arrow stream to JSON?
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let ranges = headers.get_all(ACCEPT).filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let (mut arrow, mut json) = (0.0, 0.0);
    for range in ranges {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
        match media_type.as_str() {
            MEDIA_TYPE => arrow = quality,
            "application/json" => json = quality,
            _ => {}
        }
    }
    arrow > 0.0 && arrow >= json
}

/// Writes the answer: at once, or as a stream.
pub(super) async fn respond(rows: RowStream, as_user: &UserId, context: ReplyContext) -> HttpResponse {
    let mut writer = ArrowWriter::new(rows, as_user, context.max_result_bytes);
    match writer.fill(WHOLE).await {
        Ok(true) => answer().body(writer.take()),
        Ok(false) => {
            let first = writer.take();
            let rest = stream::unfold(Some((writer, context.gone)), |state| async {
                let (mut writer, gone) = state?;
                let (chunk, gone) = match future::select(Box::pin(writer.chunk()), gone).await {
                    future::Either::Left((chunk, gone)) => (chunk, gone),
                    future::Either::Right(_) => return None,
                };
                match chunk {
                    Ok((chunk, ended)) => Some((Ok(chunk), (!ended).then_some((writer, gone)))),
                    Err(error) => {
                        crate::api::problem::log(&error);
                        Some((Err(CutOff), None))
                    }
                }
            });
            answer().streaming(stream::once(async { Ok(first) }).chain(rest))
        }
        Err(error) => context.problem(&error).response(),
    }
}

fn answer() -> actix_web::HttpResponseBuilder {
    let mut builder = HttpResponse::Ok();
    builder.content_type(MEDIA_TYPE);
    builder
}

/// Ends a body in its middle: the connection is closed without a last chunk.
#[derive(Debug, thiserror::Error)]
#[error("the rows ended with an error")]
struct CutOff;

impl ResponseError for CutOff {}

struct ArrowWriter {
    rows: RowStream,
    as_user: UserId,
    max_bytes: u64,
    /// Made with the first batch: what the engine makes of a column's type is known then.
    open: Option<(StreamWriter<Vec<u8>>, SchemaRef)>,
    batch: Option<RecordBatch>,
    handed: u64,
}

impl ArrowWriter {
    fn new(rows: RowStream, as_user: &UserId, max_bytes: u64) -> Self {
        Self { rows, as_user: as_user.clone(), max_bytes, open: None, batch: None, handed: 0 }
    }

    /// Writes until there are `enough` bytes to hand out. `true`: that was all.
    async fn fill(&mut self, enough: usize) -> Result<bool> {
        loop {
            if self.handed + self.waiting() as u64 > self.max_bytes {
                return Err(Error::ResultTooLarge { max_bytes: self.max_bytes });
            }
            if self.waiting() >= enough {
                return Ok(false);
            }
            if let Some(batch) = self.batch.take() {
                self.write(&batch)?;
                continue;
            }
            match self.rows.batches.next().await.transpose()? {
                Some(batch) => self.batch = Some(batch),
                None => {
                    let (mut writer, schema) = self.opened(None)?;
                    writer.finish().map_err(Error::internal)?;
                    self.open = Some((writer, schema));
                    return Ok(true);
                }
            }
        }
    }

    /// The first rows of a batch; the others wait.
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let (mut writer, schema) = self.opened(Some(batch))?;
        let rows = batch.num_rows().min(PIECE_ROWS);
        let piece = batch.slice(0, rows);
        let piece = RecordBatch::try_new(schema.clone(), piece.columns().to_vec()).map_err(Error::internal)?;
        writer.write(&piece).map_err(Error::internal)?;
        self.batch = (rows < batch.num_rows()).then(|| batch.slice(rows, batch.num_rows() - rows));
        self.open = Some((writer, schema));
        Ok(())
    }

    fn opened(&mut self, first: Option<&RecordBatch>) -> Result<(StreamWriter<Vec<u8>>, SchemaRef)> {
        if let Some(open) = self.open.take() {
            return Ok(open);
        }
        let schema = Arc::new(schema(&self.rows.schema, first, &self.as_user));
        let writer = StreamWriter::try_new(Vec::with_capacity(CHUNK), &schema).map_err(Error::internal)?;
        Ok((writer, schema))
    }

    fn waiting(&self) -> usize {
        self.open.as_ref().map_or(0, |(writer, _)| writer.get_ref().len())
    }

    fn take(&mut self) -> Bytes {
        let Some((writer, _)) = &mut self.open else { return Bytes::new() };
        let bytes = std::mem::replace(writer.get_mut(), Vec::with_capacity(CHUNK));
        self.handed += bytes.len() as u64;
        bytes.into()
    }

    async fn chunk(&mut self) -> Result<(Bytes, bool)> {
        let ended = self.fill(CHUNK).boxed_local().await?;
        Ok((self.take(), ended))
    }
}

/// The names that the statement gave, with the types of the engine's arrays, and ours as metadata.
fn schema(shown: &ResultSchema, first: Option<&RecordBatch>, as_user: &UserId) -> Schema {
    let columns = shown.columns().iter().enumerate();
    let fields = columns.map(|(index, column)| {
        let made = first.and_then(|batch| batch.schema_ref().fields().get(index).cloned());
        let data_type = made.map_or_else(|| column.data_type.arrow(), |field| field.data_type().clone());
        let ours = serde_json::to_string(&column.data_type).unwrap_or_default();
        Field::new(&column.name, data_type, true).with_metadata([("inboxdb:type".to_owned(), ours)].into())
    });
    let metadata = [("inboxdb:as_user".to_owned(), as_user.as_str().to_owned())];
    Schema::new_with_metadata(fields.collect::<Vec<_>>(), metadata.into())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn it_is_asked_for_by_name() {
        let wanted = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
            is_wanted(&headers)
        };
        assert!(!is_wanted(&HeaderMap::new()) && !wanted("*/*") && !wanted("application/json"));
        assert!(wanted(MEDIA_TYPE) && wanted("Application/VND.apache.arrow.stream, application/json;q=0.5"));
        assert!(!wanted("application/vnd.apache.arrow.stream;q=0.1, application/json"));
        assert!(!wanted("application/vnd.apache.arrow.stream;q=0"));
    }
}
