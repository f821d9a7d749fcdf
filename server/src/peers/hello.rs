//! The greeting: who is there, and what must be equal on both ends.
//!
//! ```text
//! "flkpeer1", cluster 16, node u64, incarnation u64, limits u64, key check 16, log key 16, region (u8)
//! ```
//! A node that has no cluster yet says zeros: it is told which cluster it speaks to, and nothing else.

use engine::codec::{DecodeError, Reader, hex, put8};
use engine::limits::{REGION_MAX, fingerprint};

const MAGIC: &[u8; 8] = b"flkpeer1";

/// The longest greeting, bytes.
pub const HELLO_MAX: usize = 8 + 16 + 8 + 8 + 8 + 16 + 16 + 1 + REGION_MAX;

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The cluster, zeros for none yet.
    pub cluster: [u8; 16],
    /// The node.
    pub node: u64,
    /// Drawn with its data directory.
    pub incarnation: u64,
    /// [`engine::limits::fingerprint`]: what the bytes of the log mean.
    pub limits: u64,
    /// Says whether two nodes have the same key-encryption key, and nothing about it.
    pub kek: [u8; 16],
    /// Says whether two nodes sign checkpoints with the same key.
    pub log_key: [u8; 16],
    /// The region, which names the log.
    pub region: String,
}

/// Why a greeting is refused. The text is for the operator of the node that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Stranger {
    #[error("not a greeting of this program: {0}")]
    Form(DecodeError),
    #[error("its certificate is not for node-{0}.flk")]
    Certificate(u64),
    #[error("it belongs to cluster {found}, this one is {ours}")]
    Cluster { found: String, ours: String },
    #[error("its region is '{found}', this one's is '{ours}'")]
    Region { found: String, ours: String },
    #[error("its log has limits {found:016x}, this program has {ours:016x}: one of them is another version")]
    Limits { found: u64, ours: u64 },
    #[error("it has another {0}: copy the file from a member of the group")]
    Keys(&'static str),
    #[error("node {0} is this node's own name")]
    Myself(u64),
    #[error(
        "node {0} is in the group with another data directory: remove it and join under a name never used"
    )]
    Incarnation(u64),
    #[error("it has no cluster yet")]
    Unborn,
}

impl Stranger {
    /// A short name for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Stranger::Form(_) => "form",
            Stranger::Certificate(_) => "certificate",
            Stranger::Cluster { .. } | Stranger::Unborn => "cluster",
            Stranger::Region { .. } => "region",
            Stranger::Limits { .. } => "limits",
            Stranger::Keys(_) => "keys",
            Stranger::Myself(_) => "node",
            Stranger::Incarnation(_) => "incarnation",
        }
    }
}

impl Hello {
    /// The greeting's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HELLO_MAX);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.cluster);
        for number in [self.node, self.incarnation, self.limits] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.kek);
        out.extend_from_slice(&self.log_key);
        put8(&mut out, self.region.as_bytes());
        out
    }

    /// Reads a greeting from exactly these bytes.
    ///
    /// # Errors
    /// [`Stranger::Form`].
    pub fn decode(bytes: &[u8]) -> Result<Hello, Stranger> {
        let read = || {
            if bytes.len() > HELLO_MAX {
                return Err(DecodeError::OutOfBounds("greeting"));
            }
            let mut reader = Reader::new(bytes);
            if reader.array::<8>("magic")? != *MAGIC {
                return Err(DecodeError::OutOfBounds("magic"));
            }
            let hello = Hello {
                cluster: reader.array("cluster")?,
                node: reader.u64("node")?,
                incarnation: reader.u64("incarnation")?,
                limits: reader.u64("limits")?,
                kek: reader.array("key check")?,
                log_key: reader.array("log key")?,
                region: String::from_utf8(reader.bytes8(REGION_MAX, "region")?.to_vec())
                    .map_err(|_| DecodeError::OutOfBounds("region"))?,
            };
            reader.end()?;
            Ok(hello)
        };
        read().map_err(Stranger::Form)
    }

    /// Whether the node has a cluster.
    pub fn is_born(&self) -> bool {
        self.cluster != [0; 16]
    }

    /// Is `other` one of us? What the cluster has to say about its incarnation is asked elsewhere.
    ///
    /// # Errors
    /// [`Stranger`]: the first thing that must be equal and is not.
    pub fn check(&self, other: &Hello) -> Result<(), Stranger> {
        if other.node == self.node {
            return Err(Stranger::Myself(other.node));
        }
        if other.limits != fingerprint() {
            return Err(Stranger::Limits { found: other.limits, ours: fingerprint() });
        }
        if self.is_born() && other.is_born() && other.cluster != self.cluster {
            return Err(Stranger::Cluster { found: hex(&other.cluster), ours: hex(&self.cluster) });
        }
        if other.region != self.region {
            return Err(Stranger::Region { found: other.region.clone(), ours: self.region.clone() });
        }
        if other.kek != self.kek {
            return Err(Stranger::Keys("key-encryption key (keys.kek_file)"));
        }
        if other.log_key != self.log_key {
            return Err(Stranger::Keys("log key (keys.log_key_file)"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(node: u64) -> Hello {
        Hello {
            cluster: [3; 16],
            node,
            incarnation: 7,
            limits: fingerprint(),
            kek: [1; 16],
            log_key: [2; 16],
            region: "eu-1".into(),
        }
    }

    #[test]
    fn a_greeting_comes_back_and_no_other_length_does() {
        let bytes = hello(1).encode();
        assert_eq!(Hello::decode(&bytes), Ok(hello(1)));
        for length in 0..bytes.len() {
            assert!(Hello::decode(&bytes[..length]).is_err(), "{length}");
        }
        assert!(Hello::decode(&[&bytes[..], &[0]].concat()).is_err());
        let other = [b"flkpeer2", &bytes[8..]].concat();
        assert!(Hello::decode(&other).is_err());
    }

    #[test]
    fn every_difference_that_matters_is_refused_and_named() {
        let mine = hello(1);
        assert_eq!(mine.check(&hello(2)), Ok(()));
        let label = |change: fn(&mut Hello)| {
            let mut other = hello(2);
            change(&mut other);
            mine.check(&other).map_err(|stranger| stranger.label())
        };
        assert_eq!(label(|other| other.cluster = [4; 16]), Err("cluster"));
        assert_eq!(label(|other| other.cluster = [0; 16]), Ok(()));
        assert_eq!(label(|other| other.limits ^= 1), Err("limits"));
        assert_eq!(label(|other| other.kek[3] ^= 1), Err("keys"));
        assert_eq!(label(|other| other.log_key[3] ^= 1), Err("keys"));
        assert_eq!(label(|other| other.region = "eu-2".into()), Err("region"));
        assert_eq!(label(|other| other.node = 1), Err("node"));
    }
}
