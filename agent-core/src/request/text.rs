//! The same for a text format: by service (name and namespace), those of its processes added up, since they began; also of those that
//! are gone ([`Retired`](crate::retired)).

use super::emit::{self, AS_CLIENT, AS_SERVER, BOUNDS, CLIENT, FAILED, REQUESTS, SERVER};
use super::graph::Totals;
use super::series::Key;
use super::{BUCKETS, RequestMetrics, Service};
use crate::histogram::Histogram;
use crate::message::Role;
use crate::process::ServiceName;
use crate::span::Attribute;

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

/// Histograms and counters.
pub type Numbers = (Vec<Bucketed>, Vec<Number>);

/// The labels of a service. `job`, where OpenTelemetry's compatibility specification has both, is Prometheus's own
/// word for whom it scrapes, and would be renamed.
pub(crate) const SERVICE: [&str; 2] = ["service_name", "service_namespace"];

/// Names and values.
pub type Labels = Vec<(&'static str, String)>;

impl RequestMetrics {
    /// All numbers.
    pub fn text(&self) -> Numbers {
        let mut histograms = self.requests();
        let edges = added_up(self.graph.totals().collect(), Totals::merge);
        let mut numbers = Vec::with_capacity(2 * edges.len());
        for (names, totals) in edges {
            let labels = labels(emit::ends(names));
            for (name, value) in [(REQUESTS, totals.requests), (FAILED, totals.failed)] {
                numbers.push(Number { name, labels: labels.clone(), value });
            }
            histograms.push(bucketed(AS_SERVER, labels.clone(), &totals.as_server));
            histograms.push(bucketed(AS_CLIENT, labels, &totals.as_client));
        }
        (histograms, numbers)
    }

    fn requests(&self) -> Vec<Bucketed> {
        let services = self.services.values().chain(&self.overflow);
        let live = services.flat_map(Service::named);
        let live = live.map(|(named, series)| (named, &series.histogram));
        let retired = self.retired.iter();
        let retired =
            retired.map(|((service, key), histogram)| ((service.borrowed(), key), histogram));
        let sums = added_up(live.chain(retired).collect(), Histogram::merge);
        let one = |((service, key), sum): ((ServiceName<'_>, &Key), Histogram<BUCKETS>)| {
            let name = if key.role == Role::Server { SERVER } else { CLIENT };
            let labels = labels(service.attributes(SERVICE).chain(emit::attributes(key)));
            bucketed(name, labels, &sum)
        };
        sums.into_iter().map(one).collect()
    }
}

/// What has the same key, in one, in order. Keys are compared where they are: each text is made once, for what is
/// left.
fn added_up<K: Ord, T: Clone>(mut all: Vec<(K, &T)>, merge: fn(&mut T, &T)) -> Vec<(K, T)> {
    all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let mut sums: Vec<(K, T)> = Vec::new();
    for (key, more) in all {
        match sums.last_mut() {
            Some((last, sum)) if *last == key => merge(sum, more),
            _ => sums.push((key, more.clone())),
        }
    }
    sums
}

fn labels<'a>(attributes: impl IntoIterator<Item = Attribute<'a>>) -> Labels {
    attributes.into_iter().map(|(name, value)| (name, value.to_text())).collect()
}

fn bucketed(name: &'static str, labels: Labels, histogram: &Histogram<BUCKETS>) -> Bucketed {
    let (counts, sum) = (histogram.counts.to_vec(), histogram.sum);
    Bucketed { name, labels, bounds: &BOUNDS, counts, sum }
}
