//! Logs and other text by lines. Lines of a log that differ only in variable words are folded, and lines that are unlike the
//! others or sound wrong are shown. Lines of other text are chosen in the same way but not folded.

use std::collections::HashMap;

use super::{
    budget::OutputBudget,
    line_groups::{GroupedLines, group_lines, line_alarm},
    line_selection::LineSelection,
    line_tokens::{has_level, line_time},
    quantity::{is_time, parse_quantity},
};

/// Lines that are looked at to decide whether a text is a log.
const SAMPLED_LINES: usize = 200;
/// Share of the budget in percent that lines about errors get at first.
const ALARM_PERCENT: usize = 60;

/// Fewest seconds and lines, and how much longer it is than nearly all others, of a time without a line that says something.
const MIN_SILENCE_SECONDS: f64 = 120.0;
const MIN_SILENCE_LINES: usize = 50;
const MIN_SILENCE_FACTOR: f64 = 10.0;
/// Priority of the lines before and after such a time.
const SILENCE_PRIORITY: f64 = 3.2;

/// Whether similar lines are folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineFolding {
    /// Similar lines are one line with their count.
    Folded,
    /// Each line is shown or is in a gap.
    Off,
}

/// A line that may be shown.
struct Candidate {
    at: usize,
    priority: f64,
    note: Option<String>,
    /// The line counts towards the share of errors.
    is_alarm: bool,
}

/// Returns whether the lines of a text have times or levels.
pub(super) fn is_log(text: &str) -> bool {
    let mut lines = 0;
    let mut marked = 0;
    for line in text.lines().filter(|line| !line.trim().is_empty()).take(SAMPLED_LINES) {
        let is_continued = line.starts_with([' ', '\t']);
        lines += usize::from(!is_continued);
        let is_json = line.starts_with('{') && line.ends_with('}');
        marked += usize::from(is_json || line_time(line).is_some() || has_level(line));
    }
    marked >= 3 && marked * 5 >= lines
}

/// Shows a log within the budget.
pub(super) fn fold_lines(text: &str, budget: OutputBudget) -> String {
    shrink_lines(text, LineFolding::Folded, budget)
}

/// Shows a text that is no log within the budget.
pub(super) fn select_lines(text: &str, budget: OutputBudget) -> String {
    shrink_lines(text, LineFolding::Off, budget)
}

fn shrink_lines(text: &str, folding: LineFolding, budget: OutputBudget) -> String {
    // A progress bar is many lines that end with a carriage return.
    let lines: Vec<&str> = text.split(['\n', '\r']).filter(|line| !line.trim().is_empty()).collect();
    let grouped = group_lines(&lines);
    let heading = format!("{} lines of {} kinds", lines.len(), grouped.groups.len());
    let heading = if folding == LineFolding::Folded {
        format!("{heading}; [×N …] stands for N similar lines")
    } else {
        heading
    };
    let mut selection = LineSelection::new(&lines, budget.minus(&heading));
    let candidates = rank_candidates(&grouped, &lines, folding);
    let keys = lines.iter().filter(|line| line.trim_end().ends_with([':', '{'])).count();
    let is_nested = folding == LineFolding::Off && keys * 20 > lines.len();
    let mut for_alarms = selection.remaining().tokens * ALARM_PERCENT / 100;
    let mut skipped = Vec::new();
    for candidate in candidates {
        if selection.remaining().tokens < 8 {
            break;
        }
        let before = selection.remaining().tokens;
        let at = candidate.at;
        if candidate.is_alarm {
            if selection.keep_within(candidate.at, candidate.note.as_deref(), for_alarms) {
                for_alarms = for_alarms.saturating_sub(before - selection.remaining().tokens);
            } else {
                skipped.push(candidate);
            }
        } else {
            selection.keep(candidate.at, candidate.note.as_deref());
        }
        if is_nested && selection.remaining().tokens < before {
            selection.keep_parents(at);
        }
    }
    for candidate in skipped {
        selection.keep(candidate.at, candidate.note.as_deref());
    }
    selection.fill();
    format!("{heading}\n{}", selection.into_text())
}

/// Returns the lines that are worth showing, best first: errors, lines that are unlike the others, then one line of each kind.
fn rank_candidates(grouped: &GroupedLines, lines: &[&str], folding: LineFolding) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = Vec::new();
    let total = lines.len();
    let few = (total / 200).max(3);
    // Kinds that occur seldom say something if there are few lines of such kinds.
    let rare_lines: usize = grouped.groups.iter().map(|group| group.count).filter(|count| *count <= few).sum();
    let rarity_bonus = if rare_lines * 20 <= total { 1.0 } else { 0.5 };
    for group in &grouped.groups {
        let rarity = if group.count <= few { rarity_bonus } else { 0.0 };
        let priority = 1.0 + group.alarm + rarity + group.unlikeness;
        let note = (folding == LineFolding::Folded && group.count > 1).then(|| group.describe(lines));
        candidates.push(Candidate { at: group.first, priority, note, is_alarm: group.alarm > 1.2 });
    }
    for unusual in &grouped.unusual {
        let alarm = line_alarm(lines[unusual.at]) / 2.0;
        candidates.push(Candidate {
            at: unusual.at,
            priority: 1.6 + unusual.weight + alarm,
            note: None,
            is_alarm: false,
        });
    }
    if folding == LineFolding::Folded
        && let Some((before, after, gap)) = find_silence(lines)
    {
        let note = |text: &str| Some(format!("{text} {gap:.0} s without a line"));
        candidates.push(Candidate { at: before, priority: SILENCE_PRIORITY, note: note("before"), is_alarm: false });
        candidates.push(Candidate { at: after, priority: SILENCE_PRIORITY, note: note("after"), is_alarm: false });
    }
    // Among thousands of kinds that begin in the same way, a few stand for all of them.
    let families: HashMap<usize, u64> = grouped.groups.iter().map(|group| (group.first, group.family)).collect();
    candidates.sort_by(|a, b| b.priority.total_cmp(&a.priority).then(a.at.cmp(&b.at)));
    let mut seen: HashMap<u64, usize> = HashMap::new();
    for candidate in &mut candidates {
        let Some(family) = families.get(&candidate.at) else { continue };
        let count = seen.entry(*family).or_default();
        *count += 1;
        candidate.priority -= (*count as f64 - 1.0).min(10.0) * 0.15;
    }
    candidates.sort_by(|a, b| b.priority.total_cmp(&a.priority).then(a.at.cmp(&b.at)));
    candidates
}

/// Returns the lines before and after the longest time without a line, and its seconds; `None` if it is not much longer than the
/// others.
fn find_silence(lines: &[&str]) -> Option<(usize, usize, f64)> {
    let times: Vec<(usize, f64)> =
        lines.iter().enumerate().filter_map(|(at, line)| Some((at, line_seconds(line)?))).collect();
    let mut gaps: Vec<(f64, usize)> =
        times.windows(2).enumerate().map(|(n, pair)| (pair[1].1 - pair[0].1, n)).collect();
    gaps.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (longest, n) = *gaps.first()?;
    let usual = gaps.get(gaps.len() / 50 + 1)?.0.max(1.0);
    let is_silence =
        gaps.len() >= MIN_SILENCE_LINES && longest >= MIN_SILENCE_SECONDS && longest >= usual * MIN_SILENCE_FACTOR;
    is_silence.then(|| (times[n].0, times[n + 1].0, longest))
}

/// Returns the time of a line in seconds: since 1970, or since midnight if the line has no date of RFC 3339.
fn line_seconds(line: &str) -> Option<f64> {
    let time = line_time(line)?;
    if is_time(time) {
        return parse_quantity(time);
    }
    let mut parts = time.rsplitn(3, ':');
    let (second, minute, hour) = (parts.next()?, parts.next()?, parts.next()?);
    let number = |text: &str| text.parse::<f64>().ok();
    let hour = hour.get(hour.len().checked_sub(2)?..)?;
    Some(number(hour)? * 3_600.0 + number(minute)? * 60.0 + number(second.get(..2)?)?)
}
