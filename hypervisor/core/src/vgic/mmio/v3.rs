//! The registers of a GICv3: distributor and redistributors (IHI 0069H, chapter 12).

use super::Register::*;
use super::Width::*;
use super::{Row, row};

const IIDR: u32 = 0x34c;
const PIDR2_ARCH_V3: u32 = 0x30;

/// The distributor, 12.9. What is not listed reads as zero.
#[rustfmt::skip]
pub const GICD: &[Row] = &[
    //  from    to      read          write
    row(0x0000, 0x0003, Word,         Word,         Control),                  // CTLR
    row(0x0004, 0x0007, Word,         Word,         Type),                     // TYPER
    row(0x0008, 0x000b, Word,         Word,         Constant(IIDR)),           // IIDR
    row(0x0010, 0x0013, Word,         Word,         Zero),                     // STATUSR
    row(0x0080, 0x00ff, Word,         Word,         Zero),                     // IGROUPR
    row(0x0100, 0x017f, Word,         Word,         Enable(true)),             // ISENABLER
    row(0x0180, 0x01ff, Word,         Word,         Enable(false)),            // ICENABLER
    row(0x0200, 0x027f, Any,          Word,         Pending(true)),            // ISPENDR
    row(0x0280, 0x02ff, Any,          Word,         Pending(false)),           // ICPENDR
    row(0x0300, 0x037f, Any,          Never,        Zero),                     // ISACTIVER
    row(0x0380, 0x03ff, Any,          Word,         Zero),                     // ICACTIVER
    row(0x0400, 0x07fb, WordOrByte,   WordOrByte,   Priority),                 // IPRIORITYR
    row(0x0c00, 0x0c03, Word,         Word,         Zero),                     // ICFGR0
    row(0x0c04, 0x0cff, Word,         Word,         Config),                   // ICFGR
    row(0x0d00, 0x0d7f, Word,         Word,         Zero),                     // IGRPMODR
    row(0x0e00, 0x0eff, Word,         Word,         Zero),                     // NSACR
    row(0x0f00, 0x0f03, Word,         Word,         Zero),                     // SGIR
    row(0x0f10, 0x0f2f, Word,         Never,        Zero),                     // CPENDSGIR, SPENDSGIR
    row(0x6100, 0x7fdf, WordOrDouble, WordOrDouble, Router),                   // IROUTER
    row(0xffe8, 0xffeb, Word,         Word,         Constant(PIDR2_ARCH_V3)),  // PIDR2
];

/// The first frame of a redistributor, 12.10.
#[rustfmt::skip]
pub const GICR: &[Row] = &[
    row(0x0000, 0x0003, Word,         Word,         Zero),                     // CTLR
    row(0x0004, 0x0007, Word,         Word,         Constant(IIDR)),           // IIDR
    row(0x0008, 0x000f, WordOrDouble, Narrow,       RedistributorType),        // TYPER
    row(0x0010, 0x0013, Word,         Word,         Zero),                     // STATUSR
    row(0x0014, 0x0017, Word,         Word,         Zero),                     // WAKER: awake
    row(0x0040, 0x004f, Any,          Narrow,       Unreadable),               // SETLPIR, CLRLPIR
    row(0x0070, 0x007f, WordOrDouble, Narrow,       Zero),                     // PROPBASER, PENDBASER
    row(0x00a0, 0x00a7, Any,          Narrow,       Unreadable),               // INVLPIR
    row(0x00b0, 0x00b7, Any,          Narrow,       Unreadable),               // INVALLR
    row(0x00c0, 0x00c3, Word,         Word,         Constant(1)),              // SYNCR, as Xen has it
    row(0xffe8, 0xffeb, Word,         Word,         Constant(PIDR2_ARCH_V3)),  // PIDR2
];

/// The first frame of a redistributor where there are LPIs. They are made pending by an ITS alone.
#[rustfmt::skip]
pub const GICR_LPI: &[Row] = &[
    row(0x0000, 0x0003, Word,         Word,         LpiControl),               // CTLR
    row(0x0004, 0x0007, Word,         Word,         Constant(IIDR)),           // IIDR
    row(0x0008, 0x000f, WordOrDouble, Any,          RedistributorType),        // TYPER
    row(0x0070, 0x0077, WordOrDouble, WordOrDouble, LpiProperties),            // PROPBASER
    row(0x0078, 0x007f, WordOrDouble, WordOrDouble, LpiPending),               // PENDBASER
    row(0x00c0, 0x00c3, Word,         Word,         Zero),                     // SYNCR: nothing is under way
    row(0xffe8, 0xffeb, Word,         Word,         Constant(PIDR2_ARCH_V3)),  // PIDR2
];

/// The second frame of a redistributor: SGIs and PPIs.
#[rustfmt::skip]
pub const GICR_SGI: &[Row] = &[
    row(0x0080, 0x0083, Word,         Word,         Zero),                     // IGROUPR0
    row(0x0100, 0x0103, Word,         Word,         Enable(true)),             // ISENABLER0
    row(0x0180, 0x0183, Word,         Word,         Enable(false)),            // ICENABLER0
    row(0x0200, 0x0203, Any,          Word,         Pending(true)),            // ISPENDR0
    row(0x0280, 0x0283, Any,          Word,         Pending(false)),           // ICPENDR0
    row(0x0300, 0x0303, Any,          Never,        Zero),                     // ISACTIVER0
    row(0x0380, 0x0383, Any,          Word,         Zero),                     // ICACTIVER0
    row(0x0400, 0x041f, WordOrByte,   WordOrByte,   Priority),                 // IPRIORITYR0-7
    row(0x0c00, 0x0c03, Word,         Any,          Zero),                     // ICFGR0
    row(0x0c04, 0x0c07, Word,         Word,         Config),                   // ICFGR1
    row(0x0d00, 0x0d03, Word,         Word,         Zero),                     // IGRPMODR0
    row(0x0e00, 0x0e03, Word,         Word,         Zero),                     // NSACR
];
