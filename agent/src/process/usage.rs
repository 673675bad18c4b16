//! What processes use, from /proc.

use super::ProcessReader;
use super::proc_dir::ProcDir;
use agent_core::event::ProcessKey;
use agent_core::process::Usage;

/// Bytes read of `stat`, `status` and `io`: see proc(5); `status` has about 1500.
const MAX_FILE: usize = 8 * 1024;

/// Most processes read at a time: as many as `pid_max` allows by default on a host of usual size.
const MAX_PROCESSES: usize = 32 * 1024;

/// Reads what all processes use.
pub struct UsageReader {
    reader: ProcessReader,
    page: u64,
    buffer: Vec<u8>,
}

/// Of the usual /proc.
impl Default for UsageReader {
    fn default() -> Self {
        UsageReader {
            reader: ProcessReader::default(),
            page: procfs::page_size(),
            buffer: Vec::new(),
        }
    }
}

impl UsageReader {
    /// What every process uses now (boot-time ns), one after the other; kernel threads, which have no
    /// memory of their own, are left out.
    ///
    /// # Errors
    /// When /proc itself cannot be listed.
    pub fn all(&mut self, now: fn() -> u64, mut take: impl FnMut(Usage)) -> std::io::Result<()> {
        let numbers = std::fs::read_dir(self.reader.root())?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .take(MAX_PROCESSES);
        for tgid in numbers.collect::<Vec<u32>>() {
            if let Some(usage) = self.of(tgid, now()) {
                take(usage);
            }
        }
        Ok(())
    }

    fn of(&mut self, tgid: u32, at_ns: u64) -> Option<Usage> {
        let dir = ProcDir::open(self.reader.root(), tgid).ok()?;
        dir.read("stat", MAX_FILE, &mut self.buffer).ok()?;
        let stat = parse_stat(&self.buffer)?;
        if stat.address_space == 0 {
            return None;
        }
        let tick = self.reader.tick_ns();
        Some(Usage {
            key: ProcessKey { tgid, start_ns: self.reader.start_ns(stat.start_ticks) },
            at_ns,
            user_ns: stat.user_ticks.saturating_mul(tick),
            system_ns: stat.system_ticks.saturating_mul(tick),
            resident: stat.resident_pages.saturating_mul(self.page),
            address_space: stat.address_space,
            threads: stat.threads,
            faults: stat.faults,
            disk: self.numbers(&dir, "io", ["read_bytes:", "write_bytes:"]),
            switches: self.numbers(
                &dir,
                "status",
                ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"],
            ),
            descriptors: dir.entries("fd").ok(),
        })
    }

    /// Two numbers of a file of lines `NAME NUMBER`.
    fn numbers(&mut self, dir: &ProcDir, file: &str, names: [&str; 2]) -> Option<[u64; 2]> {
        dir.read(file, MAX_FILE, &mut self.buffer).ok()?;
        let text = String::from_utf8_lossy(&self.buffer);
        let number = |name| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let [first, second] = names.map(number);
        Some([first?, second?])
    }
}

/// `/proc/PID/stat`, as far as it is needed here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    faults: [u64; 2],
    user_ticks: u64,
    system_ticks: u64,
    threads: u64,
    start_ticks: u64,
    address_space: u64,
    resident_pages: u64,
}

/// Fields by their numbers in proc(5). The name, the second, may hold anything: it ends at the last
/// `)`, and field 3 follows.
fn parse_stat(stat: &[u8]) -> Option<Stat> {
    let close = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse().ok();
    Some(Stat {
        faults: [field(10)?, field(12)?],
        user_ticks: field(14)?,
        system_ticks: field(15)?,
        threads: field(20)?,
        start_ticks: field(22)?,
        address_space: field(23)?,
        resident_pages: field(24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> u64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    fn own() -> Usage {
        UsageReader::default().of(std::process::id(), clock()).expect("this process")
    }

    #[test]
    fn what_this_process_does_shows() {
        let before = own();
        let memory = vec![1_u8; 64 << 20];
        let files: Vec<_> = (0..20).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let busy = std::time::Instant::now();
        let mut sum = 0_u64;
        while busy.elapsed().as_millis() < 200 {
            sum = memory.iter().fold(sum, |sum, byte| sum.wrapping_add(u64::from(*byte)));
        }
        let after = own();
        assert!(sum > 0 && files.len() == 20);
        assert_eq!(after.key.tgid, std::process::id());
        assert!(after.key.start_ns > 0 && after.key.start_ns < after.at_ns, "{after:?}");
        // Other tests of this process run beside this one: lower bounds only.
        assert!(after.user_ns >= before.user_ns + 100_000_000, "{before:?} {after:?}");
        assert!(after.resident >= 64 << 20, "{after:?}");
        assert!(after.address_space >= after.resident, "{after:?}");
        assert!(after.descriptors.unwrap() >= 20 && after.threads >= 1, "{after:?}");
        assert!(after.faults[0] >= before.faults[0] + (64 << 20 >> 12) / 2, "{after:?}");
        assert!(after.switches.is_some() && after.disk.is_some(), "{after:?}");
    }

    #[test]
    fn kernel_threads_are_left_out_and_this_process_is_there_once() {
        let mut seen = Vec::new();
        UsageReader::default().all(clock, |usage| seen.push(usage.key.tgid)).expect("/proc");
        assert_eq!(seen.iter().filter(|tgid| **tgid == std::process::id()).count(), 1);
        assert!(!seen.contains(&2), "kthreadd");
    }

    #[test]
    fn a_name_may_hold_anything_and_a_short_line_is_none() {
        let fields: Vec<String> = (4..=52).map(|number| number.to_string()).collect();
        let line = format!("7 (a) b (c\n) S {}", fields.join(" "));
        let expected = Stat {
            faults: [10, 12],
            user_ticks: 14,
            system_ticks: 15,
            threads: 20,
            start_ticks: 22,
            address_space: 23,
            resident_pages: 24,
        };
        assert_eq!(parse_stat(line.as_bytes()), Some(expected));
        for end in 0..60 {
            assert_eq!(parse_stat(&line.as_bytes()[..end]), None, "{end} bytes");
        }
    }
}
