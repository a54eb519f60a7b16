//! What is found in a trail, whatever is done to it; and that nothing is sent without a record.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use k8sops_core::{SessionId, ToolEffect};

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new())
}

fn to(path: &Path) -> AuditDestination {
    AuditDestination::File(path.to_owned())
}

fn entry(n: usize) -> Entry {
    let arguments = json!({"replicas": n});
    Entry::new(Action::SettingsChanged).by("user:anna").in_session(SessionId::new()).with(&arguments)
}

/// A trail of processes that wrote so many records each, and ended in order.
async fn trail(path: &Path, chains: &[usize]) -> String {
    for records in chains {
        let audit = Audit::open(&to(path), "replica", metrics()).unwrap();
        audit.record((0..*records).map(entry).collect()).await;
        audit.close().await;
    }
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn a_trail_of_several_processes_is_one_chain_after_the_other() {
    let dir = TempDir::new().unwrap();
    let text = trail(&dir.path().join("audit"), &[3, 0, 2]).await;
    let report = verify(&text).unwrap();
    assert_eq!((report.records, report.chains, report.closed, report.lost), (3 + 2 + 6, 3, true, 0));
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["action"], &first["replica"], &first["seq"]),
        (&json!("chain_started"), &json!("replica"), &json!(0))
    );
    assert!(text.ends_with('\n') && !text.contains("replicas"), "arguments are there by their hash only: {text}");
}

#[tokio::test]
async fn a_chain_that_did_not_end_before_the_next_began_is_told_of() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit");
    let text = trail(&path, &[3]).await;
    // As after a crash, or when somebody cut the end off: two records of three, and no end.
    std::fs::write(&path, text.split_inclusive('\n').take(3).collect::<String>()).unwrap();
    let report = verify(&trail(&path, &[1]).await).unwrap();
    assert_eq!((report.chains, report.broken_off, report.closed), (2, 1, true));
    assert_eq!(verify(&text).unwrap().broken_off, 0);
}

#[test]
fn the_hash_of_arguments_does_not_depend_on_how_they_were_written() {
    let a: Value = serde_json::from_str(r#"{"b": [1, {"y": null, "x": "é"}], "a": {}, "c": []}"#).unwrap();
    let b: Value = serde_json::from_str(r#"{"a":{},"c":[],"b":[1,{"x":"\u00e9","y":null}]}"#).unwrap();
    assert_eq!(hash_of(&a), hash_of(&b));
    // `printf '{"a":1}' | sha256sum`
    assert_eq!(hash_of(&json!({"a": 1})), "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862");
}

#[tokio::test]
async fn a_file_belongs_to_one_process_and_a_torn_line_is_told_and_not_hidden() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit");
    let audit = Audit::open(&to(&path), "a", metrics()).unwrap();
    let error = Audit::open(&to(&path), "b", metrics()).unwrap_err().to_string();
    assert!(error.contains("another process"), "{error}");
    audit.record_durably(entry(1)).await.unwrap();
    audit.close().await;
    let mut text = std::fs::read_to_string(&path).unwrap();
    // Killed in the middle of a line.
    text.push_str("{\"seq\":3,\"ts\":\"2026");
    std::fs::write(&path, &text).unwrap();
    assert!(verify(&text).is_err());
    let text = trail(&path, &[1]).await;
    assert_eq!(verify(&text).unwrap().chains, 2);
    // The same with a line that was whole is an alteration.
    let altered = text.replacen("settings_changed", "session_deleted", 1);
    assert_eq!(verify(&altered).unwrap_err().line, 2);
}

#[tokio::test]
async fn a_moved_file_is_gone_on_from_in_a_new_one() {
    let dir = TempDir::new().unwrap();
    let (path, old) = (dir.path().join("audit"), dir.path().join("audit.1"));
    let audit = Audit::open(&to(&path), "a", metrics()).unwrap();
    audit.record(vec![entry(1)]).await;
    // Nothing was moved: nothing happens.
    audit.reopen().await;
    audit.record_durably(entry(2)).await.unwrap();
    std::fs::rename(&path, &old).unwrap();
    audit.reopen().await;
    audit.record_durably(entry(3)).await.unwrap();
    audit.close().await;
    let (first, second) = (std::fs::read_to_string(old).unwrap(), std::fs::read_to_string(path).unwrap());
    assert!(verify(&first).unwrap().closed && verify(&second).unwrap().closed);
    let both = verify(&format!("{first}{second}")).unwrap();
    assert_eq!((both.records, both.chains), (7, 1));
    // The second without its beginning, and both without the end of the first.
    let rest = |text: &str| text.split_inclusive('\n').skip(1).collect::<String>();
    assert_eq!(verify(&rest(&second)).unwrap_err().line, 1);
    let cut: String = first.split_inclusive('\n').take(2).collect();
    assert_eq!(verify(&format!("{cut}{second}")).unwrap_err().line, 3);
}

#[tokio::test]
async fn a_record_that_cannot_be_written_is_an_error_and_a_counted_gap() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let error = Audit::open(&to(Path::new("/dev/full")), "a", metrics()).unwrap_err();
    assert!(matches!(error, AuditError::Write(_)), "{error}");
    let dir = TempDir::new().unwrap();
    assert!(Audit::open(&to(dir.path()), "a", metrics()).is_err(), "a folder is no file");
    let call = Entry::new(Action::ToolCallStarted).call(&"c1".parse().unwrap(), "s", "t", ToolEffect::Mutating);
    let audit = Audit::open(&to(&dir.path().join("audit")), "a", metrics()).unwrap();
    audit.close().await;
    assert_eq!(audit.record_durably(call).await, Err(AuditError::Closed));
}

/// What somebody may do to a trail.
#[derive(Debug, Clone)]
enum Tampering {
    Alter(usize, usize),
    Remove(usize),
    Swap(usize, usize),
    Behead(usize),
    CutBytes(usize),
    Double(usize),
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
                // The last line is the end of a closed chain: without it the chain is open.
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
            Self::Double(line) => {
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
        n().prop_map(Tampering::Double),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_to_a_closed_trail_shows(chains in prop::collection::vec(0..5_usize, 1..4), tampering in tampering()) {
        let dir = TempDir::new().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let text = runtime.block_on(trail(&dir.path().join("audit"), &chains));
        let whole = verify(&text).unwrap();
        prop_assert!(whole.closed);
        let tampered = tampering.apply(&text);
        prop_assume!(tampered != text);
        let found = verify(&tampered);
        prop_assert!(found.is_err(), "{tampering:?} in {chains:?}: {found:?}\n{tampered}");
    }

    #[test]
    fn a_closed_trail_without_its_last_lines_is_not_closed(chains in prop::collection::vec(0..5_usize, 1..3), cut in 1..9_usize) {
        let dir = TempDir::new().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let text = runtime.block_on(trail(&dir.path().join("audit"), &chains));
        let lines: Vec<_> = text.split_inclusive('\n').collect();
        let kept = lines.len().saturating_sub(cut).max(1);
        let shown = verify(&lines[..kept].concat()).map(|report| report.closed && report.head == verify(&text).unwrap().head);
        prop_assert!(matches!(shown, Ok(false) | Err(_)), "{shown:?}");
    }
}
