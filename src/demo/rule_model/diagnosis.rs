//! What is wrong, and what would mend it: pods and events first, then logs and descriptions of what fails, then what a
//! log points to.

use serde_json::{Value, json};

use super::{
    name_matching::{self, NameMatch, is_healthy, workload_name},
    run_progress::{NextStep, RunProgress, namespace_arguments},
    table::{self, TableRow},
    wording::{count_noun, is_or_are, truncate_chars},
};
use crate::demo::cluster::quantity::{format_memory, parse_memory};

/// The most workloads that are looked into in one turn.
const MAX_WORKLOADS: usize = 6;

/// A workload with pods that are not ready.
#[derive(Debug)]
struct BrokenWorkload<'r> {
    namespace: &'r str,
    name: &'r str,
    pods: Vec<&'r TableRow>,
}

impl BrokenWorkload<'_> {
    fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The pod that tells most: the one with the most restarts.
    fn most_restarted_pod(&self) -> &TableRow {
        let restarts = |p: &&&TableRow| p.get("RESTARTS").split(' ').next().and_then(|n| n.parse::<u32>().ok());
        self.pods.iter().max_by_key(restarts).expect("a broken workload is made from a pod")
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

/// The answer to "what is wrong", of all or of what `names` names.
pub(super) fn plan_diagnosis(
    run: &RunProgress<'_>,
    names: &[String],
    namespace: Option<&str>,
) -> Result<String, NextStep> {
    let all = namespace_arguments(namespace);
    let place = namespace.map_or_else(|| "all namespaces".to_owned(), |ns| format!("the namespace {ns}"));
    let say = format!("I look at the pods and the recent events of {place}.");
    run.request_calls(&say, &[("pods_list", all.clone()), ("events_list", all.clone())])?;
    let pods = table::parse_table(run.require_result(&say, "pods_list", &all)?);
    let events = table::parse_table(run.successful_result("events_list", &all).unwrap_or_default());
    if pods.is_empty() {
        return Ok(format!("There are no pods in {place}. Next: `list namespaces` shows which there are."));
    }

    let (about, note) = select_pods(&pods, names);
    let broken = group_broken(&about);
    if broken.is_empty() {
        return Ok(format!(
            "{note}All is well: {} in {place} {} ready.",
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
    run.request_calls(&format!("{found} with pods that are not ready. I read their logs and descriptions."), &calls)?;

    // What a log points to: the services that there are, and the configuration that names the wrong one.
    let mut calls: Vec<(&str, Value)> = Vec::new();
    for workload in broken.iter().take(MAX_WORKLOADS) {
        if unresolved_host(run, workload).is_some() {
            calls.push(("services_list", json!({})));
            calls.extend(config_map_calls(run, workload).into_iter().map(|call| ("configmap_get", call)));
        }
    }
    calls.dedup();
    run.request_calls(
        "A log names a host that is not found. I compare it with the services and the configuration.",
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
        text += &format!("\n\nAnd {} more; ask about them by name.", broken.len() - MAX_WORKLOADS);
    }
    text += "\n\nNothing has been changed. Type one of the commands, or `yes` for the first.";
    Ok(text)
}

/// The pods that a message is about: of the namespace, or of the workload, that one of its words names.
fn select_pods<'r>(pods: &'r [TableRow], names: &[String]) -> (Vec<&'r TableRow>, String) {
    for name in names {
        let of_namespace: Vec<&TableRow> = pods.iter().filter(|p| p.get("NAMESPACE") == name).collect();
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
                Some(name) => format!("I find no pod called \"{name}\", so this is about all.\n\n"),
                None => String::new(),
            };
            (pods.iter().collect(), note)
        }
    }
}

fn group_broken<'r>(pods: &[&'r TableRow]) -> Vec<BrokenWorkload<'r>> {
    let mut groups: Vec<BrokenWorkload<'r>> = Vec::new();
    for pod in pods.iter().filter(|p| !is_healthy(p)) {
        let (namespace, name) = (pod.get("NAMESPACE"), workload_name(pod.get("NAME")));
        match groups.iter_mut().find(|g| g.namespace == namespace && g.name == name) {
            Some(group) => group.pods.push(pod),
            None => groups.push(BrokenWorkload { namespace, name, pods: vec![pod] }),
        }
    }
    groups
}

/// The line of a crashing workload's log that tells why.
fn failure_line<'a>(run: &RunProgress<'a>, workload: &BrokenWorkload<'_>) -> Option<&'a str> {
    let log = run.successful_result("pods_log", &workload.log_call()?)?;
    let bad = |line: &&str| ["ERROR", "FATAL", "panic", "rror:"].iter().any(|w| line.contains(w));
    log.lines().find(bad).or_else(|| log.lines().last())
}

/// The host that a crashing workload's log says is not found.
fn unresolved_host<'a>(run: &RunProgress<'a>, workload: &BrokenWorkload<'_>) -> Option<&'a str> {
    let log = run.successful_result("pods_log", &workload.log_call()?)?;
    let line = log.lines().find(|l| l.contains("no such host"))?;
    line.split_once("lookup ")?.1.split([' ', ':']).next()
}

/// The calls that get the ConfigMaps which a workload's description names.
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

/// What is said of a broken workload.
struct WorkloadDiagnosis {
    cause: String,
    evidence: String,
    next: String,
}

fn diagnose_workload(run: &RunProgress<'_>, workload: &BrokenWorkload<'_>, events: &[TableRow]) -> WorkloadDiagnosis {
    let names: Vec<String> = workload.pods.iter().map(|p| format!("pod/{}", p.get("NAME"))).collect();
    let event = |has: &str| {
        let of_pod = |e: &&TableRow| names.iter().any(|n| n == e.get("OBJECT")) && e.get("TYPE") == "Warning";
        let event = events.iter().rev().filter(of_pod).find(|e| e.get("MESSAGE").contains(has));
        event.map(|e| e.get("MESSAGE"))
    };
    let description = run.successful_result("resources_describe", &workload.describe_call()).unwrap_or_default();
    let name = workload.name;
    let shown =
        |text: Option<&str>| text.map_or("no event or log line was found".to_owned(), |t| truncate_chars(t, 160));
    match workload.status() {
        "CrashLoopBackOff" | "Error" | "OOMKilled" => {
            let evidence = shown(failure_line(run, workload).or_else(|| event("")));
            match unresolved_host(run, workload) {
                Some(host) => {
                    let cause = format!("it starts, does not find the host `{host}`, and exits.");
                    WorkloadDiagnosis { cause, evidence, next: suggest_host(run, workload, host) }
                }
                None => WorkloadDiagnosis {
                    cause: "its container starts and exits again.".to_owned(),
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
                    format!("; pods with {old} still serve"),
                    format!("`roll back {name}`, or `set image of {name} to <image:tag>`"),
                ),
                None => (String::new(), format!("`set image of {name} to <image:tag>`")),
            };
            let evidence = shown(event("not found").or_else(|| event("")));
            WorkloadDiagnosis { cause: format!("the image `{image}` cannot be pulled{rest}."), evidence, next }
        }
        "CreateContainerConfigError" => {
            let message = event("ConfigMap").or_else(|| event("configmap")).or_else(|| event(""));
            let missing = message.and_then(|m| m.split_once("find key ")?.1.split_once(" in ConfigMap "));
            let (cause, next) = match missing {
                Some((key, map)) => {
                    let map = map.rsplit('/').next().unwrap_or(map);
                    let guess = key.to_lowercase().replace('_', "-");
                    (
                        format!("the key `{key}` is missing in the ConfigMap `{map}`."),
                        format!("`set {key} in {map} to {guess}` (the value is a guess: put in yours)"),
                    )
                }
                None => ("the container's configuration is not complete.".to_owned(), format!("`describe {name}`")),
            };
            WorkloadDiagnosis { cause, evidence: shown(message), next }
        }
        "Pending" => {
            let message = event("nodes are available").or_else(|| event(""));
            let wants = description.lines().find_map(|l| l.split_once("memory: ")).map(|(_, m)| m.trim());
            let short = message.is_some_and(|m| m.contains("Insufficient memory"));
            match (wants, largest_free_memory(run)) {
                (Some(wants), Some(free)) if short => WorkloadDiagnosis {
                    cause: format!(
                        "each pod asks for {wants} of memory, and no node has more than {} free.",
                        format_memory(free)
                    ),
                    evidence: shown(message),
                    next: format!("`set memory of {name} to {}`", format_memory(round_memory_request(free))),
                },
                _ => WorkloadDiagnosis {
                    cause: "no node takes it.".to_owned(),
                    evidence: shown(message),
                    next: format!("`describe {name}`"),
                },
            }
        }
        "ContainerCreating" => WorkloadDiagnosis {
            cause: "it is being started just now.".to_owned(),
            evidence: format!("its pod is {} old", workload.most_restarted_pod().get("AGE")),
            next: format!("`status of {name}`"),
        },
        _ => WorkloadDiagnosis {
            cause: "I have no rule for this state.".to_owned(),
            evidence: shown(event("")),
            next: format!("`describe {name}`"),
        },
    }
}

/// A command that points the configuration at a service that there is.
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
            format!("`set {key} in {map} to {right}` (there is a service {})", service.full_name())
        }
        _ => format!("`logs of {}`, and find out where that host should be", workload.name),
    }
}

/// The most memory (Mi) that a node for workloads has free.
fn largest_free_memory(run: &RunProgress<'_>) -> Option<u64> {
    let nodes = table::parse_table(run.successful_result("nodes_list", &json!({}))?);
    let free = |node: &TableRow| {
        let (used, all) = node.get("MEMORY-REQUESTED").split_once(" of ")?;
        parse_memory(all)?.checked_sub(parse_memory(used)?)
    };
    nodes.iter().filter(|n| n.get("ROLES") != "control-plane").filter_map(free).max()
}

/// A round amount (Mi) that fits well: the greatest power of two of at most half.
fn round_memory_request(free: u64) -> u64 {
    (free / 2).max(1).checked_ilog2().map_or(1, |log| 1 << log)
}
