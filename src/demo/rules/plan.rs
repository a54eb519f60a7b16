//! From a wish and what the tools have said so far to the next step. Every function here reads as the whole turn would
//! run; where a result is still missing, `?` ends it with the call that brings it.

use serde_json::{Value, json};

use super::{
    diagnose,
    find::{self, Found, healthy, workload},
    intent::{self, Intent, Kind, Listing, Wish},
    table::{self, Row},
    turn::{Step, Turn, quote},
};

/// What the model says when it understands nothing, or is greeted.
pub(super) const HELP: &str = "\
I am a set of rules, not a language model: I look for words that I know, call the tools that go with them, and report \
what they return. The cluster is simulated. Try one of these:

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
- `yes`, to do what I suggested last";

/// The next step for what the user said last.
pub(super) fn next(turn: &Turn<'_>) -> Step {
    let wish = match intent::read(turn.text) {
        Wish { intent: Intent::Confirm, .. } => match suggested(turn.before) {
            Some(wish) => wish,
            None => {
                return Step::Say("Yes to what? I have suggested nothing just now. Try `what is broken?`.".to_owned());
            }
        },
        wish => wish,
    };
    // Either way it ends in a step: the last words, or what is missing for them.
    plan(turn, &wish).map_or_else(|step| step, Step::Say)
}

/// What the model suggested when it spoke last: the first command after `Next:`.
fn suggested(before: Option<&str>) -> Option<Wish> {
    let (_, after) = before?.split_once("Next:")?;
    let command = after.split('`').nth(1)?;
    let wish = intent::read(command);
    // A suggestion of `yes` would go round in a circle.
    (!matches!(wish.intent, Intent::Confirm | Intent::Unknown)).then_some(wish)
}

/// The arguments of a list: of the namespace that was named, or of all.
pub(super) fn scope(namespace: Option<&str>) -> Value {
    namespace.map_or_else(|| json!({}), |ns| json!({ "namespace": ns }))
}

fn plan(turn: &Turn<'_>, wish: &Wish) -> Result<String, Step> {
    let all = scope(wish.namespace.as_deref());
    match &wish.intent {
        Intent::Unknown | Intent::Confirm => Ok(HELP.to_owned()),
        Intent::Incomplete(hint) => Ok((*hint).to_owned()),
        Intent::Diagnose { names } => diagnose::plan(turn, names, wish.namespace.as_deref()),
        Intent::List(what) => list(turn, *what, wish.namespace.as_deref()),
        Intent::Logs { names, tail, previous } => logs(turn, names, &all, *tail, *previous),
        Intent::Describe { kind, names } => describe(turn, *kind, names, &all),
        Intent::Status { names } => {
            let target = deployment(turn, names, &all)?;
            let status = watch(turn, &target)?;
            Ok(format!("{status}\n\nNext: `describe {}` shows more.", target.full_name()))
        }
        Intent::Scale { names, replicas } => {
            let target = deployment(turn, names, &all)?;
            let (namespace, name) = (target.get("NAMESPACE"), target.get("NAME"));
            let ready = target.get("READY");
            let say = format!("I scale {} to {replicas}; now {ready} pods are ready.", target.full_name());
            let arguments = json!({"namespace": namespace, "name": name, "replicas": replicas});
            change_deployment(turn, &target, "deployment_scale", &arguments, &say)
        }
        Intent::Restart { names } => {
            let target = deployment(turn, names, &all)?;
            let say = format!("I restart {}: its pods are replaced one by one.", target.full_name());
            let arguments = json!({"namespace": target.get("NAMESPACE"), "name": target.get("NAME")});
            change_deployment(turn, &target, "deployment_restart", &arguments, &say)
        }
        Intent::RollBack { names } => {
            let target = deployment(turn, names, &all)?;
            let image = target.get("IMAGE");
            let say = format!("I roll {} back to what it was before {image}.", target.full_name());
            let arguments = json!({"namespace": target.get("NAMESPACE"), "name": target.get("NAME")});
            change_deployment(turn, &target, "deployment_rollback", &arguments, &say)
        }
        Intent::SetImage { names, image } => {
            let target = deployment(turn, names, &all)?;
            let say = format!("I set the image of {} from {} to {image}.", target.full_name(), target.get("IMAGE"));
            let arguments = json!({"namespace": target.get("NAMESPACE"), "name": target.get("NAME"), "image": image});
            change_deployment(turn, &target, "deployment_set_image", &arguments, &say)
        }
        Intent::SetResources { names, memory, cpu } => {
            let target = deployment(turn, names, &all)?;
            let mut arguments = json!({"namespace": target.get("NAMESPACE"), "name": target.get("NAME")});
            let mut wanted = Vec::new();
            for (what, amount) in [("memory", memory), ("cpu", cpu)] {
                if let Some(amount) = amount {
                    arguments[what] = json!(amount);
                    wanted.push(format!("{what} {amount}"));
                }
            }
            let say = format!("I set the request of {} to {}.", target.full_name(), wanted.join(", "));
            change_deployment(turn, &target, "deployment_set_resources", &arguments, &say)
        }
        Intent::SetConfig { map, key, value } => set_config(turn, map, key, value, &all),
        Intent::DeletePod { names } => delete_pod(turn, names, &all),
    }
}

/// The deployment that the message names.
fn deployment(turn: &Turn<'_>, names: &[String], scope: &Value) -> Result<Row, Step> {
    let table = turn.need("I look for the deployment.", "deployments_list", scope)?;
    find::one(&table::parse(table), names, "deployment").cloned()
}

/// Changes a deployment, and watches what comes of it.
fn change_deployment(turn: &Turn<'_>, target: &Row, tool: &str, arguments: &Value, say: &str) -> Result<String, Step> {
    let said = turn.change(say, tool, arguments)?;
    let status = watch(turn, target)?;
    Ok(format!("Done: {}.\n\n{status}", said.trim().trim_end_matches('.')))
}

/// How the rollout of a deployment goes, in words.
fn watch(turn: &Turn<'_>, target: &Row) -> Result<String, Step> {
    let arguments = json!({"namespace": target.get("NAMESPACE"), "name": target.get("NAME"), "timeout_seconds": 15});
    turn.ask("I watch the rollout.", &[("rollout_status", arguments.clone())])?;
    let full = target.full_name();
    Ok(match (turn.got("rollout_status", &arguments), turn.outcome("rollout_status", &arguments)) {
        (Some(said), _) => {
            let last = said.lines().rev().find(|l| l.contains("deployment")).unwrap_or(said);
            format!(
                "The rollout of {full} is complete; all its pods are up to date and ready.\nEvidence: {}",
                last.trim()
            )
        }
        (None, Some(outcome)) if outcome.content.contains("timed out") => {
            let last = outcome.content.lines().rev().find(|l| l.contains("Waiting")).unwrap_or(outcome.content);
            format!(
                "The rollout of {full} is not complete, and does not seem to get on.\nEvidence: {}\nNext: `why is {full} \
                 stuck?`",
                last.trim()
            )
        }
        _ => format!("How the rollout of {full} goes I could not see. Next: `why is {full} stuck?`"),
    })
}

fn set_config(turn: &Turn<'_>, map: &str, key: &str, value: &str, scope: &Value) -> Result<String, Step> {
    let table = turn.need("I look for the ConfigMap.", "configmaps_list", scope)?;
    let rows = table::parse(table);
    let target = find::one(&rows, &[map.to_owned()], "ConfigMap")?;
    let (full, namespace) = (target.full_name(), target.get("NAMESPACE"));
    let arguments = json!({"namespace": namespace, "name": target.get("NAME"), "key": key, "value": value});
    let said = turn.change(&format!("I set {key} in {full} to {value}."), "configmap_set", &arguments)?;
    let mut text = format!("Done: {}. Containers see it when they start next.", said.trim());
    for (app, status) in users(turn, target)? {
        text += &match status.as_str() {
            "CrashLoopBackOff" => format!(
                "\n\n{namespace}/{app} uses it and is in {status}. It sees the new value when its back-off is over (up to \
                 five minutes), or at once after a restart.\nNext: `restart {app}`"
            ),
            "Running" => format!(
                "\n\n{namespace}/{app} uses it and is running. What started before this has the old value until \
                 `restart {app}`."
            ),
            _ => {
                format!(
                    "\n\n{namespace}/{app} uses it and is in {status}. It is tried again by itself.\nNext: `status of {app}`"
                )
            }
        };
    }
    Ok(text)
}

/// The workloads that use a ConfigMap, each with the status of its worst pod; none when that cannot be seen.
fn users(turn: &Turn<'_>, map: &Row) -> Result<Vec<(String, String)>, Step> {
    /// More than that are not looked through.
    const MOST: usize = 12;
    let (namespace, name) = (map.get("NAMESPACE"), map.get("NAME"));
    let pods = json!({ "namespace": namespace });
    turn.ask(&format!("I look at what in {namespace} uses it."), &[("pods_list", pods.clone())])?;
    let mut apps: Vec<(String, String)> = Vec::new();
    for pod in table::parse(turn.got("pods_list", &pods).unwrap_or_default()) {
        let app = workload(pod.get("NAME"));
        match apps.iter_mut().find(|(known, _)| known == app) {
            Some((_, status)) if !healthy(&pod) => pod.get("STATUS").clone_into(status),
            Some(_) => {}
            None => apps.push((app.to_owned(), pod.get("STATUS").to_owned())),
        }
    }
    apps.truncate(MOST);
    let call = |app: &str| json!({"kind": "deployment", "namespace": namespace, "name": app});
    let calls: Vec<(&str, Value)> = apps.iter().map(|(app, _)| ("resources_describe", call(app))).collect();
    turn.ask("", &calls)?;
    let mark = format!("of config map '{name}'");
    let uses = |app: &str| turn.got("resources_describe", &call(app)).is_some_and(|text| text.contains(&mark));
    apps.retain(|(app, _)| uses(app));
    Ok(apps)
}

fn delete_pod(turn: &Turn<'_>, names: &[String], scope: &Value) -> Result<String, Step> {
    let table = turn.need("I look for the pod.", "pods_list", scope)?;
    let rows = table::parse(table);
    let target = find::one(&rows, names, "pod")?;
    let (full, namespace, name) = (target.full_name(), target.get("NAMESPACE"), target.get("NAME"));
    let arguments = json!({"namespace": namespace, "name": name});
    let said = turn.change(&format!("I delete {full}."), "pod_delete", &arguments)?;
    let app = workload(name);
    // What the deployment does about it can be seen in its rollout, which is not complete while a pod is missing.
    let deployment = table::parse(&format!("NAMESPACE  NAME\n{namespace}  {app}"));
    let status = deployment.first().map(|d| watch(turn, d)).transpose()?.unwrap_or_default();
    Ok(format!("Done: {}. Its deployment makes a new one.\n\n{status}", said.trim()))
}

fn list(turn: &Turn<'_>, what: Listing, namespace: Option<&str>) -> Result<String, Step> {
    let (tool, noun, columns): (_, _, &[&str]) = match what {
        Listing::Pods => ("pods_list", "pod", &["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]),
        Listing::Deployments => ("deployments_list", "deployment", &["NAMESPACE", "NAME", "READY", "AGE", "IMAGE"]),
        Listing::Services => ("services_list", "service", &["NAMESPACE", "NAME", "CLUSTER-IP", "PORT(S)", "AGE"]),
        Listing::ConfigMaps => ("configmaps_list", "ConfigMap", &["NAMESPACE", "NAME", "DATA", "AGE"]),
        Listing::Events => ("events_list", "event", &["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]),
        Listing::Nodes => ("nodes_list", "node", &["NAME", "STATUS", "ROLES", "AGE", "MEMORY-REQUESTED"]),
        Listing::Namespaces => ("namespaces_list", "namespace", &["NAME", "STATUS", "AGE"]),
    };
    let namespace = namespace.filter(|_| !matches!(what, Listing::Nodes | Listing::Namespaces));
    let place = namespace.map_or_else(String::new, |ns| format!(" in {ns}"));
    let said = turn.need(&format!("I list the {noun}s{place}."), tool, &scope(namespace))?;
    let rows = table::parse(said);
    let rows: Vec<&Row> = rows.iter().collect();
    if rows.is_empty() {
        let hint = if namespace.is_some() { " Next: `list namespaces` shows which there are." } else { "" };
        return Ok(format!("There are no {noun}s{place}. The tool says: {}{hint}", said.trim()));
    }
    let count = count(rows.len(), noun);
    let mut text = format!("{count}{place}:\n\n{}", table::print(&rows, columns));
    if what == Listing::Pods {
        let broken: Vec<&&Row> = rows.iter().filter(|p| !healthy(p)).collect();
        text += &match broken.first() {
            None => "\n\nAll of them are ready.".to_owned(),
            Some(first) => format!(
                "\n\n{} {} not ready.\nNext: `why is {}/{} failing?`",
                broken.len(),
                if broken.len() == 1 { "is" } else { "are" },
                first.get("NAMESPACE"),
                workload(first.get("NAME")),
            ),
        };
    }
    Ok(text)
}

fn logs(turn: &Turn<'_>, names: &[String], scope: &Value, tail: u64, previous: bool) -> Result<String, Step> {
    let table = turn.need("I look for the pod.", "pods_list", scope)?;
    let rows = table::parse(table);
    let Found::Some(found) = find::find(&rows, names) else {
        return Ok(find::none(&rows, names, "pod"));
    };
    // One pod's log tells most; of several take one that is in trouble and has run at all.
    let rank = |p: &&&Row| match p.get("STATUS") {
        "CrashLoopBackOff" | "Error" | "OOMKilled" => 0,
        "Running" => 1,
        _ => 2,
    };
    let Some(pod) = found.iter().min_by_key(rank) else { return Ok(find::none(&rows, names, "pod")) };
    let mut arguments = json!({"namespace": pod.get("NAMESPACE"), "name": pod.get("NAME"), "tail": tail});
    if previous {
        arguments["previous"] = json!(true);
    }
    let full = pod.full_name();
    let log = turn.need(&format!("I read the log of {full}."), "pods_log", &arguments)?;
    let lines = log.lines().count();
    let others = match found.len() - 1 {
        0 => String::new(),
        n => format!(
            "\n\n{} fit{} too: `list pods in {}`.",
            count(n, "other pod"),
            if n == 1 { "s" } else { "" },
            pod.get("NAMESPACE")
        ),
    };
    Ok(format!("The last {} of {full} ({}):\n\n{}{others}", count(lines, "line"), pod.get("STATUS"), quote(log)))
}

fn describe(turn: &Turn<'_>, kind: Kind, names: &[String], scope: &Value) -> Result<String, Step> {
    let lists: &[(&str, &str)] = match kind {
        Kind::Any => &[
            ("deployments_list", "deployment"),
            ("pods_list", "pod"),
            ("services_list", "service"),
            ("configmaps_list", "configmap"),
            ("nodes_list", "node"),
        ],
        Kind::Pod => &[("pods_list", "pod")],
        Kind::Deployment => &[("deployments_list", "deployment")],
        Kind::Service => &[("services_list", "service")],
        Kind::ConfigMap => &[("configmaps_list", "configmap")],
        Kind::Node => &[("nodes_list", "node")],
    };
    let of = |tool: &str| if tool == "nodes_list" { json!({}) } else { scope.clone() };
    let calls: Vec<(&str, Value)> = lists.iter().map(|(tool, _)| (*tool, of(tool))).collect();
    turn.ask("I look for what has that name.", &calls)?;
    for (tool, noun) in lists {
        let rows = table::parse(turn.got(tool, &of(tool)).unwrap_or_default());
        let Found::Some(found) = find::find(&rows, names) else { continue };
        let Some(target) = found.first() else { continue };
        let mut arguments = json!({"kind": noun, "name": target.get("NAME")});
        let mut full = target.get("NAME").to_owned();
        if *noun != "node" {
            arguments["namespace"] = json!(target.get("NAMESPACE"));
            full = target.full_name();
        }
        let said = match *noun {
            "configmap" => {
                let arguments = json!({"namespace": target.get("NAMESPACE"), "name": target.get("NAME")});
                turn.need(&format!("I get the ConfigMap {full}."), "configmap_get", &arguments)?
            }
            _ => turn.need(&format!("I describe the {noun} {full}."), "resources_describe", &arguments)?,
        };
        return Ok(format!("The {noun} {full}:\n\n{}", quote(said)));
    }
    let asked = names.first().map_or("that", String::as_str);
    Ok(format!("I find nothing called \"{asked}\". Next: `list deployments` shows what there is."))
}

/// `1 pod`, `2 pods`.
pub(super) fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}
