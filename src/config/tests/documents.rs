//! The documents that are made from the declarations.

use std::path::Path;

use k8sops_settings::render::{section_schema, settings_schema};
use serde_json::Value;

use super::*;

/// Compares a file of the repository with what it should be; `K8SOPS_WRITE_DOCUMENTS=1` writes it.
fn assert_file_is(path: &str, expected: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("K8SOPS_WRITE_DOCUMENTS").is_some() {
        std::fs::write(&file, expected).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    let line = found.lines().zip(expected.lines()).position(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "{path} differs at line {:?}; write it with: K8SOPS_WRITE_DOCUMENTS=1 cargo test --lib config::tests::documents",
        line.map(|line| line + 1)
    );
}

#[test]
fn generated_documents_are_current() {
    for (path, document) in [
        ("docs/src/configuration/reference.md", GeneratedDocument::Reference),
        (".env.example", GeneratedDocument::EnvExample),
        ("config/settings.yaml", GeneratedDocument::YamlDefaults),
        ("config/settings.schema.json", GeneratedDocument::JsonSchema),
    ] {
        assert_file_is(path, &document.render());
    }
}

#[test]
fn env_example_loads_with_and_without_its_examples() {
    let example = GeneratedDocument::EnvExample.render();
    load_valid(SettingSources { dotenv: Some(example.clone()), ..env_sources(&[]) });
    let is_example = |line: &&str| line.starts_with(|c: char| c.is_ascii_uppercase());
    let examples = example.lines().filter_map(|line| line.strip_prefix('#')).filter(is_example);
    let examples: Vec<&str> = examples.filter(|line| !line.starts_with(CONFIG_VARIABLE)).collect();
    let loaded = load_valid(SettingSources { dotenv: Some(examples.join("\n")), ..env_sources(&[]) });
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn yaml_defaults_load_and_change_nothing() {
    let values = |loaded: LoadedConfig| {
        let settings = loaded.effective.into_iter().map(|setting| (setting.path, setting.value));
        settings.collect::<Vec<_>>()
    };
    let defaults = values(load_valid(env_sources(&[])));
    assert_eq!(values(load_valid(yaml_sources(&GeneratedDocument::YamlDefaults.render()))), defaults);
}

#[test]
fn reference_has_every_variable_and_path() {
    let reference = GeneratedDocument::Reference.render();
    for entry in settings_catalog().entries_with_variable() {
        let row = format!("| `{}` | `{}` |", entry.path, entry.descriptor.variable);
        assert!(reference.contains(&row), "{row}");
    }
    for variable in settings_catalog().standalone_variables() {
        assert!(reference.contains(&format!("| `{}` |", variable.variable)), "{}", variable.variable);
    }
}

#[test]
fn json_schema_accepts_the_files_of_the_repository() {
    let validator = jsonschema::validator_for(&settings_schema(&settings_catalog())).unwrap();
    for text in [
        include_str!("../../../config/settings.yaml"),
        include_str!("../../../config/models.yaml"),
        include_str!("../../../config/dialects.yaml"),
        include_str!("../../../config/policy.yaml"),
        "server: {port: '${PORT}'}\ntools: {approval: '${APPROVAL}'}\nbudgets: {turn_usd: $3}\n",
    ] {
        let value: Value = serde_saphyr::from_str(text).unwrap();
        let errors: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert_eq!(errors, [""; 0]);
    }
    for text in ["server: {prot: 1}\n", "server: {port: 70000}\n", "tools: {approval: maybe}\n", "mcp: {servers: {}}\n"]
    {
        let value: Value = serde_saphyr::from_str(text).unwrap();
        assert!(!validator.is_valid(&value), "{text}");
    }
}

/// Values of the chart that are settings of their own, with what the chart accepts beyond the words of the setting.
const CHART_VALUES: [(&str, &str, &[&str]); 5] = [
    ("/properties/auth/properties/mode", "auth.mode", &[""]),
    ("/properties/auth/properties/metrics", "auth.metrics", &[]),
    ("/properties/store/properties/backend", "memory.backend", &[]),
    ("/properties/store/properties/redis/properties/topology", "memory.redis.topology", &[]),
    ("/properties/log/properties/format", "log.format", &[]),
];

#[test]
fn chart_schema_is_current() {
    const PATH: &str = "deploy/helm/k8sops/values.schema.json";
    let catalog = settings_catalog();
    let entries = catalog.entries();
    let mut chart: Value =
        serde_json::from_str(include_str!("../../../deploy/helm/k8sops/values.schema.json")).unwrap();
    for (pointer, path, more) in CHART_VALUES {
        let entry = entries.iter().find(|entry| entry.path == path).unwrap();
        let k8sops_settings::ValueKind::Words(words) = entry.descriptor.kind else { panic!("{path}") };
        chart.pointer_mut(pointer).unwrap()["enum"] = more.iter().chain(words).copied().collect();
    }
    // What the chart sets by itself is refused by its templates, which say what to do instead.
    let mut settings = settings_schema(&catalog);
    for (variable, path) in chart_owned_settings() {
        let declared = entries.iter().find(|entry| entry.descriptor.variable == variable).unwrap();
        assert_eq!(declared.path, path, "{variable} in _managed_settings.tpl");
        let pointer = format!("/properties/{}", path.replace('.', "/properties/"));
        *settings.pointer_mut(&pointer).unwrap() = serde_json::json!({"description": "The chart sets this."});
    }
    chart["properties"]["settings"] = settings;
    let servers = entries.iter().find(|entry| entry.path == "mcp.servers").unwrap();
    let server = section_schema(servers.descriptor.shape.section().unwrap());
    chart.pointer_mut("/properties/mcp/properties/servers/items").unwrap()["properties"] = server["properties"].clone();
    assert_file_is(PATH, &format!("{chart:#}\n"));
}

/// Variables and paths that the templates of the chart set and refuse elsewhere.
fn chart_owned_settings() -> Vec<(&'static str, &'static str)> {
    let template = include_str!("../../../deploy/helm/k8sops/templates/_managed_settings.tpl");
    let owned = template.lines().filter_map(|line| {
        let (variable, rest) = line.split_once(": [")?;
        let path = rest.split(',').next()?.trim_matches('"');
        (!path.is_empty() && variable.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
            .then_some((variable, path))
    });
    let owned: Vec<_> = owned.collect();
    assert!(owned.len() > 20, "{owned:?}");
    owned
}
