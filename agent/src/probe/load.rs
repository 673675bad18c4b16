//! Picks hooks by the plan, loads and attaches their programs, and reports what was picked and why.
//!
//! Only what is picked is verified and attached. A choice whose program the kernel refuses is
//! reported with the kernel's word, and the next one is tried.

mod object;
mod report;

use super::{
    Objects, attach, in_kernel, offsets,
    plan::{Choice, Entry, Feature, Needs, PLAN, Side},
    returns::{self, Return},
    running::{BtfFault, Running},
};
use crate::uprobe::loader::Loader;
use crate::uprobe::program::Programs;
use crate::uprobe::round_trip::RoundTrip;
use agent_common::settings::{Offsets, Settings, check, feature};
use aya::Ebpf;
pub use report::FeatureReport;
pub use report::beside;
use report::{goroutines, thread_contexts};
use std::collections::HashSet;
use std::path::PathBuf;

/// What to load, and how large.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// Features wanted.
    pub wanted: HashSet<Feature>,
    /// Only this choice for payload (`tracepoint`, `fexit`, `kprobe`); `None` picks the best.
    pub payload_hooks: Option<String>,
    /// File with the kernel's type information, where the kernel ships none.
    pub btf: Option<PathBuf>,
    /// Globals, without the bits that depend on the hooks.
    pub settings: Settings,
    /// Bytes of each payload ring in use ([`Settings::payload_rings`]), a power of two.
    pub ring_size: u32,
    /// Processes that a filter may name; 1 without a filter.
    pub process_filter_size: u32,
    /// Sockets whose TLS is read at once, and objects of its libraries.
    pub tls_sockets: u32,
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

/// Programs loaded and attached; they end with this value.
pub struct Loaded {
    /// Return probes that aya does not hold. They go before their programs.
    pub returns: Vec<(&'static str, Return)>,
    /// Programs and maps.
    pub ebpf: Ebpf,
    /// One entry a feature, in the order of the plan.
    pub features: Vec<FeatureReport>,
    /// Programs for functions of libraries, to be attached.
    pub libraries: Option<Programs>,
    /// The program for HTTP clients in Go, to be attached.
    pub round_trip: Option<RoundTrip>,
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
    #[error(transparent)]
    Btf(#[from] BtfFault),
    /// The kernel refused maps or the object.
    #[error("the kernel refused the maps or the object: {0}")]
    Object(String),
    /// No feature could be loaded.
    #[error("no feature could be loaded: {0}")]
    Nothing(String),
}

/// Loads and attaches what `config` wants.
///
/// # Errors
/// [`LoadError`] when not one wanted feature can be had.
pub fn load(objects: Objects<'_>, config: &LoadConfig) -> Result<Loaded, LoadError> {
    let running = Running::read(config.btf.as_deref())?;
    returns::sweep();
    let typed = Plan { side: Side::Typed, object: objects.typed, running: &running, config };
    let untyped = Plan { side: Side::Untyped, object: objects.untyped, running: &running, config };
    let only = config.payload_hooks.as_deref();
    if running.typed.is_none() || only.is_some_and(|name| side_of(name) == Side::Untyped) {
        return untyped.load();
    }
    let first = typed.load();
    let lacks = first.as_ref().map_or(true, |loaded| !loaded.has(Feature::Payload));
    if !lacks || only.is_some() || !untyped.offers(entry(Feature::Payload)) {
        return first;
    }
    // Payload decides: what its programs share with the others lies in one object.
    match (first, untyped.load()) {
        (_, Ok(loaded)) if loaded.has(Feature::Payload) => Ok(loaded),
        (Ok(mut first), Ok(second)) => {
            add_reasons(&mut first, &second);
            Ok(first)
        }
        (Ok(first), Err(_)) => Ok(first),
        (Err(_), second) => second,
    }
}

/// Why payload cannot be had in the second object either.
fn add_reasons(first: &mut Loaded, second: &Loaded) {
    let is_payload = |report: &&FeatureReport| report.feature == Feature::Payload;
    let Some(reason) = second.features.iter().find(is_payload) else { return };
    for report in first.features.iter_mut().filter(|report| report.feature == Feature::Payload) {
        report.why = format!("{}; {}", report.why, reason.why);
    }
}

/// The object that has a choice of payload.
fn side_of(name: &str) -> Side {
    let choices = entry(Feature::Payload).choices;
    choices.iter().find(|choice| choice.name == name).map_or(Side::Typed, |choice| choice.side)
}

fn entry(feature: Feature) -> &'static Entry {
    PLAN.iter().find(|entry| entry.feature == feature).unwrap_or(&PLAN[0])
}

/// The plan of one object.
struct Plan<'a> {
    side: Side,
    object: &'a [u8],
    running: &'a Running,
    config: &'a LoadConfig,
}

impl Plan<'_> {
    /// The programs see as constants which hooks are attached. What the kernel offers is guessed
    /// from its type information; a guess that attaching disproves costs one more round.
    fn load(&self) -> Result<Loaded, LoadError> {
        let (offsets, missing) = offsets::resolve(&self.running.btf);
        if self.side == Side::Untyped {
            // No verifier refuses a field that is not there.
            let lacking: Vec<_> =
                missing.into_iter().filter(|name| offsets::is_needed(name)).collect();
            if !lacking.is_empty() {
                let path = self.running.source.clone();
                return Err(BtfFault::Lacking { path, fields: lacking.join(", ") }.into());
            }
        }
        let mut refused = Refused::default();
        let typed = self.side == Side::Typed;
        let mut cast = self.running.btf.function("bpf_rdonly_cast").filter(|_| typed);
        loop {
            let guess = self.guess(&refused);
            let mut settings = self.config.settings;
            if !typed {
                // Conversations need socket storage and cookies, which take typed sockets.
                settings.features &= !(feature::FLOW | feature::FLOW_DNS);
            }
            settings.features |= bits(&guess, &offsets, cast.is_some());
            let found = settings.features;
            settings.features |=
                in_kernel::bits(self.running, self.side, &offsets, found, &self.config.wanted);
            settings.features |= if self.wants_tls() { feature::TLS } else { 0 };
            let told_apart = offsets.task_fsbase != agent_common::settings::MISSING;
            settings.features |= if self.wants_tls() && told_apart { feature::TLS_GO } else { 0 };
            settings.features |= if self.running.fetches() { feature::ATOMIC_FETCH } else { 0 };
            let (mut ebpf, object) = self.open(&settings, &offsets, cast, &guess)?;
            if self.config.btf.is_some() {
                self.check(&mut ebpf)?;
            }
            let (before, programs) = (refused.len(), refused.programs);
            let mut attached = attach::Attached::default();
            let features: Vec<_> = PLAN
                .iter()
                .map(|entry| self.attach(&mut ebpf, entry, &mut refused, &mut attached))
                .collect();
            if cast.is_some() && refused.programs > programs {
                // A kernel that has the function and refuses it: it must not cost a feature. What is
                // refused its place only (a right that is missing, no cgroups) has another cause.
                for (_, choice, reason) in refused.choices.iter().skip(before) {
                    tracing::warn!("without bpf_rdonly_cast, because of {choice}: {reason}");
                }
                cast = None;
                refused = Refused::default();
                continue;
            }
            let active = features.iter().filter(|one| one.is_active()).map(|one| one.feature);
            if refused.len() == before || active.collect::<HashSet<_>>() == guess {
                let mut later = in_kernel::prepare(&mut ebpf, self.running, self.side, &settings);
                later.extend(goroutines(&settings, self.side));
                later.extend(thread_contexts(&settings));
                let mut features: Vec<_> = features.into_iter().chain(later).collect();
                report::shared(&mut features, &self.config.settings, &settings);
                let loader = Loader::new(&object, &ebpf);
                let (libraries, report) =
                    self.libraries(&loader, &ebpf, &features, settings.features);
                features.push(report);
                let round_trip = round_trip(&loader, settings.features);
                let returns = attached.returns;
                return finish(Loaded { returns, ebpf, features, libraries, round_trip });
            }
        }
    }

    /// Asked for, and the kernel can tell a program what its attachment is for.
    fn wants_tls(&self) -> bool {
        self.config.wanted.contains(&Feature::Tls) && self.running.is(ATTACH_COOKIES)
    }

    /// Programs for functions of libraries; they serve only where sockets are seen.
    fn libraries(
        &self,
        loader: &Result<Loader, String>,
        ebpf: &Ebpf,
        features: &[FeatureReport],
        bits: u32,
    ) -> (Option<Programs>, FeatureReport) {
        let mut report = FeatureReport {
            feature: Feature::Tls,
            name: "TLS",
            without: "encrypted connections are seen as such only",
            hooks: Vec::new(),
            why: "not asked for".to_owned(),
        };
        let payload = |one: &FeatureReport| one.feature == Feature::Payload && one.is_active();
        if !self.config.wanted.contains(&Feature::Tls) {
            return (None, report);
        }
        if !features.iter().any(payload) {
            report.why = "it needs payload".to_owned();
            return (None, report);
        }
        if !self.wants_tls() {
            let (major, minor) = ATTACH_COOKIES.since;
            report.why = format!("it needs Linux {major}.{minor} ({})", ATTACH_COOKIES.what);
            return (None, report);
        }
        let load = |loader| Programs::load(loader, ebpf, bits & feature::TLS_GO != 0);
        match loader.as_ref().map_err(Clone::clone).and_then(load) {
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

    /// Whether a file's offsets find what is known of this process.
    fn check(&self, ebpf: &mut Ebpf) -> Result<(), LoadError> {
        let (process, thread, parent) = (
            std::process::id(),
            rustix::thread::gettid().as_raw_nonzero().get(),
            rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get()),
        );
        let wrong = attach::check(ebpf, [process, thread as u32, parent as u32])
            .map_err(LoadError::Object)?;
        if wrong == 0 {
            return Ok(());
        }
        let names =
            [(check::PROCESS, "process"), (check::THREAD, "thread"), (check::PARENT, "parent")];
        let what = names.iter().filter(|(bit, _)| wrong & bit != 0).map(|(_, name)| *name);
        Err(BtfFault::Foreign {
            path: self.running.source.clone(),
            release: rustix::system::uname().release().to_string_lossy().into_owned(),
            what: what.collect::<Vec<_>>().join(", "),
        }
        .into())
    }

    /// Features that will be active, as far as is known.
    fn guess(&self, refused: &Refused) -> HashSet<Feature> {
        let has = |entry: &&'static Entry| {
            let mut choices = self.choices(entry);
            choices.any(|choice| refused.reason(entry.feature, choice.name).is_none())
        };
        PLAN.iter().filter(has).map(|entry| entry.feature).collect()
    }

    /// The kernel has what one of the feature's choices needs.
    fn offers(&self, entry: &'static Entry) -> bool {
        self.choices(entry).next().is_some()
    }

    /// Choices of a wanted feature that this kernel offers, best first.
    fn choices(&self, entry: &'static Entry) -> impl Iterator<Item = &'static Choice> {
        entry.choices.iter().filter(move |choice| {
            self.config.wanted.contains(&entry.feature) && self.not_offered(entry, choice).is_none()
        })
    }

    /// Why a choice cannot be had.
    fn not_offered(&self, entry: &Entry, choice: &Choice) -> Option<String> {
        if entry.feature == Feature::Payload
            && let Some(only) = &self.config.payload_hooks
            && only != choice.name
        {
            return Some(format!("only {only} hooks are asked for"));
        }
        if choice.side != self.side {
            return self.running.lacks(choice).or_else(|| Some(beside(self.side).to_owned()));
        }
        self.running.lacks(choice)
    }

    fn attach(
        &self,
        ebpf: &mut Ebpf,
        entry: &'static Entry,
        refused: &mut Refused,
        attached: &mut attach::Attached,
    ) -> FeatureReport {
        let mut report = FeatureReport {
            feature: entry.feature,
            name: entry.name,
            without: entry.without,
            hooks: Vec::new(),
            why: String::new(),
        };
        if !self.config.wanted.contains(&entry.feature) {
            report.why = "not asked for".to_owned();
            return report;
        }
        let mut reasons = Vec::new();
        for choice in entry.choices {
            let known = self.not_offered(entry, choice);
            let known = known.or_else(|| refused.reason(entry.feature, choice.name));
            let reason = match known {
                Some(reason) => reason,
                None => match attach::choice(ebpf, self.running, choice) {
                    Ok(done) => {
                        report.hooks = done.hooks;
                        attached.returns.extend(done.returns);
                        let best = if reasons.is_empty() { "choice" } else { "that works" };
                        reasons.insert(0, format!("the best {best}"));
                        reasons.extend(done.remarks.into_iter().take(1));
                        break;
                    }
                    Err(attach::Refusal { reason, of_program }) => {
                        refused.choices.push((entry.feature, choice.name, reason.clone()));
                        refused.programs += usize::from(of_program);
                        reason
                    }
                },
            };
            reasons.push(format!("{}: {reason}", choice.name));
        }
        report.why = reasons.join("; ");
        report
    }
}

/// What the programs for functions of libraries ask which function it is.
const ATTACH_COOKIES: Needs = Needs { since: (5, 15), what: "bpf_get_attach_cookie" };

/// The settings' bits that depend on the hooks.
fn bits(guess: &HashSet<Feature>, offsets: &Offsets, cast: bool) -> u32 {
    let send_time = guess.contains(&Feature::SendTime);
    let knows_thread = offsets.task_fsbase != agent_common::settings::MISSING;
    [
        (send_time, feature::SEND_TIME),
        (send_time && offsets::knows_iterator(offsets), feature::SEND_SOURCE),
        (guess.contains(&Feature::Arrival), feature::ARRIVAL),
        (cast, feature::CAST),
        (offsets::knows_kernel_tls(offsets), feature::KTLS),
        // Older verifiers take minutes for what reads goroutines: they follow loops that later ones
        // see through.
        (cast && knows_thread, feature::GO),
        (knows_thread && guess.contains(&Feature::Processes), feature::THREAD_CONTEXT),
    ]
    .into_iter()
    .filter_map(|(is_set, bit)| is_set.then_some(bit))
    .fold(0, |bits, bit| bits | bit)
}

/// Without it requests of these clients have no parent from within the program, and no wrong one.
fn round_trip(loader: &Result<Loader, String>, bits: u32) -> Option<RoundTrip> {
    if bits & feature::GO == 0 {
        return None;
    }
    let loaded = loader.as_ref().map_err(Clone::clone).and_then(RoundTrip::load);
    let warn =
        |reason| tracing::warn!("who asks in programs in Go (net/http) stays unknown: {reason}");
    loaded.map_err(warn).ok()
}

fn finish(loaded: Loaded) -> Result<Loaded, LoadError> {
    if loaded.features.iter().any(FeatureReport::is_active) {
        return Ok(loaded);
    }
    let reasons: Vec<_> =
        loaded.features.iter().map(|report| format!("{}: {}", report.name, report.why)).collect();
    Err(LoadError::Nothing(reasons.join("; ")))
}

/// Choices that attaching disproved, with the kernel's word.
#[derive(Default)]
struct Refused {
    choices: Vec<(Feature, &'static str, String)>,
    /// Those of which a program was refused, and not its place.
    programs: usize,
}

impl Refused {
    fn len(&self) -> usize {
        self.choices.len()
    }

    fn reason(&self, feature: Feature, choice: &str) -> Option<String> {
        let found = self.choices.iter().find(|(f, c, _)| *f == feature && *c == choice);
        found.map(|(_, _, reason)| reason.clone())
    }
}
