//! What test domains say on their console: answers, verdicts, and what the hypervisor says of its books.

use anyhow::{Result, bail};
use std::collections::BTreeMap;

/// Answers by operation. An operation that is asked again has the number of the time behind it: `name#2`.
pub type Answers = BTreeMap<String, String>;

/// What the domains of one boot said.
#[derive(Default)]
pub struct Said {
    /// Answers to compare.
    pub answers: Answers,
    /// Tests that went well by their own verdict.
    pub successes: usize,
    /// Tests that could not be run.
    pub skips: usize,
    /// What is wrong by their own verdict, or by the hypervisor's audit.
    pub complaints: Vec<String>,
}

/// Answers from a file, one a line.
pub fn stored(text: &str) -> Answers {
    text.lines().filter_map(|line| line.split_once(' ')).map(|(name, answer)| (name.into(), answer.into())).collect()
}

impl Said {
    /// Adds what another domain said.
    pub fn add(&mut self, other: Self) {
        self.answers.extend(other.answers);
        self.successes += other.successes;
        self.skips += other.skips;
        self.complaints.extend(other.complaints);
    }

    /// Understands a console. An error if the domain did not come to its end: then the last line says where it was.
    pub fn listen(console: &str) -> Result<Self> {
        let mut said = Self::default();
        let (mut times, mut subject, mut ended) = (BTreeMap::<&str, u32>::new(), "the start", false);
        // What a domain says by its UART is the hypervisor's word on its console.
        for line in console.lines().map(|line| line.trim_end().trim_start_matches("(XEN) ")) {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "ABI" => {
                    let Some((name, answer)) = split_operation(rest) else { continue };
                    let time = times.entry(name).and_modify(|time| *time += 1).or_insert(1);
                    let name = name.replace(' ', "_");
                    said.answers.insert(if *time == 1 { name } else { format!("{name}#{time}") }, answer.into());
                }
                "BEGIN" => subject = rest,
                "TEST" => match rest.rsplit_once(' ') {
                    Some((_, "success")) => said.successes += 1,
                    Some((_, "skip")) => said.skips += 1,
                    _ => {}
                },
                "FAIL" | "ERROR" | "FATAL" => said.complaints.push(format!("{line} (in {subject})")),
                "SUMMARY" => ended = true,
                _ if line.starts_with("AUDIT failed") => said.complaints.push(format!("{line} (after {subject})")),
                _ => {}
            }
        }
        if !ended {
            let last = console.lines().next_back().unwrap_or("it said nothing");
            bail!("the test domain did not come to its end, it was in {subject}: {last}");
        }
        Ok(said)
    }
}

/// Splits a line of the domain at the end of its operation: the first blank that is in no bracket.
fn split_operation(line: &str) -> Option<(&str, &str)> {
    let mut depth = 0_i32;
    let end = line.char_indices().find(|(_, c)| {
        depth += i32::from(matches!(c, '(' | '[')) - i32::from(matches!(c, ')' | ']'));
        *c == ' ' && depth == 0
    })?;
    Some((&line[..end.0], &line[end.0 + 1..]))
}

#[cfg(test)]
mod tests {
    use super::Said;

    #[test]
    fn answers_are_told_apart() {
        let said = "BEGIN a\nABI a.op(null, 1) rc=-14\nABI a.op rc=0\nABI a.op rc=1\nFAIL a.op why\nSUMMARY 1 success\n";
        let said = Said::listen(said).unwrap();
        let answers: Vec<_> = said.answers.iter().map(|(name, answer)| format!("{name} {answer}")).collect();
        assert_eq!(answers, ["a.op rc=0", "a.op#2 rc=1", "a.op(null,_1) rc=-14"]);
        assert_eq!(said.complaints, ["FAIL a.op why (in a)"]);
    }

    #[test]
    fn a_domain_that_hangs_is_told_with_its_place() {
        let error = Said::listen("BEGIN a\nABI a.op rc=0\n").err().unwrap();
        assert_eq!(error.to_string(), "the test domain did not come to its end, it was in a: ABI a.op rc=0");
    }

    #[test]
    fn verdicts_and_the_audit_count() {
        let said = Said::listen("BEGIN a\n(XEN) AUDIT failed: x\nTEST a success\nBEGIN b\nTEST b skip\nSUMMARY\n").unwrap();
        assert_eq!((said.successes, said.skips), (1, 1));
        assert_eq!(said.complaints, ["AUDIT failed: x (after a)"]);
    }
}
