//! As given → as needed: values read, defaults made, contradictions found.

use super::given::{AsTyped, Given};
use super::kubernetes::{self, KubernetesSettings};
use super::problem::{Place, Problems, Wrong};
use super::settings::{
    Capture, Executables, FlowLabel, FlowLogs, FlowSettings, Hooks, LinkEvidence, LogLevel,
    OtlpSettings, Output, Probe, Selection, Settings,
};
use super::value;
use agent_common::settings::MAX_PORTS;
use agent_core::flow::PeerLabels;
use agent_core::metric::Temporality;
use agent_core::process::NameRules;
use agent_core::route::RouteConfig;
use agent_core::trace::{Rules, Sampling};
use globset::GlobSet;
use std::time::Duration;

/// Reads an environment variable.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Most `--pid` values: each is a slot of a kernel map.
const MAX_PIDS: usize = 1024;

/// Most patterns of one kind: together they become one automaton.
const MAX_GLOBS: usize = 256;

/// Most templates of routes: each request to a service is tried against all of its own.
const MAX_ROUTES: usize = 1000;
/// Most rules for names: each is asked for every process that starts.
const MAX_NAME_RULES: usize = 256;

const HEAD_BYTES: u32 = 4096;
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// As OpenTelemetry's SDKs: `OTEL_METRIC_EXPORT_INTERVAL`'s default.
const PROCESS_METRICS: Duration = Duration::from_secs(60);
const REQUEST_METRICS: Duration = Duration::from_secs(10);

/// Variables that name an endpoint for what this agent sends.
const ENDPOINTS: [&str; 3] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
];

/// Checks every value of flags and file, also those that a flag overrides.
pub fn resolve(given: &AsTyped, env: Environment<'_>, problems: &mut Problems) -> Settings {
    let mut read = Values { given, problems };
    let otlp = otlp(&mut read);
    let outputs = outputs(&mut read, &otlp, env);
    Settings {
        outputs,
        otlp,
        listen: read.one("listen", value::listen),
        expose_status: read.one("expose-status", value::truth).unwrap_or(false),
        selection: selection(&mut read),
        names: NameRules::new(read.at_most("name-rule", MAX_NAME_RULES, value::name_rule)),
        probes: probes(&mut read),
        head_bytes: read.one("head-bytes", value::head_bytes).unwrap_or(HEAD_BYTES),
        payload_rings: read.one("payload-rings", value::payload_rings),
        ring_size: read.one("ring-size", value::ring_size),
        poll_interval: read.one("poll-interval", value::poll_interval).unwrap_or(POLL_INTERVAL),
        max_cpu: read.one("max-cpu", value::max_cpu).flatten(),
        max_memory: read.one("max-memory", value::max_memory),
        max_request_rate: read.one("max-request-rate", value::request_rate).flatten(),
        process_metrics: read
            .one("process-metrics", value::process_metrics)
            .unwrap_or(Some(PROCESS_METRICS)),
        request_metrics: read
            .one("request-metrics", value::request_metrics)
            .unwrap_or(Some(REQUEST_METRICS)),
        temporality: read
            .one("metrics-temporality", value::temporality)
            .unwrap_or_else(|| preferred(env)),
        buckets: read.one("metrics-histograms", value::buckets).unwrap_or_default(),
        sampling: sampling(&mut read),
        routes: RouteConfig {
            rules: read.at_most("route", MAX_ROUTES, value::route),
            learn: read.one("learn-routes", value::truth).unwrap_or(false),
            ..RouteConfig::default()
        },
        log_level: read.one("log-level", value::log_level).unwrap_or(LogLevel::Info),
        hooks: read.one("hooks", value::hooks).unwrap_or(Hooks::Auto),
        btf: read.one("btf", value::btf),
        capture: read.one("capture", value::capture).unwrap_or(Capture::Heads),
        link: read.one("link", value::link).unwrap_or(LinkEvidence::All),
        flows: flows(&mut read),
        kubernetes: kubernetes(&mut read),
    }
}

fn sampling(read: &mut Values<'_>) -> Sampling {
    let default = Sampling::default();
    let wait = read.one("keep-wait", value::keep_wait);
    Sampling {
        ratio: read.one("sample", value::ratio).unwrap_or(default.ratio),
        rate: read.one("sample-rate", value::request_rate).flatten(),
        rules: rules(read),
        wait_ns: wait
            .map_or(default.wait_ns, |wait| u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)),
    }
}

/// What is kept whatever the ratio says. Each rule once: of two times or numbers nobody knows which is meant.
fn rules(read: &mut Values<'_>) -> Rules {
    let given = read.many("keep", value::keep);
    let mut rules = Rules::default();
    let mut seen: Vec<&str> = Vec::new();
    for (keep, place) in given.iter().flat_map(|(all, place)| all.iter().map(move |it| (it, place)))
    {
        if seen.contains(&keep.name()) {
            let wrong = Wrong::new(format!("{} is given twice", keep.name()), "keep one of them");
            read.problems.add(place, wrong);
        }
        seen.push(keep.name());
        match *keep {
            value::Keep::Errors => rules.errors = true,
            value::Keep::Slow(slow) => rules.slow = Some(slow),
            value::Keep::Events => rules.events = true,
            value::Keep::Floor(number) => rules.floor = number,
        }
    }
    rules
}

/// Of the environment (OTLP exporter specification). What wants the least memory gets sums that begin anew.
fn preferred(env: Environment<'_>) -> Temporality {
    let told = env("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE").unwrap_or_default();
    match told.trim().to_ascii_lowercase().as_str() {
        "delta" | "lowmemory" => Temporality::Delta,
        _ => Temporality::Cumulative,
    }
}

fn outputs(read: &mut Values<'_>, otlp: &OtlpSettings, env: Environment<'_>) -> Vec<Output> {
    let given = read.many("output", value::output);
    if given.is_empty() {
        let set = |name: &str| env(name).is_some_and(|url| !url.trim().is_empty());
        let network = otlp.endpoint.is_some() || ENDPOINTS.iter().any(|name| set(name));
        return vec![if network { Output::Otlp } else { Output::Console }];
    }
    let mut outputs: Vec<Output> = Vec::new();
    for (output, place) in &given {
        let wrong = match output {
            None if given.len() > 1 => {
                Some(Wrong::new("none stands beside another output", "remove one of them"))
            }
            None => None,
            Some(output) if outputs.contains(output) => {
                Some(Wrong::new("the same output is given twice", "remove one of them"))
            }
            Some(output) if output.is_stdout() && outputs.iter().any(Output::is_stdout) => {
                let what = "console and json would both write to standard output";
                Some(Wrong::new(what, "give json a file: json:FILE"))
            }
            Some(output) => {
                outputs.push(output.clone());
                None
            }
        };
        if let Some(wrong) = wrong {
            read.problems.add(place, wrong);
        }
    }
    outputs
}

fn selection(read: &mut Values<'_>) -> Selection {
    let include = read.at_most("include", MAX_GLOBS, value::glob);
    let exclude = read.at_most("exclude", MAX_GLOBS, value::glob);
    let executables = Executables::new(include, exclude).unwrap_or_else(|error| {
        // Each is a valid glob; together they can still be too large.
        let wrong = Wrong::new(format!("the patterns together: {error}"), "use fewer");
        read.problems.add(&Place::Flag("include"), wrong);
        Executables::default()
    });
    Selection {
        executables,
        pids: sorted(read.at_most("pid", MAX_PIDS, value::pid)),
        ports: sorted(read.at_most("port", MAX_PORTS, value::port)),
        cgroup: read.one("cgroup", value::cgroup),
    }
}

fn probes(read: &mut Values<'_>) -> Vec<Probe> {
    let mistakes = read.problems.iter().count();
    let given = read.many("probes", value::probes);
    if given.is_empty() {
        return Probe::ALL.to_vec();
    }
    let named = |probe| given.iter().find(|(probes, _)| probes.contains(&probe));
    // Not beside a name that is wrong: it may have been meant to be `http`.
    if read.problems.iter().count() == mistakes
        && let (Some((_, place)), None) = (named(Probe::Tls), named(Probe::Http))
    {
        let what = "tls without http shows nothing: what it reads are requests";
        read.problems.add(place, Wrong::new(what, "add http, or leave out tls"));
    }
    let named = given.into_iter().flat_map(|(probes, _)| probes);
    sorted(named.chain([Probe::Process]).collect())
}

fn flows(read: &mut Values<'_>) -> FlowSettings {
    let default = FlowSettings::default();
    let given = read.many("flow-labels", value::flow_labels);
    let labels: Vec<_> = given.into_iter().flat_map(|(labels, _)| labels).collect();
    let has = |label| labels.contains(&label);
    FlowSettings {
        interval: read.one("flow-interval", value::flow_interval).unwrap_or(default.interval),
        labels: PeerLabels {
            name: has(FlowLabel::Name),
            address: has(FlowLabel::Address),
            port: has(FlowLabel::Port),
        },
        logs: read.one("flow-logs", value::flow_logs).unwrap_or(FlowLogs::None),
        series: read.one("flow-series", value::flow_series).unwrap_or(default.series),
        table: read.one("flow-table", value::flow_table).unwrap_or(default.table),
        dns: read.one("flow-dns", value::truth).unwrap_or(default.dns),
    }
}

fn kubernetes(read: &mut Values<'_>) -> KubernetesSettings {
    let globs = read.at_most("kubernetes-label", MAX_GLOBS, kubernetes::label);
    let labels = kubernetes::labels(globs).unwrap_or_else(|error| {
        let wrong = Wrong::new(format!("the patterns together: {error}"), "use fewer");
        read.problems.add(&Place::Flag("kubernetes-label"), wrong);
        GlobSet::empty()
    });
    KubernetesSettings {
        server: read.one("kubernetes", kubernetes::server).unwrap_or_default(),
        node: read.one("kubernetes-node", kubernetes::node),
        labels,
        name_labels: read.one("kubernetes-name-labels", value::truth).unwrap_or(true),
        token_file: read.one("kubernetes-token-file", kubernetes::token_file),
        ca: read.one("kubernetes-ca", value::file),
    }
}

fn otlp(read: &mut Values<'_>) -> OtlpSettings {
    let headers = read.many("otlp-header", value::otlp_header);
    let settings = OtlpSettings {
        endpoint: read.one("otlp-endpoint", value::otlp_endpoint),
        protocol: read.one("otlp-protocol", value::otlp_protocol),
        headers: headers.into_iter().map(|(header, _)| header).collect(),
        compression: read.one("otlp-compression", value::otlp_compression),
        timeout: read.one("otlp-timeout", value::otlp_timeout),
        ca: read.one("otlp-ca", value::file),
        client_cert: read.one("otlp-client-cert", value::file),
        client_key: read.one("otlp-client-key", value::file),
        insecure: read.one("otlp-insecure", value::truth),
        queue_bytes: read.one("otlp-queue-bytes", value::otlp_queue_bytes),
    };
    read.pair("otlp-client-cert", "otlp-client-key");
    read.pair("otlp-client-key", "otlp-client-cert");
    settings
}

fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort_unstable();
    values.dedup();
    values
}

/// Reads values by key, and takes note of what is wrong.
struct Values<'a> {
    given: &'a AsTyped,
    problems: &'a mut Problems,
}

impl<'a> Values<'a> {
    /// The value of a key that has one. A flag wins over the file, whose value is checked all
    /// the same: the file is wrong whether or not this command line hides it.
    fn one<T>(&mut self, key: &str, parse: fn(&str) -> Result<T, Wrong>) -> Option<T> {
        let mut flags = self.parsed(&self.given.flags, key, parse);
        let mut file = self.parsed(&self.given.file, key, parse);
        if let Some(second) = of(&self.given.flags, key).nth(1) {
            let wrong = Wrong::new("given more than once", "it takes one value");
            self.problems.add(&second.place, wrong);
        }
        flags.pop().or_else(|| file.pop()).map(|(value, _)| value)
    }

    /// All values of a key that may have several. Those of flags replace those of the file.
    fn many<T>(&mut self, key: &str, parse: fn(&str) -> Result<T, Wrong>) -> Vec<(T, &'a Place)> {
        let flags = self.parsed(&self.given.flags, key, parse);
        let file = self.parsed(&self.given.file, key, parse);
        if of(&self.given.flags, key).next().is_some() { flags } else { file }
    }

    /// [`Values::many`] with a bound.
    fn at_most<T>(
        &mut self,
        key: &str,
        most: usize,
        parse: fn(&str) -> Result<T, Wrong>,
    ) -> Vec<T> {
        let values = self.many(key, parse);
        if let Some((_, place)) = values.get(most) {
            let wrong = Wrong::new(format!("{} values", values.len()), format!("at most {most}"));
            self.problems.add(place, wrong);
        }
        values.into_iter().map(|(value, _)| value).collect()
    }

    /// `key` makes no sense without `other`.
    fn pair(&mut self, key: &str, other: &str) {
        let everywhere = || self.given.flags.iter().chain(&self.given.file);
        let first = everywhere().find(|value| value.key == key);
        if let (Some(first), None) = (first, everywhere().find(|value| value.key == other)) {
            let what = "a client certificate and its key go together";
            let wrong = Wrong::new(what, format!("give {other} too"));
            self.problems.add(&first.place, wrong);
        }
    }

    fn parsed<T>(
        &mut self,
        source: &'a [Given],
        key: &str,
        parse: fn(&str) -> Result<T, Wrong>,
    ) -> Vec<(T, &'a Place)> {
        let mut values = Vec::new();
        for given in of(source, key) {
            match parse(given.text.trim()) {
                Ok(value) => values.push((value, &given.place)),
                Err(wrong) => self.problems.add(&given.place, wrong),
            }
        }
        values
    }
}

fn of<'a>(source: &'a [Given], key: &str) -> impl Iterator<Item = &'a Given> {
    source.iter().filter(move |given| given.key == key)
}
