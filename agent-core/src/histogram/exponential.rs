//! A distribution over buckets whose width grows with the value (OpenTelemetry data model, "Exponential
//! Histogram"): `(base^i, base^(i+1)]` with base 2^(2^-scale). What does not fit into so many buckets makes
//! all of them twice as wide.

/// Most buckets: the SDK specification's default. Of durations from 100 µs to 10 s each is 9 % wide.
pub const MAX_BUCKETS: usize = 160;

/// Scale at the beginning: buckets of 0.07 %, as fine as anybody looks.
const FIRST_SCALE: i32 = 10;

/// Counts by bucket, of values that are not negative.
#[derive(Clone, Debug, PartialEq)]
pub struct Exponential {
    /// See the module.
    pub scale: i32,
    /// Values that are 0.
    pub zeros: u64,
    /// Number of the first bucket.
    pub offset: i32,
    /// Values in each bucket.
    pub counts: Vec<u64>,
    /// Of all values.
    pub sum: f64,
}

impl Default for Exponential {
    fn default() -> Self {
        Exponential { scale: FIRST_SCALE, zeros: 0, offset: 0, counts: Vec::new(), sum: 0.0 }
    }
}

impl Exponential {
    /// Adds a value; one that is no number, or negative, counts as 0.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() || value < f64::MIN_POSITIVE {
            self.zeros += 1;
            return;
        }
        self.sum += value;
        loop {
            let index = index(value, self.scale);
            if self.counts.is_empty() {
                self.offset = index;
            }
            // The exponents of all numbers lie within 2,100, times 2^10: no overflow.
            let last = self.offset + self.counts.len() as i32 - 1;
            let (low, high) = (self.offset.min(index), last.max(index));
            if (high - low) as usize >= MAX_BUCKETS {
                self.widen();
                continue;
            }
            let before = (self.offset - low) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, before));
            self.offset = low;
            let at = (index - low) as usize;
            if self.counts.len() <= at {
                self.counts.resize(at + 1, 0);
            }
            if let Some(count) = self.counts.get_mut(at) {
                *count += 1;
            }
            return;
        }
    }

    /// How many values were added.
    pub fn count(&self) -> u64 {
        self.zeros + self.counts.iter().sum::<u64>()
    }

    /// Nothing was added.
    pub fn is_empty(&self) -> bool {
        self.zeros == 0 && self.counts.is_empty()
    }

    /// Begins anew, one step finer than was needed: what comes is likely to be as wide, and a single value
    /// far from all others coarsens it for a while only.
    pub fn clear(&mut self) {
        self.counts.clear();
        self.scale = FIRST_SCALE.min(self.scale + 1);
        (self.zeros, self.sum) = (0, 0.0);
    }

    /// Two buckets become one.
    fn widen(&mut self) {
        let first = self.offset >> 1;
        let mut to = 0;
        for at in 0..self.counts.len() {
            let into = (((self.offset + at as i32) >> 1) - first) as usize;
            let count = self.counts.get(at).copied().unwrap_or(0);
            if into != to || at == 0 {
                to = into;
                if let Some(slot) = self.counts.get_mut(into) {
                    *slot = count;
                }
            } else if let Some(slot) = self.counts.get_mut(into) {
                *slot += count;
            }
        }
        self.counts.truncate(if self.counts.is_empty() { 0 } else { to + 1 });
        self.offset = first;
        self.scale -= 1;
    }
}

/// The bucket of a positive value. At a bound the logarithm may be off by its last bit, as the data model
/// allows.
fn index(value: f64, scale: i32) -> i32 {
    let position = value.log2() * f64::from(scale).exp2();
    position.ceil() as i32 - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bounds of a bucket: it holds the upper one.
    fn bounds(histogram: &Exponential, at: usize) -> (f64, f64) {
        let base = f64::from(-histogram.scale).exp2().exp2();
        let number = histogram.offset + at as i32;
        (base.powi(number), base.powi(number + 1))
    }

    #[test]
    fn powers_of_two_lie_in_the_bucket_below() {
        for scale in -3..=10 {
            assert_eq!(index(1.0, scale), -1, "{scale}");
        }
        assert_eq!((index(2.0, 0), index(4.0, 0), index(4.1, 0), index(0.5, 0)), (0, 1, 2, -2));
        assert_eq!((index(2.0, 1), index(2.0, -1), index(5.0, -1)), (1, 0, 1));
    }

    #[test]
    fn one_value_far_away_coarsens_for_a_while_only() {
        let mut histogram = Exponential::default();
        histogram.add(1e-9);
        histogram.add(1e9);
        let coarse = histogram.scale;
        for _ in 0..20 {
            histogram.clear();
            assert!(histogram.is_empty());
            histogram.add(0.1);
            histogram.add(0.2);
        }
        // 160 buckets within one power of two.
        assert!(coarse < 2 && histogram.scale == 7, "{coarse} {}", histogram.scale);
    }

    #[test]
    fn what_is_no_duration_counts_as_none() {
        let mut histogram = Exponential::default();
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-310] {
            histogram.add(value);
        }
        assert_eq!((histogram.zeros, histogram.count(), histogram.sum), (5, 5, 0.0));
        assert!(histogram.counts.is_empty() && !histogram.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn every_value_is_counted_where_it_lies(
            values in proptest::collection::vec((-60.0..60.0_f64).prop_map(f64::exp2), 1..300),
        ) {
            let mut histogram = Exponential::default();
            for value in &values {
                histogram.add(*value);
            }
            proptest::prop_assert!(histogram.counts.len() <= MAX_BUCKETS);
            proptest::prop_assert_eq!(histogram.count(), values.len() as u64);
            let sum: f64 = values.iter().sum();
            proptest::prop_assert!((histogram.sum / sum - 1.0).abs() < 1e-9);
            for (at, count) in histogram.counts.iter().enumerate() {
                let (low, high) = bounds(&histogram, at);
                // A value within a billionth of a bound may be on its other side.
                let edge = 1e-9;
                let least = values.iter().filter(|v| **v > low * (1.0 + edge) && **v < high * (1.0 - edge));
                let most = values.iter().filter(|v| **v > low * (1.0 - edge) && **v < high * (1.0 + edge));
                let (least, most) = (least.count() as u64, most.count() as u64);
                proptest::prop_assert!((least..=most).contains(count), "{} in {}..{}", count, low, high);
            }
        }
    }

    use proptest::strategy::Strategy;
}
