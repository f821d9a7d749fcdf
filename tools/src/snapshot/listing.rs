//! The listing of a snapshot: which files it has, how long each is, and its digest.
//!
//! ```text
//! flk snapshot 1
//! cluster = 32 hex digits
//! region = name
//! last = number of its last record
//! file = length, BLAKE3 of the file in hex, name      one line for each, in order of their names
//! digest = BLAKE3 of everything before this line, hex
//! ```
//! It is written when everything else is durable: a directory without one is no snapshot. What parses is exactly what
//! writing it again gives.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use engine::codec::{hex, unhex};
use engine::log::Digest;

use crate::report::{Exit, Fault};

/// File name of the listing.
pub const LISTING: &str = "SNAPSHOT";

const FIRST: &str = "flk snapshot 1";
/// Longest listing, bytes: room for half a million files.
const BYTES_MAX: u64 = 64 << 20;
/// Longest name of a file, bytes.
const NAME_MAX: usize = 128;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the snapshot, with `/` between folders.
    pub name: String,
    /// Length.
    pub bytes: u64,
    /// BLAKE3 of all of it.
    pub digest: Digest,
}

/// What a snapshot says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The cluster whose log it is.
    pub cluster: [u8; 16],
    /// The log's region.
    pub region: String,
    /// Its last record.
    pub last: u64,
    /// Its files, by name.
    pub files: Vec<Entry>,
}

/// Whether a name stays within the snapshot and means the same everywhere.
fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    name.len() <= NAME_MAX && name.split('/').all(part)
}

impl Listing {
    /// The listing's text.
    #[must_use]
    pub fn text(&self) -> String {
        use std::fmt::Write as _;
        let mut out = String::new();
        let (cluster, region, last) = (hex(&self.cluster), &self.region, self.last);
        let _ = write!(out, "{FIRST}\ncluster = {cluster}\nregion = {region}\nlast = {last}\n");
        for Entry { name, bytes, digest } in &self.files {
            let _ = writeln!(out, "file = {bytes} {digest} {name}");
        }
        let digest = blake3::hash(out.as_bytes());
        let _ = writeln!(out, "digest = {digest}");
        out
    }

    /// Reads a listing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Listing, String> {
        let mut lines = text.lines();
        if lines.next() != Some(FIRST) {
            return Err(format!("it does not begin with '{FIRST}'"));
        }
        let mut field = |name: &str| {
            let line = lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(" = "));
            line.map(str::to_owned).ok_or_else(|| format!("no {name}"))
        };
        let cluster = unhex(&field("cluster")?).ok_or("cluster is not 32 hex digits")?;
        let region = field("region")?;
        let last = field("last")?.parse().map_err(|_| "last is not a number")?;
        let mut files: Vec<Entry> = Vec::new();
        for line in lines {
            let Some(line) = line.strip_prefix("file = ") else { break };
            let parts: Vec<&str> = line.split(' ').collect();
            let [bytes, digest, name] = parts[..] else { return Err(format!("'{line}' is no file")) };
            let entry = Entry {
                name: name.to_owned(),
                bytes: bytes.parse().map_err(|_| format!("'{bytes}' is no length"))?,
                digest: Digest::from_hex(digest).ok_or_else(|| format!("'{digest}' is no digest"))?,
            };
            if !is_name(name) || files.last().is_some_and(|before| before.name >= entry.name) {
                return Err(format!("'{name}' is no name, or not in its place"));
            }
            files.push(entry);
        }
        let listing = Listing { cluster, region, last, files };
        // Also the digest, and whatever stands behind it.
        if listing.text() != text { Err("its digest does not hold".into()) } else { Ok(listing) }
    }

    /// Reads the listing of the snapshot in `dir`.
    ///
    /// # Errors
    /// There is none (exit code 3), or it is damaged (exit code 2).
    pub fn read(dir: &Path) -> Result<Listing, Fault> {
        let path = dir.join(LISTING);
        let next = "name a directory that `flk snapshot save` finished";
        let mut text = String::new();
        match File::open(&path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(
                    Fault::new("no snapshot", dir.display(), "it has no listing", next).exit(Exit::Missing)
                );
            }
            Err(error) => return Err(Fault::read(&path, error)),
        }
        Listing::parse(&text)
            .map_err(|why| Fault::new("damaged listing", path.display(), why, next).exit(Exit::Tampered))
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// Length and digest of a file.
///
/// # Errors
/// When it cannot be read.
pub fn digest(path: &Path, done: &mut dyn FnMut(u64)) -> std::io::Result<(u64, Digest)> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let (mut buffer, mut bytes) = (vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((bytes, Digest(*hasher.finalize().as_bytes()))),
            read => {
                hasher.update(&buffer[..read]);
                bytes += read as u64;
                done(read as u64);
            }
        }
    }
}

/// What does not parse is refused, and what does is written the same: for fuzzing.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(listing) = Listing::parse(text)
    {
        assert_eq!(listing.text(), text, "a listing has one form");
    }
}

/// Listings, for fuzzing.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let file = |name: &str| Entry { name: name.into(), bytes: 8192, digest: Digest([7; 32]) };
    let files = vec![file("keys/log.vkey"), file("log/00000000000000000001.seg")];
    let listing = Listing { cluster: [3; 16], region: "default".into(), last: 9, files };
    let none = Listing { files: Vec::new(), ..listing.clone() };
    vec![listing.text().into_bytes(), none.text().into_bytes()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn listings() -> impl Strategy<Value = Listing> {
        let file =
            ("[a-z][a-z0-9._-]{0,9}(/[A-Z0-9][a-z0-9._-]{0,20}){0,2}", any::<u64>(), any::<[u8; 32]>());
        let files = proptest::collection::btree_map(file.0, (file.1, file.2), 0..20);
        (any::<[u8; 16]>(), "[a-z0-9-]{1,20}", any::<u64>(), files).prop_map(
            |(cluster, region, last, files)| {
                let entry = |(name, (bytes, digest))| Entry { name, bytes, digest: Digest(digest) };
                Listing { cluster, region, last, files: files.into_iter().map(entry).collect() }
            },
        )
    }

    proptest! {
        #[test]
        fn a_listing_comes_back_and_no_other_byte_passes(
            listing in listings(), at in any::<prop::sample::Index>(), bit in 0..7_u8,
        ) {
            let text = listing.text();
            prop_assert_eq!(Listing::parse(&text), Ok(listing));
            let mut bytes = text.clone().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(Listing::parse(&String::from_utf8(bytes).expect("seven bits")).is_err());
            prop_assert!(Listing::parse(&text[..at]).is_err());
            prop_assert!(Listing::parse(&(text + "\n")).is_err());
        }
    }

    #[test]
    fn names_stay_within_the_snapshot() {
        for name in
            ["../x", "/etc/passwd", "log/../../x", "log//x", "", "a b", ".hidden", "log/..", &"x".repeat(200)]
        {
            let digest = Digest([1; 32]);
            let files = vec![Entry { name: name.to_owned(), bytes: 1, digest }];
            let listing = Listing { cluster: [1; 16], region: "r".into(), last: 1, files };
            assert!(Listing::parse(&listing.text()).is_err(), "{name}");
        }
    }
}
