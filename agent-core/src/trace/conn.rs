//! Connections: their ends, their peer on this host, their open requests.

use super::bounded::Bounded;
use super::text::Text;
use crate::message::{Encryption, Endpoints};
use hashbrown::{HashMap, HashSet};
use smallvec::SmallVec;
use std::fmt::Write;
use std::net::Ipv6Addr;

/// Address family of unix sockets.
pub(super) const AF_UNIX: u16 = 1;

/// Addresses of this host that are remembered; hosts have tens, container hosts hundreds.
const MAX_LOCAL_ADDRESSES: usize = 4096;

/// Requests on one connection that wait for the other end's, in vain and in a row, before further
/// ones do not: that end is not watched. One that is seen after all is waited for again.
const PATIENCE: u8 = 8;

/// One socket.
#[derive(Debug, Default)]
pub(super) struct Conn {
    /// None while only its requests, or its peer, have named it.
    pub(super) ends: Option<Box<Endpoints>>,
    /// Remote and local address as text; the path of a unix socket in both.
    pub(super) remote: Text,
    pub(super) local: Text,
    /// Cookie of the other end on this host, 0 while unknown.
    pub(super) peer: u64,
    /// Slots of its requests that are not given out yet, oldest first.
    pub(super) requests: SmallVec<[u32; 2]>,
    /// Requests in a row that waited for the other end's request in vain: see [`PATIENCE`].
    pub(super) unmet: u8,
    /// The other end is on this host for certain.
    pub(super) same_host: bool,
    /// The socket is gone: the entry goes with its last request.
    pub(super) gone: bool,
    /// Thread that read its requests so far, 0 before the first.
    reader: u32,
    /// Several threads did.
    shared: bool,
}

impl Conn {
    /// Thread `tid` reads a request. True when another one did before.
    pub(super) fn is_shared_by(&mut self, tid: u32) -> bool {
        self.shared |= self.reader != 0 && self.reader != tid;
        self.reader = tid;
        self.shared
    }

    /// Its requests travel encrypted: their positions are counters of plaintext.
    pub(super) fn encryption(&self) -> Option<&Encryption> {
        self.ends.as_ref()?.encryption.as_deref()
    }

    pub(super) fn is_unix(&self) -> bool {
        self.ends.as_ref().is_some_and(|ends| ends.family == AF_UNIX)
    }
}

/// How two sockets' addresses relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// One's local end is the other's remote end and vice versa.
    Reversed,
    /// They cannot tell: another network namespace (addresses may be translated), or unknown.
    Open,
    /// Same network namespace and other addresses.
    Contradicts,
}

/// Compares the ends of two sockets.
pub(super) fn relation(one: Option<&Endpoints>, other: Option<&Endpoints>) -> Relation {
    let (Some(one), Some(other)) = (one, other) else { return Relation::Open };
    let reversed = one.local_port == other.remote_port
        && one.remote_port == other.local_port
        && one.local_addr == other.remote_addr
        && one.remote_addr == other.local_addr;
    if reversed {
        Relation::Reversed
    } else if one.netns == other.netns && one.netns != 0 {
        Relation::Contradicts
    } else {
        Relation::Open
    }
}

/// All connections.
#[derive(Debug)]
pub(super) struct Conns {
    map: Bounded<u64, Conn>,
    /// Addresses at which a socket of this host was seen.
    local: HashSet<[u8; 16]>,
    /// Encrypted TCP connections by the positions of their ciphertext ([`Encryption::marks`]); 0 where
    /// several have the same.
    marks: HashMap<(u32, u32), u64>,
    pub(super) evicted: u64,
    /// Where addresses are written.
    scratch: String,
}

impl Conns {
    pub(super) fn new(limit: usize) -> Self {
        Conns {
            map: Bounded::new(limit),
            local: HashSet::new(),
            marks: HashMap::new(),
            evicted: 0,
            scratch: String::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn get(&self, cookie: u64) -> Option<&Conn> {
        self.map.get(&cookie)
    }

    pub(super) fn get_mut(&mut self, cookie: u64) -> Option<&mut Conn> {
        self.map.get_mut(&cookie)
    }

    /// Makes sure that `cookie` has an entry. Requests of one that had to leave come back.
    pub(super) fn ensure(&mut self, cookie: u64) -> SmallVec<[u32; 2]> {
        if self.map.get(&cookie).is_some() {
            return SmallVec::new();
        }
        let (_, evicted) = self.map.insert(cookie, Conn::default());
        self.evicted += u64::from(evicted.is_some());
        let Some((other, conn)) = evicted else { return SmallVec::new() };
        self.part(&conn, other);
        conn.requests
    }

    /// Notes the ends of a socket that has an entry.
    pub(super) fn describe(&mut self, cookie: u64, ends: Box<Endpoints>) {
        if self.local.len() < MAX_LOCAL_ADDRESSES && ends.family != AF_UNIX {
            self.local.insert(ends.local_addr);
        }
        let Some(conn) = self.map.get_mut(&cookie) else { return };
        if ends.family == AF_UNIX {
            let path = unix_path(&ends.path);
            (conn.local, conn.remote) = (path.as_str().into(), path.as_str().into());
        } else {
            conn.local = written(&mut self.scratch, &ends.local_addr);
            conn.remote = written(&mut self.scratch, &ends.remote_addr);
        }
        conn.same_host = ends.family == AF_UNIX
            || ends.remote_addr == ends.local_addr
            || Ipv6Addr::from(ends.remote_addr).to_canonical().is_loopback();
        if ends.peer_cookie != 0 {
            conn.peer = ends.peer_cookie;
        }
        let encrypted = ends.family != AF_UNIX && ends.encryption.is_some();
        conn.ends = Some(ends);
        if encrypted {
            self.meet(cookie);
        }
    }

    /// Looks for the other end of an encrypted connection: both ends know the same positions of the
    /// ciphertext, 64 bits that no other pair has but by chance. Addresses can only refuse.
    fn meet(&mut self, cookie: u64) {
        let Some(conn) = self.map.get(&cookie) else { return };
        let ends = conn.ends.as_deref();
        let marks = conn.encryption().map(|known| known.marks.clone()).unwrap_or_default();
        let peer = marks.iter().find_map(|(sent, received)| {
            let other = *self.marks.get(&(*received, *sent))?;
            let other_ends = self.map.get(&other)?.ends.as_deref();
            let refused = other == cookie || relation(ends, other_ends) == Relation::Contradicts;
            (!refused).then_some(other)
        });
        for mark in marks {
            let entry = self.marks.entry(mark).or_insert(cookie);
            if *entry != cookie {
                *entry = 0;
            }
        }
        let Some(peer) = peer else { return };
        for (this, that) in [(cookie, peer), (peer, cookie)] {
            if let Some(conn) = self.map.get_mut(&this) {
                conn.peer = that;
            }
        }
    }

    /// Nobody finds it by its positions any more.
    fn part(&mut self, conn: &Conn, cookie: u64) {
        for mark in conn.encryption().map(|known| known.marks.clone()).unwrap_or_default() {
            if self.marks.get(&mark).is_some_and(|known| *known == cookie || *known == 0) {
                self.marks.remove(&mark);
            }
        }
    }

    /// True when the other end is a socket of this host and not known to be left out: then its
    /// client span is worth waiting for.
    pub(super) fn peer_is_here(&self, conn: &Conn) -> bool {
        let here = conn.same_host
            || conn.ends.as_ref().is_some_and(|ends| self.local.contains(&ends.remote_addr));
        here && conn.unmet < PATIENCE
    }

    /// A request on `cookie` waited for the other end's in vain.
    pub(super) fn unmet(&mut self, cookie: u64) {
        if let Some(conn) = self.map.get_mut(&cookie) {
            conn.unmet = conn.unmet.saturating_add(1);
        }
    }

    /// Takes a request off its connection; the entry goes when nothing needs it.
    pub(super) fn drop_request(&mut self, cookie: u64, request: u32) {
        let Some(conn) = self.map.get_mut(&cookie) else { return };
        if let Some(at) = conn.requests.iter().position(|other| *other == request) {
            conn.requests.remove(at);
        }
        if conn.gone && conn.requests.is_empty() {
            self.remove(cookie);
        }
    }

    fn remove(&mut self, cookie: u64) {
        if let Some(conn) = self.map.remove(&cookie) {
            self.part(&conn, cookie);
        }
    }

    /// The socket is gone.
    pub(super) fn gone(&mut self, cookie: u64) {
        let Some(conn) = self.map.get_mut(&cookie) else { return };
        conn.gone = true;
        let peer = conn.peer;
        if conn.requests.is_empty() {
            self.remove(cookie);
        }
        // An entry that only the pairing made is never named by a record of its own.
        let hollow = self.map.get(&peer).is_some_and(|p| p.ends.is_none() && p.requests.is_empty());
        if hollow {
            self.map.remove(&peer);
        }
    }
}

fn written(scratch: &mut String, address: &[u8; 16]) -> Text {
    scratch.clear();
    // Writing into a String cannot fail.
    let _ = write!(scratch, "{}", Ipv6Addr::from(*address).to_canonical());
    scratch.as_str().into()
}

/// An abstract name begins with NUL; people write it with `@`.
fn unix_path(path: &[u8]) -> String {
    match path {
        [0, name @ ..] => format!("@{}", String::from_utf8_lossy(name)),
        path => String::from_utf8_lossy(path).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_people_write_them() {
        for (bytes, text) in [
            (std::net::Ipv4Addr::new(10, 0, 0, 7).to_ipv6_mapped(), "10.0.0.7"),
            (Ipv6Addr::LOCALHOST, "::1"),
        ] {
            assert_eq!(&*written(&mut String::new(), &bytes.octets()), text);
        }
        assert_eq!(unix_path(b"\0dbus"), "@dbus");
    }

    #[test]
    fn addresses_decide_only_within_one_namespace() {
        let ends = |netns, local_port, remote_port| Endpoints {
            netns,
            local_port,
            remote_port,
            family: 2,
            ..Endpoints::default()
        };
        let here = ends(1, 80, 5000);
        for (why, other, expected) in [
            ("the peer", ends(1, 5000, 80), Relation::Reversed),
            ("the peer in another namespace", ends(2, 5000, 80), Relation::Reversed),
            ("another socket here", ends(1, 5001, 80), Relation::Contradicts),
            ("translated elsewhere", ends(2, 5001, 80), Relation::Open),
        ] {
            assert_eq!(relation(Some(&here), Some(&other)), expected, "{why}");
        }
        assert_eq!(relation(Some(&here), None), Relation::Open);
    }
}
