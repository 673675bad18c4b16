//! URL templates: a bounded number of names for an unbounded number of paths.
//!
//! What an operator says comes first ([`Rule`]); the rest is learnt, by service (name and namespace), when that is asked for, or when
//! traces are judged by route. A segment that is a number, a UUID, a hash or a date has a name by its looks ([`classify`]); any other one
//! by how many there are in its place ([`tree`]). A path for which there is no room is [`OVERFLOW`].
//!
//! | segment | becomes |
//! |---|---|
//! | `42`, `order-10023` | `{id}` |
//! | `7c9e6679-7425-40de-944b-e07fc1f90ae7` | `{uuid}` |
//! | `9f86d081884c7d65`, `app.3f2a91bc.js` | `{hash}` |
//! | `2026-11-30` | `{date}` |
//! | one of more than 50 in one place, escaped, or longer than 32 bytes | `{slug}` |
//! | what is deeper than 12 | `{path}` |
//! | any other | itself |
//!
//! Only an answer that shows that something is there teaches ([`proves`]): whoever tries paths at random names no
//! routes. Where everything is answered as if it were there (single-page applications), words that were asked for
//! again and again stay when the others of their place become slugs.

mod classify;
mod template;
mod tree;

pub use template::{Mistake, Template};
pub use tree::MAX_LITERALS;

use crate::ledger::{Entry, Side};
use crate::process::{KeptServiceName, ServiceName};
use foldhash::fast::RandomState;
use hashbrown::{Equivalent, HashMap};
use std::collections::VecDeque;
use std::sync::Arc;
use tree::{Tree, Walk};

/// The one name of all paths for which there is no room: the semantic conventions' word for what is folded.
pub const OVERFLOW: &str = "_OTHER";

/// Steps of the search for a service to leave.
const MAX_SEARCH: usize = 32;

/// A template for the requests to one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `service.name`, in whatever namespace; `None` for every service.
    pub service: Option<String>,
    /// What its paths look like.
    pub template: Template,
}

/// Bounds of [`Routes`].
#[derive(Clone, Copy, Debug)]
pub struct RouteLimits {
    /// Services that are learnt at once; one that was not asked of late leaves.
    pub services: usize,
    /// Names of one service.
    pub routes: usize,
    /// Places in the trees of all services.
    pub nodes: usize,
}

impl Default for RouteLimits {
    /// 200 bytes a place: 4 MB. A service that people write has some tens of routes, of four places each.
    fn default() -> Self {
        RouteLimits { services: 2000, routes: 100, nodes: 20_000 }
    }
}

/// Whether a request answered with `status` shows that its path is one that the program knows.
///
/// 2xx; 304, since the same request without its condition would have been a 200 (RFC 9110, section 15.4.5); and
/// 101, the only answer that a WebSocket's path ever has. No other 3xx: a redirection to the login page is the
/// answer to any path, also to a POST; a form that is answered so is learnt when it is fetched. No 5xx: what is in
/// front of a program that is gone answers anything with that.
pub fn proves(status: u16) -> bool {
    matches!(status, 200..=299 | 304 | 101)
}

/// What routes come from.
#[derive(Clone, Debug, Default)]
pub struct RouteConfig {
    /// The first that fits wins.
    pub rules: Vec<Rule>,
    /// Paths that no rule fits are learnt.
    pub learn: bool,
    /// Bounds.
    pub limits: RouteLimits,
}

impl RouteConfig {
    /// Whether any request can have a route.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && !self.learn
    }
}

/// The route of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<'a> {
    /// It.
    pub text: &'a str,
    /// The operator's; else it was learnt.
    pub is_told: bool,
}

impl<'a> Route<'a> {
    fn learnt(text: &'a str) -> Route<'a> {
        Route { text, is_told: false }
    }
}

/// A service that is looked for.
#[derive(Hash)]
struct Asked<'a>(ServiceName<'a>);

impl Equivalent<Arc<KeptServiceName>> for Asked<'_> {
    fn equivalent(&self, kept: &Arc<KeptServiceName>) -> bool {
        self.0 == kept.borrowed()
    }
}

/// See the module.
pub struct Routes {
    config: RouteConfig,
    services: HashMap<Arc<KeptServiceName>, Service, RandomState>,
    /// All services, in the order in which they are considered for leaving.
    turn: VecDeque<Arc<KeptServiceName>>,
    /// Places of all trees.
    nodes: usize,
    counts: Counts,
}

struct Service {
    /// Rules that are for it.
    rules: Box<[usize]>,
    tree: Tree,
    /// It was asked since its last turn.
    used: bool,
}

#[derive(Default)]
struct Counts {
    by_rule: u64,
    learnt: u64,
    none: u64,
    overflowed: u64,
    evicted: u64,
}

impl Routes {
    /// Nothing learnt yet.
    pub fn new(config: RouteConfig) -> Routes {
        let (services, turn) = (HashMap::default(), VecDeque::new());
        Routes { config, services, turn, nodes: 0, counts: Counts::default() }
    }

    /// Where anybody asks for routes; learns them when somebody judges by them.
    pub fn wanted(config: &RouteConfig, judges: bool) -> Option<Routes> {
        let wanted = judges || !config.is_empty();
        let learn = judges || config.learn;
        wanted.then(|| Routes::new(RouteConfig { learn, ..config.clone() }))
    }

    /// The route of a request to `service` for `path`. With `teaches` the path may make a new one.
    pub fn route<'s>(
        &mut self,
        service: impl Into<ServiceName<'s>>,
        path: &str,
        teaches: bool,
    ) -> Option<Route<'_>> {
        let service = service.into();
        let path = path.split(['?', '#']).next().filter(|path| path.starts_with('/'));
        let Some(path) = path else {
            self.counts.none += 1;
            return None;
        };
        if !self.services.contains_key(&Asked(service)) {
            self.enter(service);
        }
        let Routes { config, services, nodes, counts, .. } = self;
        let known = services.get_mut(&Asked(service))?;
        known.used = true;
        let mut rules = known.rules.iter().filter_map(|rule| config.rules.get(*rule));
        if let Some(rule) = rules.find(|rule| rule.template.fits(path)) {
            counts.by_rule += 1;
            return Some(Route { text: rule.template.text(), is_told: true });
        }
        if !config.learn {
            counts.none += 1;
            return None;
        }
        let before = known.tree.len();
        let room = config.limits.nodes.saturating_sub(*nodes);
        let walk = known.tree.walk(path, teaches.then_some(room), config.limits.routes);
        *nodes = (*nodes + known.tree.len()).saturating_sub(before);
        match walk {
            Walk::Route(route) => {
                counts.learnt += 1;
                known.tree.text(route).map(Route::learnt)
            }
            Walk::Unknown => {
                counts.none += 1;
                None
            }
            Walk::Full => {
                counts.overflowed += 1;
                Some(Route::learnt(OVERFLOW))
            }
        }
    }

    /// A service that is not known yet.
    fn enter(&mut self, service: ServiceName<'_>) {
        while self.services.len() >= self.config.limits.services.max(1) {
            self.evict();
        }
        let is_for = |rule: &Rule| rule.service.as_deref().is_none_or(|name| name == service.name);
        let rules = self.config.rules.iter().enumerate().filter(|(_, rule)| is_for(rule));
        let rules = rules.map(|(at, _)| at).collect();
        let name: Arc<KeptServiceName> = Arc::new(service.into());
        self.turn.push_back(Arc::clone(&name));
        self.services.insert(name, Service { rules, tree: Tree::default(), used: false });
    }

    /// Makes a service leave that nobody asked for since its last turn, else the one whose turn it is.
    fn evict(&mut self) {
        for step in 0.. {
            let Some(name) = self.turn.pop_front() else { return self.services.clear() };
            let Some(service) = self.services.get_mut(&name) else { continue };
            if service.used && step < MAX_SEARCH {
                service.used = false;
                self.turn.push_back(name);
                continue;
            }
            self.nodes = self.nodes.saturating_sub(service.tree.len());
            self.services.remove(&name);
            self.counts.evicted += 1;
            return;
        }
    }

    /// The account: paths that came, and what became of them.
    pub fn ledger(&self) -> Vec<Entry> {
        let Counts { by_rule, learnt, none, overflowed, evicted } = self.counts;
        let entry = |unit, side, count| Entry { stage: "routes", unit, side, count };
        vec![
            entry("paths", Side::In, by_rule + learnt + none + overflowed),
            entry("paths", Side::Out, by_rule + learnt),
            entry("paths", Side::Lost("without_route"), none),
            entry("paths", Side::Lost("overflowed"), overflowed),
            entry("paths", Side::Info("by_rule"), by_rule),
            entry("services", Side::Held, self.services.len() as u64),
            entry("services", Side::Info("evicted"), evicted),
            entry("places", Side::Held, self.nodes as u64),
        ]
    }
}

#[cfg(test)]
mod tests;
