//! The registers of a GICv2's distributor (IHI 0048B, 4.3). The CPU interface is the hardware's.

use super::Register::*;
use super::Width::*;
use super::{Row, row};

/// Xen names Arm as the implementer, and nothing else.
const IIDR: u32 = 0x43b;

/// The distributor. What is not listed reads as zero.
#[rustfmt::skip]
pub const GICD: &[Row] = &[
    //  from   to      read          write
    row(0x000, 0x003, Word,         Word,         Control),                  // CTLR
    row(0x004, 0x007, Word,         Word,         Type),                     // TYPER
    row(0x008, 0x00b, Word,         Word,         Constant(IIDR)),           // IIDR
    row(0x080, 0x0ff, Word,         Word,         Zero),                     // IGROUPR
    row(0x100, 0x17f, Word,         Word,         Enable(true)),             // ISENABLER
    row(0x180, 0x1ff, Word,         Word,         Enable(false)),            // ICENABLER
    row(0x200, 0x27f, Any,          Word,         Pending(true)),            // ISPENDR
    row(0x280, 0x2ff, Any,          Word,         Pending(false)),           // ICPENDR
    row(0x300, 0x37f, Any,          Word,         Activate),                 // ISACTIVER
    row(0x380, 0x3ff, Any,          Word,         Zero),                     // ICACTIVER
    row(0x400, 0x7fb, WordOrByte,   WordOrByte,   Priority),                 // IPRIORITYR
    row(0x800, 0x81f, WordOrByte,   Word,         OwnTarget),                // ITARGETSR0-7
    row(0x820, 0xbfb, WordOrByte,   WordOrByte,   Target),                   // ITARGETSR
    row(0xc00, 0xc03, Word,         Word,         Zero),                     // ICFGR0
    row(0xc04, 0xc07, Word,         Word,         Zero),                     // ICFGR1: of PPIs
    row(0xc08, 0xcff, Word,         Word,         Config),                   // ICFGR
    row(0xe00, 0xeff, Word,         Word,         Zero),                     // NSACR
    row(0xf00, 0xf03, Word,         Word,         SendSgi),                  // SGIR
    row(0xf10, 0xf2f, Any,          Never,        Zero),                     // CPENDSGIR, SPENDSGIR
    row(0xfe8, 0xfeb, Never,        Never,        Zero),                     // PIDR2
    row(0xfec, 0xfff, Any,          Never,        Zero),                     // implementation defined
];
