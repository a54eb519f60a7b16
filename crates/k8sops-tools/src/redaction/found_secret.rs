//! A secret that was found in a text.

use std::ops::Range;

/// A secret and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundSecret {
    /// Position in the text, never empty.
    pub(super) range: Range<usize>,
    /// Name of the value, for the reader of the placeholder.
    pub(super) key: String,
    pub(super) form: ValueForm,
    pub(super) reach: SecretReach,
}

impl FoundSecret {
    /// Returns a secret in plain text.
    pub(super) fn plain(range: Range<usize>, key: impl Into<String>, reach: SecretReach) -> Self {
        Self { range, key: key.into(), form: ValueForm::Plain, reach }
    }
}

/// A range of a text and what replaces it.
pub(super) type Replacement = (Range<usize>, String);

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

/// Where a found value is redacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SecretReach {
    /// Only where it was found. Its value may be an ordinary word, which must stay readable elsewhere.
    InPlace,
    /// Everywhere in the session.
    Session,
}
