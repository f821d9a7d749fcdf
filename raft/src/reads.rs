//! Records read back from the log of a node, whatever part it has in its group.
//!
//! What is returned is durable here. Whether it is agreed too, the caller knows.

use std::io;

use engine::event::Record;
use engine::log::Lsn;
use openraft::type_config::TypeConfigExt;

use crate::group::Group;
use crate::log_actor::Command;
use crate::types::{Runtime, Types};

impl<R: Runtime> Group<R> {
    /// One record.
    ///
    /// # Errors
    /// When the log has shut down, does not hold the record, or cannot read it.
    pub async fn read(&self, lsn: Lsn) -> io::Result<Record> {
        let stored = self.read_range(lsn, lsn.next()).await?;
        let (_, _, bytes) = stored.into_iter().next().ok_or_else(|| io::Error::other("no such record"))?;
        Record::decode(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
    }

    /// Records from `from` on and below `to`, with their places, terms and bytes: one at least, and as many as
    /// one read of the log gives.
    ///
    /// # Errors
    /// When the log has shut down, does not hold the first of them, or cannot read it.
    pub async fn read_range(&self, from: Lsn, to: Lsn) -> io::Result<Vec<(Lsn, u64, Vec<u8>)>> {
        let (done, read) = Types::<R>::oneshot();
        let gone = || io::Error::other("the log has shut down");
        let command = Command::Read { from, to, done };
        self.shared.mailbox.send(command, 0).await.map_err(|_| gone())?;
        read.await.map_err(|_| gone())?.inspect_err(|error| self.shared.found_rot(error))
    }
}
