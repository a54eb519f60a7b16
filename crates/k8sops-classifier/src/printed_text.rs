//! What is known about the text that a command prints, so that it may become arguments of another command.

use crate::{
    flag_parser::{ParsedArguments, parse_arguments},
    kubectl,
    name_template::output_prints_only_names,
    sensitive_output::names_secret_resource,
    shell_word::{ShellWord, TextKind, join_words},
};

/// What is known about a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PrintedText {
    Nothing,
    /// Words of that kind.
    Words(TextKind),
    /// A table whose first columns are names.
    NameTable {
        names: usize,
        others: TextKind,
    },
    /// Objects of the cluster as JSON, and which of their fields are known.
    ObjectJson(ObjectFields),
    /// Helm's list of releases or revisions as JSON.
    ReleaseJson,
}

impl PrintedText {
    pub(crate) const UNKNOWN: Self = Self::Words(TextKind::Text);

    pub(crate) fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, text) | (text, Self::Nothing) => text,
            _ if self == other => self,
            // Of two different texts, not each line is one name.
            _ => Self::Words(match self.kind().max(other.kind()) {
                TextKind::ObjectName => TextKind::Name,
                kind => kind,
            }),
        }
    }

    /// The text of which a filter omits lines, or sorts them. JSON may then be other JSON.
    pub(crate) fn some_lines(self) -> Self {
        match self {
            Self::ObjectJson(_) | Self::ReleaseJson => Self::UNKNOWN,
            text => text,
        }
    }

    /// The kind of all words of the text.
    pub(crate) fn kind(self) -> TextKind {
        match self {
            Self::Nothing => TextKind::Number,
            Self::Words(kind) => kind,
            Self::NameTable { others, .. } => others.max(TextKind::Name),
            Self::ObjectJson(_) | Self::ReleaseJson => TextKind::Text,
        }
    }

    /// A column of names, if all words are names.
    pub(crate) fn single_names(self) -> Option<Self> {
        let has_lines = !matches!(self, Self::Words(TextKind::Number | TextKind::Name));
        let names = usize::from(has_lines);
        (self.kind() <= TextKind::Name).then_some(Self::NameTable { names, others: TextKind::Name })
    }

    /// Whether each line is one name.
    pub(crate) fn has_one_name_per_line(self) -> bool {
        matches!(self, Self::Words(TextKind::ObjectName) | Self::NameTable { names: 1, others: TextKind::Name })
    }

    /// How many words each line has at least.
    pub(crate) fn columns(self) -> usize {
        match self {
            Self::NameTable { names, .. } => names,
            Self::Words(TextKind::ObjectName) => 1,
            _ => 0,
        }
    }

    /// The kind of the words in a column, counted from 1.
    pub(crate) fn kind_of_column(self, column: usize) -> TextKind {
        match self {
            Self::NameTable { names, .. } if (1..=names).contains(&column) => TextKind::Name,
            _ => self.kind(),
        }
    }
}

/// Kinds whose names are DNS names, and whose tables have only plain words.
const PLAIN_TABLES: &[&str] = &[
    "pod",
    "pods",
    "po",
    "node",
    "nodes",
    "no",
    "namespace",
    "namespaces",
    "ns",
    "deployment",
    "deployments",
    "deploy",
    "statefulset",
    "statefulsets",
    "sts",
    "daemonset",
    "daemonsets",
    "ds",
    "replicaset",
    "replicasets",
    "rs",
    "service",
    "services",
    "svc",
    "job",
    "jobs",
    "configmap",
    "configmaps",
    "cm",
    "serviceaccount",
    "serviceaccounts",
    "sa",
    "persistentvolumeclaim",
    "persistentvolumeclaims",
    "pvc",
    "persistentvolume",
    "persistentvolumes",
    "pv",
    "endpoints",
    "ep",
    "secret",
    "secrets",
];
const SCALERS: &[&str] = &["hpa", "horizontalpodautoscaler", "horizontalpodautoscalers"];
/// Kinds whose names are DNS names.
const PLAIN_NAMES: &[&str] = &[
    "ingress",
    "ingresses",
    "ing",
    "cronjob",
    "cronjobs",
    "cj",
    "hpa",
    "horizontalpodautoscaler",
    "horizontalpodautoscalers",
    "networkpolicy",
    "networkpolicies",
    "netpol",
    "poddisruptionbudget",
    "poddisruptionbudgets",
    "pdb",
    "storageclass",
    "storageclasses",
    "sc",
    "customresourcedefinition",
    "customresourcedefinitions",
    "crd",
    "crds",
    "endpointslice",
    "endpointslices",
    "replicationcontroller",
    "replicationcontrollers",
    "rc",
    "resourcequota",
    "resourcequotas",
    "quota",
    "limitrange",
    "limitranges",
    "limits",
    "priorityclass",
    "priorityclasses",
    "pc",
    "ingressclass",
    "ingressclasses",
    "volumeattachment",
    "volumeattachments",
    "event",
    "events",
    "ev",
    "lease",
    "leases",
    "certificate",
    "certificates",
    "issuer",
    "issuers",
    "clusterissuer",
    "clusterissuers",
    "application",
    "applications",
    "app",
    "apps",
    "applicationset",
    "applicationsets",
    "kustomization",
    "kustomizations",
    "ks",
    "helmrelease",
    "helmreleases",
    "hr",
    "gitrepository",
    "gitrepositories",
    "gateway",
    "gateways",
    "httproute",
    "httproutes",
    "virtualservice",
    "virtualservices",
    "vs",
    "destinationrule",
    "destinationrules",
    "servicemonitor",
    "servicemonitors",
    "prometheusrule",
    "prometheusrules",
    "externalsecret",
    "externalsecrets",
    "sealedsecret",
    "sealedsecrets",
    "machine",
    "machines",
    "nodepool",
    "nodepools",
    "nodeclaim",
    "nodeclaims",
    "all",
];

/// Which fields of an object are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObjectFields {
    Metadata,
    All,
}

/// Fields with one plain word, in objects of the kinds above.
const PLAIN_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "metadata.resourceVersion",
    "metadata.creationTimestamp",
    "spec.nodeName",
    "spec.serviceAccountName",
    "spec.storageClassName",
    "spec.clusterIP",
    "status.phase",
    "status.podIP",
    "status.hostIP",
    "status.startTime",
    "status.qosClass",
    "status.containerStatuses.name",
    "spec.containers.name",
];
const NUMBER_FIELDS: &[&str] = &[
    "spec.replicas",
    "status.replicas",
    "status.readyReplicas",
    "status.availableReplicas",
    "status.updatedReplicas",
    "status.unavailableReplicas",
    "status.observedGeneration",
    "metadata.generation",
    "status.containerStatuses.restartCount",
    "status.containerStatuses.lastState.terminated.exitCode",
    "status.succeeded",
    "status.failed",
    "status.active",
    "status.numberReady",
    "status.desiredNumberScheduled",
    "status.currentReplicas",
    "status.desiredReplicas",
];

/// Returns what a command of kubectl, helm or argocd prints.
pub(crate) fn text_of_program(program: &str, words: &[ShellWord]) -> PrintedText {
    match program {
        "kubectl" => text_of_kubectl(words).unwrap_or(PrintedText::UNKNOWN),
        "helm" => {
            let mentions = |texts: &[&str]| words.iter().any(|word| texts.contains(&word.text.as_str()));
            let lists = mentions(&["list", "ls"]);
            let has_output = words.iter().any(|word| word.text.starts_with("-o") || word.text.starts_with("--output"));
            let line = join_words(words);
            let prints_json = ["-o json", "-o=json", "-ojson", "--output json", "--output=json"]
                .iter()
                .any(|flag| line.ends_with(flag) || line.contains(&format!("{flag} ")));
            match (lists || mentions(&["history", "hist"]), has_output) {
                (true, true) if prints_json => PrintedText::ReleaseJson,
                (true, false) if lists && mentions(&["-q", "--short", "-qA", "-Aq"]) => {
                    PrintedText::Words(TextKind::Name)
                }
                (true, false) if lists => PrintedText::NameTable { names: 2, others: TextKind::Text },
                (true, false) => PrintedText::NameTable { names: 1, others: TextKind::Text },
                _ => PrintedText::UNKNOWN,
            }
        }
        _ => {
            let mentions = |text: &str| words.iter().any(|word| word.text == text);
            let line = join_words(words);
            let has_names = ["-o name", "-o=name", "-oname", "--output name", "--output=name"]
                .iter()
                .any(|flag| line.ends_with(flag) || line.contains(&format!("{flag} ")));
            if mentions("app") && mentions("list") && has_names {
                PrintedText::Words(TextKind::Name)
            } else {
                PrintedText::UNKNOWN
            }
        }
    }
}

fn text_of_kubectl(words: &[ShellWord]) -> Option<PrintedText> {
    let verb = kubectl::find_kubectl_verb(words).ok()?;
    let flags = kubectl::read_flags(&verb.path)?;
    let parsed = parse_arguments(verb.other_words.iter().copied(), &[kubectl::GLOBAL_FLAGS, flags]).ok()?;
    if parsed.has_flag("watch") || parsed.has_flag("watch-only") || parsed.has_flag("v") || parsed.has_flag("template")
    {
        return None;
    }
    let mut outputs = parsed.flag_values("output");
    let output = outputs.next().unwrap_or_default();
    if outputs.next().is_some() {
        return None;
    }
    match verb.path.as_str() {
        "get" => text_of_get(&parsed, output),
        "config current-context" => Some(PrintedText::Words(TextKind::Word)),
        "config get-contexts" if output == "name" => Some(PrintedText::Words(TextKind::Word)),
        "api-resources" if output == "name" => Some(PrintedText::Words(TextKind::Name)),
        "top pod" | "top pods" | "top po" | "top node" | "top nodes" | "top no" => {
            let names = if parsed.has_flag("all-namespaces") { 2 } else { 1 };
            Some(PrintedText::NameTable { names, others: TextKind::Word })
        }
        _ => None,
    }
}

/// Returns the kinds that the operands of `kubectl get` name; `None` if they are not known.
fn kinds_of_operands(parsed: &ParsedArguments<'_>) -> Option<Vec<String>> {
    let (first, others) = parsed.operands.split_first()?;
    let with_kind: Vec<&str> = match first.text.split_once('/') {
        Some(_) => {
            let operands = [*first].into_iter().chain(others.iter().copied());
            operands.map(|word| word.text.split_once('/').map(|(kind, _)| kind)).collect::<Option<_>>()?
        }
        None => first.text.split(',').collect(),
    };
    // A custom resource may have the name of another kind.
    let known_groups = [".apps", ".batch", ".v1.apps", ".v1.batch", ".v1."];
    let kinds = with_kind.into_iter().map(|kind| {
        let kind = known_groups.iter().find_map(|group| kind.strip_suffix(group)).unwrap_or(kind);
        kind.to_ascii_lowercase()
    });
    Some(kinds.collect())
}

fn text_of_get(parsed: &ParsedArguments<'_>, output: &str) -> Option<PrintedText> {
    if parsed.has_flag("raw") || parsed.has_flag("filename") || parsed.has_flag("kustomize") {
        return None;
    }
    let kinds = kinds_of_operands(parsed).unwrap_or_default();
    let are_known = |tables: &[&[&str]]| {
        !kinds.is_empty() && kinds.iter().all(|kind| tables.iter().any(|table| table.contains(&kind.as_str())))
    };
    // A custom resource has a DNS name too. Its group has to be given, because RBAC objects have other names.
    let first = parsed.operands.first()?;
    let is_custom = !first.text.contains(['/', ','])
        && first.text.split_once('.').is_some_and(|(_, group)| {
            group.contains('.') && !group.ends_with("k8s.io") && !group.ends_with("openshift.io")
        });
    let has_plain_names = are_known(&[PLAIN_TABLES, PLAIN_NAMES]) || is_custom;
    // The fields of a custom resource may hold anything.
    let fields = if are_known(&[PLAIN_TABLES, SCALERS]) { ObjectFields::All } else { ObjectFields::Metadata };
    let names_secrets = parsed.operands.iter().any(|word| names_secret_resource(&word.text));
    let has_more_columns = parsed.has_flag("show-labels") || parsed.has_flag("label-columns");
    match output {
        // An object that is named by a word of an unknown kind is of a plain kind, or else the command fails.
        "name" if has_plain_names || first.unknown.is_some_and(|unknown| unknown.kind <= TextKind::ObjectName) => {
            Some(PrintedText::Words(if names_secrets { TextKind::Name } else { TextKind::ObjectName }))
        }
        "" if are_known(&[PLAIN_TABLES]) && kinds.len() == 1 && !has_more_columns && !parsed.has_flag("show-kind") => {
            let names = if parsed.has_flag("all-namespaces") { 2 } else { 1 };
            Some(PrintedText::NameTable { names, others: TextKind::Word })
        }
        "wide" if has_plain_names && kinds.len() == 1 && !has_more_columns => {
            let names = if parsed.has_flag("all-namespaces") { 2 } else { 1 };
            Some(PrintedText::NameTable { names, others: TextKind::Text })
        }
        "json" if has_plain_names => Some(PrintedText::ObjectJson(fields)),
        _ if has_plain_names => kind_of_template(output, fields).map(PrintedText::Words),
        _ => None,
    }
}

/// Returns the kind of the words that a template of `-o` prints.
fn kind_of_template(output: &str, fields: ObjectFields) -> Option<TextKind> {
    let (format, template) = output.split_once('=')?;
    if format == "custom-columns" {
        let columns = template.split(',').map(|column| column.split_once(':'));
        let mut kind = TextKind::Number;
        for column in columns {
            let (header, path) = column?;
            if !header.bytes().all(|byte| byte.is_ascii_alphanumeric()) || !path.starts_with('.') {
                return None;
            }
            kind = kind.max(kind_of_path(path, fields)?);
        }
        // `<none>` stands for a value that is missing.
        return Some(kind.max(TextKind::Word));
    }
    if format != "jsonpath" {
        return output_prints_only_names(output).then_some(TextKind::Word);
    }
    let mut kind = TextKind::Number;
    let mut rest = template.trim();
    if !rest.starts_with('{') {
        return (rest.starts_with('.')).then(|| kind_of_path(rest, fields)).flatten();
    }
    while !rest.is_empty() {
        let (expression, behind) = rest.strip_prefix('{')?.split_once('}')?;
        rest = behind;
        let expression = expression.trim();
        let separator = expression.trim_matches(['"', '\'']);
        let is_range = matches!(expression, "range .items[*]" | "range .items[]" | "end");
        let is_separator = separator.len() + 2 == expression.len()
            && matches!(separator, "\\n" | "\\t" | " " | "\\n\\n" | "  " | "\n" | "\t");
        if !is_range && !is_separator {
            kind = kind.max(kind_of_path(expression, fields)?);
        }
    }
    Some(kind)
}

/// Returns whether an index chooses items of a list, and not a field by its name: `*`, `0`, `-1`, `?(@.status.phase=="Failed")`.
fn is_item_index(index: &str) -> bool {
    let is_number = index.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit());
    let is_filter = index.starts_with("?(") && index.ends_with(')') && !index.contains(['[', '{', '}']);
    matches!(index, "" | "*") || is_number || is_filter
}

/// Returns the kind of the words at a path: `.items[*].metadata.name`.
pub(crate) fn kind_of_path(path: &str, fields: ObjectFields) -> Option<TextKind> {
    let mut plain = String::new();
    let mut rest = path.strip_prefix('.')?;
    while let Some(char) = rest.chars().next() {
        rest = if let Some(index) = rest.strip_prefix('[') {
            let (index, behind) = index.split_once(']')?;
            if !is_item_index(index) {
                return None;
            }
            behind
        } else if char.is_ascii_alphanumeric() || ".-_".contains(char) {
            plain.push(char);
            rest.get(1..)?
        } else {
            return None;
        };
    }
    let field = plain.strip_prefix("items.").unwrap_or(&plain);
    match field {
        _ if fields == ObjectFields::Metadata && !field.starts_with("metadata.") => None,
        _ if NUMBER_FIELDS.contains(&field) => Some(TextKind::Number),
        _ if PLAIN_FIELDS.contains(&field) => Some(TextKind::Name),
        // The API server accepts no other values.
        _ if field.strip_prefix("metadata.labels.").is_some_and(|label| !label.contains('.')) => Some(TextKind::Name),
        _ => None,
    }
}
