//! The reference page: a table for each section.

use std::fmt::Write as _;

use crate::{
    catalog::{CatalogEntry, SettingsCatalog},
    descriptor::{FieldShape, SectionDescriptor, SettingDescriptor},
};

/// Renders all settings as Markdown.
#[must_use]
pub fn render_reference(catalog: &SettingsCatalog, introduction: &str) -> String {
    let mut page = format!("{introduction}\n");
    let entries = catalog.entries();
    let mut written: Vec<String> = Vec::new();
    for top in entries.iter().map(|entry| first_key(&entry.path).to_owned()) {
        if written.contains(&top) {
            continue;
        }
        let _ = writeln!(page, "\n## {top}");
        if let Some(section) = catalog.sections().iter().find(|section| section.path == top) {
            let _ = writeln!(page, "\n{}", section.description());
        }
        let of_section: Vec<&CatalogEntry> = entries.iter().filter(|entry| first_key(&entry.path) == top).collect();
        let rows = of_section.iter().filter(|entry| matches!(entry.descriptor.shape, FieldShape::Value));
        let rows: Vec<String> = rows.map(|entry| entry_row(catalog, entry)).collect();
        if !rows.is_empty() {
            page.push_str(
                "\n| setting | variable | default | accepted values | description |\n|---|---|---|---|---|\n",
            );
            page.push_str(&rows.concat());
        }
        for entry in of_section.iter().filter(|entry| !matches!(entry.descriptor.shape, FieldShape::Value)) {
            write_collection(&mut page, &entry.path, &entry.descriptor);
        }
        written.push(top);
    }
    page.push_str(
        "\n## Variables without a place in the YAML\n\n| variable | accepted values | description |\n|---|---|---|\n",
    );
    for variable in catalog.standalone_variables() {
        let _ = writeln!(page, "| `{}` | {} | {} |", variable.variable, variable.accepts, variable.doc);
    }
    page
}

/// Writes a list or mapping with the keys of its items, and what is nested in them.
fn write_collection(page: &mut String, path: &str, descriptor: &SettingDescriptor) {
    let item_path = match descriptor.shape {
        FieldShape::Sections(_) | FieldShape::Values => format!("{path}[]"),
        FieldShape::NamedSections(_) | FieldShape::NamedValues => format!("{path}.<name>"),
        FieldShape::Section(_) | FieldShape::Value => path.to_owned(),
    };
    let live = if descriptor.live { " Live." } else { "" };
    let _ = writeln!(page, "\n### `{item_path}`\n\n{}{live}", escape_cell(&descriptor.description()));
    let Some(section) = descriptor.shape.section() else {
        let _ = writeln!(page, "\nAccepted values: {}.", descriptor.accepted_values());
        return;
    };
    write_item_table(page, section);
    for field in section.settings.iter().filter(|field| field.shape.section().is_some()) {
        write_collection(page, &format!("{item_path}.{}", field.key), field);
    }
}

fn write_item_table(page: &mut String, section: &SectionDescriptor) {
    page.push_str("\n| key | default | accepted values | description |\n|---|---|---|---|\n");
    for field in section.settings {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            field.key,
            code_cell(field.default),
            escape_cell(&field.accepted_values()),
            escape_cell(&field.description())
        );
    }
}

fn entry_row(catalog: &SettingsCatalog, entry: &CatalogEntry) -> String {
    let CatalogEntry { path, descriptor } = entry;
    let variable = code_cell(descriptor.variable);
    let default = code_cell(&catalog.default_of(entry));
    let values = escape_cell(&descriptor.accepted_values());
    let live = if descriptor.live { " **Live.**" } else { "" };
    let secret = if descriptor.secret { " A secret." } else { "" };
    format!(
        "| `{path}` | {variable} | {default} | {values} | {}{secret}{live} |\n",
        escape_cell(&descriptor.description())
    )
}

fn first_key(path: &str) -> &str {
    path.split('.').next().unwrap_or(path)
}

fn code_cell(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

fn escape_cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}
