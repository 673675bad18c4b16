//! What `kernspan doctor` says, as JSON.

use crate::agent::once;
use crate::scenario::Scenario;
use serde_json::Value;

/// `kernspan doctor --json`.
///
/// # Panics
/// When it fails.
pub fn doctor(scenario: &Scenario, arguments: &[&str]) -> Value {
    let arguments = [&["doctor", "--json"], arguments].concat();
    let ended = once(scenario, "doctor", &arguments);
    assert!(ended.status.success(), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}\n{}", ended.stdout))
}

/// What doctor says of a process.
///
/// # Panics
/// When that is nothing.
pub fn process(told: &Value, pid: u32) -> &Value {
    let all = told["programs"]["processes"].as_array().expect("processes");
    all.iter().find(|one| one["pid"] == pid).unwrap_or_else(|| panic!("{pid} is not among {all:?}"))
}

/// Its bytes of the last minute.
///
/// # Panics
/// When there is no such class.
pub fn bytes(process: &Value, class: &str) -> u64 {
    process["seen"]["bytes"][class].as_u64().unwrap_or_else(|| panic!("no {class}: {process:#}"))
}
