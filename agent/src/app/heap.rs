//! Memory of the agent's own that nobody uses goes back to the kernel.
//!
//! The allocator keeps what was freed, and gives it back only when its thread frees or makes pages again. A
//! start that took 48 MB for a moment, and threads that then sleep, would keep much of that for good.
//! (Measured when it came, ten seconds after the start: 47 to 55 MB; 32 to 38 without huge pages, which the
//! allocator asked for; 21 to 23 with this.)

#![expect(unsafe_code, reason = "the allocator's crate has no safe function for it")]

// What is declared below lies in its library.
use mimalloc as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between two looks at the flag.
const STEP: Duration = Duration::from_millis(200);

/// Looks between two times of giving back.
const STEPS: u32 = 25;

unsafe extern "C" {
    /// Gives pages back that are free; with `force` also those that are so only since just now.
    fn mi_collect(force: bool);
}

/// Gives memory back at once, and every five seconds until the run stops.
pub async fn tend(stop: &AtomicBool) {
    let mut step = 0;
    while !stop.load(Ordering::Acquire) {
        if step % STEPS == 0 {
            // SAFETY: it may be called at any time, from any thread (mimalloc.h).
            unsafe { mi_collect(true) };
        }
        step = (step + 1) % STEPS;
        tokio::time::sleep(STEP).await;
    }
}
