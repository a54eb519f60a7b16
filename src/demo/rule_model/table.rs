//! Parses the tables in tool results and formats selected columns.

use super::wording::truncate_chars;

/// A row of a table: column names with their cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KubectlRow(Vec<(String, String)>);

impl KubectlRow {
    /// Returns a cell; empty if the column does not exist.
    pub(super) fn get(&self, column: &str) -> &str {
        self.0.iter().find(|(name, _)| name == column).map_or("", |(_, cell)| cell)
    }

    /// Returns `namespace/name`.
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.get("NAMESPACE"), self.get("NAME"))
    }
}

/// Returns the rows of the first table in a text. Lines before and after the table (a fence, a note about omitted lines)
/// are skipped.
pub(super) fn parse_table(text: &str) -> Vec<KubectlRow> {
    let mut lines = text.lines().map(str::trim_end);
    let is_header = |line: &&str| line.starts_with("NAMESPACE  ") || line.starts_with("NAME  ");
    let Some(header) = lines.find(is_header) else { return Vec::new() };
    let header = split_cells(header, usize::MAX);
    lines
        .filter_map(|line| {
            let cells = split_cells(line, header.len());
            let complete = cells.len() == header.len();
            complete.then(|| KubectlRow(header.iter().cloned().zip(cells).collect()))
        })
        .collect()
}

/// Splits a line at gaps of two or more spaces into at most `max_cells` cells. The last cell keeps its gaps.
fn split_cells(line: &str, max_cells: usize) -> Vec<String> {
    let mut cells = Vec::new();
    let mut rest = line.trim();
    while cells.len() + 1 < max_cells
        && let Some((cell, more)) = rest.split_once("  ")
    {
        cells.push(cell.to_owned());
        rest = more.trim_start();
    }
    if !rest.is_empty() {
        cells.push(rest.to_owned());
    }
    cells
}

/// Formats some columns of a table in a code block. Long cells are truncated.
pub(super) fn format_columns(rows: &[&KubectlRow], columns: &[&str]) -> String {
    const MAX_CELL: usize = 90;
    let mut lines: Vec<Vec<String>> = vec![columns.iter().map(|c| (*c).to_owned()).collect()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|c| truncate_chars(row.get(c), MAX_CELL)).collect()));
    let widths: Vec<usize> =
        (0..columns.len()).map(|i| lines.iter().map(|l| l[i].chars().count()).max().unwrap_or(0)).collect();
    let lines: Vec<String> = lines
        .iter()
        .map(|cells| {
            let cells: Vec<String> = cells.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}")).collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect();
    format!("```\n{}\n```", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::cluster::SimulatedCluster;

    #[test]
    fn every_cluster_table_is_parsed() {
        let cluster = SimulatedCluster::new();
        for text in [
            cluster.list_pods(None),
            cluster.list_deployments(None),
            cluster.list_events(None),
            cluster.list_nodes(),
            cluster.list_services(None),
            cluster.list_config_maps(None),
            cluster.list_namespaces(),
        ] {
            let rows = parse_table(&text);
            assert_eq!(rows.len() + 1, text.lines().count(), "{text}");
            assert!(rows.iter().all(|r| r.0.iter().all(|(_, cell)| !cell.is_empty())), "{rows:?}");
        }
    }

    #[test]
    fn text_around_a_table_is_skipped() {
        let text = "<output>\nNAMESPACE   NAME   MESSAGE\nshop        a      one  two\n[12 lines left out]\n</output>";
        let rows = parse_table(text);
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].full_name().as_str(), rows[0].get("MESSAGE")), ("shop/a", "one  two"));
        assert_eq!(parse_table("No resources found"), []);
        assert_eq!(format_columns(&[&rows[0]], &["NAME", "MESSAGE"]), "```\nNAME  MESSAGE\na     one  two\n```");
        assert_eq!(truncate_chars("abcdef", 3), "abc…");
    }
}
