//! Which traces are shown.

use super::row::SpanRow;
use crate::config::TraceFilter;
use globset::{Glob, GlobSet, GlobSetBuilder};

/// A filter, ready to be asked.
pub struct Filter {
    services: Option<GlobSet>,
    requests: Vec<String>,
    slower_ns: u64,
    errors: bool,
}

impl Filter {
    /// Patterns that are none match nothing.
    pub fn new(given: &TraceFilter) -> Filter {
        let services = (!given.services.is_empty()).then(|| {
            let mut set = GlobSetBuilder::new();
            let globs = given.services.iter().filter_map(|pattern| Glob::new(pattern).ok());
            for glob in globs {
                set.add(glob);
            }
            set.build().unwrap_or_default()
        });
        let slower = given.slower.map_or(0, |slower| slower.as_nanos());
        Filter {
            services,
            requests: given.requests.clone(),
            slower_ns: u64::try_from(slower).unwrap_or(u64::MAX),
            errors: given.errors,
        }
    }

    /// Whether one of these spans is all that is asked for.
    pub fn takes(&self, spans: &[SpanRow]) -> bool {
        spans.iter().any(|span| {
            let is_service = |set: &GlobSet| set.is_match(&span.service);
            let took = span.end_unix_ns.saturating_sub(span.start_unix_ns);
            let contains = |text: &String| span.request.contains(text.as_str());
            self.services.as_ref().is_none_or(is_service)
                && (self.requests.is_empty() || self.requests.iter().any(contains))
                && took >= self.slower_ns
                && (span.error || !self.errors)
        })
    }
}
