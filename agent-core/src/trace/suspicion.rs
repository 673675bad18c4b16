//! What a program's language tells of its threads: whether they may be event loops.

use crate::message::Thread;

/// Values of `telemetry.sdk.language` whose runtime serves all requests of a thread side by side:
/// on Node.js, Deno and Bun all work is done by one loop, Erlang's processes share few threads.
const EVENT_LOOPS: [&str; 2] = ["nodejs", "erlang"];

/// Others whose main thread serves either as an event loop (asyncio) or one request after the other
/// (gunicorn's workers).
const MAIN_LOOPS: [&str; 2] = ["python", "ruby"];

/// What the runtime says of a thread that begins to serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// Nothing.
    #[default]
    None,
    /// It may be an event loop.
    Perhaps,
    /// It is one.
    Certain,
}

impl Suspicion {
    /// Of `thread` in a program of this `telemetry.sdk.language`.
    pub(super) fn of(language: Option<&str>, thread: &Thread) -> Suspicion {
        match language {
            Some(language) if EVENT_LOOPS.contains(&language) => Suspicion::Certain,
            Some(language) if MAIN_LOOPS.contains(&language) && is_main(thread) => {
                Suspicion::Perhaps
            }
            _ => Suspicion::None,
        }
    }
}

fn is_main(thread: &Thread) -> bool {
    thread.tid == thread.process.tgid
}
