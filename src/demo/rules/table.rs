//! Reads the tables in tool results, and prints the columns that matter.

/// One row of a table: its cells under the names of their columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row(Vec<(String, String)>);

impl Row {
    /// A cell; empty when there is no such column.
    pub fn get(&self, column: &str) -> &str {
        self.0.iter().find(|(name, _)| name == column).map_or("", |(_, cell)| cell)
    }

    /// `namespace/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.get("NAMESPACE"), self.get("NAME"))
    }
}

/// The rows of the first table in a text. What stands before and after the table (a fence, a note that something was
/// left out) is passed over.
pub(super) fn parse(text: &str) -> Vec<Row> {
    let mut lines = text.lines().map(str::trim_end);
    let is_header = |line: &&str| line.starts_with("NAMESPACE  ") || line.starts_with("NAME  ");
    let Some(header) = lines.find(is_header) else { return Vec::new() };
    let header = split(header, usize::MAX);
    lines
        .filter_map(|line| {
            let cells = split(line, header.len());
            let whole = cells.len() == header.len();
            whole.then(|| Row(header.iter().cloned().zip(cells).collect()))
        })
        .collect()
}

/// Splits at gaps of two spaces or more, into `most` cells at most: the last keeps its gaps.
fn split(line: &str, most: usize) -> Vec<String> {
    let mut cells = Vec::new();
    let mut rest = line.trim();
    while cells.len() + 1 < most
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

/// Prints some columns of a table in a code block; a last column that is long is cut.
pub(super) fn print(rows: &[&Row], columns: &[&str]) -> String {
    const LONGEST: usize = 90;
    let mut lines: Vec<Vec<String>> = vec![columns.iter().map(|c| (*c).to_owned()).collect()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|c| cut(row.get(c), LONGEST)).collect()));
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

/// At most `longest` characters, with a mark where more was.
pub(super) fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((at, _)) => format!("{}…", text[..at].trim_end()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::Cluster;

    #[test]
    fn every_table_of_the_cluster_is_read_whole() {
        let cluster = Cluster::new();
        for text in [
            cluster.pods(None),
            cluster.deployments(None),
            cluster.events(None),
            cluster.nodes(),
            cluster.services(None),
            cluster.config_maps(None),
            cluster.namespaces(),
        ] {
            let rows = parse(&text);
            assert_eq!(rows.len() + 1, text.lines().count(), "{text}");
            assert!(rows.iter().all(|r| r.0.iter().all(|(_, cell)| !cell.is_empty())), "{rows:?}");
        }
    }

    #[test]
    fn what_stands_around_a_table_is_passed_over() {
        let text = "<output>\nNAMESPACE   NAME   MESSAGE\nshop        a      one  two\n[12 lines left out]\n</output>";
        let rows = parse(text);
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].full_name().as_str(), rows[0].get("MESSAGE")), ("shop/a", "one  two"));
        assert_eq!(parse("No resources found"), []);
        assert_eq!(print(&[&rows[0]], &["NAME", "MESSAGE"]), "```\nNAME  MESSAGE\na     one  two\n```");
        assert_eq!(cut("abcdef", 3), "abc…");
    }
}
