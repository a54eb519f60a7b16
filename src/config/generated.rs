//! The documents that are made from the declarations of settings.

use k8sops_settings::render::{render_env_example, render_json_schema, render_reference, render_yaml_defaults};

use super::settings_catalog;

/// A document that `k8sops config` prints, and that the repository holds as a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GeneratedDocument {
    /// `docs/src/configuration/reference.md`.
    Reference,
    /// `.env.example`.
    EnvExample,
    /// `config/settings.yaml`.
    YamlDefaults,
    /// `config/settings.schema.json`.
    JsonSchema,
}

const REFERENCE_INTRODUCTION: &str = "\
<!-- generated: k8sops config --reference -->

# Settings

Every setting can be set in your own YAML (`K8SOPS_CONFIG`); one that has a variable can also be set in `.env` or in the
environment. Later wins: default, YAML, `.env`, environment. An empty value is not set. `k8sops config` prints the settings in
effect and where each comes from, secrets masked.

A duration has a unit (`500ms`, `20s`, `5m`, `1h30m`, `30d`); a number alone is seconds. A size is a number of bytes, or has a
unit (`64KiB`, `1MiB`). `${NAME}` in the YAML stands for a variable, `${NAME:-text}` for `text` where it is not set, `$${` for
`${`.

Settings marked **Live** are applied by a reload (SIGHUP); all others need a restart.";

const ENV_INTRODUCTION: &str = "\
Copy to .env and remove the # of what you need. The environment wins over this file, this file over your own YAML.
`k8sops config` prints the settings in effect and where each comes from, `k8sops doctor` tries them out.
Made by `k8sops config --env-example` from the declarations of the options.";

const YAML_INTRODUCTION: &str = "\
All settings with their defaults, as documentation: k8sops does not read this file. Put what you change into a file of your
own and name it in K8SOPS_CONFIG; the variable in brackets wins over it. An empty value is not set.
Durations: 500ms, 20s, 5m, 1h. Sizes: bytes, or 64KiB, 1MiB.
Made by `k8sops config --yaml` from the declarations of the options.
yaml-language-server: $schema=settings.schema.json";

impl GeneratedDocument {
    /// Renders the document.
    #[must_use]
    pub fn render(self) -> String {
        let catalog = settings_catalog();
        match self {
            Self::Reference => render_reference(&catalog, REFERENCE_INTRODUCTION),
            Self::EnvExample => render_env_example(&catalog, ENV_INTRODUCTION),
            Self::YamlDefaults => render_yaml_defaults(&catalog, YAML_INTRODUCTION),
            Self::JsonSchema => render_json_schema(&catalog, "Settings of k8sops"),
        }
    }
}
