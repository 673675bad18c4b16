//! A distribution of times.

/// Upper bounds of the buckets, seconds: from a loopback's round trip to a connect that retries.
pub const BOUNDS: [f64; 18] = [
    0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05,
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
];

/// Counts by bucket, and the sum.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// One more than bounds.
    pub counts: [u64; BOUNDS.len() + 1],
    /// Of all values.
    pub sum: f64,
}

impl Histogram {
    /// Adds a value, seconds.
    pub fn add(&mut self, seconds: f64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum += seconds;
    }

    /// Nothing was added.
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }
}
