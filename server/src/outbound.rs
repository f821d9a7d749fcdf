//! Requests that this node makes of others: only to addresses that an operator configured, never along a redirect, with
//! one deadline for everything and a bound on what is read.
//!
//! One connection for each request: they are rare, and a connection that is kept open is one that can be half dead.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longest time a server may ask us to wait, seconds.
const RETRY_MAX_S: u64 = 3600;

/// An address: scheme, host, port and path prefix, checked once when the settings are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    tls: bool,
    host: String,
    port: u16,
    prefix: String,
}

impl Url {
    /// Reads `http://host[:port][/prefix]` or the same with `https`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Url, String> {
        let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err("an address begins with http:// or https://".into()),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        // A password in an address would end up in log lines.
        let odd = |c: char| c.is_whitespace() || c.is_control() || "@?#\"<>".contains(c);
        if authority.contains(odd) || path.contains(odd) {
            return Err("an address holds no user name, query or space".into());
        }
        let bracket = authority.starts_with('[');
        let colon = authority.rfind(':').filter(|at| !bracket || authority[..*at].ends_with(']'));
        let (host, port) = match colon {
            Some(at) => (&authority[..at], authority[at + 1..].parse().map_err(|_| "the port is no number")?),
            None => (authority, if tls { 443 } else { 80 }),
        };
        if host.is_empty() || host.len() > 253 {
            return Err("there is no host in the address".into());
        }
        let prefix = path.trim_end_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        Ok(Url { tls, host: host.to_owned(), port, prefix })
    }

    fn authority(&self) -> String {
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    /// The path of a request for `below`.
    fn path(&self, below: &str) -> String {
        let path = format!("{}{below}", self.prefix);
        if path.is_empty() { "/".into() } else { path }
    }

    /// Scheme, host and port, without the prefix.
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }

    /// `host:port`, if it is one of https that names a server and nothing on it.
    pub fn socket(&self) -> Option<String> {
        (self.tls && self.prefix.is_empty()).then(|| format!("{}:{}", self.host, self.port))
    }

    /// Whether it needs certificates of authorities.
    pub fn is_tls(&self) -> bool {
        self.tls
    }
}

/// What is asked.
pub struct Ask {
    /// Below the address's prefix; empty for the address itself.
    pub path: String,
    /// Type of the body.
    pub media: &'static str,
    /// Type of the answer.
    pub accept: &'static str,
    /// The body.
    pub body: Vec<u8>,
    /// Largest answer, bytes.
    pub max: usize,
}

/// What came back, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Status.
    pub status: u16,
    /// Media type without parameters, in lower case.
    pub media: String,
    /// How long the server asks to be left alone.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: Vec<u8>,
}

impl Told {
    fn of(response: Response<Bytes>) -> Told {
        let header = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let media = header(header::CONTENT_TYPE).unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let seconds = header(header::RETRY_AFTER).and_then(|value| value.parse::<u64>().ok());
        let retry_after = seconds.map(|seconds| Duration::from_secs(seconds.min(RETRY_MAX_S)));
        Told { status: response.status().as_u16(), media, retry_after, body: response.into_body().to_vec() }
    }

    /// The status and the beginning of the body, for people.
    pub fn line(&self) -> String {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(200)]);
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!("{} {}", self.status, text.trim())
    }
}

/// The way out. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Outbound {
    tls: Option<Arc<ClientConfig>>,
}

impl Outbound {
    /// A way out; `authorities` are the certificates (PEM) that addresses with https are held to.
    ///
    /// # Errors
    /// When there is no usable certificate in the file.
    pub fn new(authorities: Option<&Path>) -> Result<Outbound, String> {
        let Some(path) = authorities else { return Ok(Outbound::default()) };
        let at = |why: String| format!("{}: {why}", path.display());
        let mut roots = RootCertStore::empty();
        let list = CertificateDer::pem_file_iter(path).map_err(|error| at(error.to_string()))?;
        // Collections of many authorities hold some that no library reads; the others count.
        roots.add_parsable_certificates(list.filter_map(Result::ok));
        if roots.is_empty() {
            return Err(at("no certificate of an authority in it".into()));
        }
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Outbound { tls: Some(Arc::new(config)) })
    }

    /// Posts, within the time.
    ///
    /// # Errors
    /// Why no answer came, for people; the other side may have acted all the same.
    pub async fn post(&self, url: &Url, ask: Ask, within: Duration) -> Result<Told, String> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(url.path(&ask.path))
            .header(header::CONTENT_TYPE, ask.media)
            .header(header::ACCEPT, ask.accept)
            .body(Full::new(Bytes::from(ask.body)))
            .map_err(|error| error.to_string())?;
        Ok(Told::of(self.send(url, request, ask.max, within).await?))
    }

    /// Gets what is at `path` below the address, at most `max` bytes, within the time.
    ///
    /// # Errors
    /// Why no answer came, for people.
    pub async fn get(&self, url: &Url, path: &str, max: usize, within: Duration) -> Result<Told, String> {
        let request = Request::builder().uri(url.path(path)).body(Full::new(Bytes::new()));
        let request = request.map_err(|error| error.to_string())?;
        Ok(Told::of(self.send(url, request, max, within).await?))
    }

    /// Sends a request whose target is a path, and reads the answer, at most `max` bytes, within the time.
    ///
    /// # Errors
    /// Why no answer came, for people; the other side may have acted all the same.
    pub async fn send(
        &self,
        url: &Url,
        request: Request<Full<Bytes>>,
        max: usize,
        within: Duration,
    ) -> Result<Response<Bytes>, String> {
        match tokio::time::timeout(within, self.exchange(url, request, max)).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {within:?}")),
        }
    }

    async fn exchange(
        &self,
        url: &Url,
        request: Request<Full<Bytes>>,
        max: usize,
    ) -> Result<Response<Bytes>, String> {
        let host = url.host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let stream = TcpStream::connect((host.as_str(), url.port)).await;
        let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
        if !url.tls {
            return over(stream, url, request, max).await;
        }
        let Some(config) = &self.tls else { return Err("no authorities are configured for https".into()) };
        let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(config.clone()).connect(name, stream).await;
        over(stream.map_err(|error| format!("TLS: {error}"))?, url, request, max).await
    }
}

async fn over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    url: &Url,
    mut request: Request<Full<Bytes>>,
    max: usize,
) -> Result<Response<Bytes>, String> {
    let broke = |error: hyper::Error| format!("the connection broke: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
    // It ends with the sender, which ends with this function or its deadline.
    tokio::spawn(connection);
    let host = HeaderValue::try_from(url.authority()).map_err(|error| error.to_string())?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, host);
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("flkd/", env!("CARGO_PKG_VERSION"))));
    let (head, body) = sender.send_request(request).await.map_err(broke)?.into_parts();
    let body = Limited::new(body, max).collect().await;
    let body = body.map_err(|error| format!("the answer cannot be read: {error}"))?.to_bytes();
    Ok(Response::from_parts(head, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[test]
    fn addresses_are_read_or_refused() {
        let url = |text: &str| Url::parse(text).map(|url| (url.tls, url.host, url.port, url.prefix));
        assert_eq!(url("http://h"), Ok((false, "h".into(), 80, String::new())));
        assert_eq!(url("https://h:8443/a/b/"), Ok((true, "h".into(), 8443, "/a/b".into())));
        assert_eq!(url("http://[::1]:81/"), Ok((false, "[::1]".into(), 81, String::new())));
        assert_eq!(url("http://[::1]"), Ok((false, "[::1]".into(), 80, String::new())));
        for bad in
            ["", "h:80", "ftp://h", "http://", "http://u:p@h", "http://h:x", "http://h/a b", "http://h/?q"]
        {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }

    /// A server that reads a request and answers with these bytes.
    async fn answers(with: &'static str) -> (Url, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/base/", listener.local_addr().unwrap())).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"body") {
                let mut piece = [0; 512];
                let count = stream.read(&mut piece).await.unwrap();
                assert!(count > 0);
                seen.extend_from_slice(&piece[..count]);
            }
            stream.write_all(with.as_bytes()).await.unwrap();
            // It says no more, and stays until the other side goes.
            let _ = stream.read(&mut [0]).await;
            String::from_utf8(seen).unwrap()
        });
        (url, server)
    }

    fn ask(max: usize) -> Ask {
        Ask { path: "/x".into(), media: "text/plain", accept: "text/plain", body: b"body".to_vec(), max }
    }

    #[tokio::test]
    async fn an_answer_is_read_to_its_bound_and_a_redirect_is_not_followed() {
        let answer = "HTTP/1.1 409 C\r\ncontent-type: Text/X.tlog.size; a=b\r\nretry-after: 7200\r\ncontent-length: 3\r\n\r\n42\n";
        let (url, server) = answers(answer).await;
        let told = Outbound::default().post(&url, ask(3), Duration::from_secs(10)).await.unwrap();
        assert_eq!(
            (told.status, told.media.as_str(), &told.body[..]),
            (409, "text/x.tlog.size", &b"42\n"[..])
        );
        assert_eq!(told.retry_after, Some(Duration::from_secs(RETRY_MAX_S)));
        assert!(server.await.unwrap().starts_with("POST /base/x HTTP/1.1\r\n"));

        let (url, _server) = answers(answer).await;
        let long = Outbound::default().post(&url, ask(2), Duration::from_secs(10)).await.unwrap_err();
        assert!(long.contains("cannot be read"), "{long}");

        let moved = "HTTP/1.1 302 F\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        let (url, _server) = answers(moved).await;
        assert_eq!(
            Outbound::default().post(&url, ask(9), Duration::from_secs(10)).await.unwrap().status,
            302
        );
    }

    #[tokio::test]
    async fn a_server_that_is_silent_ends_at_the_deadline() {
        let (url, _server) = answers("HTTP/1.1 200 O\r\n").await;
        let late = Outbound::default().post(&url, ask(9), Duration::from_millis(50)).await.unwrap_err();
        assert!(late.contains("no answer within"), "{late}");
        let tls = Url::parse("https://127.0.0.1:1").unwrap();
        assert!(Outbound::default().post(&tls, ask(9), Duration::from_secs(5)).await.is_err());
    }
}
