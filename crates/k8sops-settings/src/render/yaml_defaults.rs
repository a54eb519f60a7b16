//! The annotated YAML of all defaults.

use std::fmt::Write as _;

use super::wrap_lines;
use crate::{
    catalog::SettingsCatalog,
    descriptor::{FieldShape, SettingDescriptor},
};

const WIDTH: usize = 118;

/// Renders a YAML file with every setting, its default and its description. Loading it changes nothing.
#[must_use]
pub fn render_yaml_defaults(catalog: &SettingsCatalog, introduction: &str) -> String {
    let mut text = String::new();
    for line in introduction.lines() {
        let _ = writeln!(text, "# {line}");
    }
    let mut open: Vec<&str> = Vec::new();
    for path in ordered_paths(catalog) {
        let keys: Vec<&str> = path.split('.').filter(|key| !key.is_empty()).collect();
        let shared = open.iter().zip(&keys).take_while(|(a, b)| a == b).count();
        for (depth, key) in keys.iter().enumerate().skip(shared) {
            if depth == 0 {
                text.push('\n');
            }
            let doc = catalog.sections().iter().find(|section| section.path == keys[..=depth].join("."));
            write_comment(&mut text, depth, &doc.map(|section| section.description()).unwrap_or_default());
            let _ = writeln!(text, "{}{key}:", "  ".repeat(depth));
        }
        for section in catalog.sections().iter().filter(|section| section.path == path) {
            for setting in section.settings {
                write_setting(&mut text, keys.len(), setting);
            }
        }
        open = keys;
    }
    text
}

/// Paths of the sections, those below a section right after it.
fn ordered_paths(catalog: &SettingsCatalog) -> Vec<&'static str> {
    let mut paths: Vec<&'static str> = Vec::new();
    for section in catalog.sections() {
        if paths.contains(&section.path) {
            continue;
        }
        let top = section.path.split('.').next().unwrap_or_default();
        let last = paths.iter().rposition(|path| !top.is_empty() && path.split('.').next() == Some(top));
        paths.insert(last.map_or(paths.len(), |at| at + 1), section.path);
    }
    paths
}

fn write_setting(text: &mut String, depth: usize, setting: &SettingDescriptor) {
    let indent = "  ".repeat(depth);
    let variable = if setting.variable.is_empty() { String::new() } else { format!(" [{}]", setting.variable) };
    let keys = setting.shape.section().map_or_else(String::new, |section| {
        let keys: Vec<&str> = section.settings.iter().map(|field| field.key).collect();
        format!(" Keys: {}.", keys.join(", "))
    });
    write_comment(text, depth, &format!("{}{keys}{variable}", setting.description()));
    let value = match setting.shape {
        FieldShape::Value => setting.default.to_owned(),
        FieldShape::Values | FieldShape::Sections(_) => "[]".to_owned(),
        FieldShape::NamedValues | FieldShape::Section(_) | FieldShape::NamedSections(_) => "{}".to_owned(),
    };
    let space = if value.is_empty() { "" } else { " " };
    let _ = writeln!(text, "{indent}{}:{space}{value}", setting.key);
}

fn write_comment(text: &mut String, depth: usize, comment: &str) {
    let indent = "  ".repeat(depth);
    for line in wrap_lines(comment, WIDTH - indent.len()) {
        let _ = writeln!(text, "{indent}# {line}");
    }
}
