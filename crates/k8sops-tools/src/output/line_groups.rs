//! Groups the lines of a log that differ only in their variable words, and finds the lines that are unlike the others of
//! their group.

use std::{
    collections::HashMap,
    fmt::Write,
    hash::{DefaultHasher, Hash, Hasher},
};

use super::{
    alarm_words::{AlarmLevel, alarm_level},
    facts::visit_facts,
    line_tokens::{LineLevel, LineToken, line_level, line_time, split_tokens},
    node::{Node, read_json},
    quantity::is_time,
    value_statistics::{PathStatistics, ValueStatistics, value_shape},
};

/// Most groups. Further lines are shown only if there is room.
const MAX_GROUPS: usize = 20_000;
/// Most columns of all groups whose values are counted, which bounds the memory.
const MAX_COUNTED_PATHS: usize = 100_000;
/// Most words of a line that are looked at.
const MAX_TOKENS: usize = 60;
/// Longest line that is read as JSON.
const MAX_JSON_BYTES: usize = 64 << 10;
/// Fewest lines of a group in which a value can be unusual.
const MIN_GROUP_LINES: usize = 6;
/// Most lines that are shown for one unusual value.
const MAX_LINES_PER_VALUE: usize = 3;
/// Fewest groups of a family in which a group can be unusual.
const MIN_FAMILY_GROUPS: usize = 8;
/// Most columns of a group whose values are told.
const MAX_TOLD_COLUMNS: usize = 4;

/// Lines that differ only in variable words.
#[derive(Debug)]
pub(super) struct LineGroup {
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) count: usize,
    /// How wrong the lines are, from 0 to 2.
    pub(super) alarm: f64,
    /// How much the constant words of the group are unlike those of similar groups.
    pub(super) unlikeness: f64,
    /// Groups that begin in the same way and have as many words.
    pub(super) family: u64,
    statistics: ValueStatistics,
}

/// A line that is unlike the others of its group.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnusualLine {
    pub(super) at: usize,
    pub(super) weight: f64,
}

/// The variable words of a line with their names, and what the line has in common with others.
struct LineShape {
    template: u64,
    family: u64,
}

/// The groups of all lines, and the unusual lines in them.
#[derive(Debug, Default)]
pub(super) struct GroupedLines {
    pub(super) groups: Vec<LineGroup>,
    pub(super) unusual: Vec<UnusualLine>,
}

/// Groups lines. Lines are counted from 0.
pub(super) fn group_lines(lines: &[&str]) -> GroupedLines {
    let mut groups: Vec<LineGroup> = Vec::new();
    let mut by_template: HashMap<u64, usize> = HashMap::new();
    let mut counted_paths = 0;
    let mut group_of_line: Vec<u32> = Vec::with_capacity(lines.len());
    for (at, line) in lines.iter().enumerate() {
        let document = read_json_line(line);
        let shape = document.as_ref().map_or_else(|| shape_of_text(line), shape_of_document);
        let group = match by_template.get(&shape.template) {
            Some(group) => *group,
            None if groups.len() >= MAX_GROUPS => {
                group_of_line.push(u32::MAX);
                continue;
            }
            None => {
                by_template.insert(shape.template, groups.len());
                groups.push(LineGroup {
                    first: at,
                    last: at,
                    count: 0,
                    alarm: line_alarm(line),
                    unlikeness: 0.0,
                    family: shape.family,
                    statistics: ValueStatistics::default(),
                });
                groups.len() - 1
            }
        };
        group_of_line.push(u32::try_from(group).unwrap_or(u32::MAX));
        let group = &mut groups[group];
        group.count += 1;
        group.last = at;
        // A line that is alone in its group, as most are in a text of many kinds, needs no statistics.
        if group.count > 1 && counted_paths < MAX_COUNTED_PATHS {
            let paths_before = group.statistics.paths().len();
            if group.count == 2 {
                let first = lines[group.first];
                group.count_slots(first, read_json_line(first).as_ref());
            }
            group.count_slots(line, document.as_ref());
            counted_paths += group.statistics.paths().len() - paths_before;
        }
    }
    for group in &mut groups {
        group.statistics.finish();
    }
    compare_groups(&mut groups, lines);
    let unusual = find_unusual_lines(&groups, &group_of_line, lines);
    GroupedLines { groups, unusual }
}

fn read_json_line(line: &str) -> Option<Node<'_>> {
    let bare = line.trim();
    if !bare.starts_with('{') || !bare.ends_with('}') || bare.len() > MAX_JSON_BYTES {
        return None;
    }
    let (mut documents, rest) = read_json(bare)?;
    (documents.len() == 1 && rest.is_empty()).then(|| documents.remove(0))
}

/// Returns how wrong a line is: by its level, and else by its words. Words of a line with the level of an ordinary one are
/// less than those of a line without a level.
pub(super) fn line_alarm(line: &str) -> f64 {
    match (line_level(line), alarm_level(line)) {
        (LineLevel::Error, _) => 1.8,
        (LineLevel::Absent, AlarmLevel::Fault) => 1.6,
        (LineLevel::Warning, AlarmLevel::Fault) => 1.3,
        (LineLevel::Warning, _) => 1.0,
        (LineLevel::Ordinary, AlarmLevel::Fault) => 0.7,
        (_, AlarmLevel::Warning) => 0.5,
        (_, AlarmLevel::None) => 0.0,
    }
}

fn shape_of_text(line: &str) -> LineShape {
    let mut template = DefaultHasher::new();
    let mut family = DefaultHasher::new();
    let mut count = 0_usize;
    for token in split_tokens(line).take(MAX_TOKENS) {
        let is_variable = is_slot(&token);
        if is_variable {
            0_u8.hash(&mut template);
        } else {
            token.text.hash(&mut template);
        }
        if count == 0 {
            (!is_variable).then_some(token.text.split(['/', '-', '.']).next()).hash(&mut family);
        }
        count += 1;
    }
    count.hash(&mut family);
    LineShape { template: template.finish(), family: family.finish() }
}

fn shape_of_document(document: &Node<'_>) -> LineShape {
    let mut template = DefaultHasher::new();
    let mut family = DefaultHasher::new();
    for (key, _) in document.as_map().unwrap_or_default() {
        key.hash(&mut template);
        key.hash(&mut family);
    }
    for field in ["level", "severity", "msg", "message", "log", "event", "logger"] {
        if let Some(text) = document.field_text(field) {
            value_shape(&text[..text.floor_char_boundary(200)]).hash(&mut template);
        }
    }
    LineShape { template: template.finish(), family: family.finish() }
}

/// Returns whether a word may differ between lines of one kind: it has a digit, it is a path, or it has a name, like
/// `user=alice`.
fn is_slot(token: &LineToken<'_>) -> bool {
    const NAMES_OF_TEXT: &[&str] =
        &["msg", "message", "error", "err", "level", "info", "warn", "warning", "exception", "reason"];
    let is_named = || token.name.is_some_and(|name| !NAMES_OF_TEXT.iter().any(|text| name.eq_ignore_ascii_case(text)));
    token.is_variable() || token.is_path() || is_named()
}

/// Calls `visit` with the name and the value of each variable word of a line. Times are left out.
fn visit_slots(line: &str, document: Option<&Node<'_>>, visit: &mut dyn FnMut(&str, &str)) {
    if let Some(document) = document {
        visit_facts(document, &mut |path, value| {
            let is_time_field = matches!(path, "time" | "ts" | "timestamp" | "@timestamp" | "t");
            if !is_time_field && !is_time(value) {
                visit(path, value);
            }
        });
        return;
    }
    let mut path = String::new();
    for (position, token) in split_tokens(line).take(MAX_TOKENS).enumerate() {
        if is_slot(&token) && !token.is_time() {
            path.clear();
            // A name with a digit is itself variable.
            let name = token.name.filter(|name| !name.bytes().any(|byte| byte.is_ascii_digit()));
            let _ = match name {
                Some(name) => write!(path, "{name}"),
                None => write!(path, "word {}", position + 1),
            };
            visit(&path, token.text);
        }
    }
}

/// Compares the groups of a family by the words at each position: a line of a kind that occurs once among thousands of
/// similar kinds has a word that is constant in the others.
fn compare_groups(groups: &mut [LineGroup], lines: &[&str]) {
    let mut families: HashMap<u64, Vec<usize>> = HashMap::new();
    for (at, group) in groups.iter().enumerate() {
        families.entry(group.family).or_default().push(at);
    }
    for members in families.values().filter(|members| members.len() >= MIN_FAMILY_GROUPS) {
        let visit_words = |at: usize, visit: &mut dyn FnMut(&str, &str)| {
            for (position, token) in split_tokens(lines[at]).take(MAX_TOKENS).enumerate() {
                if token.is_time() {
                    continue;
                }
                // Names are made of words: `pod/payments-db-0` has four of them.
                for (part, word) in token.text.split(['/', '-', '.', '_']).take(8).enumerate() {
                    visit(&format!("{position}.{part}"), word);
                }
            }
        };
        let mut statistics = ValueStatistics::default();
        for group in members {
            statistics.begin_item();
            visit_words(groups[*group].first, &mut |path, word| statistics.add_fact(path, word));
        }
        statistics.finish();
        for group in members {
            let mut unlikeness: f64 = 0.0;
            visit_words(groups[*group].first, &mut |path, word| {
                if let Some(fact) = statistics.judge_fact(path, word) {
                    unlikeness = unlikeness.max(fact.weight);
                }
            });
            groups[*group].unlikeness = unlikeness;
        }
    }
}

fn find_unusual_lines(groups: &[LineGroup], group_of_line: &[u32], lines: &[&str]) -> Vec<UnusualLine> {
    let mut unusual = Vec::new();
    let mut shown: HashMap<(u32, String), usize> = HashMap::new();
    let can_be_unusual: Vec<bool> = groups
        .iter()
        .map(|group| {
            group.count >= MIN_GROUP_LINES && group.statistics.paths().iter().any(PathStatistics::has_unusual_values)
        })
        .collect();
    for (at, line) in lines.iter().enumerate() {
        let group = group_of_line[at];
        let Some(LineGroup { statistics, .. }) = groups.get(group as usize).filter(|_| can_be_unusual[group as usize])
        else {
            continue;
        };
        let document = read_json_line(line);
        let mut weight: f64 = 0.0;
        visit_slots(line, document.as_ref(), &mut |path, value| {
            let Some(fact) = statistics.judge_fact(path, value) else { return };
            let is_extreme =
                statistics.path(path).is_some_and(|path| path.largest.iter().any(|extreme| &*extreme.text == value));
            let key = if is_extreme { format!("{path}={value}") } else { format!("{path}={}", value_shape(value)) };
            let count = shown.entry((group, key)).or_default();
            *count += 1;
            if *count <= MAX_LINES_PER_VALUE {
                weight = weight.max(fact.weight + if is_extreme { 0.3 } else { 0.0 });
            }
        });
        if weight > 0.0 {
            // The fewer lines there are to compare with, the less it says.
            let weight = weight * ((groups[group as usize].count as f64).log10() / 2.0).clamp(0.3, 1.0);
            unusual.push(UnusualLine { at, weight });
        }
    }
    unusual
}

impl LineGroup {
    fn count_slots(&mut self, line: &str, document: Option<&Node<'_>>) {
        self.statistics.begin_item();
        visit_slots(line, document, &mut |path, value| self.statistics.add_fact(path, value));
    }

    /// Returns what the lines of the group are, besides the first: their number, first and last time, and their values.
    pub(super) fn describe(&self, lines: &[&str]) -> String {
        let mut text = format!("×{}", self.count);
        if let (Some(first), Some(last)) = (line_time(lines[self.first]), line_time(lines[self.last])) {
            // The date is not repeated.
            let same = first.bytes().zip(last.bytes()).take_while(|(a, b)| a == b).count();
            let date_end = first.rfind(['T', ' ']).filter(|end| *end < same).map_or(0, |end| end + 1);
            let _ = if first == last {
                write!(text, ", {first}")
            } else {
                write!(text, ", {first} to {}", &last[date_end..])
            };
        }
        let mut columns: Vec<(f64, String)> = self.statistics.paths().iter().filter_map(describe_column).collect();
        columns.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (_, column) in columns.iter().take(MAX_TOLD_COLUMNS) {
            let _ = write!(text, "; {column}");
        }
        text
    }
}

fn describe_column(column: &PathStatistics) -> Option<(f64, String)> {
    let name = &column.path;
    if !column.has_shapes && (2..=6).contains(&column.distinct()) && column.distinct() * 2 <= column.present {
        let values: Vec<String> = column
            .values()
            .iter()
            .map(|(value, count)| format!("{} ×{count}", &value[..value.floor_char_boundary(40)]))
            .collect();
        return Some((3.0, format!("{name}: {}", values.join(", "))));
    }
    let smallest = column.smallest.as_ref()?;
    let largest = column.largest.first()?;
    if !column.is_numeric() || column.has_times() || smallest.number >= largest.number {
        return None;
    }
    let has_unit = largest.text.bytes().last().is_some_and(|byte| !byte.is_ascii_digit()) || largest.text.contains('.');
    let weight = if has_unit { 2.0 } else { 1.0 };
    Some((weight, format!("{name}: {} to {}", smallest.text, largest.text)))
}
