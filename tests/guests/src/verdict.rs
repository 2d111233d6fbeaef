//! Answers and verdicts: what the domain prints.
//!
//! `ABI <subject>.<operation> <answer>` for each answer, `FAIL`/`ERROR <subject>.<operation> <why>` for each expectation that did not
//! hold, `TEST <subject> <verdict>` at the end of a subject, `SUMMARY …` at the end of all. The most severe verdict of a subject wins.

use crate::runtime::{console, cpu};
use core::fmt::{self, Display};

/// How a subject went, the least severe first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// The hypervisor did what was expected.
    Success,
    /// The machine lacks what the test needs.
    Skip,
    /// The test itself is wrong, or could not set up what it needs.
    Error,
    /// The hypervisor did something else.
    Failure,
}

/// One subject.
pub struct Subject {
    /// Its name, the first part of each of its answers.
    pub name: &'static str,
    /// What asks its questions.
    pub run: fn(&mut Test),
}

/// A subject under way.
pub struct Test {
    name: &'static str,
    verdict: Verdict,
}

/// The result of a hypercall with a status of its own per operation.
pub struct Status(pub i64, pub i16);

impl Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rc={} status={}", self.0, self.1)
    }
}

/// A name of several words, as one.
struct Word<T>(T);

impl<T: Display> Display for Word<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Joined<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl fmt::Write for Joined<'_, '_> {
            fn write_str(&mut self, s: &str) -> fmt::Result {
                s.chars().try_for_each(|c| fmt::Write::write_char(self.0, if c == ' ' { '_' } else { c }))
            }
        }
        fmt::Write::write_fmt(&mut Joined(f), format_args!("{}", self.0))
    }
}

/// The return code of a hypercall, or any other number that is worth telling in decimal.
pub struct Rc(pub i64);

impl Display for Rc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rc={}", self.0)
    }
}

impl Test {
    /// Records the answer to one operation.
    pub fn answer(&mut self, operation: impl Display, answer: impl Display) {
        console::line(format_args!("ABI {}.{} {answer}", self.name, Word(operation)));
    }

    /// Records a return code.
    pub fn rc(&mut self, operation: impl Display, rc: i64) {
        self.answer(operation, Rc(rc));
    }

    /// Records that the hypervisor did something that it must not.
    pub fn fail(&mut self, operation: impl Display, why: impl Display) {
        console::line(format_args!("FAIL {}.{operation} {why}", self.name));
        self.verdict = self.verdict.max(Verdict::Failure);
    }

    /// Records that the test cannot go on.
    pub fn error(&mut self, operation: impl Display, why: impl Display) {
        console::line(format_args!("ERROR {}.{operation} {why}", self.name));
        self.verdict = self.verdict.max(Verdict::Error);
    }

    /// Records that the machine lacks something.
    pub fn skip(&mut self, operation: impl Display, why: impl Display) {
        console::line(format_args!("SKIP {}.{operation} {why}", self.name));
        self.verdict = self.verdict.max(Verdict::Skip);
    }
}

/// Records an answer that has to be this one, whoever the hypervisor is.
#[macro_export]
macro_rules! expect_eq {
    ($test:expr, $operation:expr, $got:expr, $want:expr) => {{
        let (got, want) = ($got, $want);
        $test.answer($operation, got);
        if got != want {
            $test.fail($operation, format_args!("{got} instead of {want}"));
        }
    }};
}

/// What is looked at around each subject.
pub trait Around {
    /// What is remembered from before.
    type Before;
    /// Before a subject.
    fn before(&self) -> Self::Before;
    /// After it: has it left anything behind?
    fn after(&self, test: &mut Test, before: Self::Before);
}

/// Nothing is looked at.
pub struct Nothing;

impl Around for Nothing {
    type Before = ();
    fn before(&self) {}
    fn after(&self, _test: &mut Test, _before: ()) {}
}

/// A run of subjects, one after the other.
pub struct Session<'a, A> {
    around: &'a A,
    counts: [u32; 4],
}

impl<'a, A: Around> Session<'a, A> {
    /// An empty one.
    pub fn new(around: &'a A) -> Self {
        Self { around, counts: [0; 4] }
    }

    /// Runs a subject and prints its verdict.
    pub fn run(&mut self, name: &'static str, subject: impl FnOnce(&mut Test)) {
        console::line(format_args!("BEGIN {name}"));
        console::flush();
        let mut test = Test { name, verdict: Verdict::Success };
        let start = cpu::counter();
        let before = self.around.before();
        subject(&mut test);
        self.around.after(&mut test, before);
        let (word, count) = match test.verdict {
            Verdict::Success => ("success", 0),
            Verdict::Skip => ("skip", 1),
            Verdict::Error => ("error", 2),
            Verdict::Failure => ("failure", 3),
        };
        self.counts[count] += 1;
        console::line(format_args!("TIME {name} {} ms", (cpu::counter() - start) * 1000 / cpu::frequency()));
        console::line(format_args!("TEST {name} {word}"));
        console::flush();
    }

    /// Prints the summary.
    pub fn end(self) {
        let [success, skip, error, failure] = self.counts;
        console::line(format_args!("SUMMARY {success} success, {skip} skip, {failure} failure, {error} error"));
        console::flush();
    }
}

/// Runs those subjects that are `wanted` and prints the summary.
pub fn run<A: Around>(subjects: &[Subject], wanted: impl Fn(&str) -> bool, around: &A) {
    let mut session = Session::new(around);
    subjects.iter().filter(|subject| wanted(subject.name)).for_each(|subject| session.run(subject.name, subject.run));
    session.end();
}
