//! Redis: `SETNX key body`, one command per round trip, no pipelining.

use super::{Parsed, Protocol};

/// Hands out `SETNX` with keys that never repeat within one process.
pub struct SetNx<'a> {
    bodies: &'a mut dyn FnMut() -> Option<(String, Vec<u8>)>,
    request: Vec<u8>,
}

impl<'a> SetNx<'a> {
    /// `bodies` yields a fresh key and its value each time.
    pub fn new(bodies: &'a mut dyn FnMut() -> Option<(String, Vec<u8>)>) -> Self {
        SetNx { bodies, request: Vec::new() }
    }
}

impl Protocol for SetNx<'_> {
    type Conn = ();

    fn hello(&mut self, _: &mut ()) -> Vec<u8> {
        Vec::new()
    }

    fn next(&mut self, _: &mut ()) -> Option<&[u8]> {
        let (key, value) = (self.bodies)()?;
        self.request.clear();
        let head = format!("*3\r\n$5\r\nSETNX\r\n${}\r\n{key}\r\n${}\r\n", key.len(), value.len());
        self.request.extend_from_slice(head.as_bytes());
        self.request.extend_from_slice(&value);
        self.request.extend_from_slice(b"\r\n");
        Some(&self.request)
    }

    fn parse(&mut self, _: &mut (), received: &[u8], _: &mut Vec<u8>) -> Parsed {
        match received.iter().position(|&b| b == b'\n') {
            None => Parsed::More,
            Some(end) => Parsed::Answer { len: end + 1, good: received.starts_with(b":1\r"), units: 1 },
        }
    }
}
