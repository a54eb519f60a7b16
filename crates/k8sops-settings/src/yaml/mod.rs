//! YAML as a tree whose leaves are the text as it was written.
//!
//! A leaf stays text until the format of its setting reads it: `1.10` does not become 1.1, a key of digits stays a key, one
//! parser serves YAML and environment, and all wrong values of a file are reported at once. The shape of the tree (what is a
//! mapping, what a list) comes from the catalog, which also finds unknown keys.

mod document;
mod interpolation;
mod node;
mod shape;

pub(crate) use document::{ParsedDocument, read_document};
pub(crate) use interpolation::ReferenceValues;
pub(crate) use node::YamlNode;
