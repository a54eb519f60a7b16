//! Formats: which text a setting accepts, how it becomes a value, and how it is shown.

use std::{fmt, time::Duration};

use crate::mask::{mask_credentials, mask_secret};

/// How the text of a setting is read.
pub struct ValueFormat<V: 'static> {
    kind: ValueKind,
    parser: ValueParser<V>,
    mask: fn(&str) -> String,
    secret: bool,
    keeps_space: bool,
}

enum ValueParser<V: 'static> {
    Text(fn(&str) -> Option<V>),
    /// For kinds with a range, which a function pointer cannot capture.
    InRange(fn(&ValueKind, &str) -> Option<V>),
}

impl<V> Clone for ValueParser<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for ValueParser<V> {}

impl<V> Clone for ValueFormat<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for ValueFormat<V> {}

impl<V> ValueFormat<V> {
    /// A format whose accepted values are described in words, to follow "allowed:".
    #[must_use]
    pub const fn described(allowed: &'static str, parse: fn(&str) -> Option<V>) -> Self {
        Self::new(ValueKind::Described(allowed), ValueParser::Text(parse))
    }

    /// A format that accepts some words only; see [`words!`](crate::words).
    #[must_use]
    pub const fn words(words: &'static [&'static str], parse: fn(&str) -> Option<V>) -> Self {
        Self::new(ValueKind::Words(words), ValueParser::Text(parse))
    }

    /// A format of a kind whose range the parser respects.
    pub(crate) const fn in_range(kind: ValueKind, parse: fn(&ValueKind, &str) -> Option<V>) -> Self {
        Self::new(kind, ValueParser::InRange(parse))
    }

    const fn new(kind: ValueKind, parser: ValueParser<V>) -> Self {
        Self { kind, parser, mask: mask_credentials, secret: false, keeps_space: false }
    }

    /// Shows values through `mask`, for values that may contain a secret.
    #[must_use]
    pub const fn masked_by(mut self, mask: fn(&str) -> String) -> Self {
        self.mask = mask;
        self
    }

    /// Marks values as secrets, of which only the end is shown.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.mask = mask_secret;
        self.secret = true;
        self
    }

    /// Keeps white space around the values of lists and mappings, which is otherwise removed.
    #[must_use]
    pub const fn keep_space(mut self) -> Self {
        self.keeps_space = true;
        self
    }

    /// Reads a value; `None` if the text is not accepted.
    #[must_use]
    pub fn parse(&self, text: &str) -> Option<V> {
        match self.parser {
            ValueParser::Text(parse) => parse(text),
            ValueParser::InRange(parse) => parse(&self.kind, text),
        }
    }

    /// Returns a value as it may be shown, whether it is accepted or not.
    #[must_use]
    pub fn mask(&self, text: &str) -> String {
        (self.mask)(text)
    }

    /// The accepted values.
    #[must_use]
    pub const fn kind(&self) -> ValueKind {
        self.kind
    }

    /// Whether white space around the values of lists and mappings is part of them.
    pub(crate) const fn keeps_space(&self) -> bool {
        self.keeps_space
    }

    /// Whether values are secrets.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        self.secret
    }
}

/// The values that a setting accepts. Displayed, it is the text that follows "allowed:".
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueKind {
    /// `true` or `false` in several spellings.
    Boolean,
    /// A whole number. `max` is `u64::MAX` where only the type sets a limit.
    WholeNumber {
        /// Smallest accepted number.
        min: u64,
        /// Largest accepted number.
        max: u64,
    },
    /// A number.
    Number {
        /// Smallest accepted number.
        min: f64,
        /// Largest accepted number.
        max: f64,
    },
    /// A duration with a unit; a number alone is seconds.
    Duration {
        /// Shortest accepted duration.
        min: Duration,
        /// Longest accepted duration.
        max: Duration,
    },
    /// A number of bytes, with or without a unit.
    ByteSize {
        /// Smallest accepted number of bytes.
        min: u64,
        /// Largest accepted number of bytes.
        max: u64,
    },
    /// One of some words.
    Words(&'static [&'static str]),
    /// Anything else, described in words.
    Described(&'static str),
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("true, false, 1, 0, yes, no, on or off"),
            Self::WholeNumber { min, max: u64::MAX } => write!(f, "a whole number from {min} on"),
            Self::WholeNumber { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Number { min, max } => write!(f, "a number from {min} to {max}"),
            Self::Duration { min, max } => {
                write!(f, "a duration from {} to {}, like 20s, 5m or 1h", DurationText(*min), DurationText(*max))
            }
            Self::ByteSize { min, max } => {
                write!(f, "a size from {min} to {}, like 65536, 64KiB or 1MiB", ByteSizeText(*max))
            }
            Self::Words([one]) => f.write_str(one),
            Self::Words([rest @ .., last]) => write!(f, "{} or {last}", rest.join(", ")),
            Self::Words([]) => f.write_str("nothing"),
            Self::Described(text) => f.write_str(text),
        }
    }
}

/// A duration in its largest whole unit.
struct DurationText(Duration);

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.into_iter().find(|(unit, _)| milliseconds > 0 && milliseconds.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", milliseconds / unit),
            None => write!(f, "{milliseconds}ms"),
        }
    }
}

/// A number of bytes in its largest whole unit.
struct ByteSizeText(u64);

impl fmt::Display for ByteSizeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.into_iter().find(|(unit, _)| self.0 > 0 && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}
