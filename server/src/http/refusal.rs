//! Refusals: every way a request can be turned down, with its status, its page and the original's words.
//!
//! One table. The problem documents, the pages under `/problems/`, the OpenAPI document and the tests are
//! all made from it, so that a refusal that no page explains cannot exist.

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// A way to refuse a request. The discriminant is the row in [`KINDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Refusal {
    InvalidJson,
    BodyUnreadable,
    UnknownTenant,
    BadFraming,
    BadRequest,
    SignatureInvalid,
    Unauthorized,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    RequestTimeout,
    NotNow,
    TooLarge,
    HeldElsewhere,
    PcsIdConflict,
    TooManyRequests,
    QuotaExceeded,
    Overloaded,
    Draining,
    LogUnavailable,
    OutcomeUnknown,
    Internal,
    NotSignedByLog,
    Inconsistent,
}

/// One row: what clients see and what the page says.
pub struct Kind {
    /// The refusal this row is about.
    pub refusal: Refusal,
    /// HTTP status.
    pub status: u16,
    /// Last part of the `type` URI.
    pub slug: &'static str,
    /// Short title; the same for every occurrence.
    pub title: &'static str,
    /// The `error` member: the original's text where it had one, because clients in the field read it.
    pub error: &'static str,
    /// Whether the same request can succeed later without a change.
    pub retry: bool,
    /// The page's text.
    pub page: &'static str,
}

/// Every refusal, in the order of the enum.
#[rustfmt::skip]
pub static KINDS: &[Kind] = &[
    Kind { refusal: Refusal::InvalidJson, status: 400, slug: "invalid-json", title: "The body is not a summary", error: "Invalid JSON", retry: false,
        page: "The body is not one JSON object, a field has the wrong type, or a key stands twice (keys are compared without regard to case). The detail names the field. The bytes were logged; send a corrected body." },
    Kind { refusal: Refusal::BodyUnreadable, status: 400, slug: "body-unreadable", title: "The body could not be read", error: "Failed to read body", retry: false,
        page: "The connection ended, or the chunked encoding broke, before the whole body arrived. Nothing was logged." },
    Kind { refusal: Refusal::UnknownTenant, status: 400, slug: "unknown-tenant", title: "Unknown tenant", error: "Tenant error", retry: false,
        page: "The header X-Tenant-Id is missing or names no active tenant of this server. Nothing was logged and no quota was used." },
    Kind { refusal: Refusal::BadFraming, status: 400, slug: "bad-framing", title: "Ambiguous request framing", error: "Bad Request", retry: false,
        page: "The request says its length in two ways (Content-Length and Transfer-Encoding), uses a transfer coding other than chunked, ends lines without a carriage return, or does not have exactly one Host. Two parsers could disagree about where it ends, so it is refused and the connection is closed." },
    Kind { refusal: Refusal::BadRequest, status: 400, slug: "bad-request", title: "Malformed request", error: "Bad Request", retry: false,
        page: "A path or query parameter is malformed, or a batch is empty or has too many records. The detail says which." },
    Kind { refusal: Refusal::SignatureInvalid, status: 401, slug: "signature-invalid", title: "Signature verification failed", error: "Signature verification failed", retry: false,
        page: "The field sig is missing, is not base64, or fits none of the tenant's keys that are valid now. `flk sign --show-bytes FILE` prints the canonical bytes that must be signed. The submission was logged and stands in the audit log as refused." },
    Kind { refusal: Refusal::Unauthorized, status: 401, slug: "unauthorized", title: "Credentials needed", error: "Unauthorized", retry: false,
        page: "This resource needs credentials: basic auth for metrics, a bearer token for entry bundles and for the group." },
    Kind { refusal: Refusal::NotFound, status: 404, slug: "not-found", title: "Not found", error: "404 page not found", retry: false,
        page: "There is nothing under this path, or the tenant has no such summary. What belongs to another tenant is not found either." },
    Kind { refusal: Refusal::MethodNotAllowed, status: 405, slug: "method-not-allowed", title: "Method not allowed", error: "Method not allowed", retry: false,
        page: "The path exists, but not with this method. The header Allow lists the methods." },
    Kind { refusal: Refusal::NotAcceptable, status: 406, slug: "not-acceptable", title: "Not in this form", error: "Not Acceptable", retry: false,
        page: "The header Accept takes none of the forms there are. The detail names them." },
    Kind { refusal: Refusal::RequestTimeout, status: 408, slug: "request-timeout", title: "The body took too long", error: "Failed to read body", retry: true,
        page: "The whole body must arrive within the deadline, however many pieces it comes in. Nothing was logged." },
    Kind { refusal: Refusal::NotNow, status: 409, slug: "not-now", title: "The group cannot do that now", error: "Conflict", retry: true,
        page: "The change of the group is not possible as things stand: a learner has not caught up, another change is under way, the last voter would go, or a name would go to another data directory. The detail says which." },
    Kind { refusal: Refusal::TooLarge, status: 413, slug: "too-large", title: "The body is too large", error: "Request body too large", retry: false,
        page: "A submission may have 1 MiB; a batch has its own limit in bytes. Bodies are never truncated. Nothing was logged." },
    Kind { refusal: Refusal::HeldElsewhere, status: 421, slug: "held-elsewhere", title: "Another region alone holds the first one", error: "Misdirected Request", retry: false,
        page: "The first submission of this id stands in the log of another region, which does not let this tenant's submissions leave it. Here is known that there is one, where it stands, and whether the content is the same; its answer is given by that region. The members region, lsn, seq, accepted and escalated say what is known, and replayed whether a submission was the same (true) or another content (conflict); it was recorded as such." },
    Kind { refusal: Refusal::PcsIdConflict, status: 422, slug: "pcs-id-conflict", title: "This id exists with different content", error: "PCS id exists with different content", retry: false,
        page: "The tenant already has a summary with this id and different content, and the request asked for Prefer: handling=strict. The member fields names what differs. The first content stays; the conflict stands in the audit log." },
    Kind { refusal: Refusal::TooManyRequests, status: 429, slug: "too-many-requests", title: "Too many requests", error: "Too many requests", retry: true,
        page: "The tenant's request rate is used up. Retry-After says when the next request can pass. Nothing was logged." },
    Kind { refusal: Refusal::QuotaExceeded, status: 429, slug: "quota-exceeded", title: "Tenant quota exceeded", error: "Tenant quota exceeded", retry: true,
        page: "The tenant's rate or daily quota is used up; violated-policies names which. Retry-After says when the next request can pass. Nothing was logged." },
    Kind { refusal: Refusal::Overloaded, status: 503, slug: "overloaded", title: "The queue is full", error: "Service unavailable", retry: true,
        page: "More submissions wait for the log than the server is willing to hold in memory. Nothing was logged; retry after the time given." },
    Kind { refusal: Refusal::Draining, status: 503, slug: "draining", title: "The server is stopping", error: "Service unavailable", retry: true,
        page: "The process is shutting down and takes no new submissions. Nothing was logged; retry, possibly at another node." },
    Kind { refusal: Refusal::LogUnavailable, status: 503, slug: "log-unavailable", title: "The log cannot take the record", error: "Service unavailable", retry: true,
        page: "There is no leader, the disk is full, or the disk failed. This submission was not recorded. Reads go on. Operators find the reason in /readyz?verbose." },
    Kind { refusal: Refusal::OutcomeUnknown, status: 503, slug: "outcome-unknown", title: "The outcome is not known", error: "Service unavailable", retry: true,
        page: "The record was handed to the log, but whether it became durable could not be learnt. Send the same submission again: if it was recorded, the first outcome is returned." },
    Kind { refusal: Refusal::Internal, status: 500, slug: "internal", title: "Internal error", error: "Internal server error", retry: true,
        page: "The server could not finish the request. The log holds what was recorded before; operators find the cause in the server's log lines." },
    Kind { refusal: Refusal::NotSignedByLog, status: 403, slug: "not-signed-by-log", title: "The log did not sign this checkpoint", error: "Forbidden", retry: false,
        page: "This node is a witness of the log that the checkpoint names, and none of the signatures is of a key that it knows for that log. Whoever operates the witness has to be given the log's verifier key." },
    Kind { refusal: Refusal::Inconsistent, status: 422, slug: "inconsistent-checkpoint", title: "The checkpoint does not continue the log", error: "Inconsistent checkpoint", retry: false,
        page: "This node, as a witness, has cosigned a smaller checkpoint of the same log, and the proof does not connect the two. Either the proof is wrong, or the log shows different histories to different people. Nothing was cosigned." },
];

impl Refusal {
    /// The row of this refusal.
    pub fn kind(self) -> &'static Kind {
        &KINDS[self as usize]
    }

    /// HTTP status.
    pub fn status(self) -> u16 {
        self.kind().status
    }
}

/// One occurrence of a refusal.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Which refusal.
    pub refusal: Refusal,
    /// What is particular to this occurrence; never client text beyond names of fields.
    pub detail: Option<String>,
    /// Seconds after which a retry can succeed.
    pub retry_after_s: Option<u64>,
    /// Further members of the problem document.
    pub members: Vec<(&'static str, Value)>,
    /// Methods for the header Allow.
    pub allow: Option<String>,
    /// Challenge for the header WWW-Authenticate.
    pub challenge: Option<&'static str>,
    /// Whether the connection must be closed after this answer.
    pub close: bool,
    /// Nothing was decided here, and another node of the group may decide it. Not shown.
    pub elsewhere: bool,
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        Problem {
            refusal,
            detail: None,
            retry_after_s: if refusal.status() == 503 { Some(1) } else { None },
            members: Vec::new(),
            allow: None,
            challenge: None,
            close: false,
            elsewhere: false,
        }
    }
}

impl Problem {
    /// Adds what is particular to this occurrence.
    pub fn detail(mut self, text: impl Into<String>) -> Problem {
        self.detail = Some(text.into());
        self
    }

    /// Adds a member.
    pub fn member(mut self, name: &'static str, value: Value) -> Problem {
        self.members.push((name, value));
        self
    }

    /// Says when to come back.
    pub fn retry_after(mut self, seconds: u64) -> Problem {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Says that another node of the group may decide it.
    pub fn elsewhere(mut self) -> Problem {
        self.elsewhere = true;
        self
    }

    /// Closes the connection after the answer.
    pub fn closing(mut self) -> Problem {
        self.close = true;
        self
    }

    /// The document as a JSON value; lines of a batch embed it.
    pub fn value(&self) -> Value {
        let kind = self.refusal.kind();
        let uri = match self.refusal {
            Refusal::QuotaExceeded => {
                "https://iana.org/assignments/http-problem-types#quota-exceeded".to_owned()
            }
            _ => format!("/problems/{}", kind.slug),
        };
        let mut map = Map::new();
        map.insert("type".into(), json!(uri));
        map.insert("title".into(), json!(kind.title));
        map.insert("status".into(), json!(kind.status));
        if let Some(detail) = &self.detail {
            map.insert("detail".into(), json!(detail));
        }
        map.insert("error".into(), json!(kind.error));
        for (name, value) in &self.members {
            map.insert((*name).into(), value.clone());
        }
        Value::Object(map)
    }

    /// The document as bytes.
    pub fn body(&self) -> Bytes {
        let mut text = self.value().to_string();
        text.push('\n');
        Bytes::from(text)
    }
}

/// The page of one refusal, or the list of all.
pub fn page(slug: Option<&str>) -> Option<String> {
    let mut out = String::from("<!doctype html><meta charset=\"utf-8\"><title>Problems</title>\n");
    match slug {
        None => {
            out.push_str("<h1>Problems</h1>\n<ul>\n");
            for kind in KINDS {
                out.push_str(&format!(
                    "<li><a href=\"/problems/{}\">{} {}</a></li>\n",
                    kind.slug, kind.status, kind.title
                ));
            }
            out.push_str("</ul>\n");
        }
        Some(slug) => {
            let kind = KINDS.iter().find(|kind| kind.slug == slug)?;
            let retry =
                if kind.retry { "Retrying can help." } else { "Retrying the same request does not help." };
            out.push_str(&format!(
                "<h1>{}</h1>\n<p>Status {}. {}</p>\n<p>{}</p>\n<p><a href=\"/problems\">All problems</a></p>\n",
                kind.title, kind.status, retry, kind.page
            ));
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_the_enum_and_each_has_its_page() {
        for (n, kind) in KINDS.iter().enumerate() {
            assert_eq!(kind.refusal as usize, n, "{}", kind.slug);
            assert!(page(Some(kind.slug)).is_some_and(|text| text.contains(kind.page)));
            assert!(page(None).is_some_and(|text| text.contains(kind.slug)));
            assert!(KINDS.iter().filter(|other| other.slug == kind.slug).count() == 1);
            assert!((400..=599).contains(&kind.status));
        }
        assert!(page(Some("no-such")).is_none());
    }

    #[test]
    fn the_original_texts_stay() {
        for (refusal, status, error) in [
            (Refusal::InvalidJson, 400, "Invalid JSON"),
            (Refusal::BodyUnreadable, 400, "Failed to read body"),
            (Refusal::UnknownTenant, 400, "Tenant error"),
            (Refusal::SignatureInvalid, 401, "Signature verification failed"),
            (Refusal::Unauthorized, 401, "Unauthorized"),
            (Refusal::NotFound, 404, "404 page not found"),
            (Refusal::MethodNotAllowed, 405, "Method not allowed"),
            (Refusal::TooManyRequests, 429, "Too many requests"),
            (Refusal::QuotaExceeded, 429, "Tenant quota exceeded"),
            (Refusal::Internal, 500, "Internal server error"),
        ] {
            let value = Problem::from(refusal).value();
            assert_eq!((value["status"].as_u64(), value["error"].as_str()), (Some(status), Some(error)));
        }
    }

    #[test]
    fn unavailable_always_says_when_to_return() {
        for kind in KINDS.iter().filter(|kind| kind.status == 503) {
            assert!(Problem::from(kind.refusal).retry_after_s.is_some(), "{}", kind.slug);
        }
    }
}
