//! Texts that a user attaches to a message, treated like the outputs of tools: without secrets and hidden characters, within the output
//! budget, and stored whole where they are shortened.

use std::{borrow::Cow, sync::Arc};

use k8sops_core::{MessageAttachment, SentAttachment};
use k8sops_models::tokens;

use crate::{
    output::{OutputBudget, TruncatedOutput, fit_output},
    output_tools::reading_advice,
    redaction::{ContentHint, RedactionVault},
    sanitize::remove_hidden_chars,
};

/// All attachments of a message together have so many times the budget of one output.
const SHARED_BUDGETS: usize = 2;

/// Redacts attachments, and shortens those that exceed their share of the budget. Those that need less than their share leave the
/// rest to the others.
pub(crate) fn prepare_attachments(
    vault: &RedactionVault,
    attachments: Vec<SentAttachment>,
    budget: OutputBudget,
) -> Vec<SentAttachment> {
    let redacted: Vec<SentAttachment> = attachments.into_iter().map(|sent| redact_attachment(vault, sent)).collect();
    let mut order: Vec<usize> = (0..redacted.len()).collect();
    order.sort_by_key(|at| redacted[*at].attachment.text.len());
    let factor = SHARED_BUDGETS.min(redacted.len());
    let mut left = OutputBudget { tokens: budget.tokens * factor, bytes: budget.bytes * factor };
    let mut prepared: Vec<Option<SentAttachment>> = vec![None; redacted.len()];
    for (done, at) in order.iter().enumerate() {
        let waiting = redacted.len() - done;
        let share = OutputBudget {
            tokens: (left.tokens / waiting).min(budget.tokens),
            bytes: (left.bytes / waiting).min(budget.bytes),
        };
        let fitted = fit_attachment(redacted[*at].clone(), share);
        left.bytes = left.bytes.saturating_sub(fitted.attachment.text.len());
        left.tokens = left.tokens.saturating_sub(tokens::count(&fitted.attachment.text));
        prepared[*at] = Some(fitted);
    }
    prepared.into_iter().flatten().collect()
}

fn redact_attachment(vault: &RedactionVault, sent: SentAttachment) -> SentAttachment {
    let SentAttachment { attachment, .. } = sent;
    let name = remove_hidden_chars(&attachment.name).into_owned();
    let visible = remove_hidden_chars(&attachment.text);
    let text = match vault.redact_text(&visible, ContentHint::Any) {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    };
    SentAttachment { attachment: MessageAttachment { name, text, ..attachment }, whole: None }
}

fn fit_attachment(sent: SentAttachment, budget: OutputBudget) -> SentAttachment {
    let SentAttachment { attachment, .. } = sent;
    let advice = reading_advice(&attachment.attachment_id);
    let TruncatedOutput { content, truncated, .. } = fit_output(&attachment.text, None, budget, Some(&advice));
    if !truncated {
        return SentAttachment { attachment, whole: None };
    }
    let whole = Some(Arc::from(attachment.text));
    SentAttachment { attachment: MessageAttachment { text: content, truncated, ..attachment }, whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(name: &str, text: &str) -> SentAttachment {
        SentAttachment::from_client(name.to_owned(), "text/plain".to_owned(), text.to_owned())
    }

    fn similar_lines(count: usize) -> String {
        let lines: Vec<String> = (0..count).map(|n| format!("line {n} is like the others")).collect();
        lines.join("\n") + "\n"
    }

    #[test]
    fn long_attachment_is_shortened_and_a_short_one_leaves_it_the_room() {
        let vault = RedactionVault::new(&[0; 32], "s");
        let log = similar_lines(20_000);
        let budget = OutputBudget { tokens: 1_000, bytes: 8_000 };
        let prepared = prepare_attachments(&vault, vec![sent("app.log", &log), sent("a.yaml", "kind: Pod\n")], budget);
        let [log_file, manifest] = &prepared[..] else { panic!("{prepared:?}") };
        assert_eq!((manifest.attachment.text.as_str(), manifest.attachment.truncated), ("kind: Pod\n", false));
        assert!(log_file.attachment.truncated && log_file.attachment.text.len() <= 8_000);
        assert!(tokens::count(&log_file.attachment.text) > 500, "it has the whole budget of an output");
        assert_eq!(log_file.attachment.bytes, log.len() as u64);
        assert_eq!(log_file.whole.as_deref(), Some(log.as_str()));
        let id = log_file.attachment.attachment_id.as_str();
        assert!(log_file.attachment.text.contains(&format!("read_output(call={id:?}")), "{}", log_file.attachment.text);
    }

    #[test]
    fn many_long_attachments_share_two_budgets() {
        let vault = RedactionVault::new(&[0; 32], "s");
        let log = similar_lines(9_000);
        let budget = OutputBudget { tokens: 1_000, bytes: 8_000 };
        let all = (0..6).map(|n| sent(&format!("{n}.log"), &log)).collect();
        let prepared = prepare_attachments(&vault, all, budget);
        let used: usize = prepared.iter().map(|sent| tokens::count(&sent.attachment.text)).sum();
        assert!(prepared.iter().all(|sent| sent.attachment.truncated) && used <= 2_000, "{used}");
    }

    #[test]
    fn secrets_and_hidden_characters_are_neither_shown_nor_stored() {
        let vault = RedactionVault::new(&[0; 32], "s");
        let manifest =
            "kind: Secret\napiVersion: v1\nmetadata: {name: db}\nstringData:\n  password: hunter2-very-long\n";
        let text = format!("{manifest}# \u{202e}x{}", "\npad".repeat(9_000));
        let prepared = prepare_attachments(
            &vault,
            vec![sent("s\u{200b}.yaml", &text)],
            OutputBudget { tokens: 500, bytes: 4_000 },
        );
        let SentAttachment { attachment, whole } = &prepared[0];
        assert_eq!(attachment.name, "s.yaml");
        let whole = whole.as_deref().unwrap();
        for shown in [attachment.text.as_str(), whole] {
            assert!(!shown.contains("hunter2") && !shown.contains('\u{202e}'), "{shown}");
        }
        assert!(whole.contains("[secret:"));
    }
}
