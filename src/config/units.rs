//! How settings are written: durations and sizes as human text, secrets that do not print themselves.
//!
//! Owns the text forms, both ways: what is written here is read back as the same value.

use std::fmt;

use serde::{Deserialize, Deserializer, Serializer};

/// A setting that must not reach a log: its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one place that uses it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A [`std::time::Duration`] as `30s`, `5m` or `50ms`.
pub(crate) mod duration {
    use std::time::Duration;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*value))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(text.trim()).map_err(|_| {
            serde::de::Error::custom(format!(
                "'{text}' is no duration; write a number and a unit, like 50ms, 30s or 5m"
            ))
        })
    }
}

/// A [`bytesize::ByteSize`] as `64 MiB`.
pub(crate) mod size {
    use bytesize::ByteSize;

    use super::*;

    const UNITS: &[(u64, &str)] = &[(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];

    pub(crate) fn serialize<S: Serializer>(value: &ByteSize, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = value.as_u64();
        // The largest unit that divides it: the text stays exact.
        match UNITS.iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit)) {
            Some((unit, name)) => serializer.collect_str(&format_args!("{} {name}", bytes / unit)),
            None => serializer.collect_str(&format_args!("{bytes} B")),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.trim().parse().map_err(|_| {
            serde::de::Error::custom(format!("'{text}' is no size; write a number and a unit, like 64 MiB or 512 KiB"))
        })
    }
}

/// An optional text, where the empty text says "none": so that each key stands in the file.
pub(crate) mod optional_text {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value.as_deref().unwrap_or_default())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok((!text.is_empty()).then_some(text))
    }
}

/// An optional secret, where the empty text says "none".
pub(crate) mod optional_secret {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value.as_ref().map_or("", Secret::expose))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok((!text.is_empty()).then_some(Secret(text)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytesize::ByteSize;
    use serde::Serialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        #[serde(with = "duration")]
        wait: Duration,
        #[serde(with = "size")]
        room: ByteSize,
        #[serde(with = "optional_text")]
        name: Option<String>,
    }

    #[test]
    fn what_is_written_is_read_back() {
        let cases = [
            (Duration::from_millis(50), ByteSize::mib(64), None, "50ms", "64 MiB"),
            (Duration::from_secs(90), ByteSize::b(1_000), Some("a".to_owned()), "1m 30s", "1000 B"),
            (Duration::ZERO, ByteSize::b(0), None, "0s", "0 B"),
            (Duration::from_secs(3600), ByteSize::gib(3), None, "1h", "3 GiB"),
        ];
        for (wait, room, name, wait_text, room_text) in cases {
            let sample = Sample { wait, room, name };
            let text = toml::to_string(&sample).unwrap();
            assert!(text.contains(wait_text) && text.contains(room_text), "{text}");
            assert_eq!(toml::from_str::<Sample>(&text).unwrap(), sample);
        }
    }

    #[test]
    fn a_secret_does_not_print_itself() {
        assert!(!format!("{:?}", Secret::new("hunter2")).contains("hunter2"));
    }
}
