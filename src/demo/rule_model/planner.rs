//! Plans the next step from the intent of the user and the tool results so far. Every function reads like the whole run:
//! where a result is missing, `?` returns the step that requests it.

use serde_json::{Value, json};

use super::{
    diagnosis,
    intent::{self, DescribedKind, ListedResource, UserIntent, UserRequest},
    name_matching::{self, NameMatch, is_healthy, workload_name},
    run_progress::{NextStep, RunProgress, namespace_arguments},
    table::{self, KubectlRow},
    wording::{code_block, count_noun},
};
use crate::demo::cluster::ContainerInstance;

/// The reply if no rule matches, or to a greeting.
pub(super) const HELP_TEXT: &str = "\
This demo uses rules, not a language model: it searches your message for known words, calls the matching tools, and \
reports what they return. The cluster is simulated. Try one of these:

- `what is broken?`
- `why is payments-api crashing?`
- `list pods in shop`, or deployments, services, configmaps, events, nodes, namespaces
- `logs of checkout`
- `describe storefront`
- `status of storefront`
- `set image of storefront to nginx:1.27`
- `set memory of recommendations to 2Gi`
- `set LEDGER_TOPIC in ledger-config to ledger.v2`
- `scale checkout to 3`
- `restart payments-api`
- `roll back storefront`
- `delete pod <name>`
- `yes`, to run the last suggestion";

/// Returns the next step for the last user message.
pub(super) fn plan_next_step(run: &RunProgress<'_>) -> NextStep {
    let request = match intent::parse_message(run.text) {
        UserRequest { intent: UserIntent::Confirm, .. } => match last_suggestion(run.last_reply) {
            Some(request) => request,
            None => {
                return NextStep::Reply("There is no suggestion to confirm. Try `what is broken?`.".to_owned());
            }
        },
        request => request,
    };
    // Both the final reply and a missing result are steps.
    plan_intent(run, &request).map_or_else(|step| step, NextStep::Reply)
}

/// Returns the suggestion of the model's last reply: the first command after `Next:`.
fn last_suggestion(last_reply: Option<&str>) -> Option<UserRequest> {
    let (_, after) = last_reply?.split_once("Next:")?;
    let command = after.split('`').nth(1)?;
    let request = intent::parse_message(command);
    // A suggestion of `yes` would refer to itself.
    (!matches!(request.intent, UserIntent::Confirm | UserIntent::Unknown)).then_some(request)
}

fn plan_intent(run: &RunProgress<'_>, request: &UserRequest) -> Result<String, NextStep> {
    let all = namespace_arguments(request.namespace.as_deref());
    match &request.intent {
        UserIntent::Unknown | UserIntent::Confirm => Ok(HELP_TEXT.to_owned()),
        UserIntent::Incomplete(hint) => Ok((*hint).to_owned()),
        UserIntent::Diagnose { names } => diagnosis::plan_diagnosis(run, names, request.namespace.as_deref()),
        UserIntent::List(what) => list_resources(run, *what, request.namespace.as_deref()),
        UserIntent::Logs { names, tail, instance } => show_logs(run, names, &all, *tail, *instance),
        UserIntent::Describe { kind, names } => describe_object(run, *kind, names, &all),
        UserIntent::Status { names } => {
            let target = find_deployment(run, names, &all)?;
            let status = watch_rollout(run, &target)?;
            Ok(format!("{status}\n\nNext: `describe {}` shows more.", target.full_name()))
        }
        UserIntent::Scale { names, replicas } => {
            let target = find_deployment(run, names, &all)?;
            let ready = target.get("READY");
            let announcement =
                format!("Scaling {} to {replicas}; currently {ready} pods are ready.", target.full_name());
            let arguments =
                json!({"namespace": target.get("NAMESPACE"), "name": target.get("NAME"), "replicas": replicas});
            change_and_watch(run, &target, "deployment_scale", &arguments, &announcement)
        }
        UserIntent::Restart { names } => {
            let target = find_deployment(run, names, &all)?;
            let announcement = format!("Restarting {}: its pods are replaced one by one.", target.full_name());
            let arguments = json!({"namespace": target.get("NAMESPACE"), "name": target.get("NAME")});
            change_and_watch(run, &target, "deployment_restart", &arguments, &announcement)
        }
        UserIntent::RollBack { names } => {
            let target = find_deployment(run, names, &all)?;
            let image = target.get("IMAGE");
            let announcement = format!("Rolling {} back to its template before {image}.", target.full_name());
            let arguments = json!({"namespace": target.get("NAMESPACE"), "name": target.get("NAME")});
            change_and_watch(run, &target, "deployment_rollback", &arguments, &announcement)
        }
        UserIntent::SetImage { names, image } => {
            let target = find_deployment(run, names, &all)?;
            let announcement =
                format!("Setting the image of {} from {} to {image}.", target.full_name(), target.get("IMAGE"));
            let arguments = json!({"namespace": target.get("NAMESPACE"), "name": target.get("NAME"), "image": image});
            change_and_watch(run, &target, "deployment_set_image", &arguments, &announcement)
        }
        UserIntent::SetResources { names, memory, cpu } => {
            let target = find_deployment(run, names, &all)?;
            let mut arguments = json!({"namespace": target.get("NAMESPACE"), "name": target.get("NAME")});
            let mut wanted = Vec::new();
            for (what, amount) in [("memory", memory), ("cpu", cpu)] {
                if let Some(amount) = amount {
                    arguments[what] = json!(amount);
                    wanted.push(format!("{what} {amount}"));
                }
            }
            let announcement =
                format!("Setting the resource request of {} to {}.", target.full_name(), wanted.join(", "));
            change_and_watch(run, &target, "deployment_set_resources", &arguments, &announcement)
        }
        UserIntent::SetConfig { map, key, value } => set_config_key(run, map, key, value, &all),
        UserIntent::DeletePod { names } => delete_pod(run, names, &all),
    }
}

/// Returns the deployment that the message names.
fn find_deployment(run: &RunProgress<'_>, names: &[String], scope: &Value) -> Result<KubectlRow, NextStep> {
    let table = run.require_result("Looking up the deployment.", "deployments_list", scope)?;
    name_matching::require_one_row(&table::parse_table(table), names, "deployment").cloned()
}

/// Changes a deployment and waits for the rollout.
fn change_and_watch(
    run: &RunProgress<'_>,
    target: &KubectlRow,
    tool: &str,
    arguments: &Value,
    announcement: &str,
) -> Result<String, NextStep> {
    let output = run.apply_change(announcement, tool, arguments)?;
    let status = watch_rollout(run, target)?;
    Ok(format!("Done: {}.\n\n{status}", output.trim().trim_end_matches('.')))
}

/// Returns a description of a deployment's rollout.
fn watch_rollout(run: &RunProgress<'_>, target: &KubectlRow) -> Result<String, NextStep> {
    let arguments = json!({"namespace": target.get("NAMESPACE"), "name": target.get("NAME"), "timeout_seconds": 15});
    run.request_calls("Waiting for the rollout.", &[("rollout_status", arguments.clone())])?;
    let full = target.full_name();
    Ok(match (run.successful_result("rollout_status", &arguments), run.find_call("rollout_status", &arguments)) {
        (Some(output), _) => {
            let last = output.lines().rev().find(|l| l.contains("deployment")).unwrap_or(output);
            format!(
                "The rollout of {full} is complete; all its pods are up to date and ready.\nEvidence: {}",
                last.trim()
            )
        }
        (None, Some(call)) if call.content.contains("timed out") => {
            let last = call.content.lines().rev().find(|l| l.contains("Waiting")).unwrap_or(call.content);
            format!(
                "The rollout of {full} is not complete and makes no progress.\nEvidence: {}\nNext: `why is {full} \
                 stuck?`",
                last.trim()
            )
        }
        _ => format!("The status of the rollout of {full} is not available. Next: `why is {full} stuck?`"),
    })
}

fn set_config_key(run: &RunProgress<'_>, map: &str, key: &str, value: &str, scope: &Value) -> Result<String, NextStep> {
    let table = run.require_result("Looking up the ConfigMap.", "configmaps_list", scope)?;
    let rows = table::parse_table(table);
    let target = name_matching::require_one_row(&rows, &[map.to_owned()], "ConfigMap")?;
    let full = target.full_name();
    let namespace = target.get("NAMESPACE");
    let arguments = json!({"namespace": namespace, "name": target.get("NAME"), "key": key, "value": value});
    let output = run.apply_change(&format!("Setting {key} in {full} to {value}."), "configmap_set", &arguments)?;
    let mut text = format!("Done: {}. Containers read it when they start.", output.trim());
    for (app, status) in workloads_using(run, target)? {
        text += &match status.as_str() {
            "CrashLoopBackOff" => format!(
                "\n\n{namespace}/{app} uses it and is in {status}. It reads the new value when its back-off ends (up to \
                 five minutes), or immediately after a restart.\nNext: `restart {app}`"
            ),
            "Running" => format!(
                "\n\n{namespace}/{app} uses it and is running. Running containers keep the old value until \
                 `restart {app}`."
            ),
            _ => {
                format!(
                    "\n\n{namespace}/{app} uses it and is in {status}. It is retried automatically.\nNext: `status of {app}`"
                )
            }
        };
    }
    Ok(text)
}

/// Returns the workloads that use a ConfigMap, each with the status of its worst pod; none if that cannot be determined.
fn workloads_using(run: &RunProgress<'_>, map: &KubectlRow) -> Result<Vec<(String, String)>, NextStep> {
    /// Limit for the workloads that are described.
    const MAX_DESCRIBED: usize = 12;
    let namespace = map.get("NAMESPACE");
    let name = map.get("NAME");
    let pods = json!({ "namespace": namespace });
    run.request_calls(&format!("Checking which workloads in {namespace} use it."), &[("pods_list", pods.clone())])?;
    let mut apps: Vec<(String, String)> = Vec::new();
    for pod in table::parse_table(run.successful_result("pods_list", &pods).unwrap_or_default()) {
        let app = workload_name(pod.get("NAME"));
        match apps.iter_mut().find(|(known, _)| known == app) {
            Some((_, status)) if !is_healthy(&pod) => pod.get("STATUS").clone_into(status),
            Some(_) => {}
            None => apps.push((app.to_owned(), pod.get("STATUS").to_owned())),
        }
    }
    apps.truncate(MAX_DESCRIBED);
    let describe_call = |app: &str| json!({"kind": "deployment", "namespace": namespace, "name": app});
    let calls: Vec<(&str, Value)> = apps.iter().map(|(app, _)| ("resources_describe", describe_call(app))).collect();
    run.request_calls("", &calls)?;
    let mark = format!("of config map '{name}'");
    let uses = |app: &str| {
        run.successful_result("resources_describe", &describe_call(app)).is_some_and(|text| text.contains(&mark))
    };
    apps.retain(|(app, _)| uses(app));
    Ok(apps)
}

fn delete_pod(run: &RunProgress<'_>, names: &[String], scope: &Value) -> Result<String, NextStep> {
    let table = run.require_result("Looking up the pod.", "pods_list", scope)?;
    let rows = table::parse_table(table);
    let target = name_matching::require_one_row(&rows, names, "pod")?;
    let full = target.full_name();
    let namespace = target.get("NAMESPACE");
    let name = target.get("NAME");
    let arguments = json!({"namespace": namespace, "name": name});
    let output = run.apply_change(&format!("Deleting {full}."), "pod_delete", &arguments)?;
    let app = workload_name(name);
    // The rollout shows the reaction of the deployment: it is not complete while a pod is missing.
    let deployment = table::parse_table(&format!("NAMESPACE  NAME\n{namespace}  {app}"));
    let status = deployment.first().map(|d| watch_rollout(run, d)).transpose()?.unwrap_or_default();
    Ok(format!("Done: {}. Its deployment creates a replacement.\n\n{status}", output.trim()))
}

fn list_resources(run: &RunProgress<'_>, what: ListedResource, namespace: Option<&str>) -> Result<String, NextStep> {
    let (tool, noun, columns): (_, _, &[&str]) = match what {
        ListedResource::Pods => ("pods_list", "pod", &["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]),
        ListedResource::Deployments => {
            ("deployments_list", "deployment", &["NAMESPACE", "NAME", "READY", "AGE", "IMAGE"])
        }
        ListedResource::Services => {
            ("services_list", "service", &["NAMESPACE", "NAME", "CLUSTER-IP", "PORT(S)", "AGE"])
        }
        ListedResource::ConfigMaps => ("configmaps_list", "ConfigMap", &["NAMESPACE", "NAME", "DATA", "AGE"]),
        ListedResource::Events => ("events_list", "event", &["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]),
        ListedResource::Nodes => ("nodes_list", "node", &["NAME", "STATUS", "ROLES", "AGE", "MEMORY-REQUESTED"]),
        ListedResource::Namespaces => ("namespaces_list", "namespace", &["NAME", "STATUS", "AGE"]),
    };
    let namespace = namespace.filter(|_| !matches!(what, ListedResource::Nodes | ListedResource::Namespaces));
    let scope = namespace.map_or_else(String::new, |ns| format!(" in {ns}"));
    let output = run.require_result(&format!("Listing {noun}s{scope}."), tool, &namespace_arguments(namespace))?;
    let rows = table::parse_table(output);
    let rows: Vec<&KubectlRow> = rows.iter().collect();
    if rows.is_empty() {
        let hint = if namespace.is_some() { " Next: `list namespaces` shows the available ones." } else { "" };
        return Ok(format!("There are no {noun}s{scope}. Tool output: {}{hint}", output.trim()));
    }
    let count = count_noun(rows.len(), noun);
    let mut text = format!("{count}{scope}:\n\n{}", table::format_columns(&rows, columns));
    if what == ListedResource::Pods {
        let broken: Vec<&&KubectlRow> = rows.iter().filter(|p| !is_healthy(p)).collect();
        text += &match broken.first() {
            None => "\n\nAll of them are ready.".to_owned(),
            Some(first) => format!(
                "\n\n{} {} not ready.\nNext: `why is {}/{} failing?`",
                broken.len(),
                if broken.len() == 1 { "is" } else { "are" },
                first.get("NAMESPACE"),
                workload_name(first.get("NAME")),
            ),
        };
    }
    Ok(text)
}

fn show_logs(
    run: &RunProgress<'_>,
    names: &[String],
    scope: &Value,
    tail: u64,
    instance: ContainerInstance,
) -> Result<String, NextStep> {
    let table = run.require_result("Looking up the pod.", "pods_list", scope)?;
    let rows = table::parse_table(table);
    let NameMatch::Rows(found) = name_matching::match_rows(&rows, names) else {
        return Ok(name_matching::no_match_text(&rows, names, "pod"));
    };
    // Of several pods, the log of a crashing one is the most useful, then that of a running one.
    let rank = |p: &&&KubectlRow| match p.get("STATUS") {
        "CrashLoopBackOff" | "Error" | "OOMKilled" => 0,
        "Running" => 1,
        _ => 2,
    };
    let Some(pod) = found.iter().min_by_key(rank) else { return Ok(name_matching::no_match_text(&rows, names, "pod")) };
    let mut arguments = json!({"namespace": pod.get("NAMESPACE"), "name": pod.get("NAME"), "tail": tail});
    if instance == ContainerInstance::Previous {
        arguments["previous"] = json!(true);
    }
    let full = pod.full_name();
    let log = run.require_result(&format!("Reading the log of {full}."), "pods_log", &arguments)?;
    let lines = log.lines().count();
    let others = match found.len() - 1 {
        0 => String::new(),
        n => format!(
            "\n\n{} also match{}: `list pods in {}`.",
            count_noun(n, "other pod"),
            if n == 1 { "es" } else { "" },
            pod.get("NAMESPACE")
        ),
    };
    Ok(format!(
        "The last {} of {full} ({}):\n\n{}{others}",
        count_noun(lines, "line"),
        pod.get("STATUS"),
        code_block(log)
    ))
}

fn describe_object(
    run: &RunProgress<'_>,
    kind: DescribedKind,
    names: &[String],
    scope: &Value,
) -> Result<String, NextStep> {
    let lists: &[(&str, &str)] = match kind {
        DescribedKind::Any => &[
            ("deployments_list", "deployment"),
            ("pods_list", "pod"),
            ("services_list", "service"),
            ("configmaps_list", "configmap"),
            ("nodes_list", "node"),
        ],
        DescribedKind::Pod => &[("pods_list", "pod")],
        DescribedKind::Deployment => &[("deployments_list", "deployment")],
        DescribedKind::Service => &[("services_list", "service")],
        DescribedKind::ConfigMap => &[("configmaps_list", "configmap")],
        DescribedKind::Node => &[("nodes_list", "node")],
    };
    let scope_of = |tool: &str| if tool == "nodes_list" { json!({}) } else { scope.clone() };
    let calls: Vec<(&str, Value)> = lists.iter().map(|(tool, _)| (*tool, scope_of(tool))).collect();
    run.request_calls("Looking up the name.", &calls)?;
    for (tool, noun) in lists {
        let rows = table::parse_table(run.successful_result(tool, &scope_of(tool)).unwrap_or_default());
        let NameMatch::Rows(found) = name_matching::match_rows(&rows, names) else { continue };
        let Some(target) = found.first() else { continue };
        let mut arguments = json!({"kind": noun, "name": target.get("NAME")});
        let mut full = target.get("NAME").to_owned();
        if *noun != "node" {
            arguments["namespace"] = json!(target.get("NAMESPACE"));
            full = target.full_name();
        }
        let output = match *noun {
            "configmap" => {
                let arguments = json!({"namespace": target.get("NAMESPACE"), "name": target.get("NAME")});
                run.require_result(&format!("Reading the ConfigMap {full}."), "configmap_get", &arguments)?
            }
            _ => run.require_result(&format!("Describing the {noun} {full}."), "resources_describe", &arguments)?,
        };
        return Ok(format!("The {noun} {full}:\n\n{}", code_block(output)));
    }
    let wanted = names.first().map_or("that", String::as_str);
    Ok(format!("Nothing is named \"{wanted}\". Next: `list deployments` shows the deployments."))
}
