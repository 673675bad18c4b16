//! Metrics of requests: each is counted when it is given out, sampled or not.

use super::attributes::{Facts, Texts};
use super::core::Core;
use super::request::Request;
use super::settle::{Settled, unix_ns};
use crate::message::{Failure, Finished, Role};
use crate::process::SharedResource;
use crate::request::{Observed, RequestMetrics};
use crate::span::Output;

/// A request's place in the service graph.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Leg {
    /// Number of its edge, as soon as its other end is known.
    edge: Option<u32>,
    /// Its failure was counted.
    failed: bool,
}

impl Core {
    /// Gives the metrics out, and what they begin anew.
    pub(super) fn report_requests(&mut self, unix_ns: u64, out: &mut dyn Output) {
        if let Some(metrics) = &mut self.metrics {
            metrics.report(unix_ns, out);
        }
    }

    /// Counts the request in `slot`, which is about to be given out, between its two services. What one end
    /// learns is noted for the other: the first to leave tells.
    pub(super) fn measure_edge(
        &mut self,
        slot: u32,
        finished: &Finished,
        end_ns: u64,
        offset: i64,
    ) {
        let Some(metrics) = &mut self.metrics else { return };
        let Some(request) = self.requests.get(slot) else { return };
        let peer = request.peer;
        let mut leg = request.leg;
        if let (None, Some(other)) = (leg.edge, self.requests.get(peer)) {
            let mut service = |of: &Request| {
                let (process, at) = of.started.owner();
                SharedResource::clone(self.processes.resource(process, at).of_service())
            };
            let (own, other) = (service(request), service(other));
            let (client, server) =
                if request.role == Role::Client { (own, other) } else { (other, own) };
            leg.edge = Some(metrics.edge(&client, &server, unix_ns(end_ns, offset)));
        }
        let Some(edge) = leg.edge else { return };
        if finished.failure != Some(Failure::Unobserved) {
            metrics.edge_took(edge, request.role, seconds(request, end_ns));
        }
        if !leg.failed && failed(request.role, finished) {
            leg.failed = true;
            metrics.edge_failed(edge);
        }
        if let Some(peer) = self.requests.get_mut(peer) {
            peer.leg = leg;
        }
    }
}

/// Counts a request of `facts`, which ended at `end_ns`.
pub(super) fn measure(
    metrics: &mut RequestMetrics,
    facts: &Facts<'_>,
    texts: &Texts<'_>,
    resource: &SharedResource,
    (settled, end_ns, is_kept): (&Settled, u64, bool),
) {
    let request = facts.request;
    if request.is_unobserved() {
        return metrics.unobserved();
    }
    let unix_ns = unix_ns(end_ns, settled.offset);
    let (server, server_port) = texts.server();
    let is_client = request.role == Role::Client;
    let observed = Observed {
        role: request.role,
        method: texts.method(),
        scheme: texts.scheme(),
        route: texts.route().unwrap_or_default(),
        version: facts.version(),
        status: facts.finished.status,
        error: texts.error_type(),
        server: server.filter(|_| is_client).unwrap_or_default(),
        server_port: server_port.filter(|_| is_client),
        seconds: seconds(request, end_ns),
        exemplar: is_kept.then_some((settled.trace, request.started.span, unix_ns)),
    };
    metrics.add(&observed, resource.of_service(), unix_ns);
}

fn seconds(request: &Request, end_ns: u64) -> f64 {
    end_ns.saturating_sub(request.started.start_ns) as f64 / 1e9
}

/// By the rules of spans' status.
pub(super) fn failed(role: Role, finished: &Finished) -> bool {
    let from = if role == Role::Client { 400 } else { 500 };
    finished.failure.is_some_and(|failure| failure != Failure::Unobserved)
        || finished.status.is_some_and(|status| status >= from)
}
