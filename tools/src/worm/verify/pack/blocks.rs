//! Stage 5, blocks of Bitcoin: OpenTimestamps files in a pack, checked as far as that goes without a network.
//!
//! A file leads from a checkpoint to the promise of a calendar, or on to the Merkle root of a block. Which root a block has is
//! for the auditor to say, with headers from a node of Bitcoin or a block explorer: without them a block is a claim, and a
//! promise is never more than one.

use engine::ots::{Attestation, Proof};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::blocks::Headers;
use crate::pack::anchors::{names_in, size_of};

/// How far the time in a block's header may be from when it was made, milliseconds: the rules of Bitcoin allow two hours.
const BLOCK_APART_MS: i64 = 7_200_000;

/// What one file comes to.
enum Found {
    /// The tiles in the pack do not connect its checkpoint.
    Loose,
    /// So many calendars promise.
    Promised(usize),
    /// A block is named whose header is not at hand.
    Claimed { size: u64, height: u64, root: String },
    /// A block whose header is at hand has the root.
    Held { size: u64, height: u64, time: jiff::Timestamp },
}

impl Stages<'_> {
    pub(super) fn blocks(
        &mut self,
        signed: &Signed,
        vkey: Option<&LogKeys>,
        headers: Option<&Headers>,
    ) -> Result<(), Fault> {
        let name = "  blocks";
        let mut found = Vec::new();
        for (file, over) in self.proofs()? {
            match self.proof(&file, &over, signed, vkey, headers)? {
                Ok(one) => found.push(one),
                Err((exit, why)) => {
                    self.report.data["blocks"] = json!({"place": file, "found": why});
                    self.report.fail(name, exit, format!("{file}: {why}"));
                    return Ok(());
                }
            }
        }
        let of = thousands(signed.checkpoint.size);
        let held = found.iter().filter_map(|one| match one {
            Found::Held { size, height, time } => Some((*size, *height, *time)),
            _ => None,
        });
        let claimed = found.iter().filter_map(|one| match one {
            Found::Claimed { size, height, root } => Some((*size, *height, root)),
            _ => None,
        });
        let promised = found.iter().filter_map(|one| match one {
            Found::Promised(calendars) => Some(*calendars),
            _ => None,
        });
        let loose = found.iter().filter(|one| matches!(one, Found::Loose)).count();
        self.report.data["blocks"] = json!({
            "held": held.clone().map(|(size, height, time)| json!({"size": size, "height": height, "time": time.to_string()})).collect::<Vec<_>>(),
            "claimed": claimed.clone().map(|(size, height, root)| json!({"size": size, "height": height, "merkle_root": root})).collect::<Vec<_>>(),
            "promised": promised.clone().count(), "unconnected": loose,
        });
        if let Some((size, height, time)) = held.max_by_key(|(size, ..)| *size) {
            let detail = format!(
                "{} of {of} entries existed before block {height} of Bitcoin, {time} +-2 h: your header has its Merkle root",
                thousands(size)
            );
            self.report.check(name, State::Ok, detail);
            return Ok(());
        }
        let most = claimed.max_by_key(|(size, ..)| *size);
        let detail = match (most, promised.max()) {
            (Some((size, height, root)), _) => format!(
                "{} of {of} entries are under block {height} of Bitcoin if its Merkle root is {root}: look it up, or give its \
                 header with --bitcoin-headers",
                thousands(size)
            ),
            (None, Some(calendars)) => {
                format!(
                    "{calendars} calendars promise a block, and none is named yet: fetch the pack again in some hours"
                )
            }
            (None, None) if loose > 0 => {
                format!(
                    "{loose} files of checkpoints that the tiles in the pack do not connect were not used"
                )
            }
            (None, None) => "no OpenTimestamps file in the pack".to_owned(),
        };
        match headers {
            Some(_) => self.report.fail(
                name,
                Exit::Policy,
                format!("no block of your file stands behind it; {detail}"),
            ),
            None if found.is_empty() => {}
            None => self.report.check(name, State::Warn, detail),
        }
        Ok(())
    }

    /// Every such file in the pack with the checkpoint that it is over, as paths below it.
    fn proofs(&self) -> Result<Vec<(String, String)>, Fault> {
        let mut found = Vec::new();
        if self.pack.dir().join("checkpoint.ots").is_file() {
            found.push(("checkpoint.ots".to_owned(), "checkpoint".to_owned()));
        }
        let mut names = names_in(self.pack.dir())?;
        names.sort();
        for name in names.iter().filter(|name| name.ends_with(".ots")) {
            let Some(size) = size_of(name) else { continue };
            found.push((format!("anchors/{name}"), format!("anchors/{size:020}.checkpoint")));
        }
        Ok(found)
    }

    fn proof(
        &self,
        file: &str,
        over: &str,
        signed: &Signed,
        vkey: Option<&LogKeys>,
        headers: Option<&Headers>,
    ) -> Result<Result<Found, (Exit, String)>, Fault> {
        let tampered = |why: String| Ok(Err((Exit::Tampered, why)));
        let note = match crate::pack::small(&self.pack.dir().join(over)) {
            Ok(note) => note,
            Err(fault) if fault.exit == Exit::Failed => return Err(fault),
            Err(fault) => return Ok(Err((fault.exit, format!("{over}: {}", fault.why)))),
        };
        let proof = match Proof::parse(&crate::pack::small(&self.pack.dir().join(file))?) {
            Ok(proof) => proof,
            Err(error) => return tampered(error.to_string()),
        };
        if proof.digest != <[u8; 32]>::from(Sha256::digest(&note)) {
            return tampered(format!("it is over something else than {over}"));
        }
        let size = match self.placed(over, &note, signed, vkey)? {
            Ok(Some(size)) => size,
            Ok(None) => return Ok(Ok(Found::Loose)),
            Err(why) => return tampered(why),
        };
        let (mut calendars, mut claim, mut best) = (0, None, None);
        for (message, attestation) in proof.attestations() {
            let height = match attestation {
                Attestation::Bitcoin(height) => height,
                Attestation::Pending(_) => {
                    calendars += 1;
                    continue;
                }
                Attestation::Other(..) => continue,
            };
            match headers.and_then(|headers| headers.get(height)) {
                Some(header) if header.root[..] == message[..] => {
                    best = best.into_iter().chain([(height, header.time)]).min_by_key(|(height, _)| *height);
                }
                Some(_) => return tampered(format!("block {height} of your file has another Merkle root")),
                None => claim = Some((height, message)),
            }
        }
        if let Some((height, time)) = best {
            if let Some(why) = self.too_late(size, signed, time, BLOCK_APART_MS)? {
                return tampered(why);
            }
            return Ok(Ok(Found::Held { size, height, time }));
        }
        Ok(Ok(match claim {
            Some((height, mut message)) => {
                // Block explorers show roots with their last byte first.
                message.reverse();
                Found::Claimed { size, height, root: engine::codec::hex(&message) }
            }
            None => Found::Promised(calendars),
        }))
    }
}
