//! The outputs that an answer cites, like `[3]`, and what it claims without any.
//!
//! Each tool output has a number in its session, which the model reads on the fence around it. The checks err on the side of
//! silence: what stands in code, in a condition or in the user's own words is no claim.

use std::{collections::BTreeSet, sync::Arc};

use k8sops_core::{ChatMessage, Citation};

/// The largest number that counts as a citation. Larger ones are years or ports.
const MAX_CITED_NUMBER: u64 = 999;
/// States of objects that an answer can only know from the cluster.
const OBJECT_STATES: &[&str] = &[
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "ErrImagePull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "OOMKilled",
    "Evicted",
    "FailedScheduling",
    "NotReady",
    "Unschedulable",
    "ContainerCreating",
    "OutOfSync",
];
/// Words that make a sentence a condition, an example or an explanation.
const HYPOTHETICAL_WORDS: &[&str] = &[
    "if",
    "when",
    "whether",
    "would",
    "could",
    "might",
    "may",
    "usually",
    "often",
    "typically",
    "means",
    "e.g.",
    "example",
    "such",
    "like",
    "can",
    "cannot",
];

/// The numbers in square brackets of a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CitedOutputs {
    /// The outputs that exist, by number.
    pub(crate) citations: Vec<Citation>,
    /// The numbers that no output has.
    pub(crate) unknown: Vec<u64>,
}

/// Finds the outputs that a reply cites. `[3]`, `[1, 4]` and `[1][4]` are citations; `items[0]`, `[3](https://…)` and everything
/// in code are not.
pub(crate) fn find_citations(reply: &str, messages: &[Arc<ChatMessage>]) -> CitedOutputs {
    let prose = without_code(reply, CodeForm::Any);
    let mut numbers = cited_numbers(&prose);
    // The text defines these numbers itself.
    numbers.retain(|n| !prose.lines().any(|line| is_definition(line, *n)));
    if numbers.is_empty() {
        return CitedOutputs::default();
    }
    let outputs: Vec<_> = messages.iter().filter_map(|message| as_output(message)).collect();
    // Outputs of turns that a checkpoint dropped have smaller numbers than the oldest one that is left.
    let oldest = outputs.first().map_or(u64::MAX, |output| output.number);
    let mut cited = CitedOutputs::default();
    for n in numbers {
        match outputs.iter().find(|output| output.number == n) {
            Some(output) => cited.citations.push(Citation { n, tool_call_id: output.tool_call_id.clone() }),
            None if n == 0 || n > oldest || outputs.is_empty() => cited.unknown.push(n),
            None => {}
        }
    }
    cited
}

/// `[1]: https://…`, or `[1] https://…`: the text says itself what the number stands for.
fn is_definition(line: &str, n: u64) -> bool {
    let rest = line.trim_start().trim_start_matches(['-', '*', ' ']).strip_prefix(&format!("[{n}]"));
    rest.is_some_and(|rest| rest.starts_with(':') || rest.trim_start().starts_with("http"))
}

fn as_output(message: &ChatMessage) -> Option<&k8sops_core::ToolMessage> {
    match message {
        ChatMessage::Tool(output) => Some(output),
        _ => None,
    }
}

fn cited_numbers(text: &str) -> BTreeSet<u64> {
    let mut numbers = BTreeSet::new();
    for (at, _) in text.match_indices('[') {
        let before = text[..at].chars().next_back();
        let Some(length) = text[at + 1..].find(']') else { break };
        let inner = &text[at + 1..at + 1 + length];
        let after = text[at + 2 + length..].chars().next();
        // Other scripts have no space before a citation.
        let is_index = before.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ')' | '`'));
        let is_reference = after == Some(':') && before.is_none_or(|c| c == '\n');
        if is_index || is_reference || after == Some('(') {
            continue;
        }
        let listed: Option<Vec<u64>> = inner.split(',').map(|part| part.trim().parse().ok()).collect();
        numbers.extend(listed.into_iter().flatten().filter(|n| *n <= MAX_CITED_NUMBER));
    }
    numbers
}

/// Returns a statement of an answer that only the cluster can have told, and that stands in no message so far: the name of a pod,
/// an address, how many are ready, or a state. `known` are other texts that the model was given.
pub(crate) fn find_unsupported_claim(answer: &str, messages: &[Arc<ChatMessage>], known: &[&str]) -> Option<String> {
    let prose = without_code(answer, CodeForm::Block);
    let is_said = |word: &str| {
        known.iter().any(|text| text.contains(word)) || messages.iter().any(|message| is_in_message(message, word))
    };
    sentences(&prose).filter(|sentence| !is_hypothetical(sentence)).find_map(|sentence| {
        let words: Vec<&str> = sentence.split_whitespace().map(trim_word).collect();
        let claimed = (0..words.len()).find(|at| is_claim(&words, *at) && !is_said(words[*at])).map(|at| words[at]);
        claimed.or_else(|| counted_objects(sentence).filter(|claim| !is_said(claim))).map(str::to_owned)
    })
}

fn is_in_message(message: &ChatMessage, word: &str) -> bool {
    match message {
        ChatMessage::User(m) => {
            m.content.contains(word)
                || m.recalled.iter().any(|note| note.content.contains(word))
                || m.attachments.iter().any(|attachment| attachment.text.contains(word))
        }
        ChatMessage::Assistant(m) => m.content.contains(word),
        ChatMessage::Tool(m) => m.content.contains(word),
    }
}

fn is_claim(words: &[&str], at: usize) -> bool {
    let word = words[at];
    let is_near = |known: &[&str]| {
        let from = at.saturating_sub(2);
        let to = (at + 4).min(words.len());
        words[from..to].iter().any(|near| known.iter().any(|known| known.eq_ignore_ascii_case(near)))
    };
    let follows = |known: &[&str]| {
        words[at.saturating_sub(3)..at]
            .iter()
            .any(|before| known.iter().any(|known| known.eq_ignore_ascii_case(before)))
    };
    is_pod_name(word)
        || is_address(word)
        || (is_ready_count(word) && is_near(&["ready", "pods", "replicas", "available", "running"]))
        || (OBJECT_STATES.contains(&word) && follows(&["is", "are", "was", "were", "has", "have", "in", "got"]))
}

/// `checkout-7d9f8b6c5-x2x9k`: the hashes of a ReplicaSet and of its pod.
pub(crate) fn is_pod_name(word: &str) -> bool {
    let name = word.rsplit('/').next().unwrap_or(word);
    let mut parts = name.rsplit('-');
    let (Some(pod), Some(set), Some(_)) = (parts.next(), parts.next(), parts.next()) else { return false };
    let is_hash = |part: &str| part.chars().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase());
    let has_digit = |part: &str| part.contains(|c: char| c.is_ascii_digit());
    pod.len() == 5 && (8..=10).contains(&set.len()) && is_hash(pod) && is_hash(set) && has_digit(set)
}

/// An address within a network. A public one may be general knowledge.
fn is_address(word: &str) -> bool {
    let host = word.split(':').next().unwrap_or(word);
    host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_private())
}

/// `2/3`: so many of so many are ready.
fn is_ready_count(word: &str) -> bool {
    word.split_once('/').is_some_and(|(ready, all)| {
        let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.len() <= 3);
        matches!((number(ready), number(all)), (Some(ready), Some(all)) if ready <= all && all > 0)
    })
}

/// `12 pods are`: how many objects there are, and in which state.
fn counted_objects(sentence: &str) -> Option<&str> {
    const KINDS: &[&str] = &["pods", "nodes", "replicas", "deployments", "services", "containers", "jobs", "ingresses"];
    let words: Vec<&str> = sentence.split_whitespace().collect();
    let at = words.windows(3).position(|three| {
        let is_count = three[0].parse::<u32>().is_ok();
        is_count && KINDS.contains(&three[1]) && matches!(three[2], "are" | "were" | "have")
    })?;
    // The words are slices of the sentence.
    let start = words[at].as_ptr() as usize - sentence.as_ptr() as usize;
    let end = words[at + 2].as_ptr() as usize - sentence.as_ptr() as usize + words[at + 2].len();
    sentence.get(start..end)
}

fn is_hypothetical(sentence: &str) -> bool {
    sentence.contains('?')
        || sentence.split_whitespace().any(|word| {
            let word = word.trim_matches([',', '(', ':', '*']);
            HYPOTHETICAL_WORDS.iter().any(|known| known.eq_ignore_ascii_case(word))
        })
}

fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.split_inclusive(". ")).flat_map(|part| part.split_inclusive("? "))
}

fn trim_word(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_alphanumeric())
}

/// Which code is left out of a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CodeForm {
    /// Fenced blocks.
    Block,
    /// Fenced blocks, and code within a line.
    Any,
}

/// Returns a text of Markdown without its code.
fn without_code(text: &str, form: CodeForm) -> String {
    let mut prose = String::with_capacity(text.len());
    let mut fence: Option<&str> = None;
    for line in text.split_inclusive('\n') {
        let start = line.trim_start();
        match fence {
            Some(mark) if start.starts_with(mark) => fence = None,
            Some(_) => {}
            None => match ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark)) {
                Some(mark) => fence = Some(mark),
                None if form == CodeForm::Any => {
                    // The odd pieces are code; an unpaired backtick begins none.
                    let pieces: Vec<&str> = line.split('`').collect();
                    let is_code = |at: usize| at % 2 == 1 && at + 1 < pieces.len();
                    for (at, piece) in pieces.iter().enumerate() {
                        // What stood around code is not one word.
                        prose.push_str(if is_code(at) { "`" } else { piece });
                    }
                }
                None => prose.push_str(line),
            },
        }
    }
    prose
}

#[cfg(test)]
mod tests {
    use k8sops_core::{Timestamp, ToolMessage, ToolStatus, UserMessage};

    use super::*;

    fn output(number: u64, content: &str) -> Arc<ChatMessage> {
        Arc::new(ChatMessage::Tool(ToolMessage {
            tool_call_id: format!("call_{number}").parse().unwrap(),
            seq: number,
            ts: Timestamp::now(),
            number,
            name: "look".into(),
            status: ToolStatus::Ok,
            content: content.into(),
        }))
    }

    fn user(content: &str) -> Arc<ChatMessage> {
        Arc::new(ChatMessage::User(UserMessage::unlogged(content)))
    }

    #[test]
    fn numbers_in_brackets_are_citations_outside_of_code() {
        let messages = [output(2, ""), output(3, ""), output(4, "")];
        let cited = |text: &str| {
            let found = find_citations(text, &messages);
            (found.citations.iter().map(|c| c.n).collect::<Vec<_>>(), found.unknown)
        };
        for (text, known, unknown) in [
            ("The pod is killed [3].", vec![3], vec![]),
            ("Killed [3][4], and [2, 3]: again", vec![2, 3, 4], vec![]),
            ("**cause** [4]\n- [2] says so", vec![2, 4], vec![]),
            ("It is [7]; see [0].", vec![], vec![0, 7]),
            ("An old one [1] was dropped.", vec![], vec![]),
            (
                "`[7]` and containers[7], [7](https://example.com),\n[7]: https://example.com\n[2026], [ ], [x], [3.5]",
                vec![],
                vec![],
            ),
            ("```\n[7]\n```\nafter [2]", vec![2], vec![]),
            ("an odd ` backtick [7]", vec![], vec![7]),
            ("`args`[3] and (see [4])", vec![4], vec![]),
            ("[", vec![], vec![]),
            ("原因は[3]です", vec![3], vec![]),
            ("See [1].\n[1] https://example.com", vec![], vec![]),
        ] {
            assert_eq!(cited(text), (known, unknown), "{text}");
        }
        assert_eq!(find_citations("[1]", &[]).unknown, [1]);
        let call = &find_citations("[3]", &messages).citations[0];
        assert_eq!(call.tool_call_id.as_str(), "call_3");
    }

    #[test]
    fn facts_without_a_source_are_claims() {
        let asked = [user("why is checkout slow? 10.0.0.7 does not answer, it is NotReady")];
        for (answer, claim) in [
            ("The pod checkout-7d9f8b6c5-x2x9k was restarted.", Some("checkout-7d9f8b6c5-x2x9k")),
            ("The pod `shop/checkout-7d9f8b6c5-x2x9k` was restarted.", Some("shop/checkout-7d9f8b6c5-x2x9k")),
            ("It listens on 10.4.0.12:8080.", Some("10.4.0.12:8080")),
            ("Its container was OOMKilled.", Some("OOMKilled")),
            ("Only 1/3 are ready.", Some("1/3")),
            ("Good news. 12 pods are healthy.", Some("12 pods are")),
            ("There are problems: 3 pods are pending.", Some("3 pods are")),
            // The user said so.
            ("As you say, 10.0.0.7 is NotReady.", None),
            // An explanation, a condition, a command.
            ("OOMKilled means that the limit was reached.", None),
            ("If the pod is in CrashLoopBackOff, look at its logs.", None),
            ("Is it OOMKilled?", None),
            ("```\nkubectl logs checkout-7d9f8b6c5-x2x9k\n```", None),
            ("Use cert-manager and kube-state-metrics on 127.0.0.1 and/or 24/7.", None),
            ("I can look at the cluster for you.", None),
            // General knowledge.
            ("Open the ports 80/443, and forward to 8.8.8.8.", None),
            ("**Evicted** \u{2013} the kubelet removed the pod.", None),
            ("All pods are assigned an address.", None),
            ("It listens on 10.9.8.7.", None),
        ] {
            assert_eq!(
                find_unsupported_claim(answer, &asked, &["the gateway is 10.9.8.7"]).as_deref(),
                claim,
                "{answer}"
            );
        }
        assert_eq!(find_unsupported_claim("Only 1/3 are ready.", &[output(1, "checkout 1/3")], &[]), None);
    }
}
