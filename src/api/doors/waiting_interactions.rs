//! What a run waits for from its user.

use k8sops_core::{ApprovalAudience, ApprovalId, ApprovalRequested, InputId, InputRequested, OpenRun, Timestamp};

/// How many hexadecimal digits of an id a user has to type.
const SHORT_ID_DIGITS: usize = 6;

/// Something that a user answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InteractionId {
    Approval(ApprovalId),
    Input(InputId),
}

impl InteractionId {
    /// Returns the id in hexadecimal.
    pub(super) fn digits(self) -> String {
        data_encoding::HEXLOWER.encode(match &self {
            Self::Approval(id) => id.as_bytes(),
            Self::Input(id) => id.as_bytes(),
        })
    }
}

/// The approvals and questions that a run waits for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct WaitingInteractions {
    pub(super) approvals: Vec<ApprovalRequested>,
    pub(super) inputs: Vec<InputRequested>,
}

impl WaitingInteractions {
    /// Returns what a run waits for now, without what has expired.
    pub(super) fn from_run(run: &OpenRun) -> Self {
        Self::from_run_at(run, Timestamp::now())
    }

    /// Returns what a run waits for, without what has expired at `now`.
    pub(super) fn from_run_at(run: &OpenRun, now: Timestamp) -> Self {
        Self {
            approvals: run.pending_approvals().filter(|asked| asked.expires_at > now).cloned().collect(),
            inputs: run.pending_inputs().filter(|asked| asked.expires_at > now).cloned().collect(),
        }
    }

    /// Returns the ids of everything that waits, approvals first.
    pub(super) fn ids(&self) -> impl Iterator<Item = InteractionId> {
        let approvals = self.approvals.iter().map(|asked| InteractionId::Approval(asked.approval_id));
        approvals.chain(self.inputs.iter().map(|asked| InteractionId::Input(asked.input_id)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.approvals.is_empty() && self.inputs.is_empty()
    }

    /// Describes everything in Markdown, each with the words that answer it.
    pub(super) fn describe(&self) -> String {
        let approvals = self.approvals.iter().map(describe_approval);
        let inputs = self.inputs.iter().map(describe_input);
        approvals.chain(inputs).collect::<Vec<_>>().join("\n\n")
    }
}

/// Returns the short form of an approval's id: its last digits, because the first ones are a time.
pub(super) fn short_approval_id(id: ApprovalId) -> String {
    short_id(id.as_bytes())
}

/// Returns the short form of a question's id.
pub(super) fn short_input_id(id: InputId) -> String {
    short_id(id.as_bytes())
}

/// Whether an id ends with the digits that a user typed.
pub(super) fn has_short_id(id: &[u8; 16], typed: &str) -> bool {
    data_encoding::HEXLOWER.encode(id).ends_with(typed)
}

fn short_id(id: &[u8; 16]) -> String {
    let digits = data_encoding::HEXLOWER.encode(id);
    digits[digits.len() - SHORT_ID_DIGITS..].to_owned()
}

fn describe_approval(asked: &ApprovalRequested) -> String {
    let request = describe_approval_request(asked);
    if let Some(decider) = describe_decider(asked) {
        return format!("{request}\n\n{decider}");
    }
    let id = short_approval_id(asked.approval_id);
    format!("{request}\n\nReply `approve {id}` or `deny {id}`.")
}

/// Says who decides a call that the user of the session may not decide.
pub(super) fn describe_decider(asked: &ApprovalRequested) -> Option<&'static str> {
    match asked.answered_by {
        ApprovalAudience::Owner => None,
        ApprovalAudience::Approver => Some(
            "Another user with the role `approver` has to decide: in the console, with `k8sops approvals`, or by \
             `GET /v1/approvals`.",
        ),
    }
}

/// Describes a call that waits for an approval in Markdown.
pub(super) fn describe_approval_request(asked: &ApprovalRequested) -> String {
    let what = if asked.summary.is_empty() { compact_json(&asked.arguments) } else { asked.summary.clone() };
    let mut text = format!("**Approval needed** for `{}`: {what}\n", asked.name);
    let mut place = Vec::new();
    place.extend(asked.cluster.as_ref().map(|cluster| format!("cluster `{cluster}`")));
    place.extend((!asked.server.is_empty()).then(|| format!("server `{}`", asked.server)));
    if !place.is_empty() {
        text.push_str(&format!("({})\n", place.join(", ")));
    }
    if !asked.summary.is_empty() {
        text.push_str(&format!("Arguments: `{}`\n", compact_json(&asked.arguments).replace('`', "'")));
    }
    for dependents in &asked.dependents {
        text.push_str(&format!("Also affected: {} ({})\n", dependents.what, dependents.count));
    }
    if let Some(preview) = &asked.preview {
        // A fence in the preview would end this block.
        text.push_str(&format!("\n```diff\n{}\n```\n", preview.trim_end().replace("```", "'''")));
        if let Some(detail) = asked.preview_detail.as_ref().filter(|detail| detail.lines_omitted > 0) {
            text.push_str(&format!("({} more lines are not shown)\n", detail.lines_omitted));
        }
    }
    text.trim_end().to_owned()
}

/// Describes a question in Markdown.
pub(super) fn describe_input_request(asked: &InputRequested) -> String {
    let question = format!("**Question** of the server `{}`: {}", asked.server, asked.message.trim());
    match &asked.url {
        Some(url) => format!("{question}\nIt asks to open {url}"),
        None => question,
    }
}

fn describe_input(asked: &InputRequested) -> String {
    let id = short_input_id(asked.input_id);
    let mut text = format!("{}\n", describe_input_request(asked));
    match (&asked.url, &asked.schema) {
        (Some(_), _) => {
            text.push_str(&format!("\nReply `accept {id}` when that is done, or `decline {id}`."));
        }
        (None, Some(schema)) => {
            let fields = schema.get("properties").and_then(|properties| properties.as_object());
            let names: Vec<&str> = fields.iter().flat_map(|fields| fields.keys().map(String::as_str)).collect();
            let form = match names.as_slice() {
                [] => format!("accept {id}"),
                [_] => format!("accept {id} VALUE"),
                names => {
                    let pairs: Vec<String> = names.iter().map(|name| format!("\"{name}\": …")).collect();
                    format!("accept {id} {{{}}}", pairs.join(", "))
                }
            };
            text.push_str(&format!("\nReply `{form}` or `decline {id}`."));
        }
        (None, None) => text.push_str(&format!("\nReply `accept {id}` or `decline {id}`.")),
    }
    text
}

/// Returns a value as one line of JSON.
pub(super) fn compact_json(value: &serde_json::Value) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
