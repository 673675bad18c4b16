//! What the agent costs, as the kernel accounts for it. Metric names are those that Prometheus
//! client libraries agreed on.

use super::metrics::Gauge;
use procfs::WithCurrentSystemInfo;
use procfs::process::Process;

/// Memory, CPU time and files of this process, and its build. What cannot be read is absent.
pub fn gauges() -> Vec<Gauge> {
    let mut gauges = vec![Gauge {
        name: "kernspan_build_info",
        help: "Always 1; the version is a label.",
        labels: vec![("version", crate::cli::VERSION.to_owned())],
        value: 1.0,
    }];
    let Ok(process) = Process::myself() else { return gauges };
    let mut add = |name, help, value| gauges.push(Gauge { name, help, labels: Vec::new(), value });
    if let Ok(stat) = process.stat() {
        let ticks = procfs::ticks_per_second() as f64;
        let seconds = (stat.utime + stat.stime) as f64 / ticks;
        let resident = stat.rss_bytes().get() as f64;
        add("process_resident_memory_bytes", "Resident memory in bytes.", resident);
        add("process_virtual_memory_bytes", "Virtual memory in bytes.", stat.vsize as f64);
        add("process_cpu_seconds_total", "CPU time in user and kernel mode.", seconds);
        add("process_threads", "Threads.", stat.num_threads as f64);
        if let Ok(boot) = procfs::boot_time_secs() {
            let start = boot as f64 + stat.starttime as f64 / ticks;
            add("process_start_time_seconds", "Start, in seconds since 1970.", start);
        }
    }
    if let Ok(files) = process.fd_count() {
        add("process_open_fds", "Open file descriptors.", files as f64);
    }
    gauges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_files() {
        let gauges = gauges();
        for name in ["process_resident_memory_bytes", "process_open_fds", "process_threads"] {
            let gauge = gauges.iter().find(|gauge| gauge.name == name).unwrap();
            assert!(gauge.value >= 1.0, "{gauge:?}");
        }
    }
}
