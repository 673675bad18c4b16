//! The spans of one trace, put into a tree and drawn.
//!
//! ```text
//! trace 4bf9…  6 spans  12.8 ms  10:15:02.123
//! curl → GET shop:8080/cart                          200   12.8 ms
//! └─ nginx  GET /cart                                200   12.6 ms  +102 µs  tcp
//! ```

use super::row::{EventRow, SpanRow};
use super::text::{self, Look, Style, put};
use agent_core::id::{SpanId, TraceId};
use hashbrown::{HashMap, HashSet};

/// Spans, and log records, that are kept of one trace.
pub const MAX_ROWS: usize = 256;
/// Deeper branches are drawn at this depth.
const MAX_DEPTH: usize = 12;
/// Columns of tree, service and request; with the numbers behind it a line has 100 columns.
const LEFT: usize = 56;
/// Columns of a line.
const WIDTH: usize = 100;

/// What is known of a trace so far.
#[derive(Debug)]
pub struct Trace {
    id: TraceId,
    /// Boot-time ns of the first arrival.
    pub first_ns: u64,
    /// Boot-time ns of the latest arrival.
    pub last_ns: u64,
    /// In the order of arrival.
    pub spans: Vec<SpanRow>,
    /// In the order of arrival.
    pub events: Vec<EventRow>,
    /// One of its spans is what is asked for.
    pub asked_for: bool,
    left_out: u64,
}

impl Trace {
    /// Without spans.
    pub fn new(id: TraceId, now_ns: u64) -> Trace {
        Trace {
            id,
            first_ns: now_ns,
            last_ns: now_ns,
            spans: Vec::new(),
            events: Vec::new(),
            asked_for: false,
            left_out: 0,
        }
    }

    /// False when the trace has too many already.
    pub fn add_span(&mut self, row: impl FnOnce() -> SpanRow) -> bool {
        let fits = self.spans.len() < MAX_ROWS;
        if fits {
            self.spans.push(row());
        } else {
            self.left_out += 1;
        }
        fits
    }

    /// False when the trace has too many already.
    pub fn add_event(&mut self, row: EventRow) -> bool {
        let fits = self.events.len() < MAX_ROWS;
        if fits {
            self.events.push(row);
        } else {
            self.left_out += 1;
        }
        fits
    }

    /// There is a root, and every parent is here.
    pub fn is_complete(&self) -> bool {
        let known: HashSet<SpanId> = self.spans.iter().map(|span| span.id).collect();
        let has_root = self.spans.iter().any(|span| span.parent.is_none());
        let parents = self.spans.iter().filter_map(|span| span.parent);
        has_root
            && parents
                .chain(self.events.iter().filter_map(|e| e.span))
                .all(|id| known.contains(&id))
    }

    /// Unix ns of the earliest that is known.
    pub fn start_unix_ns(&self) -> u64 {
        let spans = self.spans.iter().map(|span| span.start_unix_ns);
        spans.chain(self.events.iter().map(|event| event.unix_ns)).min().unwrap_or(0)
    }

    /// The tree, with a heading and an empty line behind it.
    pub fn render(&self, style: Style) -> String {
        let start = self.start_unix_ns();
        let end = self.spans.iter().map(|span| span.end_unix_ns).max().unwrap_or(start);
        let mut out = String::new();
        put(&mut out, style, Look::Dim, "trace ");
        out.push_str(&text::hex(&self.id.0));
        let plural = if self.spans.len() == 1 { "" } else { "s" };
        let facts = format!(
            "  {} span{plural}  {}  {}",
            self.spans.len(),
            text::duration(end.saturating_sub(start)),
            text::time_of_day(start)
        );
        put(&mut out, style, Look::Dim, &facts);
        out.push('\n');
        Drawing::new(self, style, &mut out).all();
        if self.left_out > 0 {
            let text = format!("… {} more, not kept: the trace is too large", self.left_out);
            put(&mut out, style, Look::Dim, &text);
            out.push('\n');
        }
        out.push('\n');
        out
    }
}

/// A log record that belongs to no trace, as a line.
pub fn render_event(event: &EventRow, style: Style) -> String {
    let mut out = String::new();
    put(&mut out, style, Look::Dim, &format!("{}  ", text::time_of_day(event.unix_ns)));
    put_event(&mut out, style, event, 14);
    out
}

struct Drawing<'a> {
    trace: &'a Trace,
    style: Style,
    out: &'a mut String,
    start: u64,
    children: HashMap<SpanId, Vec<Node>>,
    seen: HashSet<usize>,
}

/// Index of a span or of an event.
#[derive(Clone, Copy)]
enum Node {
    Span(usize),
    Event(usize),
}

impl<'a> Drawing<'a> {
    fn new(trace: &'a Trace, style: Style, out: &'a mut String) -> Drawing<'a> {
        let start = trace.start_unix_ns();
        let (children, seen) = (HashMap::new(), HashSet::new());
        Drawing { trace, style, out, start, children, seen }
    }

    fn all(&mut self) {
        let trace = self.trace;
        let known: HashSet<SpanId> = trace.spans.iter().map(|span| span.id).collect();
        let mut nodes: Vec<(Option<SpanId>, Node)> =
            trace.spans.iter().enumerate().map(|(i, s)| (s.parent, Node::Span(i))).collect();
        nodes.extend(trace.events.iter().enumerate().map(|(i, e)| (e.span, Node::Event(i))));
        nodes.sort_by_key(|(_, node)| self.order(*node));
        let mut roots = Vec::new();
        for (parent, node) in nodes {
            match parent.filter(|parent| known.contains(parent)) {
                Some(parent) => self.children.entry(parent).or_default().push(node),
                None => roots.push(node),
            }
        }
        roots.into_iter().for_each(|root| self.branch(root, &mut Vec::new(), None));
        // Parents in a circle have no root; a header can claim anything.
        for index in 0..trace.spans.len() {
            if !self.seen.contains(&index) {
                self.branch(Node::Span(index), &mut Vec::new(), None);
            }
        }
    }

    fn order(&self, node: Node) -> (u64, u8, SpanId) {
        match node {
            Node::Span(index) => {
                let span = &self.trace.spans[index];
                (span.start_unix_ns, 0, span.id)
            }
            Node::Event(index) => (self.trace.events[index].unix_ns, 1, SpanId::default()),
        }
    }

    /// `rails`: per level above, whether its branch goes on below. `last`: of this node among its
    /// siblings; none for roots.
    fn branch(&mut self, node: Node, rails: &mut Vec<bool>, last: Option<bool>) {
        let prefix = prefix(rails, last);
        let index = match node {
            Node::Event(index) => {
                put(self.out, self.style, Look::Dim, &prefix);
                let (event, used) = (&self.trace.events[index], prefix.chars().count());
                return put_event(self.out, self.style, event, used);
            }
            Node::Span(index) => index,
        };
        if !self.seen.insert(index) {
            return;
        }
        let span = &self.trace.spans[index];
        self.line(span, &prefix);
        let children = self.children.remove(&span.id).unwrap_or_default();
        rails.extend(last.map(|last| !last));
        for (position, child) in children.iter().enumerate() {
            self.branch(*child, rails, Some(position + 1 == children.len()));
        }
        if last.is_some() {
            rails.pop();
        }
    }

    fn line(&mut self, span: &SpanRow, prefix: &str) {
        let style = self.style;
        put(self.out, style, Look::Dim, prefix);
        put(self.out, style, Look::Strong, &span.service);
        let mut used = prefix.chars().count() + span.service.chars().count();
        let arrow = if span.client { " → " } else { "  " };
        let mut request = format!("{arrow}{}", span.request);
        if !span.peer.is_empty() {
            request.push_str(if span.client { " @ " } else { " ← " });
            request.push_str(&span.peer);
        }
        let failure = match span.error_type.as_str() {
            "" => String::new(),
            kind => format!(" ✗ {kind}"),
        };
        let room = LEFT.saturating_sub(used + failure.chars().count()).max(8);
        let request = text::printable(&request, room);
        used += request.chars().count() + failure.chars().count();
        self.out.push_str(&request);
        put(self.out, style, Look::Bad, &failure);
        let pad = LEFT.saturating_sub(used);
        let status = span.status.map_or("-".to_string(), |status| status.to_string());
        let look = if span.error { Look::Bad } else { Look::Normal };
        put(self.out, style, look, &format!("{:pad$} {status:>4}", ""));
        let duration = text::duration(span.end_unix_ns.saturating_sub(span.start_unix_ns));
        self.out.push_str(&format!(" {duration:>8}"));
        let offset = span.start_unix_ns.saturating_sub(self.start);
        put(self.out, style, Look::Dim, &format!(" {:>9}", format!("+{}", text::duration(offset))));
        if !span.evidence.is_empty() {
            let room = WIDTH.saturating_sub(LEFT.max(used) + 24 + 2).max(8);
            let text = text::printable(&span.evidence, room);
            put(self.out, style, Look::Dim, &format!("  {text}"));
        }
        self.out.push('\n');
    }
}

fn put_event(out: &mut String, style: Style, event: &EventRow, used: usize) {
    let name = format!("! {}", event.name);
    put(out, style, Look::Event, &name);
    let room = WIDTH.saturating_sub(used + name.chars().count() + 2).max(8);
    let text = format!("{}: {}", event.service, event.body);
    out.push_str(&format!("  {}\n", text::printable(&text, room)));
}

fn prefix(rails: &[bool], last: Option<bool>) -> String {
    let Some(last) = last else { return String::new() };
    let shown = rails.len().min(MAX_DEPTH);
    let mut prefix: String =
        rails[..shown].iter().map(|goes_on| if *goes_on { "│  " } else { "   " }).collect();
    prefix.push_str(if last { "└─ " } else { "├─ " });
    prefix
}
