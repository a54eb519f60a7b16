//! Everything that is known of what a call changes, and the texts that a person reads about it.

use sha2::{Digest as _, Sha256};

use k8sops_core::{AffectedObject, DependentObjects, PreviewKind};

use super::{
    call_plan::PlannedChange, cluster_objects::ObjectRef, object_change::ObjectChange, whole_preview::PreviewBody,
};
use crate::redaction::{ContentHint, RedactionVault};

/// Most objects that a summary describes.
const MAX_SUMMARIES: usize = 3;
/// Most characters of a command or a note in a summary.
const MAX_SUMMARY_TEXT: usize = 200;
/// Most objects that a note names.
const MAX_NAMED: usize = 50;

/// The objects that a call touches, and what is known of the rest of the call.
#[derive(Debug, Default)]
pub(crate) struct FoundChanges {
    pub(crate) changes: Vec<ObjectChange>,
    /// Objects that could not be read or compared.
    unread: Vec<AffectedObject>,
    /// Objects beyond those that are compared.
    uncompared: Vec<AffectedObject>,
    /// The program that runs in a container.
    pub(crate) command: Option<String>,
    /// The releases that change, whose manifests are among the objects.
    releases: Vec<AffectedObject>,
    /// Sentences on what the diff does not show.
    notes: Vec<String>,
    /// A sentence on what the diff may not show of an object. It is a part of the summary only if the diff shows nothing.
    footnote: Option<&'static str>,
    /// What depends on deleted objects stays.
    pub(crate) keeps_dependents: bool,
    /// Nodes whose pods are evicted.
    pub(crate) drained_nodes: Vec<String>,
    /// A note says what becomes of the call, so that a dry run would add nothing.
    is_conclusive: bool,
}

/// An object as it is.
pub(crate) enum LiveObject {
    Found(serde_json::Value),
    Missing,
    /// It is not known whether there is such an object.
    Unread,
}

impl FoundChanges {
    /// Adds an object with what the call makes of it. From here on, its secrets are placeholders.
    pub(crate) fn add(&mut self, vault: &RedactionVault, change: PlannedChange, live: LiveObject) {
        let PlannedChange { target, verb, edit } = change;
        let before = match live {
            LiveObject::Found(live) => Some(live),
            LiveObject::Missing => None,
            LiveObject::Unread => {
                self.unread.push(ObjectChange::new(&target, verb, None, None).object);
                return;
            }
        };
        if let Some(limitation) = before.as_ref().and_then(|live| edit.limitation(live)) {
            self.footnote = Some(limitation);
        }
        let mut after = match edit.apply_to(before.as_ref()) {
            Ok(after) => after,
            Err(reason) => {
                self.add_note(format!("{} {}: {reason}.", target.kind, target.path()));
                return;
            }
        };
        if before.is_none() && after.is_none() {
            self.add_conclusion(format!("{} {}: there is no such object.", target.kind, target.path()));
            return;
        }
        let mut before = before;
        for object in before.iter_mut().chain(&mut after) {
            vault.redact_json(object, ContentHint::Any);
        }
        let change = ObjectChange::new(&target, verb, before, after);
        if self.changes.iter().any(|other| other.is_about_the_same(&change)) {
            self.add_note(format!(
                "{} {} is changed more than once: each diff shows one of the changes alone.",
                change.object.kind,
                change.path()
            ));
        }
        self.changes.push(change);
    }

    /// Adds an object that is not compared, because there are so many.
    pub(crate) fn add_uncompared(&mut self, target: &ObjectRef, verb: &str) {
        self.uncompared.push(ObjectChange::new(target, verb, None, None).object);
    }

    /// Adds a release that changes.
    pub(crate) fn add_release(&mut self, target: &ObjectRef, verb: &str) {
        self.releases.push(ObjectChange::new(target, verb, None, None).object);
    }

    /// Adds a sentence on what the diff does not show.
    pub(crate) fn add_note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Adds a sentence that says what becomes of the call.
    pub(crate) fn add_conclusion(&mut self, note: String) {
        self.is_conclusive = true;
        self.add_note(note);
    }

    /// Whether enough is known that a dry run would say less.
    pub(crate) fn is_conclusive(&self) -> bool {
        self.is_conclusive || self.has_objects()
    }

    fn has_objects(&self) -> bool {
        !self.changes.is_empty() || !self.uncompared.is_empty() || self.command.is_some()
    }

    /// Whether nothing is known that a dry run would not say as well.
    fn is_empty(&self) -> bool {
        !self.has_objects() && self.notes.is_empty()
    }

    /// Returns the diff of all objects with the notes; `None` if no object could be compared and there is nothing to say. The
    /// digest covers what goes with the call, too: the count of the objects is a part of the summary.
    pub(crate) fn body(&self, dependents: &[DependentObjects]) -> Option<PreviewBody> {
        if self.is_empty() && dependents.is_empty() {
            return None;
        }
        let mut digest = Sha256::new();
        for DependentObjects { what, count, names } in dependents {
            let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
            names.sort_unstable();
            digest.update(format!("with {count} {what}: {}\n", names.join(" ")));
        }
        let mut text = String::new();
        for change in &self.changes {
            let diff = change.unified_diff();
            change.add_to_digest(&mut digest, &diff);
            text.push_str(&diff);
        }
        if let Some(command) = &self.command {
            digest.update(command);
            let digest = self.unread.is_empty().then(|| hex(digest));
            let text = [format!("{command}\n")].into_iter().chain(self.all_notes()).collect();
            return Some(PreviewBody { kind: PreviewKind::Command, text, digest });
        }
        let notes: String = self.all_notes().collect();
        if text.is_empty() && notes.is_empty() {
            text.push_str("The objects stay as they are.\n");
        }
        digest.update(&notes);
        text.push_str(&notes);
        Some(PreviewBody { kind: PreviewKind::Diff, text, digest: Some(hex(digest)) })
    }

    /// Returns one line on what the call does.
    pub(crate) fn summary(&self, dependents: &[DependentObjects]) -> String {
        let mut parts: Vec<String> = Vec::new();
        for release in &self.releases {
            let objects = if self.changes.len() == 1 { "object changes" } else { "objects change" };
            let AffectedObject { verb, .. } = release;
            parts.push(format!("{}: {verb} of a release, {} {objects}", path_of(release), self.changes.len()));
        }
        let changes = self.changes.iter().map(|change| match &self.command {
            Some(command) => format!("{}: runs {}", change.path(), shorten(command)),
            None => change.summary(),
        });
        let others = self.unread.iter().chain(&self.uncompared);
        let others = others.map(|object| match &self.command {
            Some(command) => format!("{}: runs {}", path_of(object), shorten(command)),
            None => format!("{}: {} {}", path_of(object), object.verb, object.kind),
        });
        let all: Vec<String> = changes.chain(others).collect();
        let more = all.len().saturating_sub(MAX_SUMMARIES);
        parts.extend(all.into_iter().take(MAX_SUMMARIES));
        if more > 0 {
            parts.push(format!("and {more} more {}", if more == 1 { "object" } else { "objects" }));
        }
        parts.extend(dependents.iter().map(|dependent| format!("with {} {}", dependent.count, dependent.what)));
        let shows_nothing = self.changes.iter().all(|change| change.unified_diff().is_empty());
        let footnote = self.footnote.filter(|_| shows_nothing);
        let notes = self.notes.iter().map(String::as_str).take(MAX_SUMMARIES).chain(footnote);
        parts.extend(notes.map(|note| shorten(note.trim_end_matches('.'))));
        parts.join("; ")
    }

    /// Returns the objects of the call, those that change first.
    pub(crate) fn into_objects(self) -> impl Iterator<Item = AffectedObject> {
        let changes = self.changes.into_iter().map(|change| change.object);
        self.releases.into_iter().chain(changes).chain(self.unread).chain(self.uncompared)
    }

    fn all_notes(&self) -> impl Iterator<Item = String> {
        let unread = name_objects("These objects change, too, and could not be compared", &self.unread);
        let uncompared = name_objects("These objects change, too, and are not compared here", &self.uncompared);
        let notes = self.notes.iter().map(String::as_str).chain(self.footnote).map(|note| format!("{note}\n"));
        unread.filter(|_| self.command.is_none()).into_iter().chain(uncompared).chain(notes)
    }
}

/// Returns a sentence that counts and names objects; `None` if there are none.
fn name_objects(sentence: &str, objects: &[AffectedObject]) -> Option<String> {
    if objects.is_empty() {
        return None;
    }
    let named =
        objects.iter().take(MAX_NAMED).map(|object| format!("{} {} {}", object.verb, object.kind, path_of(object)));
    let more = objects.len().saturating_sub(MAX_NAMED);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    Some(format!("{sentence} ({}): {}{more}.\n", objects.len(), named.collect::<Vec<_>>().join(", ")))
}

fn path_of(AffectedObject { namespace, name, .. }: &AffectedObject) -> String {
    namespace.as_ref().map_or_else(|| name.clone(), |namespace| format!("{namespace}/{name}"))
}

/// Returns a text in one line and of bounded length.
pub(crate) fn shorten(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.chars().count() > MAX_SUMMARY_TEXT {
        true => line.chars().take(MAX_SUMMARY_TEXT).chain(['…']).collect(),
        false => line,
    }
}

fn hex(digest: Sha256) -> String {
    data_encoding::HEXLOWER.encode(&digest.finalize())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::preview::ObjectEdit;

    fn target(name: &str) -> ObjectRef {
        ObjectRef {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            namespace: Some("shop".into()),
            name: name.into(),
        }
    }

    fn change(name: &str, edit: ObjectEdit) -> PlannedChange {
        PlannedChange { target: target(name), verb: "update", edit }
    }

    fn live(name: &str) -> LiveObject {
        LiveObject::Found(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"},
            "data": {"a": "old"}}),
        )
    }

    #[test]
    fn what_is_not_compared_is_counted_and_named() {
        let vault = RedactionVault::new(&[0; 32], "s");
        let mut found = FoundChanges::default();
        assert!(found.body(&[]).is_none());
        found.add(&vault, change("a", ObjectEdit::MergePatch(json!({"data": {"a": "new"}}))), live("a"));
        found.add(&vault, change("b", ObjectEdit::Delete), LiveObject::Unread);
        (0..60).for_each(|n| found.add_uncompared(&target(&format!("c{n}")), "update"));
        let body = found.body(&[]).unwrap();
        assert!(body.text.contains("-  a: old\n+  a: new\n"), "{}", body.text);
        assert!(body.text.contains("could not be compared (1): update ConfigMap shop/b.\n"), "{}", body.text);
        assert!(body.text.contains("are not compared here (60): update ConfigMap shop/c0, "), "{}", body.text);
        assert!(body.text.ends_with("update ConfigMap shop/c49, and 10 more.\n"), "{}", body.text);
        assert_eq!(
            found.summary(&[]),
            "shop/a: a old → new; shop/b: update ConfigMap; shop/c0: update ConfigMap; and 59 more objects"
        );
    }

    #[test]
    fn digest_covers_what_goes_with_the_call() {
        let vault = RedactionVault::new(&[0; 32], "s");
        let mut found = FoundChanges::default();
        found.add(&vault, change("a", ObjectEdit::Delete), live("a"));
        let digest = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let what = "objects in namespace shop".to_owned();
            let dependents = [DependentObjects { what, count: names.len() as u64, names }];
            found.body(&dependents).unwrap().digest.unwrap()
        };
        let seen = digest(&["Pod/x", "Pod/y"]);
        assert_eq!(digest(&["Pod/y", "Pod/x"]), seen);
        for names in [&["Pod/x"][..], &["Pod/x", "Pod/z"], &["Pod/x", "Pod/y", "ConfigMap/precious"]] {
            assert_ne!(digest(names), seen, "{names:?}");
        }
        assert_ne!(found.body(&[]).unwrap().digest.unwrap(), seen);
    }

    #[test]
    fn no_change_is_only_claimed_of_objects_that_were_compared() {
        let vault = RedactionVault::new(&[0; 32], "s");
        let text = |found: &FoundChanges| found.body(&[]).unwrap().text;
        let mut found = FoundChanges::default();
        found.add(&vault, change("a", ObjectEdit::MergePatch(json!({"data": {"a": "old"}}))), live("a"));
        assert_eq!(text(&found), "The objects stay as they are.\n");
        found.add(&vault, change("b", ObjectEdit::Delete), LiveObject::Missing);
        assert_eq!(text(&found), "ConfigMap shop/b: there is no such object.\n");
        let mut twice = FoundChanges::default();
        for value in ["2", "3"] {
            twice.add(&vault, change("a", ObjectEdit::MergePatch(json!({"data": {"a": value}}))), live("a"));
        }
        assert!(text(&twice).contains("ConfigMap shop/a is changed more than once"));
    }
}
