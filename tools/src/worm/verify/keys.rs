//! The log's own keys: the statements beside the checkpoint against the changes that the records make.

use engine::ledger::KeyChange;

use super::*;
use crate::audit::keychain::{self, STATEMENT_MAX};
use crate::pack::tiles::read_file;

impl Run<'_> {
    pub(super) fn log_keys(&mut self, changes: &[KeyChange]) -> Result<(), Fault> {
        let name = "log keys";
        let dir = self.home.statements();
        let steps = match keychain::collect(|name| read_file(&dir.join(name), STATEMENT_MAX)) {
            Ok(steps) => steps,
            Err(fault) if fault.exit == Exit::Failed => return Err(fault),
            Err(fault) => {
                self.fail(name, fault.exit, format!("{}: {}", fault.place, fault.why));
                return Ok(());
            }
        };
        for (step, _) in &steps {
            let change = changes.iter().find(|change| change.number == step.number);
            if change.is_none_or(|change| (change.seq, &change.entry) != (step.receipt.index, &step.entry)) {
                let place = keychain::name(step.number);
                self.fail(name, Exit::Tampered, format!("{place}: the records say nothing of the kind"));
                return Ok(());
            }
        }
        let said = |change: &KeyChange| steps.iter().any(|(step, _)| step.number == change.number);
        if let Some(change) = changes.iter().find(|change| !change.note.is_empty() && !said(change)) {
            let place = keychain::name(change.number);
            let detail = format!("{place} is missing: flkd writes it when it starts, or take it from a copy");
            self.fail(name, Exit::Missing, detail);
        } else if let Some(last) = changes.last() {
            let detail = match last.note.is_empty() {
                true => "; no checkpoint is signed by the last two yet",
                false => ", each signed by the set before it, too",
            };
            let sets = last.number;
            self.report.check(name, State::Ok, format!("{sets} sets follow each other{detail}"));
        }
        Ok(())
    }
}
