//! Metrics in OTLP's protobuf encoding. Field numbers are those of `metrics.proto` of OTLP 1.11.

use super::{encode, wire};
use crate::metric::{Data, Distribution, Exemplar, Growing, Metric, Point};

/// Usual length of a metric with a few points.
const METRIC_GUESS: usize = 1024;

/// Usual length of a point.
const POINT_GUESS: usize = 200;

/// Appends `metric` as field `field` of the enclosing message.
pub fn metric(out: &mut Vec<u8>, field: u32, metric: &Metric<'_>) {
    wire::nested(out, field, METRIC_GUESS, |out| {
        wire::text(out, 1, metric.name);
        wire::text(out, 2, metric.description);
        wire::text(out, 3, metric.unit);
        let since = metric.temporality as u64;
        match metric.data {
            Data::Gauge(points) => wire::nested(out, 5, METRIC_GUESS, |out| {
                points.iter().for_each(|one| point(out, one));
            }),
            Data::Counter(points) => sum(out, points, point, (since, true)),
            Data::Seconds(points) => sum(out, points, seconds, (since, true)),
            Data::Level(points) => sum(out, points, point, (since, false)),
            Data::Histogram(points) => wire::nested(out, 9, METRIC_GUESS, |out| {
                points.iter().for_each(|one| distribution(out, one));
                wire::uint(out, 2, since);
            }),
            Data::Exponential(points) => wire::nested(out, 10, METRIC_GUESS, |out| {
                points.iter().for_each(|one| growing(out, one));
                wire::uint(out, 2, since);
            }),
        }
    });
}

/// Sum.
fn sum(
    out: &mut Vec<u8>,
    points: &[Point<'_>],
    point: fn(&mut Vec<u8>, &Point<'_>),
    (since, only_grows): (u64, bool),
) {
    wire::nested(out, 7, METRIC_GUESS, |out| {
        points.iter().for_each(|one| point(out, one));
        wire::uint(out, 2, since);
        wire::uint(out, 3, u64::from(only_grows));
    });
}

/// NumberDataPoint with an integer: `as_int`, sfixed64.
fn point(out: &mut Vec<u8>, point: &Point<'_>) {
    number(out, point, |out| wire::fixed64(out, 6, point.value));
}

/// NumberDataPoint with seconds: `as_double`.
fn seconds(out: &mut Vec<u8>, point: &Point<'_>) {
    let seconds = point.value as f64 / 1e9;
    number(out, point, |out| wire::fixed64(out, 4, seconds.to_bits()));
}

fn number(out: &mut Vec<u8>, point: &Point<'_>, value: impl FnOnce(&mut Vec<u8>)) {
    wire::nested(out, 1, POINT_GUESS, |out| {
        wire::fixed64(out, 2, point.start_unix_ns);
        wire::fixed64(out, 3, point.unix_ns);
        value(out);
        encode::attributes(out, 7, point.attributes);
    });
}

/// HistogramDataPoint.
fn distribution(out: &mut Vec<u8>, point: &Distribution<'_>) {
    wire::nested(out, 1, POINT_GUESS, |out| {
        wire::fixed64(out, 2, point.start_unix_ns);
        wire::fixed64(out, 3, point.unix_ns);
        wire::fixed64(out, 4, point.counts.iter().sum());
        wire::fixed64(out, 5, point.sum.to_bits());
        packed(out, 6, point.counts.iter().copied());
        packed(out, 7, point.bounds.iter().map(|bound| bound.to_bits()));
        point.exemplars.iter().for_each(|one| exemplar(out, 8, one));
        encode::attributes(out, 9, point.attributes);
    });
}

/// ExponentialHistogramDataPoint.
fn growing(out: &mut Vec<u8>, point: &Growing<'_>) {
    let histogram = point.histogram;
    wire::nested(out, 1, POINT_GUESS, |out| {
        encode::attributes(out, 1, point.attributes);
        wire::fixed64(out, 2, point.start_unix_ns);
        wire::fixed64(out, 3, point.unix_ns);
        wire::fixed64(out, 4, histogram.count());
        wire::fixed64(out, 5, histogram.sum.to_bits());
        wire::uint(out, 6, zigzag(histogram.scale));
        wire::fixed64(out, 7, histogram.zeros);
        wire::nested(out, 8, POINT_GUESS, |out| {
            wire::uint(out, 1, zigzag(histogram.offset));
            wire::length(out, 2, histogram.counts.iter().map(|n| wire::varint_len(*n)).sum());
            histogram.counts.iter().for_each(|count| wire::varint(out, *count));
        });
        point.exemplars.iter().for_each(|one| exemplar(out, 11, one));
    });
}

/// A number of type `sint32`.
fn zigzag(number: i32) -> u64 {
    u64::from(((number << 1) ^ (number >> 31)).cast_unsigned())
}

/// Exemplar.
fn exemplar(out: &mut Vec<u8>, field: u32, exemplar: &Exemplar) {
    wire::nested(out, field, POINT_GUESS, |out| {
        wire::fixed64(out, 2, exemplar.unix_ns);
        wire::fixed64(out, 3, exemplar.value.to_bits());
        wire::bytes(out, 4, &exemplar.span.0);
        wire::bytes(out, 5, &exemplar.trace.0);
    });
}

/// Eight-byte numbers, packed.
fn packed(out: &mut Vec<u8>, field: u32, numbers: impl ExactSizeIterator<Item = u64>) {
    wire::length(out, field, 8 * numbers.len());
    numbers.for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}
