//! What the agent waits for while it runs: its end, or another configuration.

use super::{hang_up, heap};
use crate::config::{Look, look};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Between two looks at the file. Looked at, not waited for: what mounts a file anew, or links another one in its
/// place (as Kubernetes does), is seen as well.
const LOOK: Duration = Duration::from_secs(1);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The run is over.
    End,
    /// The configuration is to be read again.
    Reload(Why),
}

/// Why it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Somebody asks for it.
    Signal,
    /// The file is another one, or has been written to.
    File,
}

/// Signals, and the file.
pub struct Changes {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// One came while the agent started.
    early_hang_up: bool,
    file: Option<Watched>,
}

struct Watched {
    path: PathBuf,
    /// As it was taken up, and as it was at the latest look.
    taken: Option<Look>,
    latest: Option<Look>,
    /// Between two looks.
    every: Duration,
}

impl Changes {
    /// From now on; the file from how it was before it was read. Needs a runtime.
    ///
    /// # Errors
    /// The system's, when it takes no more signals.
    pub fn new(file: Option<(&Path, Option<Look>)>) -> anyhow::Result<Changes> {
        let listen =
            |kind| signal(kind).map_err(|e| anyhow::Error::new(e).context("listening for signals"));
        Ok(Changes {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
            // After the line above, so that none is missed between.
            early_hang_up: hang_up::was_sent(),
            file: file.map(|(path, taken)| {
                let path = path.to_owned();
                Watched { path, taken, latest: taken, every: LOOK }
            }),
        })
    }

    /// Waits for the next event: `stop` is the run's, which may end by itself.
    pub async fn next(&mut self, stop: &AtomicBool, until: Option<Instant>) -> Event {
        let over = async {
            match until {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        // Without a file there is nothing to read: the terminal has gone.
        let hung_up = match self.file.is_some() {
            true => Event::Reload(Why::Signal),
            false => Event::End,
        };
        if std::mem::take(&mut self.early_hang_up) {
            return hung_up;
        }
        tokio::select! {
            _ = self.terminate.recv() => Event::End,
            _ = self.interrupt.recv() => Event::End,
            _ = self.hang_up.recv() => hung_up,
            () = over => Event::End,
            () = changed(self.file.as_mut()) => Event::Reload(Why::File),
            () = heap::tend(stop) => Event::End,
        }
    }
}

/// Until the file has changed, and stays as it is from one look to the next: it may be being written.
async fn changed(file: Option<&mut Watched>) {
    let Some(file) = file else { return std::future::pending().await };
    loop {
        tokio::time::sleep(file.every).await;
        let now = look(&file.path);
        let is_settled = now == file.latest;
        file.latest = now;
        // One that is gone for a moment is not another one.
        if is_settled && now.is_some() && now != file.taken {
            file.taken = now;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_written_or_replaced_has_changed_once() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("kernspan.yaml");
        std::fs::write(&path, "sample: 1\n").unwrap();
        let now = look(&path);
        let every = Duration::from_millis(5);
        let mut file = Watched { path: path.clone(), taken: now, latest: now, every };
        let patience = every * 100;
        let mut has_changed =
            async || tokio::time::timeout(patience, changed(Some(&mut file))).await.is_ok();
        assert!(!has_changed().await);
        std::fs::write(&path, "sample: 0.25\n").unwrap();
        assert!(has_changed().await);
        assert!(!has_changed().await);
        std::fs::remove_file(&path).unwrap();
        assert!(!has_changed().await, "gone");
        let other = home.path().join("other");
        std::fs::write(&other, "sample: 0.75\n").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(has_changed().await);
    }

    #[tokio::test]
    async fn a_pipe_that_gave_its_text_has_not_changed() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into()).unwrap();
        let before = look(&path);
        let every = Duration::from_millis(5);
        let mut both = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        std::io::Write::write_all(&mut both, b"sample: 1\n").unwrap();
        let mut file = Watched { path: path.clone(), taken: before, latest: before, every };
        let waited = tokio::time::timeout(every * 100, changed(Some(&mut file))).await;
        assert!(waited.is_err(), "as at the start");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "sample: 0.5\n").unwrap();
        let patience = Duration::from_secs(30);
        assert!(tokio::time::timeout(patience, changed(Some(&mut file))).await.is_ok());
    }
}
