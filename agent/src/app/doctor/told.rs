//! What an agent says is anybody's word, who listens where an agent is asked: cut before anything is made of it.

use crate::export::is_unsafe;
use serde_json::{Map, Value};

/// Longest text, in characters: the longest path that Linux takes.
const MOST_TEXT: usize = 4096;

/// Longest name of an attribute: twice the longest of the semantic conventions and more.
const MOST_KEY: usize = 128;

/// Members of a list or object: labels and arguments of one process are the longest.
const MOST_MEMBERS: usize = 256;

/// Processes: those that an agent counts (8,192), and as many that only have something open.
const MOST_PROCESSES: usize = 16_384;

/// Lists within objects: arguments, within attributes, of a process, of all.
const DEEPEST: usize = 5;

/// The same, no longer than it may be, and without what a terminal would obey where JSON shows it as it is.
pub fn tame(answer: Value) -> Value {
    let Value::Object(mut members) = answer else { return Value::Null };
    let processes = members.remove("processes");
    let mut members = object(members, 0);
    if let Some(Value::Array(rows)) = processes {
        let rows = rows.into_iter().take(MOST_PROCESSES);
        members.insert("processes".to_owned(), rows.map(|row| value(row, 2)).collect());
    }
    Value::Object(members)
}

/// Attributes of one process.
pub fn tame_attributes(attributes: Map<String, Value>) -> Map<String, Value> {
    object(attributes, 3)
}

fn object(members: Map<String, Value>, depth: usize) -> Map<String, Value> {
    let members = members.into_iter().take(MOST_MEMBERS);
    members.map(|(key, of)| (text(&key, MOST_KEY), value(of, depth + 1))).collect()
}

fn value(of: Value, depth: usize) -> Value {
    match of {
        Value::String(said) => Value::String(text(&said, MOST_TEXT)),
        Value::Array(_) | Value::Object(_) if depth > DEEPEST => Value::Null,
        Value::Array(members) => {
            let members = members.into_iter().take(MOST_MEMBERS);
            members.map(|member| value(member, depth + 1)).collect()
        }
        Value::Object(members) => Value::Object(object(members, depth)),
        Value::Null | Value::Bool(_) | Value::Number(_) => of,
    }
}

fn text(said: &str, most: usize) -> String {
    let mut kept: String =
        said.chars().take(most).map(|c| if is_raw(c) { ' ' } else { c }).collect();
    if said.chars().nth(most).is_some() {
        kept.pop();
        kept.push('…');
    }
    kept
}

/// Below the blank JSON has escapes, and lines of text have none of them.
fn is_raw(c: char) -> bool {
    c >= ' ' && is_unsafe(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// Anything, a few levels deep.
    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            "\\PC{0,20}|[\\x00-\\x20\\u{7f}-\\u{9f}\\u{202e}a]{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(8, 200, 10, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..10).prop_map(Value::from),
                prop::collection::btree_map("[a-z\\x1b]{0,9}|processes|resource", inner, 0..10)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// No text within it is longer than it may be, or obeyed by a terminal.
    fn check(of: &Value, depth: usize) {
        let fits = |said: &str| {
            assert!(said.chars().count() <= MOST_TEXT && !said.chars().any(is_raw), "{said:?}");
        };
        assert!(depth <= DEEPEST + 1, "{of}");
        match of {
            Value::String(said) => fits(said),
            Value::Array(members) => members.iter().for_each(|member| check(member, depth + 1)),
            Value::Object(members) => members.iter().for_each(|(key, member)| {
                fits(key);
                check(member, depth + 1);
            }),
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn whatever_is_answered_is_tame(answer in anything()) {
            check(&tame(answer), 0);
        }
    }

    #[test]
    fn what_is_too_much_is_cut() {
        let long = "x".repeat(2 * MOST_TEXT);
        let row = json!({"pid": 7, "protocols": vec![long.as_str(); 2 * MOST_MEMBERS]});
        let key = "k".repeat(2 * MOST_KEY);
        let answer = json!({"processes": vec![row], "filters": ["a\u{9b}2Jb\n"], key: 1});
        let tamed = tame(answer);
        let protocols = tamed["processes"][0]["protocols"].as_array().unwrap();
        assert_eq!(protocols.len(), MOST_MEMBERS);
        assert_eq!(protocols[0].as_str().unwrap().chars().count(), MOST_TEXT);
        assert_eq!(tamed["filters"][0], "a 2Jb\n");
        assert!(tamed.as_object().unwrap().keys().all(|key| key.chars().count() <= MOST_KEY));
        let many = json!({"processes": vec![json!({}); MOST_PROCESSES + 1]});
        assert_eq!(tame(many)["processes"].as_array().unwrap().len(), MOST_PROCESSES);
        assert_eq!(tame(json!([1])), Value::Null);
    }
}
