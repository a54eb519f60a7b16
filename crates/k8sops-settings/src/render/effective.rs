//! `k8sops config`: the settings in effect.

use crate::{catalog::SettingsCatalog, reader::EffectiveSetting};

/// Widest column of values; a longer value moves its origin to the right.
const MAX_VALUE_WIDTH: usize = 60;

/// Renders settings with their origins, one line each. Those that a reload applies are marked as live.
#[must_use]
pub fn render_effective(catalog: &SettingsCatalog, settings: &[EffectiveSetting]) -> String {
    let width = |text: fn(&EffectiveSetting) -> &str| settings.iter().map(|s| text(s).chars().count()).max();
    let path_width = width(|setting| &setting.path).unwrap_or(0);
    let value_width = width(|setting| &setting.value).unwrap_or(0).min(MAX_VALUE_WIDTH);
    let lines = settings.iter().map(|EffectiveSetting { path, value, origin }| {
        let live = if catalog.is_live(path) { "  (live)" } else { "" };
        format!("{path:path_width$}  {value:value_width$}  {origin}{live}\n")
    });
    lines.collect()
}
