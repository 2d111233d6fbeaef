//! A heap that is full: operations are repeated with a little more of it each time, until they succeed.
//!
//! The limit is the whole process's, so such tests have one of their own, which [`one_by_one`] starts. There and nowhere else
//! [`is_ours`]. What core asks for without being able to be refused ends that process, as it would end the hypervisor.

use super::Testbed;
use cap::Cap;
use std::alloc::System;
use std::env;
use std::process::Command;
use std::string::String;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// Set in the process that has the heap to itself.
const OURS: &str = "XENOLITH_HEAP_IS_OURS";
/// How the names of these tests begin.
const NAMES: &str = "with_a_full_heap";

/// Whether this process runs one test at a time; a test that sets a limit does nothing elsewhere.
pub(crate) fn is_ours() -> bool {
    env::var_os(OURS).is_some()
}

/// Whether something is asked for that may be refused: tests' own books have to wait.
pub(crate) fn is_limited() -> bool {
    HEAP.limit() != usize::MAX
}

/// Performs `operation` with no free heap, and with a little more each time, until it answers something else than `refused`: what it answers
/// then, and how often it was refused. After each refusal the hypervisor's books are balanced and it has no more of the heap than before.
pub(crate) fn rising(bed: &Testbed, refused: i64, mut operation: impl FnMut() -> i64) -> (i64, u32) {
    let (mut room, mut times, mut last) = (0, 0, 0);
    loop {
        let before = HEAP.allocated();
        HEAP.set_limit(before + room).unwrap();
        let answer = operation();
        HEAP.set_limit(usize::MAX).unwrap();
        if answer != refused {
            return (answer, times);
        }
        bed.hv.audit().unwrap();
        // A table that has grown may stay so: then the same room is tried again.
        let grown = HEAP.allocated() - before;
        assert!(grown == 0 || last == 0, "{grown} bytes more again, with {room} bytes of room");
        times += 1;
        room += if grown == 0 { 8 + room / 32 } else { 0 };
        last = grown;
    }
}

/// Performs `operation` with no free heap.
pub(crate) fn full<R>(operation: impl FnOnce() -> R) -> R {
    HEAP.set_limit(HEAP.allocated()).unwrap();
    let answer = operation();
    HEAP.set_limit(usize::MAX).unwrap();
    answer
}

#[test]
fn one_by_one() {
    let output = Command::new(env::current_exe().unwrap()).args(["--test-threads=1", NAMES]).env(OURS, "1").output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
}
