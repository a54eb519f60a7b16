//! The objects that a command of kubectl changes.

use crate::{
    changing_parts::{CommandInput, LineCommand},
    command_call::CommandCall,
    flag_parser::{FlagTable, ParsedArguments, parse_arguments},
    kubectl::{self, find_kubectl_verb},
    object_command::{ManifestSource, ManifestVerb, ObjectCommand, ObjectCommandChange},
    program::KnownProgram,
    shell_word::ShellWord,
};

/// Verbs of kubectl whose server-side dry run prints the objects as they would be. `rollout undo` prints them as they are.
const PRINTING_VERBS: &[&str] =
    &["apply", "patch", "replace", "label", "annotate", "taint", "autoscale", "expose", "run"];
const DELETE_FLAGS: FlagTable = &[
    kubectl::FILE_FLAGS,
    "l,selector= A,all-namespaces field-selector= chunk-size= all cascade? force grace-period= ignore-not-found now \
     o,output= timeout= wait",
];
const SCALE_FLAGS: FlagTable =
    &[kubectl::FILE_FLAGS, "all current-replicas= replicas= resource-version= l,selector= timeout= o,output="];
const ROLLOUT_FLAGS: FlagTable = &[kubectl::FILE_FLAGS, "l,selector= field-manager= o,output= to-revision="];
/// The manager of a server-side apply of kubectl.
const DEFAULT_FIELD_MANAGER: &str = "kubectl";
const EXEC_FLAGS: FlagTable = &["c,container= i,stdin t,tty q,quiet"];
const NODE_FLAGS: FlagTable =
    &["l,selector= chunk-size= delete-emptydir-data delete-local-data disable-eviction force grace-period= \
     ignore-daemonsets pod-selector= skip-wait-for-delete-timeout= timeout="];
const MANIFEST_FLAGS: FlagTable = &[
    kubectl::FILE_FLAGS,
    "all cascade? field-manager= force force-conflicts grace-period= ignore-not-found now openapi-patch overwrite \
     o,output= save-config server-side timeout= validate? wait",
];

/// Returns what a command of kubectl does to objects; `None` if that is not known.
pub(crate) fn find_kubectl_command(call: &CommandCall<'_>, command: &LineCommand) -> Option<ObjectCommand> {
    let LineCommand { words, input, .. } = command;
    let verb = find_kubectl_verb(words).ok()?;
    let parse =
        |flags: FlagTable| parse_arguments(verb.other_words.iter().copied(), &[kubectl::GLOBAL_FLAGS, flags]).ok();
    if let Some(parsed) = parse(MANIFEST_FLAGS)
        && let Some(manifest_verb) = find_manifest_verb(&verb.path, &parsed)
        && reads_input(&parsed)
    {
        let source = match input {
            CommandInput::Text(text) => ManifestSource::Text(text.clone()),
            CommandInput::Printed(commands) => ManifestSource::Printed(call.build_pipe(commands)?),
            CommandInput::Nothing | CommandInput::Unknown => return None,
        };
        let namespace = parsed.flag_values("namespace").last().map(str::to_owned);
        return Some(ObjectCommand::Manifests { source, verb: manifest_verb, namespace });
    }
    let read = |parsed: &ParsedArguments<'_>, resource: Option<&str>, change| {
        // The commands of a rollout take a kind alone for all objects of it.
        if !verb.path.starts_with("rollout ") && !chooses_objects(parsed, resource) {
            return None;
        }
        let mut words: Vec<String> = ["get"].into_iter().chain(resource).map(str::to_owned).collect();
        words.extend(parsed.operands.iter().map(|word| word.text.clone()));
        words.extend(object_flags(parsed));
        words.extend(["--ignore-not-found", "-o", "yaml"].map(str::to_owned));
        Some(ObjectCommand::ReadPrints { read: call.build_read(KnownProgram::Kubectl, &words)?, change })
    };
    let rollout = |change| read(&parse(ROLLOUT_FLAGS)?, None, change);
    let nodes = |change| read(&parse(NODE_FLAGS)?, Some("nodes"), change);
    match verb.path.as_str() {
        "delete" => {
            let parsed = parse(DELETE_FLAGS)?;
            let is_alone = parsed.flag_values("cascade").any(|cascade| matches!(cascade, "orphan" | "false"));
            let change = if is_alone { ObjectCommandChange::DeleteAlone } else { ObjectCommandChange::Delete };
            read(&parsed, None, change)
        }
        "scale" => {
            let parsed = parse(SCALE_FLAGS)?;
            let replicas = parsed.flag_values("replicas").last()?.parse().ok()?;
            read(&parsed, None, ObjectCommandChange::SetReplicas(replicas))
        }
        "rollout restart" => rollout(ObjectCommandChange::Restart),
        "rollout pause" => rollout(ObjectCommandChange::Pause),
        "rollout resume" => rollout(ObjectCommandChange::Resume),
        "rollout undo" => {
            let parsed = parse(ROLLOUT_FLAGS)?;
            let revision = match parsed.flag_values("to-revision").last() {
                // Revision 0 is the one before the current.
                Some(revision) => Some(revision.parse().ok()?).filter(|revision| *revision != 0),
                None => None,
            };
            read(&parsed, None, ObjectCommandChange::RollBack(revision))
        }
        "cordon" => nodes(ObjectCommandChange::Cordon),
        "uncordon" => nodes(ObjectCommandChange::Uncordon),
        "drain" => nodes(ObjectCommandChange::Drain),
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
            // Among the objects that are printed, those that `--prune` deletes are not marked; and a diff shows no status.
            let hides_changes =
                words.iter().any(|word| word.text.starts_with("--prune") || word.text.starts_with("--subresource"));
            if !prints || hides_changes || *input != CommandInput::Nothing {
                return None;
            }
            let (verb_words, behind) = words.split_at_checked(verb.end)?;
            let mut words: Vec<String> = verb_words.iter().map(|word| word.text.clone()).collect();
            words.extend(["--dry-run=server", "-o", "yaml"].map(str::to_owned));
            words.extend(without_output_flag(behind));
            let dry_run = call.build_read(KnownProgram::Kubectl, &words)?;
            Some(ObjectCommand::DryRunPrints { dry_run, verb: verb.path.clone() })
        }
    }
}

fn find_manifest_verb(path: &str, parsed: &ParsedArguments<'_>) -> Option<ManifestVerb> {
    let is_on_server =
        parsed.has_flag("server-side") && parsed.flag_values("server-side").last().is_none_or(|value| value != "false");
    Some(match path {
        "apply" if is_on_server => {
            let field_manager = parsed.flag_values("field-manager").last().unwrap_or(DEFAULT_FIELD_MANAGER).to_owned();
            ManifestVerb::ApplyOnServer { field_manager }
        }
        "apply" => ManifestVerb::Apply,
        "create" => ManifestVerb::Create,
        "replace" => ManifestVerb::Replace,
        "delete" => ManifestVerb::Delete,
        _ => return None,
    })
}

/// Whether the only manifests are those of the standard input.
fn reads_input(parsed: &ParsedArguments<'_>) -> bool {
    let mut files = parsed.flag_values("filename").peekable();
    files.peek().is_some()
        && files.all(|file| matches!(file, "-" | "/dev/stdin"))
        && parsed.operands.is_empty()
        && !parsed.has_flag("kustomize")
}

/// Whether the words choose objects. kubectl rejects a kind without names and selectors, and would list all objects of it.
fn chooses_objects(parsed: &ParsedArguments<'_>, resource: Option<&str>) -> bool {
    let has_names = match (parsed.operands.as_slice(), resource) {
        ([], _) => false,
        (_, Some(_)) => true,
        (operands, None) => operands.len() > 1 || operands.iter().any(|word| word.text.contains('/')),
    };
    let choosing = ["selector", "field-selector", "all", "filename", "kustomize"];
    has_names || choosing.iter().any(|flag| parsed.has_flag(flag))
}

/// Returns the flags by which kubectl chooses objects.
fn object_flags(parsed: &ParsedArguments<'_>) -> Vec<String> {
    let mut flags = Vec::new();
    for name in ["namespace", "context", "filename", "kustomize", "selector", "field-selector"] {
        flags.extend(parsed.flag_values(name).map(|value| format!("--{name}={value}")));
    }
    for name in ["all-namespaces", "recursive"] {
        flags.extend(parsed.has_flag(name).then(|| format!("--{name}")));
    }
    flags
}

/// Returns the context that a command of kubectl names.
pub(crate) fn find_context(words: &[ShellWord]) -> Option<String> {
    let verb = find_kubectl_verb(words).ok()?;
    let mut words = verb.other_words.iter().map(|word| word.text.as_str()).take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        if word == "--context" {
            return words.next().map(str::to_owned);
        }
        if let Some(context) = word.strip_prefix("--context=") {
            return Some(context.to_owned());
        }
    }
    None
}

/// Returns words without the flag that chooses the format of the output.
fn without_output_flag(words: &[ShellWord]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = words.iter().map(|word| word.text.as_str());
    while let Some(word) = words.next() {
        match word {
            "-o" | "--output" => _ = words.next(),
            "--" => {
                kept.push(word.to_owned());
                kept.extend(words.by_ref().map(str::to_owned));
            }
            _ if word.starts_with("-o") || word.starts_with("--output=") => {}
            _ => kept.push(word.to_owned()),
        }
    }
    kept
}
