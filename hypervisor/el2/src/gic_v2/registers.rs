//! The memory-mapped registers of GICv2 (Arm IHI 0048B, 4.1 and 5.3).

use tock_registers::register_structs;
use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};

register_structs! {
    /// The distributor, GICD. The first bank of each register is the accessing CPU's own.
    pub Distributor {
        (0x000 => pub ctlr: ReadWrite<u32>),
        (0x004 => pub typer: ReadOnly<u32>),
        (0x008 => _reserved0),
        (0x100 => pub isenabler: [ReadWrite<u32>; 32]),
        (0x180 => pub icenabler: [ReadWrite<u32>; 32]),
        (0x200 => pub ispendr: [ReadWrite<u32>; 32]),
        (0x280 => pub icpendr: [ReadWrite<u32>; 32]),
        (0x300 => pub isactiver: [ReadWrite<u32>; 32]),
        (0x380 => pub icactiver: [ReadWrite<u32>; 32]),
        (0x400 => pub ipriorityr: [ReadWrite<u32>; 256]),
        (0x800 => pub itargetsr: [ReadWrite<u32>; 256]),
        (0xc00 => pub icfgr: [ReadWrite<u32>; 64]),
        (0xd00 => _reserved1),
        (0xf00 => pub sgir: WriteOnly<u32>),
        (0xf04 => _reserved2),
        (0xf10 => pub cpendsgir: [ReadWrite<u32>; 4]),
        (0xf20 => _reserved3),
        (0x1000 => @END),
    }
}

register_structs! {
    /// The CPU interface, GICC: two pages.
    pub CpuInterface {
        (0x0000 => pub ctlr: ReadWrite<u32>),
        (0x0004 => pub pmr: ReadWrite<u32>),
        (0x0008 => pub bpr: ReadWrite<u32>),
        (0x000c => pub iar: ReadOnly<u32>),
        (0x0010 => pub eoir: WriteOnly<u32>),
        (0x0014 => _reserved0),
        (0x00d0 => pub apr: [ReadWrite<u32>; 4]),
        (0x00e0 => _reserved1),
        (0x00fc => pub iidr: ReadOnly<u32>),
        (0x0100 => _reserved2),
        (0x1000 => pub dir: WriteOnly<u32>),
        (0x1004 => _reserved3),
        (0x2000 => @END),
    }
}

register_structs! {
    /// The hypervisor's view of the accessing CPU's virtual interface, GICH.
    pub VirtualInterface {
        (0x000 => pub hcr: ReadWrite<u32>),
        (0x004 => pub vtr: ReadOnly<u32>),
        (0x008 => pub vmcr: ReadWrite<u32>),
        (0x00c => _reserved0),
        (0x030 => pub elrsr: [ReadOnly<u32>; 2]),
        (0x038 => _reserved1),
        (0x0f0 => pub apr: ReadWrite<u32>),
        (0x0f4 => _reserved2),
        (0x100 => pub lr: [ReadWrite<u32>; 64]),
        (0x200 => @END),
    }
}
