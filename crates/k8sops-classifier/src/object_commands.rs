//! The objects that a command line changes: how they are read, and how they would be, by other lines of the same tool.

use serde_json::{Map, Value};

use crate::{
    classification::ServerReach,
    command_arguments::{CommandLine, find_command_line},
    command_tools::find_command_tool,
    flag_parser::{FlagTable, ParsedArguments, parse_arguments},
    helm::find_helm_verb,
    kubectl::{self, find_kubectl_verb},
    preview::{PreviewCall, has_output_flag, rewrite_command},
    program::KnownProgram,
    server_tools::is_server_tool,
    shell_command::parse_single_command,
    shell_word::ShellWord,
    tool_calls::classify_reach_apart,
    tool_description::ToolDescription,
};

/// What a command line does to objects. The calls in it only read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectCommand {
    /// A server-side dry run of the line prints the objects as they would be, as YAML.
    DryRunPrints {
        /// The dry run.
        dry_run: PreviewCall,
        /// What the line does: `apply`, `patch`, `set image`.
        verb: String,
    },
    /// Another line prints the objects that this one names, as they are, as YAML.
    ReadPrints {
        /// The line that reads.
        read: PreviewCall,
        /// What happens to each of the objects.
        change: ObjectCommandChange,
    },
    /// A program runs in a container.
    Exec {
        /// The namespace, if the line names it.
        namespace: Option<String>,
        /// The pod, or what selects one: `deploy/web`.
        pod: String,
        /// The program with its arguments.
        command: String,
    },
    /// A Helm release changes.
    Release(ReleaseCommand),
}

/// What a command line does to each of the objects that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectCommandChange {
    /// They are deleted.
    Delete,
    /// They get this number of replicas.
    SetReplicas(i64),
    /// Their pods are replaced.
    Restart,
}

/// A change of a Helm release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseCommand {
    /// `install`, `upgrade`, `rollback` or `uninstall`.
    pub verb: String,
    /// Name of the release.
    pub release: String,
    /// The namespace, if the line names it.
    pub namespace: Option<String>,
    /// Prints the manifests of the release as it is.
    pub manifest: PreviewCall,
    /// Prints the values of the release as it is.
    pub values: PreviewCall,
    /// Prints the release as it would be: as JSON for `install` and `upgrade`, its manifests for `rollback`. `None` if the
    /// release is removed, or if it is not known.
    pub after: Option<PreviewCall>,
}

/// Verbs of kubectl whose server-side dry run prints the objects as they would be.
const PRINTING_VERBS: &[&str] =
    &["apply", "patch", "replace", "label", "annotate", "taint", "autoscale", "expose", "run", "rollout undo"];
const DELETE_FLAGS: FlagTable = &[
    kubectl::FILE_FLAGS,
    "l,selector= A,all-namespaces field-selector= chunk-size= all cascade? force grace-period= ignore-not-found now \
     o,output= timeout= wait",
];
const SCALE_FLAGS: FlagTable =
    &[kubectl::FILE_FLAGS, "all current-replicas= replicas= resource-version= l,selector= timeout= o,output="];
const RESTART_FLAGS: FlagTable = &[kubectl::FILE_FLAGS, "l,selector= field-manager= o,output="];
const EXEC_FLAGS: FlagTable = &["c,container= i,stdin t,tty q,quiet"];

/// Returns what a command line does to objects, if it is a single command of kubectl or helm; `None` if that is not known.
///
/// ```
/// use k8sops_classifier::{ObjectCommand, ToolDescription, find_object_command};
/// use serde_json::json;
///
/// let arguments = json!({"command": "kubectl delete deploy web -n shop --force"});
/// let command = find_object_command(&ToolDescription::named("bash"), arguments.as_object().unwrap());
/// let Some(ObjectCommand::ReadPrints { read, .. }) = command else { panic!() };
/// assert_eq!(read.arguments["command"], "kubectl get deploy web --namespace=shop -o yaml");
/// ```
#[must_use]
pub fn find_object_command(tool: &ToolDescription<'_>, arguments: &Map<String, Value>) -> Option<ObjectCommand> {
    let command = SingleCommand::find(tool, arguments)?;
    match command.program {
        KnownProgram::Kubectl => command.kubectl(tool, arguments),
        KnownProgram::Helm => command.helm(tool, arguments),
        KnownProgram::Argocd => None,
    }
}

/// Returns the call of the same tool that runs `kubectl` with these words, for the same cluster; `None` if the tool does not
/// run kubectl, or if it is not certain that the words only read.
#[must_use]
pub fn build_kubectl_read(
    tool: &ToolDescription<'_>,
    arguments: &Map<String, Value>,
    words: &[&str],
) -> Option<PreviewCall> {
    let command = SingleCommand::find(tool, arguments)?;
    if command.program != KnownProgram::Kubectl {
        return None;
    }
    let verb = find_kubectl_verb(command.words()).ok()?;
    let cluster = context_flags(&verb.other_words);
    let words = words.iter().map(|word| (*word).to_owned()).chain(cluster);
    command.rewrite(tool, arguments, &words.collect::<Vec<_>>())
}

/// A tool call whose line is one command.
struct SingleCommand {
    program: KnownProgram,
    /// The words of the line, with the name of the program if the line has it.
    line: Vec<ShellWord>,
    /// Number of words that name the program: 0 or 1.
    start: usize,
}

impl SingleCommand {
    fn find(tool: &ToolDescription<'_>, arguments: &Map<String, Value>) -> Option<Self> {
        let command_tool = find_command_tool(tool).filter(|_| !is_server_tool(tool.name))?;
        let line: Vec<ShellWord> = match find_command_line(arguments)? {
            CommandLine::SplitLine { .. } => return None,
            CommandLine::Line { line, .. } => parse_single_command(line)?,
            CommandLine::Words { first, rest, .. } => {
                first.into_iter().chain(rest).map(ShellWord::from_argument).collect()
            }
        };
        let named = KnownProgram::from_command_name(&line.first()?.text);
        let program = named.or(command_tool.implied_program)?;
        Some(Self { program, line, start: usize::from(named.is_some()) })
    }

    fn words(&self) -> &[ShellWord] {
        self.line.get(self.start..).unwrap_or_default()
    }

    /// Returns the call with other words behind the program, if it only reads.
    fn rewrite(
        &self,
        tool: &ToolDescription<'_>,
        arguments: &Map<String, Value>,
        words: &[String],
    ) -> Option<PreviewCall> {
        let call = rewrite_command(tool.name, arguments, |line, _| {
            line.truncate(self.start);
            line.extend(words.iter().map(|word| ShellWord::from_argument(word)));
            Some(())
        })?;
        // A dry run or a diff of files reads the files that the call itself would read.
        classify_reach_apart(tool, &call.arguments)?.is_read_within(ServerReach::Manifests).then_some(call)
    }

    fn kubectl(&self, tool: &ToolDescription<'_>, arguments: &Map<String, Value>) -> Option<ObjectCommand> {
        let verb = find_kubectl_verb(self.words()).ok()?;
        let parse =
            |flags: FlagTable| parse_arguments(verb.other_words.iter().copied(), &[kubectl::GLOBAL_FLAGS, flags]).ok();
        let read = |parsed: &ParsedArguments<'_>, change| {
            let mut words = vec!["get".to_owned()];
            words.extend(parsed.operands.iter().map(|word| word.text.clone()));
            words.extend(object_flags(parsed));
            words.extend(["-o".to_owned(), "yaml".to_owned()]);
            Some(ObjectCommand::ReadPrints { read: self.rewrite(tool, arguments, &words)?, change })
        };
        match verb.path.as_str() {
            "delete" => read(&parse(DELETE_FLAGS)?, ObjectCommandChange::Delete),
            "scale" => {
                let parsed = parse(SCALE_FLAGS)?;
                let replicas = parsed.flag_values("replicas").last()?.parse().ok()?;
                read(&parsed, ObjectCommandChange::SetReplicas(replicas))
            }
            "rollout restart" => read(&parse(RESTART_FLAGS)?, ObjectCommandChange::Restart),
            "exec" => {
                let separator = verb.other_words.iter().position(|word| word.text == "--")?;
                let (before, program) = verb.other_words.split_at_checked(separator)?;
                let parsed = parse_arguments(before.iter().copied(), &[kubectl::GLOBAL_FLAGS, EXEC_FLAGS]).ok()?;
                let [pod] = parsed.operands.as_slice() else { return None };
                let words: Vec<&str> = program.iter().skip(1).map(|word| word.text.as_str()).collect();
                Some(ObjectCommand::Exec {
                    namespace: parsed.flag_values("namespace").last().map(str::to_owned),
                    pod: pod.text.clone(),
                    command: words.join(" "),
                })
            }
            path => {
                let group = path.split(' ').next().unwrap_or_default();
                let prints = PRINTING_VERBS.contains(&path) || matches!(group, "create" | "set");
                if !prints || has_output_flag(&verb.other_words) {
                    return None;
                }
                let end = verb.end;
                let mut words: Vec<String> = self.words().iter().map(|word| word.text.clone()).collect();
                words.splice(end..end, ["--dry-run=server", "-o", "yaml"].map(str::to_owned));
                let dry_run = self.rewrite(tool, arguments, &words)?;
                Some(ObjectCommand::DryRunPrints { dry_run, verb: verb.path.clone() })
            }
        }
    }

    fn helm(&self, tool: &ToolDescription<'_>, arguments: &Map<String, Value>) -> Option<ObjectCommand> {
        let verb = find_helm_verb(self.words()).ok()?;
        let words: Vec<String> = self.words().iter().map(|word| word.text.clone()).collect();
        let behind = words.get(verb.end..)?;
        // The first words behind the verb are the release, the chart and the revision, unless flags stand before them.
        let release = behind.first().filter(|word| !word.starts_with('-'))?.clone();
        let namespace = find_value(&words, &["-n", "--namespace"]);
        let context = find_value(&words, &["--kube-context"]);
        let place: Vec<String> = [("--namespace", &namespace), ("--kube-context", &context)]
            .iter()
            .filter_map(|(flag, value)| value.as_ref().map(|value| format!("{flag}={value}")))
            .collect();
        let get = |what: &str, more: &[String]| {
            let words = ["get", what, &release].map(str::to_owned);
            let words: Vec<String> = words.into_iter().chain(more.iter().cloned()).chain(place.clone()).collect();
            self.rewrite(tool, arguments, &words)
        };
        let after = match verb.path.as_str() {
            "install" | "upgrade" if !has_output_flag(&verb.other_words) => {
                let mut words = words.clone();
                words.splice(verb.end..verb.end, ["--dry-run=server", "-o", "json"].map(str::to_owned));
                Some(self.rewrite(tool, arguments, &words)?)
            }
            "rollback" => match behind.get(1).filter(|word| word.parse().is_ok_and(|revision: u32| revision > 0)) {
                Some(revision) => Some(get("manifest", &[format!("--revision={revision}")])?),
                None => return None,
            },
            "uninstall" => None,
            _ => return None,
        };
        Some(ObjectCommand::Release(ReleaseCommand {
            manifest: get("manifest", &[])?,
            values: get("values", &["-o".to_owned(), "json".to_owned()])?,
            verb: verb.path,
            release,
            namespace,
            after,
        }))
    }
}

/// Returns the flags by which kubectl chooses a cluster.
fn context_flags(words: &[&ShellWord]) -> Vec<String> {
    let texts: Vec<String> = words.iter().map(|word| word.text.clone()).collect();
    find_value(&texts, &["--context"]).map(|context| format!("--context={context}")).into_iter().collect()
}

/// Returns the flags by which kubectl chooses objects.
fn object_flags(parsed: &ParsedArguments<'_>) -> Vec<String> {
    let mut flags = Vec::new();
    for name in ["namespace", "context", "filename", "kustomize", "selector", "field-selector"] {
        flags.extend(parsed.flag_values(name).map(|value| format!("--{name}={value}")));
    }
    for name in ["all-namespaces", "recursive", "ignore-not-found"] {
        flags.extend(parsed.has_flag(name).then(|| format!("--{name}")));
    }
    flags
}

/// Returns the value of a flag that is given as `--flag value` or `--flag=value`.
fn find_value(words: &[String], names: &[&str]) -> Option<String> {
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        if names.contains(&word.as_str()) {
            return words.next().cloned();
        }
        let inline = word.split_once('=').filter(|(name, _)| names.contains(name));
        if let Some((_, value)) = inline {
            return Some(value.to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn find(tool: &str, arguments: &Value) -> Option<ObjectCommand> {
        find_object_command(&ToolDescription::named(tool), arguments.as_object().unwrap())
    }

    /// Returns the line of the call that shows the objects.
    fn shown_by(line: &str) -> String {
        let line_of = |call: &PreviewCall| call.arguments["command"].as_str().unwrap().to_owned();
        match find("bash", &json!({"command": line})) {
            Some(ObjectCommand::DryRunPrints { dry_run, .. }) => line_of(&dry_run),
            Some(ObjectCommand::ReadPrints { read, change }) => format!("{} ⇒ {change:?}", line_of(&read)),
            Some(ObjectCommand::Exec { namespace, pod, command }) => format!("{namespace:?} {pod}: {command}"),
            Some(ObjectCommand::Release(release)) => {
                let after = release.after.as_ref().map_or_else(|| "nothing".to_owned(), line_of);
                format!("{} ⇒ {after}", line_of(&release.manifest))
            }
            None => "unknown".to_owned(),
        }
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
            ("kubectl rollout undo deploy/web", "kubectl rollout undo --dry-run=server -o yaml deploy/web"),
            (
                "kubectl scale --replicas=0 deploy/web -n shop",
                "kubectl get deploy/web --namespace=shop -o yaml ⇒ SetReplicas(0)",
            ),
            (
                "kubectl delete pods -l app=web --context prod --force",
                "kubectl get pods --context=prod --selector=app=web -o yaml ⇒ Delete",
            ),
            (
                "kubectl -n shop delete -f x.yaml --wait=false",
                "kubectl get --namespace=shop --filename=x.yaml -o yaml ⇒ Delete",
            ),
            ("kubectl rollout restart deploy web", "kubectl get deploy web -o yaml ⇒ Restart"),
            ("kubectl exec -n shop web-0 -c app -- rm -rf /data", "Some(\"shop\") web-0: rm -rf /data"),
            (
                "helm upgrade web ./chart -n shop --set a=b",
                "helm get manifest web --namespace=shop ⇒ helm upgrade --dry-run=server -o json web ./chart -n shop --set a=b",
            ),
            ("helm rollback web 3", "helm get manifest web ⇒ helm get manifest web --revision=3"),
            ("helm uninstall web -n shop", "helm get manifest web --namespace=shop ⇒ nothing"),
            ("kubectl get pods", "unknown"),
            ("kubectl delete pod a; kubectl delete pod b", "unknown"),
            ("kubectl apply -f https://example.org/x.yaml", "unknown"),
            ("kubectl delete pod a --as=admin", "unknown"),
            ("kubectl patch deploy web -p x -o json", "unknown"),
            ("rm -rf /", "unknown"),
        ];
        for (line, expected) in table {
            assert_eq!(shown_by(line), expected, "{line}");
        }
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
        assert_eq!(read("bash", json!({"command": "helm upgrade a b"}), &words), None);
    }
}
