//! Picks hooks by the plan, loads and attaches their programs, and reports what was picked and why.
//!
//! Only what is picked is verified and attached. A choice whose program the kernel refuses is
//! reported with the kernel's word, and the next one is tried.

use super::{
    btf::Btf,
    control::PAYLOAD_RINGS,
    offsets, patch,
    plan::{Choice, Entry, Feature, Hook, PLAN, Part},
};
use crate::uprobe::program::Programs;
use agent_common::settings::{Settings, feature};
use aya::{
    Btf as AyaBtf, Ebpf, EbpfLoader,
    programs::{
        BtfTracePoint, CgroupAttachMode, CgroupSockAddr, FEntry, FExit, Iter, ProgramError,
    },
};
use std::collections::HashSet;
use zerocopy::IntoBytes;

/// What to load, and how large.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// Features wanted.
    pub wanted: HashSet<Feature>,
    /// Only this choice for payload (`tracepoint`, `fexit`); `None` picks the best.
    pub payload_hooks: Option<String>,
    /// Globals, without the bits that depend on the hooks.
    pub settings: Settings,
    /// Bytes of each payload ring in use ([`Settings::payload_rings`]), a power of two.
    pub ring_size: u32,
    /// Processes that a filter may name; 1 without a filter.
    pub process_filter_size: u32,
    /// Room for conversations; `None` without them.
    pub flows: Option<FlowSizes>,
}

/// Sizes of the maps of conversations.
#[derive(Clone, Copy, Debug)]
pub struct FlowSizes {
    /// Bytes of the flow ring, a power of two.
    pub ring: u32,
    /// UDP conversations.
    pub datagrams: u32,
    /// Threads that use UDP sockets without a peer of their own at once.
    pub peers: u32,
}

/// What became of a feature.
#[derive(Clone, Debug)]
pub struct FeatureReport {
    /// Feature.
    pub feature: Feature,
    /// Name, as shown.
    pub name: &'static str,
    /// What is lost without it.
    pub without: &'static str,
    /// Hooks in use, empty when the feature is missing or not wanted.
    pub hooks: Vec<String>,
    /// Why these, or why none.
    pub why: String,
}

impl FeatureReport {
    /// The feature works.
    pub fn is_active(&self) -> bool {
        !self.hooks.is_empty()
    }
}

/// Programs loaded and attached; they end with this value.
pub struct Loaded {
    /// Programs and maps.
    pub ebpf: Ebpf,
    /// One entry a feature, in the order of the plan.
    pub features: Vec<FeatureReport>,
    /// Programs for functions of libraries, to be attached.
    pub libraries: Option<Programs>,
}

impl Loaded {
    /// The feature is active.
    pub fn has(&self, feature: Feature) -> bool {
        self.features.iter().any(|report| report.feature == feature && report.is_active())
    }
}

/// Why nothing could be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No type information.
    #[error(
        "this kernel offers no type information at {path}: {source} (CONFIG_DEBUG_INFO_BTF is needed)"
    )]
    NoBtf {
        /// File.
        path: String,
        /// System's word.
        source: std::io::Error,
    },
    /// Type information that cannot be read.
    #[error("{0}")]
    BadBtf(String),
    /// The kernel refused maps or the object.
    #[error("the kernel refused the maps or the object: {0}")]
    Object(String),
    /// No feature could be loaded.
    #[error("no feature could be loaded: {0}")]
    Nothing(String),
}

const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// Reads the kernel's type information.
///
/// # Errors
/// [`LoadError::NoBtf`], [`LoadError::BadBtf`].
pub fn kernel_btf() -> Result<Btf, LoadError> {
    let data = std::fs::read(BTF_PATH)
        .map_err(|source| LoadError::NoBtf { path: BTF_PATH.to_owned(), source })?;
    Btf::parse(data).map_err(|error| LoadError::BadBtf(error.to_string()))
}

/// Loads and attaches what `config` wants.
///
/// # Errors
/// [`LoadError`] when not one wanted feature can be had.
pub fn load(object: &[u8], config: &LoadConfig) -> Result<Loaded, LoadError> {
    let btf = kernel_btf()?;
    let (offsets, _) = offsets::resolve(&btf);
    let aya_btf =
        AyaBtf::from_sys_fs().map_err(|error| LoadError::BadBtf(format!("{BTF_PATH}: {error}")))?;
    let mut refused = Refused::default();
    let mut cast = btf.function("bpf_rdonly_cast");
    // The programs see as constants which hooks are attached. What the kernel offers is guessed
    // from its type information; a guess that attaching disproves costs one more round.
    loop {
        let send_time =
            candidates(&btf, config, &refused, entry(Feature::SendTime)).next().is_some();
        let arrival = candidates(&btf, config, &refused, entry(Feature::Arrival)).next().is_some();
        let mut settings = config.settings;
        settings.features |= if send_time { feature::SEND_TIME } else { 0 };
        let source = send_time && offsets::knows_iterator(&offsets);
        settings.features |= if source { feature::SEND_SOURCE } else { 0 };
        settings.features |= if arrival { feature::ARRIVAL } else { 0 };
        settings.features |= if cast.is_some() { feature::CAST } else { 0 };
        let tls = config.wanted.contains(&Feature::Tls);
        settings.features |= if tls { feature::TLS } else { 0 };
        let mut object = object.to_vec();
        patch::casts(&mut object, cast);
        patch::constants(&mut object, &settings, &offsets);
        let mut ebpf = open(&object, config, &settings, &aya_btf)?;
        let before = refused.len();
        let features: Vec<_> = PLAN
            .iter()
            .map(|entry| attach_feature(&mut ebpf, &aya_btf, &btf, config, entry, &mut refused))
            .collect();
        if cast.is_some() && refused.len() > before {
            // A kernel that has the function and refuses it: it must not cost a feature.
            cast = None;
            refused = Refused::default();
            continue;
        }
        let settled = refused.len() == before
            || features.iter().any(|f| f.feature == Feature::SendTime && f.is_active())
                == send_time;
        if settled {
            return finish(&object, ebpf, features, tls);
        }
    }
}

fn finish(
    object: &[u8],
    ebpf: Ebpf,
    mut features: Vec<FeatureReport>,
    tls: bool,
) -> Result<Loaded, LoadError> {
    if features.iter().any(FeatureReport::is_active) {
        let (libraries, report) = libraries(object, &ebpf, &features, tls);
        features.push(report);
        return Ok(Loaded { ebpf, features, libraries });
    }
    let reasons: Vec<_> =
        features.iter().map(|report| format!("{}: {}", report.name, report.why)).collect();
    Err(LoadError::Nothing(reasons.join("; ")))
}

/// Programs for functions of libraries; they serve only where sockets are seen.
fn libraries(
    object: &[u8],
    ebpf: &Ebpf,
    features: &[FeatureReport],
    wanted: bool,
) -> (Option<Programs>, FeatureReport) {
    let mut report = FeatureReport {
        feature: Feature::Tls,
        name: "TLS",
        without: "encrypted connections are seen as such only",
        hooks: Vec::new(),
        why: "not asked for".to_owned(),
    };
    if !wanted {
        return (None, report);
    }
    if !features.iter().any(|report| report.feature == Feature::Payload && report.is_active()) {
        report.why = "it needs payload".to_owned();
        return (None, report);
    }
    match Programs::load(object, ebpf) {
        Ok(programs) => {
            report.hooks = vec![format!("{}:libraries", programs.kind())];
            report.why = "the best choice".to_owned();
            (Some(programs), report)
        }
        Err(reason) => {
            report.why = reason;
            (None, report)
        }
    }
}

fn open(
    object: &[u8],
    config: &LoadConfig,
    settings: &Settings,
    btf: &AyaBtf,
) -> Result<Ebpf, LoadError> {
    let mut loader = EbpfLoader::new();
    for (name, number) in PAYLOAD_RINGS.iter().zip(0..) {
        if number < settings.payload_rings.max(1) {
            loader.map_max_entries(name, config.ring_size);
        }
    }
    if let Some(sizes) = config.flows {
        loader.map_max_entries("FLOW_RING", sizes.ring);
        loader.map_max_entries("DATAGRAMS", sizes.datagrams);
        loader.map_max_entries("PEERS", sizes.peers);
    }
    if settings.features & feature::TLS == 0 {
        for name in ["TLS_CALLS", "TLS_OBJECTS", "TLS_SOCKETS", "TLS_WIRE"] {
            loader.map_max_entries(name, 1);
        }
    }
    loader
        .btf(Some(btf))
        .override_global("SETTINGS", settings.as_bytes(), true)
        .map_max_entries("PROCESSES", config.process_filter_size)
        .load(object)
        .map_err(|error| LoadError::Object(chain(&error)))
}

fn entry(feature: Feature) -> &'static Entry {
    PLAN.iter().find(|entry| entry.feature == feature).unwrap_or(&PLAN[0])
}

/// Choices that attaching disproved, with the kernel's word.
#[derive(Default)]
struct Refused(Vec<(Feature, &'static str, String)>);

impl Refused {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn reason(&self, feature: Feature, choice: &str) -> Option<&str> {
        let found = self.0.iter().find(|(f, c, _)| *f == feature && *c == choice);
        found.map(|(_, _, reason)| reason.as_str())
    }
}

/// Choices of a feature that may work here, best first.
fn candidates<'a>(
    btf: &'a Btf,
    config: &'a LoadConfig,
    refused: &'a Refused,
    entry: &'static Entry,
) -> impl Iterator<Item = &'static Choice> + 'a {
    entry.choices.iter().filter(move |choice| {
        config.wanted.contains(&entry.feature)
            && not_offered(btf, config, entry, choice).is_none()
            && refused.reason(entry.feature, choice.name).is_none()
    })
}

/// Why this kernel cannot have a choice, as far as its type information says.
fn not_offered(btf: &Btf, config: &LoadConfig, entry: &Entry, choice: &Choice) -> Option<String> {
    if entry.feature == Feature::Payload
        && let Some(only) = &config.payload_hooks
        && only != choice.name
    {
        return Some(format!("only {only} hooks are asked for"));
    }
    let absent =
        choice.parts.iter().filter(|part| !part.optional).find(|part| !has(btf, part.hook));
    absent.map(|part| format!("this kernel has no {} {}", noun(part.hook), part.hook.target()))
}

fn noun(hook: Hook) -> &'static str {
    match hook {
        Hook::Tracepoint(_) => "tracepoint",
        Hook::Fentry(_) | Hook::Fexit(_) => "function",
        Hook::Iterator(_) => "iterator",
        Hook::Cgroup(_) => "cgroup hook",
    }
}

fn has(btf: &Btf, hook: Hook) -> bool {
    match hook {
        Hook::Tracepoint(name) => btf.has_tracepoint(name),
        Hook::Fentry(name) | Hook::Fexit(name) => btf.has_function(name),
        Hook::Iterator(name) => btf.has_function(&format!("bpf_iter_{name}")),
        // Nothing of it is in the type information: attaching tells.
        Hook::Cgroup(_) => true,
    }
}

fn attach_feature(
    ebpf: &mut Ebpf,
    aya_btf: &AyaBtf,
    btf: &Btf,
    config: &LoadConfig,
    entry: &'static Entry,
    refused: &mut Refused,
) -> FeatureReport {
    let mut report = FeatureReport {
        feature: entry.feature,
        name: entry.name,
        without: entry.without,
        hooks: Vec::new(),
        why: String::new(),
    };
    if !config.wanted.contains(&entry.feature) {
        report.why = "not asked for".to_owned();
        return report;
    }
    let mut reasons = Vec::new();
    for choice in entry.choices {
        if let Some(reason) = not_offered(btf, config, entry, choice) {
            reasons.push(format!("{}: {reason}", choice.name));
            continue;
        }
        if let Some(reason) = refused.reason(entry.feature, choice.name) {
            reasons.push(format!("{}: {reason}", choice.name));
            continue;
        }
        match attach_choice(ebpf, aya_btf, btf, choice) {
            Ok(hooks) => {
                report.hooks = hooks;
                let best =
                    if reasons.is_empty() { "the best choice" } else { "the best that works" };
                reasons.insert(0, best.to_owned());
                break;
            }
            Err(reason) => {
                reasons.push(format!("{}: {reason}", choice.name));
                refused.0.push((entry.feature, choice.name, reason));
            }
        }
    }
    report.why = reasons.join("; ");
    report
}

/// Loads all parts before it attaches the first, so that a refused program leaves no half.
fn attach_choice(
    ebpf: &mut Ebpf,
    aya_btf: &AyaBtf,
    btf: &Btf,
    choice: &Choice,
) -> Result<Vec<String>, String> {
    let parts: Vec<&Part> =
        choice.parts.iter().filter(|part| !part.optional || has(btf, part.hook)).collect();
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    for part in &parts {
        with_program(ebpf, part, |program| program.load(part.hook, aya_btf))
            .map_err(|reason| format!("{reason}{}", choice.needs.lacking(&release)))?;
    }
    let mut hooks = Vec::new();
    for part in &parts {
        with_program(ebpf, part, |program| program.attach())?;
        hooks.push(format!("{}:{}", part.hook.kind(), part.hook.target()));
    }
    Ok(hooks)
}

enum Typed<'a> {
    Tracepoint(&'a mut BtfTracePoint),
    Fentry(&'a mut FEntry),
    Fexit(&'a mut FExit),
    Iterator(&'a mut Iter),
    Cgroup(&'a mut CgroupSockAddr),
}

/// Where the version 2 tree of cgroups is mounted: alone, or beside version 1.
const CGROUP_ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

fn cgroup_root() -> std::io::Result<std::fs::File> {
    let is_root = |root: &&&str| std::path::Path::new(root).join("cgroup.controllers").exists();
    let root = CGROUP_ROOTS.iter().find(is_root).ok_or(std::io::ErrorKind::NotFound)?;
    std::fs::File::open(root)
}

impl Typed<'_> {
    fn load(&mut self, hook: Hook, btf: &AyaBtf) -> Result<(), ProgramError> {
        match self {
            Typed::Tracepoint(program) => program.load(hook.target(), btf),
            Typed::Fentry(program) => program.load(hook.target(), btf),
            Typed::Fexit(program) => program.load(hook.target(), btf),
            Typed::Iterator(program) => program.load(hook.target(), btf),
            Typed::Cgroup(program) => program.load(),
        }
    }

    fn attach(&mut self) -> Result<(), ProgramError> {
        match self {
            Typed::Tracepoint(program) => program.attach().map(drop),
            Typed::Fentry(program) => program.attach().map(drop),
            Typed::Fexit(program) => program.attach().map(drop),
            Typed::Iterator(program) => program.attach().map(drop),
            Typed::Cgroup(program) => {
                let root = cgroup_root().map_err(ProgramError::IOError)?;
                // A link stands beside others in any case, and takes no flags (5.7 and later).
                program.attach(root, CgroupAttachMode::Single).map(drop)
            }
        }
    }
}

fn with_program(
    ebpf: &mut Ebpf,
    part: &Part,
    act: impl FnOnce(&mut Typed<'_>) -> Result<(), ProgramError>,
) -> Result<(), String> {
    let missing = || format!("the kernel object has no program {}", part.program);
    let program = ebpf.program_mut(part.program).ok_or_else(missing)?;
    let typed = match part.hook {
        Hook::Tracepoint(_) => program.try_into().map(Typed::Tracepoint),
        Hook::Fentry(_) => program.try_into().map(Typed::Fentry),
        Hook::Fexit(_) => program.try_into().map(Typed::Fexit),
        Hook::Iterator(_) => program.try_into().map(Typed::Iterator),
        Hook::Cgroup(_) => program.try_into().map(Typed::Cgroup),
    };
    let mut typed = typed.map_err(|error| chain(&error))?;
    act(&mut typed)
        .map_err(|error| format!("{} was refused: {}", part.hook.target(), kernel_word(&error)))
}

/// The kernel's word on a program: of the verifier's log, which may have thousands of lines, the
/// one that says what is wrong.
fn kernel_word(error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else { return chain(error) };
    match verdict(&verifier_log.to_string()) {
        Some(verdict) => format!("{io_error}: {verdict}"),
        None => io_error.to_string(),
    }
}

/// The last line of a verifier's log that is not one of its statistics.
fn verdict(log: &str) -> Option<&str> {
    const STATISTICS: [&str; 3] = ["processed ", "verification time ", "stack depth "];
    let mut lines = log.lines().rev().map(str::trim);
    lines.find(|line| !line.is_empty() && !STATISTICS.iter().any(|start| line.starts_with(start)))
}

/// An error with its sources, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::verdict;

    #[test]
    fn a_verifiers_verdict_is_its_last_line_before_the_statistics() {
        let statistics = "verification time 393 usec\nstack depth 0+0\n\
                          processed 12 insns (limit 1000000) max_states_per_insn 0\n";
        for (why, log, expected) in [
            (
                "refused at once",
                "BPF_STX uses reserved fields\n",
                Some("BPF_STX uses reserved fields"),
            ),
            (
                "behind the trace",
                "0: (79) r7 = *(u64 *)(r1 +0)\nunknown func f#1\n",
                Some("unknown func f#1"),
            ),
            ("statistics only", "", None),
        ] {
            assert_eq!(verdict(&format!("{log}{statistics}")), expected, "{why}");
        }
        assert_eq!(verdict(""), None);
    }
}
