//! What a process says of itself, to what names it.

use crate::process::{NameRule, NameRules, ProcessFacts, identify};

/// Longest name that what is known of a process can give: its parts are shorter together.
const MAX_NAME: usize = 8 * 1024;

/// Reads lines: executable, arguments apart by spaces or tabs, cgroup, a variable, a rule.
///
/// # Panics
/// When a name is empty, or longer than all that is known of the process.
pub fn names(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes.get(..MAX_NAME / 3).unwrap_or(bytes));
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default().to_owned();
    let (executable, args, cgroup, variable, rule) = (line(), line(), line(), line(), line());
    // A title is one argument with spaces.
    let apart = if args.contains('\t') { '\t' } else { ' ' };
    let variable = variable.split_once('=').map(|(name, value)| (name.into(), value.into()));
    let facts = ProcessFacts {
        executable,
        args: args.split(apart).map(str::to_owned).collect(),
        cgroup: format!("0::{cgroup}"),
        environment: variable.into_iter().collect(),
        working_directory: text.chars().rev().take(64).collect(),
        ..ProcessFacts::default()
    };
    let identity = identify(&facts);
    for name in [&identity.service, &identity.namespace].into_iter().flatten() {
        assert!((1..=MAX_NAME).contains(&name.len()), "a name of {} bytes", name.len());
    }
    if let Ok(rule) = NameRule::parse(&rule)
        && let Some(naming) = NameRules::new(vec![rule]).naming(&facts)
    {
        assert!(!naming.name.is_empty(), "a rule without a name");
    }
}
