//! Texts of `/proc`, of which processes write the most.

use crate::process::{KEPT_ENVIRONMENT, MAX_ARGS, MAX_ARGS_BYTES, proc};
use crate::redact::REDACTED;

/// Reads an input as each of the texts.
///
/// # Panics
/// When what is read is not of the text, or more than may be kept.
pub fn proc(bytes: &[u8]) {
    if let Some(stat) = proc::stat(bytes) {
        assert!(stat.comm.len() <= 3 * bytes.len(), "a longer name");
    }
    let _ = proc::status(bytes, 7);
    let args = proc::arguments(bytes);
    assert!(args.len() <= MAX_ARGS, "{} arguments", args.len());
    let len: usize = args.iter().map(String::len).sum();
    assert!(len <= MAX_ARGS_BYTES * REDACTED.len(), "{len} bytes of arguments");
    let environment = proc::environment(bytes);
    assert!(environment.len() <= KEPT_ENVIRONMENT.len(), "{} variables", environment.len());
    for (name, value) in environment {
        assert!(KEPT_ENVIRONMENT.contains(&name.as_str()), "{name} is kept");
        assert!(value.len() <= 3 * proc::MAX_VARIABLE, "{name} of {} bytes", value.len());
    }
    let text = String::from_utf8_lossy(bytes);
    let users = proc::users(&text);
    assert!(users.len() <= text.lines().count(), "more users than lines");
    assert!(users.values().all(|name| (1..=proc::MAX_USER_NAME).contains(&name.len())));
    for code in text.lines().filter_map(proc::code) {
        assert!(code.inode != 0 && code.path.starts_with('/'), "{code:?}");
        assert!(!code.range.contains(' ') && !code.device.contains(' '), "{code:?}");
    }
}
