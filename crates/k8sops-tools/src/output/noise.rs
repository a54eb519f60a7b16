//! Removes what is never worth its tokens: `managedFields`, which say who changed which field, and of the annotation
//! `last-applied-configuration` what the object says itself.

use std::borrow::Cow;

use super::{
    node::{Node, ScalarKind, read_json},
    node_text::NodeStyle,
};

const MANAGED_FIELDS: &str = "managedFields";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// How much was removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct RemovedNoise {
    managed_fields: usize,
    last_applied: usize,
}

impl RemovedNoise {
    /// Removes noise from a tree.
    pub(super) fn remove_from(&mut self, node: &mut Node<'_>) {
        match node {
            Node::Scalar(..) => {}
            Node::List(items) => {
                for item in items {
                    self.remove_from(item);
                }
            }
            Node::Map(fields) => {
                let count = fields.len();
                fields.retain(|(key, _)| key != MANAGED_FIELDS);
                self.managed_fields += count - fields.len();
                for (_, value) in fields.iter_mut() {
                    self.remove_from(value);
                }
                self.remove_last_applied(node);
            }
        }
    }

    /// Leaves of the annotation only what differs from the object, and removes it if nothing does.
    fn remove_last_applied(&mut self, object: &mut Node<'_>) {
        let annotation = |object: &Node<'_>| {
            object.field("metadata")?.field("annotations")?.field_text(LAST_APPLIED).map(str::to_owned)
        };
        let Some(applied) = annotation(object) else { return };
        let Some((documents, rest)) = read_json(&applied) else { return };
        let [applied] = documents.as_slice() else { return };
        if !rest.trim().is_empty() {
            return;
        }
        let difference = difference_of(object, applied).map(|difference| difference.to_line(NodeStyle::CompactJson));
        if let Node::Map(fields) = object
            && let Some((_, Node::Map(metadata))) = fields.iter_mut().find(|(key, _)| key == "metadata")
            && let Some((_, Node::Map(annotations))) = metadata.iter_mut().find(|(key, _)| key == "annotations")
        {
            self.last_applied += 1;
            match (difference, annotations.iter_mut().find(|(key, _)| key == LAST_APPLIED)) {
                (Some(difference), Some((_, value))) => *value = Node::Scalar(difference.into(), ScalarKind::Text),
                _ => annotations.retain(|(key, _)| key != LAST_APPLIED),
            }
        }
    }

    /// Returns what was removed in words; `None` if nothing was.
    pub(super) fn describe(self) -> Option<String> {
        let parts: Vec<String> = [
            (self.managed_fields, MANAGED_FIELDS, "objects"),
            (self.last_applied, "last-applied-configuration", "objects where it says the same"),
        ]
        .iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, name, of)| format!("{name} of {count} {of}"))
        .collect();
        (!parts.is_empty()).then(|| format!("left out as noise: {}", parts.join(", ")))
    }
}

/// Returns the values of what was applied that the object does not have; `None` if it has all of them.
fn difference_of<'a>(object: &Node<'_>, applied: &Node<'a>) -> Option<Node<'a>> {
    match (object, applied) {
        (Node::Map(_), Node::Map(applied)) => {
            let differs = |(key, applied): &(Cow<'a, str>, Node<'a>)| {
                let is_empty = matches!(applied, Node::Map(fields) if fields.is_empty());
                match object.field(key) {
                    Some(value) => Some((key.clone(), difference_of(value, applied)?)),
                    None => (!is_empty).then(|| (key.clone(), applied.clone())),
                }
            };
            let fields: Vec<_> = applied.iter().filter_map(differs).collect();
            (!fields.is_empty()).then_some(Node::Map(fields))
        }
        (Node::List(items), Node::List(applied)) if items.len() == applied.len() => {
            let differences: Vec<_> =
                items.iter().zip(applied).filter_map(|(item, applied)| difference_of(item, applied)).collect();
            (!differences.is_empty()).then_some(Node::List(differences))
        }
        (Node::Scalar(value, _), Node::Scalar(applied, _)) if value == applied => None,
        _ => Some(applied.clone()),
    }
}
