//! A word of a command line.

/// Stands in a word for text that is only known when the line runs.
pub(crate) const UNKNOWN_TEXT: char = '\u{e000}';
/// The word that a process substitution becomes: the name of a pipe.
pub(crate) const PIPE_FILE: &str = "\u{e001}";

/// What is known about a text that the line does not give, from the most to the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TextKind {
    /// Digits.
    Number,
    /// Names of objects of a kind other than Secrets, with the kind before them: `pod/web-0`.
    ObjectName,
    /// Words of letters, digits and `._:/@-` that start with a letter or a digit.
    Name,
    /// Words that do not start with `-`, without globs, quotes and backslashes.
    Word,
    Text,
}

/// Into how many words a shell splits a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WordCount {
    /// One that is not empty.
    One,
    /// One that may be empty.
    OneOrEmpty,
    /// None, one or several.
    Any,
}

/// The part of a word that is only known when the line runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnknownText {
    pub(crate) kind: TextKind,
    pub(crate) count: WordCount,
}

impl UnknownText {
    pub(crate) fn join(self, other: Self) -> Self {
        Self { kind: self.kind.max(other.kind), count: self.count.max(other.count) }
    }
}

/// A word as the program gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShellWord {
    /// The text without quotes and escapes. [`UNKNOWN_TEXT`] stands for each part that is not known.
    pub(crate) text: String,
    /// The line has the word as it is, without quotes and escapes, so that every reader of the line sees the same word.
    pub(crate) unquoted: bool,
    /// `None` if the text is known.
    pub(crate) unknown: Option<UnknownText>,
}

impl ShellWord {
    /// A word that is an element of an argument list and not part of a line.
    pub(crate) fn from_argument(text: &str) -> Self {
        Self { text: text.to_owned(), unquoted: true, unknown: None }
    }

    /// A word of which only its kind is known.
    pub(crate) fn of_kind(kind: TextKind, count: WordCount) -> Self {
        let unknown = Some(UnknownText { kind, count });
        Self { text: UNKNOWN_TEXT.to_string(), unquoted: false, unknown }
    }

    pub(crate) fn is_known(&self) -> bool {
        self.unknown.is_none() && self.text != PIPE_FILE
    }

    /// Returns whether exactly one word stands here when the line runs.
    pub(crate) fn is_one_word(&self) -> bool {
        self.unknown.is_none_or(|unknown| unknown.count != WordCount::Any)
    }

    /// Returns whether the word, or one of the words that it becomes, may be a flag that the line does not show.
    pub(crate) fn may_be_hidden_flag(&self) -> bool {
        let Some(unknown) = self.unknown else { return false };
        let behind = self.text.trim_start_matches(UNKNOWN_TEXT);
        let starts_unknown = behind.len() < self.text.len();
        let may_be_dash = unknown.kind == TextKind::Text && (starts_unknown || unknown.count == WordCount::Any);
        let may_vanish = starts_unknown && unknown.count != WordCount::One && behind.starts_with('-');
        may_be_dash || may_vanish
    }
}

/// Returns the texts of words with spaces between them.
pub(crate) fn join_words(words: &[ShellWord]) -> String {
    let words: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
    words.join(" ")
}
