//! Sends what waits, one request after the other, and tries again as the receiver permits.

use super::queue::{Item, Loss, Queue};
use super::retry::{Backoff, Outcome};
use super::transport::Transport;
use agent_core::otlp::Signal;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

/// Largest body whose memory is kept to be filled again.
const MAX_KEPT: usize = 1024 * 1024;

/// When the exporter must be done; none while it runs.
pub type Closing = watch::Receiver<Option<Instant>>;

/// One of a signal's workers.
pub struct Worker {
    /// Where requests come from and are accounted for.
    pub queue: Arc<Queue>,
    /// Which of them.
    pub signal: Signal,
    /// How they are sent.
    pub transport: Transport,
    /// For one attempt.
    pub timeout: Duration,
    /// Whether and until when to finish.
    pub closing: Closing,
    /// Separates the waits of workers.
    pub seed: u64,
}

impl Worker {
    /// Until closing, and then until nothing waits.
    pub async fn run(mut self) {
        loop {
            if let Some(item) = self.queue.pop(self.signal) {
                self.deliver(item).await;
            } else if self.closing.borrow().is_some() {
                return;
            } else {
                tokio::select! {
                    () = self.queue.arrival(self.signal) => {}
                    // An error means that the exporter is gone without a shutdown.
                    changed = self.closing.changed() => if changed.is_err() { return },
                }
            }
        }
    }

    async fn deliver(&mut self, item: Item) {
        let Item { body, items, charge } = item;
        // The large ones are rare, and would stay beside their compressed form for as long as the
        // receiver is away.
        let usual = self.signal == Signal::Traces && body.len() <= MAX_KEPT;
        let kept = usual.then(|| body.clone());
        let (lost, loss) = match self.transport.prepare(body) {
            Ok(message) => self.send(message, items).await,
            Err(why) => {
                warn!("a request with {items} {} cannot be encoded: {why}", self.signal.unit());
                (items, Loss::Refused)
            }
        };
        self.queue.settle(self.signal, items, charge, lost, loss);
        if let Some(body) = kept {
            self.queue.recycle(body);
        }
    }

    /// Sends until it is settled: how many items were lost, and why.
    async fn send(&mut self, message: Bytes, items: u64) -> (u64, Loss) {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut backoff = Backoff::new(self.seed);
        loop {
            let held_until = self.queue.held_until(self.signal);
            if let Some(until) = held_until
                && !self.wait(until, true).await
            {
                return (items, Loss::Shutdown);
            }
            let attempt = timeout(self.timeout, self.transport.attempt(message.clone()));
            let outcome = attempt.await.unwrap_or_else(|_| {
                Outcome::unanswered(&format!("no answer within {:?}", self.timeout))
            });
            match outcome {
                Outcome::Delivered { rejected, message } => {
                    return (self.delivered(items, rejected, &message), Loss::Rejected);
                }
                Outcome::Refused { why } => {
                    self.refused(items, &why);
                    return (items, Loss::Refused);
                }
                Outcome::Retry { after, why } => {
                    if self.queue.down(self.signal, &why) {
                        warn!("{} are held back, will try again: {why}", self.signal.unit());
                    }
                    let until = Instant::now() + backoff.wait(after);
                    if after.is_some() {
                        self.queue.hold(self.signal, until);
                    }
                    if !self.wait(until, after.is_some()).await {
                        return (items, Loss::Shutdown);
                    }
                }
            }
        }
    }

    /// Waits until `until`; false when that is after the end of the shutdown. `asked`: the
    /// receiver wants it. An own wait is cut short once when the exporter closes, for a last try.
    async fn wait(&mut self, until: Instant, asked: bool) -> bool {
        let closing = *self.closing.borrow();
        if let Some(deadline) = closing {
            if until >= deadline {
                return false;
            }
            sleep_until(until).await;
            return true;
        }
        tokio::select! {
            () = sleep_until(until) => true,
            _ = self.closing.changed() => {
                let deadline = *self.closing.borrow();
                match deadline {
                    Some(deadline) if asked && until >= deadline => false,
                    _ if asked => {
                        sleep_until(until).await;
                        true
                    }
                    deadline => deadline.is_some(),
                }
            }
        }
    }

    fn delivered(&self, items: u64, rejected: u64, message: &str) -> u64 {
        if self.queue.up(self.signal) {
            info!("{} are taken again", self.signal.unit());
        }
        let rejected = rejected.min(items);
        if rejected > 0 || !message.is_empty() {
            let unit = self.signal.unit();
            let text = format!("receiver rejected {rejected} of {items} {unit}: {message}");
            if self.queue.complaint(self.signal, &text) {
                warn!("{text}");
            }
        }
        rejected
    }

    fn refused(&self, items: u64, why: &str) {
        self.queue.up(self.signal);
        let text = format!("receiver refused {items} {}: {why}", self.signal.unit());
        if self.queue.complaint(self.signal, &text) {
            warn!("{text}");
        }
    }
}
