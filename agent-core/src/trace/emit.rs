//! A finished request becomes a span, and its memory goes back.

use super::attributes::{Facts, Texts, path};
use super::core::{Core, Sinks};
use super::held::Waiting;
use super::measure::measure;
use super::request::Request;
use super::sampling::Fate;
use super::sampling::sampler::{Sampler, Spans};
use super::settle::{Settled, Trees, unix_ns};
use crate::message::{Failure, Finished, Name, Role};
use crate::process::{Resource, ServiceName};
use crate::route::{Route, Routes, proves};
use crate::slab::NONE;
use crate::span::{Kind, Span};

impl Core {
    /// Gives out something whose wait is over.
    pub(super) fn release_held(&mut self, waiting: Waiting, sinks: &mut Sinks<'_>) {
        match waiting {
            Waiting::Request(slot, span) => {
                let request = self.requests.get(slot).filter(|r| r.started.span == span);
                let Some(request) = request else { return };
                let tree = request.tree;
                // It may have moved into a tree that waits longer.
                let until = self.trees.hold_until(tree);
                if until >= self.now && until != 0 && !sinks.last {
                    self.held.push_request(until, slot, span);
                } else {
                    if request.role == Role::Server && !request.joined {
                        self.conns.unmet(request.started.cookie);
                    }
                    self.give_out(slot, sinks);
                }
            }
            Waiting::Exec(exec, cause) => self.log_exec(exec, Some(cause), sinks),
        }
    }

    /// Gives out the span of the finished request in `slot`, if its trace is sampled, and forgets
    /// the request.
    pub(super) fn give_out(&mut self, slot: u32, sinks: &mut Sinks<'_>) {
        let Some(request) = self.requests.get(slot) else { return };
        let Some(finished) = request.finished else { return };
        let tree = request.tree;
        let end_ns = self.end_of(slot, &finished);
        if !self.is_reported(slot, &finished, end_ns, sinks) {
            self.counts.handed_over += 1;
            return self.forget(slot, end_ns, sinks);
        }
        self.limit_rate(tree);
        let settled = self.trees.settle(tree);
        self.counts.linked(self.requests.get(slot).and_then(|r| r.parent).map(|p| p.evidence));
        self.measure_edge(slot, &finished, end_ns, settled.offset);
        self.write_span(slot, &finished, end_ns, settled, sinks);
        self.forget(slot, end_ns, sinks);
    }

    /// The run before, or the next one, does not report it.
    fn is_reported(&self, slot: u32, finished: &Finished, end: u64, sinks: &Sinks<'_>) -> bool {
        let Some(request) = self.requests.get(slot) else { return false };
        let is_open = sinks.last && finished.failure == Some(Failure::Unobserved);
        self.window.has_request(request.started.start_ns, (!is_open).then_some(end))
    }

    /// End of the span: inside that of the other end's span where that is known.
    fn end_of(&mut self, slot: u32, finished: &Finished) -> u64 {
        let Some(request) = self.requests.get(slot) else { return finished.end_ns };
        let start = request.started.start_ns;
        // An end that nobody saw is no evidence against one that somebody did.
        let bound = if request.is_unobserved() {
            let peer = self.requests.get(request.peer).filter(|peer| peer.is_complete());
            let seen = peer.and_then(|peer| peer.finished).map(|end| end.end_ns);
            match request.role {
                Role::Server => request.peer_unobserved_ns,
                Role::Client => request.peer_end_ns.or(seen).or(request.peer_unobserved_ns),
            }
        } else {
            request.peer_end_ns.filter(|_| request.is_complete())
        };
        let end = match (request.role, bound) {
            (Role::Server, Some(outer)) => finished.end_ns.min(outer),
            (Role::Client, Some(inner)) => finished.end_ns.max(inner),
            (_, None) => finished.end_ns,
        };
        self.counts.ends_clamped += u64::from(end != finished.end_ns);
        end.max(start)
    }

    /// Counts the request; writes its span when the trace is kept, or keeps it until that is known.
    fn write_span(
        &mut self,
        slot: u32,
        finished: &Finished,
        end_ns: u64,
        settled: Settled,
        sinks: &mut Sinks<'_>,
    ) {
        let waits = self.sampler.waits();
        if !waits && !settled.sampled && self.metrics.is_none() {
            self.counts.sampled_out += 1;
            return;
        }
        let Some(request) = self.requests.get(slot) else { return };
        let (started, tree) = (&*request.started, request.tree);
        let (process, at_ns) = started.owner();
        let resource = self.processes.resource(process, at_ns);
        let conn = self.conns.get(started.cookie);
        let facts = Facts { request, finished, conn, known_methods: &self.config.known_methods };
        let mut texts = Texts::new(&facts);
        let route = route(self.routes.as_mut(), &facts, &resource);
        // What is learnt for judging alone is nobody's to see.
        let shown = route.filter(|route| route.is_told || self.config.routes.learn);
        texts.set_route(shown.map(|route| route.text));
        if waits {
            let of =
                (resource.service_name(), texts.method(), route.map_or("", |route| route.text));
            judge(&mut self.sampler, &mut self.trees, &facts, of, end_ns);
        }
        if let Some(metrics) = &mut self.metrics {
            let is_kept = settled.sampled || (waits && !self.trees.why(tree).is_none());
            measure(metrics, &facts, &texts, &resource, (&settled, end_ns, is_kept));
        }
        let mut spans = Spans::default();
        let fate = self.sampler.fate(&mut self.trees, tree, &settled, &mut spans, sinks.out);
        if fate == Some(Fate::Dropped) {
            spans.dropped += 1;
            return self.counts.left(spans);
        }
        texts.add_url(&facts, &mut self.url);
        let attributes = texts.attributes(&facts, &self.url);
        let span = Span {
            trace: settled.trace,
            id: started.span,
            parent: request.parent.map(|parent| parent.span),
            parent_remote: request.parent.is_some_and(|parent| parent.remote),
            trace_flags: settled.flags,
            tracestate: tracestate(request, &settled),
            name: texts.name(&mut self.name),
            kind: match request.role {
                Role::Server => Kind::Server,
                Role::Client => Kind::Client,
            },
            start_unix_ns: unix_ns(started.start_ns, settled.offset),
            end_unix_ns: unix_ns(end_ns, settled.offset),
            end_boot_ns: end_ns,
            error: texts.error_type().is_some(),
            attributes: &attributes,
            links: &[],
            resource: &resource,
        };
        match fate {
            Some(Fate::Kept(threshold)) => {
                let tracestate = self.sampler.state(span.tracestate, threshold);
                sinks.out.span(&Span { tracestate, ..span });
                spans.out += 1;
            }
            _ => {
                let (copy, when) = ((&span, &resource), (tree, self.now));
                let trees = &mut self.trees;
                self.sampler.wait(trees, copy, settled, when, &mut spans, sinks.out);
            }
        }
        self.counts.left(spans);
    }

    /// Gives the trace of `tree` the threshold of its service's rate, once.
    fn limit_rate(&mut self, tree: u32) {
        let Some(rates) = &mut self.sampler.rates else { return };
        let Some((process, at_ns)) = self.trees.unlimited(tree) else { return };
        let resource = self.processes.resource(process, at_ns);
        self.trees.limit(tree, rates.threshold(resource.service_name(), self.now));
    }

    fn forget(&mut self, slot: u32, end_ns: u64, sinks: &mut Sinks<'_>) {
        self.withdraw(slot);
        let Some(request) = self.requests.remove(slot) else { return };
        if let Some(peer) = self.requests.get_mut(request.peer) {
            peer.peer = NONE;
            // A client's end that is the bytes' arrival, against a server's that is only its
            // call's end: the client's span is made to hold it.
            if request.role == Role::Server && request.is_complete() {
                peer.peer_end_ns = Some(end_ns);
            } else if request.role == Role::Server && request.is_unobserved() {
                peer.peer_unobserved_ns = Some(end_ns);
            }
        }
        self.conns.drop_request(request.started.cookie, slot);
        self.trees.release(request.tree);
        self.bytes = self.bytes.saturating_sub(request.bytes);
        (sinks.recycle)(request.started);
    }
}

/// The route of a server request. What was not answered as something that is there teaches nothing.
fn route<'r>(
    routes: Option<&'r mut Routes>,
    facts: &Facts<'_>,
    resource: &Resource,
) -> Option<Route<'r>> {
    let routes = routes.filter(|_| facts.request.role == Role::Server)?;
    let path = path(&facts.request.started.head)?;
    let teaches = facts.finished.failure.is_none() && facts.finished.status.is_some_and(proves);
    routes.route(resource.service_name(), &path, teaches)
}

/// Asks whether its service, method and route keep the request's trace: those of a server, or of a client that is
/// the root, which has no route.
fn judge(
    sampler: &mut Sampler,
    trees: &mut Trees,
    facts: &Facts<'_>,
    route: (ServiceName<'_>, &str, &str),
    end_ns: u64,
) {
    let request = facts.request;
    let is_server = request.role == Role::Server;
    if request.is_unobserved() || !(is_server || request.parent.is_none()) {
        return;
    }
    let took_ns = end_ns.saturating_sub(request.started.start_ns);
    sampler.judge(trees, request.tree, route, (is_server, took_ns, end_ns));
}

/// The request's own tracestate, when it came with the traceparent of its trace.
fn tracestate<'r>(request: &'r Request, settled: &Settled) -> &'r str {
    // W3C: 32 members of at most 512 bytes; more than 4 KiB of head is not captured anyway.
    let head = &request.started.head;
    let own = request.declared.is_some_and(|declared| declared.trace == settled.trace)
        && head.get(Name::Traceparent).is_some();
    let state = head.get(Name::Tracestate).filter(|_| own).unwrap_or_default();
    std::str::from_utf8(state).unwrap_or_default()
}
