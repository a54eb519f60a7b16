//! Finds the objects that a call changes: how they are read, and how they would be, by other calls of the same server.

use serde_json::{Map, Value, json};

use crate::{
    changing_parts::{CommandInput, LineCommand, LinePart},
    classification::ServerReach,
    command_call::CommandCall,
    kubectl_objects::{find_context, find_kubectl_command},
    line_parts::SHELL_COMMANDS,
    object_command::{ObjectCommand, ObjectCommands},
    preview::PreviewCall,
    program::KnownProgram,
    release_commands::{find_helm_context, find_release_call, find_release_command},
    server_state::mentions_server_state,
    shell_word::ShellWord,
    tool_calls::classify_reach_apart,
    tool_description::ToolDescription,
};

/// Returns what a call does to objects; `None` if nothing is known about it. Known are the tools that take a command line, whose
/// commands of kubectl and helm are looked at one by one, and the tools of servers that work like these programs.
///
/// ```
/// use k8sops_classifier::{ObjectCommand, ToolDescription, find_object_commands};
/// use serde_json::json;
///
/// let arguments = json!({"command": "kubectl delete deploy web -n shop --force"});
/// let commands = find_object_commands(&ToolDescription::named("bash"), arguments.as_object().unwrap()).unwrap();
/// let [ObjectCommand::ReadPrints { read, .. }] = commands.known.as_slice() else { panic!() };
/// assert_eq!(read.arguments["command"], "kubectl get deploy web --namespace=shop --ignore-not-found -o yaml");
/// ```
#[must_use]
pub fn find_object_commands(tool: &ToolDescription<'_>, arguments: &Map<String, Value>) -> Option<ObjectCommands> {
    if let Some(release) = find_release_call(tool.name, arguments) {
        return Some(ObjectCommands { known: vec![ObjectCommand::Release(release)], ..ObjectCommands::default() });
    }
    if let Some(command) = find_typed_creation(tool, arguments) {
        return Some(ObjectCommands { known: vec![command], ..ObjectCommands::default() });
    }
    let call = CommandCall::find(tool, arguments)?;
    let changing = call.changing_parts()?;
    let has_alternatives = changing.has_alternatives;
    let mut commands = ObjectCommands { has_alternatives, ..ObjectCommands::default() };
    let mut surroundings = Surroundings::AsNow;
    for part in changing.parts {
        let (text, known) = match part {
            LinePart::Unknown(text) => (text, None),
            LinePart::ChangedShell(text) => {
                surroundings = Surroundings::OtherShell;
                (text, None)
            }
            LinePart::Command(command) => {
                let known = find_command(&call, &command).filter(|_| surroundings.allow(&command));
                (print_command(&command), known)
            }
        };
        if let Some(known) = known {
            commands.known.extend(known);
        } else {
            surroundings = surroundings.max(Surroundings::after(&text));
            commands.unknown.push(text);
        }
    }
    Some(commands)
}

/// `kubectl_create` of `mcp-server-kubernetes` with a kind and typed arguments, which has a dry run that prints the object.
fn find_typed_creation(tool: &ToolDescription<'_>, arguments: &Map<String, Value>) -> Option<ObjectCommand> {
    const SOURCES: &[&str] = &["manifest", "filename", "fromFile", "fromFileContent"];
    if tool.name != "kubectl_create" || SOURCES.iter().any(|key| arguments.contains_key(*key)) {
        return None;
    }
    let mut dry_run = arguments.clone();
    dry_run.insert("dryRun".to_owned(), json!(true));
    dry_run.insert("output".to_owned(), json!("yaml"));
    let dry_run = PreviewCall { tool: tool.name.to_owned(), arguments: dry_run };
    let is_read = classify_reach_apart(tool, &dry_run.arguments)?.is_read_within(ServerReach::Cluster);
    is_read.then(|| ObjectCommand::DryRunPrints { dry_run, verb: "create".to_owned() })
}

/// Whether a command of a line finds what it would find if it ran now: what stands before it may change that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Surroundings {
    AsNow,
    /// Other files.
    OtherFiles,
    /// Another directory, environment, cluster or identity.
    OtherShell,
}

impl Surroundings {
    /// Returns what a command may change of which nothing is known.
    fn after(text: &str) -> Self {
        let first = text.split_whitespace().next().unwrap_or_default();
        match SHELL_COMMANDS.contains(&first) || first.contains('=') || mentions_server_state(text) {
            true => Self::OtherShell,
            false if text.starts_with("kubectl config") => Self::OtherShell,
            false if first == "kubectl" => Self::AsNow,
            false => Self::OtherFiles,
        }
    }

    fn allow(self, command: &LineCommand) -> bool {
        let names_file = |word: &ShellWord| {
            let text = word.text.as_str();
            let is_file_flag =
                ["-f", "-k", "--filename", "--kustomize", "--patch-file"].iter().any(|flag| text.starts_with(flag));
            is_file_flag && !matches!(command.input, CommandInput::Text(_))
        };
        match self {
            Self::AsNow => true,
            Self::OtherFiles => command.program != KnownProgram::Helm && !command.words.iter().any(names_file),
            Self::OtherShell => false,
        }
    }
}

/// Returns the call of the same tool that runs `kubectl` with these words, for the cluster of the line; `None` if the tool does
/// not run kubectl, if the line is about several clusters, or if it is not certain that the words only read.
#[must_use]
pub fn build_kubectl_read(
    tool: &ToolDescription<'_>,
    arguments: &Map<String, Value>,
    words: &[&str],
) -> Option<PreviewCall> {
    let call = CommandCall::find(tool, arguments)?;
    let mut contexts: Vec<Option<String>> = Vec::new();
    for part in call.changing_parts()?.parts {
        let LinePart::Command(LineCommand { program, words, .. }) = part else { continue };
        let context = match program {
            KnownProgram::Helm => find_helm_context(&words),
            KnownProgram::Kubectl | KnownProgram::Argocd => find_context(&words),
        };
        contexts.push(context);
    }
    contexts.dedup();
    let [context] = contexts.try_into().ok()?;
    let words = words.iter().map(|word| (*word).to_owned());
    let cluster = context.map(|context| format!("--context={context}"));
    call.build_read(KnownProgram::Kubectl, &words.chain(cluster).collect::<Vec<_>>())
}

fn find_command(call: &CommandCall<'_>, command: &LineCommand) -> Option<Vec<ObjectCommand>> {
    match command.program {
        KnownProgram::Kubectl => find_kubectl_command(call, command).map(|known| vec![known]),
        KnownProgram::Helm => {
            let releases = find_release_command(call, &command.words)?;
            Some(releases.into_iter().map(ObjectCommand::Release).collect())
        }
        KnownProgram::Argocd => None,
    }
}

fn print_command(command: &LineCommand) -> String {
    let words = command.words.iter().map(|word| word.text.as_str());
    [command.program.name()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManifestSource;

    fn find(tool: &str, arguments: &Value) -> ObjectCommands {
        find_object_commands(&ToolDescription::named(tool), arguments.as_object().unwrap()).unwrap_or_default()
    }

    /// Returns the lines of the calls that show the objects.
    fn shown_by(line: &str) -> String {
        let line_of = |call: &PreviewCall| call.arguments["command"].as_str().unwrap().to_owned();
        let ObjectCommands { known, unknown, .. } = find("bash", &json!({"command": line}));
        let known = known.iter().map(|command| match command {
            ObjectCommand::DryRunPrints { dry_run, .. } => line_of(dry_run),
            ObjectCommand::ReadPrints { read, change } => format!("{} ⇒ {change:?}", line_of(read)),
            ObjectCommand::Manifests { source, verb, namespace } => {
                let source = match source {
                    ManifestSource::Text(text) => format!("{text:?}"),
                    ManifestSource::Printed(call) => line_of(call),
                };
                format!("{source} ⇒ {verb:?} {namespace:?}")
            }
            ObjectCommand::Exec { namespace, pod, command } => format!("{namespace:?} {pod}: {command}"),
            ObjectCommand::Release(release) => format!("{} ⇒ {:?}", line_of(&release.manifest), release.after),
        });
        let unknown = unknown.iter().map(|text| format!("unknown: {text}"));
        known.chain(unknown).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn lines_that_show_what_a_line_changes() {
        let table = [
            ("kubectl apply -f web.yaml", "kubectl apply --dry-run=server -o yaml -f web.yaml"),
            (
                "kubectl patch deploy web -p '{\"a\":1}'",
                "kubectl patch --dry-run=server -o yaml deploy web -p '{\"a\":1}'",
            ),
            (
                "kubectl set image deploy/web app=web:2 -n shop",
                "kubectl set image --dry-run=server -o yaml deploy/web app=web:2 -n shop",
            ),
            ("kubectl create ns x", "kubectl create ns --dry-run=server -o yaml x"),
            (
                "kubectl rollout undo deploy/web --to-revision=3",
                "kubectl get deploy/web --ignore-not-found -o yaml ⇒ RollBack(Some(3))",
            ),
            ("kubectl rollout undo deploy web", "kubectl get deploy web --ignore-not-found -o yaml ⇒ RollBack(None)"),
            (
                "kubectl rollout restart deploy -n x",
                "kubectl get deploy --namespace=x --ignore-not-found -o yaml ⇒ Restart",
            ),
            ("kubectl cordon n1 n2", "kubectl get nodes n1 n2 --ignore-not-found -o yaml ⇒ Cordon"),
            (
                "kubectl drain n1 --ignore-daemonsets --delete-emptydir-data",
                "kubectl get nodes n1 --ignore-not-found -o yaml ⇒ Drain",
            ),
            ("kubectl apply -f - -n shop <<EOF\na: b\nEOF", "\"a: b\\n\" ⇒ Apply Some(\"shop\")"),
            ("echo 'a: b' | kubectl delete -f -", "\"a: b\" ⇒ Delete None"),
            (
                "kubectl apply --server-side -f - <<EOF\na: b\nEOF",
                "\"a: b\\n\" ⇒ ApplyOnServer { field_manager: \"kubectl\" } None",
            ),
            (
                "kubectl apply --server-side=true --field-manager=ops --force-conflicts -f - <<EOF\na: b\nEOF",
                "\"a: b\\n\" ⇒ ApplyOnServer { field_manager: \"ops\" } None",
            ),
            ("kubectl apply --server-side=false -f - <<EOF\na: b\nEOF", "\"a: b\\n\" ⇒ Apply None"),
            (
                "kubectl create cm x --from-literal=a=b --dry-run=client -o yaml | kubectl apply -f -",
                "kubectl create cm x --from-literal=a=b --dry-run=client -o yaml ⇒ Apply None",
            ),
            (
                "kubectl get deploy web -o yaml | sed 's/web:1/web:2/' | kubectl replace -f -",
                "kubectl get deploy web -o yaml | sed s/web:1/web:2/ ⇒ Replace None",
            ),
            ("cat x.sh | kubectl apply -f -", "unknown: cat x.sh | kubectl apply -f -"),
            (
                "kubectl get deploy -o name | xargs kubectl delete",
                "unknown: kubectl get deploy -o name | xargs kubectl delete",
            ),
            ("kubectl apply --prune -l app=web -f x.yaml", "unknown: kubectl apply --prune -l app=web -f x.yaml"),
            ("kubectl delete deploy", "unknown: kubectl delete deploy"),
            ("kubectl delete pods --all", "kubectl get pods --ignore-not-found -o yaml ⇒ Delete"),
            (
                "kubectl delete deploy web --cascade=orphan",
                "kubectl get deploy web --ignore-not-found -o yaml ⇒ DeleteAlone",
            ),
            (
                "kubectl delete pod a; kubectl scale deploy b --replicas=0",
                "kubectl get pod a --ignore-not-found -o yaml ⇒ Delete; \
                 kubectl get deploy b --ignore-not-found -o yaml ⇒ SetReplicas(0)",
            ),
            ("kubectl cp web-0:/x ./x", "unknown: kubectl cp web-0:/x ./x"),
            (
                "./x.sh && kubectl delete pod a && kubectl apply -f out.yaml",
                "kubectl get pod a --ignore-not-found -o yaml ⇒ Delete; unknown: ./x.sh; unknown: kubectl apply -f out.yaml",
            ),
            ("cd x && kubectl delete pod a", "unknown: cd x; unknown: kubectl delete pod a"),
            (
                "kubectl config use-context b && kubectl delete pod a",
                "unknown: kubectl config use-context b; unknown: kubectl delete pod a",
            ),
            ("patch=x kubectl delete pod a", "unknown: patch=x kubectl delete pod a"),
            (
                "kubectl patch deploy a --subresource=status -p x",
                "unknown: kubectl patch deploy a --subresource=status -p x",
            ),
            (
                "kubectl scale --replicas=0 deploy/web -n shop",
                "kubectl get deploy/web --namespace=shop --ignore-not-found -o yaml ⇒ SetReplicas(0)",
            ),
            (
                "kubectl delete pods -l app=web --context prod --force",
                "kubectl get pods --context=prod --selector=app=web --ignore-not-found -o yaml ⇒ Delete",
            ),
            (
                "kubectl -n shop delete -f x.yaml --wait=false",
                "kubectl get --namespace=shop --filename=x.yaml --ignore-not-found -o yaml ⇒ Delete",
            ),
            ("kubectl rollout restart deploy web", "kubectl get deploy web --ignore-not-found -o yaml ⇒ Restart"),
            ("kubectl exec -n shop web-0 -c app -- rm -rf /data", "Some(\"shop\") web-0: rm -rf /data"),
            ("kubectl get pods", ""),
            ("kubectl apply -f https://example.org/x.yaml", "unknown: kubectl apply -f https://example.org/x.yaml"),
            ("kubectl delete pod a --as=admin", "unknown: kubectl delete pod a --as=admin"),
            ("kubectl patch deploy web -p x -o json", "kubectl patch --dry-run=server -o yaml deploy web -p x"),
            ("rm -rf /", "unknown: rm -rf /"),
        ];
        for (line, expected) in table {
            assert_eq!(shown_by(line), expected, "{line}");
        }
    }

    #[test]
    fn nothing_is_claimed_behind_a_changed_shell() {
        for changed in [
            "for KUBECONFIG in /x; do :; done",
            "printf -v KUBECONFIG %s /x",
            "command printf -v KUBECONFIG %s /x",
            "read KUBECONFIG <<< /x",
            "echo /x | read KUBECONFIG",
            "if true; then export KUBECONFIG=/x; fi",
            "kubectl() { echo; }",
            "if true; then aws() { export KUBECONFIG=/x; }; fi",
            "time cd x",
            "builtin cd x",
            "echo $(kubectl delete ns prod)",
        ] {
            let line = format!("{changed}; kubectl delete pod a");
            assert_eq!(shown_by(&line), format!("unknown: {changed}; unknown: kubectl delete pod a"));
        }
    }

    #[test]
    fn alternatives_are_noticed() {
        for (line, expected) in [
            ("kubectl get ns x || kubectl create ns x", true),
            ("kubectl delete pod a || true", false),
            ("kubectl delete pod a || echo 'no || pod'", false),
            ("kubectl annotate pod a note='x || y'", false),
            ("kubectl delete pod a && kubectl delete pod b", false),
        ] {
            assert_eq!(find("bash", &json!({"command": line})).has_alternatives, expected, "{line}");
        }
    }

    #[test]
    fn typed_creation_has_a_dry_run() {
        let create = |arguments: Value| find("kubectl_create", &arguments).known;
        let arguments = json!({"resourceType": "deployment", "name": "web", "image": "web:1"});
        let [ObjectCommand::DryRunPrints { dry_run, .. }] = &create(arguments)[..] else { panic!() };
        assert_eq!((&dry_run.arguments["dryRun"], &dry_run.arguments["output"]), (&json!(true), &json!("yaml")));
        assert_eq!(create(json!({"resourceType": "configmap", "name": "x", "fromFile": ["/etc/passwd"]})), []);
    }

    #[test]
    fn objects_are_read_by_the_same_tool() {
        let read = |tool: &str, arguments: Value, words: &[&str]| {
            build_kubectl_read(&ToolDescription::named(tool), arguments.as_object().unwrap(), words)
                .map(|call| Value::Object(call.arguments))
        };
        let words = ["get", "deployment.apps", "web", "-n", "shop", "-o", "yaml"];
        assert_eq!(
            read("bash", json!({"command": "kubectl --context=prod apply -f x"}), &words),
            Some(json!({"command": "kubectl get deployment.apps web -n shop -o yaml --context=prod"}))
        );
        assert_eq!(
            read("kubectl", json!({"args": ["apply", "-f", "x"]}), &words),
            Some(json!({"args": ["get", "deployment.apps", "web", "-n", "shop", "-o", "yaml"]}))
        );
        assert_eq!(read("bash", json!({"command": "kubectl apply -f x"}), &["delete", "pod", "a"]), None);
        assert_eq!(
            read("kubectl_generic", json!({"command": "apply", "args": ["-f", "x"], "context": "prod"}), &words),
            Some(
                json!({"command": "get", "args": ["deployment.apps", "web", "-n", "shop", "-o", "yaml", "--context=prod"]})
            )
        );
        let several = "kubectl delete pod a --context=a; kubectl delete pod a --context=b";
        assert_eq!(read("bash", json!({"command": several}), &words), None);
    }
}
