//! Which traces are given out, and how often each counts.
//!
//! Two questions, asked once a trace:
//!
//! 1. *By its number* ([`threshold`]): the randomness of the trace, 56 bits, reaches the rejection threshold
//!    of the ratio; or that of its service's rate ([`rate`]), where that is higher. The same for every agent
//!    that sees a part of the trace, as long as both have the same ratio and no rate.
//! 2. *By what happened in it* ([`watch`], [`Why`]): an error, slower than usual, a security event, the first
//!    of its route in this minute. None of that depends on the number, so such a trace is kept with
//!    probability 1.
//!
//! A trace that any rule keeps has `th:0`; one that its number keeps has its threshold as `th`. So the sum of
//! adjusted counts (1 / probability) over what was kept is the number of all, in expectation and by strata.
//! (OpenTelemetry specification, "TraceState: Probability Sampling"; [`state`] writes it.)
//!
//! Where rules are asked, spans wait ([`undecided`]) until no request of the trace is open here, or until the
//! wait is over; what there is no room for is decided with what is known so far, and counted.

pub(super) mod rate;
pub(super) mod sampler;
pub(super) mod state;
pub(super) mod undecided;
pub(super) mod watch;

/// How traces are sampled. All are kept by default.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// Share of traces that is given out, 0 to 1; decided from the trace id (or `rv`) alone, so that every
    /// agent that sees a part of the trace decides alike.
    pub ratio: f64,
    /// Traces a second that the ratio may keep of those that one service begins here; what a rule keeps is not
    /// limited.
    pub rate: Option<u32>,
    /// What is kept whatever the ratio says.
    pub rules: Rules,
    /// How long a trace waits at most for its end, ns.
    pub wait_ns: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        let (rate, rules) = (None, Rules::default());
        Sampling { ratio: 1.0, rate, rules, wait_ns: 10_000_000_000 }
    }
}

impl Sampling {
    /// Whether any trace may be dropped, so that each says how often it counts.
    pub(super) fn drops(&self) -> bool {
        self.ratio < 1.0 || self.rate.is_some()
    }

    /// Whether requests are compared with others to their route.
    pub(super) fn judges_routes(&self) -> bool {
        self.drops() && (self.rules.floor > 0 || self.rules.slow == Some(Slow::Usual))
    }
}

/// Traces that are kept whatever the ratio says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Those in which a request failed: its span has `error.type`.
    pub errors: bool,
    /// Those with a slow request.
    pub slow: Option<Slow>,
    /// Those whose handling ran a program.
    pub events: bool,
    /// The first so many in each minute of each service, route and method.
    pub floor: u32,
}

impl Rules {
    /// Whether nothing is kept by a rule.
    pub fn is_empty(&self) -> bool {
        *self == Rules::default()
    }
}

/// When a request is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slow {
    /// Slower than 99 of 100 to its service, route and method of late.
    Usual,
    /// Slower than so many ns.
    Above(u64),
}

/// Why a trace is kept. A set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Why(u8);

impl Why {
    pub(super) const ERROR: Why = Why(1);
    pub(super) const SLOW: Why = Why(2);
    /// A security event: `process.exec` today. What finds others marks the tree alike.
    pub(super) const EVENT: Why = Why(4);
    pub(super) const FLOOR: Why = Why(8);

    pub(super) const ALL: [(Why, &str); 4] = [
        (Why::ERROR, "kept_for_error"),
        (Why::SLOW, "kept_for_slow"),
        (Why::EVENT, "kept_for_event"),
        (Why::FLOOR, "kept_for_floor"),
    ];

    pub(super) fn is_none(self) -> bool {
        self == Why::default()
    }

    pub(super) fn add(&mut self, other: Why) {
        self.0 |= other.0;
    }

    pub(super) fn has(self, other: Why) -> bool {
        self.0 & other.0 != 0
    }
}

/// What becomes of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Kept; `th` is this threshold.
    Kept(u64),
    Dropped,
}

/// Rejection threshold of OpenTelemetry's `th`: a trace is kept when its randomness reaches it.
pub(super) fn threshold(ratio: f64) -> u64 {
    const ALL: f64 = (1_u64 << 56) as f64;
    // NaN keeps everything: losing traces silently would be the worse mistake.
    if ratio.is_nan() || ratio >= 1.0 {
        return 0;
    }
    (ALL * (1.0 - ratio.max(0.0))) as u64
}
