//! Verbs and flags of helm, after the help of helm 4.1 and 3.19, and of its plugin `diff`.

use crate::{
    ambiguity::has_ambiguous_flags,
    classification::{Classification, CommandClass, SensitiveOutput, ServerReach},
    flag_parser::{FlagTable, ParsedArguments, ParsedVerb, find_verb, parse_arguments, printable},
    remote_source::is_remote_source,
    sensitive_output::sensitivity_of_words,
    server_files::{FileUse, reach_of_file},
    shell_word::ShellWord,
};

const GLOBAL_FLAGS: FlagTable = &["burst-limit= color= colour= debug kube-context= n,namespace= qps="];
const OUTPUT: &str = "o,output=";
const REVISION: &str = "revision=";
const SET: &str = "set= set-json= set-literal= set-string= f,values=";
const RENDER: &str = "create-namespace description= devel disable-openapi-validation force-conflicts force-replace \
                      force g,generate-name hide-notes hide-secret include-crds is-upgrade l,labels= name-template= \
                      no-hooks release-name render-subchart-notes replace rollback-on-failure atomic skip-crds \
                      skip-schema-validation skip-tests take-ownership timeout= version= wait? wait-for-jobs \
                      a,api-versions= kube-version= s,show-only= validate dry-run? o,output=";

/// Verbs that only read, what their output may contain, and their harmless flags. These do not include flags that run a
/// program (`--post-renderer`), write files (`--output-dir`, `--dependency-update`), read any file (`--set-file`) or use an
/// address of the line (`--repo`).
const READ_VERBS: &[(&str, Option<SensitiveOutput>, FlagTable)] = &[
    ("list", None, LIST),
    ("ls", None, LIST),
    ("status", None, &[OUTPUT, REVISION, "show-desc show-resources"]),
    ("get all", Some(SensitiveOutput::Objects), &[REVISION, "template="]),
    ("get values", Some(SensitiveOutput::Objects), &[OUTPUT, REVISION, "a,all"]),
    ("get manifest", Some(SensitiveOutput::Objects), &[REVISION]),
    ("get hooks", Some(SensitiveOutput::Objects), &[REVISION]),
    ("get notes", None, &[REVISION]),
    ("get metadata", None, &[OUTPUT, REVISION]),
    ("history", None, &[OUTPUT, "max="]),
    ("hist", None, &[OUTPUT, "max="]),
    ("show all", None, SHOW),
    ("show chart", None, SHOW),
    ("show crds", None, SHOW),
    ("show readme", None, SHOW),
    ("show values", None, SHOW),
    ("inspect all", None, SHOW),
    ("inspect chart", None, SHOW),
    ("inspect readme", None, SHOW),
    ("inspect values", None, SHOW),
    ("search repo", None, &[OUTPUT, "devel fail-on-no-result max-col-width= r,regexp version= l,versions"]),
    ("search hub", None, &[OUTPUT, "fail-on-no-result max-col-width= list-repo-url"]),
    ("template", Some(SensitiveOutput::Objects), &[SET, RENDER]),
    ("lint", None, &[SET, "kube-version= quiet skip-schema-validation strict with-subcharts"]),
    ("version", None, &["short template= c,client"]),
    ("env", Some(SensitiveOutput::Objects), &[]),
    ("repo list", None, &[OUTPUT, "no-headers"]),
    ("dependency list", None, &["max-col-width="]),
    ("dep list", None, &["max-col-width="]),
    ("plugin list", None, &["type="]),
    ("completion bash", None, &[]),
    ("completion zsh", None, &[]),
    ("diff upgrade", Some(SensitiveOutput::Objects), DIFF),
    ("diff revision", Some(SensitiveOutput::Objects), DIFF),
    ("diff rollback", Some(SensitiveOutput::Objects), DIFF),
    ("diff release", Some(SensitiveOutput::Objects), DIFF),
    ("help", None, &[]),
];
const LIST: FlagTable = &[
    OUTPUT,
    "A,all-namespaces a,all d,date deployed failed f,filter= m,max= no-headers offset= pending r,reverse l,selector= \
     q,short superseded time-format= uninstalled uninstalling",
];
const SHOW: FlagTable = &["devel jsonpath= version="];
const DIFF: FlagTable = &[
    SET,
    OUTPUT,
    "C,context= suppress= q,suppress-secrets show-secrets color no-color detailed-exitcode version= devel install \
     allow-unreleased reuse-values reset-values three-way-merge no-hooks include-tests normalize-manifests \
     strip-trailing-cr disable-openapi-validation disable-validation",
];

/// Verbs that change nothing with `--dry-run`.
const DRY_RUN_VERBS: &[(&str, FlagTable)] = &[
    ("install", &[SET, RENDER]),
    (
        "upgrade",
        &[SET, RENDER, "i,install cleanup-on-fail history-max= reset-then-reuse-values reset-values reuse-values"],
    ),
    (
        "rollback",
        &["cleanup-on-fail dry-run? force force-conflicts force-replace history-max= no-hooks timeout= wait? \
           wait-for-jobs"],
    ),
    (
        "uninstall",
        // `--dry-run` is a switch of this verb.
        &["cascade= description= dry-run? ignore-not-found keep-history no-hooks timeout= wait?"],
    ),
];

/// What the other verbs do.
const WRITE_VERBS: &[(&str, &str)] = &[
    ("install", "installs a release"),
    ("upgrade", "changes a release"),
    ("uninstall", "removes a release"),
    ("delete", "removes a release"),
    ("rollback", "changes a release"),
    ("test", "runs a release's tests"),
    ("create", "writes a chart"),
    ("package", "writes a chart"),
    ("pull", "writes a chart"),
    ("fetch", "writes a chart"),
    ("push", "uploads a chart"),
    ("registry", "changes the logins"),
    ("repo", "changes the repositories"),
    ("dependency", "writes charts"),
    ("dep", "writes charts"),
    ("plugin", "changes the plugins"),
];
const VERB_GROUPS: &[&str] =
    &["get", "show", "inspect", "search", "repo", "dependency", "dep", "plugin", "registry", "completion", "diff"];

/// Classifies the words behind `helm`.
pub(crate) fn classify_helm(words: &[ShellWord]) -> CommandClass {
    let unclear = |reason: String| -> CommandClass {
        Classification::mutating(reason).with_sensitive_output(sensitivity_of_words(words)).into()
    };
    let ParsedVerb { path, other_words, .. } = match find_helm_verb(words) {
        Ok(ParsedVerb { path, .. }) if path.is_empty() => return Classification::read("`helm` prints its help").into(),
        Ok(verb) => verb,
        Err(reason) => return unclear(format!("helm: {reason}")),
    };
    let read = READ_VERBS.iter().find(|(verb, ..)| *verb == path);
    let dry_run = DRY_RUN_VERBS.iter().find(|(verb, _)| *verb == path);
    let (sensitive, flags, reads) = match (read, dry_run) {
        (Some((_, sensitive, flags)), _) => (*sensitive, *flags, true),
        (None, Some((_, flags))) => (Some(SensitiveOutput::Objects), *flags, false),
        (None, None) => {
            let what = describe_write(&path).unwrap_or("is not a known verb");
            return unclear(format!("`helm {}` {what}", printable(&path)));
        }
    };
    let parsed = match parse_arguments(other_words.iter().copied(), &[GLOBAL_FLAGS, flags]) {
        Ok(parsed) => parsed,
        Err(reason) => return unclear(format!("`helm {path}`: {reason}")),
    };
    let sensitive = match path.as_str() {
        "status" if parsed.flag_values("output").any(|output| output != "table") => Some(SensitiveOutput::Objects),
        _ => sensitive,
    };
    if !reads && !parsed.is_dry_run() {
        let what = describe_write(&path).unwrap_or("changes a release");
        return Classification::mutating(format!("`helm {path}` {what}")).with_sensitive_output(sensitive).into();
    }
    let group = path.split(' ').next().unwrap_or_default();
    let is_free =
        |flag: &str| matches!(flag, "namespace" | "kube-context" | "revision" | "max" | "filter" | "selector");
    if parsed.has_unknown && (!reads || CHART_VERBS.contains(&group) || !parsed.unknown_flags().all(is_free)) {
        return unclear(format!("`helm {path}`: a word that is only known when the line runs is not supported here"));
    }
    if has_ambiguous_flags(words) {
        return unclear(format!("`helm {path}`: a flag inside of a word or behind `--` is not supported"));
    }
    if let Some(remote) = find_remote_source(&path, &parsed) {
        return unclear(format!("`helm {path}`: `{}` is fetched from a remote address", printable(remote)));
    }
    let reason = match reads {
        true => format!("`helm {path}` only reads"),
        false => format!("`helm {path}` is a dry run"),
    };
    let file_reason = || format!("`helm {path}` reads files of the tool's machine");
    CommandClass {
        classification: Classification::read(reason)
            .with_sensitive_output(sensitive)
            .with_reach(reach_of_arguments(&path, &parsed), file_reason),
        is_dry_run: !reads,
        is_table: false,
    }
}

/// Looks for the verb as helm does.
pub(crate) fn find_helm_verb(words: &[ShellWord]) -> Result<ParsedVerb<'_>, String> {
    find_verb(words, &[GLOBAL_FLAGS, &["h,help"]], VERB_GROUPS)
}

/// Returns the verb by its full name and the arguments of a command that changes releases; `None` for other verbs, and for flags
/// that are not known.
pub(crate) fn parse_release_arguments<'a>(verb: &ParsedVerb<'a>) -> Option<(&'static str, ParsedArguments<'a>)> {
    let path = match verb.path.as_str() {
        "delete" | "del" | "un" => "uninstall",
        path => path,
    };
    let (name, flags) = DRY_RUN_VERBS.iter().find(|(name, _)| *name == path)?;
    Some((name, parse_arguments(verb.other_words.iter().copied(), &[GLOBAL_FLAGS, flags]).ok()?))
}

fn describe_write(path: &str) -> Option<&'static str> {
    let group = path.split(' ').next().unwrap_or_default();
    WRITE_VERBS.iter().find(|(verb, _)| *verb == group).map(|(_, what)| *what)
}

/// Verbs whose operands are charts.
const CHART_VERBS: &[&str] =
    &["template", "lint", "install", "upgrade", "show", "inspect", "dependency", "dep", "diff"];

/// Returns what the charts and values files reach that the arguments name.
fn reach_of_arguments(path: &str, parsed: &ParsedArguments<'_>) -> ServerReach {
    let values = parsed.flag_values("values").flat_map(|files| files.split(','));
    let group = path.split(' ').next().unwrap_or_default();
    let charts = parsed.operands.iter().map(|word| word.text.as_str()).filter(|_| CHART_VERBS.contains(&group));
    let reaches = values
        .map(|file| reach_of_file(file, FileUse::Values))
        .chain(charts.map(|chart| reach_of_file(chart, FileUse::Chart)));
    reaches.max().unwrap_or(ServerReach::Cluster)
}

/// Returns the first chart or values file that the command fetches from another machine.
fn find_remote_source<'a>(path: &str, parsed: &ParsedArguments<'a>) -> Option<&'a str> {
    let files = parsed.flag_values("values").flat_map(|files| files.split(','));
    let charts = parsed.operands.iter().map(|word| word.text.as_str()).filter(|_| !path.starts_with("search"));
    files.chain(charts).find(|source| is_remote_source(source))
}
