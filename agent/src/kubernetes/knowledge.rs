//! How it goes with the API server, for `/status`, metrics and the log.

use agent_core::ledger::{Entry, Side};
use agent_core::process::kubernetes::read::Cut;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// See the module.
pub struct Knowledge {
    url: String,
    node: String,
    state: Mutex<(State, Instant)>,
    /// The assembler knows so many.
    pods: AtomicU64,
    /// So many have no room there.
    waiting: AtomicU64,
    pods_came: AtomicU64,
    pods_went: AtomicU64,
    pods_forgotten: AtomicU64,
    containers_cut: AtomicU64,
    attributes_cut: AtomicU64,
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
            waiting: AtomicU64::default(),
            pods_came: AtomicU64::default(),
            pods_went: AtomicU64::default(),
            pods_forgotten: AtomicU64::default(),
            containers_cut: AtomicU64::default(),
            attributes_cut: AtomicU64::default(),
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

    /// The assembler knows so many pods, and so many wait for room. Said once, until none does.
    pub fn pods(&self, told: usize, waiting: usize) {
        self.pods.store(told as u64, Ordering::Relaxed);
        let before = self.waiting.swap(waiting as u64, Ordering::Relaxed);
        if before == 0 && waiting > 0 {
            tracing::warn!(
                "Kubernetes: {} has more than {told} pods: the others stay unnamed until some go",
                self.node
            );
        }
    }

    /// A pod is there, told or waiting.
    pub fn pod_came(&self) {
        self.pods_came.fetch_add(1, Ordering::Relaxed);
    }

    /// One of these is no more.
    pub fn pod_went(&self) {
        self.pods_went.fetch_add(1, Ordering::Relaxed);
    }

    /// What was said of a pod is not remembered: too many wait.
    pub fn pod_forgotten(&self) {
        self.pods_forgotten.fetch_add(1, Ordering::Relaxed);
    }

    /// Parts of a pod that there was no room for.
    pub fn cut(&self, cut: Cut) {
        self.containers_cut.fetch_add(cut.containers, Ordering::Relaxed);
        self.attributes_cut.fetch_add(cut.attributes, Ordering::Relaxed);
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
            "pods_waiting": self.waiting.load(Ordering::Relaxed),
        })
    }

    /// The account of requests and events.
    pub fn ledger(&self) -> Vec<Entry> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let entry = |unit, side, count| Entry { stage: "kubernetes", unit, side, count };
        let (events, unreadable) = (read(&self.events), read(&self.unreadable));
        // Read in this order: none has gone that has not come.
        let (went, forgotten) = (read(&self.pods_went), read(&self.pods_forgotten));
        let came = read(&self.pods_came);
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
            entry("pods_of_node", Side::In, came + forgotten),
            entry("pods_of_node", Side::Out, went),
            entry("pods_of_node", Side::Held, came - went),
            entry("pods_of_node", Side::Lost("over_limit"), forgotten),
            entry("pods_of_node", Side::Info("waiting"), read(&self.waiting)),
            entry("containers", Side::Lost("over_limit"), read(&self.containers_cut)),
            entry("attributes", Side::Lost("over_limit"), read(&self.attributes_cut)),
        ]
    }
}
