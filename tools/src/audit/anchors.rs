//! Attestations in the log, held against the checkpoints in the log: an attestation of a checkpoint that was never logged
//! would be somebody's word about another history.

use std::collections::VecDeque;

use engine::checkpoint::Signed;
use engine::event::Anchored;
use engine::log::Digest;

/// How many checkpoints an attestation may lie behind the one it is about: hours of a busy log. An attestation is asked
/// for the newest one and logged when it comes.
const RECENT_MAX: usize = 65_536;

/// Checkpoints that agreed, the newest last.
#[derive(Debug)]
pub struct Recent {
    agreed: VecDeque<(u64, Digest)>,
    whole: bool,
}

impl Recent {
    /// None yet; `whole` if the log is read from its beginning, so that there are no others.
    #[must_use]
    pub fn new(whole: bool) -> Recent {
        Recent { agreed: VecDeque::new(), whole }
    }

    /// A logged checkpoint agrees with the tree.
    pub fn agreed(&mut self, signed: &Signed) {
        if self.agreed.len() == RECENT_MAX {
            self.agreed.pop_front();
        }
        self.agreed.push_back((signed.checkpoint.size, signed.checkpoint.root));
    }

    /// The checkpoint that is attested.
    ///
    /// # Errors
    /// What was expected, and what is there instead.
    pub fn find(&self, anchored: &Anchored) -> Result<Signed, (String, String)> {
        let signed = Signed::parse(&anchored.note)
            .map_err(|error| ("a signed checkpoint".to_owned(), error.to_string()))?;
        let (size, root) = (signed.checkpoint.size, signed.checkpoint.root);
        match self.agreed.iter().rev().find(|(logged, _)| *logged == size) {
            Some((_, logged)) if *logged == root => Ok(signed),
            Some((_, logged)) => Err((format!("root {logged} over {size} leaves"), root.to_string())),
            None if !self.whole => Ok(signed),
            None => Err((
                "a checkpoint of this log".into(),
                format!("one over {size} leaves, which was not logged"),
            )),
        }
    }
}
