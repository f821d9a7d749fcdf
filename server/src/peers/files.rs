//! Files for other nodes: which sealed segments there are, the ledger within them, and pieces of all that.
//!
//! A sealed segment never changes (S5), so a piece is read without any lock, and a node that asks may stop, be restarted
//! and go on where it was. The same holds for the ledger's parts (see `given`). What it gets it checks itself: see `seed`.
//!
//! ```text
//! ask   1 list     from u64: the sealed segments from this number on, as many as fit
//!       2 piece    what u8, number u64, offset u64, length u32
//!                  what: 1 segment, by its number; by the record of a listed ledger 2 ledger, 3 rows, 4 lines
//! told  1 list     last u64: number of the last sealed segment, 0 for none
//!                  count u16 x (bytes u64, digest 32): of segment `from` and those after it
//!                  count u8 (0 or 1) x (record u64, ledger bytes u64, its digest 32, rows bytes u64, lines bytes u64)
//!       2 piece    bytes to the end
//!       3 gone     reason (u16)
//! ```
//! L1: an answer is at most [`TOLD_MAX`] bytes, and only so many are made at a time.

use super::given;
use crate::node::Node;
use engine::codec::{DecodeError, Reader, put16};
use engine::log::{Digest, Lsn};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The longest question, bytes.
pub const ASK_MAX: usize = 1 + 1 + 8 + 8 + 4;
/// The longest piece, bytes: enough to keep a link busy with a few under way, and little to send again.
pub const PIECE_MAX: u32 = 1 << 20;
/// Segments in one list.
pub const LIST_MAX: usize = 1024;
/// The longest answer, bytes.
pub const TOLD_MAX: usize = 128 + PIECE_MAX as usize;
/// Longest reason, bytes.
const REASON_MAX: usize = 512;
/// Answers that are made at a time, for all peers together.
const AT_A_TIME: usize = 16;

const _: () = assert!(LIST_MAX * 40 < PIECE_MAX as usize);

static TURNS: Semaphore = Semaphore::const_new(AT_A_TIME);

/// What a node asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Which sealed segments there are, from this number on.
    List {
        /// The first that is wanted.
        from: u64,
    },
    /// A piece of a file.
    Piece {
        /// Which.
        what: What,
        /// Where the piece begins.
        offset: u64,
        /// How long it is.
        length: u32,
    },
}

/// What pieces there are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A sealed segment, by its number.
    Segment(u64),
    /// The ledger's own bytes after a record.
    Ledger(Lsn),
    /// The rows of its index, one after the other.
    Rows(Lsn),
    /// The lines of its audit files, one after the other.
    Lines(Lsn),
}

impl What {
    fn code(self) -> (u8, u64) {
        match self {
            What::Segment(number) => (1, number),
            What::Ledger(lsn) => (2, lsn.0),
            What::Rows(lsn) => (3, lsn.0),
            What::Lines(lsn) => (4, lsn.0),
        }
    }

    fn of(code: u8, number: u64) -> Result<What, DecodeError> {
        Ok(match code {
            1 => What::Segment(number),
            2 => What::Ledger(Lsn(number)),
            3 => What::Rows(Lsn(number)),
            4 => What::Lines(Lsn(number)),
            unknown => return Err(DecodeError::UnknownTag(unknown)),
        })
    }
}

/// The ledger that can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The record after which it stands, within the sealed segments.
    pub lsn: Lsn,
    /// Its own bytes; the digest is that with which they end.
    pub ledger: Listed,
    /// Bytes of its rows.
    pub rows: u64,
    /// Bytes of its lines.
    pub lines: u64,
}

/// A sealed segment in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Length of its file.
    pub bytes: u64,
    /// BLAKE3 of all of it but the footer, which says the same.
    pub digest: Digest,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Sealed segments, as many as fit, beginning with the one that was asked for.
    List {
        /// Number of the last sealed segment there is, 0 for none.
        last: u64,
        /// In order.
        segments: Vec<Listed>,
        /// The newest ledger within the sealed segments.
        state: Option<State>,
    },
    /// As many bytes as were asked for.
    Piece(Vec<u8>),
    /// It is not here, or cannot be read.
    Gone(String),
}

impl Ask {
    /// The question's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ASK_MAX);
        match self {
            Ask::List { from } => {
                out.push(1);
                out.extend_from_slice(&from.to_le_bytes());
            }
            Ask::Piece { what, offset, length } => {
                let (code, number) = what.code();
                out.extend_from_slice(&[2, code]);
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(&offset.to_le_bytes());
                out.extend_from_slice(&length.to_le_bytes());
            }
        }
        out
    }

    /// Reads a question from exactly these bytes.
    ///
    /// # Errors
    /// When it is none, or asks for too much.
    pub fn decode(bytes: &[u8]) -> Result<Ask, DecodeError> {
        let mut reader = Reader::new(bytes);
        let ask = match reader.u8("ask")? {
            1 => Ask::List { from: reader.u64("from")? },
            2 => {
                let what = What::of(reader.u8("what")?, reader.u64("number")?)?;
                let (offset, length) = (reader.u64("offset")?, reader.u32("length")?);
                if length == 0 || length > PIECE_MAX {
                    return Err(DecodeError::OutOfBounds("length"));
                }
                Ask::Piece { what, offset, length }
            }
            unknown => return Err(DecodeError::UnknownTag(unknown)),
        };
        reader.end()?;
        Ok(ask)
    }
}

impl Told {
    /// The answer's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Told::List { last, segments, state } => {
                out.push(1);
                out.extend_from_slice(&last.to_le_bytes());
                let segments = &segments[..segments.len().min(LIST_MAX)];
                out.extend_from_slice(&(segments.len() as u16).to_le_bytes());
                for segment in segments {
                    out.extend_from_slice(&segment.bytes.to_le_bytes());
                    out.extend_from_slice(&segment.digest.0);
                }
                out.push(u8::from(state.is_some()));
                if let Some(State { lsn, ledger, rows, lines }) = state {
                    out.extend_from_slice(&lsn.0.to_le_bytes());
                    out.extend_from_slice(&ledger.bytes.to_le_bytes());
                    out.extend_from_slice(&ledger.digest.0);
                    out.extend_from_slice(&rows.to_le_bytes());
                    out.extend_from_slice(&lines.to_le_bytes());
                }
            }
            Told::Piece(bytes) => {
                out.push(2);
                out.extend_from_slice(bytes);
            }
            Told::Gone(why) => {
                out.push(3);
                let end = why.floor_char_boundary(REASON_MAX);
                put16(&mut out, &why.as_bytes()[..end]);
            }
        }
        out
    }

    /// Reads an answer from exactly these bytes.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8]) -> Result<Told, DecodeError> {
        let mut reader = Reader::new(bytes);
        let told = match reader.u8("told")? {
            1 => {
                let (last, count) = (reader.u64("last")?, usize::from(reader.u16("count")?));
                if count > LIST_MAX {
                    return Err(DecodeError::OutOfBounds("count"));
                }
                let mut segments = Vec::with_capacity(count);
                for _ in 0..count {
                    let bytes = reader.u64("bytes")?;
                    segments.push(Listed { bytes, digest: Digest(reader.array("digest")?) });
                }
                let mut state = None;
                if reader.bool("state")? {
                    let (lsn, bytes) = (Lsn(reader.u64("record")?), reader.u64("bytes")?);
                    let ledger = Listed { bytes, digest: Digest(reader.array("digest")?) };
                    state =
                        Some(State { lsn, ledger, rows: reader.u64("rows")?, lines: reader.u64("lines")? });
                }
                Told::List { last, segments, state }
            }
            2 if reader.left() <= PIECE_MAX as usize => Told::Piece(reader.remaining().to_vec()),
            2 => return Err(DecodeError::OutOfBounds("piece")),
            3 => Told::Gone(reader.text16(REASON_MAX, "reason")?),
            unknown => return Err(DecodeError::UnknownTag(unknown)),
        };
        reader.end()?;
        Ok(told)
    }
}

/// Answers another node.
pub(super) async fn serve(node: &Arc<Node>, ask: Ask) -> Told {
    let sealed = node.group.metrics().sealed;
    let _turn = TURNS.acquire().await;
    let theirs = node.clone();
    let read = tokio::task::spawn_blocking(move || match ask {
        Ask::Piece { what: what @ (What::Ledger(_) | What::Rows(_) | What::Lines(_)), offset, length } => {
            let piece = given::piece(&theirs, what, offset, length)?;
            Ok(piece.map_or_else(|| Told::Gone("that ledger is not here".into()), Told::Piece))
        }
        ask => {
            let mut told = answer(&theirs.config.log_path(), sealed, ask)?;
            if let Told::List { state, .. } = &mut told {
                *state = given::state(&theirs);
            }
            Ok::<_, io::Error>(told)
        }
    })
    .await;
    match read {
        Ok(Ok(told)) => {
            if let Told::Piece(bytes) = &told {
                node.metrics.files_sent_bytes.inc_by(bytes.len() as u64);
            }
            told
        }
        Ok(Err(error)) => Told::Gone(error.to_string()),
        Err(error) => Told::Gone(error.to_string()),
    }
}

/// The same for a log's directory whose first `sealed` segments are sealed.
fn answer(dir: &Path, sealed: u64, ask: Ask) -> io::Result<Told> {
    match ask {
        Ask::List { from } => {
            let end = sealed.saturating_add(1).min(from.saturating_add(LIST_MAX as u64));
            let listed = |number| {
                let (header, footer) = segments::seed::read_sealed(dir, number)?;
                Ok(Listed { bytes: header.bytes, digest: footer.digest })
            };
            let segments = (from.max(1)..end).map(listed).collect::<io::Result<_>>()?;
            Ok(Told::List { last: sealed, segments, state: None })
        }
        Ask::Piece { what: What::Segment(number @ 1..), offset, length } if number <= sealed => {
            let file = File::open(dir.join(segments::segment_name(number)))?;
            let mut bytes = vec![0; length as usize];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(Told::Piece(bytes))
        }
        Ask::Piece { what, .. } => {
            Ok(Told::Gone(format!("{what:?} is not here; segments 1 to {sealed} are sealed")))
        }
    }
}

/// What decodes encodes to the same bytes: for fuzzing.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(ask) = Ask::decode(bytes) {
        assert_eq!(ask.encode(), bytes, "a question has one encoding");
    }
    if let Ok(told) = Told::decode(bytes) {
        assert_eq!(told.encode(), bytes, "an answer has one encoding");
    }
}

/// One of each, for fuzzing.
pub fn seeds() -> Vec<Vec<u8>> {
    let listed = Listed { bytes: 1 << 26, digest: Digest([7; 32]) };
    let state = State { lsn: Lsn(7), ledger: listed, rows: 104, lines: 900 };
    vec![
        Ask::List { from: 3 }.encode(),
        Ask::Piece { what: What::Segment(2), offset: 1 << 20, length: PIECE_MAX }.encode(),
        Ask::Piece { what: What::Lines(Lsn(2)), offset: 0, length: 1 }.encode(),
        Told::List { last: 9, segments: vec![listed; 3], state: None }.encode(),
        Told::List { last: 0, segments: Vec::new(), state: Some(state) }.encode(),
        Told::Piece(vec![1, 2, 3]).encode(),
        Told::Gone("segment 3 is not sealed here".into()).encode(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn listed() -> impl Strategy<Value = Listed> {
        (any::<u64>(), any::<[u8; 32]>()).prop_map(|(bytes, digest)| Listed { bytes, digest: Digest(digest) })
    }

    fn asks() -> impl Strategy<Value = Ask> {
        prop_oneof![
            any::<u64>().prop_map(|from| Ask::List { from }),
            (1..=4_u8, any::<u64>(), any::<u64>(), 1..=PIECE_MAX).prop_map(
                |(code, number, offset, length)| {
                    Ask::Piece { what: What::of(code, number).expect("a code"), offset, length }
                }
            ),
        ]
    }

    fn states() -> impl Strategy<Value = State> {
        (any::<u64>(), listed(), any::<u64>(), any::<u64>()).prop_map(|(lsn, ledger, rows, lines)| State {
            lsn: Lsn(lsn),
            ledger,
            rows,
            lines,
        })
    }

    fn tolds() -> impl Strategy<Value = Told> {
        prop_oneof![
            (any::<u64>(), proptest::collection::vec(listed(), 0..20), proptest::option::of(states()))
                .prop_map(|(last, segments, state)| Told::List { last, segments, state }),
            proptest::collection::vec(any::<u8>(), 0..300).prop_map(Told::Piece),
            "[a-zà-ÿ ]{0,200}".prop_map(Told::Gone),
        ]
    }

    proptest! {
        #[test]
        fn everything_comes_back_and_nothing_else_passes(ask in asks(), told in tolds(), cut in any::<prop::sample::Index>()) {
            let (asked, answered) = (ask.encode(), told.encode());
            prop_assert!(asked.len() <= ASK_MAX && answered.len() <= TOLD_MAX);
            prop_assert_eq!(Ask::decode(&asked), Ok(ask));
            prop_assert_eq!(Told::decode(&answered), Ok(told.clone()));
            prop_assert!(Ask::decode(&asked[..cut.index(asked.len())]).is_err());
            prop_assert!(Ask::decode(&[&asked[..], &[0]].concat()).is_err());
            if !matches!(told, Told::Piece(_)) {
                prop_assert!(Told::decode(&answered[..cut.index(answered.len())]).is_err());
                prop_assert!(Told::decode(&[&answered[..], &[0]].concat()).is_err());
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            fuzz(&bytes);
        }
    }

    #[test]
    fn too_much_is_refused() {
        let ask = |length| Ask::Piece { what: What::Segment(1), offset: 0, length }.encode();
        assert!(Ask::decode(&ask(0)).is_err());
        assert!(Ask::decode(&ask(PIECE_MAX + 1)).is_err());
        let mut list = Told::List { last: 1, segments: Vec::new(), state: None }.encode();
        list[9..11].copy_from_slice(&(LIST_MAX as u16 + 1).to_le_bytes());
        assert_eq!(Told::decode(&list), Err(DecodeError::OutOfBounds("count")));
        let long = Told::Gone("é".repeat(REASON_MAX)).encode();
        assert!(matches!(Told::decode(&long), Ok(Told::Gone(why)) if why.len() == REASON_MAX));
        assert!(Told::decode(&[&[2][..], &vec![0; PIECE_MAX as usize + 1]].concat()).is_err());
    }

    #[test]
    fn only_what_is_sealed_is_given() {
        let dir = tempfile::tempdir().unwrap();
        let piece = |number| Ask::Piece { what: What::Segment(number), offset: 0, length: 1 };
        for sealed in [0, 3] {
            assert!(matches!(answer(dir.path(), sealed, piece(sealed + 1)), Ok(Told::Gone(_))));
        }
        assert!(matches!(answer(dir.path(), 3, piece(0)), Ok(Told::Gone(_))));
        // Sealed, and not there.
        assert!(answer(dir.path(), 3, piece(1)).is_err());
        let none = answer(dir.path(), 0, Ask::List { from: 1 }).unwrap();
        assert_eq!(none, Told::List { last: 0, segments: Vec::new(), state: None });
        for from in [4, u64::MAX] {
            let none = answer(dir.path(), 3, Ask::List { from }).unwrap();
            assert_eq!(none, Told::List { last: 3, segments: Vec::new(), state: None });
        }
    }
}
