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
//! | `rollback` | what a rollback makes of a live object |
//! | `release` | the manifests of a Helm release before and after |
//! | `field_ownership` | what a server-side apply removes: the fields that its manager had set |
//! | `object_edit` | what an edit makes of a live object |
//! | `strategic_merge` | manifests and strategic patches merged over an object, list by list |
//! | `object_change` | one object before and after: diff, summary, fingerprint |
//! | `found_changes` | all changes of a call: diff, notes, summary |
//! | `cluster_objects` | objects in texts, and without what the cluster sets |
//! | `fit` | a preview cut at whole hunks |
//!
//! All of it is pure. The calls are made by `call_preview`.

mod call_plan;
mod cluster_objects;
mod field_ownership;
mod fit;
mod found_changes;
mod object_change;
mod object_edit;
mod object_reader;
mod release;
mod rollback;
mod strategic_merge;
mod whole_preview;

pub(crate) use call_plan::{CallPlan, GENERATED_NAME, PlannedChange, PlannedRelease, plan_manifests, plan_typed_call};
pub(crate) use cluster_objects::{ObjectRef, is_empty_list, parse_names, parse_objects, pod_selector, unwrap_output};
pub(crate) use fit::{FittedPreview, fit_preview};
pub(crate) use found_changes::{FoundChanges, LiveObject, shorten};
pub(crate) use object_edit::ObjectEdit;
pub(crate) use object_reader::{ObjectDetail, ObjectList, ObjectReader, ReadCall, qualified_resource};
pub(crate) use release::{ReleaseRecord, compare_manifests, decode_release, newest_record};
pub(crate) use rollback::{history_kind, roll_back};
pub(crate) use whole_preview::{PreviewBody, WholePreview};
