//! Diagnoses failing workloads and suggests fixes: reads pods and events first, then logs and descriptions of what fails,
//! then the objects that a log points to.

use serde_json::{Value, json};

use super::{
    name_matching::{self, NameMatch, is_healthy, workload_name},
    run_progress::{NextStep, RunProgress, namespace_arguments},
    table::{self, KubectlRow},
    wording::{count_noun, is_or_are, truncate_chars},
};
use crate::demo::cluster::quantity::{format_memory, parse_memory};

/// Limit for the workloads that are diagnosed in one run.
const MAX_WORKLOADS: usize = 6;

/// A workload with pods that are not ready.
#[derive(Debug)]
struct BrokenWorkload<'r> {
    namespace: &'r str,
    name: &'r str,
    pods: Vec<&'r KubectlRow>,
}

impl BrokenWorkload<'_> {
    fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Returns the pod with the most restarts, which is the most informative.
    fn most_restarted_pod(&self) -> &KubectlRow {
        let restarts = |p: &&&KubectlRow| p.get("RESTARTS").split(' ').next().and_then(|n| n.parse::<u32>().ok());
        self.pods.iter().max_by_key(restarts).expect("a broken workload has at least one pod")
    }

    fn status(&self) -> &str {
        self.most_restarted_pod().get("STATUS")
    }

    fn log_call(&self) -> Option<Value> {
        let crashes = matches!(self.status(), "CrashLoopBackOff" | "Error" | "OOMKilled");
        crashes.then(|| json!({"namespace": self.namespace, "name": self.most_restarted_pod().get("NAME"), "tail": 20}))
    }

    fn describe_call(&self) -> Value {
        json!({"kind": "deployment", "namespace": self.namespace, "name": self.name})
    }
}

/// Plans the answer to "what is wrong", for all pods or for those that `names` match.
pub(super) fn plan_diagnosis(
    run: &RunProgress<'_>,
    names: &[String],
    namespace: Option<&str>,
) -> Result<String, NextStep> {
    let all = namespace_arguments(namespace);
    let scope = namespace.map_or_else(|| "all namespaces".to_owned(), |ns| format!("the namespace {ns}"));
    let announcement = format!("Checking pods and recent events in {scope}.");
    run.request_calls(&announcement, &[("pods_list", all.clone()), ("events_list", all.clone())])?;
    let pods = table::parse_table(run.require_result(&announcement, "pods_list", &all)?);
    let events = table::parse_table(run.successful_result("events_list", &all).unwrap_or_default());
    if pods.is_empty() {
        return Ok(format!("There are no pods in {scope}. Next: `list namespaces` shows the available ones."));
    }

    let (about, note) = select_pods(&pods, names);
    let broken = group_broken(&about);
    if broken.is_empty() {
        return Ok(format!(
            "{note}No problems found: {} in {scope} {} ready.",
            count_noun(about.len(), "pod"),
            is_or_are(about.len())
        ));
    }

    let mut calls: Vec<(&str, Value)> = Vec::new();
    for workload in broken.iter().take(MAX_WORKLOADS) {
        calls.extend(workload.log_call().map(|call| ("pods_log", call)));
        calls.push(("resources_describe", workload.describe_call()));
    }
    if broken.iter().any(|b| b.status() == "Pending") {
        calls.push(("nodes_list", json!({})));
    }
    let found = count_noun(broken.len(), "workload");
    run.request_calls(&format!("{found} with pods that are not ready. Reading their logs and descriptions."), &calls)?;

    // A log may point to a wrong host: compare the existing services with the configuration.
    let mut calls: Vec<(&str, Value)> = Vec::new();
    for workload in broken.iter().take(MAX_WORKLOADS) {
        if unresolved_host(run, workload).is_some() {
            calls.push(("services_list", json!({})));
            calls.extend(config_map_calls(run, workload).into_iter().map(|call| ("configmap_get", call)));
        }
    }
    calls.dedup();
    run.request_calls(
        "A log names a host that was not found. Comparing it with the services and the configuration.",
        &calls,
    )?;

    let bad: usize = broken.iter().map(|b| b.pods.len()).sum();
    let mut text =
        format!("{note}{bad} of {} {} not ready, in {found}.", count_noun(about.len(), "pod"), is_or_are(bad));
    for (i, workload) in broken.iter().enumerate().take(MAX_WORKLOADS) {
        let finding = diagnose_workload(run, workload, &events);
        text += &format!(
            "\n\n{}. **{}**: {} ({})\n   - Cause: {}\n   - Evidence: {}\n   - Next: {}",
            i + 1,
            workload.full_name(),
            workload.status(),
            count_noun(workload.pods.len(), "pod"),
            finding.cause,
            finding.evidence,
            finding.next,
        );
    }
    if broken.len() > MAX_WORKLOADS {
        text += &format!("\n\n{} more workloads are not shown; ask about them by name.", broken.len() - MAX_WORKLOADS);
    }
    text += "\n\nNothing was changed. Enter one of the commands, or `yes` for the first one.";
    Ok(text)
}

/// Returns the pods that a message is about: those of the namespace or workload that one of its words names.
fn select_pods<'r>(pods: &'r [KubectlRow], names: &[String]) -> (Vec<&'r KubectlRow>, String) {
    for name in names {
        let of_namespace: Vec<&KubectlRow> = pods.iter().filter(|p| p.get("NAMESPACE") == name).collect();
        if !of_namespace.is_empty() {
            return (of_namespace, format!("In the namespace {name}: "));
        }
    }
    match name_matching::match_rows(pods, names) {
        NameMatch::Rows(found) => {
            let note = format!("{}/{}: ", found[0].get("NAMESPACE"), workload_name(found[0].get("NAME")));
            let one = found.iter().all(|p| workload_name(p.get("NAME")) == workload_name(found[0].get("NAME")));
            (found, if one { note } else { String::new() })
        }
        NameMatch::Nothing => {
            let note = match names.first() {
                Some(name) => format!("No pod is named \"{name}\", so this covers all pods.\n\n"),
                None => String::new(),
            };
            (pods.iter().collect(), note)
        }
    }
}

fn group_broken<'r>(pods: &[&'r KubectlRow]) -> Vec<BrokenWorkload<'r>> {
    let mut groups: Vec<BrokenWorkload<'r>> = Vec::new();
    for pod in pods.iter().filter(|p| !is_healthy(p)) {
        let namespace = pod.get("NAMESPACE");
        let name = workload_name(pod.get("NAME"));
        match groups.iter_mut().find(|g| g.namespace == namespace && g.name == name) {
            Some(group) => group.pods.push(pod),
            None => groups.push(BrokenWorkload { namespace, name, pods: vec![pod] }),
        }
    }
    groups
}

/// Returns the log line that shows why a workload crashes.
fn failure_line<'a>(run: &RunProgress<'a>, workload: &BrokenWorkload<'_>) -> Option<&'a str> {
    let log = run.successful_result("pods_log", &workload.log_call()?)?;
    let bad = |line: &&str| ["ERROR", "FATAL", "panic", "rror:"].iter().any(|w| line.contains(w));
    log.lines().find(bad).or_else(|| log.lines().last())
}

/// Returns the host that was not found, according to the log of a crashing workload.
fn unresolved_host<'a>(run: &RunProgress<'a>, workload: &BrokenWorkload<'_>) -> Option<&'a str> {
    let log = run.successful_result("pods_log", &workload.log_call()?)?;
    let line = log.lines().find(|l| l.contains("no such host"))?;
    line.split_once("lookup ")?.1.split([' ', ':']).next()
}

/// Returns the calls that read the ConfigMaps in a workload's description.
fn config_map_calls(run: &RunProgress<'_>, workload: &BrokenWorkload<'_>) -> Vec<Value> {
    let description = run.successful_result("resources_describe", &workload.describe_call()).unwrap_or_default();
    let mut calls: Vec<Value> = description
        .lines()
        .filter_map(|l| l.split_once("of config map '")?.1.split('\'').next())
        .map(|map| json!({"namespace": workload.namespace, "name": map}))
        .collect();
    calls.dedup();
    calls
}

/// The diagnosis of a broken workload.
struct WorkloadDiagnosis {
    cause: String,
    evidence: String,
    next: String,
}

fn diagnose_workload(run: &RunProgress<'_>, workload: &BrokenWorkload<'_>, events: &[KubectlRow]) -> WorkloadDiagnosis {
    let names: Vec<String> = workload.pods.iter().map(|p| format!("pod/{}", p.get("NAME"))).collect();
    let last_warning = |contained: &str| {
        let of_pod = |e: &&KubectlRow| names.iter().any(|n| n == e.get("OBJECT")) && e.get("TYPE") == "Warning";
        let event = events.iter().rev().filter(of_pod).find(|e| e.get("MESSAGE").contains(contained));
        event.map(|e| e.get("MESSAGE"))
    };
    let description = run.successful_result("resources_describe", &workload.describe_call()).unwrap_or_default();
    let name = workload.name;
    let evidence_text =
        |text: Option<&str>| text.map_or("no event or log line was found".to_owned(), |t| truncate_chars(t, 160));
    match workload.status() {
        "CrashLoopBackOff" | "Error" | "OOMKilled" => {
            let evidence = evidence_text(failure_line(run, workload).or_else(|| last_warning("")));
            match unresolved_host(run, workload) {
                Some(host) => {
                    let cause = format!("it starts, cannot find the host `{host}`, and exits.");
                    WorkloadDiagnosis { cause, evidence, next: suggest_host(run, workload, host) }
                }
                None => WorkloadDiagnosis {
                    cause: "its container exits soon after its start.".to_owned(),
                    evidence,
                    next: format!("`logs of {name}`"),
                },
            }
        }
        "ImagePullBackOff" | "ErrImagePull" => {
            let image = workload.most_restarted_pod().get("IMAGE");
            let older = description.lines().find_map(|l| l.strip_prefix("OldReplicaSets:")?.split_once("image "));
            let older = older.map(|(_, rest)| rest.trim_end_matches(')'));
            let (rest, next) = match older {
                Some(old) => (
                    format!("; pods with {old} still serve requests"),
                    format!("`roll back {name}`, or `set image of {name} to <image:tag>`"),
                ),
                None => (String::new(), format!("`set image of {name} to <image:tag>`")),
            };
            let evidence = evidence_text(last_warning("not found").or_else(|| last_warning("")));
            WorkloadDiagnosis { cause: format!("the image `{image}` cannot be pulled{rest}."), evidence, next }
        }
        "CreateContainerConfigError" => {
            let message = last_warning("ConfigMap").or_else(|| last_warning("configmap")).or_else(|| last_warning(""));
            let missing = message.and_then(|m| m.split_once("find key ")?.1.split_once(" in ConfigMap "));
            let (cause, next) = match missing {
                Some((key, map)) => {
                    let map = map.rsplit('/').next().unwrap_or(map);
                    let guess = key.to_lowercase().replace('_', "-");
                    (
                        format!("the key `{key}` is missing in the ConfigMap `{map}`."),
                        format!("`set {key} in {map} to {guess}` (the value is a guess: replace it with yours)"),
                    )
                }
                None => ("the configuration of the container is incomplete.".to_owned(), format!("`describe {name}`")),
            };
            WorkloadDiagnosis { cause, evidence: evidence_text(message), next }
        }
        "Pending" => {
            let message = last_warning("nodes are available").or_else(|| last_warning(""));
            let requested = description.lines().find_map(|l| l.split_once("memory: ")).map(|(_, m)| m.trim());
            let short = message.is_some_and(|m| m.contains("Insufficient memory"));
            match (requested, largest_free_memory(run)) {
                (Some(requested), Some(free)) if short => WorkloadDiagnosis {
                    cause: format!(
                        "each pod requests {requested} of memory, and no node has more than {} free.",
                        format_memory(free)
                    ),
                    evidence: evidence_text(message),
                    next: format!("`set memory of {name} to {}`", format_memory(round_memory_request(free))),
                },
                _ => WorkloadDiagnosis {
                    cause: "no node can run it.".to_owned(),
                    evidence: evidence_text(message),
                    next: format!("`describe {name}`"),
                },
            }
        }
        "ContainerCreating" => WorkloadDiagnosis {
            cause: "it is starting.".to_owned(),
            evidence: format!("its pod is {} old", workload.most_restarted_pod().get("AGE")),
            next: format!("`status of {name}`"),
        },
        _ => WorkloadDiagnosis {
            cause: "the rules do not cover this state.".to_owned(),
            evidence: evidence_text(last_warning("")),
            next: format!("`describe {name}`"),
        },
    }
}

/// Returns a command that changes the configuration to an existing service.
fn suggest_host(run: &RunProgress<'_>, workload: &BrokenWorkload<'_>, host: &str) -> String {
    let services = table::parse_table(run.successful_result("services_list", &json!({})).unwrap_or_default());
    let first = host.split('.').next().unwrap_or(host);
    let service = services.iter().find(|s| s.get("NAME") == first);
    let key = config_map_calls(run, workload).into_iter().find_map(|call| {
        let yaml = run.successful_result("configmap_get", &call)?;
        let (key, _) = yaml.lines().filter_map(|l| l.trim().split_once(": ")).find(|(_, value)| *value == host)?;
        Some((key.to_owned(), call["name"].as_str()?.to_owned()))
    });
    match (service, key) {
        (Some(service), Some((key, map))) => {
            let right = format!("{first}.{}.svc.cluster.local", service.get("NAMESPACE"));
            format!("`set {key} in {map} to {right}` (the service {} exists)", service.full_name())
        }
        _ => format!("`logs of {}`, and check the host in its configuration", workload.name),
    }
}

/// Returns the largest free memory (MiB) of a worker node.
fn largest_free_memory(run: &RunProgress<'_>) -> Option<u64> {
    let nodes = table::parse_table(run.successful_result("nodes_list", &json!({}))?);
    let free = |node: &KubectlRow| {
        let (used, all) = node.get("MEMORY-REQUESTED").split_once(" of ")?;
        parse_memory(all)?.checked_sub(parse_memory(used)?)
    };
    nodes.iter().filter(|n| n.get("ROLES") != "control-plane").filter_map(free).max()
}

/// Returns a round amount (MiB) that fits easily: the largest power of two that is at most half of it.
fn round_memory_request(free: u64) -> u64 {
    (free / 2).max(1).checked_ilog2().map_or(1, |log| 1 << log)
}
