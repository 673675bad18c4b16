//! Which traces are shown.

use super::row::whole_request;
use crate::config::TraceFilter;
use agent_core::span::Span;
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

    /// Whether this span is all that is asked for. By what it has, not by what is shown of it: a line has room
    /// for less.
    pub fn takes(&self, span: &Span<'_>) -> bool {
        let took = span.end_unix_ns.saturating_sub(span.start_unix_ns);
        took >= self.slower_ns
            && (span.error || !self.errors)
            && self.services.as_ref().is_none_or(|set| set.is_match(&span.resource.service))
            && (self.requests.is_empty() || self.is_request(&whole_request(span)))
    }

    fn is_request(&self, request: &str) -> bool {
        self.requests.iter().any(|text| request.contains(text.as_str()))
    }
}
