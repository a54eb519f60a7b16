//! `argocd-mcp` (npm), as of 0.9. The server has no annotations, so this table is the only source. Its argument
//! `argocdBaseUrl`, with which a call may go to another Argo CD, is not among the known ones.

use serde_json::{Map, Value};

use super::{
    effect_rule::{EffectRule, ServerTool},
    typed_arguments::is_argument_true,
};
use crate::classification::{Classification, EffectClass, SensitiveOutput};

const OBJECTS: EffectRule = EffectRule::Reads(Some(SensitiveOutput::Objects));

pub(super) const TOOLS: &[ServerTool] = &[
    ("list_applications", EffectRule::Reads(None), &["search limit offset"]),
    ("list_clusters", OBJECTS, &["server* name"]),
    ("get_application", OBJECTS, &["applicationName applicationNamespace"]),
    ("get_appproject", EffectRule::Reads(None), &["projectName"]),
    ("get_application_resource_tree", EffectRule::Reads(None), &["applicationName applicationNamespace"]),
    (
        "get_application_managed_resources",
        OBJECTS,
        &["applicationName kind namespace name version group appNamespace project"],
    ),
    (
        "get_application_workload_logs",
        EffectRule::Reads(None),
        &["applicationName applicationNamespace resourceRef* container"],
    ),
    ("get_application_events", EffectRule::Reads(None), &["applicationName applicationNamespace"]),
    (
        "get_resource_events",
        EffectRule::Reads(None),
        &["applicationName applicationNamespace resourceUID resourceNamespace resourceName"],
    ),
    ("get_resources", OBJECTS, &["applicationName applicationNamespace resourceRefs*"]),
    ("get_resource_actions", EffectRule::Reads(None), &["applicationName applicationNamespace resourceRef*"]),
    ("create_application", EffectRule::Writes("creates an application"), &[]),
    ("update_application", EffectRule::Writes("changes an application"), &[]),
    ("delete_application", EffectRule::Writes("deletes an application"), &[]),
    (
        "sync_application",
        EffectRule::DependsOnArguments(classify_sync),
        &["applicationName applicationNamespace dryRun prune revision syncOptions"],
    ),
    ("run_resource_action", EffectRule::Writes("runs an action on a resource"), &[]),
];

/// A dry run changes nothing in the cluster, but Argo CD records it as the last operation of the application.
fn classify_sync(arguments: &Map<String, Value>) -> Classification {
    match is_argument_true(arguments, "dryRun") {
        true => Classification::new(
            EffectClass::Idempotent,
            "`sync_application` with `dryRun` is recorded as the application's last operation",
        ),
        false => Classification::mutating("`sync_application` deploys an application"),
    }
}
