//! The task that writes an overview beside each closed audit file, on every node.
//!
//! `HHMMSS.overview` says tenant by tenant what stands in `HHMMSS.jsonl` (`engine::leaf::overview`). It follows from the
//! file alone, so the task is "each closed file has one": a crash loses nothing, and a second time gives the same bytes.
//! L1: one file is read at a time, line by line.

use crate::node::Node;
use engine::leaf::overview::Overview;
use engine::log::Digest;
use sha2::{Digest as _, Sha256};
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often closed files are looked for.
const TICK: Duration = Duration::from_secs(1);
/// Lines between two rests: less than a millisecond's work. Whoever waits for the processor gets it then, which a low priority
/// alone gives him only some milliseconds later.
const STRETCH: u64 = 512;
/// How many times as long as the work before it a rest takes.
const REST: u32 = 3;
/// How long the task waits after a failure.
const PAUSE: Duration = Duration::from_secs(30);

/// Writes what is missing until the task is dropped.
pub async fn run(node: Arc<Node>) {
    // Files of leaves below this one have their overviews.
    let mut upto = 0;
    loop {
        let mut spans = node.fold.projector.spans();
        // The last one may still grow.
        spans.pop();
        let begin = spans.partition_point(|span| span.first + span.count <= upto);
        let mut wait = TICK;
        for span in &spans[begin..] {
            let path = node.config.worm_path().join(&span.path);
            let shown = path.display().to_string();
            let done = tokio::task::spawn_blocking(move || write(&path)).await;
            if let Err(error) = done.map_err(io::Error::other).flatten() {
                tracing::warn!(%error, file = shown, "no overview is written; it is tried again");
                wait = PAUSE;
                break;
            }
            upto = span.first + span.count;
        }
        tokio::time::sleep(wait).await;
    }
}

/// Writes the overview of a file, unless it is there.
fn write(path: &Path) -> io::Result<()> {
    let beside = path.with_extension("overview");
    if beside.try_exists()? {
        return Ok(());
    }
    crate::projections::replace(&beside, &overview(path)?)
}

/// # Errors
/// When the file cannot be read, or holds what is no leaf.
fn overview(path: &Path) -> io::Result<Vec<u8>> {
    let mut reader = BufReader::with_capacity(256 << 10, std::fs::File::open(path)?);
    let (mut view, mut sum, mut line) = (Overview::default(), Sha256::new(), Vec::new());
    let mut begun = Instant::now();
    while reader.read_until(b'\n', &mut line)? > 0 {
        sum.update(&line);
        let counted = view.add_line(line.strip_suffix(b"\n").unwrap_or(&line));
        counted.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        line.clear();
        if view.leaves.is_multiple_of(STRETCH) {
            #[allow(clippy::disallowed_methods)] // a thread for what can wait
            std::thread::sleep(REST * begun.elapsed());
            begun = Instant::now();
        }
    }
    Ok(view.encode(&Digest(sum.finalize().into())))
}
