//! The hardware and the guest of the model test: list registers that the guest acknowledges and completes.

use super::*;

/// A virtual CPU interface.
pub struct CpuInterface {
    lrs: Vec<u64>,
    /// `ICH_HCR_EL2.UIE`.
    pub underflow: bool,
}

impl CpuInterface {
    pub fn new(count: usize) -> Self {
        Self { lrs: vec![0; count], underflow: false }
    }

    pub fn valid(&self) -> impl Iterator<Item = ListRegister> {
        self.lrs.iter().map(|lr| ListRegister(*lr)).filter(|lr| !lr.is_done())
    }

    /// Whether the maintenance interrupt is raised.
    pub fn maintenance(&self) -> bool {
        self.underflow && self.valid().count() <= 1
            || self.lrs.iter().any(|lr| ListRegister(*lr).is_done() && !ListRegister(*lr).is_empty())
    }

    /// The guest takes the most urgent interrupt, if it is more urgent than what it handles.
    pub fn acknowledge(&mut self) -> Option<ListRegister> {
        let running = self.valid().filter(|lr| lr.is_active()).map(|lr| lr.priority()).min();
        let best = self.lrs.iter_mut().filter(|lr| ListRegister(**lr).is_pending()).min_by_key(|lr| ListRegister(**lr).priority())?;
        let lr = ListRegister(*best);
        if running.is_some_and(|running| running <= lr.priority()) {
            return None;
        }
        *best = lr.not_pending().0 | 1 << 63;
        Some(lr)
    }

    /// The guest completes the interrupt that it took last: what it was.
    pub fn complete(&mut self) -> Option<ListRegister> {
        let last = self.lrs.iter_mut().filter(|lr| ListRegister(**lr).is_active()).min_by_key(|lr| ListRegister(**lr).priority())?;
        let lr = ListRegister(*last);
        *last &= !(1 << 63);
        Some(lr)
    }
}

impl ListRegisters for CpuInterface {
    fn count(&self) -> usize {
        self.lrs.len()
    }

    fn empty(&self) -> u32 {
        (0..self.count()).filter(|n| ListRegister(self.lrs[*n]).is_empty()).fold(0, |set, n| set | 1 << n)
    }

    fn read(&self, n: usize) -> u64 {
        self.lrs[n]
    }

    fn write(&mut self, n: usize, value: u64) {
        let lr = ListRegister(value);
        if !lr.is_done() {
            assert!(value & 1 << 60 != 0, "group 1");
            assert!(!(lr.is_hardware() && lr.is_pending() && lr.is_active()), "a linked interrupt cannot be active and pending");
            assert!(!lr.is_hardware() || value >> 32 & 0x1fff == lr.intid().into());
        }
        self.lrs[n] = value;
    }
}
