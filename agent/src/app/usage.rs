//! The thread that reads what processes use, now and then, and hands it to the assembler, which knows
//! whose process is whose.

use super::batch::Batch;
use super::clock::boot_ns;
use super::shared::Shared;
use super::threads::spawn;
use crate::cli::Failure;
use crate::process::UsageReader;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

/// How soon it notices that the run ends.
const STEP: Duration = Duration::from_millis(200);

/// Processes handed on at a time: no more than the assembler encodes in a millisecond or two.
const PART: usize = 64;

/// Starts the thread.
///
/// # Errors
/// The system's, when it starts no thread.
pub fn start(
    interval: Duration,
    out: SyncSender<Batch>,
    shared: Arc<Shared>,
) -> Result<JoinHandle<()>, Failure> {
    spawn("kernspan-usage", move || {
        let mut reader = UsageReader::default();
        while !shared.stop.load(Ordering::Acquire) {
            if !round(&mut reader, &out, &shared) {
                return;
            }
            sleep(interval, &shared);
        }
    })
}

/// One look at all processes. False when nobody takes it any more.
fn round(reader: &mut UsageReader, out: &SyncSender<Batch>, shared: &Shared) -> bool {
    let mut part = Batch::default();
    let mut open = true;
    let listed = reader.all(boot_ns, |usage| {
        part.usages.push(usage);
        if part.usages.len() >= PART && open {
            open = out.send(std::mem::take(&mut part)).is_ok();
            // Between two parts the assembler works on what waits.
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    if let Err(error) = listed {
        tracing::debug!("what processes use cannot be read: {error}");
    }
    if shared.stop.load(Ordering::Acquire) {
        return true;
    }
    open && (part.is_empty() || out.send(part).is_ok())
}

fn sleep(interval: Duration, shared: &Shared) {
    let mut left = interval;
    while !left.is_zero() && !shared.stop.load(Ordering::Acquire) {
        let step = left.min(STEP);
        std::thread::sleep(step);
        left -= step;
    }
}
