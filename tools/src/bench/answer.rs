//! Just enough of HTTP/1.1 to know that an answer is whole and what it says.

/// An answer, borrowed from the bytes it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// Status code.
    pub status: u16,
    /// Whether an `Idempotent-Replayed` header says that this is an earlier answer.
    pub replayed: bool,
    /// Whether the server closes the connection after it.
    pub close: bool,
    /// The body.
    pub body: &'a [u8],
}

/// The bytes are no HTTP/1.1 answer with a `Content-Length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotHttp;

/// The answer at the front of `bytes` and its whole length; `None` if more is to come.
///
/// # Errors
/// [`NotHttp`].
pub fn parse(bytes: &[u8]) -> Result<Option<(Answer<'_>, usize)>, NotHttp> {
    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() > 64 << 10 { Err(NotHttp) } else { Ok(None) };
    };
    let line = bytes.get(..13).ok_or(NotHttp)?;
    if !line.starts_with(b"HTTP/1.") || line[8] != b' ' {
        return Err(NotHttp);
    }
    let status = std::str::from_utf8(&line[9..12]).ok().and_then(|text| text.parse().ok()).ok_or(NotHttp)?;
    let mut answer = Answer { status, replayed: false, close: false, body: &[] };
    let mut length = if status == 204 || status == 304 { Some(0) } else { None };
    for field in bytes[..head].split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = field.iter().position(|byte| *byte == b':') else { return Err(NotHttp) };
        let (name, value) = (&field[..colon], field[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            length = std::str::from_utf8(value).ok().and_then(|text| text.parse::<usize>().ok());
        } else if name.eq_ignore_ascii_case(b"idempotent-replayed") {
            answer.replayed = true;
        } else if name.eq_ignore_ascii_case(b"connection") {
            answer.close = value.eq_ignore_ascii_case(b"close");
        }
    }
    let whole = length.and_then(|length| (head + 4).checked_add(length)).ok_or(NotHttp)?;
    if bytes.len() < whole {
        return Ok(None);
    }
    answer.body = &bytes[head + 4..whole];
    Ok(Some((answer, whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_at_its_last_byte_and_not_before() {
        let text = b"HTTP/1.1 202 Accepted\r\ncontent-length: 4\r\nIdempotent-Replayed: true\r\nConnection: close\r\n\r\nbody";
        for cut in 0..text.len() {
            assert_eq!(parse(&text[..cut]), Ok(None), "cut at {cut}");
        }
        let want = Answer { status: 202, replayed: true, close: true, body: b"body" };
        assert_eq!(parse(text), Ok(Some((want, text.len()))));
        assert_eq!(parse(b"HTTP/1.1 204 x\r\n\r\n").unwrap().unwrap().0.status, 204);
    }

    #[test]
    fn what_is_not_http_is_refused() {
        for bad in [
            "SSH-2.0-x\r\nab\r\n\r\n",
            "HTTP/1.1 abc x\r\n\r\n",
            "HTTP/1.1 200 x\r\n\r\n",
            "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 x\r\ncontent-length: -1\r\n\r\n",
            "HTTP/1.1 200 x\r\nno colon\r\ncontent-length: 0\r\n\r\n",
        ] {
            assert_eq!(parse(bad.as_bytes()), Err(NotHttp), "{bad:?}");
        }
    }
}
