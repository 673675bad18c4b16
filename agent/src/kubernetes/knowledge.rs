//! How it goes with the API server, for `/status`, metrics and the log.

use agent_core::ledger::{Entry, Side};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// See the module.
pub struct Knowledge {
    url: String,
    node: String,
    state: Mutex<(State, Instant)>,
    pods: AtomicU64,
    requests: AtomicU64,
    /// Requests under way.
    open: AtomicU64,
    answered: AtomicU64,
    expired: AtomicU64,
    refused: AtomicU64,
    unreachable: AtomicU64,
    events: AtomicU64,
    unreadable: AtomicU64,
}

/// What is known now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody is asked, for this reason.
    Off(&'static str),
    /// No answer yet.
    Starting,
    /// What is known is what is.
    Current,
    /// What is known is older than the fault; new pods have no names.
    Degraded(String),
}

/// What may happen to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The version to watch from is too old: everything has to be listed again.
    Expired,
    /// The server answered, with this status and reason.
    Refused(u16, String),
    /// No answer, or none to its end.
    Unreachable(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Expired => out.write_str("the version to watch from is too old"),
            Fault::Refused(status @ (401 | 403), why) => {
                write!(out, "the API server refuses ({status}): {why}; see the rights in deploy")
            }
            Fault::Refused(status, why) => write!(out, "the API server answers {status}: {why}"),
            Fault::Unreachable(why) => write!(out, "the API server cannot be reached: {why}"),
        }
    }
}

impl Knowledge {
    /// Of nobody.
    pub fn off(why: &'static str) -> Knowledge {
        let knowledge = Knowledge::new(String::new(), String::new());
        knowledge.set(State::Off(why));
        knowledge
    }

    /// Of this server, about this node.
    pub fn new(url: String, node: String) -> Knowledge {
        Knowledge {
            url,
            node,
            state: Mutex::new((State::Starting, Instant::now())),
            pods: AtomicU64::default(),
            requests: AtomicU64::default(),
            open: AtomicU64::default(),
            answered: AtomicU64::default(),
            expired: AtomicU64::default(),
            refused: AtomicU64::default(),
            unreachable: AtomicU64::default(),
            events: AtomicU64::default(),
            unreadable: AtomicU64::default(),
        }
    }

    /// The state, and since when.
    pub fn state(&self) -> (State, Instant) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, state: State) {
        let mut held = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if held.0 != state {
            *held = (state, Instant::now());
        }
    }

    /// A request is made.
    pub fn asked(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// It ended as it should.
    pub fn answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// It did not.
    pub fn failed(&self, fault: &Fault) {
        let count = match fault {
            Fault::Expired => &self.expired,
            Fault::Refused(..) => &self.refused,
            Fault::Unreachable(_) => &self.unreachable,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// An event came; it could be read, or not.
    pub fn event(&self, readable: bool) {
        self.events.fetch_add(1, Ordering::Relaxed);
        self.unreadable.fetch_add(u64::from(!readable), Ordering::Relaxed);
    }

    /// So many pods are known.
    pub fn pods(&self, count: usize) {
        self.pods.store(count as u64, Ordering::Relaxed);
    }

    /// What is known is what is.
    pub fn current(&self) {
        if self.state().0 != State::Current {
            let pods = self.pods.load(Ordering::Relaxed);
            tracing::info!("Kubernetes: {pods} pods of {} from {}", self.node, self.url);
        }
        self.set(State::Current);
    }

    /// It is not any more. Said once, until it is again.
    pub fn degraded(&self, fault: &Fault) {
        if !matches!(self.state().0, State::Degraded(_)) {
            tracing::warn!("Kubernetes: pods that are new stay unnamed: {fault}");
        }
        self.set(State::Degraded(fault.to_string()));
    }

    /// For `/status`.
    pub fn report(&self) -> Value {
        let (state, since) = self.state();
        let (name, why) = match state {
            State::Off(why) => return json!({"state": "off", "why": why}),
            State::Starting => ("starting", None),
            State::Current => ("current", None),
            State::Degraded(why) => ("degraded", Some(why)),
        };
        json!({
            "state": name,
            "why": why,
            "since_seconds": since.elapsed().as_secs_f64(),
            "server": self.url,
            "node": self.node,
            "pods": self.pods.load(Ordering::Relaxed),
        })
    }

    /// The account of requests and events.
    pub fn ledger(&self) -> Vec<Entry> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let entry = |unit, side, count| Entry { stage: "kubernetes", unit, side, count };
        let (events, unreadable) = (read(&self.events), read(&self.unreadable));
        vec![
            entry("requests", Side::In, read(&self.requests)),
            entry("requests", Side::Out, read(&self.answered)),
            entry("requests", Side::Held, read(&self.open)),
            entry("requests", Side::Lost("expired"), read(&self.expired)),
            entry("requests", Side::Lost("refused"), read(&self.refused)),
            entry("requests", Side::Lost("unreachable"), read(&self.unreachable)),
            entry("events", Side::In, events),
            entry("events", Side::Out, events - unreadable),
            entry("events", Side::Lost("unreadable"), unreadable),
        ]
    }
}
