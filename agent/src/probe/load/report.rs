//! What is said of each feature.

use crate::probe::plan::Feature;
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

/// Whether goroutines are read; nothing when payload is not wanted. It takes no hook of its own.
pub(super) fn goroutines(settings: &Settings) -> Option<FeatureReport> {
    let is_on = settings.features & feature::GO != 0;
    (settings.head_bytes != 0).then(|| FeatureReport {
        feature: Feature::Goroutines,
        name: "goroutines",
        without: "programs in Go are judged by their threads, and mostly not linked",
        hooks: if is_on { vec!["the payload hooks".to_owned()] } else { Vec::new() },
        why: if is_on {
            "read in the socket's hook".to_owned()
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
