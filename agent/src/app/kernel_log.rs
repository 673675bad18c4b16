//! Log lines of the kernel side, for development: `--features kernel-log`, with an object that was
//! built with the feature `log`.

use aya::Ebpf;
use aya_log::EbpfLogger;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::shared::Shared;

/// Passes the kernel side's lines on to the agent's log until the run stops.
///
/// # Errors
/// A sentence, when the object has no log.
pub fn start(ebpf: &mut Ebpf) -> Result<impl FnOnce(Arc<Shared>) + Send + 'static, String> {
    let mut logger = EbpfLogger::init(ebpf)
        .map_err(|error| format!("the kernel object was built without its log: {error}"))?;
    Ok(move |shared: Arc<Shared>| {
        while !shared.stop.load(Ordering::Acquire) {
            logger.flush();
            std::thread::sleep(Duration::from_millis(50));
        }
        logger.flush();
    })
}
