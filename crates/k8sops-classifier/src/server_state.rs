//! Commands and tools that change the state of the server's process: its kubeconfig, its current context, its connection.
//! One process serves many sessions, so such a change moves all of them to another cluster.

use crate::shell_word::ShellWord;

/// Subcommands of `kubectl config` that choose the context. The others write the kubeconfig, which an approval may allow.
const CONTEXT_SUBCOMMANDS: &[&str] = &["use-context", "use", "set-context"];

/// Programs whose every call with an operand chooses another context.
const CONTEXT_SWITCHERS: &[&str] = &["kubectx", "kubens", "kubie", "kubeswitch", "switcher"];

/// Flags whose value is the next word.
const VALUE_FLAGS: &[&str] = &[
    "-n",
    "--namespace",
    "--context",
    "--kubeconfig",
    "-s",
    "--server",
    "--as",
    "--cluster",
    "--user",
    "--region",
    "--project",
    "--zone",
    "--profile",
];

/// A program, and its operands that choose another cluster or identity: the first operand, and others behind it in this
/// order.
const STATE_COMMANDS: &[(&str, &[&str])] = &[
    ("argocd", &["login"]),
    ("argocd", &["logout"]),
    ("argocd", &["relogin"]),
    ("argocd", &["context"]),
    ("oc", &["login"]),
    ("oc", &["logout"]),
    ("oc", &["project"]),
    ("aws", &["eks", "update-kubeconfig"]),
    ("az", &["aks", "get-credentials"]),
    ("gcloud", &["container", "get-credentials"]),
    ("doctl", &["kubernetes", "kubeconfig"]),
    ("kind", &["export", "kubeconfig"]),
    ("minikube", &["profile"]),
    ("tsh", &["kube", "login"]),
];

/// Returns whether words of a line, in any of its commands, change the state of the process.
pub(crate) fn changes_server_state<'a>(words: impl IntoIterator<Item = &'a str>) -> bool {
    let words: Vec<&str> = words.into_iter().collect();
    words.iter().enumerate().any(|(at, word)| {
        let program = word.rsplit('/').next().unwrap_or_default();
        let behind = words.get(at + 1..).unwrap_or_default();
        let operands = first_operands(behind);
        match (program, operands.as_slice()) {
            ("kubectl" | "oc", ["config", verb, key @ ..]) => {
                let is_current_context = matches!(*verb, "set" | "unset") && key.first() == Some(&"current-context");
                CONTEXT_SUBCOMMANDS.contains(verb) || is_current_context
            }
            ("export", [variable, ..]) => variable.starts_with("KUBECONFIG="),
            (switcher, [_, ..]) if CONTEXT_SWITCHERS.contains(&switcher) => true,
            _ => STATE_COMMANDS.iter().any(|(known, needed)| *known == program && starts_in_order(&operands, needed)),
        }
    })
}

/// Returns the first words that are neither flags nor their values.
fn first_operands<'a>(words: &[&'a str]) -> Vec<&'a str> {
    const MAX_OPERANDS: usize = 6;
    let mut operands = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next().filter(|_| operands.len() < MAX_OPERANDS) {
        match word.starts_with('-') {
            true if VALUE_FLAGS.contains(word) => _ = words.next(),
            true => {}
            false => operands.push(*word),
        }
    }
    operands
}

fn starts_in_order(operands: &[&str], needed: &[&str]) -> bool {
    let mut rest = operands.iter();
    operands.first() == needed.first() && needed.iter().all(|word| rest.any(|operand| operand == word))
}

/// Returns whether a text that is not analyzed mentions a change of the state of the process.
pub(crate) fn mentions_server_state(text: &str) -> bool {
    let is_separator = |char: char| char.is_whitespace() || "'\"`();|&$\\,[]{}".contains(char);
    changes_server_state(text.split(is_separator).filter(|word| !word.is_empty()))
}

/// Returns whether the words behind `program` change the state of the process.
pub(crate) fn command_changes_server_state(program: &str, words: &[ShellWord]) -> bool {
    changes_server_state([program].into_iter().chain(words.iter().map(|word| word.text.as_str())))
}

/// What a tool must name to change the state of the process.
const STATE_TARGETS: &[&str] =
    &["context", "contexts", "ctx", "kubeconfig", "configuration", "cluster", "namespace", "kubecontext"];
const STATE_VERBS: &[&str] = &["use", "set", "switch", "change", "select", "load", "activate", "update", "connect"];
/// Words that may stand beside them. Any other word makes it a tool about something else.
const NEUTRAL_WORDS: &[&str] = &[
    "kubectl",
    "kube",
    "kubernetes",
    "k8s",
    "config",
    "current",
    "active",
    "default",
    "the",
    "to",
    "server",
    "mcp",
    "helm",
    "argocd",
    "tool",
];

/// Returns whether the name of a tool says that it changes the state of its server's process: `switch_context`,
/// `configuration_set`, `kubectl_reconnect`.
pub(crate) fn is_state_changing_tool(name_words: &[String]) -> bool {
    let contains = |list: &[&str]| name_words.iter().any(|word| list.contains(&word.as_str()));
    let is_known = |word: &String| {
        [STATE_TARGETS, STATE_VERBS, NEUTRAL_WORDS, &["reconnect"]].iter().any(|list| list.contains(&word.as_str()))
    };
    name_words.iter().all(is_known) && (contains(&["reconnect"]) || (contains(STATE_TARGETS) && contains(STATE_VERBS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_the_process_are_found() {
        for line in [
            "kubectl config use-context prod",
            "kubectl config --kubeconfig x set-context --current --namespace=prod",
            "kubectl -n x config set current-context prod",
            "get; /usr/bin/kubectl config use-context prod",
            "bash -c 'kubectl config use-context prod'",
            "kubectx prod",
            "export KUBECONFIG=/tmp/k",
            "aws eks --region x update-kubeconfig --name prod",
            "gcloud container clusters get-credentials prod",
            "argocd context prod",
            "argocd login x",
        ] {
            assert!(mentions_server_state(line), "{line}");
        }
        for line in [
            "kubectl config view",
            "kubectl config unset users.admin",
            "kubectl config get-contexts",
            "kubectl get pods --context prod",
            "kubectl get cm config",
            "kubectl describe pod use-context",
            "argocd app get login",
            "helm repo add x https://example.com",
            "kubectl get ns",
        ] {
            assert!(!mentions_server_state(line), "{line}");
        }
    }
}
