//! The paths of one service as a tree of segments.

use super::classify::{Kind, classify};
use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// Different words in one place from which on those that come are one of many. Collections of an API are fewer.
pub const MAX_LITERALS: usize = 50;

/// Requests after which a word is the program's own, whatever else comes to its place. Fifty-one words of a set
/// without end (articles, products) are there after some hundred requests, of which the most popular one has about
/// ten; who tries paths at random asks for each once.
const PROVEN: u32 = 20;

/// Segments that are told apart; what is deeper is one.
const MAX_DEPTH: usize = 12;

/// The place from which all paths go.
const ROOT: u32 = 0;

/// See the module.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// Places that can be used again.
    free: Vec<u32>,
    /// Places at which a path ended.
    routes: usize,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, u32, RandomState>,
    /// By [`Kind`]; 0 for none: nothing leads to the root.
    kinds: [u32; Kind::COUNT],
    /// Its words were too many: those that it does not have are slugs.
    folded: bool,
    /// Requests that taught, to here and below.
    requests: u32,
    /// The name of paths that end here.
    route: Option<Box<str>>,
}

/// Where a path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    /// To this place.
    Route(u32),
    /// Nowhere yet.
    Unknown,
    /// Nowhere, and there is no room for it.
    Full,
}

/// What a segment is in its place.
#[derive(Clone, Copy)]
enum Step<'p> {
    Literal(&'p str),
    Kind(Kind),
}

impl Node {
    fn has(&self, word: &str) -> bool {
        self.literals.contains_key(word)
    }
}

impl Default for Tree {
    fn default() -> Self {
        Tree { nodes: vec![Node::default()], free: Vec::new(), routes: 0 }
    }
}

impl Tree {
    /// Places in use, beside the root.
    pub(super) fn len(&self) -> usize {
        self.nodes.len() - 1 - self.free.len()
    }

    /// The name of the paths that end in this place.
    pub(super) fn text(&self, at: u32) -> Option<&str> {
        self.nodes.get(at as usize)?.route.as_deref()
    }

    /// Follows `path`. With `room` for so many new places it makes those that are missing, and has at most
    /// `most` names.
    pub(super) fn walk(&mut self, path: &str, room: Option<usize>, most: usize) -> Walk {
        let mut at = ROOT;
        // Where there is no room for a name, places would be of no use.
        let mut room_left = room.map(|room| if self.routes < most { room } else { 0 });
        let mut segments = segments(path);
        for depth in 0..=MAX_DEPTH {
            let Some(segment) = segments.next() else { break };
            let step = self.step(at, segment, depth, room.is_some());
            at = match (self.child(at, step), &mut room_left) {
                (Some(known), _) => known,
                (None, Some(0)) => return Walk::Full,
                (None, Some(room)) => {
                    *room -= 1;
                    self.grow(at, step)
                }
                (None, None) => return Walk::Unknown,
            };
            if room.is_some() {
                self.count(at);
            }
            if depth == MAX_DEPTH {
                break;
            }
        }
        self.end(at, path, room.is_some(), most)
    }

    /// One more request that taught.
    fn count(&mut self, at: u32) {
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.requests = node.requests.saturating_add(1);
        }
    }

    /// What `segment` is at this place. One word too many makes slugs of all that are not proven.
    fn step<'p>(&mut self, at: u32, segment: &'p str, depth: usize, teaches: bool) -> Step<'p> {
        if depth == MAX_DEPTH {
            return Step::Kind(Kind::Path);
        }
        if let Some(kind) = classify(segment) {
            return Step::Kind(kind);
        }
        let Some(node) = self.nodes.get(at as usize) else { return Step::Literal(segment) };
        if teaches && !node.folded && node.literals.len() >= MAX_LITERALS && !node.has(segment) {
            self.fold(at);
        }
        self.word(at, segment)
    }

    /// What a word is at this place.
    fn word<'p>(&self, at: u32, segment: &'p str) -> Step<'p> {
        let is_slug = |node: &Node| node.folded && !node.has(segment);
        match self.nodes.get(at as usize).is_some_and(is_slug) {
            true => Step::Kind(Kind::Slug),
            false => Step::Literal(segment),
        }
    }

    fn child(&self, at: u32, step: Step<'_>) -> Option<u32> {
        let node = self.nodes.get(at as usize)?;
        match step {
            Step::Literal(text) => node.literals.get(text).copied(),
            Step::Kind(kind) => node.kinds.get(kind as usize).copied().filter(|at| *at != ROOT),
        }
    }

    fn grow(&mut self, at: u32, step: Step<'_>) -> u32 {
        let new = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            // The bound on places keeps the number far below.
            u32::try_from(self.nodes.len() - 1).unwrap_or(ROOT)
        });
        if let Some(node) = self.nodes.get_mut(at as usize) {
            match step {
                Step::Literal(text) => {
                    node.literals.insert(text.into(), new);
                }
                Step::Kind(kind) => {
                    if let Some(slot) = node.kinds.get_mut(kind as usize) {
                        *slot = new;
                    }
                }
            }
        }
        new
    }

    /// The words of a place become slugs, without those that are proven: nobody takes a name away by asking for
    /// others. What was below them is learnt again: it was at most as much as 50 of them had.
    fn fold(&mut self, at: u32) {
        let Some(node) = self.nodes.get_mut(at as usize) else { return };
        node.folded = true;
        let words = std::mem::take(&mut node.literals);
        let is_proven =
            |place: u32| self.nodes.get(place as usize).is_some_and(|node| node.requests >= PROVEN);
        let (stay, go): (Vec<_>, Vec<_>) = words.into_iter().partition(|(_, at)| is_proven(*at));
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.literals = stay.into_iter().collect();
        }
        let mut gone: Vec<u32> = go.into_iter().map(|(_, place)| place).collect();
        while let Some(place) = gone.pop() {
            let Some(node) = self.nodes.get_mut(place as usize) else { continue };
            let node = std::mem::take(node);
            gone.extend(node.literals.into_values());
            gone.extend(node.kinds.into_iter().filter(|at| *at != ROOT));
            self.routes -= usize::from(node.route.is_some());
            self.free.push(place);
        }
    }

    /// A path ends here.
    fn end(&mut self, at: u32, path: &str, teaches: bool, most: usize) -> Walk {
        match self.nodes.get(at as usize) {
            Some(node) if node.route.is_some() => return Walk::Route(at),
            Some(_) if !teaches => return Walk::Unknown,
            Some(_) if self.routes >= most => return Walk::Full,
            Some(_) => {}
            None => return Walk::Unknown,
        }
        let route = self.name(path);
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.route = Some(route.into());
            self.routes += 1;
        }
        Walk::Route(at)
    }

    /// The name of `path`, all of whose places are there.
    fn name(&self, path: &str) -> String {
        let mut name = String::new();
        let mut at = ROOT;
        for (depth, segment) in segments(path).enumerate() {
            let kind = if depth == MAX_DEPTH { Some(Kind::Path) } else { classify(segment) };
            let step = kind.map_or_else(|| self.word(at, segment), Step::Kind);
            name.push('/');
            name.push_str(match step {
                Step::Kind(kind) => kind.placeholder(),
                Step::Literal(text) => text,
            });
            let Some(next) = self.child(at, step).filter(|_| depth < MAX_DEPTH) else { break };
            at = next;
        }
        if name.is_empty() { "/".to_owned() } else { name }
    }
}

/// Without parameters (`;name=value`, RFC 3986 section 3.3): they are many, and some of them secret.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    let name = |segment: &'_ str| segment.find(';').unwrap_or(segment.len());
    path.split('/')
        .filter_map(move |segment| segment.get(..name(segment)))
        .filter(|s| !s.is_empty())
}
