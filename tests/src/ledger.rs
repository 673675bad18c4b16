//! The agent's account of itself, and whether it balances.

use serde_json::Value;

/// One line of the ledger: `agent_core::ledger::Entry` as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Stage.
    pub stage: String,
    /// Unit.
    pub unit: String,
    /// `in`, `out`, `held`, or the cause.
    pub side: String,
    /// Kind of side: `in`, `out`, `held`, `lost` or `info`; the label itself when not given.
    pub kind: String,
    /// Number.
    pub count: u64,
}

/// All lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// In the order of the stages.
    pub lines: Vec<Line>,
}

impl Ledger {
    /// Reads the `ledger` of `/status`: a list of objects with `stage`, `unit`, `side`, `count`.
    ///
    /// # Panics
    /// When it is absent or has another shape.
    pub fn from_status(status: &Value) -> Ledger {
        let lines = status["ledger"].as_array().unwrap_or_else(|| panic!("no ledger in {status}"));
        Ledger { lines: lines.iter().map(line).collect() }
    }

    /// The number of one side of one stage, 0 when it has no such line.
    pub fn count(&self, stage: &str, side: &str) -> u64 {
        let of = |line: &&Line| line.stage == stage && line.side == side;
        self.lines.iter().filter(of).map(|line| line.count).sum()
    }

    /// All that `stage` lost, over all causes.
    pub fn lost(&self, stage: &str) -> u64 {
        let of = |line: &&Line| line.stage == stage && line.kind == "lost";
        self.lines.iter().filter(of).map(|line| line.count).sum()
    }

    /// Stages that do not balance: `in = out + held + lost`. A line for each, empty when all do.
    pub fn imbalances(&self) -> Vec<String> {
        let mut stages: Vec<(&str, &str)> =
            self.lines.iter().map(|line| (&*line.stage, &*line.unit)).collect();
        stages.sort_unstable();
        stages.dedup();
        stages.into_iter().filter_map(|(stage, unit)| self.imbalance(stage, unit)).collect()
    }

    fn imbalance(&self, stage: &str, unit: &str) -> Option<String> {
        let sum = |kind: &str| -> u64 {
            let of = |line: &&Line| line.stage == stage && line.unit == unit && line.kind == kind;
            self.lines.iter().filter(of).map(|line| line.count).sum()
        };
        let (came, went, held, lost) = (sum("in"), sum("out"), sum("held"), sum("lost"));
        let whole = self.lines.iter().any(|l| l.stage == stage && l.unit == unit && l.kind == "in");
        (whole && came != went + held + lost)
            .then(|| format!("{stage} ({unit}): in {came}, out {went}, held {held}, lost {lost}"))
    }
}

fn line(value: &Value) -> Line {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let side = text("side");
    let kind = value["kind"].as_str().map_or_else(|| side.clone(), str::to_owned);
    let count = value["count"].as_u64().unwrap_or_else(|| panic!("no count in {value}"));
    Line { stage: text("stage"), unit: text("unit"), side, kind, count }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(lost: u64) -> Value {
        json!({"ledger": [
            {"stage": "ring", "unit": "records", "side": "in", "kind": "in", "count": 10},
            {"stage": "ring", "unit": "records", "side": "out", "kind": "out", "count": 7},
            {"stage": "ring", "unit": "records", "side": "full", "kind": "lost", "count": lost},
            {"stage": "ring", "unit": "records", "side": "muted", "kind": "info", "count": 99},
        ]})
    }

    #[test]
    fn a_stage_balances_or_is_named() {
        assert_eq!(Ledger::from_status(&status(3)).imbalances(), Vec::<String>::new());
        assert_eq!(
            Ledger::from_status(&status(2)).imbalances(),
            ["ring (records): in 10, out 7, held 0, lost 2"]
        );
        assert_eq!(Ledger::from_status(&status(3)).lost("ring"), 3);
        assert_eq!(Ledger::from_status(&status(3)).count("ring", "full"), 3);
    }

    #[test]
    fn a_status_without_a_ledger_is_an_error() {
        assert!(std::panic::catch_unwind(|| Ledger::from_status(&json!({}))).is_err());
    }
}
