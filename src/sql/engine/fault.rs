//! DataFusion's errors as ours, by variant, never by text.

use arrow::error::ArrowError;
use datafusion::common::{Column, DataFusionError, SchemaError};

use crate::error::Error;

/// The error that a client is told.
pub(crate) fn from_datafusion(error: DataFusionError) -> Error {
    match error {
        DataFusionError::External(source) => match source.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(source) => Error::internal(source),
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => from_datafusion(*inner),
        DataFusionError::Shared(inner) => match std::sync::Arc::try_unwrap(inner) {
            Ok(inner) => from_datafusion(inner),
            Err(shared) => from_shared(&shared),
        },
        DataFusionError::Collection(errors) => match errors.into_iter().next() {
            Some(first) => from_datafusion(first),
            None => Error::Execution("the query failed without a reason".to_owned()),
        },
        DataFusionError::SchemaError(fault, _) => from_schema(*fault),
        DataFusionError::ArrowError(fault, _) => from_arrow(*fault),
        DataFusionError::SQL(fault, _) => Error::InvalidSql(fault.to_string()),
        DataFusionError::Plan(text) | DataFusionError::Configuration(text) => Error::InvalidSql(text),
        DataFusionError::NotImplemented(text) => Error::Unsupported(text),
        DataFusionError::ResourcesExhausted(text) => Error::OutOfMemory(text),
        DataFusionError::Execution(text) => Error::Execution(text),
        internal => Error::internal(internal),
    }
}

/// An error that several readers of one stream got.
fn from_shared(error: &DataFusionError) -> Error {
    match error.find_root() {
        DataFusionError::External(source) => match source.downcast_ref::<Error>() {
            Some(ours) => ours.clone(),
            None => Error::internal(source.to_string()),
        },
        DataFusionError::ResourcesExhausted(text) => Error::OutOfMemory(text.clone()),
        DataFusionError::Internal(text) => Error::internal(text.clone()),
        other => Error::Execution(other.strip_backtrace()),
    }
}

fn from_arrow(fault: ArrowError) -> Error {
    match fault {
        ArrowError::ExternalError(source) => match source.downcast::<DataFusionError>() {
            Ok(inner) => from_datafusion(*inner),
            Err(source) => match source.downcast::<Error>() {
                Ok(ours) => *ours,
                Err(source) => Error::internal(source),
            },
        },
        ArrowError::NotYetImplemented(text) => Error::Unsupported(text),
        ArrowError::MemoryError(text) => Error::OutOfMemory(text),
        // The text without the name of Arrow's variant, which says nothing to whoever wrote the query.
        ArrowError::CastError(text)
        | ArrowError::ComputeError(text)
        | ArrowError::InvalidArgumentError(text)
        | ArrowError::ParseError(text)
        | ArrowError::ArithmeticOverflow(text)
        | ArrowError::SchemaError(text) => Error::Execution(text),
        ArrowError::DivideByZero => Error::Execution("division by zero".to_owned()),
        other => Error::Execution(other.to_string()),
    }
}

fn from_schema(fault: SchemaError) -> Error {
    let SchemaError::FieldNotFound { field, valid_fields } = fault else {
        return Error::InvalidSql(fault.to_string());
    };
    let table = match &field.relation {
        Some(relation) => relation.to_string(),
        None => tables_of(&valid_fields),
    };
    let suggestion = nearest(&field.name, &valid_fields);
    Error::ColumnNotFound { column: field.name.clone(), table, suggestion }
}

fn tables_of(fields: &[Column]) -> String {
    let mut tables: Vec<String> = fields.iter().filter_map(|f| f.relation.as_ref().map(ToString::to_string)).collect();
    tables.sort();
    tables.dedup();
    if tables.is_empty() { "this query".to_owned() } else { tables.join(", ") }
}

/// The column that was probably meant.
fn nearest(name: &str, fields: &[Column]) -> Option<String> {
    let lower = name.to_lowercase();
    let (distance, best) = fields
        .iter()
        .map(|field| (distance(&lower, &field.name.to_lowercase()), &field.name))
        .min_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.cmp(b.1)))?;
    (distance <= name.chars().count().div_ceil(3)).then(|| best.clone())
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
