//! Outputs that real tools gave in public evals, each with the expressions that its expected answer rests on. The recordings
//! stand beside the repository; the test says so when they are absent.

use std::{path::Path, process::Command};

use regex::Regex;
use serde::Deserialize;

use super::*;

/// Folder of the recordings, relative to the root of the workspace.
const FOLDER: &str = "../shared/recordings";

#[derive(Deserialize)]
struct Recording {
    file: String,
    must_keep: Vec<String>,
}

#[test]
fn recordings_keep_what_their_answers_rest_on() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(FOLDER);
    let Ok(index) = std::fs::read_to_string(folder.join("index.json")) else {
        eprintln!("SKIPPED: there are no recordings in {FOLDER}, so nothing was checked against them");
        return;
    };
    let recordings: Vec<Recording> = serde_json::from_str(&index).unwrap();
    let mut lost = Vec::new();
    for recording in &recordings {
        let unpacked =
            Command::new("xz").arg("-dc").arg(folder.join(&recording.file)).output().expect("xz is installed");
        assert!(unpacked.status.success(), "{} cannot be unpacked", recording.file);
        let text = String::from_utf8_lossy(&unpacked.stdout).into_owned();
        for tokens in [8_000, 3_200, 1_600] {
            let budget = OutputBudget { tokens, bytes: 64 * 1024 };
            let content = fit_output(&text, None, budget, Some("read_output shows more")).content;
            assert!(budget.allows(&content), "{} exceeds {tokens} tokens", recording.file);
            let missing = recording.must_keep.iter().filter(|pattern| !Regex::new(pattern).unwrap().is_match(&content));
            lost.extend(missing.map(|pattern| format!("{} at {tokens} tokens: {pattern}", recording.file)));
        }
    }
    assert!(!recordings.is_empty() && lost.is_empty(), "lost: {lost:#?}");
}
