//! Which traces are kept, and what routes are called.

use super::units::{duration_within, whole};
use super::{Wrong, one_of};
use agent_core::route::{Rule, Template};
use agent_core::trace::Slow;
use std::time::Duration;

/// Longest `service.name` of a rule: longer ones do not go out either.
const MAX_SERVICE: usize = 255;

const RULES: [&str; 5] = ["errors", "slow", "slow=TIME", "events", "floor=NUMBER"];

/// One rule of `--keep`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Traces in which a request failed.
    Errors,
    /// Those with a slow request.
    Slow(Slow),
    /// Those whose handling ran a program.
    Events,
    /// So many a minute of each route.
    Floor(u32),
}

impl Keep {
    /// What may be given once.
    pub fn name(self) -> &'static str {
        match self {
            Keep::Errors => "errors",
            Keep::Slow(_) => "slow",
            Keep::Events => "events",
            Keep::Floor(_) => "floor",
        }
    }
}

/// Rules separated by commas.
pub fn keep(text: &str) -> Result<Vec<Keep>, Wrong> {
    text.split(',').map(|rule| one(rule.trim())).collect()
}

fn one(text: &str) -> Result<Keep, Wrong> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim())),
        None => (text, None),
    };
    match (name, value) {
        ("errors", None) => Ok(Keep::Errors),
        ("slow", None) => Ok(Keep::Slow(Slow::Usual)),
        ("slow", Some(time)) => {
            let (least, most) = (Duration::from_millis(1), Duration::from_secs(3600));
            let time = duration_within(time, least, most, "slow=500ms")?;
            Ok(Keep::Slow(Slow::Above(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))))
        }
        ("events", None) => Ok(Keep::Events),
        ("floor", Some(number)) => {
            let number = whole(number, 1, 10_000, "number of traces a minute")?;
            Ok(Keep::Floor(u32::try_from(number).unwrap_or(u32::MAX)))
        }
        _ => Err(one_of(text, "is no rule", &RULES, &RULES.join(", "))),
    }
}

/// How long a trace waits for its end at most.
pub fn keep_wait(text: &str) -> Result<Duration, Wrong> {
    duration_within(text, Duration::from_millis(100), Duration::from_secs(60), "10s")
}

/// `SERVICE=TEMPLATE`; `*` is every service.
pub fn route(text: &str) -> Result<Rule, Wrong> {
    let hint = "SERVICE=TEMPLATE, for example shop=/users/{id} or *=/static/{file...}";
    let Some((service, template)) = text.split_once('=') else {
        return Err(Wrong::value(text, "has no =", hint));
    };
    let (service, template) = (service.trim(), template.trim());
    if service.is_empty() || service.len() > MAX_SERVICE {
        return Err(Wrong::value(text, "names no service before the =", hint));
    }
    let service = (service != "*").then(|| service.to_owned());
    match Template::parse(template) {
        Ok(template) => Ok(Rule { service, template }),
        Err(mistake) => Err(Wrong::value(template, &mistake.to_string(), hint)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_what_is_kept() {
        let all = keep("errors, slow=500ms,events,floor=10");
        let slow = Keep::Slow(Slow::Above(500_000_000));
        assert_eq!(all, Ok(vec![Keep::Errors, slow, Keep::Events, Keep::Floor(10)]));
        assert_eq!(keep("slow"), Ok(vec![Keep::Slow(Slow::Usual)]));
        for wrong in ["", "error", "errors=1", "floor", "floor=0", "floor=x", "slow=5", "slow="] {
            assert!(keep(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn routes_have_a_service_and_a_template() {
        let rule = route("shop = /users/{id}").expect("a rule");
        assert_eq!((rule.service.as_deref(), rule.template.text()), (Some("shop"), "/users/{id}"));
        assert_eq!(route("*=/a").expect("a rule").service, None);
        for (text, expected) in [
            ("/users/{id}", "has no ="),
            ("=/users", "names no service"),
            ("shop=users", "does not begin with /"),
            ("shop=/{id", "has a brace"),
        ] {
            let wrong = route(text).expect_err(text);
            assert!(wrong.what.contains(expected), "{wrong:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "([a-z=,/{}.*]|floor=|slow=|[0-9]{0,25}){0,12}") {
            let _ = (keep(&text), route(&text), keep_wait(&text));
        }
    }
}
