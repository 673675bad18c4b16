//! What an answer means, and how long to wait before the next attempt
//! (OTLP specification, "Failures" and "OTLP/HTTP Throttling").

use std::time::{Duration, SystemTime};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// First wait after a failure, before jitter; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Longest own wait: how late a receiver's return is noticed at most.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// Longest wait that a receiver may ask for, against wrong clocks and hostile answers.
const MAX_ASKED_WAIT: Duration = Duration::from_secs(15 * 60);
/// Text of a receiver that is kept.
const MAX_TEXT: usize = 512;

/// Result of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Taken, apart from `rejected` items, which must not be sent again.
    Delivered {
        /// Items that the receiver refused.
        rejected: u64,
        /// Its reason or warning.
        message: String,
    },
    /// May succeed later, not before `after` when the receiver says so.
    Retry {
        /// Wait that the receiver asks for.
        after: Option<Duration>,
        /// What happened.
        why: String,
    },
    /// Will not succeed.
    Refused {
        /// What happened.
        why: String,
    },
}

impl Outcome {
    /// The partial-success part of a response, as the receiver sent it.
    pub fn delivered(rejected: i64, message: &str) -> Outcome {
        let rejected = u64::try_from(rejected).unwrap_or(0);
        Outcome::Delivered { rejected, message: clipped(message) }
    }

    /// Failed before there was any answer.
    pub fn unanswered(why: &str) -> Outcome {
        Outcome::Retry { after: None, why: clipped(why) }
    }
}

/// Meaning of a gRPC status other than OK.
pub fn of_grpc(status: &Status) -> Outcome {
    let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let why = clipped(&format!("gRPC status {:?}: {}", status.code(), status.message()));
    let retryable = match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        // Without a delay the receiver does not expect to recover.
        Code::ResourceExhausted => status.get_details_retry_info().is_some(),
        _ => false,
    };
    if retryable {
        Outcome::Retry { after: asked.map(|delay| delay.min(MAX_ASKED_WAIT)), why }
    } else {
        Outcome::Refused { why }
    }
}

/// Meaning of an HTTP status outside 2xx. `text` is the receiver's explanation.
pub fn of_http(status: u16, retry_after: Option<&str>, text: &str, now: SystemTime) -> Outcome {
    let why = clipped(&format!("HTTP status {status} {text}"));
    match status {
        429 | 502 | 503 | 504 => {
            Outcome::Retry { after: retry_after.and_then(|value| delay(value, now)), why }
        }
        _ => Outcome::Refused { why },
    }
}

/// `Retry-After`: seconds or an HTTP date (RFC 9110 section 10.2.3).
fn delay(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let asked = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(asked.min(MAX_ASKED_WAIT))
}

/// Printable and of bounded length: it comes from outside and goes into logs.
pub fn clipped(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(MAX_TEXT).collect::<String>().trim().to_string()
}

/// Waits between attempts of one request: exponential with jitter.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    random: u64,
}

impl Backoff {
    /// Before the first failure. `seed` separates requests that fail together.
    pub fn new(seed: u64) -> Backoff {
        Backoff { next: FIRST_WAIT, random: seed | 1 }
    }

    /// Wait after one more failure: at least what the receiver asked for.
    pub fn wait(&mut self, asked: Option<Duration>) -> Duration {
        // xorshift64: enough to spread attempts.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let half = self.next / 2;
        let jitter = half.mul_f64((self.random >> 11) as f64 / (1u64 << 53) as f64);
        let own = half + jitter;
        // A receiver that throttles is given time from its own figure on.
        let asked_or_none = asked.unwrap_or_default();
        self.next = (self.next.max(asked_or_none) * 2).min(MAX_WAIT.max(asked_or_none));
        asked.map_or(own, |asked| asked + jitter.min(asked / 10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    fn retries(outcome: &Outcome) -> Option<Option<Duration>> {
        match outcome {
            Outcome::Retry { after, .. } => Some(*after),
            _ => None,
        }
    }

    #[test]
    fn grpc_codes_are_retried_as_the_specification_lists_them() {
        use Code::*;
        let retryable = [Cancelled, DeadlineExceeded, Aborted, OutOfRange, Unavailable, DataLoss];
        for number in 1..=16 {
            let code = Code::from_i32(number);
            let outcome = of_grpc(&Status::new(code, "x"));
            assert_eq!(retries(&outcome).is_some(), retryable.contains(&code), "{code:?}");
        }
    }

    #[test]
    fn a_receiver_that_names_a_delay_is_obeyed() {
        let second = Duration::from_secs(1);
        let year = second * 31_536_000;
        let table = [
            (Code::ResourceExhausted, second, Some(Some(second))),
            (Code::Unavailable, second, Some(Some(second))),
            (Code::Unavailable, year, Some(Some(MAX_ASKED_WAIT))),
            (Code::InvalidArgument, second, None),
        ];
        for (code, delay, expected) in table {
            let details = ErrorDetails::with_retry_info(Some(delay));
            let status = Status::with_error_details(code, "busy", details);
            assert_eq!(retries(&of_grpc(&status)), expected, "{code:?} {delay:?}");
        }
    }

    #[test]
    fn http_statuses_are_retried_as_the_specification_lists_them() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let seconds = |s| Some(Some(Duration::from_secs(s)));
        let table = [
            (429, None, Some(None)),
            (429, Some("3"), seconds(3)),
            (503, Some("Sun, 06 Nov 1994 08:49:47 GMT"), seconds(10)),
            (503, Some("Sun, 06 Nov 1994 08:49:27 GMT"), seconds(0)),
            (503, Some("soon"), Some(None)),
            (502, Some("99999999999"), seconds(900)),
            (504, None, Some(None)),
            (500, Some("3"), None),
            (400, None, None),
            (404, None, None),
            (413, None, None),
            (301, None, None),
        ];
        for (status, retry_after, expected) in table {
            let outcome = of_http(status, retry_after, "", now);
            assert_eq!(retries(&outcome), expected, "{status} {retry_after:?}");
        }
    }

    #[test]
    fn waits_grow_to_the_maximum_and_differ() {
        let mut backoff = Backoff::new(42);
        let waits: Vec<Duration> = (0..10).map(|_| backoff.wait(None)).collect();
        for (index, wait) in waits.iter().enumerate() {
            let full = (FIRST_WAIT * (1 << index)).min(MAX_WAIT);
            assert!(*wait >= full / 2 && *wait <= full, "{index}: {wait:?} of {full:?}");
        }
        assert_ne!(waits[8], waits[9], "no jitter");
        let asked = Duration::from_secs(20);
        assert!(backoff.wait(Some(asked)) >= asked);
    }
}
