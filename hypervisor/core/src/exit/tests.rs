use super::*;

fn decode(esr: u64) -> Exit {
    Exit::decode(RawExit { vector: Vector::Synchronous, esr, far: 0xffff_8000_1234_5678, hpfar: 0x0009_0000 })
}

fn with_class(class: u64, iss: u64) -> u64 {
    class << 26 | 1 << 25 | iss
}

#[test]
fn calls_are_told_apart_by_their_immediate() {
    assert_eq!(decode(0x5a00_0ea1), Exit::Hypercall);
    assert_eq!(decode(0x5a00_0000), Exit::Smccc(Conduit::Hvc));
    assert_eq!(decode(0x5e00_0000), Exit::Smccc(Conduit::Smc));
    for immediate in (1..0x1_0000).filter(|i| *i != HYPERCALL_TAG) {
        assert_eq!(decode(0x5a00_0000 | immediate), Exit::Undefined);
        assert_eq!(decode(0x5e00_0000 | immediate), Exit::Undefined);
    }
    assert_eq!(decode(0x5e00_0ea1), Exit::Undefined, "a hypercall is never an smc");
}

#[test]
fn waiting_instructions() {
    assert_eq!(decode(0x07e0_0000 & !(1 << 25) | 1 << 25), Exit::Wfi);
    assert_eq!(decode(0x07e0_0001), Exit::Wfe);
    assert_eq!(decode(0x07e0_0002), Exit::Wfi, "wfit");
    assert_eq!(decode(0x07e0_0003), Exit::Wfe, "wfet");
}

#[test]
fn system_registers_by_encoding() {
    // msr ICC_SGI1R_EL1, x5: S3_0_C12_C11_5
    let sgi = SysReg { op0: 3, op1: 0, crn: 12, crm: 11, op2: 5 };
    assert_eq!(decode(0x623a_30b6), Exit::SysReg { register: sgi, rt: 5, read: false });
    // mrs x2, ID_AA64PFR0_EL1: S3_0_C0_C4_0
    let pfr0 = SysReg { op0: 3, op1: 0, crn: 0, crm: 4, op2: 0 };
    assert_eq!(decode(0x6230_0049), Exit::SysReg { register: pfr0, rt: 2, read: true });
    // msr CNTP_CTL_EL0, xzr: S3_3_C14_C2_1
    let cntp = SysReg { op0: 3, op1: 3, crn: 14, crm: 2, op2: 1 };
    assert_eq!(decode(0x6232_fbe4), Exit::SysReg { register: cntp, rt: 31, read: false });
}

#[test]
fn data_abort_with_syndrome() {
    // str w1, [x2] that stage 2 does not translate at level 3: ISV, SAS word, SRT 1, WnR, DFSC 0b000111.
    let Exit::DataAbort { abort, access } = decode(0x9381_0047) else { panic!() };
    assert_eq!(abort.va, Some(GuestVa(0xffff_8000_1234_5678)));
    assert_eq!(abort.ipa, Some(Ipa(0x0900_0678)));
    assert_eq!((abort.fault, abort.walk, abort.write, abort.cache_maintenance), (Fault::Translation, false, true, false));
    assert_eq!(access, Some(Access { size: Size::Word, sign_extend: false, sixty_four: false, rt: 1, write: true }));
    // ldrsb x7, …: SAS byte, SSE, SF.
    let Exit::DataAbort { access, .. } = decode(0x9327_8007) else { panic!() };
    assert_eq!(access, Some(Access { size: Size::Byte, sign_extend: true, sixty_four: true, rt: 7, write: false }));
}

#[test]
fn aborts_without_an_address() {
    // A permission fault reports no intermediate physical address, except for a stage-1 walk.
    let Exit::DataAbort { abort, access } = decode(0x9200_004f) else { panic!() };
    assert_eq!((abort.ipa, abort.fault, access), (None, Fault::Permission, None));
    let Exit::DataAbort { abort, .. } = decode(0x9200_00cf) else { panic!() };
    assert_eq!((abort.ipa, abort.walk), (Some(Ipa(0x0900_0000)), true));
    // External abort, FAR not valid.
    let Exit::DataAbort { abort, .. } = decode(0x9200_0410) else { panic!() };
    assert_eq!((abort.va, abort.ipa, abort.fault), (None, None, Fault::External));
}

#[test]
fn instruction_abort() {
    let Exit::InstructionAbort(abort) = decode(0x8200_0007) else { panic!() };
    assert_eq!((abort.ipa, abort.fault, abort.write), (Some(Ipa(0x0900_0678)), Fault::Translation, false));
}

#[test]
fn what_32_bit_programs_trap_with_is_undefined() {
    for class in [0x03, 0x04, 0x05, 0x06, 0x08, 0x0c, 0x11, 0x12, 0x13, 0x38] {
        assert_eq!(decode(with_class(class, 0)), Exit::Undefined, "{class:#x}");
        assert_eq!(decode(with_class(class, 0x1ff_ffff)), Exit::Undefined, "{class:#x}");
    }
}

#[test]
fn interrupts_errors_and_the_rest() {
    let raw = |vector| RawExit { vector, esr: 0xbe00_0011, far: 0, hpfar: 0 };
    assert_eq!(Exit::decode(raw(Vector::Irq)), Exit::Interrupt);
    assert_eq!(Exit::decode(raw(Vector::Fiq)), Exit::Interrupt);
    assert_eq!(Exit::decode(raw(Vector::SError)), Exit::SError { esr: 0xbe00_0011 });
    assert_eq!(decode(with_class(0x07, 0)), Exit::Fp);
    assert_eq!(decode(with_class(0x19, 0)), Exit::Undefined);
    assert!(matches!(decode(with_class(0x3f, 0)), Exit::Unknown { .. }));
    assert_eq!(instruction_bytes(0x5a00_0000), 4);
    assert_eq!(instruction_bytes(0x0c00_0000), 2);
}
