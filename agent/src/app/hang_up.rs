//! SIGHUP before the agent can follow it. It would end the process, and systemd takes that for an end in order.

use signal_hook::consts::SIGHUP;
use signal_hook::flag;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static SENT: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on one that comes is kept, until [`was_sent`] is asked.
///
/// # Errors
/// The system's, when it takes no handler.
pub fn keep() -> std::io::Result<()> {
    flag::register(SIGHUP, Arc::clone(SENT.get_or_init(Arc::default))).map(drop)
}

/// Whether one has come, told once.
pub(super) fn was_sent() -> bool {
    SENT.get().is_some_and(|sent| sent.swap(false, Ordering::AcqRel))
}
