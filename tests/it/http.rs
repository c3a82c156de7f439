//! A small blocking HTTP/1.1 client: it can send what no good library would.
//!
//! Owns one connection at a time, kept alive; every wait is bounded by [`PATIENCE`].

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

/// Longer than anything here takes, also while a compiler runs beside it.
pub const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Empty where it is no text.
    pub body: String,
    pub bytes: Vec<u8>,
}

impl Response {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {} {:?}", self.status, self.body))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn headers_named(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// What a failed SQL request was answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code} {sqlstate}: {message}")]
pub struct SqlFailure {
    pub status: u16,
    pub code: String,
    pub sqlstate: String,
    pub message: String,
}

/// One caller of one server.
pub struct Client {
    address: SocketAddr,
    /// Value of the Authorization header.
    pub authorization: Option<String>,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, authorization: None, connection: None }
    }

    pub fn bearer(address: SocketAddr, token: &str) -> Self {
        Self { authorization: Some(format!("Bearer {token}")), ..Self::new(address) }
    }

    /// The access token.
    pub fn token(&self) -> &str {
        self.authorization.as_deref().and_then(|header| header.strip_prefix("Bearer ")).expect("a bearer client")
    }

    /// The same caller, over another connection.
    pub fn again(&self) -> Self {
        Self { authorization: self.authorization.clone(), ..Self::new(self.address) }
    }

    /// Sends a body as it stands.
    ///
    /// # Errors
    /// The connection broke: the server is gone.
    pub fn request(&mut self, head: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Response> {
        self.exchange(&self.bytes(head, headers, body))
    }

    /// Sends a request over a connection of its own, and is gone before it is answered.
    pub fn abandon(&self, head: &str, headers: &[(&str, &str)], body: &[u8]) {
        // The server may be gone as well.
        let _ = connect(self.address).and_then(|mut stream| stream.write_all(&self.bytes(head, headers, body)));
    }

    fn bytes(&self, head: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let mut text = format!("{head} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n", self.address, body.len());
        if let Some(authorization) = &self.authorization {
            text += &format!("Authorization: {authorization}\r\n");
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        let mut bytes = (text + "\r\n").into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }

    /// Sends bytes and reads one answer.
    ///
    /// # Errors
    /// The connection broke.
    pub fn exchange(&mut self, bytes: &[u8]) -> io::Result<Response> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => BufReader::new(connect(self.address)?),
        };
        // A server that refuses a large body may answer and close before it has read it all.
        let sent = connection.get_mut().write_all(bytes);
        let response = read_response(&mut connection);
        if sent.is_ok() && response.as_ref().is_ok_and(|r| r.header("connection") != Some("close")) {
            self.connection = Some(connection);
        }
        response
    }

    pub fn get(&mut self, path: &str) -> Response {
        self.request(&format!("GET {path}"), &[], b"").unwrap()
    }

    pub fn post(&mut self, path: &str, body: &Value) -> Response {
        self.post_text(path, &body.to_string())
    }

    pub fn post_text(&mut self, path: &str, body: &str) -> Response {
        self.request(&format!("POST {path}"), &[("Content-Type", "application/json")], body.as_bytes()).unwrap()
    }

    /// `results` of a request.
    ///
    /// # Errors
    /// What the server answered instead.
    pub fn try_sql(&mut self, body: &Value) -> Result<Vec<Value>, SqlFailure> {
        let response = self.post("/v1/api/sql", body);
        results(&response)
    }

    /// The results of SQL that must succeed.
    pub fn sql(&mut self, sql: &str) -> Vec<Value> {
        self.try_sql(&json!({ "sql": sql })).unwrap_or_else(|failure| panic!("{sql}: {failure}"))
    }

    /// Was it answered? Not where the server died before.
    pub fn try_sql_or_gone(&mut self, sql: &str) -> bool {
        let body = json!({ "sql": sql }).to_string();
        let answer = self.request("POST /v1/api/sql", &[("Content-Type", "application/json")], body.as_bytes());
        match answer {
            Ok(answer) if !answer.body.is_empty() => {
                results(&answer).unwrap_or_else(|failure| panic!("{sql}: {failure}"));
                true
            }
            _ => false,
        }
    }

    /// `None`: the server is gone, or on its way down; whether it was done is not known. Else what it answered.
    pub fn sql_if_there(&mut self, body: &Value) -> Option<Result<Vec<Value>, SqlFailure>> {
        let body = body.to_string();
        let answer = self.request("POST /v1/api/sql", &[], body.as_bytes()).ok()?;
        let answered = (!answer.body.is_empty()).then(|| results(&answer))?;
        (!matches!(&answered, Err(failure) if failure.code == "SHUTTING_DOWN")).then_some(answered)
    }

    /// The one result of SQL with parameters that must succeed.
    pub fn sql_with(&mut self, sql: &str, params: Value) -> Value {
        let results = self.try_sql(&json!({ "sql": sql, "params": params }));
        results.unwrap_or_else(|failure| panic!("{sql}: {failure}")).swap_remove(0)
    }

    /// The rows of one SELECT.
    pub fn rows(&mut self, sql: &str) -> Value {
        self.sql(sql)[0]["rows"].take()
    }

    /// SQL that must fail.
    pub fn refused(&mut self, sql: &str) -> SqlFailure {
        match self.try_sql(&json!({ "sql": sql })) {
            Ok(results) => panic!("{sql} was not refused: {results:?}"),
            Err(failure) => failure,
        }
    }
}

/// What a response of `/v1/api/sql` says.
pub fn results(response: &Response) -> Result<Vec<Value>, SqlFailure> {
    let mut body = response.json();
    if body["status"] == "success" && body["error"].is_null() {
        assert_eq!(response.status, 200, "{}", response.body);
        let Value::Array(results) = body["results"].take() else { panic!("no results: {}", response.body) };
        return Ok(results);
    }
    let error = &body["error"];
    let text = |name: &str| error[name].as_str().unwrap_or_else(|| panic!("no {name}: {}", response.body)).to_owned();
    assert_eq!(body["status"], "error", "{}", response.body);
    Err(SqlFailure {
        status: response.status,
        code: text("code"),
        sqlstate: text("sqlstate"),
        message: text("message"),
    })
}

pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

pub fn read_response(connection: &mut impl BufRead) -> io::Result<Response> {
    let status_line = read_line(connection)?;
    let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| broken(&format!("no status line: {status_line:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(connection)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| broken(&format!("no header: {line:?}")))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut response = Response { status, headers, body: String::new(), bytes: Vec::new() };
    let mut body = Vec::new();
    if response.header("transfer-encoding") == Some("chunked") {
        read_chunks(connection, &mut body)?;
    } else if let Some(length) = response.header("content-length").and_then(|length| length.parse::<u64>().ok()) {
        connection.take(length).read_to_end(&mut body)?;
        if body.len() as u64 != length {
            return Err(broken("the body was cut off"));
        }
    }
    let binary = ["application/zip", "application/vnd.apache.arrow.stream"];
    let text = !response.header("content-type").is_some_and(|kind| binary.contains(&kind));
    let read = String::from_utf8(body.clone());
    response.body = if text { read.map_err(|_| broken("the body is not UTF-8"))? } else { String::new() };
    response.bytes = body;
    Ok(response)
}

fn read_chunks(connection: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let size = read_line(connection)?;
        let size = u64::from_str_radix(&size, 16).map_err(|_| broken(&format!("no chunk size: {size:?}")))?;
        let before = body.len() as u64;
        connection.take(size).read_to_end(body)?;
        if body.len() as u64 != before + size || !read_line(connection)?.is_empty() {
            return Err(broken("a chunk was cut off"));
        }
        if size == 0 {
            return Ok(());
        }
    }
}

fn read_line(connection: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    connection.read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None => Err(broken(&format!("the connection ended after {line:?}"))),
    }
}

fn broken(fault: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, fault)
}
