//! Derives the intent of a message from word lists and word positions, without any language understanding.

use crate::demo::cluster::ContainerInstance;

use super::vocabulary::{CONFIRMATIONS, FILLER_WORDS, RULE_WORDS, TROUBLE_WORDS};

/// A parsed message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UserRequest {
    pub intent: UserIntent,
    /// The namespace that the message names.
    pub namespace: Option<String>,
}

/// What the user wants. `names` are the words that may be names of objects, the most likely first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UserIntent {
    /// No rule matches.
    Unknown,
    /// A rule matches, but the message lacks a part; with a hint.
    Incomplete(&'static str),
    /// The user accepts the last suggestion.
    Confirm,
    Diagnose {
        names: Vec<String>,
    },
    List(ListedResource),
    Logs {
        names: Vec<String>,
        tail: u64,
        instance: ContainerInstance,
    },
    Describe {
        kind: DescribedKind,
        names: Vec<String>,
    },
    Status {
        names: Vec<String>,
    },
    Scale {
        names: Vec<String>,
        replicas: u64,
    },
    Restart {
        names: Vec<String>,
    },
    RollBack {
        names: Vec<String>,
    },
    SetImage {
        names: Vec<String>,
        image: String,
    },
    SetResources {
        names: Vec<String>,
        memory: Option<String>,
        cpu: Option<String>,
    },
    SetConfig {
        map: String,
        key: String,
        value: String,
    },
    DeletePod {
        names: Vec<String>,
    },
}

/// The resources that can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListedResource {
    Pods,
    Deployments,
    Services,
    ConfigMaps,
    Events,
    Nodes,
    Namespaces,
}

/// The kinds of objects that can be described.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DescribedKind {
    Any,
    Pod,
    Deployment,
    Service,
    ConfigMap,
    Node,
}

fn resource_for_word(word: &str) -> Option<(ListedResource, DescribedKind)> {
    Some(match word {
        "pod" | "pods" | "po" => (ListedResource::Pods, DescribedKind::Pod),
        "deployment" | "deployments" | "deploy" | "workloads" | "apps" => {
            (ListedResource::Deployments, DescribedKind::Deployment)
        }
        "service" | "services" | "svc" => (ListedResource::Services, DescribedKind::Service),
        "configmap" | "configmaps" | "cm" | "config" => (ListedResource::ConfigMaps, DescribedKind::ConfigMap),
        "event" | "events" => (ListedResource::Events, DescribedKind::Any),
        "node" | "nodes" => (ListedResource::Nodes, DescribedKind::Node),
        "namespaces" => (ListedResource::Namespaces, DescribedKind::Any),
        _ => return None,
    })
}

/// A word of the message: as written, and in lower case.
#[derive(Debug, Clone)]
struct MessageWord {
    raw: String,
    lowercase: String,
}

fn split_words(text: &str) -> Vec<MessageWord> {
    let outer = |c: char| "?!,;:.\"'`()<>*".contains(c);
    text.split_whitespace()
        .map(|w| w.trim_matches(outer))
        .filter(|w| !w.is_empty())
        .map(|w| MessageWord { raw: w.to_owned(), lowercase: w.to_lowercase() })
        .collect()
}

/// Parses a message.
pub(super) fn parse_message(text: &str) -> UserRequest {
    let mut words = split_words(text);
    let plain: Vec<&str> = words.iter().map(|w| w.lowercase.as_str()).collect();
    if CONFIRMATIONS.contains(&plain.join(" ").as_str()) {
        return UserRequest { intent: UserIntent::Confirm, namespace: None };
    }
    if let Some(request) = parse_set_config(&words) {
        return request;
    }
    let namespace = extract_namespace(&mut words);
    UserRequest { intent: classify_words(&words), namespace }
}

/// Removes the words that name a namespace from the message: `in shop`, `namespace shop`, `-n shop`.
fn extract_namespace(words: &mut Vec<MessageWord>) -> Option<String> {
    for i in 0..words.len() {
        if let Some(name) = words[i].lowercase.strip_prefix("--namespace=") {
            let name = name.to_owned();
            words.remove(i);
            return Some(name);
        }
        if !matches!(words[i].lowercase.as_str(), "in" | "namespace" | "ns" | "-n" | "--namespace") {
            continue;
        }
        let skip =
            words[i + 1..].iter().take_while(|w| matches!(w.lowercase.as_str(), "the" | "namespace" | "ns")).count();
        let Some(word) = words.get(i + 1 + skip) else { continue };
        if is_filler(&word.lowercase) || word.lowercase.parse::<u64>().is_ok() {
            continue;
        }
        let name = word.lowercase.clone();
        let mut end = i + 2 + skip;
        if words.get(end).is_some_and(|w| w.lowercase == "namespace") {
            end += 1;
        }
        words.drain(i..end);
        return Some(name);
    }
    None
}

fn is_filler(low: &str) -> bool {
    FILLER_WORDS.contains(&low)
        || TROUBLE_WORDS.contains(&low)
        || RULE_WORDS.contains(&low)
        || resource_for_word(low).is_some()
}

fn classify_words(words: &[MessageWord]) -> UserIntent {
    let has = |any: &[&str]| words.iter().any(|w| any.contains(&w.lowercase.as_str()));
    let first = |any: &[&str]| words.first().is_some_and(|w| any.contains(&w.lowercase.as_str()));
    let names = candidate_names(words);
    let number = words.iter().find_map(|w| w.lowercase.parse::<u64>().ok());
    let changing = has(&["set", "fix", "change", "update", "upgrade", "use", "lower", "reduce", "raise", "increase"]);

    if has(&["scale", "resize"]) {
        return match number {
            Some(replicas) if !names.is_empty() => UserIntent::Scale { names, replicas },
            _ => UserIntent::Incomplete("Scaling needs a name and a number: `scale checkout to 3`."),
        };
    }
    if has(&["restart", "bounce"]) && !has(&["why"]) {
        return match names.is_empty() {
            false => UserIntent::Restart { names },
            true => UserIntent::Incomplete("A restart needs a name: `restart checkout`."),
        };
    }
    if has(&["rollback", "undo", "revert"]) || (has(&["roll"]) && has(&["back"])) {
        return match names.is_empty() {
            false => UserIntent::RollBack { names },
            true => UserIntent::Incomplete("A rollback needs a name: `roll back storefront`."),
        };
    }
    if changing && has(&["memory", "mem", "cpu"]) {
        return parse_resources(words, names);
    }
    let image = words.iter().find_map(|w| parse_image(&w.raw));
    if changing && (has(&["image", "tag", "version"]) || image.is_some()) {
        return match image {
            Some(image) if !names.is_empty() => UserIntent::SetImage { names, image },
            _ => UserIntent::Incomplete(
                "Setting an image needs a name and an image with its tag: `set image of storefront to nginx:1.27`.",
            ),
        };
    }
    if has(&["delete", "remove", "kill"]) {
        let other = has(&["deployment", "deploy", "namespace", "service", "node", "configmap"]);
        return match names.is_empty() || other {
            false => UserIntent::DeletePod { names },
            true => UserIntent::Incomplete("Only pods can be deleted, one at a time: `delete pod <name>`."),
        };
    }
    if has(&["logs", "log", "tail"]) {
        let instance = match has(&["previous", "-p", "--previous"]) {
            true => ContainerInstance::Previous,
            false => ContainerInstance::Current,
        };
        return match names.is_empty() {
            false => UserIntent::Logs { names, tail: number.unwrap_or(20), instance },
            true => UserIntent::Incomplete("Logs need a name: `logs of payments-api`."),
        };
    }
    let listed = words.iter().find_map(|w| resource_for_word(&w.lowercase));
    if has(&["describe", "inspect", "explain", "yaml"]) {
        return match names.is_empty() {
            false => UserIntent::Describe { kind: listed.map_or(DescribedKind::Any, |(_, kind)| kind), names },
            true => UserIntent::Incomplete("A description needs a name: `describe storefront`."),
        };
    }
    if has(&["status", "rollout"]) {
        // Without a name, the message asks for the status of the whole cluster.
        return match names.is_empty() {
            false => UserIntent::Status { names },
            true => UserIntent::Diagnose { names },
        };
    }
    if let Some((what @ ListedResource::Events, _)) = listed {
        return UserIntent::List(what);
    }
    let wants_list = first(&["list", "get", "show", "which", "kubectl"]) || words.len() <= 2;
    if has(TROUBLE_WORDS) && !(wants_list && listed.is_some() && !has(&["broken", "failing", "unhealthy", "pending"])) {
        return UserIntent::Diagnose { names };
    }
    match listed {
        Some((ListedResource::ConfigMaps, kind)) if !names.is_empty() => UserIntent::Describe { kind, names },
        Some((
            _,
            kind @ (DescribedKind::Pod | DescribedKind::Deployment | DescribedKind::Service | DescribedKind::Node),
        )) if !names.is_empty()
            && words.iter().any(|w| matches!(w.lowercase.as_str(), "pod" | "deployment" | "service" | "node")) =>
        {
            UserIntent::Describe { kind, names }
        }
        Some((what, _)) => UserIntent::List(what),
        None => UserIntent::Unknown,
    }
}

/// Returns the words that may be names of objects, those after `of`, `for` or a kind first.
fn candidate_names(words: &[MessageWord]) -> Vec<String> {
    let mut names: Vec<(bool, String)> = Vec::new();
    for (i, word) in words.iter().enumerate() {
        // `deploy/checkout` is a kind and a name, as in kubectl; `shop/checkout` is a namespace and a name.
        let low = match word.lowercase.split_once('/') {
            Some((kind, name)) if resource_for_word(kind).is_some() => name,
            _ => word.lowercase.as_str(),
        };
        let name = low.chars().all(|c| c.is_ascii_alphanumeric() || "-./".contains(c))
            && low.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !name || is_filler(low) || low.parse::<u64>().is_ok() || is_quantity(low) {
            continue;
        }
        let lead = i.checked_sub(1).map(|b| words[b].lowercase.as_str());
        let likely = lead.is_some_and(|l| matches!(l, "of" | "for") || resource_for_word(l).is_some());
        names.push((likely, low.to_owned()));
    }
    names.sort_by_key(|(likely, _)| !likely);
    names.into_iter().map(|(_, name)| name).collect()
}

/// Returns whether a word is a quantity such as `512Mi` or `250m`.
fn is_quantity(low: &str) -> bool {
    let digits = low.len() - low.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    digits > 0 && matches!(&low[digits..], "m" | "k" | "ki" | "mi" | "m " | "gi" | "g" | "ti" | "t" | "mb" | "gb")
}

/// Returns the image reference in a word: an image with a tag, alone or after `container=`.
fn parse_image(raw: &str) -> Option<String> {
    let reference = raw.split_once('=').map_or(raw, |(_, image)| image);
    let (repo, tag) = reference.rsplit_once(':')?;
    (!repo.is_empty() && !tag.is_empty() && !tag.contains('/')).then(|| reference.to_owned())
}

fn parse_resources(words: &[MessageWord], names: Vec<String>) -> UserIntent {
    let amounts: Vec<&MessageWord> =
        words.iter().filter(|w| is_quantity(&w.lowercase) || w.lowercase.parse::<u64>().is_ok()).collect();
    let wants = |any: &[&str]| words.iter().any(|w| any.contains(&w.lowercase.as_str()));
    let memory = wants(&["memory", "mem"]);
    let cpu = wants(&["cpu"]);
    match amounts.as_slice() {
        [amount] if !names.is_empty() && memory != cpu => UserIntent::SetResources {
            names,
            memory: memory.then(|| normalize_memory_unit(&amount.raw)),
            cpu: cpu.then(|| amount.lowercase.clone()),
        },
        _ => UserIntent::Incomplete(
            "Setting a resource request needs a name and one amount: `set memory of recommendations to 2Gi`.",
        ),
    }
}

/// Returns a memory quantity in the notation of Kubernetes: `2GB` and `2gi` become `2Gi`.
fn normalize_memory_unit(raw: &str) -> String {
    let digits = raw.len() - raw.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let unit = match raw[digits..].to_lowercase().as_str() {
        "g" | "gb" | "gi" => "Gi",
        "m" | "mb" | "mi" => "Mi",
        _ => &raw[digits..],
    };
    format!("{}{unit}", &raw[..digits])
}

/// Parses `set KEY in MAP to VALUE`, `set KEY=VALUE in MAP` and `set MAP KEY to VALUE`.
fn parse_set_config(words: &[MessageWord]) -> Option<UserRequest> {
    let at = words
        .iter()
        .position(|w| matches!(w.lowercase.as_str(), "set" | "change" | "add" | "patch" | "put" | "update"))?;
    let noise =
        |w: &&MessageWord| !matches!(w.lowercase.as_str(), "the" | "key" | "configmap" | "cm" | "value" | "of" | "a");
    let rest: Vec<&MessageWord> = words[at + 1..].iter().filter(noise).collect();
    let namespace_at = rest.iter().position(|w| w.lowercase == "-n");
    let namespace = namespace_at.and_then(|i| rest.get(i + 1)).map(|w| w.lowercase.clone());
    let rest = &rest[..namespace_at.unwrap_or(rest.len())];
    let lowercase: Vec<&str> = rest.iter().map(|w| w.lowercase.as_str()).collect();
    if lowercase.iter().any(|w| matches!(*w, "image" | "memory" | "mem" | "cpu" | "replicas" | "resources")) {
        return None;
    }
    let request = |map: &str, key: &str, value: String| {
        let value = value.trim_matches(['"', '\'']).to_owned();
        let intent = UserIntent::SetConfig { map: map.to_lowercase(), key: key.to_owned(), value };
        Some(UserRequest { intent, namespace: namespace.clone() })
    };
    let value = |from: usize| rest[from..].iter().map(|w| w.raw.as_str()).collect::<Vec<_>>().join(" ");
    match lowercase.as_slice() {
        [_, "in" | "on", _, "to" | "as", _, ..] => request(&rest[2].raw, &rest[0].raw, value(4)),
        [pair, "in" | "on", _] if pair.contains('=') => {
            let (key, value) = rest[0].raw.split_once('=')?;
            request(&rest[2].raw, key, value.to_owned())
        }
        [_, pair] if pair.contains('=') && !pair.contains(':') => {
            let (key, value) = rest[1].raw.split_once('=')?;
            request(&rest[0].raw, key, value.to_owned())
        }
        // The key is recognized by its upper-case letters.
        [_, key, "to" | "as", _, ..] if *key != rest[1].raw => request(&rest[0].raw, &rest[1].raw, value(3)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (UserIntent, Option<String>) {
        let request = parse_message(text);
        (request.intent, request.namespace)
    }

    fn n(names: &[&str]) -> Vec<String> {
        names.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn messages_map_to_intents() {
        use UserIntent::*;
        let shop = || Some("shop".to_owned());
        let image = |i: &str| SetImage { names: n(&["storefront"]), image: i.to_owned() };
        let config = |map: &str, key: &str, value: &str| SetConfig {
            map: map.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let memory = |m: &str| SetResources { names: n(&["recommendations"]), memory: Some(m.to_owned()), cpu: None };
        for (text, intent, namespace) in [
            ("what is broken?", Diagnose { names: n(&[]) }, None),
            ("What's wrong in shop", Diagnose { names: n(&[]) }, shop()),
            ("why is payments crashing?", Diagnose { names: n(&["payments"]) }, None),
            ("Why are pods pending in the shop namespace?", Diagnose { names: n(&[]) }, shop()),
            ("fix storefront", Diagnose { names: n(&["storefront"]) }, None),
            ("status of the cluster", Diagnose { names: n(&[]) }, None),
            ("list pods in shop", List(ListedResource::Pods), shop()),
            ("kubectl get pods -n shop", List(ListedResource::Pods), shop()),
            ("pods", List(ListedResource::Pods), None),
            ("show me all deployments", List(ListedResource::Deployments), None),
            ("events", List(ListedResource::Events), None),
            ("show the warning events in shop", List(ListedResource::Events), shop()),
            ("which nodes are there?", List(ListedResource::Nodes), None),
            ("list namespaces", List(ListedResource::Namespaces), None),
            (
                "logs of checkout",
                Logs { names: n(&["checkout"]), tail: 20, instance: ContainerInstance::Current },
                None,
            ),
            (
                "show the last 50 lines of the previous log of payments-api",
                Logs { names: n(&["payments-api"]), tail: 50, instance: ContainerInstance::Previous },
                None,
            ),
            ("scale checkout to 3", Scale { names: n(&["checkout"]), replicas: 3 }, None),
            (
                "please scale the deployment checkout in shop up to 3 replicas",
                Scale { names: n(&["checkout"]), replicas: 3 },
                shop(),
            ),
            ("restart deploy/checkout", Restart { names: n(&["checkout"]) }, None),
            ("roll back storefront", RollBack { names: n(&["storefront"]) }, None),
            ("delete pod cart-abc-def", DeletePod { names: n(&["cart-abc-def"]) }, None),
            ("fix the image of storefront to nginx:1.27", image("nginx:1.27"), None),
            ("kubectl set image deployment/storefront storefront=nginx:1.27 -n shop", image("nginx:1.27"), shop()),
            ("set the memory of recommendations to 2gb", memory("2Gi"), None),
            ("lower recommendations memory to 512Mi", memory("512Mi"), None),
            (
                "set LEDGER_TOPIC in ledger-config to ledger.v2",
                config("ledger-config", "LEDGER_TOPIC", "ledger.v2"),
                None,
            ),
            ("set DB_HOST=postgres in payments-config", config("payments-config", "DB_HOST", "postgres"), None),
            ("set configmap payments-config LOG_LEVEL to debug", config("payments-config", "LOG_LEVEL", "debug"), None),
            ("describe node node-2", Describe { kind: DescribedKind::Node, names: n(&["node-2"]) }, None),
            ("describe storefront", Describe { kind: DescribedKind::Any, names: n(&["storefront"]) }, None),
            (
                "show configmap payments-config",
                Describe { kind: DescribedKind::ConfigMap, names: n(&["payments-config"]) },
                None,
            ),
            ("status of checkout", Status { names: n(&["checkout"]) }, None),
            ("Yes, please!", Confirm, None),
            ("hello", Unknown, None),
            ("write me a poem", Unknown, None),
            ("", Unknown, None),
        ] {
            assert_eq!(parse(text), (intent, namespace), "{text}");
        }
    }

    #[test]
    fn incomplete_messages_get_a_hint() {
        for text in
            ["scale checkout", "restart", "logs", "set image of storefront", "delete namespace shop", "set memory of x"]
        {
            assert!(matches!(parse(text).0, UserIntent::Incomplete(_)), "{text}");
        }
    }
}
