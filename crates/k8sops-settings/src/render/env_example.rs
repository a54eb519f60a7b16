//! `.env.example`: every variable with a line on each.

use std::fmt::Write as _;

use super::wrap_lines;
use crate::catalog::SettingsCatalog;

const WIDTH: usize = 110;

/// Renders a `.env` file in which every variable is commented out.
#[must_use]
pub fn render_env_example(catalog: &SettingsCatalog, introduction: &str) -> String {
    let mut text = String::new();
    for line in introduction.lines() {
        let _ = writeln!(text, "# {line}");
    }
    let mut section = String::new();
    for entry in catalog.entries_with_variable() {
        let descriptor = &entry.descriptor;
        let top = entry.path.split('.').next().unwrap_or_default();
        if section != top {
            top.clone_into(&mut section);
            let _ = writeln!(text, "\n# --- {section}");
        }
        let live = if descriptor.live { "; live" } else { "" };
        let about = format!("{} ({}{live})", descriptor.summary(), entry.path);
        for line in wrap_lines(&about, WIDTH) {
            let _ = writeln!(text, "# {line}");
        }
        let default = catalog.default_of(&entry);
        let value = if descriptor.example.is_empty() { &default } else { descriptor.example };
        let _ = writeln!(text, "#{}={}", descriptor.variable, quote_value(value));
    }
    let _ = writeln!(text, "\n# --- without a place in the YAML");
    for variable in catalog.standalone_variables() {
        let _ = writeln!(text, "# {}\n#{}={}", variable.doc, variable.variable, variable.example);
    }
    text
}

/// Quotes a value that a shell would split.
fn quote_value(value: &str) -> String {
    if value.contains([' ', '#', '\'']) { format!("\"{value}\"") } else { value.to_owned() }
}
