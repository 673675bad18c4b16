//! Both ends of one connection on this host: the server's request and the client's are the same
//! bytes at the same positions.
//!
//! TCP sockets find each other by the positions of both directions, 64 bits that both ends know
//! and no address translation changes; addresses can only refuse, or choose among several. Once
//! two sockets are a pair, later requests need the request's position only, because with
//! pipelining the ends do not see the same position of the other direction. Unix sockets know
//! their peer. Encrypted connections meet by positions of their ciphertext; their requests' positions
//! are counters of plaintext, which many connections share.

use super::conn::{Conn, Relation, relation};
use super::core::Core;
use super::request::{Evidence, Parent, Request};
use crate::message::Role;

impl Core {
    /// Looks for the other end of the request in `slot`, and unites them.
    pub(super) fn join(&mut self, slot: u32) {
        let Some(request) = self.requests.get(slot) else { return };
        let Some(conn) = self.conns.get(request.started.cookie) else { return };
        if !self.config.linker.connections {
            return;
        }
        let (role, unix, peer) = (request.role, conn.is_unix(), conn.peer);
        let encryption = conn.encryption();
        let counted = unix || encryption.is_some();
        let other = match peer {
            0 if counted => None,
            0 => self.by_positions(slot, request),
            peer => {
                let ends = [encryption, self.conns.get(peer).and_then(Conn::encryption)];
                let older = ends.iter().flatten().any(|known| !known.from_start);
                self.by_pair(request, peer, unix || older)
            }
        };
        let Some(other) = other else {
            if peer == 0 && !counted {
                self.offer(slot);
            }
            return;
        };
        match role {
            Role::Client => self.unite(slot, other),
            Role::Server => self.unite(other, slot),
        }
    }

    /// Lets a later request find this one by its positions.
    fn offer(&mut self, slot: u32) {
        let Some(request) = self.requests.get_mut(slot) else { return };
        let hash = self.by_position.hash(positions(request));
        request.keys.join = hash;
        self.by_position.insert(hash, slot);
    }

    fn by_positions(&self, slot: u32, request: &Request) -> Option<u32> {
        let wanted = positions(request);
        let ends = |request: &Request| {
            self.conns.get(request.started.cookie).and_then(|conn| conn.ends.as_deref())
        };
        let (mut reversed, mut open) = (Found::Nothing, Found::Nothing);
        for candidate in self.by_position.candidates(self.by_position.hash(wanted)) {
            let Some(other) = self.requests.get(candidate) else { continue };
            let fits = candidate != slot
                && other.role != request.role
                && !other.joined
                && other.started.cookie != request.started.cookie
                && positions(other) == wanted;
            if fits {
                match relation(ends(request), ends(other)) {
                    Relation::Reversed => reversed.add(candidate),
                    Relation::Open => open.add(candidate),
                    Relation::Contradicts => {}
                }
            }
        }
        match reversed {
            Found::Nothing => open.only(),
            found => found.only(),
        }
    }

    /// Among the peer's requests: the one at the same position; where positions are own counters (unix
    /// sockets, plaintext) first the only one, because counters of sockets older than the agent began
    /// at different bytes.
    fn by_pair(&self, request: &Request, peer: u64, counted: bool) -> Option<u32> {
        let conn = self.conns.get(peer)?;
        let (mut any, mut same) = (Found::Nothing, Found::Nothing);
        for slot in &conn.requests {
            let Some(other) = self.requests.get(*slot) else { continue };
            if other.role == request.role || other.joined {
                continue;
            }
            if counted && could_be_ends(request, other) {
                any.add(*slot);
            }
            if other.started.position as u32 == request.started.position as u32 {
                same.add(*slot);
            }
        }
        if counted { any.only().or(same.only()) } else { same.only() }
    }

    /// Makes the server's request the child of the client's.
    fn unite(&mut self, client: u32, server: u32) {
        self.pair(client, server);
        let (Some(above), Some(below)) = (self.requests.get(client), self.requests.get(server))
        else {
            return;
        };
        let (above_tree, below_tree, planted) = (above.tree, below.tree, below.planted);
        let remote = above.started.thread.process != below.started.thread.process;
        let parent = Parent { span: above.started.span, evidence: Evidence::Connection, remote };
        if !planted || !self.trees.graft(below_tree, above_tree) {
            self.counts.late_joins += 1;
            return;
        }
        self.align_starts(client, server);
        if let Some(below) = self.requests.get_mut(server) {
            below.parent = Some(parent);
            below.planted = false;
            below.joined = true;
            below.peer = client;
        }
        if let Some(above) = self.requests.get_mut(client) {
            above.joined = true;
            above.peer = server;
        }
        self.pass_end_down(client);
    }

    /// Both sockets now know each other, and neither request needs to be found any more.
    fn pair(&mut self, client: u32, server: u32) {
        let cookie = |request: &Request| request.started.cookie;
        let (Some(one), Some(other)) =
            (self.requests.get(client).map(cookie), self.requests.get(server).map(cookie))
        else {
            return;
        };
        for (this, that) in [(one, other), (other, one)] {
            if let Some(conn) = self.conns.get_mut(this) {
                conn.peer = that;
                conn.unmet = 0;
            }
        }
        self.withdraw(client);
        self.withdraw(server);
    }

    /// Takes a request out of the index of positions.
    pub(super) fn withdraw(&mut self, slot: u32) {
        let Some(request) = self.requests.get_mut(slot) else { return };
        let hash = std::mem::take(&mut request.keys.join);
        if hash != 0 {
            self.by_position.remove(hash, slot);
        }
    }

    /// A server span begins inside its client span. Where the client's time is only its call's
    /// end, the arrival corrects it; a true time of the client corrects a stale arrival.
    fn align_starts(&mut self, client: u32, server: u32) {
        let (Some(above), Some(below)) = (self.requests.get(client), self.requests.get(server))
        else {
            return;
        };
        let arrival = below.started.start_ns;
        if above.started.start_ns <= arrival {
            return;
        }
        let sent = match above.started.true_start {
            true => above.started.start_ns,
            false => arrival.max(above.floor_ns),
        };
        if let Some(above) = self.requests.get_mut(client) {
            above.started.start_ns = sent;
            self.counts.starts_corrected += u64::from(sent == arrival);
        }
        if let Some(below) = self.requests.get_mut(server)
            && below.started.start_ns < sent
        {
            below.started.start_ns = sent;
            self.counts.starts_clamped += 1;
        }
    }

    /// A server span ends inside its client span, when that saw the whole response, or when nobody
    /// saw either end. (After a client that gave up, a server may well work on.)
    pub(super) fn pass_end_down(&mut self, client: u32) {
        let Some(above) = self.requests.get(client) else { return };
        let Some(end) = above.finished.map(|end| end.end_ns) else { return };
        let (complete, unobserved) = (above.is_complete(), above.is_unobserved());
        let server = above.peer;
        let Some(below) = self.requests.get_mut(server) else { return };
        if complete {
            below.peer_end_ns = Some(end);
        } else if unobserved {
            below.peer_unobserved_ns = Some(end);
        }
    }
}

/// Most by which a unix client's send may be reported after the server took its bytes. Longer
/// would take a client's next request for the one before it.
const REPORTED_LATER_NS: u64 = 5_000_000;

/// Could the two unix requests be the same one, by their times? The client's send entered the
/// socket before the program behind the server's took it; without a true time it may be reported
/// a little later.
fn could_be_ends(one: &Request, other: &Request) -> bool {
    let (client, server) = if one.role == Role::Client { (one, other) } else { (other, one) };
    client.started.start_ns <= server.started.taken_ns.saturating_add(REPORTED_LATER_NS)
}

/// The low halves: for TCP the raw sequence numbers, which both ends know.
fn positions(request: &Request) -> (u32, u32) {
    (request.started.position as u32, request.started.opposite as u32)
}

/// One, none, or too many.
#[derive(Clone, Copy)]
enum Found {
    Nothing,
    One(u32),
    Several,
}

impl Found {
    fn add(&mut self, slot: u32) {
        *self = match self {
            Found::Nothing => Found::One(slot),
            Found::One(_) | Found::Several => Found::Several,
        };
    }

    fn only(self) -> Option<u32> {
        match self {
            Found::One(slot) => Some(slot),
            Found::Nothing | Found::Several => None,
        }
    }
}
