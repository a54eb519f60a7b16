//! Redaction: secret values become placeholders in everything that a tool returns, and values again in the arguments of the
//! next call.
//!
//! ```text
//! text ─▶ detection (patterns, names, Secret objects) ─▶ vault learns the values ─▶ all encodings of known values ─▶ placeholders
//! ```
//!
//! What a vault learns is held in memory, for one session, and is written nowhere.
//!
//! | module | holds |
//! |---|---|
//! | `vault` | [`RedactionVault`]: redacts texts and JSON, and reveals placeholders |
//! | `detection` | patterns and names by which unknown secrets are found |
//! | `json_secrets`, `yaml_secrets` | values of Secret objects, also in a text that is cut off |
//! | `encodings` | forms in which a known value may occur: plain, base64, JSON-escaped, URL-encoded |
//! | `placeholder` | `[secret:KEY:DIGEST]` |

mod content_hint;
mod detection;
mod encodings;
mod found_secret;
mod json_secrets;
mod placeholder;
#[cfg(test)]
mod tests;
mod vault;
mod yaml_secrets;

pub use detection::contains_secret;

pub(crate) use content_hint::ContentHint;
pub(crate) use placeholder::arguments_contain_placeholder;
pub(crate) use vault::RedactionVault;
