//! The agent's account of itself, and whether it balances.

use serde_json::Value;
use std::collections::BTreeSet;

/// One line of the ledger: `agent_core::ledger::Entry` as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Stage.
    pub stage: String,
    /// Unit.
    pub unit: String,
    /// `in`, `out`, `held`, `lost` or `info`.
    pub side: String,
    /// Cause of a loss, name of an info, else empty.
    pub cause: String,
    /// Number.
    pub count: u64,
}

/// All lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// In the order of the stages.
    pub lines: Vec<Line>,
}

/// Infos that say of calls, connections or requests that they were left out, beside those of muting and shedding.
const LEFT_OUT: [&str; 19] = [
    "sockets_without_storage",
    "filtered_calls",
    "left_out_calls",
    "own_calls",
    "other_sockets",
    "payload_unreachable",
    "memory_faults",
    "closed_calls",
    "unpaired_calls",
    "resynchronised",
    "held_too_much",
    "expired_idle",
    "not_followed_further",
    "of_agents",
    "start_line_too_long",
    "gaps",
    "evicted",
    "end_without_start",
    "forced",
];

impl Ledger {
    /// Reads the `ledger` of `/status`: a list of objects `stage`, `unit`, `side`, `cause`, `count`.
    ///
    /// # Panics
    /// When it is absent or has another shape.
    pub fn from_status(status: &Value) -> Ledger {
        let lines = status["ledger"].as_array().unwrap_or_else(|| panic!("no ledger in {status}"));
        Ledger { lines: lines.iter().map(line).collect() }
    }

    /// Reads what the agent prints at its end, lines `… ledger STAGE UNIT: in 5, out 4, lost 1
    /// (CAUSE), NAME 7`; `None` when there are none.
    pub fn from_log(log: &str) -> Option<Ledger> {
        let accounts =
            log.lines().filter_map(|line| line.split_once("ledger ")?.1.split_once(": "));
        let mut lines = Vec::new();
        for (key, sides) in accounts {
            let Some((stage, unit)) = key.split_once(' ') else { continue };
            lines.extend(sides.split(", ").filter_map(|side| printed(stage, unit, side)));
        }
        (!lines.is_empty()).then_some(Ledger { lines })
    }

    /// The sum of one side of one stage in one unit.
    pub fn count(&self, stage: &str, unit: &str, side: &str) -> u64 {
        let of = |line: &&Line| line.stage == stage && line.unit == unit && line.side == side;
        self.lines.iter().filter(of).map(|line| line.count).sum()
    }

    /// The sum of all lines with this cause, in any stage.
    pub fn cause(&self, cause: &str) -> u64 {
        self.lines.iter().filter(|line| line.cause == cause).map(|line| line.count).sum()
    }

    /// Everything lost, in any stage.
    pub fn lost(&self) -> u64 {
        self.lines.iter().filter(|line| line.side == "lost").map(|line| line.count).sum()
    }

    /// Every loss, a text for each, empty when nothing was lost.
    pub fn losses(&self) -> Vec<String> {
        let lost = self.lines.iter().filter(|line| line.side == "lost" && line.count > 0);
        lost.map(|l| format!("{} {}: {} ({})", l.stage, l.unit, l.count, l.cause)).collect()
    }

    /// Every loss, and everything else for which a request may have no span: a text for each.
    pub fn reasons(&self) -> Vec<String> {
        let is_one = |line: &&Line| {
            let cause = line.cause.as_str();
            line.count > 0
                && line.side == "info"
                && (LEFT_OUT.contains(&cause)
                    || ["muted_", "shed_"].iter().any(|prefix| cause.starts_with(prefix)))
        };
        let infos = self.lines.iter().filter(is_one);
        let infos = infos.map(|l| format!("{} {}: {} ({})", l.stage, l.unit, l.count, l.cause));
        self.losses().into_iter().chain(infos).collect()
    }

    /// Stages that do not balance: `in = out + held + lost`. A text for each, empty when all do.
    pub fn imbalances(&self) -> Vec<String> {
        let counted = self.lines.iter().filter(|line| line.side == "in");
        let stages: BTreeSet<_> = counted.map(|line| (&*line.stage, &*line.unit)).collect();
        stages.into_iter().filter_map(|(stage, unit)| self.imbalance(stage, unit)).collect()
    }

    fn imbalance(&self, stage: &str, unit: &str) -> Option<String> {
        let [came, went, held, lost] =
            ["in", "out", "held", "lost"].map(|side| self.count(stage, unit, side));
        (came != went + held + lost)
            .then(|| format!("{stage} ({unit}): in {came}, out {went}, held {held}, lost {lost}"))
    }
}

fn line(value: &Value) -> Line {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let count = value["count"].as_u64().unwrap_or_else(|| panic!("no count in {value}"));
    let [stage, unit, side, cause] = ["stage", "unit", "side", "cause"].map(text);
    Line { stage, unit, side, cause, count }
}

fn printed(stage: &str, unit: &str, side: &str) -> Option<Line> {
    let (name, rest) = side.trim().split_once(' ')?;
    let mut words = rest.split_whitespace();
    let count = words.next()?.parse().ok()?;
    let cause = words.next().unwrap_or_default().trim_matches(['(', ')']);
    let (side, cause) = match name {
        "in" | "out" | "held" | "lost" => (name, cause),
        info => ("info", info),
    };
    let [stage, unit, side, cause] = [stage, unit, side, cause].map(str::to_owned);
    Some(Line { stage, unit, side, cause, count })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(lost: u64) -> Value {
        json!({"ledger": [
            {"stage": "ring", "unit": "records", "side": "in", "cause": null, "count": 10},
            {"stage": "ring", "unit": "records", "side": "out", "cause": null, "count": 7},
            {"stage": "ring", "unit": "records", "side": "lost", "cause": "full", "count": lost},
            {"stage": "ring", "unit": "records", "side": "info", "cause": "muted", "count": 99},
        ]})
    }

    #[test]
    fn a_stage_balances_or_is_named() {
        assert_eq!(Ledger::from_status(&status(3)).imbalances(), Vec::<String>::new());
        assert_eq!(
            Ledger::from_status(&status(2)).imbalances(),
            ["ring (records): in 10, out 7, held 0, lost 2"]
        );
        let ledger = Ledger::from_status(&status(3));
        assert_eq!((ledger.lost(), ledger.cause("muted"), ledger.cause("full")), (3, 99, 3));
    }

    #[test]
    fn the_printed_ledger_is_read() {
        let log = "2026 INFO stopping\n\
                   2026 INFO app: ledger ring records: in 10, out 7, lost 3 (sequence_gap)\n\
                   2026 INFO app: ledger calls events: muted_calls 99\n";
        let ledger = Ledger::from_log(log).unwrap();
        assert_eq!(ledger.imbalances(), Vec::<String>::new());
        let counts = (ledger.count("ring", "records", "in"), ledger.lost());
        assert_eq!((counts, ledger.cause("muted_calls")), ((10, 3), 99));
        assert_eq!(ledger.losses(), ["ring records: 3 (sequence_gap)"]);
        let reasons = ["ring records: 3 (sequence_gap)", "calls events: 99 (muted_calls)"];
        assert_eq!(ledger.reasons(), reasons);
        assert_eq!(Ledger::from_log("stopping\n"), None);
        let broken = Ledger::from_log("ledger ring records: in 10, out 7").unwrap();
        assert_eq!(broken.imbalances().len(), 1);
    }

    #[test]
    fn a_status_without_a_ledger_is_an_error() {
        assert!(std::panic::catch_unwind(|| Ledger::from_status(&json!({}))).is_err());
    }
}
