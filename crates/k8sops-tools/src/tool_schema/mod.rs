//! JSON Schemas of servers, rebuilt so that every model provider accepts them.
//!
//! A provider rejects a whole request because of one tool whose schema it does not like, and servers send schemas of every
//! draft and quality. So a schema is not repaired in place: it is read leniently, and a new one is built from the keywords
//! that all providers accept. What has no place there (`pattern`, `format`, alternatives at the top) becomes words of a
//! description. The server still checks the arguments against its own schema.
//!
//! There is one form for all providers, because a session may switch providers between two calls of one turn, and its log
//! contains the arguments of earlier calls. The rules are:
//!
//! | rule | source |
//! |---|---|
//! | the top is `type: object` with `properties`, and has no `anyOf`, `oneOf`, `allOf`, `not`, `enum` | OpenAI, function calling |
//! | an array has `items` | OpenAI, function calling; Gemini, `Schema` |
//! | the rest is valid in draft 2020-12 | Anthropic, tool use: `input_schema` |
//! | keys of properties match `[A-Za-z_][A-Za-z0-9_.-]{0,63}` | Anthropic, tool use; Gemini, without a leading digit |
//! | `enum` contains strings only; no `const`, `$ref`, `format` | Gemini, `Schema`; llama.cpp, grammars |
//! | no `pattern` | llama.cpp rejects one without `^` and `$`; dialects of patterns differ |

mod argument_keys;
#[cfg(test)]
mod dialect_rules;
mod flat_schema;
mod mender;
mod references;
#[cfg(test)]
mod tests;

pub(crate) use argument_keys::ArgumentKeys;
pub(crate) use mender::{MendedSchema, mend_tool_schema};
