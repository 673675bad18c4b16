//! (next commit)
pub struct ConsoleOutput;
pub struct Style;
