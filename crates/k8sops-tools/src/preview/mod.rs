//! What a person who approves a call is shown of it: the objects that it touches, as they are and as they would be.
//!
//! ```text
//! call ─▶ plan (objects and edits) ─▶ live objects, read through the same server ─▶ edit, or dry run ─▶ diff ─▶ fitted
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `call_plan` | which objects a call touches and what it makes of them |
//! | `object_reader` | how a server reads an object |
//! | `object_edit` | what an edit makes of a live object |
//! | `strategic_merge` | manifests and strategic patches merged over an object, list by list |
//! | `object_change` | one object before and after: diff, summary, fingerprint |
//! | `cluster_objects` | objects in texts, and without what the cluster sets |
//! | `fit` | a preview cut at whole hunks |
//!
//! All of it is pure. The calls are made by `call_preview`.

mod call_plan;
mod cluster_objects;
mod fit;
mod object_change;
mod object_edit;
mod object_reader;
mod strategic_merge;
mod whole_preview;

pub(crate) use call_plan::{PlannedChange, plan_typed_call};
pub(crate) use cluster_objects::{ObjectRef, parse_names, parse_objects};
pub(crate) use fit::{FittedPreview, fit_preview};
pub(crate) use object_change::ObjectChange;
pub(crate) use object_edit::ObjectEdit;
pub(crate) use object_reader::{ObjectReader, ReadCall, qualified_resource};
pub(crate) use whole_preview::{PreviewBody, WholePreview};
