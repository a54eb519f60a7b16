//! A secret that was found in a text.

use std::ops::Range;

/// A secret and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundSecret {
    /// Position in the text. It is empty for a value in JSON that is a string of other JSON, because escapes make the
    /// positions differ; then `key` is the key, a null character and the value.
    pub(super) range: Range<usize>,
    /// Name of the value, for the reader of the placeholder.
    pub(super) key: String,
    pub(super) form: ValueForm,
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueForm {
    Plain,
    Base64,
}

impl ValueForm {
    /// Returns the form of the values in a mapping of a Secret: `data` holds base64, `stringData` holds plain text.
    pub(super) fn of_secret_mapping(name: &str) -> Self {
        if name == "data" { Self::Base64 } else { Self::Plain }
    }
}
