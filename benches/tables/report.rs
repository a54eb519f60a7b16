//! The figures of a run, and their comparison with those of the last release.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

/// A figure that is this many times that of the last release fails the run.
const WORSE_FACTOR: f64 = 1.15;

/// The figures of a run that mean the same on every machine: ratios to nginx in the same run, bytes, and counts. The lower
/// the better.
#[derive(Debug, Default)]
pub(crate) struct BenchReport {
    figures: BTreeMap<String, f64>,
}

/// The content of `benches/baseline.yaml`.
#[derive(Debug, Serialize, Deserialize)]
struct BenchBaseline {
    /// Version with which the figures were measured.
    version: String,
    figures: BTreeMap<String, f64>,
}

impl BenchReport {
    /// Adds a figure.
    pub(crate) fn record(&mut self, name: String, value: f64) {
        self.figures.insert(name, value);
    }

    /// Prints what has changed since the last release. Returns whether no figure is worse by 15 %.
    pub(crate) fn compare_with_baseline(&self) -> bool {
        let baseline = read_baseline();
        println!("\ncompared with {} (benches/baseline.yaml)", baseline.version);
        let mut worse = 0;
        let mut similar = 0;
        for (name, value) in &self.figures {
            match baseline.figures.get(name) {
                Some(before) if *value > before * WORSE_FACTOR => {
                    worse += 1;
                    println!("  WORSE   {name:<40} {before:8.2} -> {value:8.2}");
                }
                Some(before) if value * WORSE_FACTOR < *before => {
                    println!("  better  {name:<40} {before:8.2} -> {value:8.2}");
                }
                Some(_) => similar += 1,
                None => println!("  new     {name:<40} {:8} -> {value:8.2}", ""),
            }
        }
        println!("  {similar} figures within 15 %, {worse} worse");
        worse == 0
    }

    /// Replaces these figures in the file, and keeps the others.
    pub(crate) fn save_baseline(self) {
        let mut baseline = read_baseline();
        env!("CARGO_PKG_VERSION").clone_into(&mut baseline.version);
        let rounded = self.figures.into_iter().map(|(name, value)| (name, (value * 100.0).round() / 100.0));
        baseline.figures.extend(rounded);
        let text = serde_saphyr::to_string(&baseline).expect("a baseline is YAML");
        let head = "# Figures of the last release: ratios to nginx in the same run, bytes and counts; the lower the better.\n\
                    # Written by `cargo bench --bench service -- --save-baseline`.\n";
        std::fs::write(baseline_path(), format!("{head}{text}")).expect("the file is writable");
        println!("\nwritten to benches/baseline.yaml");
    }
}

fn baseline_path() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/baseline.yaml"))
}

fn read_baseline() -> BenchBaseline {
    let text = std::fs::read_to_string(baseline_path()).expect("benches/baseline.yaml is readable");
    serde_saphyr::from_str(&text).expect("benches/baseline.yaml is valid")
}
