//! Both hypervisors' answers side by side: what is the same, what is explained, what is wrong; as a page to read.

use super::catalogue::Catalogue;
use super::said::{Answers, Said};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// How many answers were right, wrong, and different for a listed reason.
#[derive(Default)]
pub struct Tally {
    /// As Xen's, or a success by their own verdict.
    pub passed: usize,
    /// Wrong.
    pub failed: usize,
    /// Explained, or not to be had.
    pub skipped: usize,
}

/// The comparison of several boots.
pub struct Table<'a> {
    expected: Vec<Listed<'a>>,
    used: BTreeSet<&'a str>,
    catalogue: Catalogue<'a>,
    tally: Tally,
    markdown: String,
    html: String,
}

impl<'a> Table<'a> {
    /// An empty one. `listed`: the file of expected differences; `catalogue`: that of the misuse catalogue.
    pub fn new(listed: &'a str, catalogue: &'a str) -> Result<Self> {
        let expected = expectations(listed)?;
        let catalogue = Catalogue::new(catalogue)?;
        Ok(Self { expected, used: BTreeSet::new(), catalogue, tally: Tally::default(), markdown: String::new(), html: String::new() })
    }

    /// Adds what was said in one boot; says on this console what is wrong.
    pub fn compare(&mut self, boot: &str, xen: &Answers, ours: &Said) {
        self.heading(boot, ["operation", "Xen", "Xenolith", ""]);
        let none = String::from("no answer");
        let names: BTreeSet<_> = xen.keys().chain(ours.answers.keys()).collect();
        for name in names {
            let (theirs, our) = (xen.get(name).unwrap_or(&none), ours.answers.get(name).unwrap_or(&none));
            let listed = self.expected.iter().find(|listed| matches(listed.name, name) && matches(listed.answer, our));
            let verdict = match listed {
                _ if theirs == our => {
                    self.tally.passed += 1;
                    "same".to_string()
                }
                Some(listed) => {
                    self.tally.skipped += 1;
                    self.used.insert(listed.name);
                    format!("explained: {}", listed.reason)
                }
                None => {
                    self.tally.failed += 1;
                    println!("DIFFERENT {name} ({boot})\n    Xen:      {theirs}\n    Xenolith: {our}");
                    "DIFFERENT".into()
                }
            };
            self.catalogue.count(name);
            self.row([name, theirs, our, &verdict]);
        }
        let own = format!("{} succeeded, {} skipped, {} complaints", ours.successes, ours.skips, ours.complaints.len());
        self.row(["tests with a verdict of their own", "", &own, ""]);
        self.tally.passed += ours.successes;
        self.tally.skipped += ours.skips;
        for complaint in &ours.complaints {
            self.fail(&format!("{complaint} ({boot})"));
        }
    }

    /// Adds something that is wrong.
    pub fn fail(&mut self, what: &str) {
        println!("{what}");
        self.tally.failed += 1;
        self.row([what, "", "", "FAILED"]);
    }

    /// Writes `table.md` and `table.html`. `whole`: everything was asked, so that what is listed has to be met.
    pub fn write(mut self, folder: &Path, whole: bool) -> Result<Tally> {
        for listed in self.expected.iter().filter(|listed| whole && !self.used.contains(listed.name)) {
            println!("expected-differences.txt: nothing differs as listed for {}", listed.name);
        }
        println!("{}", self.catalogue.summary());
        self.heading("The misuse catalogue", ["row", "what", "after", "tests"]);
        for row in core::mem::take(&mut self.catalogue).rows() {
            self.row([row.name, row.what, row.source, &row.tests()]);
        }
        let Tally { passed, failed, skipped } = self.tally;
        let summary = format!("{passed} passed, {failed} failed, {skipped} skipped or explained.");
        let page = folder.join("table.md");
        fs::write(&page, format!("# The hypercall ABI: Debian's Xen and Xenolith\n\n{summary}\n{}", self.markdown))?;
        let style = "body{font:14px sans-serif}td{border-top:1px solid #ccc;padding:2px 8px;font-family:monospace}";
        let head = format!("<!DOCTYPE html><meta charset=\"utf-8\"><title>Xenolith: ABI</title><style>{style}</style>");
        let end = if self.html.is_empty() { "" } else { "</table>" };
        fs::write(folder.join("table.html"), format!("{head}<h1>Debian's Xen and Xenolith</h1><p>{summary}</p>{}{end}\n", self.html))?;
        println!("every answer of both: {} and .html", page.display());
        Ok(self.tally)
    }

    fn heading(&mut self, title: &str, columns: [&str; 4]) {
        let _ = write!(self.markdown, "\n## {title}\n\n| {} |\n|---|---|---|---|\n", columns.join(" | "));
        let end = if self.html.is_empty() { "" } else { "</table>" };
        let _ = write!(self.html, "{end}<h2>{title}</h2><table><tr><th>{}", columns.join("<th>"));
    }

    fn row(&mut self, cells: [&str; 4]) {
        let _ = writeln!(self.markdown, "| {} |", cells.map(|cell| cell.replace('|', "\\|").replace('\n', " ")).join(" | "));
        let _ = write!(self.html, "\n<tr><td>{}", cells.map(|cell| cell.replace('&', "&amp;").replace('<', "&lt;")).join("<td>"));
    }
}

/// A line `OPERATION | OUR ANSWER | REASON` of the file of expected differences. In the first two `*` stands for anything.
struct Listed<'a> {
    name: &'a str,
    answer: &'a str,
    reason: &'a str,
}

fn expectations(text: &str) -> Result<Vec<Listed<'_>>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut parts = line.splitn(3, " | ");
            let (name, answer, reason) = (parts.next(), parts.next(), parts.next());
            let whole = name.zip(answer).zip(reason).with_context(|| format!("expected-differences.txt: {line}"));
            whole.map(|((name, answer), reason)| Listed { name, answer, reason })
        })
        .collect()
}

/// Whether `name` fits `pattern`, in which `*` stands for anything.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name
            .strip_prefix(start)
            .is_some_and(|name| (0..=name.len()).filter(|from| name.is_char_boundary(*from)).any(|from| matches(rest, &name[from..]))),
    }
}

#[cfg(test)]
mod tests {
    use super::{Table, expectations, matches};
    use crate::abi::said::Said;

    #[test]
    fn a_star_stands_for_anything() {
        assert!(matches("a.*(1)", "a.b(1)") && matches("a.*", "a.") && matches("*.read*x", "v.read8[x"));
        assert!(!matches("a.*(1)", "a.b(2)") && !matches("a.b", "a.bc"));
    }

    #[test]
    fn an_expected_difference_names_our_answer() {
        let listed = expectations("# why\na.op(*) | rc=-1 | a | b\n").unwrap();
        assert_eq!(listed.iter().map(|l| (l.name, l.answer, l.reason)).collect::<Vec<_>>(), [("a.op(*)", "rc=-1", "a | b")]);
        assert!(expectations("a.op | because\n").is_err());
    }

    #[test]
    fn differences_are_failures_unless_explained() {
        let mut table = Table::new("# why\na.x* | 2 | because\n", "").unwrap();
        let xen = Said::listen("ABI a.same 1\nABI a.xy 1\nABI a.other 1\nSUMMARY").unwrap().answers;
        table.compare("boot", &xen, &Said::listen("ABI a.same 1\nABI a.xy 2\nABI a.other 2\nFAIL b\nTEST c success\nSUMMARY").unwrap());
        assert_eq!((table.tally.passed, table.tally.failed, table.tally.skipped), (2, 2, 1));
    }
}
