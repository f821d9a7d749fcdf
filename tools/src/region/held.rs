//! What a survivor holds of other regions' logs: everything that it took in, item by item, in its own log, and its own log as others
//! get it. It is copied into a folder of ours once, so that each log can be read by itself and from its beginning.
//!
//! ```text
//! SCRATCH/REGION      count x (u32 bytes, item)
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use engine::codec::Reader;
use engine::event::{Declaration, Event, Item, Payload, Position, Record, ship};
use engine::limits::EVENT_MAX;
use engine::log::Lsn;
use segments::shipment::known::Known;

use crate::audit::scratch::Scratch;
use crate::audit::source::{Begin, Faulty, LogFiles};
use crate::audit::{Place, Wrong};
use crate::report::{Exit, Fault};
use crate::ui::{Ui, Unit};

/// Items read at a time.
const PIECE: usize = 1024;
/// Most bytes of one.
const ITEM_MAX: usize = EVENT_MAX + 64;

/// Everything that a survivor's log holds.
pub struct Held {
    scratch: Scratch,
    /// The survivor's own region.
    pub survivor: String,
    /// Regions, and where what is held of each ends.
    pub logs: BTreeMap<String, Position>,
}

struct Stream {
    out: BufWriter<File>,
    at: Position,
}

impl Stream {
    fn put(&mut self, items: &[Item]) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        for item in items {
            bytes.clear();
            item.encode(&mut bytes);
            self.out.write_all(&(bytes.len() as u32).to_le_bytes())?;
            self.out.write_all(&bytes)?;
            self.at = self.at.after(item);
        }
        Ok(())
    }
}

/// The survivor's log while it is read.
struct Split {
    folder: PathBuf,
    survivor: String,
    streams: BTreeMap<String, Stream>,
    known: Known,
    /// Whether the survivor's own log is as others got it. Where it withheld something, others got what only its node makes of its
    /// leaves, and its shipments have that.
    own: bool,
    /// Records whose submissions no `Attested` covers yet.
    waiting: VecDeque<(Lsn, Record)>,
}

impl Split {
    fn take(&mut self, lsn: Lsn, bytes: &[u8]) -> Result<(), String> {
        let record = Record::decode(bytes).map_err(|error| error.to_string())?;
        if let Payload::Events(events) = &record.payload {
            for event in events {
                let Event::Imported(imported) = event else { continue };
                let stream = self.stream(&imported.origin)?;
                // What did not fit was not folded in there either.
                if stream.at == imported.from {
                    stream.put(&imported.items).map_err(|error| error.to_string())?;
                }
            }
        }
        if withholds(&record) {
            self.own = false;
        }
        self.known.look(lsn, &record)?;
        self.waiting.push_back((lsn, record));
        let survivor = self.survivor.clone();
        while let Some((_, record)) = self.waiting.pop_front_if(|(lsn, _)| *lsn <= self.known.upto()) {
            let items = ship(record, &mut self.known.take());
            if !self.own {
                continue;
            }
            self.stream(&survivor)?.put(&items).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn stream(&mut self, region: &str) -> Result<&mut Stream, String> {
        if !self.streams.contains_key(region) {
            let file = File::create(self.folder.join(region)).map_err(|error| error.to_string())?;
            let stream = Stream { out: BufWriter::with_capacity(1 << 20, file), at: Position::FIRST };
            self.streams.insert(region.to_owned(), stream);
        }
        Ok(self.streams.get_mut(region).expect("it was put there"))
    }
}

/// Whether the log says in it that some of its submissions stay where they are.
fn withholds(record: &Record) -> bool {
    let withheld = |event: &Event| matches!(event, Event::Declared(declared) if matches!(declared.what, Declaration::Withheld { .. }));
    matches!(&record.payload, Payload::Events(events) if events.iter().any(withheld))
}

impl Held {
    /// Reads a survivor's data directory, or a copy of it.
    ///
    /// # Errors
    /// Its log cannot be read, or is not what it must be.
    pub fn read(data: &Path, ui: Ui) -> Result<Held, Fault> {
        let dir = data.join("log");
        let bad = |why: String| {
            let next = format!("worm verify {}", data.display());
            Fault::new("the survivor's log is not whole", dir.display(), why, next).exit(Exit::Tampered)
        };
        let opened = |faulty: Faulty| match faulty {
            Faulty::Unusable(fault) => fault,
            Faulty::Wrong(wrong) => bad(wrong.to_string()),
            Faulty::Damaged(damage) => bad(damage.to_string()),
            Faulty::Missing(what) => bad(what).exit(Exit::Missing),
        };
        let files = LogFiles::open(&dir).map_err(opened)?;
        let (scratch, survivor) = (Scratch::new(None)?, files.region().to_owned());
        let mut split = Split {
            folder: scratch.0.clone(),
            survivor: survivor.clone(),
            streams: BTreeMap::new(),
            known: Known::after(Lsn::ZERO),
            own: true,
            waiting: VecDeque::new(),
        };
        let mut progress = ui.progress("survivor", files.bytes(), Unit::Bytes);
        let mut read = 0;
        let tail = files.records(Begin::FIRST, &mut |lsn, place: Place, payload| {
            let upto = files.read_up_to(place);
            progress.add(upto.saturating_sub(read));
            read = read.max(upto);
            split.take(lsn, payload).map_err(|found| {
                let expected = "a record that is shipped or taken in".to_owned();
                Wrong { lsn, place: Some(place), part: "record", expected, found }
            })
        });
        progress.finish();
        tail.map_err(opened)?;
        if !split.own {
            split.streams.remove(&survivor);
        }
        let mut logs = BTreeMap::new();
        for (region, mut stream) in split.streams {
            let path = split.folder.join(&region);
            stream.out.flush().map_err(|error| Fault::write(&path, error))?;
            logs.insert(region, stream.at);
        }
        Ok(Held { scratch, survivor, logs })
    }

    /// One of the logs, from its beginning.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn items(&self, region: &str) -> Result<Items, Fault> {
        Items::open(self.scratch.0.join(region))
    }
}

/// One region's items, in order.
pub struct Items {
    path: PathBuf,
    file: BufReader<File>,
}

impl Items {
    fn open(path: PathBuf) -> Result<Items, Fault> {
        let file = File::open(&path).map_err(|error| Fault::read(&path, error))?;
        Ok(Items { path, file: BufReader::with_capacity(1 << 20, file) })
    }

    /// From the beginning again.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn rewind(&mut self) -> Result<(), Fault> {
        *self = Items::open(self.path.clone())?;
        Ok(())
    }

    /// The next ones; none at the end.
    ///
    /// # Errors
    /// The file system refuses, or somebody changed the file.
    pub fn some(&mut self) -> Result<Vec<Item>, Fault> {
        let mut items = Vec::new();
        let fault = |path: &Path, why: &dyn std::fmt::Display| Fault::read(path, why.to_string());
        while items.len() < PIECE {
            let mut length = [0; 4];
            match self.file.read_exact(&mut length) {
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
                read => read.map_err(|error| fault(&self.path, &error))?,
            }
            let length = u32::from_le_bytes(length) as usize;
            if length > ITEM_MAX {
                return Err(fault(&self.path, &"an item is larger than any"));
            }
            let mut bytes = vec![0; length];
            self.file.read_exact(&mut bytes).map_err(|error| fault(&self.path, &error))?;
            items.push(Item::read(&mut Reader::new(&bytes)).map_err(|error| fault(&self.path, &error))?);
        }
        Ok(items)
    }
}
