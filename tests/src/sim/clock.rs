//! The clock on the wall: virtual time, moved about by the nemesis.

use std::cell::Cell;

use crate::rt;

thread_local! {
    static SKEW_MS: Cell<i64> = const { Cell::new(0) };
}

/// Where simulated history begins, milliseconds since the Unix epoch.
pub const BEGIN_MS: u64 = 1_700_000_000_000;

/// Milliseconds since the Unix epoch, as the wall says.
pub fn wall_ms() -> u64 {
    let true_ms = BEGIN_MS + rt::now() / 1_000_000;
    true_ms.saturating_add_signed(SKEW_MS.get())
}

/// Put the clock wrong by this much.
pub fn set_skew(ms: i64) {
    SKEW_MS.set(ms);
}
