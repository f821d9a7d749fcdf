//! etcd: `Txn { if create_revision(key) == 0 then put }` over gRPC, one call at a time per connection.
//!
//! Just enough HTTP/2 to be a correct peer for one small call at a time: header fields are sent as literals, the
//! answer counts as good when its message says `succeeded`, settings and pings are acknowledged, and the receive
//! window is opened once for more than any run can use.

use super::{Parsed, Protocol};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// One connection: the stream of the current call and whether its message said `succeeded`.
#[derive(Default)]
pub struct Conn {
    stream: u32,
    succeeded: bool,
    greeted: bool,
}

/// Hands out create-if-absent transactions.
pub struct Creates<'a> {
    bodies: &'a mut dyn FnMut() -> Option<(String, Vec<u8>)>,
    headers: Vec<u8>,
    request: Vec<u8>,
}

impl<'a> Creates<'a> {
    /// `bodies` yields a fresh key and its value each time.
    pub fn new(bodies: &'a mut dyn FnMut() -> Option<(String, Vec<u8>)>) -> Self {
        let mut headers = Vec::new();
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/etcdserverpb.KV/Txn"),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ] {
            // Literal without indexing, new name, no Huffman code (RFC 7541 section 6.2.2).
            headers.push(0);
            for text in [name, value] {
                headers.push(text.len() as u8);
                headers.extend_from_slice(text.as_bytes());
            }
        }
        Creates { bodies, headers, request: Vec::new() }
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A protobuf field of bytes.
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    let mut len = bytes.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(bytes);
}

/// `TxnRequest`: compare (field 1) result EQUAL (default), target CREATE (1), key, create_revision 0; success
/// (field 2) a put (`RequestOp` field 2) of key and value.
fn txn(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut compare = vec![2 << 3, 1];
    field(&mut compare, 3, key);
    compare.extend_from_slice(&[5 << 3, 0]);
    let mut put = Vec::with_capacity(key.len() + value.len() + 16);
    field(&mut put, 1, key);
    field(&mut put, 2, value);
    let mut operation = Vec::with_capacity(put.len() + 8);
    field(&mut operation, 2, &put);
    let mut request = Vec::with_capacity(operation.len() + compare.len() + 16);
    field(&mut request, 1, &compare);
    field(&mut request, 2, &operation);
    request
}

impl Protocol for Creates<'_> {
    type Conn = Conn;

    fn hello(&mut self, conn: &mut Conn) -> Vec<u8> {
        conn.stream = 1;
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frame(&mut hello, SETTINGS, 0, 0, &[]);
        frame(&mut hello, WINDOW_UPDATE, 0, 0, &(0x7fff_ffff_u32 - 65_535).to_be_bytes());
        hello
    }

    fn next(&mut self, conn: &mut Conn) -> Option<&[u8]> {
        let (key, value) = (self.bodies)()?;
        conn.succeeded = false;
        let message = txn(key.as_bytes(), &value);
        let mut data = Vec::with_capacity(message.len() + 5);
        data.push(0);
        data.extend_from_slice(&(message.len() as u32).to_be_bytes());
        data.extend_from_slice(&message);
        self.request.clear();
        frame(&mut self.request, HEADERS, END_HEADERS, conn.stream, &self.headers);
        frame(&mut self.request, DATA, END_STREAM, conn.stream, &data);
        Some(&self.request)
    }

    fn parse(&mut self, conn: &mut Conn, received: &[u8], reply: &mut Vec<u8>) -> Parsed {
        let Some(head) = received.get(..9) else { return Parsed::More };
        let len = 9 + u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some(payload) = received.get(9..len) else { return Parsed::More };
        let (kind, flags) = (head[3], head[4]);
        match kind {
            SETTINGS if flags & ACK == 0 => {
                frame(reply, SETTINGS, ACK, 0, &[]);
                // The server's settings are its answer to the hello.
                if !conn.greeted {
                    conn.greeted = true;
                    return Parsed::Answer { len, good: true, units: 0 };
                }
            }
            PING if flags & ACK == 0 => frame(reply, PING, ACK, 0, payload),
            // TxnResponse: field 2, `succeeded`, is the byte pair 10 01 after the header (field 1).
            DATA => conn.succeeded = payload.len() > 7 && succeeded(&payload[5..]),
            HEADERS if flags & END_STREAM != 0 => {
                conn.stream += 2;
                return Parsed::Answer { len, good: conn.succeeded, units: u32::from(conn.succeeded) };
            }
            RST_STREAM | GOAWAY => return Parsed::Answer { len, good: false, units: 0 },
            _ => {}
        }
        Parsed::Aside { len }
    }
}

/// Whether a `TxnResponse` says that its comparison held.
fn succeeded(mut message: &[u8]) -> bool {
    while let [tag, rest @ ..] = message {
        match (tag >> 3, tag & 7, rest) {
            (2, 0, [value, ..]) => return *value == 1,
            (_, 2, [len, rest @ ..]) if usize::from(*len) <= rest.len() && *len < 0x80 => {
                message = &rest[usize::from(*len)..];
            }
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_reads_as_its_schema_says() {
        // Field numbers as in etcd's rpc.proto: Compare.key = 3, Compare.target = 2, PutRequest.value = 2.
        let bytes = txn(b"k", b"v");
        assert_eq!(bytes, [10, 7, 16, 1, 26, 1, b'k', 40, 0, 18, 8, 18, 6, 10, 1, b'k', 18, 1, b'v']);
    }

    #[test]
    fn success_is_found_after_the_header() {
        assert!(succeeded(&[10, 2, 24, 5, 16, 1, 26, 0]));
        assert!(!succeeded(&[10, 2, 24, 5, 26, 0]));
        assert!(!succeeded(&[10, 200]));
    }
}
