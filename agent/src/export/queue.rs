//! What waits to be sent, bounded in bytes over all signals, and the account of it.

use super::retry::clipped;
use agent_core::ledger::{Entry, Side};
use agent_core::otlp::Signal;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Complaints of a receiver are logged at most this often.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(30);

/// Bodies kept to be filled again: as many as are under way at a time under load.
const MAX_SPARE: usize = 2;

/// One request that waits.
#[derive(Debug)]
pub struct Item {
    /// Protobuf.
    pub body: Bytes,
    /// Spans, log records or data points in it.
    pub items: u64,
    /// What it takes of the queue's bound until it is settled.
    pub charge: usize,
}

/// Why items were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The queue was full when they came: the newest go, so that what waits stays whole.
    QueueFull,
    /// The receiver took the request without them (partial success).
    Rejected,
    /// The receiver refused the request for good.
    Refused,
    /// The time to flush was over.
    Shutdown,
}

/// How the receiver is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Connection {
    /// Nothing was sent so far.
    Untried,
    /// The latest attempt got through.
    Up,
    /// The latest attempt failed.
    Down,
}

/// Items of one signal, and where they went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Submitted.
    pub came_in: u64,
    /// Waiting or under way.
    pub held: u64,
    /// Taken by the receiver.
    pub out: u64,
    /// Lost: [`Loss::QueueFull`].
    pub queue_full: u64,
    /// Lost: [`Loss::Rejected`].
    pub rejected: u64,
    /// Lost: [`Loss::Refused`].
    pub refused: u64,
    /// Lost: [`Loss::Shutdown`].
    pub shutdown: u64,
    /// Submitted for a signal that is not sent by configuration; outside the account.
    pub switched_off: u64,
}

impl Account {
    fn lose(&mut self, items: u64, loss: Loss) {
        let count = match loss {
            Loss::QueueFull => &mut self.queue_full,
            Loss::Rejected => &mut self.rejected,
            Loss::Refused => &mut self.refused,
            Loss::Shutdown => &mut self.shutdown,
        };
        *count += items;
    }

    fn entries(&self, signal: Signal) -> [Entry; 8] {
        let unit = signal.unit();
        [
            (Side::In, self.came_in),
            (Side::Held, self.held),
            (Side::Out, self.out),
            (Side::Lost("queue_full"), self.queue_full),
            (Side::Lost("rejected"), self.rejected),
            (Side::Lost("refused"), self.refused),
            (Side::Lost("shutdown"), self.shutdown),
            (Side::Info("switched_off"), self.switched_off),
        ]
        .map(|(side, count)| Entry { stage: "export", unit, side, count })
    }
}

/// State of one signal.
#[derive(Debug)]
pub struct Lane {
    waiting: VecDeque<Item>,
    account: Account,
    connection: Connection,
    last_error: Option<String>,
    retries: u64,
    hold_until: Option<Instant>,
    logged: Option<Instant>,
    enabled: bool,
}

/// Shared between those who submit and the workers that send.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    arrivals: [Notify; 3],
    max_bytes: usize,
    /// Bodies of trace requests that were sent.
    spare: Mutex<Vec<Vec<u8>>>,
}

#[derive(Debug)]
struct State {
    lanes: [Lane; 3],
    bytes: usize,
    closed: bool,
}

impl Queue {
    /// Empty; `enabled` by [`Signal::ALL`].
    pub fn new(max_bytes: usize, enabled: [bool; 3]) -> Queue {
        let lanes = enabled.map(|enabled| Lane {
            waiting: VecDeque::new(),
            account: Account::default(),
            connection: Connection::Untried,
            last_error: None,
            retries: 0,
            hold_until: None,
            logged: None,
            enabled,
        });
        let state = Mutex::new(State { lanes, bytes: 0, closed: false });
        let arrivals = std::array::from_fn(|_| Notify::new());
        Queue { state, arrivals, max_bytes, spare: Mutex::default() }
    }

    /// Takes a request or counts why not. Never waits for the network.
    pub fn push(&self, signal: Signal, body: Bytes, items: u64) {
        let mut state = self.lock();
        let room = self.max_bytes - state.bytes.min(self.max_bytes);
        let closed = state.closed;
        let charge = body.len();
        let lane = &mut state.lanes[signal as usize];
        if !lane.enabled {
            lane.account.switched_off += items;
            return;
        }
        lane.account.came_in += items;
        if closed || charge > room {
            let loss = if closed { Loss::Shutdown } else { Loss::QueueFull };
            lane.account.lose(items, loss);
            return;
        }
        lane.account.held += items;
        lane.waiting.push_back(Item { body, items, charge });
        state.bytes += charge;
        drop(state);
        self.arrivals[signal as usize].notify_one();
    }

    /// Keeps the memory of a trace request that was sent, unless somebody still holds it.
    pub fn recycle(&self, body: Bytes) {
        let Ok(mut body) = body.try_into_mut() else { return };
        body.clear();
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MAX_SPARE {
            spare.push(body.into());
        }
    }

    /// Memory for the body of a trace request.
    pub fn spare(&self) -> Option<Vec<u8>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// The oldest waiting request. It stays in the account until [`Queue::settle`].
    pub fn pop(&self, signal: Signal) -> Option<Item> {
        self.lane(signal, |lane| lane.waiting.pop_front())
    }

    /// Returns when something may have arrived.
    pub async fn arrival(&self, signal: Signal) {
        self.arrivals[signal as usize].notified().await;
    }

    /// Ends a request: `lost` of its items for `loss`, the others are with the receiver.
    pub fn settle(&self, signal: Signal, items: u64, charge: usize, lost: u64, loss: Loss) {
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(charge);
        let account = &mut state.lanes[signal as usize].account;
        let lost = lost.min(items);
        account.held = account.held.saturating_sub(items);
        account.out += items - lost;
        account.lose(lost, loss);
    }

    /// From here on, what is pushed is lost.
    pub fn close(&self) {
        self.lock().closed = true;
    }

    /// Counts everything that is still held as lost at shutdown. No worker may run any more.
    pub fn abandon(&self) {
        let mut state = self.lock();
        state.bytes = 0;
        for lane in &mut state.lanes {
            lane.waiting.clear();
            let held = std::mem::take(&mut lane.account.held);
            lane.account.lose(held, Loss::Shutdown);
        }
    }

    /// Notes that an attempt got through; true when the one before had not.
    pub fn up(&self, signal: Signal) -> bool {
        self.lane(signal, |lane| {
            std::mem::replace(&mut lane.connection, Connection::Up) == Connection::Down
        })
    }

    /// Notes that an attempt failed; true when the one before had not.
    pub fn down(&self, signal: Signal, why: &str) -> bool {
        self.lane(signal, |lane| {
            lane.retries += 1;
            lane.last_error = Some(why.to_string());
            std::mem::replace(&mut lane.connection, Connection::Down) != Connection::Down
        })
    }

    /// Notes what the receiver said about a request that it did not take whole; true when it is
    /// time to log it: seldom, as every request may be refused.
    pub fn complaint(&self, signal: Signal, why: &str) -> bool {
        self.lane(signal, |lane| {
            lane.last_error = Some(clipped(why));
            let now = Instant::now();
            let due = lane.logged.is_none_or(|at| now.duration_since(at) >= COMPLAINT_INTERVAL);
            if due {
                lane.logged = Some(now);
            }
            due
        })
    }

    /// Nothing of this signal is sent before `until`.
    pub fn hold(&self, signal: Signal, until: Instant) {
        self.lane(signal, |lane| lane.hold_until = lane.hold_until.max(Some(until)));
    }

    /// Until when nothing of this signal is sent.
    pub fn held_until(&self, signal: Signal) -> Option<Instant> {
        self.lane(signal, |lane| lane.hold_until)
    }

    /// Bytes that wait or are under way.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// The account of one signal, its connection, its latest error and failed attempts.
    pub fn status(&self, signal: Signal) -> (Account, Connection, Option<String>, u64) {
        self.lane(signal, |lane| {
            (lane.account, lane.connection, lane.last_error.clone(), lane.retries)
        })
    }

    /// Adds the accounts of all signals that are sent, and the bytes held.
    pub fn ledger(&self, entries: &mut Vec<Entry>) {
        let state = self.lock();
        for (signal, lane) in Signal::ALL.into_iter().zip(&state.lanes) {
            if lane.enabled || lane.account.switched_off > 0 {
                entries.extend(lane.account.entries(signal));
            }
        }
        let side = Side::Info("queued");
        entries.push(Entry { stage: "export", unit: "bytes", side, count: state.bytes as u64 });
    }

    fn lane<T>(&self, signal: Signal, with: impl FnOnce(&mut Lane) -> T) -> T {
        with(&mut self.lock().lanes[signal as usize])
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counters stay usable after a panic elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balance(account: &Account) -> u64 {
        let Account { held, out, queue_full, rejected, refused, shutdown, .. } = account;
        held + out + queue_full + rejected + refused + shutdown
    }

    #[test]
    fn what_does_not_fit_is_counted_exactly_and_room_comes_back() {
        let queue = Queue::new(100, [true, true, false]);
        for _ in 0..5 {
            queue.push(Signal::Traces, Bytes::from(vec![0; 30]), 2);
        }
        queue.push(Signal::Logs, Bytes::from(vec![0; 11]), 1);
        queue.push(Signal::Logs, Bytes::from(vec![0; 10]), 1);
        queue.push(Signal::Metrics, Bytes::from(vec![0; 1]), 9);
        let (traces, ..) = queue.status(Signal::Traces);
        assert_eq!((traces.came_in, traces.held, traces.queue_full), (10, 6, 4));
        let (logs, ..) = queue.status(Signal::Logs);
        assert_eq!((logs.came_in, logs.held, logs.queue_full), (2, 1, 1), "the bound is shared");
        let (metrics, ..) = queue.status(Signal::Metrics);
        assert_eq!((metrics.came_in, metrics.switched_off), (0, 9));

        let item = queue.pop(Signal::Traces).unwrap();
        queue.push(Signal::Traces, Bytes::from(vec![0; 30]), 2);
        let (traces, ..) = queue.status(Signal::Traces);
        assert_eq!(traces.queue_full, 6, "what is under way still counts");
        queue.settle(Signal::Traces, item.items, item.charge, 1, Loss::Rejected);
        queue.push(Signal::Traces, Bytes::from(vec![0; 30]), 2);
        queue.close();
        queue.push(Signal::Traces, Bytes::from(vec![0; 30]), 2);
        queue.abandon();
        let (traces, ..) = queue.status(Signal::Traces);
        assert_eq!((traces.out, traces.rejected, traces.shutdown), (1, 1, 8));
        assert_eq!(traces.came_in, balance(&traces));
        assert_eq!(queue.bytes(), 0);
    }
}
