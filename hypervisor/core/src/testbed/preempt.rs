//! Preemption at step k: long operations are cut after so many steps, and the books looked at each time.

use std::cell::Cell;

std::thread_local! {
    static FORCED: Cell<Option<u8>> = const { Cell::new(None) };
}

/// After how many steps operations of this thread are cut.
pub(crate) fn forced() -> Option<u8> {
    FORCED.get()
}

/// Has operations cut after `steps` while `f` runs.
pub(crate) fn after<R>(steps: u8, f: impl FnOnce() -> R) -> R {
    struct End;
    impl Drop for End {
        // Also when a test fails, which a property does many times in one thread.
        fn drop(&mut self) {
            FORCED.set(None);
        }
    }
    let _end = End;
    FORCED.set(Some(steps));
    f()
}
