//! The memory-mapped registers of GICv3 (Arm IHI 0069, 12.9, 12.11 and 12.19).

use tock_registers::registers::{ReadOnly, ReadWrite};
use tock_registers::{register_bitfields, register_structs};

register_bitfields![u64,
    /// GICR_TYPER.
    pub TYPER [
        PLPIS OFFSET(0) NUMBITS(1) [],
        VLPIS OFFSET(1) NUMBITS(1) [],
        LAST OFFSET(4) NUMBITS(1) [],
        PROCESSOR_NUMBER OFFSET(8) NUMBITS(16) [],
        AFFINITY OFFSET(32) NUMBITS(32) [],
    ],
];

register_structs! {
    /// The distributor, GICD.
    pub Distributor {
        (0x0000 => pub ctlr: ReadWrite<u32>),
        (0x0004 => pub typer: ReadOnly<u32>),
        (0x0008 => _reserved0),
        (0x0080 => pub igroupr: [ReadWrite<u32>; 32]),
        (0x0100 => pub isenabler: [ReadWrite<u32>; 32]),
        (0x0180 => pub icenabler: [ReadWrite<u32>; 32]),
        (0x0200 => pub ispendr: [ReadWrite<u32>; 32]),
        (0x0280 => pub icpendr: [ReadWrite<u32>; 32]),
        (0x0300 => pub isactiver: [ReadWrite<u32>; 32]),
        (0x0380 => pub icactiver: [ReadWrite<u32>; 32]),
        (0x0400 => pub ipriorityr: [ReadWrite<u32>; 256]),
        (0x0800 => _reserved1),
        (0x0c00 => pub icfgr: [ReadWrite<u32>; 64]),
        (0x0d00 => _reserved2),
        // IROUTER0 to 31 do not exist: the first is SPI 32's.
        (0x6100 => pub irouter: [ReadWrite<u64>; 988]),
        (0x7fe0 => _reserved3),
        (0xffe8 => pub pidr2: ReadOnly<u32>),
        (0xffec => _reserved4),
        (0x10000 => @END),
    }
}

register_structs! {
    /// One CPU's redistributor, GICR: the frames RD_base and SGI_base.
    pub Redistributor {
        (0x00000 => pub ctlr: ReadWrite<u32>),
        (0x00004 => pub iidr: ReadOnly<u32>),
        (0x00008 => pub typer: ReadOnly<u64, TYPER::Register>),
        (0x00010 => _reserved0),
        (0x00014 => pub waker: ReadWrite<u32>),
        (0x00018 => _reserved1),
        (0x00070 => pub propbaser: ReadWrite<u64>),
        (0x00078 => pub pendbaser: ReadWrite<u64>),
        (0x00080 => _reserved8),
        (0x10080 => pub igroupr0: ReadWrite<u32>),
        (0x10084 => _reserved2),
        (0x10100 => pub isenabler0: ReadWrite<u32>),
        (0x10104 => _reserved3),
        (0x10180 => pub icenabler0: ReadWrite<u32>),
        (0x10184 => _reserved4),
        (0x10280 => pub icpendr0: ReadWrite<u32>),
        (0x10284 => _reserved5),
        (0x10380 => pub icactiver0: ReadWrite<u32>),
        (0x10384 => _reserved6),
        (0x10400 => pub ipriorityr: [ReadWrite<u32>; 8]),
        (0x10420 => _reserved7),
        (0x20000 => @END),
    }
}

register_structs! {
    /// An interrupt translation service, GITS: its control frame.
    pub Translation {
        (0x00000 => pub ctlr: ReadWrite<u32>),
        (0x00004 => _reserved0),
        (0x00008 => pub typer: ReadOnly<u64>),
        (0x00010 => _reserved1),
        (0x00080 => pub cbaser: ReadWrite<u64>),
        (0x00088 => pub cwriter: ReadWrite<u64>),
        (0x00090 => pub creadr: ReadOnly<u64>),
        (0x00098 => _reserved2),
        (0x00100 => pub baser: [ReadWrite<u64>; 8]),
        (0x00140 => _reserved3),
        (0x0ffe8 => pub pidr2: ReadOnly<u32>),
        (0x0ffec => _reserved4),
        (0x10000 => @END),
    }
}
