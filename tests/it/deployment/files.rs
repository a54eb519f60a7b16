//! The files of the repository that are generated from the chart, or describe it.

use std::{collections::BTreeMap, path::Path};

use k8sops_testing::testbed;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::chart::{ROOT, chart_folder, parse_objects, run_command};

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn plain_manifests_are_up_to_date() {
    let written = TempDir::new().unwrap();
    let folder = Path::new(ROOT).join("deploy/manifests");
    let mut script = Command::new("bash");
    script.arg(folder.join("render.sh")).arg(written.path());
    script.env("HELM", testbed::path("K8SOPS_TEST_HELM")).env("HOME", std::env::temp_dir());
    run_command(&mut script, None).await.unwrap();
    let yaml = |folder: &Path| {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.extension().is_some_and(|end| end == "yaml"));
        files.map(|path| (path.file_name().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap())).collect()
    };
    let (there, today): (BTreeMap<_, String>, BTreeMap<_, String>) = (yaml(&folder), yaml(written.path()));
    assert_eq!(there, today, "render them again: HELM=… bash deploy/manifests/render.sh");
    for text in there.values() {
        assert!(parse_objects(text).await.len() >= 7);
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn chart_readme_lists_all_values() {
    let mut python = Command::new(testbed::path("K8SOPS_TEST_PYTHON"));
    python.args(["-c", "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)"]);
    let values = std::fs::read_to_string(chart_folder().join("values.yaml")).unwrap();
    let values: Value = serde_json::from_str(&run_command(&mut python, Some(&values)).await.unwrap()).unwrap();
    let readme = std::fs::read_to_string(chart_folder().join("README.md")).unwrap();
    let rows: BTreeMap<&str, Value> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | `"))
        .map(|(path, rest)| (path, serde_json::from_str(rest.split_once("` |").unwrap().0).unwrap()))
        .collect();
    for (path, default) in &rows {
        let found = path.split('.').fold(&values, |value, key| &value[key]);
        assert_eq!(found, default, "{path}");
    }
    let mut missing = Vec::new();
    collect_missing(&rows, &values, "", &mut missing);
    assert_eq!(missing, [""; 0], "not in the table");
}

fn collect_missing(rows: &BTreeMap<&str, Value>, value: &Value, path: &str, missing: &mut Vec<String>) {
    if rows.contains_key(path) {
        return;
    }
    match value.as_object().filter(|map| !map.is_empty()) {
        None => missing.push(path.to_owned()),
        Some(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect_missing(rows, value, &path, missing);
            }
        }
    }
}
