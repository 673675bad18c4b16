//! Medians of rounds, and what a mode costs more than another.

use super::aims::{self, Aim};

/// One round of load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round {
    /// Requests answered per second.
    pub rate: f64,
    /// CPU time of the whole machine without the receiver's, per request, µs.
    pub cpu: f64,
    /// The receiver's, per request, µs.
    pub receiver: f64,
    /// The agent's own process, per request, µs.
    pub agent: f64,
    /// What else was seen of the agent, when there was one.
    pub seen: Option<Seen>,
}

/// An agent beside its own CPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// From its start until it says that it is ready, s.
    pub ready: f64,
    /// From SIGTERM to its end, s.
    pub stopped: f64,
    /// Anonymous memory after the load, MB: without the mapped rings and files.
    pub anonymous: f64,
    /// Memory of its kernel maps, MB.
    pub kernel: f64,
    /// Age at the receiver below which 99 % of the spans are, ms.
    pub age: f64,
}

/// All rounds of one mode.
#[derive(Debug, Default)]
pub struct Mode {
    /// What it is called.
    pub name: &'static str,
    /// What it is to add at most.
    pub aim: Option<Aim>,
    /// In the order in which they ran.
    pub rounds: Vec<Round>,
}

impl Mode {
    fn median(&self, value: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(value).collect())
    }
}

/// Prints a line per mode; the first mode is what the others are compared with. Differences are
/// taken within a round, whose parts ran one after the other, and then their median.
pub fn print(modes: &[Mode]) {
    let Some((base, others)) = modes.split_first() else { return };
    println!(
        "\n{:<12} {:>10} {:>12} {:>10} {:>10} {:>22} {:>8}",
        "mode", "requests/s", "CPU us/req", "agent", "receiver", "added us/req (range)", "ratio"
    );
    line(base, "", "");
    for mode in others {
        let added = differences(base, mode);
        let (low, high) = range(&added);
        let ratio = mode.median(|round| round.cpu) / base.median(|round| round.cpu);
        let added = format!("{:+.2} ({low:+.2}..{high:+.2})", median(added));
        line(mode, &added, &format!("{ratio:.2}"));
    }
    judge(base, others);
}

/// How the run stands to the aims: the medians, and the worst of what must always hold.
fn judge(base: &Mode, modes: &[Mode]) {
    println!();
    for mode in modes {
        if let Some(aim) = mode.aim {
            println!("{}", aim.line(median(differences(base, mode))));
        }
    }
    let worst = |value: fn(&Seen) -> f64| {
        let seen = modes.iter().flat_map(|mode| &mode.rounds).filter_map(|round| round.seen);
        seen.map(|seen| value(&seen)).fold(f64::NAN, f64::max)
    };
    if modes.iter().all(|mode| mode.aim.is_none()) {
        return;
    }
    for (aim, value) in [
        (aims::EXPORT, worst(|seen| seen.age)),
        (aims::ANONYMOUS, worst(|seen| seen.anonymous)),
        (aims::KERNEL, worst(|seen| seen.kernel)),
        (aims::READY, worst(|seen| seen.ready)),
        (aims::STOPPED, worst(|seen| seen.stopped)),
    ] {
        println!("{}", aim.line(value));
    }
}

fn line(mode: &Mode, added: &str, ratio: &str) {
    println!(
        "{:<12} {:>10.0} {:>12.2} {:>10.2} {:>10.2} {added:>22} {ratio:>8}",
        mode.name,
        mode.median(|round| round.rate),
        mode.median(|round| round.cpu),
        mode.median(|round| round.agent),
        mode.median(|round| round.receiver),
    );
}

fn differences(base: &Mode, mode: &Mode) -> Vec<f64> {
    base.rounds.iter().zip(&mode.rounds).map(|(without, with)| with.cpu - without.cpu).collect()
}

fn range(values: &[f64]) -> (f64, f64) {
    values
        .iter()
        .fold((f64::MAX, f64::MIN), |(low, high), &value| (low.min(value), high.max(value)))
}

/// The middle value; of an even number the mean of the two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle).copied().unwrap_or(f64::NAN);
    let lower = values.get(middle.wrapping_sub(1)).copied().unwrap_or(upper);
    if values.len().is_multiple_of(2) { f64::midpoint(lower, upper) } else { upper }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_odd_and_even_numbers() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn differences_are_taken_within_a_round() {
        let mode = |cpu: [f64; 2]| Mode {
            rounds: cpu.map(|cpu| Round { cpu, ..Round::default() }).to_vec(),
            ..Mode::default()
        };
        assert_eq!(differences(&mode([10.0, 20.0]), &mode([14.0, 23.0])), [4.0, 3.0]);
    }
}
