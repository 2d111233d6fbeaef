//! System registers by name, for those that aarch64-cpu lacks and where a whole list is walked.

/// Reads a system register. Reading the registers that EL2 names has no side effect, save `ICC_IAR1_EL1` (which acknowledges).
macro_rules! read {
    ($name:expr) => {{
        let value: u64;
        // SAFETY: reading a system register touches no memory; the register exists, as the caller checked by the ID registers where it may not.
        unsafe { core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nostack, preserves_flags)) };
        value
    }};
}

/// Writes a system register. The caller says why the new value keeps Rust's world intact.
macro_rules! write {
    ($name:expr, $value:expr) => {
        core::arch::asm!(concat!("msr ", $name, ", {}"), in(reg) $value, options(nostack, preserves_flags))
    };
}

pub(crate) use {read, write};

/// Drops the stage-1 TLB entries of EL2 on this CPU.
pub fn tlbi_el2_all() {
    // SAFETY: the tables are whole at any time, so dropping cached entries changes no translation.
    unsafe { core::arch::asm!("tlbi alle2", "dsb nsh", "isb", options(nostack, preserves_flags)) };
}
