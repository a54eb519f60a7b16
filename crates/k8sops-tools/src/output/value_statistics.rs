//! Counts the values of each path over all items of a list, and says which values are unlike the others.

use std::collections::HashMap;

use super::{
    alarm_words::{AlarmLevel, alarm_level, is_bad_state},
    facts::path_weight,
    quantity::{is_time, parse_quantity},
};

/// Most different values of a path that are counted. A path with more has no usual values, only usual shapes.
const MAX_VALUES: usize = 256;
/// Most numbers of a path that are kept, to find their median.
const MAX_NUMBERS: usize = 4_096;
/// Most paths.
const MAX_PATHS: usize = 4_000;
/// Largest numbers of a path that are kept.
const MAX_EXTREMES: usize = 3;
/// Longest value in bytes that is counted.
const MAX_VALUE_BYTES: usize = 400;
/// Share of the items in percent that unusual values of a path may have together.
const MAX_RARE_PERCENT: usize = 5;
/// How much more often than an unusual value the next usual one occurs.
const RARE_FACTOR: usize = 3;
/// Least typical distance of times in seconds.
const MIN_TIME_DISTANCE: f64 = 5.0;
/// Distance from the median, in typical distances, from which on a number is unusual.
const MIN_DISTANCE: f64 = 8.0;

/// Counts of all paths.
#[derive(Debug, Default)]
pub(super) struct ValueStatistics {
    paths: Vec<PathStatistics>,
    index: HashMap<String, usize>,
    items: usize,
}

/// Counts of one path.
#[derive(Debug)]
pub(super) struct PathStatistics {
    pub(super) path: String,
    weight: f64,
    /// Counts by value; by shape if there are too many values.
    counts: HashMap<Box<str>, usize>,
    /// Values are counted by their shape.
    pub(super) has_shapes: bool,
    /// Different values that were counted before that.
    distinct_values: usize,
    /// Items that have this path, and the last of them.
    pub(super) present: usize,
    last_item: usize,
    occurrences: usize,
    numbers: Vec<f64>,
    number_count: usize,
    is_time: bool,
    /// The largest numbers, largest first, and the smallest one.
    pub(super) largest: Vec<ExtremeNumber>,
    pub(super) smallest: Option<ExtremeNumber>,
    rare: RareValues,
}

/// A number at the end of its range.
#[derive(Debug, Clone)]
pub(super) struct ExtremeNumber {
    pub(super) number: f64,
    /// The number as the output has it.
    pub(super) text: Box<str>,
    /// Item that has it, counted from 0.
    pub(super) item: usize,
}

/// Which values of a path are unlike the others. It is known when all items have been counted.
#[derive(Debug, Default)]
struct RareValues {
    /// Values that occur at most this often are rare; 0 if none is.
    max_count: usize,
    /// Median and typical distance from it, of a path with many different numbers.
    numbers: Option<(f64, f64)>,
    /// So few items have this path that it is unusual to have it.
    is_rare_path: bool,
    /// So many items have this path that it is unusual not to have it.
    is_usual_path: bool,
    /// How unusual the values are that are counted as they are.
    weights: HashMap<Box<str>, Option<f64>>,
}

/// A fact that makes an item unlike the others.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct UnusualFact {
    pub(super) path: String,
    /// The value; `None` if the item lacks the path that nearly all others have.
    pub(super) value: Option<String>,
    pub(super) weight: f64,
}

impl ValueStatistics {
    /// Begins the next item.
    pub(super) fn begin_item(&mut self) {
        self.items += 1;
    }

    pub(super) fn paths(&self) -> &[PathStatistics] {
        &self.paths
    }

    /// Returns the statistics of a path.
    pub(super) fn path(&self, path: &str) -> Option<&PathStatistics> {
        self.index.get(path).map(|at| &self.paths[*at])
    }

    /// Counts a fact of the current item.
    pub(super) fn add_fact(&mut self, path: &str, value: &str) {
        let at = match self.index.get(path) {
            Some(at) => *at,
            None if self.paths.len() >= MAX_PATHS => return,
            None => {
                self.index.insert(path.to_owned(), self.paths.len());
                self.paths.push(PathStatistics::new(path));
                self.paths.len() - 1
            }
        };
        self.paths[at].add_value(value, self.items);
    }

    /// Decides which values are rare, after the last item.
    pub(super) fn finish(&mut self) {
        for path in &mut self.paths {
            path.find_rare_values(self.items);
            if !path.has_shapes {
                let values = path.counts.keys().filter(|value| value.len() < MAX_VALUE_BYTES);
                let weights = values.map(|value| (value.clone(), path.weigh_value(value, self.items))).collect();
                path.rare.weights = weights;
            }
        }
    }

    /// Returns the position of a path in [`Self::paths`].
    pub(super) fn path_index(&self, path: &str) -> Option<usize> {
        self.index.get(path).copied()
    }

    /// Returns what makes a fact unusual; `None` if it is not.
    pub(super) fn judge_fact(&self, path: &str, value: &str) -> Option<UnusualFact> {
        let statistics = self.path(path)?;
        let weight = statistics.judge_value(value, self.items)?;
        Some(UnusualFact { path: path.to_owned(), value: Some(value.to_owned()), weight })
    }

    /// Returns the paths that nearly all items have.
    pub(super) fn usual_paths(&self) -> impl Iterator<Item = (usize, &PathStatistics)> {
        self.paths.iter().enumerate().filter(|(_, path)| path.rare.is_usual_path)
    }
}

impl PathStatistics {
    fn new(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            weight: path_weight(path),
            counts: HashMap::new(),
            has_shapes: false,
            distinct_values: 0,
            present: 0,
            last_item: 0,
            occurrences: 0,
            numbers: Vec::new(),
            number_count: 0,
            is_time: false,
            largest: Vec::new(),
            smallest: None,
            rare: RareValues::default(),
        }
    }

    pub(super) fn weight(&self) -> f64 {
        self.weight
    }

    fn add_value(&mut self, value: &str, item: usize) {
        let value = &value[..value.floor_char_boundary(MAX_VALUE_BYTES)];
        self.occurrences += 1;
        if self.last_item != item {
            self.present += 1;
            self.last_item = item;
        }
        if let Some(number) = parse_quantity(value) {
            self.number_count += 1;
            self.is_time |= is_time(value);
            // A sample of the numbers is enough for the median: each number replaces an earlier one with a falling chance.
            if self.numbers.len() < MAX_NUMBERS {
                self.numbers.push(number);
            } else if self.number_count.is_multiple_of(self.number_count / MAX_NUMBERS + 1) {
                let at = self.number_count.wrapping_mul(0x9E37_79B9) % MAX_NUMBERS;
                self.numbers[at] = number;
            }
            let is_large =
                self.largest.len() < MAX_EXTREMES || self.largest.last().is_some_and(|extreme| number > extreme.number);
            let is_small = self.smallest.as_ref().is_none_or(|extreme| number < extreme.number);
            if is_large || is_small {
                let extreme = ExtremeNumber { number, text: value.into(), item: item.saturating_sub(1) };
                if is_small {
                    self.smallest = Some(extreme.clone());
                }
                if is_large {
                    let at = self.largest.partition_point(|other| other.number >= number);
                    self.largest.insert(at, extreme);
                    self.largest.truncate(MAX_EXTREMES);
                }
            }
        }
        if self.has_shapes {
            self.count(value_shape(value).into());
            return;
        }
        if let Some(count) = self.counts.get_mut(value) {
            *count += 1;
        } else if self.counts.len() < MAX_VALUES {
            self.counts.insert(value.into(), 1);
        } else {
            self.count_shapes();
            self.count(value_shape(value).into());
        }
    }

    fn count_shapes(&mut self) {
        self.has_shapes = true;
        self.distinct_values = self.counts.len();
        for (value, count) in std::mem::take(&mut self.counts) {
            *self.counts.entry(value_shape(&value).into()).or_default() += count;
        }
    }

    fn count(&mut self, key: Box<str>) {
        if self.counts.len() < MAX_VALUES || self.counts.contains_key(&key) {
            *self.counts.entry(key).or_default() += 1;
        }
    }

    /// Returns whether the path has few enough different values to list them.
    pub(super) fn is_categorical(&self) -> bool {
        !self.has_shapes && self.counts.len() <= (self.occurrences / 8).max(12)
    }

    /// Returns whether the path holds numbers.
    pub(super) fn is_numeric(&self) -> bool {
        self.number_count * 10 >= self.occurrences * 9
    }

    pub(super) fn has_times(&self) -> bool {
        self.is_time
    }

    /// Returns whether any value can be unusual.
    pub(super) fn has_unusual_values(&self) -> bool {
        let RareValues { max_count, numbers, is_rare_path, .. } = &self.rare;
        *max_count > 0 || *is_rare_path || numbers.is_some() || !self.is_numeric()
    }

    /// Returns the number of different values; of a path with very many, the number up to which they were counted.
    pub(super) fn distinct(&self) -> usize {
        if self.has_shapes { self.distinct_values } else { self.counts.len() }
    }

    /// Returns the median of the numbers.
    pub(super) fn median(&self) -> Option<f64> {
        median_of(&self.numbers)
    }

    /// Returns the values and how often each occurs, most frequent first.
    pub(super) fn values(&self) -> Vec<(&str, usize)> {
        let mut values: Vec<(&str, usize)> = self.counts.iter().map(|(value, count)| (&**value, *count)).collect();
        values.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        values
    }

    fn find_rare_values(&mut self, items: usize) {
        let few = |total: usize| (total * MAX_RARE_PERCENT / 100).max(2);
        self.rare.is_rare_path = items >= 8 && self.present <= few(items) && self.present * RARE_FACTOR <= items;
        self.rare.is_usual_path = items >= 8 && self.present < items && items - self.present <= few(items);
        let is_spread = self.has_shapes || self.counts.len() > (self.occurrences / 4).max(12);
        if self.is_numeric() && is_spread {
            self.rare.numbers = spread_of(&self.numbers, self.is_time);
            return;
        }
        if is_spread && !self.has_shapes {
            self.count_shapes();
        }
        let mut counts: Vec<usize> = self.counts.values().copied().collect();
        counts.sort_unstable();
        // What is rare is rare together: the more values there are that occur seldom, the less each of them says.
        let (mut sum, mut at) = (0, 0);
        while at < counts.len() {
            let same = counts[at..].iter().take_while(|count| **count == counts[at]).count();
            sum += same * counts[at];
            at += same;
            if sum > few(self.occurrences) {
                break;
            }
            if counts.get(at).is_some_and(|next| *next >= counts[at - 1] * RARE_FACTOR) {
                self.rare.max_count = counts[at - 1];
            }
        }
    }

    /// Returns how unusual a value is; `None` if it is not.
    fn judge_value(&self, value: &str, items: usize) -> Option<f64> {
        // Most values of a list are the same few ones.
        if let Some(weight) = self.rare.weights.get(value) {
            return *weight;
        }
        self.weigh_value(value, items)
    }

    fn weigh_value(&self, value: &str, items: usize) -> Option<f64> {
        let clipped = &value[..value.floor_char_boundary(MAX_VALUE_BYTES)];
        let count = if self.has_shapes {
            self.counts.get(value_shape(clipped).as_str()).copied()
        } else {
            self.counts.get(clipped).copied()
        };
        let mut rarity: f64 = 0.0;
        if self.rare.is_rare_path {
            rarity = rarity.max(0.7);
        }
        // Values beyond the largest number of shapes are not counted, and so nothing is known of them.
        if count.is_some_and(|count| count <= self.rare.max_count) {
            rarity = rarity.max(1.0);
        }
        if let (Some((median, distance)), Some(number)) = (self.rare.numbers, parse_quantity(clipped)) {
            let distances = (number - median).abs() / distance;
            if distances > MIN_DISTANCE {
                rarity = rarity.max(if self.is_time { 0.7 } else { (distances / MIN_DISTANCE).clamp(1.0, 2.0) });
            }
        }
        let is_common = items > 8 && self.present * 3 > items && count.is_some_and(|count| count * 3 > items);
        let mut alarm: f64 = 0.0;
        if !is_common && self.weight > 0.4 {
            alarm = match alarm_level(value) {
                AlarmLevel::Fault => 1.3,
                AlarmLevel::Warning => 0.8,
                AlarmLevel::None => 0.0,
            };
            if is_bad_state(&self.path, value) {
                alarm = alarm.max(1.4);
            }
        }
        // What is rare and sounds wrong comes before what is only one of both, and so a rare fault before a common one.
        let weight = rarity + alarm;
        (weight > 0.0).then_some(weight * self.weight)
    }
}

/// Returns whether a word looks random: it has a digit, or it is long and has no vowel, as the random parts of names.
pub(super) fn looks_random(word: &str) -> bool {
    let has_vowel =
        || word.bytes().any(|byte| matches!(byte.to_ascii_lowercase(), b'a' | b'e' | b'i' | b'o' | b'u' | b'y'));
    word.bytes().any(|byte| byte.is_ascii_digit()) || word.len() >= 5 && !has_vowel()
}

/// Returns a value with `#` for each word that looks random.
pub(super) fn value_shape(value: &str) -> String {
    let mut shape = String::with_capacity(value.len().min(64));
    let mut rest = value;
    while let Some(char) = rest.chars().next() {
        if char.is_alphanumeric() {
            let end = rest.find(|char: char| !char.is_alphanumeric()).unwrap_or(rest.len());
            let word = &rest[..end];
            shape.push_str(if looks_random(word) { "#" } else { word });
            rest = &rest[end..];
        } else {
            shape.push(char);
            rest = &rest[char.len_utf8()..];
        }
    }
    shape
}

fn median_of(numbers: &[f64]) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// Returns the median and the typical distance from it; `None` if there are too few numbers, or if they are nearly all one.
fn spread_of(numbers: &[f64], are_times: bool) -> Option<(f64, f64)> {
    if numbers.len() < 8 {
        return None;
    }
    let median = median_of(numbers)?;
    let distances: Vec<f64> = numbers.iter().map(|number| (number - median).abs()).collect();
    // Where the time begins is arbitrary, so that a part of a time says nothing.
    let least = if are_times { MIN_TIME_DISTANCE } else { median.abs() * 0.02 };
    let typical = median_of(&distances)?.max(least);
    (typical > 0.0).then_some((median, typical * 1.5))
}

/// Returns a score from weights, largest first: each further one counts half of the one before it.
pub(super) fn combine_weights(weights: impl Iterator<Item = f64>) -> f64 {
    let mut factor = 1.0;
    weights.take(4).fold(0.0, |score, weight| {
        let added = score + weight * factor;
        factor /= 2.0;
        added
    })
}
