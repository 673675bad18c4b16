//! The agent's own endpoints: a connection with the agent at either end is never reported.

use crate::message::{Head, Name};
use agent_common::record;

/// Product token (RFC 9110 section 10.1.5) that begins the User-Agent of every request of an agent,
/// [`PRODUCT_TOKEN`]. A macro, so that `concat!` takes it.
#[macro_export]
macro_rules! product_token {
    () => {
        "kernspan/"
    };
}

/// How the User-Agent of an agent's own requests begins: this one's, and every other agent's.
pub const PRODUCT_TOKEN: &str = product_token!();

/// Whether an agent sent this request. Agents that reported each other's exports would never stop:
/// each report is another export.
pub(super) fn is_export(head: &Head) -> bool {
    head.get(Name::UserAgent).is_some_and(|agent| agent.starts_with(PRODUCT_TOKEN.as_bytes()))
}

/// More than an agent listens on or exports to at once; the oldest goes first.
const MAX_ENDPOINTS: usize = 64;

const V4_MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
const V6_LOOPBACK: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Where the agent itself listens, or what it connected from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnEndpoint {
    /// Its address, IPv4-mapped for IPv4; `None` for any address of this host.
    pub addr: Option<[u8; 16]>,
    /// Its port.
    pub port: u16,
    /// Its network namespace (inode number); `None` for any.
    pub netns: Option<u32>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct OwnEndpoints(Vec<OwnEndpoint>);

impl OwnEndpoints {
    pub(super) fn add(&mut self, endpoint: OwnEndpoint) {
        if self.0.contains(&endpoint) {
            return;
        }
        if self.0.len() >= MAX_ENDPOINTS {
            self.0.remove(0);
        }
        self.0.push(endpoint);
    }

    /// Whether either end of `connection` is the agent.
    pub(super) fn own(&self, connection: &record::Connection) -> bool {
        self.0.iter().any(|own| {
            own.netns.is_none_or(|netns| netns == connection.netns)
                && (own.is_local_end(connection) || own.is_remote_end(connection))
        })
    }
}

impl OwnEndpoint {
    fn is_local_end(&self, connection: &record::Connection) -> bool {
        connection.family != 1
            && connection.local_port == self.port
            && self.addr.is_none_or(|addr| addr == connection.local_addr)
    }

    /// Without an address, the remote end is this host's only where that shows: loopback, or the
    /// same address at both ends.
    fn is_remote_end(&self, connection: &record::Connection) -> bool {
        let remote = connection.remote_addr;
        connection.family != 1
            && connection.remote_port == self.port
            && match self.addr {
                Some(addr) => addr == remote,
                None => is_loopback(&remote) || remote == connection.local_addr,
            }
    }
}

fn is_loopback(addr: &[u8; 16]) -> bool {
    *addr == V6_LOOPBACK || (addr.starts_with(&V4_MAPPED) && addr[12] == 127)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(octets: [u8; 4]) -> [u8; 16] {
        let mut addr = [0; 16];
        addr[..12].copy_from_slice(&V4_MAPPED);
        addr[12..].copy_from_slice(&octets);
        addr
    }

    #[test]
    fn who_is_own() {
        let (loopback, host, other) = (v4([127, 0, 0, 1]), v4([10, 0, 0, 5]), v4([10, 0, 0, 6]));
        let any = OwnEndpoint { addr: None, port: 9464, netns: None };
        let one = OwnEndpoint { addr: Some(host), port: 9464, netns: Some(7) };
        for (why, own, local, remote, netns, expected) in [
            ("scraper over loopback", any, (loopback, 50000), (loopback, 9464), 7, true),
            ("the agent's accepted end", any, (host, 9464), (other, 50000), 7, true),
            ("same host, its address", any, (host, 50000), (host, 9464), 7, true),
            ("another host's same port", any, (host, 50000), (other, 9464), 7, false),
            ("another port", any, (loopback, 50000), (loopback, 9465), 7, false),
            ("named address, local peer", one, (other, 50000), (host, 9464), 7, true),
            ("named address elsewhere", one, (host, 50000), (other, 9464), 7, false),
            ("another network namespace", one, (other, 50000), (host, 9464), 8, false),
        ] {
            let mut endpoints = OwnEndpoints::default();
            endpoints.add(own);
            let connection = record::Connection {
                family: 2,
                local_addr: local.0,
                local_port: local.1,
                remote_addr: remote.0,
                remote_port: remote.1,
                netns,
                ..record::Connection::default()
            };
            assert_eq!(endpoints.own(&connection), expected, "{why}");
        }
    }
}
