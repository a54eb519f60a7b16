//! Texts that are made from the catalog: what people and tools read about settings.

mod effective;
mod env_example;
mod json_schema;
mod reference;
mod yaml_defaults;

pub use effective::render_effective;
pub use env_example::render_env_example;
pub use json_schema::{render_json_schema, section_schema, settings_schema};
pub use reference::render_reference;
pub use yaml_defaults::render_yaml_defaults;

/// Wraps a text into lines of at most `width` characters.
fn wrap_lines(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
