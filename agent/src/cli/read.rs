//! Values of flags that stand in no configuration file.

use crate::config::{Place, Problems, problem::Wrong};

/// Reads flags that are no settings; all that are wrong are kept.
pub struct Read<'a> {
    /// What is wrong.
    pub problems: &'a mut Problems,
}

impl Read<'_> {
    /// The values of a flag that may be repeated.
    pub fn all<T>(
        &mut self,
        key: &'static str,
        texts: &[String],
        parse: fn(&str) -> Result<T, Wrong>,
    ) -> Vec<T> {
        let mut values = Vec::new();
        for text in texts {
            match parse(text.trim()) {
                Ok(value) => values.push(value),
                Err(wrong) => self.problems.add(&Place::Flag(key), wrong),
            }
        }
        values
    }

    /// The value of one that may not.
    pub fn one<T>(
        &mut self,
        key: &'static str,
        texts: &[String],
        parse: fn(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        if texts.len() > 1 {
            let wrong = Wrong::new("given more than once", "it takes one value");
            self.problems.add(&Place::Flag(key), wrong);
        }
        self.all(key, texts, parse).pop()
    }
}
