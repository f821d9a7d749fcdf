//! Where bytes stand: whose log, which segment. Every checksum begins with it.

use engine::limits::REGION_MAX;
use engine::log::Digest;

use crate::bytes::put;

/// Whose log this is. Two logs with one identity are a mistake of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Drawn at random when the cluster is made. Not shown to clients.
    pub cluster: [u8; 16],
    /// The region whose log this is, 1 to [`REGION_MAX`] bytes.
    pub region: String,
}

impl Identity {
    /// Whether the region's name has a length the format can hold.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        (1..=REGION_MAX).contains(&self.region.len())
    }
}

/// Whose data directory one is: what stands in `DIR/identity`, a line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Whose log is in it.
    pub identity: Identity,
    /// The node that runs on it.
    pub node: u64,
    /// Drawn at random for this directory, so that a copy of another one is told from it.
    pub incarnation: u64,
    /// Whether the node waits for a group to take it in, instead of founding one.
    pub joined: bool,
}

impl Owner {
    /// The file's text.
    #[must_use]
    pub fn text(&self) -> String {
        let Owner { identity, node, incarnation, joined } = self;
        let (cluster, region) = (engine::codec::hex(&identity.cluster), &identity.region);
        let limits = engine::limits::fingerprint();
        format!(
            "cluster = {cluster}\nregion = {region}\nnode = {node}\nlimits = {limits:016x}\n\
             incarnation = {incarnation:016x}\njoined = {joined}\n"
        )
    }
}

/// What the checksums of one segment begin with: eight bytes that follow from whose log it is, the segment's
/// number and the digest of the segment before. A block copied from another log, segment or place fails its
/// checksum, and a client that does not know the log's history cannot make a body that passes for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    stamp: u64,
    segment: u64,
}

impl Stamp {
    pub(crate) fn new(identity: &Identity, segment: u64, previous: &Digest) -> Stamp {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"flk segment stamp 1\n");
        hasher.update(&identity.cluster);
        hasher.update(&segment.to_le_bytes());
        hasher.update(&previous.0);
        hasher.update(identity.region.as_bytes());
        let digest = hasher.finalize();
        let first = digest.as_bytes().first_chunk::<8>().expect("a digest has 32 bytes");
        Stamp { stamp: u64::from_le_bytes(*first), segment }
    }

    pub(crate) fn segment(&self) -> u64 {
        self.segment
    }

    /// CRC-32 of the place (log, segment, offset, and one number more), then `bytes`.
    pub(crate) fn crc(&self, offset: u64, bytes: &[u8], length: u32) -> u32 {
        let mut place = [0; 28];
        put(&mut place, 0, &self.stamp.to_le_bytes());
        put(&mut place, 8, &self.segment.to_le_bytes());
        put(&mut place, 16, &offset.to_le_bytes());
        put(&mut place, 24, &length.to_le_bytes());
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&place);
        hasher.update(bytes);
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_knows_its_place() {
        let identity = Identity { cluster: [1; 16], region: "eu".into() };
        let other = Identity { cluster: [2; 16], ..identity.clone() };
        let moved = Identity { region: "us".into(), ..identity.clone() };
        let crc = |identity: &Identity, segment, previous: u8, offset, length| {
            Stamp::new(identity, segment, &Digest([previous; 32])).crc(offset, b"same bytes", length)
        };
        let here = crc(&identity, 1, 0, 4096, 10);
        let elsewhere = [
            crc(&other, 1, 0, 4096, 10),
            crc(&moved, 1, 0, 4096, 10),
            crc(&identity, 2, 0, 4096, 10),
            crc(&identity, 1, 1, 4096, 10),
            crc(&identity, 1, 0, 8192, 10),
            crc(&identity, 1, 0, 4096, 11),
        ];
        assert!(elsewhere.iter().all(|crc| *crc != here));
        assert_eq!(here, crc(&identity, 1, 0, 4096, 10));
    }
}
