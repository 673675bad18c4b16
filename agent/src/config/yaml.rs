//! YAML text to a tree that knows the line and column of everything in it.
//!
//! The only place that names the YAML library. Types are not decided here: a number keeps the
//! spelling it has in the file, since `0012` may be a header's value.

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use std::fmt;

/// Something in the file, and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot<T> {
    /// From 1.
    pub line: u64,
    /// From 1, in characters.
    pub column: u64,
    /// What is there.
    pub value: T,
}

/// A YAML node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    /// No value, `null` or `~`.
    Null,
    /// Text, number or truth value, as spelt.
    Scalar(String),
    /// `[…]` or lines with dashes.
    List(Vec<Spot<Tree>>),
    /// Keys and values in the order of the file, repeated keys included.
    Map(Vec<(Spot<Tree>, Spot<Tree>)>),
}

/// The text is not YAML.
pub type SyntaxError = Spot<String>;

/// Nesting that a configuration cannot need.
const MAX_DEPTH: usize = 16;

/// Nodes after aliases are followed; bounds what a few lines of aliases can unfold to.
const MAX_NODES: usize = 20_000;

/// Reads one document.
///
/// # Errors
/// The first place that is not YAML, or beyond the limits.
pub fn parse(text: &str) -> Result<Spot<Tree>, SyntaxError> {
    let budget = serde_saphyr::budget! {
        max_depth: MAX_DEPTH,
        flow_nesting_limit: MAX_DEPTH,
        max_nodes: MAX_NODES,
        max_aliases: 100,
        max_documents: 1,
    };
    let mut options = serde_saphyr::options! {
        budget: budget,
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        // A piece of the file in the message might be a secret.
        with_snippet: false,
    };
    options.alias_limits.max_total_replayed_events = MAX_NODES;
    match serde_saphyr::from_str_with_options::<Spanned<Node>>(text, options) {
        Ok(root) => Ok(spot(root, text)),
        Err(error) => {
            let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
            let mut message = error.without_snippet().to_string();
            // The place is said by whoever reports this.
            if let Some(end) = message.rfind(&format!(" at line {line}, column {column}")) {
                message.truncate(end);
            }
            Err(Spot { line: line.max(1), column: column.max(1), value: message })
        }
    }
}

fn spot(node: Spanned<Node>, text: &str) -> Spot<Tree> {
    let value = match node.value {
        Node::Null => Tree::Null,
        Node::Text(text) => Tree::Scalar(text),
        Node::Typed(canonical) => {
            let span = node.defined.span();
            let start = span.byte_offset().and_then(|at| usize::try_from(at).ok());
            let len = span.byte_len().and_then(|len| usize::try_from(len).ok());
            let spelt = start.zip(len).and_then(|(at, len)| text.get(at..at.checked_add(len)?));
            Tree::Scalar(spelt.map_or(canonical, |spelt| spelt.trim().to_owned()))
        }
        Node::List(nodes) => Tree::List(nodes.into_iter().map(|node| spot(node, text)).collect()),
        Node::Map(pairs) => Tree::Map(
            pairs.into_iter().map(|(key, value)| (spot(key, text), spot(value, text))).collect(),
        ),
    };
    Spot { line: node.referenced.line().max(1), column: node.referenced.column().max(1), value }
}

/// What the library hands out: [`Node::Typed`] has lost its spelling.
enum Node {
    Null,
    Text(String),
    Typed(String),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<Node>, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a YAML node")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Typed(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Typed(value.to_string()))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Typed(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Typed(value.to_string()))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Typed(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Typed(value.to_string()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Node::Map(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `line:column text` of every scalar, keys included.
    fn scalars(node: &Spot<Tree>, out: &mut Vec<String>) {
        match &node.value {
            Tree::Null => out.push(format!("{}:{} null", node.line, node.column)),
            Tree::Scalar(text) => out.push(format!("{}:{} {text}", node.line, node.column)),
            Tree::List(nodes) => nodes.iter().for_each(|node| scalars(node, out)),
            Tree::Map(pairs) => pairs.iter().for_each(|(key, value)| {
                scalars(key, out);
                scalars(value, out);
            }),
        }
    }

    #[test]
    fn everything_has_its_place_and_its_spelling() {
        for (why, text, expected) in [
            ("nothing", "", vec!["1:1 null"]),
            (
                "numbers as spelt",
                "a: 0012\nb: 1e3 # c\n",
                vec!["1:1 a", "1:4 0012", "2:1 b", "2:4 1e3"],
            ),
            ("truth as spelt", "a: Yes", vec!["1:1 a", "1:4 Yes"]),
            ("not a number", "a: .nan", vec!["1:1 a", "1:4 .nan"]),
            ("quoted", "a: \"1 # 2\"", vec!["1:1 a", "1:4 1 # 2"]),
            ("lists", "a:\n  - 1\n  - x\n", vec!["1:1 a", "2:5 1", "3:5 x"]),
            ("flow", "a: [0x1, 2.50]", vec!["1:1 a", "1:5 0x1", "1:10 2.50"]),
            ("nested", "o:\n  h: {k: 007}", vec!["1:1 o", "2:3 h", "2:7 k", "2:10 007"]),
            ("repeated keys stay", "a: 1\na: 2", vec!["1:1 a", "1:4 1", "2:1 a", "2:4 2"]),
            ("wide characters", "é: ü\nb: 010", vec!["1:1 é", "1:4 ü", "2:1 b", "2:4 010"]),
            ("alias", "a: &x 010\nb: *x", vec!["1:1 a", "1:7 010", "2:1 b", "2:4 010"]),
            ("null value", "a:\nb: ~", vec!["1:1 a", "1:2 null", "2:1 b", "2:4 null"]),
        ] {
            let mut found = Vec::new();
            scalars(&parse(text).unwrap_or_else(|error| panic!("{why}: {error:?}")), &mut found);
            assert_eq!(found, expected, "{why}");
        }
    }

    #[test]
    fn what_is_not_yaml_has_a_place() {
        for (why, text, line) in [
            ("open bracket", "a: 1\nb: [1, 2\n", 2),
            ("tab", "a:\n\tb: 1", 2),
            ("two documents", "a: 1\n---\nb: 2", 2),
            ("unknown alias", "a: *nobody", 1),
        ] {
            let error = parse(text).expect_err(why);
            assert_eq!(error.line, line, "{why}: {error:?}");
            assert!(!error.value.contains("line "), "{why}: {error:?}");
        }
    }

    #[test]
    fn nesting_and_aliases_are_bounded() {
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&"- ".repeat(10_000)).is_err());
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let inner = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
        }
        assert!(parse(&bomb).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[a-c:\\-\\[\\]{}&*!|> #\"'\n\t0-9.]{0,60}") {
            let _ = parse(&text);
        }
    }
}
