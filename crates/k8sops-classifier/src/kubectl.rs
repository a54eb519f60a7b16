//! Verbs and flags of kubectl, after the help of kubectl 1.37.

use crate::{
    ambiguity::has_ambiguous_flags,
    classification::{Classification, CommandClass, SensitiveOutput, ServerReach},
    flag_parser::{FlagTable, ParsedArguments, ParsedVerb, find_verb, parse_arguments, printable},
    remote_source::is_remote_source,
    sensitive_output::{kubectl_output, sensitivity_of_words},
    server_files::{FileUse, reach_of_file},
    server_state::command_changes_server_state,
    shell_word::ShellWord,
};

/// FlagTable of every verb that only choose where to look.
pub(crate) const GLOBAL_FLAGS: FlagTable = &[
    "n,namespace= context= request-timeout= v= vmodule= match-server-version disable-compression warnings-as-errors \
     log-flush-frequency=",
];
const PRINT: &str = "o,output= template= show-managed-fields allow-missing-template-keys no-headers";
pub(crate) const FILE_FLAGS: &str = "f,filename= k,kustomize= R,recursive";
const SELECT: &str = "l,selector= A,all-namespaces field-selector= chunk-size=";

/// Verbs that only read, with their harmless flags.
const READ_VERBS: &[(&str, FlagTable)] = &[
    (
        "get",
        &[
            PRINT,
            FILE_FLAGS,
            SELECT,
            "ignore-not-found L,label-columns= output-watch-events raw= server-print show-kind show-labels sort-by= \
             subresource= w,watch watch-only",
        ],
    ),
    ("describe", &[FILE_FLAGS, SELECT, "show-events"]),
    (
        "logs",
        &["all-containers all-pods c,container= f,follow ignore-errors limit-bytes= max-log-requests= \
           pod-running-timeout= prefix p,previous l,selector= since= since-time= tail= timestamps"],
    ),
    ("events", &[PRINT, "A,all-namespaces chunk-size= for= types= w,watch"]),
    ("top", &[]),
    ("top pod", TOP),
    ("top pods", TOP),
    ("top po", TOP),
    ("top node", TOP),
    ("top nodes", TOP),
    ("top no", TOP),
    ("explain", &["api-version= max-depth= o,output= recursive R"]),
    ("api-resources", &[PRINT, "api-group= cached categories= namespaced sort-by= verbs="]),
    ("api-versions", &[]),
    ("version", &["client o,output= short"]),
    ("cluster-info", &[]),
    ("cluster-info dump", &[PRINT, "A,all-namespaces namespaces= pod-running-timeout="]),
    ("auth can-i", &["A,all-namespaces list no-headers q,quiet subresource="]),
    ("auth whoami", &[PRINT]),
    (
        "diff",
        &[
            FILE_FLAGS,
            "concurrency= field-manager= force-conflicts prune prune-allowlist= l,selector= server-side \
                  show-managed-fields show-secrets",
        ],
    ),
    ("wait", &[PRINT, SELECT, "f,filename= R,recursive all for= local timeout="]),
    ("rollout status", &[FILE_FLAGS, "revision= l,selector= timeout= w,watch"]),
    ("rollout history", &[PRINT, FILE_FLAGS, "revision= l,selector="]),
    ("config view", &[PRINT, "flatten merge minify raw"]),
    ("config get-contexts", &["no-headers o,output="]),
    ("config current-context", &[]),
    ("config get-clusters", &[]),
    ("config get-users", &[]),
    ("kuberc view", &[PRINT]),
    ("kustomize", &[]),
    ("plugin list", &["name-only"]),
    ("apply view-last-applied", &[FILE_FLAGS, "all o,output= l,selector="]),
    ("completion", &[]),
    ("options", &[]),
    ("help", &[]),
];
const TOP: FlagTable = &[SELECT, "containers no-headers show-swap show-capacity sort-by= sum use-protocol-buffers"];

/// Verbs that change something, unless every `--dry-run` says that they must not. FlagTable that start an editor or attach to a
/// container are not among theirs, and neither is `--raw`, which ignores `--dry-run`.
const DRY_RUN_VERBS: &[(&str, FlagTable)] = &[
    (
        "apply",
        &[
            PRINT,
            FILE_FLAGS,
            DRY_RUN,
            "all cascade? force force-conflicts grace-period= openapi-patch overwrite prune \
                              prune-allowlist= l,selector= server-side subresource= timeout= validate? wait",
        ],
    ),
    ("create", &[PRINT, FILE_FLAGS, DRY_RUN, "save-config l,selector= validate?"]),
    ("create clusterrole", &[PRINT, DRY_RUN, CREATE, RULES]),
    ("create clusterrolebinding", &[PRINT, DRY_RUN, CREATE, BINDINGS]),
    ("create configmap", &[PRINT, DRY_RUN, CREATE, LITERALS]),
    ("create cm", &[PRINT, DRY_RUN, CREATE, LITERALS]),
    ("create cronjob", &[PRINT, DRY_RUN, CREATE, "image= restart= schedule="]),
    ("create cj", &[PRINT, DRY_RUN, CREATE, "image= restart= schedule="]),
    ("create deployment", &[PRINT, DRY_RUN, CREATE, "image= port= r,replicas="]),
    ("create deploy", &[PRINT, DRY_RUN, CREATE, "image= port= r,replicas="]),
    ("create ingress", &[PRINT, DRY_RUN, CREATE, "annotation= class= default-backend= rule="]),
    ("create job", &[PRINT, DRY_RUN, CREATE, "from= image="]),
    ("create namespace", &[PRINT, DRY_RUN, CREATE]),
    ("create ns", &[PRINT, DRY_RUN, CREATE]),
    ("create poddisruptionbudget", &[PRINT, DRY_RUN, CREATE, "max-unavailable= min-available= selector="]),
    ("create priorityclass", &[PRINT, DRY_RUN, CREATE, "description= global-default preemption-policy= value="]),
    ("create quota", &[PRINT, DRY_RUN, CREATE, "hard= scopes="]),
    ("create role", &[PRINT, DRY_RUN, CREATE, RULES]),
    ("create rolebinding", &[PRINT, DRY_RUN, CREATE, BINDINGS]),
    ("create secret", &[PRINT, DRY_RUN, CREATE, LITERALS, "type= cert= key= docker-email="]),
    ("create service", &[PRINT, DRY_RUN, CREATE, "tcp= clusterip= external-name= node-port="]),
    ("create serviceaccount", &[PRINT, DRY_RUN, CREATE]),
    ("create sa", &[PRINT, DRY_RUN, CREATE]),
    (
        "delete",
        &[FILE_FLAGS, SELECT, DRY_RUN, "all cascade? force grace-period= ignore-not-found now o,output= timeout= wait"],
    ),
    ("patch", &[PRINT, FILE_FLAGS, DRY_RUN, "local p,patch= patch-file= subresource= type="]),
    (
        "replace",
        &[PRINT, FILE_FLAGS, DRY_RUN, "cascade? grace-period= save-config subresource= timeout= validate? wait"],
    ),
    ("scale", &[PRINT, FILE_FLAGS, DRY_RUN, "all current-replicas= replicas= resource-version= l,selector= timeout="]),
    ("autoscale", &[PRINT, FILE_FLAGS, DRY_RUN, "cpu= cpu-percent= memory= max= min= name= save-config"]),
    ("label", &[PRINT, FILE_FLAGS, SELECT, DRY_RUN, "all list local overwrite resource-version="]),
    ("annotate", &[PRINT, FILE_FLAGS, SELECT, DRY_RUN, "all list local overwrite resource-version="]),
    ("taint", &[PRINT, DRY_RUN, "all overwrite l,selector= validate?"]),
    ("cordon", &[DRY_RUN, "l,selector="]),
    ("uncordon", &[DRY_RUN, "l,selector="]),
    (
        "drain",
        &[
            DRY_RUN,
            "chunk-size= delete-emptydir-data disable-eviction force grace-period= ignore-daemonsets pod-selector= \
                l,selector= skip-wait-for-delete-timeout= timeout=",
        ],
    ),
    (
        "expose",
        &[
            PRINT,
            FILE_FLAGS,
            DRY_RUN,
            "cluster-ip= external-ip= l,labels= load-balancer-ip= name= override-type= overrides= \
                              port= protocol= save-config selector= session-affinity= target-port= type=",
        ],
    ),
    (
        "run",
        &[
            PRINT,
            DRY_RUN,
            "annotations= command env= image= image-pull-policy= l,labels= override-type= overrides= port= \
                       privileged restart= save-config",
        ],
    ),
    ("set image", &[PRINT, FILE_FLAGS, DRY_RUN, "all local l,selector="]),
    ("set resources", &[PRINT, FILE_FLAGS, DRY_RUN, "all local l,selector= c,containers= limits= requests="]),
    (
        "set env",
        &[PRINT, FILE_FLAGS, DRY_RUN, "all local l,selector= c,containers= e,env= from= keys= overwrite prefix="],
    ),
    ("set selector", &[PRINT, FILE_FLAGS, DRY_RUN, "all local resource-version="]),
    ("set serviceaccount", &[PRINT, FILE_FLAGS, DRY_RUN, "all local"]),
    ("set sa", &[PRINT, FILE_FLAGS, DRY_RUN, "all local"]),
    ("set subject", &[PRINT, FILE_FLAGS, DRY_RUN, "all local l,selector= group= serviceaccount= user="]),
    ("rollout undo", &[PRINT, FILE_FLAGS, DRY_RUN, "l,selector= to-revision="]),
    ("auth reconcile", &[PRINT, FILE_FLAGS, DRY_RUN, "remove-extra-permissions remove-extra-subjects"]),
];
const DRY_RUN: &str = "dry-run? field-manager=";
const CREATE: &str = "save-config validate?";
const RULES: &str = "aggregation-rule= non-resource-url= resource= resource-name= verb=";
const BINDINGS: &str = "clusterrole= role= group= serviceaccount=";
const LITERALS: &str = "append-hash from-env-file= from-file= from-literal=";

/// What the other verbs do. A verb that is in no table is unknown.
const WRITE_VERBS: &[(&str, &str)] = &[
    ("alpha", "is not a known verb"),
    ("attach", "attaches to a running container"),
    ("certificate", "approves or denies a certificate"),
    ("config", "changes the kubeconfig"),
    ("cp", "copies files into or out of a container"),
    ("create token", "creates a credential"),
    ("debug", "starts a debugging container"),
    ("edit", "changes objects in an editor"),
    ("exec", "runs a program in a container"),
    ("kuberc", "changes kubectl's settings"),
    ("port-forward", "opens a port to a pod"),
    ("proxy", "opens the API server to other clients"),
    ("rollout restart", "restarts pods"),
    ("run", "starts a pod"),
    ("drain", "evicts the pods of a node"),
    ("delete", "deletes objects"),
];

/// Verbs that have subcommands.
const VERB_GROUPS: &[&str] = &[
    "alpha",
    "apply",
    "auth",
    "certificate",
    "cluster-info",
    "config",
    "create",
    "kuberc",
    "plugin",
    "rollout",
    "set",
    "top",
];

/// Paths of the kubelet, below a node's `proxy`, that only read.
const KUBELET_READ_PATHS: &[&str] = &[
    "metrics",
    "metrics/cadvisor",
    "metrics/resource",
    "metrics/probes",
    "stats/summary",
    "healthz",
    "configz",
    "pods",
];

/// Classifies the words behind `kubectl`.
pub(crate) fn classify_kubectl(words: &[ShellWord]) -> CommandClass {
    let mut class = classify_verb(words);
    if command_changes_server_state("kubectl", words) {
        let reason = || "it chooses another cluster or context".to_owned();
        class.classification = class.classification.with_reach(ServerReach::ServerState, reason);
    }
    class
}

fn classify_verb(words: &[ShellWord]) -> CommandClass {
    let unclear = |reason: String| -> CommandClass {
        Classification::mutating(reason).with_sensitive_output(sensitivity_of_words(words)).into()
    };
    let ParsedVerb { path, other_words, .. } = match find_kubectl_verb(words) {
        Ok(ParsedVerb { path, .. }) if path.is_empty() => {
            return Classification::read("`kubectl` prints its help").into();
        }
        Ok(verb) => verb,
        Err(reason) => return unclear(format!("kubectl: {reason}")),
    };
    let find_flags =
        |table: &[(&str, FlagTable)]| table.iter().find(|(verb, _)| *verb == path).map(|(_, flags)| *flags);
    let is_known = || find_flags(READ_VERBS).or(find_flags(DRY_RUN_VERBS)).is_some() || describe_write(&path).is_some();
    if is_help_request(words) && is_known() {
        return Classification::read(format!("`kubectl {path} --help` prints its help")).into();
    }
    let (flags, reads) = match (find_flags(READ_VERBS), find_flags(DRY_RUN_VERBS)) {
        (Some(flags), _) => (flags, true),
        (None, Some(flags)) => (flags, false),
        (None, None) => {
            let what = describe_write(&path).unwrap_or("is not a known verb");
            let mut class = unclear(format!("`kubectl {}` {what}", printable(&path)));
            if path == "create token" {
                class.classification = class.classification.with_sensitive_output(Some(SensitiveOutput::Values));
            }
            return class;
        }
    };
    let parsed = match parse_arguments(other_words.iter().copied(), &[GLOBAL_FLAGS, flags]) {
        Ok(parsed) => parsed,
        Err(reason) => return unclear(format!("`kubectl {path}`: {reason}")),
    };
    let mut output = kubectl_output(&path, &parsed);
    if parsed.may_shift {
        output.sensitive = output.sensitive.max(sensitivity_of_words(words));
    }
    let is_change = !reads && !parsed.is_dry_run();
    if !is_change && let Err(reason) = check_unknown_words(&path, &parsed, reads) {
        return unclear(format!("`kubectl {path}`: {reason}"));
    }
    if is_change {
        let what = describe_write(&path).unwrap_or("changes the cluster");
        return Classification::mutating(format!("`kubectl {path}` {what}"))
            .with_sensitive_output(output.sensitive)
            .into();
    }
    if let Err(reason) = check_harmless(&path, &parsed, words) {
        return Classification::mutating(format!("`kubectl {path}`: {reason}"))
            .with_sensitive_output(output.sensitive)
            .into();
    }
    let reason = match reads {
        true => format!("`kubectl {path}` only reads"),
        false => format!("`kubectl {path}` is a dry run"),
    };
    let reach = reach_of_arguments(&path, &parsed);
    let file_reason = || format!("`kubectl {path}` reads files of the tool's machine");
    CommandClass {
        classification: Classification::read(reason)
            .with_sensitive_output(output.sensitive)
            .with_reach(reach, file_reason),
        is_dry_run: !reads,
        is_table: output.is_table,
    }
}

/// Flags whose value may be any text.
const FREE_FLAGS: &[&str] = &[
    "api-group",
    "chunk-size",
    "container",
    "containers",
    "context",
    "field-selector",
    "for",
    "label-columns",
    "limit-bytes",
    "max-log-requests",
    "namespace",
    "request-timeout",
    "revision",
    "selector",
    "since",
    "since-time",
    "sort-by",
    "tail",
    "timeout",
    "types",
];

/// Checks that words that are only known when the line runs cannot do any harm.
fn check_unknown_words(path: &str, parsed: &ParsedArguments<'_>, reads: bool) -> Result<(), String> {
    if !parsed.has_unknown {
        return Ok(());
    }
    if !reads {
        return Err("a dry run with words that are only known when the line runs is not supported".into());
    }
    if matches!(path, "diff" | "kustomize" | "completion" | "plugin list") {
        return Err("words that are only known when the line runs are not supported".into());
    }
    match parsed.unknown_flags().find(|flag| !FREE_FLAGS.contains(flag)) {
        Some(flag) => Err(format!("a value of `--{flag}` that is only known when the line runs is not supported")),
        None => Ok(()),
    }
}

/// Returns the known flags of a verb that only reads.
pub(crate) fn read_flags(path: &str) -> Option<FlagTable> {
    READ_VERBS.iter().find(|(verb, _)| *verb == path).map(|(_, flags)| *flags)
}

/// Looks for the verb as kubectl does.
pub(crate) fn find_kubectl_verb(words: &[ShellWord]) -> Result<ParsedVerb<'_>, String> {
    find_verb(words, &[GLOBAL_FLAGS, &["h,help"]], VERB_GROUPS)
}

/// Returns whether kubectl itself prints its help, as in `kubectl delete --help`. With more words, the flag may belong to a
/// program in a container.
fn is_help_request(words: &[ShellWord]) -> bool {
    let Some((last, before)) = words.split_last() else { return false };
    let is_bare =
        |word: &ShellWord| word.unquoted && word.text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    matches!(last.text.as_str(), "--help" | "-h")
        && last.unquoted
        && before.len() < 3
        && before.iter().all(|word| is_bare(word) && !word.text.starts_with('-'))
}

fn describe_write(path: &str) -> Option<&'static str> {
    let group = path.split(' ').next().unwrap_or_default();
    let find = |name: &str| WRITE_VERBS.iter().find(|(verb, _)| *verb == name).map(|(_, what)| *what);
    find(path).or_else(|| find(group))
}

/// Checks that the flags and operands of a harmless verb do not make it harmful. The error is the reason.
fn check_harmless(path: &str, parsed: &ParsedArguments<'_>, words: &[ShellWord]) -> Result<(), String> {
    // The program that a container runs has its own flags, behind `--`.
    let runs_program =
        matches!(path, "run" | "create job" | "create cronjob" | "create cj" | "create deployment" | "create deploy");
    let separator = words.iter().position(|word| word.text == "--").filter(|_| runs_program);
    if has_ambiguous_flags(words.get(..separator.unwrap_or(words.len())).unwrap_or_default()) {
        return Err("a flag inside of a word or behind `--` is not supported".into());
    }
    // Behind a flag, the second word of a group may still be its verb: `create --dry-run=client token x`.
    if matches!(path, "apply" | "create" | "cluster-info" | "top")
        && let Some(operand) = parsed.operands.first()
    {
        return Err(format!("`{}` is not a known subcommand", printable(&operand.text)));
    }
    let files = parsed.flag_values("filename").chain(parsed.flag_values("kustomize"));
    let kustomizations = parsed.operands.iter().map(|word| word.text.as_str()).filter(|_| path == "kustomize");
    if let Some(remote) = files.chain(kustomizations).find(|file| is_remote_source(file)) {
        return Err(format!("`{}` is fetched from a remote address", printable(remote)));
    }
    match parsed.flag_values("raw").find(|path| !is_read_only_api_path(path)) {
        Some(raw) if path == "get" => Err(format!("`--raw {}` may do more than read", printable(raw))),
        _ => Ok(()),
    }
}

/// Flags whose file becomes part of the output as it is. `cert` and `key` are the files of a TLS Secret.
const RAW_FILE_FLAGS: &[&str] = &["from-file", "from-env-file", "patch-file", "cert", "key"];

/// Returns what the files reach that the arguments name.
fn reach_of_arguments(path: &str, parsed: &ParsedArguments<'_>) -> ServerReach {
    // Also where another flag than `-o` would decide the format, the file may be read.
    let reads_template = parsed.flag_values("output").any(|output| output.contains("file"));
    if reads_template || RAW_FILE_FLAGS.iter().any(|flag| parsed.has_flag(flag)) {
        return ServerReach::ServerFiles;
    }
    let files = parsed.flag_values("filename").flat_map(|files| files.split(','));
    let directories = parsed.flag_values("kustomize");
    let operands = parsed.operands.iter().map(|word| word.text.as_str()).filter(|_| path == "kustomize");
    let reach = files.chain(directories).chain(operands).map(|file| reach_of_file(file, FileUse::Manifest)).max();
    // `kubectl kustomize` reads the working directory if it gets no other.
    let default = if path == "kustomize" { ServerReach::Manifests } else { ServerReach::Cluster };
    reach.unwrap_or(default)
}

/// Returns whether a GET of the path is answered by the API server or by a reading part of the kubelet. A path that is
/// forwarded (`proxy`) or starts something (`exec`) may have any effect.
fn is_read_only_api_path(path: &str) -> bool {
    let route = path.split('?').next().unwrap_or_default();
    if !route.starts_with('/') || route.contains("//") || route.contains("..") || path.contains(['%', '\\', '#']) {
        return false;
    }
    let parts: Vec<&str> = route.split('/').skip(1).collect();
    if let ["api", "v1", "nodes", _, "proxy", below @ ..] = parts.as_slice() {
        return KUBELET_READ_PATHS.contains(&below.join("/").as_str());
    }
    !parts.iter().any(|part| matches!(*part, "proxy" | "exec" | "attach" | "portforward" | "run" | "redirect"))
}
