//! Whether a series grows, or only wavers.

/// Parts of a series whose medians are looked at: samples that follow each other are no independent
/// witnesses, their parts nearly are.
pub const BLOCKS: usize = 8;

/// Student's t for `BLOCKS - 2` degrees of freedom, 99.5 %.
const T: f64 = 3.707;

/// How a series moved.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    /// Its middle value.
    pub median: f64,
    /// By a straight line through the parts, from begin to end.
    pub change: f64,
    /// What of that may be chance.
    pub noise: f64,
}

impl Growth {
    /// More than chance, and more than `grain`.
    pub fn is_beyond(self, grain: f64) -> bool {
        self.change > self.noise && self.change > grain
    }
}

/// The growth of a series of samples at even distances.
pub fn growth(values: &[f64]) -> Growth {
    let size = (values.len() / BLOCKS).max(1);
    let blocks: Vec<f64> = values.chunks_exact(size).take(BLOCKS).map(median).collect();
    let count = blocks.len() as f64;
    let middle = (count - 1.0) / 2.0;
    let mean = blocks.iter().sum::<f64>() / count;
    let places = || blocks.iter().enumerate().map(|(n, value)| (n as f64 - middle, value - mean));
    let spread: f64 = places().map(|(place, _)| place * place).sum();
    let slope = places().map(|(place, value)| place * value).sum::<f64>() / spread;
    let rest: f64 = places().map(|(place, value)| (value - slope * place).powi(2)).sum();
    let error = (rest / (count - 2.0) / spread).sqrt();
    Growth { median: median(values), change: slope * count, noise: T * error * count }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same every time, between -1 and 1.
    fn wavering(count: usize) -> impl Iterator<Item = f64> {
        let mut state = 7_u32;
        (0..count).map(move |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state >> 8) / f64::from(1 << 23) - 1.0
        })
    }

    #[test]
    fn a_series_that_wavers_does_not_grow() {
        let values: Vec<f64> = wavering(240).map(|noise| 1000.0 + 50.0 * noise).collect();
        assert!(!growth(&values).is_beyond(0.0), "{:?}", growth(&values));
    }

    #[test]
    fn a_leak_within_the_noise_of_samples_is_found() {
        let leak = wavering(240).enumerate();
        let values: Vec<f64> =
            leak.map(|(n, noise)| 1000.0 + 50.0 * noise + 0.5 * n as f64).collect();
        let found = growth(&values);
        assert!(found.is_beyond(0.0) && (100.0..140.0).contains(&found.change), "{found:?}");
        assert!(!found.is_beyond(200.0), "a grain is a bound of its own");
    }

    #[test]
    fn a_step_is_no_slope_and_a_constant_has_none() {
        let step: Vec<f64> = (0..240).map(|n| if n < 30 { 900.0 } else { 1000.0 }).collect();
        assert!(!growth(&step).is_beyond(0.0), "{:?}", growth(&step));
        assert!(!growth(&[5.0; 240]).is_beyond(0.0));
    }
}
