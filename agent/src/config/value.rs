//! The text of one value to what it means, or what is wrong with it.

mod names;
mod sampling;
mod units;

use super::problem::{Wrong, nearest, quote};
use super::settings::{
    Capture, FlowLabel, FlowLogs, Hooks, LinkEvidence, LogLevel, OtlpCompression, OtlpProtocol,
    Output, Probe,
};
use agent_common::settings::MAX_PAYLOAD_RINGS;
use agent_core::histogram::Buckets;
use agent_core::metric::Temporality;
pub use names::name_rule;
pub use sampling::{Keep, keep, keep_wait, route};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
pub(crate) use units::duration_within;
use units::{GIB, KIB, MIB, size_within, whole};

/// Largest process number that Linux can have (`PID_MAX_LIMIT`, include/linux/threads.h).
const PID_MAX: u64 = 1 << 22;

const OUTPUTS: [&str; 4] = ["otlp", "console", "json", "none"];

/// `otlp`, `console`, `json`, `json:FILE`; `None` for `none`.
pub fn output(text: &str) -> Result<Option<Output>, Wrong> {
    match text.split_once(':') {
        Some(("json", "")) => {
            Err(Wrong::value(text, "has no file after the colon", "write json or json:FILE"))
        }
        Some(("json", file)) => Ok(Some(Output::Json(Some(PathBuf::from(file))))),
        None if text == "otlp" => Ok(Some(Output::Otlp)),
        None if text == "console" => Ok(Some(Output::Console)),
        None if text == "json" => Ok(Some(Output::Json(None))),
        None if text == "none" => Ok(None),
        _ => Err(one_of(text, "is no output", &OUTPUTS, "otlp, console, json, json:FILE, none")),
    }
}

/// `IP:PORT`, `localhost:PORT` or `:PORT` (all addresses, as `[::]:PORT`). Port 0 lets the kernel choose.
pub fn listen(text: &str) -> Result<SocketAddr, Wrong> {
    let with_host =
        |host: IpAddr, port: &str| port.parse().ok().map(|port| SocketAddr::new(host, port));
    let named = match text.rsplit_once(':') {
        Some(("", port)) => with_host(Ipv6Addr::UNSPECIFIED.into(), port),
        Some(("localhost", port)) => with_host(Ipv4Addr::LOCALHOST.into(), port),
        _ => None,
    };
    named.or_else(|| text.parse().ok()).ok_or_else(|| {
        Wrong::value(
            text,
            "is no address to listen on",
            "write IP:PORT, for example 127.0.0.1:9464 or [::1]:9464, or :9464 for all addresses",
        )
    })
}

/// A glob over the path of an executable.
pub fn glob(text: &str) -> Result<String, Wrong> {
    let hint = "a glob such as nginx, /usr/bin/python3* or /opt/**";
    if text.is_empty() {
        return Err(Wrong::value(text, "selects nothing", hint));
    }
    match super::settings::executable_glob(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            Err(Wrong::value(text, &format!("is no valid glob ({})", error.kind()), hint))
        }
    }
}

/// A process number.
pub fn pid(text: &str) -> Result<u32, Wrong> {
    let number = whole(text, 1, PID_MAX, "process number")?;
    u32::try_from(number).map_err(|_| Wrong::value(text, "is too large", "a process number"))
}

/// A TCP port.
pub fn port(text: &str) -> Result<u16, Wrong> {
    let number = whole(text, 1, u64::from(u16::MAX), "port")?;
    u16::try_from(number).map_err(|_| Wrong::value(text, "is too large", "a port"))
}

/// A file that can be opened; what is in it is found out when it is read.
pub fn btf(text: &str) -> Result<PathBuf, Wrong> {
    let hint = "a file with this kernel's type information, for example vmlinux.btf";
    match std::fs::metadata(text) {
        Ok(found) if found.is_file() => Ok(PathBuf::from(text)),
        Ok(_) => Err(Wrong::value(text, "is no file", hint)),
        Err(error) => Err(Wrong::value(text, &format!("cannot be opened ({error})"), hint)),
    }
}

/// Where the version 2 tree is mounted: alone, or beside version 1 (systemd's hybrid set-up).
/// In a container those are a branch, or absent: the host's are at its first process.
const CGROUP_ROOTS: [&str; 4] = [
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/unified",
    "/proc/1/root/sys/fs/cgroup",
    "/proc/1/root/sys/fs/cgroup/unified",
];

/// A directory of the version 2 cgroup tree, whole or as in `/proc/PID/cgroup`. The kernel knows
/// no "below this cgroup" for version 1.
pub fn cgroup(text: &str) -> Result<PathBuf, Wrong> {
    let hint = "a cgroup directory, for example /sys/fs/cgroup/system.slice/nginx.service";
    if text.is_empty() || text.split('/').any(|part| part == "..") {
        return Err(Wrong::value(text, "is no cgroup", hint));
    }
    let below = |root| Path::new(root).join(text.trim_start_matches('/'));
    [PathBuf::from(text)]
        .into_iter()
        .chain(CGROUP_ROOTS.map(below))
        // Every directory of version 2 has this file, and none of version 1.
        .find(|path| path.is_absolute() && path.join("cgroup.controllers").exists())
        .ok_or_else(|| {
            Wrong::value(text, "is no version 2 cgroup, here or under /sys/fs/cgroup", hint)
        })
}

/// Names separated by commas; `all` is every one.
pub fn probes(text: &str) -> Result<Vec<Probe>, Wrong> {
    let names: Vec<&str> = ["all"].into_iter().chain(Probe::ALL.map(Probe::name)).collect();
    let mut probes = Vec::new();
    for name in text.split(',').map(str::trim) {
        match Probe::ALL.into_iter().find(|probe| probe.name() == name) {
            Some(probe) => probes.push(probe),
            None if name == "all" => probes.extend(Probe::ALL),
            None => return Err(one_of(name, "is no probe", &names, &names.join(", "))),
        }
    }
    Ok(probes)
}

/// Bytes captured of a message's head.
pub fn head_bytes(text: &str) -> Result<u32, Wrong> {
    let bytes = size_within(text, 256, u64::from(agent_common::settings::MAX_CAPTURE))?;
    u32::try_from(bytes).map_err(|_| Wrong::value(text, "is too large", "at most 4KiB"))
}

/// How many rings carry payload: a power of two, because the kernel side masks the socket's cookie.
pub fn payload_rings(text: &str) -> Result<u32, Wrong> {
    let allowed = [1, 2, MAX_PAYLOAD_RINGS];
    let number = text.parse().ok().filter(|number| allowed.contains(number));
    number.ok_or_else(|| Wrong::value(text, "is no number of rings", "allowed: 1, 2, 4"))
}

/// Bytes of a ring, rounded up to a power of two as the kernel wants it.
pub fn ring_size(text: &str) -> Result<u32, Wrong> {
    let bytes = size_within(text, 64 * KIB, GIB)?.next_power_of_two();
    u32::try_from(bytes).map_err(|_| Wrong::value(text, "is too large", "at most 1GiB"))
}

/// How often rings are looked at.
pub fn poll_interval(text: &str) -> Result<Duration, Wrong> {
    duration_within(text, Duration::from_millis(1), Duration::from_secs(1), "5ms")
}

/// How often living conversations are looked at.
pub fn flow_interval(text: &str) -> Result<Duration, Wrong> {
    duration_within(text, Duration::from_secs(1), Duration::from_secs(3600), "10s")
}

/// Names separated by commas.
pub fn flow_labels(text: &str) -> Result<Vec<FlowLabel>, Wrong> {
    let choices = FlowLabel::ALL.map(|label| (label.name(), label));
    text.split(',').map(|name| choice(name.trim(), "is no flow label", &choices)).collect()
}

/// Which conversations are log records.
pub fn flow_logs(text: &str) -> Result<FlowLogs, Wrong> {
    choice(text, "is no kind of flow logs", &FlowLogs::ALL.map(|kind| (kind.name(), kind)))
}

/// Bound of the series of flow metrics.
pub fn flow_series(text: &str) -> Result<usize, Wrong> {
    let number = whole(text, 1, 100_000, "number of series")?;
    usize::try_from(number).map_err(|_| Wrong::value(text, "is too large", "at most 100000"))
}

/// Bound of the conversations known at once.
pub fn flow_table(text: &str) -> Result<u32, Wrong> {
    let number = whole(text, 256, 1 << 20, "number of conversations")?;
    u32::try_from(number).map_err(|_| Wrong::value(text, "is too large", "at most 1048576"))
}

/// How long a recording runs.
pub fn record_duration(text: &str) -> Result<Duration, Wrong> {
    duration_within(text, Duration::from_millis(100), Duration::from_secs(7 * 24 * 3600), "10s")
}

/// Part of one processor: `5%`. `None` for `off`.
pub fn max_cpu(text: &str) -> Result<Option<f64>, Wrong> {
    let hint = "a part of one processor from 1% to 6400%, for example 5%, or off";
    if text == "off" {
        return Ok(None);
    }
    let Some(number) = text.strip_suffix('%') else {
        return Err(Wrong::value(text, "is no percentage", hint));
    };
    match number.trim_end().parse::<f64>() {
        Ok(percent) if (1.0..=6400.0).contains(&percent) => Ok(Some(percent / 100.0)),
        Ok(_) => Err(Wrong::value(text, "is out of range", hint)),
        Err(_) => Err(Wrong::value(text, "is no percentage", hint)),
    }
}

/// Bytes of memory.
pub fn max_memory(text: &str) -> Result<u64, Wrong> {
    size_within(text, 64 * MIB, 64 * GIB)
}

/// Requests a second. `None` for `off`.
pub fn request_rate(text: &str) -> Result<Option<u32>, Wrong> {
    let hint = "a number from 1 to 1000000, or off";
    if text == "off" {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(rate) if (1..=1_000_000).contains(&rate) => Ok(Some(rate)),
        Ok(_) => Err(Wrong::value(text, "is out of range", hint)),
        Err(_) => Err(Wrong::value(text, "is no rate", hint)),
    }
}

/// How often metrics of processes are made. `None` for `off`.
pub fn process_metrics(text: &str) -> Result<Option<Duration>, Wrong> {
    if text == "off" {
        return Ok(None);
    }
    duration_within(text, Duration::from_secs(1), Duration::from_secs(3600), "60s, or off")
        .map(Some)
}

/// How often metrics of requests are made. `None` for `off`.
pub fn request_metrics(text: &str) -> Result<Option<Duration>, Wrong> {
    if text == "off" {
        return Ok(None);
    }
    duration_within(text, Duration::from_secs(1), Duration::from_secs(3600), "10s, or off")
        .map(Some)
}

/// Since when metrics of requests count.
pub fn temporality(text: &str) -> Result<Temporality, Wrong> {
    let choices = [("cumulative", Temporality::Cumulative), ("delta", Temporality::Delta)];
    choice(text, "is no temporality", &choices)
}

/// Which buckets histograms have.
pub fn buckets(text: &str) -> Result<Buckets, Wrong> {
    let choices = [("explicit", Buckets::Explicit), ("exponential", Buckets::Exponential)];
    choice(text, "is no kind of histogram", &choices)
}

/// Part of the traces that is kept.
pub fn ratio(text: &str) -> Result<f64, Wrong> {
    let hint = "a number from 0 to 1, for example 0.1 for every tenth trace";
    match text.parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        Ok(_) => Err(Wrong::value(text, "is not between 0 and 1", hint)),
        Err(_) => Err(Wrong::value(text, "is no number", hint)),
    }
}

/// How much the agent says about itself.
pub fn log_level(text: &str) -> Result<LogLevel, Wrong> {
    choice(text, "is no log level", &LogLevel::ALL.map(|level| (level.name(), level)))
}

/// How payload capture is attached.
pub fn hooks(text: &str) -> Result<Hooks, Wrong> {
    choice(text, "is no way to attach", &Hooks::ALL.map(|hooks| (hooks.name(), hooks)))
}

/// `heads` or `full`.
pub fn capture(text: &str) -> Result<Capture, Wrong> {
    choice(text, "is no amount of capture", &Capture::ALL.map(|capture| (capture.name(), capture)))
}

/// `all` or `none`.
pub fn link(text: &str) -> Result<LinkEvidence, Wrong> {
    choice(text, "is no kind of evidence", &LinkEvidence::ALL.map(|kind| (kind.name(), kind)))
}

/// `true` or `false`.
pub fn truth(text: &str) -> Result<bool, Wrong> {
    choice(text, "is neither true nor false", &[("true", true), ("false", false)])
}

/// `http://HOST:PORT`, `https://…`, or `HOST:PORT` (then gRPC, and TLS unless insecure).
pub fn otlp_endpoint(text: &str) -> Result<String, Wrong> {
    let hint = "a URL such as http://localhost:4317 or https://collector.example:4318";
    // A URL may hold a password: it is shown only when it cannot.
    let shown = if text.contains('@') { "the URL".to_owned() } else { quote(text) };
    let url = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    match reqwest::Url::parse(&url) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            Err(Wrong::new(format!("{shown} is neither http nor https"), hint))
        }
        Ok(url) if url.has_host() => Ok(text.to_owned()),
        // `http://$(HOST_IP):4317` on a node with IPv6.
        _ if !text.contains('[') && url.matches(':').count() > 3 => {
            let hint = "an IPv6 address stands in brackets: http://[fd00::1]:4317";
            Err(Wrong::new(format!("{shown} is no URL"), hint))
        }
        _ => Err(Wrong::new(format!("{shown} is no URL"), hint)),
    }
}

/// How requests are encoded and carried.
pub fn otlp_protocol(text: &str) -> Result<OtlpProtocol, Wrong> {
    choice(text, "is no OTLP protocol", &OtlpProtocol::ALL.map(|way| (way.name(), way)))
}

/// Compression of requests.
pub fn otlp_compression(text: &str) -> Result<OtlpCompression, Wrong> {
    choice(text, "is no compression", &OtlpCompression::ALL.map(|way| (way.name(), way)))
}

/// `NAME=VALUE`, sent with every request. Never quoted in a message: the value is often a secret.
pub fn otlp_header(text: &str) -> Result<(String, String), Wrong> {
    let hint = "NAME=VALUE, for example x-api-key=…";
    let (name, value) =
        text.split_once('=').ok_or_else(|| Wrong::new("the header has no =", hint))?;
    let (name, value) = (name.trim(), value.trim());
    if reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Err(Wrong::new("what stands before the = is no header name", hint));
    }
    if reqwest::header::HeaderValue::from_str(value).is_err() {
        return Err(Wrong::new("the header's value has characters that no header may have", hint));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Limit of one export request, retries included.
pub fn otlp_timeout(text: &str) -> Result<Duration, Wrong> {
    duration_within(text, Duration::from_millis(1), Duration::from_secs(600), "10s")
}

/// Bound of the queue before the network.
pub fn otlp_queue_bytes(text: &str) -> Result<u64, Wrong> {
    size_within(text, 64 * KIB, 4 * GIB)
}

/// A file that is read later, by whoever needs it.
pub fn file(text: &str) -> Result<PathBuf, Wrong> {
    let path = PathBuf::from(text);
    if path.is_file() {
        return Ok(path);
    }
    Err(Wrong::value(text, "is no file that can be reached", "the path of a PEM file"))
}

pub(crate) fn choice<T: Copy>(text: &str, why: &str, choices: &[(&str, T)]) -> Result<T, Wrong> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    Err(one_of(text, why, &names, &names.join(", ")))
}

fn one_of(text: &str, why: &str, names: &[&str], known: &str) -> Wrong {
    let allowed = format!("allowed: {known}");
    let hint = nearest(text, names.iter().copied())
        .map_or_else(|| allowed.clone(), |name| format!("did you mean {name}? {allowed}"));
    Wrong::value(text, why, hint)
}

#[cfg(test)]
mod tests;
