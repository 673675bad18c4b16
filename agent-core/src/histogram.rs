//! A distribution over fixed buckets; over others: [`exponential`].

pub mod exponential;

/// Which buckets the durations of requests have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Buckets {
    /// Those that the semantic conventions advise.
    #[default]
    Explicit,
    /// Those of [`exponential`].
    Exponential,
}

/// Counts by bucket, and the sum. `BUCKETS` is one more than there are bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram<const BUCKETS: usize> {
    /// Values in each bucket; the last has no upper bound.
    pub counts: [u64; BUCKETS],
    /// Of all values.
    pub sum: f64,
}

impl<const BUCKETS: usize> Default for Histogram<BUCKETS> {
    fn default() -> Self {
        Histogram { counts: [0; BUCKETS], sum: 0.0 }
    }
}

impl<const BUCKETS: usize> Histogram<BUCKETS> {
    /// Adds a value under `bounds`, the upper bounds of all buckets but the last, which they
    /// include. Gives the bucket.
    pub fn add(&mut self, bounds: &[f64], value: f64) -> usize {
        let bucket = bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum += value;
        bucket
    }

    /// How many values were added.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Nothing was added.
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }

    /// What came since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut new = self.clone();
        for (count, before) in new.counts.iter_mut().zip(&earlier.counts) {
            *count = count.saturating_sub(*before);
        }
        new.sum -= earlier.sum;
        new
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum += other.sum;
    }
}
