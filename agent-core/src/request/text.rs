//! The same for a text format: by service, those of its processes added up, since they began.

use super::emit::{self, AS_CLIENT, AS_SERVER, BOUNDS, CLIENT, FAILED, REQUESTS, SERVER};
use super::graph::Totals;
use super::{BUCKETS, RequestMetrics};
use crate::histogram::Histogram;
use crate::message::Role;
use crate::span::Attribute;
use std::collections::BTreeMap;

/// One histogram of a family.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucketed {
    /// Name of the metric, in OpenTelemetry's words.
    pub name: &'static str,
    /// Names and values that tell it apart.
    pub labels: Labels,
    /// Upper bounds of all buckets but the last, seconds.
    pub bounds: &'static [f64],
    /// Values in each bucket.
    pub counts: Vec<u64>,
    /// Sum of all values.
    pub sum: f64,
}

/// One counter.
#[derive(Clone, Debug, PartialEq)]
pub struct Number {
    /// Name of the metric.
    pub name: &'static str,
    /// Names and values that tell it apart.
    pub labels: Labels,
    /// It.
    pub value: u64,
}

/// Names and values.
pub type Labels = Vec<(&'static str, String)>;

impl RequestMetrics {
    /// All numbers.
    pub fn text(&self) -> (Vec<Bucketed>, Vec<Number>) {
        let mut histograms = self.requests();
        let mut edges: BTreeMap<Labels, Totals> = BTreeMap::new();
        for edge in self.graph.edges.values() {
            let labels = labels(emit::ends(&edge.client, &edge.server));
            edges.entry(labels).or_default().merge(&edge.totals);
        }
        let mut numbers = Vec::with_capacity(2 * edges.len());
        for (labels, totals) in edges {
            for (name, value) in [(REQUESTS, totals.requests), (FAILED, totals.failed)] {
                numbers.push(Number { name, labels: labels.clone(), value });
            }
            histograms.push(bucketed(AS_SERVER, labels.clone(), &totals.as_server));
            histograms.push(bucketed(AS_CLIENT, labels, &totals.as_client));
        }
        (histograms, numbers)
    }

    fn requests(&self) -> Vec<Bucketed> {
        let mut sums: BTreeMap<(&'static str, Labels), Histogram<BUCKETS>> = BTreeMap::new();
        for service in self.services.values().chain(&self.overflow) {
            for (key, series) in &service.series {
                let name = if key.role == Role::Server { SERVER } else { CLIENT };
                let mut labels = labels(emit::attributes(key));
                labels.insert(0, ("service_name", service.resource.service.clone()));
                sums.entry((name, labels)).or_default().merge(&series.histogram);
            }
        }
        sums.into_iter().map(|((name, labels), sum)| bucketed(name, labels, &sum)).collect()
    }
}

fn labels(attributes: Vec<Attribute<'_>>) -> Labels {
    attributes.into_iter().map(|(name, value)| (name, value.to_text())).collect()
}

fn bucketed(name: &'static str, labels: Labels, histogram: &Histogram<BUCKETS>) -> Bucketed {
    let (counts, sum) = (histogram.counts.to_vec(), histogram.sum);
    Bucketed { name, labels, bounds: &BOUNDS, counts, sum }
}
