//! Shares of the memory budget (`--max-memory`): what each table and buffer may hold. All of them full
//! at once stay within the budget, the kernel's maps included.

use crate::config::Settings;
use crate::uprobe::tables::MOST_ENTRIES;
use agent_core::connection::ShardConfig;
use agent_core::trace::Limits;

/// The budget where none is given.
const DEFAULT: u64 = 512 << 20;

/// What one idle connection takes: its state in the kernel, in its shard and in the assembler. Measured
/// by `cargo xtask bench connections`; the aim is 1.3 KB.
const CONNECTION: u64 = 1300;

/// What one open request takes beside its head.
const REQUEST: u64 = 1000;

/// What the kernel side keeps of a socket that carries TLS and of its library's object, with their places in the
/// tables. (And for every third of them 144 bytes of a goroutine's call.)
const TLS_SOCKET: u64 = 256;

/// A run's share of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The whole.
    budget: u64,
}

impl Memory {
    /// As the settings say.
    pub fn of(settings: &Settings) -> Memory {
        Memory { budget: settings.max_memory.unwrap_or(DEFAULT) }
    }

    /// Connections: a quarter.
    fn connections(self) -> usize {
        count(self.budget / 4 / CONNECTION)
    }

    /// Largest payload rings, all together: an eighth. They lie in the kernel and are mapped.
    pub fn rings(self) -> u64 {
        self.budget / 8
    }

    /// The queue before the network: a thirty-second part for each of traces and logs.
    pub fn queue(self) -> u64 {
        self.budget / 32
    }

    /// Sockets whose TLS is read at once: a thirty-second part. 65,536 by default; no more than are looked through
    /// where room is needed.
    pub fn tls_sockets(self) -> u32 {
        u32::try_from(self.budget / 32 / TLS_SOCKET)
            .map_or(MOST_ENTRIES, |sockets| sockets.min(MOST_ENTRIES))
    }

    /// One of so many shards.
    pub fn shard(self, config: ShardConfig, shards: usize) -> ShardConfig {
        ShardConfig {
            max_connections: self.connections() / shards.max(1),
            max_held_bytes: count(self.budget / 32) / shards.max(1),
            ..config
        }
    }

    /// The assembler: an eighth for open requests, a sixteenth for their heads, half of that for spans whose
    /// trace is not decided.
    pub fn limits(self) -> Limits {
        let usual = Limits::default();
        Limits {
            open_requests: count(self.budget / 8 / REQUEST),
            held_bytes: count(self.budget / 16),
            undecided_bytes: count(self.budget / 32),
            connections: self.connections(),
            threads: usual.threads.min(count(self.budget / 16 / 200)),
            processes: usual.processes.min(count(self.budget / 16 / 1000)),
            queued: usual.queued.min(count(self.budget / 16 / 300)),
            ..usual
        }
    }
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_grow_with_the_budget_and_fit_into_it() {
        for mib in [64_u64, 256, 512, 4096] {
            let memory = Memory { budget: mib << 20 };
            let limits = memory.limits();
            let shard = memory.shard(ShardConfig::default(), 1);
            let sum = limits.connections as u64 * CONNECTION
                + limits.open_requests as u64 * REQUEST
                + limits.held_bytes as u64
                + limits.undecided_bytes as u64
                + shard.max_held_bytes as u64
                + memory.rings()
                + 2 * memory.queue()
                + u64::from(memory.tls_sockets()) * (TLS_SOCKET + 144 / 3);
            assert!(sum <= (mib << 20) / 8 * 7, "{mib} MiB: {sum}");
            assert!(limits.connections >= 10_000, "{limits:?}");
            let quarter = memory.shard(ShardConfig::default(), 4);
            assert_eq!(quarter.max_connections, shard.max_connections / 4);
        }
        let usual = Memory { budget: DEFAULT }.limits();
        let sockets = |gib: u64| Memory { budget: gib << 30 }.tls_sockets();
        assert_eq!(Memory { budget: DEFAULT }.tls_sockets(), 65_536);
        assert_eq!([8, 16, 1 << 20].map(sockets), [MOST_ENTRIES; 3]);
        assert!(usual.connections > 100_000 && usual.open_requests >= 65_536, "{usual:?}");
        assert_eq!(usual.threads, Limits::default().threads);
    }
}
