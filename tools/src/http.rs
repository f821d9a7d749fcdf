//! A small blocking HTTP/1.1 client for one server: keep-alive, deadlines, bounded answers.
//!
//! With `https://` over TLS ([`tls`]): a proxy in front of a node ends it, the node itself speaks none to clients.

mod tls;

use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::report::Fault;

/// Largest answer read, bytes: a batch of verdicts or a full tile is far below.
const ANSWER_MAX: usize = 64 << 20;

/// Where a server is: scheme, host, port, and a path prefix, usually empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Over TLS.
    pub tls: bool,
    /// Host and port as in the `Host` header.
    pub authority: String,
    /// Path before every route, without a final slash.
    pub prefix: String,
}

impl Base {
    /// Reads `http://host[:port][/prefix]`, or the same with `https`.
    ///
    /// # Errors
    /// A [`Fault`] that says what a URL looks like.
    pub fn parse(url: &str) -> Result<Base, Fault> {
        let bad = |why: &str| {
            Fault::new(
                "cannot use the server's address",
                url,
                why,
                "give --url http://host:port, for example http://127.0.0.1:8080",
            )
        };
        let (tls, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(bad("it does not start with http:// or https://")),
        };
        let (authority, prefix) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
        if authority.is_empty() || authority.contains(['@', ' ', '?', '#']) {
            return Err(bad("no host in it"));
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if tls { 443 } else { 80 };
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:{port}") };
        let prefix = prefix.trim_end_matches('/');
        Ok(Base {
            tls,
            authority,
            prefix: if prefix.is_empty() { String::new() } else { format!("/{prefix}") },
        })
    }
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers, names in lower case, in the order received.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of that lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON, `Null` if it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or(serde_json::Value::Null)
    }
}

/// No answer came: whether the server acted on the request is unknown.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// The connection could not be made.
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    /// The server is not who the address says, for all that is known here: its name, and why.
    #[error("the certificate of {0} does not hold: {1}; --ca FILE names the authority to trust")]
    Certificate(String, String),
    /// The deadline passed.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// The connection broke, or what came was not HTTP.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// A connection that is opened when needed and kept.
pub struct Client {
    base: Base,
    tls: Option<tls::Tls>,
    deadline: Duration,
    runtime: Runtime,
    sender: Option<http1::SendRequest<Full<Bytes>>>,
}

impl Client {
    /// A client of the server at `url`; every request must be answered within `deadline`. With https the server is held to
    /// the authorities that the system trusts.
    ///
    /// # Errors
    /// A [`Fault`] if the address is not usable or the system gives no event loop.
    pub fn new(url: &str, deadline: Duration) -> Result<Client, Fault> {
        Client::trusting(url, deadline, None)
    }

    /// The same, held to the authorities in the file `ca` alone, if one is named.
    ///
    /// # Errors
    /// As [`Client::new`]; the file cannot be read or holds no authority.
    pub fn trusting(url: &str, deadline: Duration, ca: Option<&Path>) -> Result<Client, Fault> {
        let base = Base::parse(url)?;
        let host = base.authority.rsplit_once(':').map_or(base.authority.as_str(), |(host, _)| host);
        let tls = if base.tls { Some(tls::Tls::new(url, host, ca)?) } else { None };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Fault::new("cannot start the client", url, error, "ulimit -n"))?;
        Ok(Client { base, tls, deadline, runtime, sender: None })
    }

    /// The address it speaks to, without a final slash.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.base.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.base.authority, self.base.prefix)
    }

    /// Sends one request and reads the whole answer. A kept connection that the server had closed in the meantime
    /// is opened again once; no request is sent twice on a connection that had accepted it.
    ///
    /// # Errors
    /// [`NoAnswer`]; the server may still have acted.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, NoAnswer> {
        let deadline = self.deadline;
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base.prefix))
            .header("host", &self.base.authority)
            .header("user-agent", concat!("flk/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(Bytes::copy_from_slice(body)))
            .map_err(|error| NoAnswer::Broken(error.to_string()))?;
        let (way, kept) = ((&self.base, self.tls.as_ref()), self.sender.take());
        let result = self
            .runtime
            .block_on(async { tokio::time::timeout(deadline, exchange(way, kept, request)).await });
        match result {
            Ok(Ok((sender, answer))) => {
                self.sender = Some(sender);
                Ok(answer)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(NoAnswer::Deadline(deadline)),
        }
    }

    /// `GET path`.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub fn get(&mut self, path: &str) -> Result<Answer, NoAnswer> {
        self.request("GET", path, &[], &[])
    }
}

type Sender = http1::SendRequest<Full<Bytes>>;

type Way<'a> = (&'a Base, Option<&'a tls::Tls>);

async fn exchange(
    way: Way<'_>,
    kept: Option<Sender>,
    request: hyper::Request<Full<Bytes>>,
) -> Result<(Sender, Answer), NoAnswer> {
    let mut alive = None;
    if let Some(mut sender) = kept
        && sender.ready().await.is_ok()
    {
        alive = Some(sender);
    }
    let mut sender = match alive {
        Some(sender) => sender,
        None => connect(way).await?,
    };
    let response = match sender.try_send_request(request).await {
        Ok(response) => response,
        Err(mut error) => {
            // The request comes back only if not a byte of it was taken: sending it again cannot double it.
            let Some(request) = error.take_message() else {
                return Err(NoAnswer::Broken(error.into_error().to_string()));
            };
            sender = connect(way).await?;
            sender.send_request(request).await.map_err(|error| NoAnswer::Broken(error.to_string()))?
        }
    };
    let status = response.status().as_u16();
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    let body = Limited::new(response.into_body(), ANSWER_MAX)
        .collect()
        .await
        .map_err(|error| NoAnswer::Broken(error.to_string()))?
        .to_bytes()
        .to_vec();
    Ok((sender, Answer { status, headers, body }))
}

async fn connect((base, tls): Way<'_>) -> Result<Sender, NoAnswer> {
    let stream = TcpStream::connect(&base.authority).await.map_err(NoAnswer::Connect)?;
    stream.set_nodelay(true).map_err(NoAnswer::Connect)?;
    match tls {
        None => speak(stream).await,
        Some(tls) => speak(tls.connect(stream).await?).await,
    }
}

async fn speak<S>(stream: S) -> Result<Sender, NoAnswer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| NoAnswer::Broken(error.to_string()))?;
    tokio::spawn(connection);
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn addresses() {
        let base = |url| Base::parse(url).map(|base| (base.authority, base.prefix));
        assert_eq!(base("http://h:8080").unwrap(), ("h:8080".into(), String::new()));
        assert_eq!(base("http://h/").unwrap(), ("h:80".into(), String::new()));
        assert_eq!(base("http://[::1]:1/a/b/").unwrap(), ("[::1]:1".into(), "/a/b".into()));
        let base = Base::parse("https://h/x").unwrap();
        assert_eq!((base.tls, base.authority), (true, "h:443".into()));
        for bad in ["ftp://h", "h:80", "http://", "http://a@b", ""] {
            assert!(Base::parse(bad).is_err(), "{bad}");
        }
    }

    /// A server that answers each connection once and closes it: the second request must go out on a new one.
    #[test]
    fn a_closed_connection_is_opened_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            for n in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut seen = Vec::new();
                while !seen.ends_with(b"body") {
                    let mut chunk = [0; 512];
                    let count = stream.read(&mut chunk).unwrap();
                    assert!(count > 0);
                    seen.extend_from_slice(&chunk[..count]);
                }
                write!(
                    stream,
                    "HTTP/1.1 20{n} x\r\nRetry-After: 3\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
                )
                .unwrap();
            }
        });
        let mut client = Client::new(&url, Duration::from_secs(5)).unwrap();
        for n in 0..2 {
            let answer = client.request("POST", "/x", &[("x-tenant-id", "demo")], b"body").unwrap();
            assert_eq!((answer.status, answer.header("retry-after")), (200 + n, Some("3")));
            assert_eq!(answer.body, b"ok");
        }
        server.join().unwrap();
        assert!(matches!(client.get("/"), Err(NoAnswer::Connect(_))));
    }
}
