//! The misuse catalogue (`tests/guests/misuse.txt`): which of its rows the answers cover.

use super::table::matches;
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};

/// All rows, and the answers counted so far.
#[derive(Default)]
pub struct Catalogue<'a> {
    rows: Vec<Row<'a>>,
    seen: BTreeSet<String>,
}

/// One kind of misuse.
pub struct Row<'a> {
    /// `G07`.
    pub name: &'a str,
    /// The advisory.
    pub source: &'a str,
    /// In one line.
    pub what: &'a str,
    /// How it is to be tested: a letter each.
    layers: &'a str,
    /// Answers that count although the row is not in their name; `*` stands for anything.
    also: &'a str,
    /// Answers by subject.
    answers: BTreeMap<String, u32>,
}

impl<'a> Catalogue<'a> {
    /// From lines `ROW | SOURCE | WHAT | LAYERS | ANSWERS`.
    pub fn new(text: &'a str) -> Result<Self> {
        let rows = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let mut parts = line.split(" | ").map(str::trim);
            let mut next = || parts.next().with_context(|| format!("misuse.txt: {line}"));
            Ok(Row { name: next()?, source: next()?, what: next()?, layers: next()?, also: next()?, answers: BTreeMap::new() })
        });
        Ok(Self { rows: rows.collect::<Result<_>>()?, seen: BTreeSet::new() })
    }

    /// Counts an answer, once however often it is given.
    pub fn count(&mut self, name: &str) {
        if !self.seen.insert(name.into()) {
            return;
        }
        let subject = name.split('.').next().unwrap_or(name);
        let words: BTreeSet<_> = name.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        for row in &mut self.rows {
            if words.contains(row.name) || row.also.split(',').any(|pattern| matches(pattern, name)) {
                *row.answers.entry(subject.into()).or_default() += 1;
            }
        }
    }

    /// The rows, in order.
    pub fn rows(self) -> Vec<Row<'a>> {
        self.rows
    }

    /// How much is covered, for the console.
    pub fn summary(&self) -> String {
        let guests: Vec<_> = self.rows.iter().filter(|row| row.is_for_a_guest()).collect();
        let covered = guests.iter().filter(|row| !row.answers.is_empty()).count();
        format!("misuse catalogue: {covered} of {} rows for a domain on its own were tested in this run", guests.len())
    }
}

impl Row<'_> {
    fn is_for_a_guest(&self) -> bool {
        self.layers.split(' ').any(|layer| layer == "G")
    }

    /// What tests it, or why nothing here does.
    pub fn tests(&self) -> String {
        if self.answers.is_empty() {
            return if self.is_for_a_guest() { "none yet".into() } else { format!("not of this suite ({})", self.layers) };
        }
        self.answers.iter().map(|(subject, count)| format!("{subject} ({count})")).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::Catalogue;

    #[test]
    fn rows_are_found_in_names() {
        let text =
            "# why\nG07 | XSA-1 | a | G R | -\nG08 | XSA-2 | b | L R | -\nA13 | XSA-3 | c | G | firmware.arch*\nA14 | - | d | G | -\n";
        let mut catalogue = Catalogue::new(text).unwrap();
        for name in ["races.G07.map", "races.G07.map", "races.xG08", "firmware.arch(1)"] {
            catalogue.count(name);
        }
        assert_eq!(catalogue.summary(), "misuse catalogue: 2 of 3 rows for a domain on its own were tested in this run");
        let tests: Vec<_> = catalogue.rows().iter().map(|row| row.tests()).collect();
        assert_eq!(tests, ["races (1)", "not of this suite (L R)", "firmware (1)", "none yet"]);
    }
}
