//! PostgreSQL: one prepared `INSERT .. ON CONFLICT DO NOTHING` per connection, one execution per round trip, each its
//! own transaction, over the version 3 protocol with trust authentication on loopback.

use super::{Parsed, Protocol};

/// The statement each connection prepares once.
const INSERT: &str = "INSERT INTO submissions (id, body) VALUES ($1, $2) ON CONFLICT DO NOTHING";

/// Where a connection stands.
#[derive(Default, PartialEq)]
pub enum Stage {
    #[default]
    Starting,
    Preparing,
    Running,
}

/// Hands out inserts.
pub struct Inserts<'a> {
    bodies: &'a mut dyn FnMut() -> Option<(String, Vec<u8>)>,
    request: Vec<u8>,
}

impl<'a> Inserts<'a> {
    /// `bodies` yields a fresh key and its value each time.
    pub fn new(bodies: &'a mut dyn FnMut() -> Option<(String, Vec<u8>)>) -> Self {
        Inserts { bodies, request: Vec::new() }
    }
}

/// Appends a message: tag, length of what follows including itself, content.
fn message(out: &mut Vec<u8>, tag: u8, content: &[&[u8]]) {
    let len: usize = content.iter().map(|c| c.len()).sum();
    out.push(tag);
    out.extend_from_slice(&(len as u32 + 4).to_be_bytes());
    content.iter().for_each(|c| out.extend_from_slice(c));
}

impl Protocol for Inserts<'_> {
    type Conn = Stage;

    fn hello(&mut self, _: &mut Stage) -> Vec<u8> {
        let parameters = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
        let mut startup = (parameters.len() as u32 + 4).to_be_bytes().to_vec();
        startup.extend_from_slice(parameters);
        startup
    }

    fn next(&mut self, _: &mut Stage) -> Option<&[u8]> {
        let (key, value) = (self.bodies)()?;
        self.request.clear();
        // Bind: unnamed portal, statement "i", both parameters binary, no result formats.
        let lengths = ((key.len() as u32).to_be_bytes(), (value.len() as u32).to_be_bytes());
        message(
            &mut self.request,
            b'B',
            &[b"\0i\0\0\x01\0\x01\0\x02", &lengths.0, key.as_bytes(), &lengths.1, &value, b"\0\0"],
        );
        message(&mut self.request, b'E', &[b"\0", &[0; 4]]);
        message(&mut self.request, b'S', &[]);
        Some(&self.request)
    }

    fn parse(&mut self, stage: &mut Stage, received: &[u8], reply: &mut Vec<u8>) -> Parsed {
        let mut at = 0;
        let mut inserted = false;
        // Everything up to ReadyForQuery belongs to one answer.
        while let Some(head) = received.get(at..at + 5) {
            let len = 1 + u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let Some(message) = received.get(at..at + len) else { return Parsed::More };
            at += len;
            match message[0] {
                b'C' => inserted = message[5..].starts_with(b"INSERT 0 1"),
                b'E' => return Parsed::Answer { len: at, good: false, units: 0 },
                b'Z' if *stage == Stage::Starting => {
                    *stage = Stage::Preparing;
                    self::message(reply, b'P', &[b"i\0", INSERT.as_bytes(), b"\0\0\0"]);
                    self::message(reply, b'S', &[]);
                    return Parsed::Aside { len: at };
                }
                b'Z' => {
                    let prepared = *stage == Stage::Preparing;
                    *stage = Stage::Running;
                    return Parsed::Answer {
                        len: at,
                        good: inserted || prepared,
                        units: u32::from(inserted),
                    };
                }
                _ => {}
            }
        }
        Parsed::More
    }
}
