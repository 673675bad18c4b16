//! The admin endpoint of `--listen`: `/livez`, `/readyz`, `/metrics`, `/status`, `/processes`.
//!
//! Read-only and without secrets, but without authentication too: it is off unless asked for. What probes
//! of a kubelet and Prometheus need is for whoever reaches the address; what says which programs run here
//! (`/status`, `/processes`) for those on this host, as long as the operator says nothing else.

mod metrics;
mod own;
mod page;
mod server;

pub use metrics::Gauge;
pub use server::{Server, bind};

use agent_core::flow::metrics::Sample;
use agent_core::ledger::Entry;
use agent_core::request::Numbers;
use http_body_util::{Either, Full};
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use page::Page;
use std::sync::Arc;
use std::time::Duration;

const TEXT: &str = "text/plain; charset=utf-8";

/// Where answers come from. Asked for each request, from a runtime thread: it must not block for
/// longer than a lock is held for a copy.
pub trait StatusSource: Send + Sync + 'static {
    /// Whether probes are attached.
    ///
    /// # Errors
    /// Why not (yet), in a sentence.
    fn ready(&self) -> Result<(), String>;

    /// The accounts of all stages.
    fn ledger(&self) -> Vec<Entry>;

    /// What `/status` shows: version, uptime, hooks, ledger, memory, connections by kind.
    fn status(&self) -> serde_json::Value;

    /// Somebody asks for [`StatusSource::processes`]. Gives what to ask with.
    fn ask(&self) -> u64 {
        0
    }

    /// What `/processes` shows, once it is younger than the question.
    fn processes(&self, _asked: u64) -> Option<serde_json::Value> {
        None
    }

    /// Numbers for `/metrics` that are not in the ledger.
    fn gauges(&self) -> Vec<Gauge> {
        Vec::new()
    }

    /// Numbers of conversations for `/metrics`.
    fn flows(&self) -> Arc<Vec<Sample>> {
        Arc::default()
    }

    /// Numbers of requests for `/metrics`.
    fn requests(&self) -> Arc<Numbers> {
        Arc::default()
    }
}

/// [`Entry`]s as `/status` shows them.
pub fn ledger_json(entries: &[Entry]) -> serde_json::Value {
    use agent_core::ledger::Side;
    let one = |entry: &Entry| {
        let cause = match entry.side {
            Side::Lost(cause) | Side::Info(cause) => Some(cause),
            Side::In | Side::Out | Side::Held => None,
        };
        let side = match entry.side {
            Side::Lost(_) => "lost",
            Side::Info(_) => "info",
            side => side.label(),
        };
        serde_json::json!({
            "stage": entry.stage,
            "unit": entry.unit,
            "side": side,
            "cause": cause,
            "count": entry.count,
        })
    };
    entries.iter().map(one).collect()
}

/// What an answer consists of: most are there as a whole.
type AnswerBody = Either<Full<Bytes>, Page>;

/// How long an answer about processes is waited for: names are made once a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks for it.
const LOOK: Duration = Duration::from_millis(50);

/// Pages that say which programs run here.
const OF_THIS_HOST: [&str; 2] = ["/status", "/processes"];

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// Somebody in the same network namespace, or whom the operator trusts as much.
    Here,
    /// Whoever reaches the address.
    Elsewhere,
}

/// The answer, where it takes a while.
async fn answer_in_time(
    method: &Method,
    path: &str,
    reader: Reader,
    source: &dyn StatusSource,
) -> Response<AnswerBody> {
    if reader == Reader::Elsewhere && OF_THIS_HOST.contains(&path) {
        let why = format!(
            "{path} is for those on this host: ask over 127.0.0.1 (kubectl exec or port-forward to a \
             pod), or run kernspan with --expose-status\n"
        );
        return response(StatusCode::FORBIDDEN, TEXT, why);
    }
    if path == "/processes" && *method == Method::GET {
        return processes(source).await;
    }
    answer(method, path, source)
}

async fn processes(source: &dyn StatusSource) -> Response<AnswerBody> {
    let asked = source.ask();
    let found = async {
        loop {
            match source.processes(asked) {
                Some(found) => return found,
                None => tokio::time::sleep(LOOK).await,
            }
        }
    };
    match tokio::time::timeout(PATIENCE, found).await {
        Ok(found) => response(StatusCode::OK, "application/json", format!("{found:#}\n")),
        Err(_) => {
            let why = "the agent is too busy, or just starting\n".to_owned();
            response(StatusCode::SERVICE_UNAVAILABLE, TEXT, why)
        }
    }
}

fn answer(method: &Method, path: &str, source: &dyn StatusSource) -> Response<AnswerBody> {
    let known = matches!(path, "/" | "/livez" | "/readyz" | "/metrics" | "/status" | "/processes");
    if !known {
        return response(StatusCode::NOT_FOUND, TEXT, "no such page; see /\n".to_owned());
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        let what = "only GET and HEAD\n".to_owned();
        let mut response = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, what);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/livez" => response(StatusCode::OK, TEXT, "live\n".to_owned()),
        "/readyz" => match source.ready() {
            Ok(()) => response(StatusCode::OK, TEXT, "ready\n".to_owned()),
            Err(why) => {
                response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {why}\n"))
            }
        },
        "/metrics" => {
            with_body(StatusCode::OK, metrics::CONTENT_TYPE, Either::Right(metrics_page(source)))
        }
        // Asked for by HEAD: nobody waits for what is not sent.
        "/processes" => response(StatusCode::OK, "application/json", String::new()),
        "/status" => {
            response(StatusCode::OK, "application/json", format!("{:#}\n", source.status()))
        }
        _ => response(
            StatusCode::OK,
            TEXT,
            "/livez\n/readyz\n/metrics\n/status\n/processes\n".to_owned(),
        ),
    }
}

fn metrics_page(source: &dyn StatusSource) -> Page {
    let mut gauges = own::gauges();
    gauges.push(Gauge {
        name: "kernspan_ready",
        help: "1 once probes are attached.",
        labels: Vec::new(),
        value: if source.ready().is_ok() { 1.0 } else { 0.0 },
    });
    gauges.extend(source.gauges());
    let requests = source.requests();
    let head = metrics::render(&source.ledger(), &gauges, &source.flows(), &requests.1);
    Page::new(head, requests)
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<AnswerBody> {
    with_body(status, kind, Either::Left(Full::new(Bytes::from(body))))
}

fn with_body(status: StatusCode, kind: &'static str, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
