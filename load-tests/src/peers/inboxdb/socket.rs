//! A WebSocket that one of thousands holds: opened with a token, in JSON or MessagePack, never compressed.
//!
//! Owns the upgrade and the requests to subscribe. The bytes that come are read by `line.rs`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::line::Line;
use crate::wire::{Framing, client_frame};

/// As any client waits that was told no time.
const RETRY_AFTER: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    MessagePack,
}

pub(crate) async fn open_socket(address: SocketAddr, token: &str, format: Format) -> Result<Line> {
    let mut line = Line::connect(address, Framing::WebSocket).await?;
    let serialization = match format {
        Format::Json => "json",
        Format::MessagePack => "msgpack",
    };
    let request = format!(
        "GET /v1/ws?compress=false&serialization={serialization}&compression=none HTTP/1.1\r\nHost: {address}\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    line.send(request.as_bytes()).await?;
    let head = line.head().await?;
    ensure!(head.starts_with("HTTP/1.1 101"), "the upgrade was answered {head}");
    let first = line.message().await?;
    ensure!(holds(&first, "auth_success"), "the log-in was answered {}", String::from_utf8_lossy(&first));
    Ok(line)
}

/// A subscription and how its request is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Following<'a> {
    pub(crate) id: usize,
    pub(crate) sql: &'a str,
    pub(crate) format: Format,
    /// Changes above this; `None`: from now on.
    pub(crate) from: Option<u64>,
}

/// Subscribes, and waits as long as it is told to when the server is busy. How often it was.
pub(crate) async fn follow(line: &mut Line, following: Following<'_>) -> Result<u32> {
    let Following { id, sql, format, from } = following;
    let options = from.map_or(Value::Null, |from| json!({"from": from.to_string()}));
    let id = format!("s{id}");
    let request = json!({"type": "subscribe", "subscription": {"id": id, "sql": sql, "options": options}});
    let request = match format {
        Format::Json => client_frame(1, request.to_string().as_bytes()),
        Format::MessagePack => client_frame(2, &packed(&request)?),
    };
    let mut busy = 0;
    loop {
        line.send(&request).await?;
        let answer = line.message().await?;
        if holds(&answer, "subscription_ack") {
            return Ok(busy);
        }
        let text = String::from_utf8_lossy(&answer);
        if !text.contains("SUBSCRIBE_BUSY") {
            bail!("the subscription was answered {text}");
        }
        busy += 1;
        let told: Value = serde_json::from_str(&text).context("read an error frame")?;
        tokio::time::sleep(told["retry_after_ms"].as_u64().map_or(RETRY_AFTER, Duration::from_millis)).await;
    }
}

fn holds(message: &[u8], word: &str) -> bool {
    message.windows(word.len()).any(|window| window == word.as_bytes())
}

/// MessagePack of what a request holds: texts, maps of few entries, nothing.
fn packed(value: &Value) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    pack(value, &mut bytes)?;
    Ok(bytes)
}

fn pack(value: &Value, bytes: &mut Vec<u8>) -> Result<()> {
    match value {
        Value::Null => bytes.push(0xc0),
        Value::String(text) => {
            bytes.push(0xda);
            bytes.extend_from_slice(&u16::try_from(text.len()).context("a text is too long")?.to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        Value::Object(entries) if entries.len() < 16 => {
            bytes.push(0x80 | entries.len() as u8);
            for (name, value) in entries {
                pack(&Value::String(name.clone()), bytes)?;
                pack(value, bytes)?;
            }
        }
        other => bail!("a request does not hold {other}"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_in_message_pack() {
        assert_eq!(
            packed(&json!({"a": null, "b": "cd"})).expect("packed"),
            b"\x82\xda\0\x01a\xc0\xda\0\x01b\xda\0\x02cd"
        );
        assert!(packed(&json!([1])).is_err());
    }
}
