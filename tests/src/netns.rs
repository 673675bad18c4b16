//! Two network namespaces with a cable between them.

use crate::process::output;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A pair of namespaces, each with one end of a veth pair. Deleted when dropped.
#[derive(Debug)]
pub struct Netns {
    names: [String; 2],
    /// Address of each end.
    pub addresses: [&'static str; 2],
}

impl Netns {
    /// Makes the pair.
    ///
    /// # Panics
    /// When `ip` fails, for example without CAP_NET_ADMIN.
    pub fn pair() -> Netns {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let unique = format!("{}-{number}", std::process::id());
        let names = [format!("ks{unique}a"), format!("ks{unique}b")];
        let pair = Netns { names, addresses: ["10.203.7.1", "10.203.7.2"] };
        let [a, b] = &pair.names;
        for name in [a, b] {
            ip(&["netns", "add", name]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
        }
        ip(&["-n", a, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", b]);
        for (name, address) in [(a, pair.addresses[0]), (b, pair.addresses[1])] {
            ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", "cable"]);
            ip(&["-n", name, "link", "set", "cable", "up"]);
        }
        pair
    }

    /// Words to run a command by, in namespace `side` (0 or 1) and otherwise here.
    pub fn enter(&self, side: usize) -> [String; 2] {
        ["nsenter".to_owned(), format!("--net=/run/netns/{}", self.names[side])]
    }

    /// Words to run a command by, in namespace `side` (0 or 1) and in new pid, mount and cgroup
    /// namespaces. The command dies with the wrapper.
    pub fn wrap(&self, side: usize) -> Vec<String> {
        let unshare = ["unshare", "--cgroup", "--pid", "--mount-proc", "--fork", "--kill-child"];
        ["ip", "netns", "exec", &self.names[side]]
            .iter()
            .chain(&unshare)
            .map(|&word| word.to_owned())
            .collect()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "delete", name]).output();
        }
    }
}

fn ip(arguments: &[&str]) {
    output(Command::new("ip").args(arguments));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_reach_each_other_and_are_gone_afterwards() {
        if !rustix::process::geteuid().is_root() {
            crate::scenario::skip("netns", "not root");
            return;
        }
        let pair = Netns::pair();
        let words = pair.wrap(0);
        let code = "import socket; s = socket.create_server(('10.203.7.1', 0)); \
                    socket.create_connection(s.getsockname()); print(__import__('os').getpid())";
        let text = output(Command::new(&words[0]).args(&words[1..]).args(["python3", "-c", code]));
        assert_eq!(text.trim(), "1", "first of a pid namespace of its own");
        let name = pair.names[0].clone();
        drop(pair);
        assert!(!output(Command::new("ip").args(["netns", "list"])).contains(&name));
    }
}
