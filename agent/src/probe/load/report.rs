//! What is said of each feature.

use crate::probe::plan::{Feature, Side};
use agent_common::settings::{Settings, feature};

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

/// Why what is in the other object cannot be had: its programs would not share maps with these.
pub fn beside(side: Side) -> &'static str {
    match side {
        Side::Typed => "kprobes do not serve beside programs with types, which are in use",
        Side::Untyped => "programs with types do not serve beside kprobes, which capture payload",
    }
}

/// What programs of another feature do as well: that they do, or why not. `asked` has what was asked for,
/// `settings` what came of it.
pub(super) fn shared(features: &mut [FeatureReport], asked: &Settings, settings: &Settings) {
    let has_payload = features.iter().any(|one| one.feature == Feature::Payload && one.is_active());
    if !has_payload || asked.features & feature::FLOW == 0 {
        return;
    }
    let traffic = features.iter_mut().find(|one| one.feature == Feature::FlowCalls);
    let Some(report) = traffic.filter(|one| !one.is_active()) else { return };
    if settings.features & feature::FLOW == 0 {
        report.why = beside(Side::Untyped).to_owned();
    } else {
        report.hooks = vec!["the payload hooks".to_owned()];
        report.why = "counted where payload is captured".to_owned();
    }
}

/// Whether goroutines are read; nothing when payload is not wanted. It takes no hook of its own.
pub(super) fn goroutines(settings: &Settings, side: Side) -> Option<FeatureReport> {
    let is_on = settings.features & feature::GO != 0;
    (settings.head_bytes != 0).then(|| FeatureReport {
        feature: Feature::Goroutines,
        name: "goroutines",
        without: "programs in Go are judged by their threads, and mostly not linked",
        hooks: if is_on { vec!["the payload hooks".to_owned()] } else { Vec::new() },
        why: if is_on {
            "read in the socket's hook".to_owned()
        } else if side == Side::Untyped {
            beside(side).to_owned()
        } else {
            "it needs bpf_rdonly_cast (Linux 6.2), programs with types, and the thread pointer's \
             place in task_struct"
                .to_owned()
        },
    })
}

/// Whether published trace contexts are read; the same.
pub(super) fn thread_contexts(settings: &Settings) -> Option<FeatureReport> {
    let is_on = settings.features & feature::THREAD_CONTEXT != 0;
    (settings.head_bytes != 0).then(|| FeatureReport {
        feature: Feature::ThreadContexts,
        name: "thread contexts",
        without: "spans of programs that publish their trace context (OTEP 4947) are linked by other \
                  evidence",
        hooks: if is_on { vec!["the payload hooks".to_owned()] } else { Vec::new() },
        why: if is_on {
            "read in the socket's hook".to_owned()
        } else {
            "it needs process events, and the thread pointer's place in task_struct".to_owned()
        },
    })
}
