//! Long outputs as clusters return them, and generated ones.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const BUDGET: OutputBudget = OutputBudget { tokens: 8_000, bytes: 64 * 1024 };
const NOTE: Option<&str> = Some("read_output(call=\"c1\") shows more");

fn fit_within_budget(text: &str) -> String {
    let fitted = fit_output(text, None, BUDGET, NOTE);
    assert!(BUDGET.allows(&fitted.content), "{} bytes", fitted.content.len());
    assert_eq!(fitted.bytes, text.len() as u64);
    fitted.content
}

/// A pod as the API returns it, with `managedFields`.
fn pod(n: usize) -> Value {
    let is_failing = n == 1_400;
    let state = if is_failing { json!({"waiting": {"reason": "CrashLoopBackOff"}}) } else { json!({"running": {}}) };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("payments-api-{n}"), "namespace": "shop", "creationTimestamp": "2026-11-20T10:00:00Z",
            "uid": format!("0f1c0a1e-59a4-4b8e-9c3c-{n:012}"),
            "managedFields": [{"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": {"f:phase": {}}}}],
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "api", "image": "registry/payments:1.2"}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "api", "ready": !is_failing, "restartCount": if is_failing { 41 } else { 0 }, "state": state}]},
    })
}

fn assert_shows_failing_pod(content: &str) {
    assert!(content.contains("payments-api-1400") && content.contains("CrashLoopBackOff"), "{content}");
    assert!(content.contains("2800"), "{}", &content[..400]);
    assert!(content.contains("read_output"), "no advice on the rest");
}

#[test]
fn json_list_shows_the_failing_pod() {
    let items: Vec<Value> = (0..2_800).map(pod).collect();
    assert_shows_failing_pod(&fit_within_budget(&json!({"kind": "List", "items": items}).to_string()));
    assert_shows_failing_pod(&fit_within_budget(&serde_json::to_string_pretty(&items).unwrap()));
}

#[test]
fn placeholders_of_a_long_yaml_stay_as_they_are() {
    let secret = |n: usize| {
        let value = data_encoding::BASE64.encode(format!("value-{n}-{}", n * 7_919).as_bytes());
        format!("- apiVersion: v1\n  data:\n    password: {value}\n  kind: Secret\n  metadata:\n    name: secret-{n}\n")
    };
    let text = format!("apiVersion: v1\nitems:\n{}kind: List\n", (0..500).map(secret).collect::<String>());
    let vault = crate::redaction::RedactionVault::new(&[7; 32], "session");
    let redacted = vault.redact_text(&text, crate::redaction::ContentHint::Objects);
    let content = fit_within_budget(&redacted);
    assert!(content.contains("500 Secret") && content.contains("[secret:password:"), "{content}");
    // Without its brackets it would not become the value again when the model uses it.
    assert!(!content.contains("[\"secret:") && !content.contains("- secret:"), "{content}");
}

#[test]
fn yaml_list_shows_the_failing_pod() {
    let mut text = "apiVersion: v1\nitems:\n".to_owned();
    for n in 1_300..1_500 {
        let (is_failing, at) = if n == 1_400 {
            ("false", "waiting:\n          reason: CrashLoopBackOff")
        } else {
            ("true", "running:\n          startedAt: \"2026-11-20T10:00:00Z\"")
        };
        text.push_str(&format!("- apiVersion: v1\n  kind: Pod\n  metadata:\n    managedFields:\n    - manager: kubelet\n      operation: Update\n    name: payments-api-{n}\n    namespace: shop\n  spec:\n    containers:\n    - image: registry/payments:1.2\n      name: api\n  status:\n    containerStatuses:\n    - name: api\n      ready: {is_failing}\n      restartCount: 0\n      state:\n        {at}\n    phase: Running\n"));
    }
    text.push_str("kind: List\nmetadata:\n  resourceVersion: \"\"\n");
    let small = OutputBudget { tokens: 2_000, ..BUDGET };
    let content = fit_output(&text, None, small, NOTE).content;
    assert!(small.allows(&content));
    assert!(content.contains("payments-api-1400") && content.contains("CrashLoopBackOff"), "{content}");
    assert!(content.contains("200 Pod") && content.contains("left out as noise: managedFields of 200"), "{content}");
}

#[test]
fn printed_table_shows_the_unusual_row() {
    let mut text = "NAMESPACE  NAME                READY  STATUS            RESTARTS      AGE\n".to_owned();
    for n in 0..2_800 {
        let (ready, status, restarts) =
            if n == 1_400 { ("0/1", "CrashLoopBackOff", "41 (3m ago)") } else { ("1/1", "Running", "0") };
        text.push_str(&format!("shop       payments-api-{n:<6} {ready}    {status:<16}  {restarts:<12}  3d\n"));
    }
    assert_shows_failing_pod(&fit_within_budget(&text));
}

#[test]
fn long_log_shows_the_error_and_folds_the_rest() {
    let mut text = String::new();
    for n in 0..20_000 {
        if n == 10_000 {
            text.push_str("2026-11-23T10:00:00Z ERROR payment 4711 was refused by the bank\n");
        }
        text.push_str(&format!(
            "2026-11-23T09:{:02}:{:02}Z INFO request {n} served in {}ms\n",
            n / 60 % 60,
            n % 60,
            n % 17
        ));
    }
    let content = fit_within_budget(&text);
    assert!(content.contains("ERROR payment 4711"), "{content}");
    assert!(content.contains("[×20000, 2026-11-23T09:00:00Z to 09:33:19Z"), "{content}");
    let found = search_lines(&text, "refused", 1, 5, BUDGET);
    assert!(
        found.contains("10001: 2026-11-23T10:00:00Z ERROR payment 4711") && found.contains("1 of 1 matches"),
        "{found}"
    );
    let page = page_lines(&text, 10_001, None, 1, BUDGET);
    assert!(page.starts_with("2026-11-23T10:00:00Z ERROR") && page.contains("continue with from_line=10002"), "{page}");
}

#[test]
fn noise_is_kept_in_what_fits_and_is_named_in_what_does_not() {
    let applied = |replicas: usize| {
        json!({"metadata": {"name": "web"}, "spec": {"replicas": replicas, "note": "x".repeat(2_000)}}).to_string()
    };
    let object = |replicas| {
        json!({"kind": "Deployment", "metadata": {
                "name": "web", "managedFields": [{"manager": "m".repeat(1_000)}],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied(replicas)},
            }, "spec": {"replicas": 2, "note": "x".repeat(2_000)}})
        .to_string()
    };
    assert_eq!(fit_output(&object(2), None, BUDGET, None).content, object(2));
    let small = OutputBudget { bytes: 3_000, ..BUDGET };
    let same = fit_output(&object(2), None, small, NOTE);
    assert!(same.truncated && same.content.contains("managedFields of 1 objects"), "{}", same.content);
    assert!(
        same.content.contains("last-applied-configuration of 1 objects where it says the same"),
        "{}",
        same.content
    );
    // The object was scaled after it was applied.
    let different = fit_output(&object(5), None, small, NOTE).content;
    assert!(different.contains(r#"last-applied-configuration":"{\"spec\":{\"replicas\":5}}"#), "{different}");
}

#[test]
fn long_lines_keep_their_ends_and_what_sounds_wrong() {
    let word = "word ".repeat(20_000);
    let text = format!("begin {word} fatal: disk is gone {word} end");
    let small = OutputBudget { tokens: 1_000, bytes: 64 * 1024 };
    let content = fit_output(&text, None, small, NOTE).content;
    assert!(small.allows(&content) && content.contains("begin word") && content.contains("disk is gone"), "{content}");
    assert!(content.contains(" bytes]") && content.contains("read_output") && content.len() > 2_000, "{content}");
}

#[test]
fn structured_output_is_kept_if_both_fit() {
    let structured = Some(json!({"a": "0123456789"}));
    let structured_within =
        |bytes| fit_output("text", structured.clone(), OutputBudget { tokens: 100, bytes }, None).structured;
    assert_eq!(structured_within(100), structured);
    assert_eq!(structured_within(20), None);
    let tokens = OutputBudget { tokens: 3, bytes: 100 };
    assert_eq!(fit_output("text", structured, tokens, None).structured, None);
}

#[test]
fn pages_are_bounded() {
    let text = format!("{}\nb\nc", "x".repeat(1 << 20));
    let page = page_lines(&text, 1, None, 10, BUDGET);
    assert!(BUDGET.allows(&page) && page.contains("bytes more in this line") && page.contains("of 3"), "{page}");
    assert_eq!(page_lines("a\nb", 5, None, 1, BUDGET), "[the output has 2 lines]");
    assert_eq!(page_lines("a\nb", 2, None, 9, BUDGET), "b\n[lines 2 to 2 of 2]");
}

#[test]
fn long_lines_are_read_in_parts() {
    let words: Vec<String> = (0..40_000).map(|n| format!("word-{n}")).collect();
    let text = format!("first\n{}\nlast", words.join(" "));
    // Each part ends where the next one begins.
    let mut read = String::new();
    let mut at = Some(0);
    let mut pages = 0;
    while let Some(from) = at {
        let page = page_lines(&text, 2, Some(from), 1, BUDGET);
        assert!(BUDGET.allows(&page), "{}", page.len());
        let (part, note) = page.rsplit_once("\n[bytes ").unwrap();
        read.push_str(part);
        at = note.split_once("from_byte=").map(|(_, next)| next.trim_end_matches(']').parse().unwrap());
        assert!(at.is_some() || note.ends_with("continue with from_line=3]"), "{note}");
        pages += 1;
    }
    assert!(read == text.lines().nth(1).unwrap() && pages > 5, "{pages} pages");
    assert!(page_lines(&text, 1, None, 9, BUDGET).contains("from_line=2, from_byte=4000]"));
    assert!(page_lines(&text, 2, None, 1, BUDGET).len() > 10_000);
    assert_eq!(page_lines("ab", 1, Some(1), 1, BUDGET), "ab\n[lines 1 to 1 of 1]");
    // A match anywhere in the line is shown with what is around it.
    let found = search_lines(&text, "word-31234", 0, 5, BUDGET);
    let start = text.lines().nth(1).unwrap().find("word-31234 ").unwrap() - 300;
    assert!(found.starts_with(&format!("2: [byte {start}]…")), "{found}");
    assert!(found.contains("word-31233 word-31234 word-31235"), "{found}");
    assert!(found.contains("[1 of 1 matches in this line of"), "{found}");
    let many = search_lines(&text, "word-1.*", 2, 5, OutputBudget { tokens: 500, bytes: 5_000 });
    assert!(many.contains("word-1") && many.len() <= 5_000, "{many}");
    let every = search_lines(&text, "9 ", 0, 9, BUDGET);
    assert!(every.contains("[9 of 3999 matches in this line of"), "{every}");
}

#[test]
fn search_ignores_case_and_accepts_literals() {
    let text = "Error one\nfine\nerror (two";
    assert!(search_lines(text, "error", 0, 9, BUDGET).contains("2 of 2 matches"));
    assert!(search_lines(text, "Error", 0, 9, BUDGET).contains("1 of 1 matches"));
    let literal = search_lines(text, "(two", 0, 9, BUDGET);
    assert!(literal.contains("3: error (two") && literal.contains("searched literally"), "{literal}");
    assert!(search_lines(text, "nothing", 0, 9, BUDGET).contains("no line of 3 matches"));
    assert!(search_lines(text, "error", 0, 1, BUDGET).contains("1 of 2 matches"));
    assert!(search_lines(text, "fine", 1, 9, BUDGET).starts_with("1- Error one\n2: fine\n3- error (two\n"));
}

proptest! {
    #[test]
    fn short_outputs_are_unchanged(text in "\\PC{0,64}") {
        let fitted = fit_output(&text, None, BUDGET, NOTE);
        prop_assert_eq!(fitted.content, text);
        prop_assert!(!fitted.truncated);
    }

    #[test]
    fn outputs_stay_within_budget(
        text in prop_oneof!["([a-z\n]|\\PC){0,400}", "([A-Z]{2,8} +){2,4}\n([a-z0-9/ ]{0,40}\n){30,60}", "(ERROR|INFO) [a-z0-9 ]{0,60}\n{1,40}"],
        times in 1_usize..6,
        tokens in 0_usize..120,
        bytes in 0_usize..600,
    ) {
        let budget = OutputBudget { tokens, bytes };
        let text = text.repeat(times);
        for note in [None, NOTE] {
            let fitted = fit_output(&text, None, budget, note);
            prop_assert!(fitted.content.len() <= bytes, "{} > {bytes}", fitted.content.len());
            prop_assert!(budget.allows(&fitted.content) || fitted.content.len() <= budget.estimate_bytes());
        }
        page_lines(&text, 1, None, 5, budget);
        search_lines(&text, "a", 1, 5, budget);
    }
}
