//! Time series, as Prometheus and its relatives return them: first, last, smallest, largest and average value of each, and as
//! many points as the budget allows.

use std::{collections::HashMap, fmt::Write};

use super::{
    budget::{BudgetedText, OutputBudget},
    list_item::ListItem,
    node::Node,
    node_text::NodeStyle,
};

/// Fewest points of a series.
const MIN_POINTS: usize = 5;
/// Fewest tokens for the points of a series.
const MIN_POINT_TOKENS: usize = 60;

/// The points of a series: time and value as the output has them, and the value as a number.
struct SeriesPoints<'a> {
    points: Vec<(&'a Node<'a>, &'a Node<'a>, f64)>,
}

/// Returns series with their statistics; `None` if the items are not series.
pub(super) fn list_series(items: &[ListItem<'_>], style: NodeStyle, budget: OutputBudget) -> Option<String> {
    let series: Vec<(&str, SeriesPoints<'_>)> =
        items.iter().map(|item| find_points(item.node)).collect::<Option<_>>()?;
    let labels: Vec<Node<'_>> =
        items.iter().zip(&series).map(|(item, (field, _))| without_field(item.node, field)).collect();
    // The series that stand out come first, and the order of the output is kept otherwise.
    let mut order: Vec<usize> = (0..items.len()).collect();
    let summaries: Vec<String> = series.iter().map(|(_, points)| points.summarize(style)).collect();
    let total: usize = summaries.iter().map(String::len).sum();
    if total > budget.tokens * 2 {
        // A series that ends before the others, or begins after them, has something to say with any values.
        let usual = usual_span(&series);
        let key = |at: &usize| (series[*at].1.span() == usual, -series[*at].1.spread());
        order.sort_by(|a, b| key(a).0.cmp(&key(b).0).then(key(a).1.total_cmp(&key(b).1)));
    }
    let mut text = BudgetedText::new(budget);
    text.push_line(&format!("{} time series", items.len()));
    let mut shown = 0;
    for at in &order {
        if text.push_line(&format!("{} {}", labels[*at].to_line(style), summaries[*at])) {
            shown += 1;
        } else if text.remaining().tokens < 40 {
            break;
        }
    }
    if shown < order.len() {
        text.push_line(&format!(
            "[... {} of {} series left out, those with the smallest changes ...]",
            order.len() - shown,
            order.len()
        ));
    }
    for (n, at) in order.iter().take(shown).enumerate() {
        let budget = text.remaining().share(100 / (shown - n));
        if budget.tokens < MIN_POINT_TOKENS {
            break;
        }
        let name = if shown == 1 { String::new() } else { format!("{}: ", items[*at].name) };
        let points = series[*at].1.sample(style, budget.minus(&name));
        text.push_line(&format!("{name}{points}"));
    }
    Some(text.into_text())
}

/// Returns the first and last time that most series have.
fn usual_span<'a>(series: &'a [(&str, SeriesPoints<'_>)]) -> (&'a str, &'a str) {
    let mut counts: HashMap<(&str, &str), usize> = HashMap::new();
    for (_, points) in series {
        *counts.entry(points.span()).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(span, _)| span).unwrap_or_default()
}

/// Returns a list of points with its statistics; `None` if the list is no series.
pub(super) fn summarize_points(items: &[Node<'_>], style: NodeStyle, budget: OutputBudget) -> Option<String> {
    let points = read_points(items)?;
    let summary = points.summarize(style);
    let sample = points.sample(style, budget.minus(&summary));
    Some(format!("{summary}\n{sample}"))
}

/// Returns the field of an item that is a series, with its points.
fn find_points<'a>(node: &'a Node<'a>) -> Option<(&'a str, SeriesPoints<'a>)> {
    node.as_map()?.iter().find_map(|(key, value)| Some((&**key, read_points(value.as_list()?)?)))
}

fn read_points<'a>(items: &'a [Node<'a>]) -> Option<SeriesPoints<'a>> {
    if items.len() < MIN_POINTS {
        return None;
    }
    let read = |item: &'a Node<'a>| {
        let (time, value) = match item {
            Node::List(pair) if pair.len() == 2 => (&pair[0], &pair[1]),
            Node::Map(_) => (
                item.field("timestamp").or_else(|| item.field("time")).or_else(|| item.field("t"))?,
                item.field("value").or_else(|| item.field("v"))?,
            ),
            _ => return None,
        };
        let is_time = time.as_text()?.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
        let number = match value.as_text()? {
            "null" => f64::NAN,
            text => text.parse().ok()?,
        };
        is_time.then_some((time, value, number))
    };
    Some(SeriesPoints { points: items.iter().map(read).collect::<Option<_>>()? })
}

fn without_field<'a>(node: &'a Node<'a>, field: &str) -> Node<'a> {
    match node {
        Node::Map(fields) => Node::Map(fields.iter().filter(|(key, _)| *key != field).cloned().collect()),
        other => other.clone(),
    }
}

impl SeriesPoints<'_> {
    fn numbers(&self) -> impl Iterator<Item = f64> {
        self.points.iter().map(|point| point.2).filter(|number| number.is_finite())
    }

    /// Returns the first and the last time.
    fn span(&self) -> (&str, &str) {
        let first = self.points.first().and_then(|(time, ..)| time.as_text());
        let last = self.points.last().and_then(|(time, ..)| time.as_text());
        (first.unwrap_or_default(), last.unwrap_or_default())
    }

    /// Returns by how much the values differ, in proportion to their size.
    fn spread(&self) -> f64 {
        let largest = self.numbers().fold(f64::MIN, f64::max);
        let smallest = self.numbers().fold(f64::MAX, f64::min);
        let size = largest.abs().max(smallest.abs());
        if size > 0.0 { (largest - smallest) / size * (1.0 + size.ln_1p()) } else { 0.0 }
    }

    fn extreme(&self, is_better: impl Fn(f64, f64) -> bool) -> usize {
        let finite = (0..self.points.len()).filter(|at| self.points[*at].2.is_finite());
        finite.reduce(|best, at| if is_better(self.points[at].2, self.points[best].2) { at } else { best }).unwrap_or(0)
    }

    fn summarize(&self, style: NodeStyle) -> String {
        let count = self.points.len();
        let sum: f64 = self.numbers().sum();
        let average = sum / self.numbers().count().max(1) as f64;
        let at = |n: usize| {
            let (time, value, _) = &self.points[n];
            format!("{} at {}", value.to_line(style), time.to_line(style))
        };
        let smallest = self.extreme(|a, b| a < b);
        let largest = self.extreme(|a, b| a > b);
        let mut text = format!("{count} points: first {}, last {}", at(0), at(count - 1));
        let _ = write!(text, ", min {}, max {}, avg {average:.6}", at(smallest), at(largest));
        let gaps = self.points.iter().filter(|point| !point.2.is_finite()).count();
        if gaps > 0 {
            let _ = write!(text, ", {gaps} without a number");
        }
        text
    }

    /// Returns points at equal distances, as many as the budget allows, in the form of the output.
    fn sample(&self, style: NodeStyle, budget: OutputBudget) -> String {
        let print = |step: usize| {
            let points = self.points.iter().step_by(step).map(|(time, value, _)| {
                let comma = if style == NodeStyle::CompactJson { "," } else { ", " };
                format!("[{}{comma}{}]", time.to_line(style), value.to_line(style))
            });
            let points: Vec<String> = points.collect();
            let every = if step == 1 { "all points".to_owned() } else { format!("every {step}th point") };
            format!("{every}: {}", points.join(" "))
        };
        let mut step = 1;
        while step < self.points.len() {
            let sample = print(step);
            if budget.allows(&sample) {
                return sample;
            }
            step = (step * 5 / 4).max(step + 1);
        }
        String::new()
    }
}
