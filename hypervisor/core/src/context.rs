//! The registers of a vCPU while it does not run: plain data, laid out for the entry code of `el2`.

/// General registers, program counter and processor state. The entry code addresses the fields by offset.
#[derive(Clone, Debug)]
#[repr(C, align(16))]
pub struct VcpuContext {
    /// x0 to x30.
    pub x: [u64; 31],
    /// Where the vCPU continues (`ELR_EL2`).
    pub pc: u64,
    /// With which PSTATE (`SPSR_EL2`); never a mode above EL1.
    pub pstate: u64,
    /// EL1 and EL0 system registers.
    pub sys: SystemRegisters,
    /// Floating point and SIMD registers.
    pub fp: FpRegisters,
}

/// Floating point and SIMD registers.
#[derive(Clone, Debug, Default)]
#[repr(C, align(16))]
pub struct FpRegisters {
    /// v0 to v31.
    pub v: [u128; 32],
    /// FPCR.
    pub fpcr: u64,
    /// FPSR.
    pub fpsr: u64,
}

macro_rules! system_registers {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// EL1 and EL0 system registers that belong to a vCPU and are switched with it.
        #[derive(Clone, Debug, Default)]
        #[repr(C)]
        #[expect(missing_docs, reason = "each field is the Arm register of the same name")]
        pub struct SystemRegisters {
            $($(#[$doc])* pub $name: u64),*
        }
    };
}

system_registers!(
    sctlr_el1,
    actlr_el1,
    cpacr_el1,
    ttbr0_el1,
    ttbr1_el1,
    tcr_el1,
    esr_el1,
    afsr0_el1,
    afsr1_el1,
    far_el1,
    mair_el1,
    amair_el1,
    vbar_el1,
    contextidr_el1,
    tpidr_el0,
    tpidrro_el0,
    tpidr_el1,
    cntkctl_el1,
    par_el1,
    csselr_el1,
    sp_el0,
    sp_el1,
    elr_el1,
    spsr_el1,
    mdscr_el1,
    vmpidr_el2,
);

impl Default for VcpuContext {
    fn default() -> Self {
        Self {
            x: [0; 31],
            pc: 0,
            pstate: PSTATE_RESET,
            sys: SystemRegisters { sctlr_el1: SCTLR_RESET, ..Default::default() },
            fp: FpRegisters::default(),
        }
    }
}

/// PSTATE of a vCPU that starts: EL1h, debug, SError, IRQ and FIQ masked (Arm ARM C5.2.18).
pub const PSTATE_RESET: u64 = 0x3c5;
/// SCTLR_EL1 of a vCPU that starts: MMU and caches off, RES1 bits set; the value Xen's toolstack uses.
pub const SCTLR_RESET: u64 = 0x00c5_0078;

impl VcpuContext {
    /// A vCPU as PSCI CPU_ON and the boot protocol start it: MMU off, at `pc`, with `x0`.
    pub fn starting_at(pc: u64, x0: u64) -> Self {
        let mut context = Self { pc, ..Self::default() };
        context.x[0] = x0;
        context
    }
}
