//! Requests that only the leader can answer, from the node that was asked to the node that leads.
//!
//! ```text
//! request  kind u8 (1 submission, 2 batch, 3 administration), wishes u8 (1 strict, 2 receipt), tenant? (u8 and a length u16), body to the end
//! answer   0 this node does not lead, leader u64 (0 unknown)
//!          2 this node does not lead any more, and the request may have been recorded
//!          1 status u16, media u8, headers u8 x (name (u8), value (u16)), body to the end
//! ```

use crate::http::reply::{JSON, Reply, SIZE, TEXT};
use engine::codec::{DecodeError, Reader, put8, put16};
use hyper::header::{HeaderName, HeaderValue};

/// Longest tenant header passed on, bytes: a longer one names no tenant.
pub const TENANT_MAX: usize = 256;
/// Bytes of a request beside its body.
pub const AROUND: usize = 16 + TENANT_MAX;
/// Headers of an answer.
const HEADERS_MAX: usize = 16;
/// Media types of answers that are passed on.
const MEDIA: [&str; 5] = [JSON, "application/problem+json", "application/x-ndjson", TEXT, SIZE];

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `POST /v1/pcs/submit`.
    Submission = 1,
    /// `POST /v1/pcs/batch`.
    Batch = 2,
    /// A question about the group, or a change of it; the node that passes it on has checked the token.
    Administration = 3,
}

/// What a client may wish of the answer to a submission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `Prefer: handling=strict`: an id that exists with other content is an error.
    pub strict: bool,
    /// `Prefer: receipt`: the answer carries the proof that the submission stands in the log.
    pub receipt: bool,
}

impl Wishes {
    fn bits(self) -> u8 {
        u8::from(self.strict) | u8::from(self.receipt) << 1
    }

    fn from_bits(bits: u8) -> Result<Wishes, DecodeError> {
        if bits > 3 {
            return Err(DecodeError::OutOfBounds("wishes"));
        }
        Ok(Wishes { strict: bits & 1 != 0, receipt: bits & 2 != 0 })
    }
}

/// A request as it is passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What is asked.
    pub kind: Kind,
    /// What the client wishes beside the answer.
    pub wishes: Wishes,
    /// The header that names the tenant, as it came.
    pub tenant: Option<Vec<u8>>,
    /// The body, as it came.
    pub body: Vec<u8>,
}

impl Ask {
    /// The request's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(AROUND + self.body.len());
        out.extend_from_slice(&[self.kind as u8, self.wishes.bits(), u8::from(self.tenant.is_some())]);
        if let Some(tenant) = &self.tenant {
            put16(&mut out, &tenant[..tenant.len().min(TENANT_MAX)]);
        }
        out.extend_from_slice(&self.body);
        out
    }

    /// Reads a request whose body is what is left.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8]) -> Result<Ask, DecodeError> {
        let mut reader = Reader::new(bytes);
        let kind = match reader.u8("kind")? {
            1 => Kind::Submission,
            2 => Kind::Batch,
            3 => Kind::Administration,
            unknown => return Err(DecodeError::UnknownTag(unknown)),
        };
        let wishes = Wishes::from_bits(reader.u8("wishes")?)?;
        let tenant =
            if reader.bool("tenant")? { Some(reader.bytes16(TENANT_MAX, "tenant")?.to_vec()) } else { None };
        Ok(Ask { kind, wishes, tenant, body: reader.remaining().to_vec() })
    }
}

/// What comes back.
#[derive(Debug)]
pub enum Told {
    /// The node does not lead; perhaps that one does.
    Elsewhere(Option<u64>),
    /// The node lost the lead in the middle: what was asked may have happened.
    Unknown,
    /// The answer for the client.
    Reply(Reply),
}

impl Told {
    /// The answer's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Told::Elsewhere(leader) => {
                out.push(0);
                out.extend_from_slice(&leader.unwrap_or(0).to_le_bytes());
            }
            Told::Unknown => out.push(2),
            Told::Reply(reply) => {
                out.push(1);
                out.extend_from_slice(&reply.status.to_le_bytes());
                let media = MEDIA.iter().position(|media| *media == reply.media);
                out.push(media.unwrap_or(MEDIA.len()) as u8);
                let headers = || reply.headers.iter().take(HEADERS_MAX);
                out.push(headers().count() as u8);
                for (name, value) in headers() {
                    put8(&mut out, name.as_str().as_bytes());
                    put16(&mut out, value.as_bytes());
                }
                out.extend_from_slice(&reply.body);
            }
        }
        out
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8]) -> Result<Told, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.u8("reply")? {
            0 => {
                let leader = reader.u64("leader")?;
                reader.end()?;
                return Ok(Told::Elsewhere((leader != 0).then_some(leader)));
            }
            1 => {}
            2 => {
                reader.end()?;
                return Ok(Told::Unknown);
            }
            unknown => return Err(DecodeError::UnknownTag(unknown)),
        }
        let status = reader.u16("status")?;
        if !(200..600).contains(&status) {
            return Err(DecodeError::OutOfBounds("status"));
        }
        let media =
            MEDIA.get(usize::from(reader.u8("media")?)).copied().unwrap_or("application/octet-stream");
        let count = usize::from(reader.u8("headers")?);
        if count > HEADERS_MAX {
            return Err(DecodeError::OutOfBounds("headers"));
        }
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            let name = HeaderName::from_bytes(reader.bytes8(128, "name")?);
            let value = HeaderValue::from_bytes(reader.bytes16(4096, "value")?);
            let (Ok(name), Ok(value)) = (name, value) else { return Err(DecodeError::OutOfBounds("header")) };
            headers.push((name, value));
        }
        let mut reply = Reply::new(status, media, reader.remaining().to_vec());
        reply.headers = headers;
        Ok(Told::Reply(reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::RETRY_AFTER;

    #[test]
    fn requests_and_answers_come_back() {
        for tenant in [None, Some(b"acme".to_vec()), Some(Vec::new())] {
            for (strict, receipt) in [(false, false), (true, false), (false, true), (true, true)] {
                let (wishes, tenant) = (Wishes { strict, receipt }, tenant.clone());
                let ask = Ask { kind: Kind::Batch, wishes, tenant, body: b"{}\n{}".to_vec() };
                assert_eq!(Ask::decode(&ask.encode()), Ok(ask));
            }
        }
        for (nth, media) in MEDIA.iter().enumerate() {
            let reply = Reply::new(202, media, "x").with(RETRY_AFTER, "3");
            let bytes = Told::Reply(reply).encode();
            assert_eq!(usize::from(bytes[3]), nth);
            let Ok(Told::Reply(back)) = Told::decode(&bytes) else { panic!("not a reply") };
            assert_eq!((back.status, back.media, &back.body[..]), (202, *media, b"x".as_slice()));
            assert_eq!(back.headers, [(RETRY_AFTER, HeaderValue::from_static("3"))]);
        }
        for leader in [None, Some(7)] {
            let back = Told::decode(&Told::Elsewhere(leader).encode());
            assert!(matches!(back, Ok(Told::Elsewhere(found)) if found == leader));
        }
        assert!(matches!(Told::decode(&Told::Unknown.encode()), Ok(Told::Unknown)));
    }

    #[test]
    fn what_is_cut_short_or_out_of_bounds_is_refused() {
        let bytes = Told::Reply(Reply::new(200, JSON, "").with(RETRY_AFTER, "3")).encode();
        for length in 0..bytes.len() {
            assert!(Told::decode(&bytes[..length]).is_err(), "{length}");
        }
        assert!(Told::decode(&[1, 0, 0, 0, 0]).is_err());
        assert!(Told::decode(&[2, 0]).is_err() && Told::decode(&[3]).is_err());
        assert!(Ask::decode(&[4, 0, 0]).is_err() && Ask::decode(&[1, 4, 0]).is_err());
        assert!(Ask::decode(&[1, 0, 1, 255, 255]).is_err());
    }
}
