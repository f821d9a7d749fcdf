//! Reading a request body: at most the limit, within the deadline, never truncated.

use super::connection::Conn;
use super::refusal::{Problem, Refusal};
use hyper::body::{Body, Incoming};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// How much of a body that is too large is read and thrown away, so that the client gets to read the answer
/// before its connection is closed under it.
const DISCARD_MAX: usize = 16 << 20;

/// Reads a whole body of at most `max` bytes.
///
/// # Errors
/// 413 above `max`, 408 past the deadline, 400 when the body breaks off. The last two close the connection,
/// because where the next request would begin is not known.
pub async fn read(mut body: Incoming, conn: &Conn, max: usize, patient: bool) -> Result<Vec<u8>, Problem> {
    let hint = body.size_hint();
    let exact = hint.exact().and_then(|n| usize::try_from(n).ok());
    if hint.lower() > max as u64 && (patient || hint.lower() > DISCARD_MAX as u64) {
        // A client that waits for 100 Continue has sent nothing yet, and one that announces far too much is
        // not worth reading.
        return Err(too_large(max).closing());
    }
    if exact == Some(0) {
        return Ok(Vec::new());
    }
    let mut whole = Vec::with_capacity(exact.unwrap_or(0).min(max));
    let mut seen = 0_usize;
    loop {
        let frame = poll_fn(|cx| {
            if conn.expired() {
                return Poll::Ready(Err(()));
            }
            Pin::new(&mut body).poll_frame(cx).map(Ok)
        })
        .await;
        match frame {
            Err(()) => return Err(Problem::from(Refusal::RequestTimeout).closing()),
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(Problem::from(Refusal::BodyUnreadable).closing()),
            Ok(Some(Ok(frame))) => {
                let Some(data) = frame.data_ref() else { continue };
                seen = seen.saturating_add(data.len());
                if seen > DISCARD_MAX.max(max) {
                    return Err(too_large(max).closing());
                }
                if seen <= max {
                    whole.extend_from_slice(data);
                } else {
                    whole = Vec::new();
                }
            }
        }
    }
    if seen > max { Err(too_large(max)) } else { Ok(whole) }
}

fn too_large(max: usize) -> Problem {
    Problem::from(Refusal::TooLarge).detail(format!("at most {max} bytes are taken"))
}
