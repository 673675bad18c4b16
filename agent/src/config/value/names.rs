//! Rules for names.

use crate::config::problem::{Wrong, quote};
use agent_core::process::NameRule;

/// `exe=GLOB,…,name=SERVICE`: all that is wrong with it at once.
pub fn name_rule(text: &str) -> Result<NameRule, Wrong> {
    NameRule::parse(text).map_err(|mistakes| {
        let listed = |part: fn(&agent_core::process::Mistake) -> &str, between: &str| {
            mistakes.iter().map(part).collect::<Vec<_>>().join(between)
        };
        let what = format!("{}: {}", quote(text), listed(|mistake| &mistake.what, ", "));
        Wrong::new(what, listed(|mistake| &mistake.hint, "; "))
    })
}
