//! Where evidence is fetched from: a server, a folder laid out as C2SP tlog-tiles (an export, a pack, a mounted
//! bucket), or a data directory on a stick. Nothing that comes from any of them is believed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::checkpoint::KeyStep;
use engine::leaf::Leaf;
use engine::limits::{LEAF_MAX, NOTE_MAX};
use engine::tree::tiles::{Kind, Tile, WIDTH, bundle_entries, bundle_push};

use super::anchors::WITNESSED;
use super::tiles::{Tiles, read_file, tile_max};
use crate::agent::send::retry_after;
use crate::audit::home::{Home, HomeArgs};
use crate::audit::keychain;
use crate::http::{Answer, Client};
use crate::report::{Exit, Fault};
use crate::worm::export::region;
use crate::worm::lines::{Lines, Next, files};

/// Times a server may say "later" to one request.
const TRIES: u32 = 6;

/// Files beside a checkpoint that say when it was there: RFC 3161 tokens, the chain of who issued them, OpenTimestamps.
pub const STAMPS: [&str; 3] = ["checkpoint.tsr", "checkpoint.tsa.pem", "checkpoint.ots"];

/// A source of evidence.
pub enum Source {
    /// A server: the client, the path of the log, and the token for entry bundles.
    Server(Box<Client>, String, Option<String>),
    /// A folder with `checkpoint` and `tile/`.
    Folder(PathBuf),
    /// A data directory: its folder with the tiles, and its WORM files.
    Home(PathBuf, Home, Box<Window>),
}

/// Where the lines of the WORM files were read up to.
pub struct Window {
    lines: Option<Lines>,
    next: u64,
}

impl Source {
    /// Opens what an auditor names: `http://host:port[/tlog/REGION]`, the same with https, or a directory.
    ///
    /// # Errors
    /// There is nothing of these.
    pub fn open(
        name: &str,
        asked: Option<&String>,
        token: Option<String>,
        (timeout, ca): (u64, Option<&Path>),
    ) -> Result<Source, Fault> {
        if name.starts_with("http://") || name.starts_with("https://") {
            let mut client = Client::trusting(name, Duration::from_secs(timeout.max(1)), ca)?;
            let below =
                name.trim_end_matches('/').split_once("//").is_some_and(|(_, rest)| rest.contains('/'));
            // A path in the address is the log's own; else the server's routes are known.
            let path = if below {
                String::new()
            } else {
                format!("/tlog/{}", asked.map_or("default", String::as_str))
            };
            // A mistyped address is told apart from a log without entries before anything is written.
            ask(&mut client, &format!("{path}/vkey"), None)?;
            return Ok(Source::Server(Box::new(client), path, token));
        }
        let dir = Path::new(name);
        if dir.join("checkpoint").is_file() {
            return Ok(Source::Folder(dir.to_owned()));
        }
        if dir.join("log").is_dir() {
            let home = Home::open(&HomeArgs::of(dir))?;
            let region = region(&home, asked)?;
            let tiles = dir.join("tlog").join(region);
            return Ok(Source::Home(tiles, home, Box::new(Window { lines: None, next: 0 })));
        }
        let why =
            if dir.is_dir() { "it holds no log and no checkpoint" } else { "there is no such directory" };
        Err(Fault::new(
            "no evidence there",
            name,
            why,
            "name http://host:port, a data directory, or an export",
        ))
    }

    /// The signed tree head, newest there is.
    ///
    /// # Errors
    /// There is none (exit code 3), or it cannot be read.
    pub fn checkpoint(&mut self) -> Result<Vec<u8>, Fault> {
        self.small("checkpoint")?.ok_or_else(|| {
            let next = "a node writes one after its first submissions";
            Fault::new("no checkpoint", self.name(), "there is none yet", next).exit(Exit::Missing)
        })
    }

    /// The public key, as claimed.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn vkey(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        match self {
            Source::Home(_, home, _) => read_file(&home.vkey(), NOTE_MAX as u64),
            _ => self.small("vkey"),
        }
    }

    /// The statements by which one set of the log's keys follows another, and their bytes.
    ///
    /// # Errors
    /// They cannot be read, or one is none (exit code 2).
    pub fn statements(&mut self) -> Result<Vec<(KeyStep, Vec<u8>)>, Fault> {
        keychain::collect(|name| self.small(name))
    }

    /// What stands beside the checkpoint and says when it was there, by name.
    ///
    /// # Errors
    /// It cannot be read. A server that has none says 404.
    pub fn stamps(&mut self) -> Result<Vec<(&'static str, Vec<u8>)>, Fault> {
        let mut found = Vec::new();
        if let Source::Server(..) = self {
            return Ok(found);
        }
        for name in STAMPS {
            found.extend(self.small(name)?.map(|bytes| (name, bytes)));
        }
        Ok(found)
    }

    /// Copies what others said of the checkpoints of these sizes.
    ///
    /// # Errors
    /// It cannot be read, or not be written.
    pub fn anchors(&mut self, sizes: std::ops::RangeInclusive<u64>, out: &Path) -> Result<u64, Fault> {
        let names = match self {
            Source::Folder(dir) | Source::Home(dir, ..) => super::anchors::names_in(dir)?,
            Source::Server(client, path, _) => {
                let list = ask(client, &format!("{path}/anchors"), None)?.unwrap_or_default();
                String::from_utf8_lossy(&list).lines().map(str::to_owned).collect()
            }
        };
        super::anchors::copy(names, sizes, out, |name| match self.small(name)? {
            // A server of ours gives it under another name.
            None if name == WITNESSED && matches!(self, Source::Server(..)) => {
                self.small("checkpoint?witnessed")
            }
            found => Ok(found),
        })
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Source::Server(client, path, _) => format!("{}{path}", client.url()),
            Source::Folder(dir) => dir.display().to_string(),
            Source::Home(_, home, _) => home.dir().display().to_string(),
        }
    }

    fn small(&mut self, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        match self {
            Source::Server(client, path, _) => ask(client, &format!("{path}/{name}"), None),
            Source::Folder(dir) | Source::Home(dir, ..) => read_file(&dir.join(name), NOTE_MAX as u64 * 4),
        }
    }

    /// The bundles that hold the entries of a period and the entries right before and after it, in a log of `size`
    /// entries. A source that lies here is found out when the pack is checked: the entries at the borders tell.
    ///
    /// # Errors
    /// A bundle is missing or cannot be read.
    pub fn bundles_of(&mut self, period: (u64, u64), size: u64) -> Result<std::ops::Range<u64>, Fault> {
        let all = size.div_ceil(WIDTH);
        if all == 0 {
            return Ok(0..0);
        }
        let first = self.first_entry(size, &|time| time >= period.0)?;
        let after = self.first_entry(size, &|time| time > period.1)?;
        let from = first.saturating_sub(1) / WIDTH;
        let to = after.min(size - 1) / WIDTH + 1;
        Ok(from..to)
    }

    /// Number of the first entry whose time is `late` enough, by halving: times never go back. `size` if none is.
    fn first_entry(&mut self, size: u64, late: &dyn Fn(u64) -> bool) -> Result<u64, Fault> {
        if let Source::Home(_, home, _) = self {
            return first_line(&home.worm(), size, late);
        }
        let (mut low, mut high) = (0, size.div_ceil(WIDTH));
        let mut found = size;
        while low < high {
            let middle = low + (high - low) / 2;
            let times = self.times(middle, size)?;
            match times.iter().position(|time| late(*time)) {
                Some(at) => {
                    found = middle * WIDTH + at as u64;
                    high = middle;
                }
                None => low = middle + 1,
            }
        }
        Ok(found)
    }

    fn times(&mut self, index: u64, size: u64) -> Result<Vec<u64>, Fault> {
        let tile = Tile::at(Kind::Entries, index, size).expect("a bundle of the tree");
        let bad = |why: &str| {
            Fault::new("this is no entry bundle", tile, why, "compare with a copy of the log")
                .exit(Exit::Tampered)
        };
        let bytes = self.tile(tile)?.ok_or_else(|| bad("it is missing").exit(Exit::Missing))?;
        let entries = bundle_entries(&bytes).ok_or_else(|| bad("its lengths do not add up"))?;
        entries
            .into_iter()
            .map(|entry| Leaf::parse(entry).map(|leaf| leaf.time_ms).map_err(|error| bad(&error.to_string())))
            .collect()
    }
}

impl Tiles for Source {
    fn tile(&mut self, tile: Tile) -> Result<Option<Vec<u8>>, Fault> {
        match self {
            Source::Server(client, path, token) => {
                let token = token.as_deref().filter(|_| tile.kind == Kind::Entries);
                ask(client, &format!("{path}/{tile}"), token)
            }
            Source::Home(_, home, window) if tile.kind == Kind::Entries => {
                window.bundle(&home.worm(), tile).map_err(|error| Fault::read(&home.worm(), error))
            }
            Source::Folder(dir) | Source::Home(dir, ..) => from_folder(dir, tile),
        }
    }
}

/// A partial tile may have become a full one since the checkpoint: then it is its beginning.
fn from_folder(dir: &Path, tile: Tile) -> Result<Option<Vec<u8>>, Fault> {
    let max = tile_max(tile);
    if let Some(bytes) = read_file(&dir.join(tile.path()), max)? {
        return Ok(Some(bytes));
    }
    if tile.is_full() {
        return Ok(None);
    }
    let whole = Tile { width: WIDTH as u16, ..tile };
    let Some(bytes) = read_file(&dir.join(whole.path()), max)? else { return Ok(None) };
    if let Kind::Hashes { .. } = tile.kind {
        return Ok(bytes.get(..32 * usize::from(tile.width)).map(<[u8]>::to_vec));
    }
    let Some(entries) = bundle_entries(&bytes) else { return Ok(Some(bytes)) };
    let mut part = Vec::new();
    entries.iter().take(tile.width.into()).for_each(|entry| bundle_push(&mut part, entry));
    Ok(Some(part))
}

/// One GET. 404 is `None`; "later" is asked again a few times, as long as the server says.
fn ask(client: &mut Client, path: &str, token: Option<&str>) -> Result<Option<Vec<u8>>, Fault> {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<(&str, &str)> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
    let place = format!("{}{path}", client.url());
    let again = "the same command again goes on where this one ended";
    for attempt in 1.. {
        let answer = client
            .request("GET", path, &headers, &[])
            .map_err(|error| Fault::new("the server did not answer", &place, error, again))?;
        match answer.status {
            200 => return Ok(Some(answer.body)),
            404 => return Ok(None),
            401 | 403 => {
                let why = format!("it answered {}: entry bundles show every tenant's entries", answer.status);
                let next = "ask the operator for the auditor's token; give it in a file with --token-file";
                return Err(Fault::new("the server wants to know who asks", &place, why, next));
            }
            429 | 502 | 503 | 504 if attempt < TRIES => std::thread::sleep(pause(&answer, attempt)),
            status => {
                return Err(Fault::new("the server refuses", &place, format!("it answered {status}"), again));
            }
        }
    }
    unreachable!("the loop ends with an answer or a fault")
}

fn pause(answer: &Answer, attempt: u32) -> Duration {
    let own = Duration::from_millis(100 << attempt.min(5));
    retry_after(answer).unwrap_or(own).clamp(Duration::from_millis(100), Duration::from_secs(10))
}

impl Window {
    /// The lines of a bundle, with their lengths. Goes forward; what lies behind is found from the beginning again.
    fn bundle(&mut self, dir: &Path, tile: Tile) -> std::io::Result<Option<Vec<u8>>> {
        if self.lines.is_none() || tile.first() < self.next {
            (self.lines, self.next) = (Some(Lines::new(files(dir)?)), 0);
        }
        let Some(lines) = &mut self.lines else { return Ok(None) };
        let mut bundle = Vec::new();
        while self.next < tile.first() + u64::from(tile.width) {
            let Next::Line(line, _) = lines.next_line()? else {
                self.lines = None;
                return Ok(None);
            };
            // A line that is too long to be a leaf is left as it is for whoever checks: the bundle will not hold.
            if self.next >= tile.first() && line.len() <= LEAF_MAX {
                bundle_push(&mut bundle, line);
            }
            self.next += 1;
        }
        Ok(Some(bundle))
    }
}

fn first_line(dir: &Path, size: u64, late: &dyn Fn(u64) -> bool) -> Result<u64, Fault> {
    let read = |error| Fault::read(dir, error);
    let mut lines = Lines::new(files(dir).map_err(read)?);
    for seq in 0..size {
        let Next::Line(line, place) = lines.next_line().map_err(read)? else { return Ok(size) };
        let leaf = Leaf::parse(line).map_err(|error| {
            let place = format!("{}, offset {:#x}", place.path.display(), place.offset);
            Fault::new("not an audit leaf", place, error, "worm verify names what is wrong")
                .exit(Exit::Tampered)
        })?;
        if late(leaf.time_ms) {
            return Ok(seq);
        }
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_has_published_nothing_yet_is_no_other_thing() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Source::open(&dir.path().display().to_string(), None, None, (1, None)).err().unwrap();
        assert_eq!(open().what, "no evidence there");
        std::fs::create_dir(dir.path().join("log")).unwrap();
        assert_eq!((open().what.as_str(), open().exit), ("no published tree", Exit::Missing));
    }
}
