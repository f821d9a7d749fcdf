//! An answer before it becomes an HTTP response.

use super::refusal::Problem;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Media type.
    pub media: &'static str,
    /// The body.
    pub body: Bytes,
    /// Further headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether the connection ends after this answer.
    pub close: bool,
}

/// Plain text.
pub const TEXT: &str = "text/plain; charset=utf-8";
/// The size of a tree (C2SP tlog-witness).
pub const SIZE: &str = "text/x.tlog.size";
/// JSON.
pub const JSON: &str = "application/json";

impl Reply {
    /// An answer with a body.
    pub fn new(status: u16, media: &'static str, body: impl Into<Bytes>) -> Reply {
        Reply { status, media, body: body.into(), headers: Vec::new(), close: false }
    }

    /// Adds a header with a fixed value.
    pub fn with(mut self, name: HeaderName, value: &'static str) -> Reply {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    /// Adds a header with a value made here; a value that cannot stand in a header is left out.
    pub fn with_text(mut self, name: HeaderName, value: String) -> Reply {
        if let Ok(value) = HeaderValue::try_from(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// The response hyper sends.
    pub fn response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers: &mut HeaderMap = response.headers_mut();
        if !self.media.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media));
        }
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Reply {
        let mut reply = Reply::new(problem.refusal.status(), "application/problem+json", problem.body())
            .with(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        if let Some(seconds) = problem.retry_after_s {
            reply = reply.with_text(header::RETRY_AFTER, seconds.to_string());
        }
        if let Some(allow) = problem.allow {
            reply = reply.with_text(header::ALLOW, allow);
        }
        if let Some(challenge) = problem.challenge {
            reply = reply.with(header::WWW_AUTHENTICATE, challenge);
        }
        reply.close = problem.close;
        reply
    }
}
