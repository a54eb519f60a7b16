//! `argocd-mcp` (npm), as of 0.9. It annotates nothing, so this table is all there is. Its `argocdBaseUrl`, with which
//! a call may go to another server, is not among the known arguments.

use serde_json::{Map, Value};

use super::{
    super::{Judged, Sensitive},
    Does, Tool, is_true,
};
use k8sops_core::ToolEffect;

const OBJECTS: Does = Does::Reads(Some(Sensitive::Objects));

pub(super) const TOOLS: &[Tool] = &[
    ("list_applications", Does::Reads(None), &["search limit offset"]),
    ("list_clusters", OBJECTS, &["server* name"]),
    ("get_application", OBJECTS, &["applicationName applicationNamespace"]),
    ("get_appproject", Does::Reads(None), &["projectName"]),
    ("get_application_resource_tree", Does::Reads(None), &["applicationName applicationNamespace"]),
    (
        "get_application_managed_resources",
        OBJECTS,
        &["applicationName kind namespace name version group appNamespace project"],
    ),
    (
        "get_application_workload_logs",
        Does::Reads(None),
        &["applicationName applicationNamespace resourceRef* container"],
    ),
    ("get_application_events", Does::Reads(None), &["applicationName applicationNamespace"]),
    (
        "get_resource_events",
        Does::Reads(None),
        &["applicationName applicationNamespace resourceUID resourceNamespace resourceName"],
    ),
    ("get_resources", OBJECTS, &["applicationName applicationNamespace resourceRefs*"]),
    ("get_resource_actions", Does::Reads(None), &["applicationName applicationNamespace resourceRef*"]),
    ("create_application", Does::Writes("creates an application"), &[]),
    ("update_application", Does::Writes("changes an application"), &[]),
    ("delete_application", Does::Writes("deletes an application"), &[]),
    (
        "sync_application",
        Does::Depends(sync),
        &["applicationName applicationNamespace dryRun prune revision syncOptions"],
    ),
    ("run_resource_action", Does::Writes("runs an action on a resource"), &[]),
];

/// A dry run changes nothing in the cluster, but it is recorded as the application's last operation.
fn sync(arguments: &Map<String, Value>) -> Judged {
    match is_true(arguments, "dryRun") {
        true => Judged::new(ToolEffect::Idempotent, "`sync_application` with `dryRun` records an operation"),
        false => Judged::mutating("`sync_application` deploys an application"),
    }
}
