//! Templates that an operator writes: `/users/{id}`, `/files/{path...}`.

use std::fmt;

/// Longest template, and most segments of it: far beyond what can be written by hand.
const MAX_TEXT: usize = 256;
const MAX_SEGMENTS: usize = 32;

/// What paths look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// This one.
    Literal(Box<str>),
    /// `{name}`: any one.
    One,
    /// `{name...}`: all that follow, also none.
    Rest,
}

/// Why a text is no template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// It does not begin with `/`.
    NoSlash,
    /// More than 256 bytes or 32 segments.
    TooLong,
    /// A query, a fragment, a space or a control character.
    NoPath,
    /// A brace that is no `{name}` of a whole segment.
    Brace,
    /// `{name...}` before the end.
    RestBeforeEnd,
    /// An empty segment before the end.
    Empty,
}

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Mistake::NoSlash => "does not begin with /",
            Mistake::TooLong => "is longer than 256 bytes or 32 segments",
            Mistake::NoPath => "has a character that no template may have",
            Mistake::Brace => "has a brace that is no {name} of a whole segment",
            Mistake::RestBeforeEnd => "has {name...} before its end",
            Mistake::Empty => "has an empty segment",
        })
    }
}

impl Template {
    /// Reads one.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Template, Mistake> {
        let inner = text.strip_prefix('/').ok_or(Mistake::NoSlash)?;
        if text.len() > MAX_TEXT || inner.split('/').count() > MAX_SEGMENTS {
            return Err(Mistake::TooLong);
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || "?#".contains(c)) {
            return Err(Mistake::NoPath);
        }
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        let mut segments = Vec::new();
        for segment in inner.split('/').filter(|_| !inner.is_empty()) {
            if segments.last() == Some(&Segment::Rest) {
                return Err(Mistake::RestBeforeEnd);
            }
            segments.push(parse_segment(segment)?);
        }
        Ok(Template { text: text.to_owned(), segments })
    }

    /// As written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether `path` is one of those. A slash at the end is as good as none.
    pub fn fits(&self, path: &str) -> bool {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        for segment in &self.segments {
            let fits = match segment {
                Segment::Rest => return true,
                Segment::One => parts.next().is_some(),
                Segment::Literal(text) => parts.next() == Some(text),
            };
            if !fits {
                return false;
            }
        }
        parts.next().is_none()
    }
}

fn parse_segment(text: &str) -> Result<Segment, Mistake> {
    if text.is_empty() {
        return Err(Mistake::Empty);
    }
    let Some(inner) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        let braces = text.contains(['{', '}']);
        return if braces { Err(Mistake::Brace) } else { Ok(Segment::Literal(text.into())) };
    };
    let (name, segment) = match inner.strip_suffix("...") {
        Some(name) => (name, Segment::Rest),
        None => (inner, Segment::One),
    };
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let named = !name.is_empty() && name.chars().all(letter);
    if named { Ok(segment) } else { Err(Mistake::Brace) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_fit_what_they_say() {
        for (template, path, expected) in [
            ("/", "/", true),
            ("/", "/x", false),
            ("/users/{id}", "/users/7", true),
            ("/users/{id}", "/users/7/", true),
            ("/users/{id}", "/users", false),
            ("/users/{id}", "/users/7/orders", false),
            ("/users/{id}/", "/users/7", true),
            ("/files/{path...}", "/files/a/b/c", true),
            ("/files/{path...}", "/files", true),
            ("/files/{path...}", "/file", false),
            ("/{path...}", "/anything/at/all", true),
            ("/Users", "/users", false),
        ] {
            let template = Template::parse(template).expect("a template");
            assert_eq!(template.fits(path), expected, "{} {path}", template.text());
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("", Mistake::NoSlash),
            ("users", Mistake::NoSlash),
            ("/a?b", Mistake::NoPath),
            ("/a b", Mistake::NoPath),
            ("/{}", Mistake::Brace),
            ("/{a", Mistake::Brace),
            ("/x{a}", Mistake::Brace),
            ("/{a b}", Mistake::NoPath),
            ("/{a...}/b", Mistake::RestBeforeEnd),
            ("/a//b", Mistake::Empty),
        ] {
            assert_eq!(Template::parse(text), Err(expected), "{text}");
        }
        assert_eq!(Template::parse(&"/a".repeat(200)), Err(Mistake::TooLong));
        assert_eq!(Template::parse(&"/a".repeat(33)), Err(Mistake::TooLong));
    }
}
