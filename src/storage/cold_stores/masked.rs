//! An object store whose errors hold no credential.
//!
//! Owns what is looked for in a text, and that every way out of the store is covered: answers, listings, bodies, uploads.
//! An Azure SAS token is part of every URL, and servers quote what they were sent; a client hides some of that by itself.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use crate::model::StorageCredentials;
use crate::model::storage::MASK;

/// Hides some texts in others.
#[derive(Clone)]
pub(super) struct Mask(Arc<[String]>);

impl Mask {
    pub(super) fn of(credentials: &StorageCredentials) -> Self {
        let mut hidden = Vec::new();
        for (_, secret) in credentials.expose_all() {
            hidden.extend(spellings(secret));
            // A token made of pairs is taken apart and put together again on its way.
            for value in secret.split('&').filter_map(|pair| pair.split_once('=').map(|(_, value)| value)) {
                hidden.extend(spellings(value).into_iter().filter(|text| text.len() >= PART_MIN));
            }
        }
        hidden.retain(|text| !text.is_empty());
        // The longest first: one may be part of another.
        hidden.sort_by_key(|text| std::cmp::Reverse(text.len()));
        hidden.dedup();
        Self(hidden.into())
    }

    pub(super) fn over(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, hidden| text.replace(hidden.as_str(), MASK))
    }

    fn error(&self, error: Error) -> Error {
        let hide = |error: &(dyn std::error::Error + 'static)| self.over(&with_causes(error)).into();
        match error {
            Error::NotFound { path, source } => Error::NotFound { path: self.over(&path), source: hide(&*source) },
            Error::AlreadyExists { path, source } => {
                Error::AlreadyExists { path: self.over(&path), source: hide(&*source) }
            }
            Error::Precondition { path, source } => {
                Error::Precondition { path: self.over(&path), source: hide(&*source) }
            }
            Error::NotModified { path, source } => {
                Error::NotModified { path: self.over(&path), source: hide(&*source) }
            }
            Error::Generic { store, source } => Error::Generic { store, source: hide(&*source) },
            other => Error::Generic { store: "object store", source: hide(&other) },
        }
    }
}

/// Shorter values of a token's pairs are versions, dates and rights, and words of any text.
const PART_MIN: usize = 12;

/// The text, and as it stands in a URL. One that is encoded already, decoded too.
fn spellings(secret: &str) -> Vec<String> {
    let encoded = |text: &str| {
        let mut out = String::new();
        for byte in text.bytes() {
            match byte {
                b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => out.push(char::from(b)),
                b => out.push_str(&format!("%{b:02X}")),
            }
        }
        out
    };
    let mut texts = vec![secret.to_owned(), encoded(secret)];
    if secret.contains('%') {
        let decoded = object_store::path::Path::from_url_path(secret).map(|path| path.to_string());
        texts.extend(decoded.iter().flat_map(|decoded| [decoded.clone(), encoded(decoded)]));
    }
    texts
}

/// An error with the causes that its own text leaves out: "error sending request" alone helps nobody.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = next.source();
    }
    text
}

pub(super) struct Masked<S> {
    inner: S,
    mask: Mask,
}

impl<S> Masked<S> {
    pub(super) fn new(inner: S, mask: Mask) -> Self {
        Self { inner, mask }
    }

    fn hide<T>(&self, answer: Result<T>) -> Result<T> {
        answer.map_err(|error| self.mask.error(error))
    }

    fn hide_all<T: 'static>(&self, answers: BoxStream<'static, Result<T>>) -> BoxStream<'static, Result<T>> {
        let mask = self.mask.clone();
        answers.map(move |answer| answer.map_err(|error| mask.error(error))).boxed()
    }
}

impl<S: fmt::Display> fmt::Display for Masked<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.mask.over(&self.inner.to_string()))
    }
}

impl<S: fmt::Display> fmt::Debug for Masked<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: ObjectStore> ObjectStore for Masked<S> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.hide(self.inner.put_opts(location, payload, opts).await)
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.hide(self.inner.put_multipart_opts(location, opts).await)?;
        Ok(Box::new(MaskedUpload { inner: upload, mask: self.mask.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut found = self.hide(self.inner.get_opts(location, options).await)?;
        found.payload = match found.payload {
            GetResultPayload::Stream(body) => GetResultPayload::Stream(self.hide_all(body)),
            file => file,
        };
        Ok(found)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.hide(self.inner.get_ranges(location, ranges).await)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.hide_all(self.inner.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.hide_all(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.hide_all(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.hide(self.inner.list_with_delimiter(prefix).await)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.hide(self.inner.copy_opts(from, to, options).await)
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.hide(self.inner.rename_opts(from, to, options).await)
    }
}

struct MaskedUpload {
    inner: Box<dyn MultipartUpload>,
    mask: Mask,
}

impl fmt::Debug for MaskedUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MaskedUpload")
    }
}

#[async_trait]
impl MultipartUpload for MaskedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (part, mask) = (self.inner.put_part(data), self.mask.clone());
        Box::pin(async move { part.await.map_err(|error| mask.error(error)) })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.inner.complete().await.map_err(|error| self.mask.error(error))
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await.map_err(|error| self.mask.error(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_secrets_however_they_are_spelled() {
        let secrets = [
            ("secret_access_key", "a+b/c="),
            ("sas_token", "sv=2024-11-04&sp=rw&sig=Zm9v%2FYmFyL2Jheg%3D%3D"),
            ("empty", ""),
        ];
        let secrets = secrets.map(|(name, secret)| (name.to_owned(), secret.to_owned()));
        let mask = Mask::of(&StorageCredentials::new(secrets.into()));
        let cases = [
            ("the key a+b/c= is wrong", "the key *** is wrong"),
            ("PUT http://h/x?key=a%2Bb%2Fc%3D failed", "PUT http://h/x?key=*** failed"),
            ("GET http://h/x?sp=rw&sig=Zm9v%2FYmFyL2Jheg%3D%3D in 1s", "GET http://h/x?sp=rw&sig=*** in 1s"),
            ("signature Zm9v/YmFyL2Jheg== did not match", "signature *** did not match"),
            ("nothing to hide", "nothing to hide"),
        ];
        for (text, expected) in cases {
            assert_eq!(mask.over(text), expected);
        }
    }

    #[test]
    fn an_error_says_its_causes_and_stays_what_it_is() {
        let secrets = [("token".to_owned(), "hunter2".to_owned())];
        let mask = Mask::of(&StorageCredentials::new(secrets.into()));
        let io = std::io::Error::other("refused for hunter2");
        let hidden = mask.error(Error::NotFound { path: "a".to_owned(), source: Box::new(io) });
        assert!(matches!(&hidden, Error::NotFound { path, .. } if path == "a"), "{hidden:?}");
        assert!(hidden.to_string().ends_with("refused for ***") && !format!("{hidden:?}").contains("hunter2"));
        let denied = Error::PermissionDenied { path: "a".to_owned(), source: "hunter2 may not".into() };
        let hidden = format!("{:?}", mask.error(denied));
        assert!(!hidden.contains("hunter2") && hidden.contains("*** may not"), "{hidden}");
    }
}
