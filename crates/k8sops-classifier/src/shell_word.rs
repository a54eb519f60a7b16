//! A word of a command line.

/// A word as the program gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShellWord {
    /// The text without quotes and escapes.
    pub(crate) text: String,
    /// The line has the word as it is, without quotes and escapes, so that every reader of the line sees the same word.
    pub(crate) unquoted: bool,
}

impl ShellWord {
    /// A word that is an element of an argument list and not part of a line.
    pub(crate) fn from_argument(text: &str) -> Self {
        Self { text: text.to_owned(), unquoted: true }
    }
}
