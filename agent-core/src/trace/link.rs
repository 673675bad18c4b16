//! The parent of a client span, by the evidence ladder: headers, the context that the thread has published,
//! then the thread. No evidence, no parent.
//!
//! A published context names the span of the program's own tracer that is active: the parent is that span,
//! also where a server span of the agent's is open. Which of the two is above the other nobody says.

use super::context::{self, Declared, Format};
use super::core::Core;
use super::request::{Evidence, Parent};
use super::sampling::state;
use crate::message::{Name, Role, Started};

impl Core {
    /// The context that the head declares: `traceparent`, else `b3`.
    pub(super) fn declared(&self, started: &Started) -> Option<Declared> {
        if !self.config.linker.headers {
            return None;
        }
        let mut w3c = started.head.get(Name::Traceparent).and_then(context::traceparent);
        if let Some(found) = &mut w3c {
            let state = started.head.get(Name::Tracestate).unwrap_or_default();
            found.randomness = std::str::from_utf8(state).ok().and_then(state::randomness);
        }
        w3c.or_else(|| started.head.get(Name::B3).and_then(context::b3))
    }

    /// Finds the open server span that is the parent of the client request in `slot`: its slot,
    /// and how it was found.
    ///
    /// A context that an open server span of the process received, sent on unchanged, comes from a
    /// program that only copies headers: the client span is that server span's child. Any other
    /// context was made by something inside the program, and names the parent itself.
    fn find_parent(&mut self, slot: u32) -> Option<(u32, Evidence)> {
        let request = self.requests.get(slot)?;
        let started = &request.started;
        let threads = self.config.linker.threads;
        let at = started.start_ns;
        let by_thread =
            if threads { self.threads.serves(&started.thread, at, &self.requests) } else { None };
        if let Some(declared) = request.declared {
            // What is published is the parent itself, and not sent on by anybody.
            let sent = declared.format != Format::Thread;
            let server = sent.then(|| self.receiver_of(started, &declared, by_thread)).flatten()?;
            return Some((server, evidence(&declared)));
        }
        match self.by_request_id(started) {
            Some(server) => Some((server, Evidence::RequestId)),
            None => {
                let goroutine = started.thread.context != 0;
                let evidence = if goroutine { Evidence::Goroutine } else { Evidence::Thread };
                by_thread.map(|server| (server, evidence))
            }
        }
    }

    /// An open server span of the process received `declared`.
    fn was_received(&self, started: &Started, declared: &Declared) -> bool {
        self.receivers(started, declared).next().is_some()
    }

    /// The open server spans of the process that received `declared`.
    fn receivers(&self, started: &Started, declared: &Declared) -> impl Iterator<Item = u32> {
        let process = started.thread.process;
        let hash = self.by_declared.hash((process, declared.trace, declared.span));
        self.by_declared.candidates(hash).filter(move |slot| {
            self.requests.get(*slot).is_some_and(|server| {
                let theirs = server.declared.as_ref();
                server.started.thread.process == process
                    && server.is_open()
                    && theirs.is_some_and(|theirs| theirs.same_parent(declared))
            })
        })
    }

    /// The open server span of the process that received `declared`. Of several the one that the
    /// thread serves, else none: then the header's own span is the parent, which is also true.
    fn receiver_of(
        &self,
        started: &Started,
        declared: &Declared,
        by_thread: Option<u32>,
    ) -> Option<u32> {
        let mut servers = self.receivers(started, declared);
        let first = servers.next()?;
        if servers.next().is_none() {
            return Some(first);
        }
        let by_thread = by_thread?;
        self.receivers(started, declared).find(|slot| *slot == by_thread)
    }

    /// The only open server span of the process that carries the request id which `started`
    /// carries.
    fn by_request_id(&self, started: &Started) -> Option<u32> {
        let id = self.request_id(started)?;
        let process = started.thread.process;
        let hash = self.by_request_id.hash((process, id));
        let mut servers = self.by_request_id.candidates(hash).filter(|slot| {
            self.requests.get(*slot).is_some_and(|server| {
                server.started.thread.process == process
                    && server.is_open()
                    && server.started.head.get(Name::RequestId) == Some(id)
            })
        });
        let first = servers.next()?;
        servers.next().is_none().then_some(first)
    }

    fn request_id<'s>(&self, started: &'s Started) -> Option<&'s [u8]> {
        let id = started.head.get(Name::RequestId)?;
        (self.config.linker.headers && !id.is_empty()).then_some(id)
    }

    /// Lets client requests of the process find the server request in `slot`.
    pub(super) fn index_headers(&mut self, slot: u32) {
        let Some(request) = self.requests.get(slot) else { return };
        let process = request.started.thread.process;
        let declared = request
            .declared
            .map_or(0, |declared| self.by_declared.hash((process, declared.trace, declared.span)));
        let id = self
            .request_id(&request.started)
            .map_or(0, |id| self.by_request_id.hash((process, id)));
        if declared != 0 {
            self.by_declared.insert(declared, slot);
        }
        if id != 0 {
            self.by_request_id.insert(id, slot);
        }
        if let Some(request) = self.requests.get_mut(slot) {
            request.keys.declared = declared;
            request.keys.request_id = id;
        }
    }

    /// The server request in `slot` is open no more.
    pub(super) fn unindex_headers(&mut self, slot: u32) {
        let Some(request) = self.requests.get_mut(slot) else { return };
        let declared = std::mem::take(&mut request.keys.declared);
        let id = std::mem::take(&mut request.keys.request_id);
        if declared != 0 {
            self.by_declared.remove(declared, slot);
        }
        if id != 0 {
            self.by_request_id.remove(id, slot);
        }
    }

    /// Takes what the client request in `slot` has published for its parent: where no header names one; and
    /// where the header is what a server request of the process was sent, and the same trace is meant. A
    /// header that was made inside the program names the latest span.
    fn take_published(&mut self, slot: u32) {
        let Some(request) = self.requests.get(slot) else { return };
        let published = request.started.published.filter(|_| self.config.linker.headers);
        let Some(published) = published.map(Declared::from) else { return };
        let takes = request.declared.is_none_or(|header| {
            header.trace == published.trace && self.was_received(&request.started, &header)
        });
        if takes && let Some(request) = self.requests.get_mut(slot) {
            request.declared = Some(published);
        }
    }

    /// Parent and tree of the client request in `slot`.
    pub(super) fn attach_client(&mut self, slot: u32) {
        self.threads.calls(slot, &self.requests, &mut self.trees);
        self.take_published(slot);
        let Some((server, evidence)) = self.find_parent(slot) else { return self.plant(slot, 0) };
        let Some(above) = self.requests.get(server) else { return };
        let parent = Parent { span: above.started.span, evidence, remote: false };
        let floor = above.started.start_ns;
        let tree = self.trees.open(above.tree);
        if let Some(request) = self.requests.get_mut(slot) {
            request.parent = Some(parent);
            request.tree = tree;
            request.floor_ns = floor;
        }
    }

    /// The request in `slot` is the root of a tree of its own, perhaps below a span that its
    /// header names.
    pub(super) fn plant(&mut self, slot: u32, hold_until: u64) {
        let Some(request) = self.requests.get_mut(slot) else { return };
        let (span, declared) = (request.started.span, request.declared);
        let began = (request.started.owner(), request.started.start_ns);
        request.tree = self.trees.plant(span, declared, began, hold_until);
        request.planted = true;
        request.parent = declared.map(|declared| Parent {
            span: declared.span,
            evidence: evidence(&declared),
            remote: request.role == Role::Server,
        });
    }
}

fn evidence(declared: &Declared) -> Evidence {
    match declared.format {
        Format::Traceparent => Evidence::Traceparent,
        Format::B3 => Evidence::B3,
        Format::Thread => Evidence::ThreadContext,
    }
}
