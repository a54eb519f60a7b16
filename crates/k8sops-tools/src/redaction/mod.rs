//! Redaction: secret values become placeholders in everything that a tool returns, and values again in the arguments of the
//! next call.
//!
//! ```text
//! text ─▶ detection ─▶ vault learns values of session reach ─▶ all encodings of known values ─▶ placeholders
//! ```
//!
//! Three sources have different reach:
//!
//! | source | reach |
//! |---|---|
//! | data of Secret objects (`json_secrets`, `yaml_secrets`, bare values) | the session, unless the value is a common word or a name |
//! | known formats of tokens (`token_formats`) | the session |
//! | values behind a name that sounds like a secret, and at a place for one | where they are found, unless they look random |
//!
//! What a vault learns is held in memory, for one session, and is written nowhere.
//!
//! | module | holds |
//! |---|---|
//! | `vault` | [`RedactionVault`]: redacts texts and JSON, and reveals placeholders |
//! | `detection` | all detectors, and the texts within a text |
//! | `text_view` | a text without colors, escapes or signs of a diff, with the original positions |
//! | `json_secrets`, `yaml_secrets` | values of Secret objects, also in a text that is cut off |
//! | `token_formats`, `token_format_table` | credentials that are known by their format |
//! | `named_values`, `value_readers`, `http_headers`, `value_fields` | values behind names in pairs |
//! | `table_cells`, `markup`, `sql_inserts` | values behind names in tables, XML and SQL |
//! | `command_arguments`, `directives` | values at a place: arguments of programs, directives |
//! | `placed_values`, `placed_value_table` | values at known places: addresses, statements, fields of tools' outputs |
//! | `pattern_table` | patterns that are tried only on texts with one of their words |
//! | `secret_names`, `secret_values` | what a name says about a value, and what a value looks like |
//! | `encodings` | forms in which a known value may occur: plain, base64, JSON-escaped, URL-encoded |
//! | `bare_values` | outputs of nothing but values |
//! | `replacements`, `json_leaves`, `yaml_flow` | replacement that keeps JSON and YAML valid |
//! | `known_values` | the values of a session, and the search for them |
//! | `placeholder` | `[secret:KEY:DIGEST]` |

mod bare_values;
mod command_arguments;
mod compile_pattern;
mod content_hint;
mod detection;
mod directives;
mod encodings;
#[cfg(test)]
mod field_tests;
mod found_secret;
mod http_headers;
mod json_leaves;
mod json_secrets;
mod known_values;
mod markup;
mod named_values;
mod pattern_table;
mod placed_value_table;
mod placed_values;
mod placeholder;
mod replacements;
mod secret_names;
mod secret_object;
mod secret_values;
mod sql_inserts;
mod table_cells;
#[cfg(test)]
mod tests;
mod text_lines;
mod text_view;
mod token_format_table;
mod token_formats;
mod value_fields;
mod value_readers;
mod vault;
mod word_set;
mod yaml_flow;
mod yaml_secrets;

pub use detection::contains_secret;

pub(crate) use content_hint::ContentHint;
pub(crate) use placeholder::{arguments_contain_placeholder, is_only_placeholders};
pub(crate) use vault::RedactionVault;
