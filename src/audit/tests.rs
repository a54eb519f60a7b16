//! Tampering with a trail is detected, and a failed write is an error.

use std::{path::Path, sync::Arc};

use k8sops_core::{SessionId, ToolEffect};
use k8sops_telemetry::Metrics;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{options::AuditDestination, *};

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new())
}

fn to(path: &Path) -> AuditDestination {
    AuditDestination::File(path.to_owned())
}

fn entry(n: usize) -> AuditRecord {
    let arguments = json!({"replicas": n});
    AuditRecord::new(AuditAction::SettingsChanged)
        .with_actor("user:anna")
        .with_session(SessionId::new())
        .with_arguments(&arguments)
}

/// Returns a trail to which one process per element of `chains` wrote that many records and then shut down.
async fn trail(path: &Path, chains: &[usize]) -> String {
    for records in chains {
        let audit = AuditTrail::open(&to(path), "replica", metrics()).unwrap();
        audit.record((0..*records).map(entry).collect()).await;
        audit.close().await;
    }
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn file_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    trail(&path, &[1]).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn each_process_adds_a_chain() {
    let dir = TempDir::new().unwrap();
    let text = trail(&dir.path().join("audit"), &[3, 0, 2]).await;
    let report = verify_trail(&text).unwrap();
    assert_eq!((report.records, report.chains, report.closed, report.lost), (3 + 2 + 6, 3, true, 0));
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["action"], &first["replica"], &first["seq"]),
        (&json!("chain_started"), &json!("replica"), &json!(0))
    );
    assert!(text.ends_with('\n') && !text.contains("replicas"), "only the hash of arguments is stored: {text}");
}

#[tokio::test]
async fn unclosed_chain_is_reported() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit");
    let text = trail(&path, &[3]).await;
    // As after a crash or a truncation: two records of three and no closing record.
    std::fs::write(&path, text.split_inclusive('\n').take(3).collect::<String>()).unwrap();
    let report = verify_trail(&trail(&path, &[1]).await).unwrap();
    assert_eq!((report.chains, report.broken_off, report.closed), (2, 1, true));
    assert_eq!(verify_trail(&text).unwrap().broken_off, 0);
}

#[test]
fn argument_hash_is_independent_of_formatting() {
    let a: Value = serde_json::from_str(r#"{"b": [1, {"y": null, "x": "é"}], "a": {}, "c": []}"#).unwrap();
    let b: Value = serde_json::from_str(r#"{"a":{},"c":[],"b":[1,{"x":"\u00e9","y":null}]}"#).unwrap();
    assert_eq!(canonical_sha256(&a), canonical_sha256(&b));
    // `printf '{"a":1}' | sha256sum`
    assert_eq!(canonical_sha256(&json!({"a": 1})), "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862");
}

#[tokio::test]
async fn file_is_locked_and_torn_line_is_reported() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit");
    let audit = AuditTrail::open(&to(&path), "a", metrics()).unwrap();
    let error = AuditTrail::open(&to(&path), "b", metrics()).unwrap_err().to_string();
    assert!(error.contains("another process"), "{error}");
    audit.record_durably(entry(1)).await.unwrap();
    audit.close().await;
    let mut text = std::fs::read_to_string(&path).unwrap();
    // The process was killed in the middle of a line.
    text.push_str("{\"seq\":3,\"ts\":\"2026");
    std::fs::write(&path, &text).unwrap();
    assert!(verify_trail(&text).is_err());
    let text = trail(&path, &[1]).await;
    assert_eq!(verify_trail(&text).unwrap().chains, 2);
    // An altered line that was whole is a fault.
    let altered = text.replacen("settings_changed", "session_deleted", 1);
    assert_eq!(verify_trail(&altered).unwrap_err().line, 2);
}

#[tokio::test]
async fn chain_continues_after_rotation() {
    let dir = TempDir::new().unwrap();
    let (path, old) = (dir.path().join("audit"), dir.path().join("audit.1"));
    let audit = AuditTrail::open(&to(&path), "a", metrics()).unwrap();
    audit.record(vec![entry(1)]).await;
    // The file was not moved, so reopening has no effect.
    audit.reopen().await;
    audit.record_durably(entry(2)).await.unwrap();
    std::fs::rename(&path, &old).unwrap();
    audit.reopen().await;
    audit.record_durably(entry(3)).await.unwrap();
    audit.close().await;
    let (first, second) = (std::fs::read_to_string(old).unwrap(), std::fs::read_to_string(path).unwrap());
    assert!(verify_trail(&first).unwrap().closed && verify_trail(&second).unwrap().closed);
    let both = verify_trail(&format!("{first}{second}")).unwrap();
    assert_eq!((both.records, both.chains), (7, 1));
    // The second file without its first line, and both files without the end of the first.
    let rest = |text: &str| text.split_inclusive('\n').skip(1).collect::<String>();
    assert_eq!(verify_trail(&rest(&second)).unwrap_err().line, 1);
    let cut: String = first.split_inclusive('\n').take(2).collect();
    assert_eq!(verify_trail(&format!("{cut}{second}")).unwrap_err().line, 3);
}

#[tokio::test]
async fn failed_write_is_an_error() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let error = AuditTrail::open(&to(Path::new("/dev/full")), "a", metrics()).unwrap_err();
    assert!(matches!(error, AuditError::Write(_)), "{error}");
    let dir = TempDir::new().unwrap();
    assert!(AuditTrail::open(&to(dir.path()), "a", metrics()).is_err(), "a folder is not a file");
    let call = AuditRecord::new(AuditAction::ToolCallStarted).with_tool_call(
        &"c1".parse().unwrap(),
        "s",
        "t",
        ToolEffect::Mutating,
    );
    let audit = AuditTrail::open(&to(&dir.path().join("audit")), "a", metrics()).unwrap();
    audit.close().await;
    assert!(matches!(audit.record_durably(call).await, Err(AuditError::Closed)));
}

/// A modification of a trail.
#[derive(Debug, Clone)]
enum Tampering {
    Alter(usize, usize),
    Remove(usize),
    Swap(usize, usize),
    Behead(usize),
    CutBytes(usize),
    Duplicate(usize),
}

impl Tampering {
    fn apply(&self, text: &str) -> String {
        let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
        let count = lines.len();
        match *self {
            Self::Alter(line, at) => {
                let line = &mut lines[line % count];
                let mut bytes = std::mem::take(line).into_bytes();
                let at = at % (bytes.len() - 1);
                bytes[at] = if bytes[at] == b'7' { b'8' } else { b'7' };
                *line = String::from_utf8(bytes).unwrap();
            }
            Self::Remove(line) => {
                // Without its last line a closed chain is open, which is not a fault.
                lines.remove(line % (count - 1));
            }
            Self::Swap(a, b) => lines.swap(a % count, b % count),
            Self::Behead(some) => {
                lines.drain(..=(some % (count - 1)));
            }
            Self::CutBytes(some) => {
                let last = lines.last_mut().unwrap();
                last.truncate(last.len() - 1 - some % (last.len() - 1));
            }
            Self::Duplicate(line) => {
                let line = line % count;
                lines.insert(line, lines[line].clone());
            }
        }
        lines.concat()
    }
}

fn tampering() -> impl Strategy<Value = Tampering> {
    let n = || any::<usize>();
    prop_oneof![
        (n(), n()).prop_map(|(a, b)| Tampering::Alter(a, b)),
        n().prop_map(Tampering::Remove),
        (n(), n()).prop_map(|(a, b)| Tampering::Swap(a, b)),
        n().prop_map(Tampering::Behead),
        n().prop_map(Tampering::CutBytes),
        n().prop_map(Tampering::Duplicate),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn tampering_with_closed_trail_is_detected(chains in prop::collection::vec(0..5_usize, 1..4), tampering in tampering()) {
        let dir = TempDir::new().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let text = runtime.block_on(trail(&dir.path().join("audit"), &chains));
        let whole = verify_trail(&text).unwrap();
        prop_assert!(whole.closed);
        let tampered = tampering.apply(&text);
        prop_assume!(tampered != text);
        let found = verify_trail(&tampered);
        prop_assert!(found.is_err(), "{tampering:?} in {chains:?}: {found:?}\n{tampered}");
    }

    #[test]
    fn truncated_trail_is_not_closed(chains in prop::collection::vec(0..5_usize, 1..3), cut in 1..9_usize) {
        let dir = TempDir::new().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let text = runtime.block_on(trail(&dir.path().join("audit"), &chains));
        let lines: Vec<_> = text.split_inclusive('\n').collect();
        let kept = lines.len().saturating_sub(cut).max(1);
        let shown = verify_trail(&lines[..kept].concat()).map(|report| report.closed && report.head == verify_trail(&text).unwrap().head);
        prop_assert!(matches!(shown, Ok(false) | Err(_)), "{shown:?}");
    }
}
