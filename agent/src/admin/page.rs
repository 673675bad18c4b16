//! The body of `/metrics`: written while it is read.
//!
//! Ten thousand series of requests are some 30 MB of text. What was published is shared, and its histograms become
//! text a piece at a time, so that many readers, or slow ones, cost a piece each.

use super::metrics::{family_head, write_histogram};
use agent_core::request::{Bucketed, Numbers};
use hyper::body::{Body, Bytes, Frame};
use std::convert::Infallible;
use std::mem::take;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Text that is made at once: some dozens of series.
const PIECE: usize = 64 << 10;

/// See the module.
pub struct Page {
    /// What comes before the histograms.
    head: String,
    requests: Arc<Numbers>,
    /// Places of the histograms, those of a family together.
    order: Vec<usize>,
    next: usize,
}

impl Page {
    /// `head`, then the histograms of `requests`.
    pub fn new(head: String, requests: Arc<Numbers>) -> Page {
        let mut order: Vec<usize> = (0..requests.0.len()).collect();
        let name = |at: &usize| requests.0.get(*at).map(|histogram| histogram.name);
        order.sort_by_key(name);
        Page { head, requests, order, next: 0 }
    }

    fn at(&self, place: usize) -> Option<&Bucketed> {
        self.requests.0.get(*self.order.get(place)?)
    }
}

impl Iterator for Page {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        if !self.head.is_empty() {
            return Some(take(&mut self.head));
        }
        let mut text = String::new();
        let mut labels = String::new();
        while let Some(histogram) = self.at(self.next).filter(|_| text.len() < PIECE) {
            let before = self.next.checked_sub(1).and_then(|before| self.at(before));
            if before.is_none_or(|before| before.name != histogram.name) {
                family_head(&mut text, histogram.name);
            }
            write_histogram(&mut text, histogram, &mut labels);
            self.next += 1;
        }
        (!text.is_empty()).then_some(text)
    }
}

impl Body for Page {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next().map(|text| Ok(Frame::data(Bytes::from(text)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_series_come_in_pieces_each_once() {
        let one = |at: usize| Bucketed {
            name: ["http.server.request.duration", "http.client.request.duration"][at % 2],
            labels: vec![
                ("service_name", format!("service{at}")),
                ("server.address", "x".repeat(253)),
            ],
            bounds: &agent_core::request::BOUNDS,
            counts: vec![1; 15],
            sum: 1.5,
        };
        let requests: Arc<Numbers> = Arc::new(((0..10_000).map(one).collect(), Vec::new()));
        let pieces: Vec<String> = Page::new("head\n".to_owned(), requests).collect();
        let longest = pieces.iter().map(String::len).max().expect("pieces");
        // What it is cut by, and the one series that went over it.
        assert!(longest < PIECE + 16 * 1024, "{longest}");
        let text = pieces.concat();
        assert!(text.starts_with("head\n# HELP http_client_request_duration_seconds "));
        assert_eq!(text.matches("# TYPE").count(), 2, "a family stands together");
        for (part, lines) in [("_bucket{", 150_000), ("_sum{", 10_000), ("_count{", 10_000)] {
            assert_eq!(text.matches(part).count(), lines, "{part}");
        }
        assert_eq!(text.matches("service_name=\"service77\",").count(), 17);
        let lines: std::collections::HashSet<&str> = text.lines().collect();
        assert_eq!(lines.len(), text.lines().count(), "each once");
    }
}
