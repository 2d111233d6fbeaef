//! How much of a long operation is done at once: then the guest takes its interrupts and the hypercall goes on.

/// Of the steps that an operation may do at once, those to do now: all of them. Tests have fewer done, to cut it anywhere.
#[inline(always)]
pub fn steps<T: Ord + From<u8>>(budget: T) -> T {
    #[cfg(test)]
    if let Some(forced) = crate::testbed::preempt::forced() {
        return budget.min(T::from(forced));
    }
    budget
}
