//! Loads and stores that trapped: their value in the registers of the vCPU, and the few forms the hardware does not describe.

use crate::context::VcpuContext;

/// Bytes of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// 1 byte.
    Byte,
    /// 2 bytes.
    Half,
    /// 4 bytes.
    Word,
    /// 8 bytes.
    Double,
}

impl Size {
    /// From log2 of the bytes, as `ESR_EL2.ISS.SAS` and the instructions have it; only the low two bits count.
    pub const fn from_log2(log2: u32) -> Self {
        match log2 & 3 {
            0 => Self::Byte,
            1 => Self::Half,
            2 => Self::Word,
            _ => Self::Double,
        }
    }

    /// Bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
            Self::Double => 8,
        }
    }

    /// The low bytes of `value`.
    pub const fn truncate(self, value: u64) -> u64 {
        value & u64::MAX >> (64 - 8 * self.bytes())
    }
}

/// A load or store of one general register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Bytes in memory.
    pub size: Size,
    /// A load extends the sign.
    pub sign_extend: bool,
    /// The register is an X register, not a W register.
    pub sixty_four: bool,
    /// The register, 31 is the zero register.
    pub rt: u8,
    /// A store.
    pub write: bool,
}

impl Access {
    /// What a store writes.
    pub fn value(&self, context: &VcpuContext) -> u64 {
        self.size.truncate(register(context, self.rt))
    }

    /// Gives a load its result.
    pub fn complete(&self, context: &mut VcpuContext, value: u64) {
        let unused = 64 - 8 * self.size.bytes() as u32;
        let value = if self.sign_extend { ((value << unused) as i64 >> unused) as u64 } else { self.size.truncate(value) };
        set_register(context, self.rt, if self.sixty_four { value } else { Size::Word.truncate(value) });
    }
}

/// General register `n`; 31 is zero.
pub fn register(context: &VcpuContext, n: u8) -> u64 {
    context.x.get(usize::from(n)).copied().unwrap_or(0)
}

/// Sets general register `n`; 31 is ignored.
pub fn set_register(context: &mut VcpuContext, n: u8, value: u64) {
    if let Some(x) = context.x.get_mut(usize::from(n)) {
        *x = value;
    }
}

/// A load or store with post-indexed write-back, which traps without a syndrome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PostIndexed {
    /// The access itself.
    pub access: Access,
    /// The base register, 31 is the stack pointer.
    pub rn: u8,
    /// What is added to the base register afterwards.
    pub offset: i16,
}

/// Decodes an A64 `ldr` or `str` (immediate, post-indexed; also of bytes and half words) of a general register. As in Xen nothing else:
/// not sign-extending loads, pairs, vectors, or a base register that is loaded as well.
pub fn decode_post_indexed(instruction: u32) -> Option<PostIndexed> {
    // Arm ARM C4.1.94, load/store register (immediate post-indexed): size 111 V 00 opc 0 imm9 01 Rn Rt.
    const FIXED: u32 = 0x3b20_0c00;
    const VALUE: u32 = 0x3800_0400;
    const VECTOR: u32 = 1 << 26;
    let (rt, rn) = ((instruction & 0x1f) as u8, (instruction >> 5 & 0x1f) as u8);
    if instruction & FIXED != VALUE || instruction & VECTOR != 0 || rt == rn && rn != 31 {
        return None;
    }
    let write = match instruction >> 22 & 3 {
        0 => true,
        1 => false,
        _ => return None,
    };
    let size = Size::from_log2(instruction >> 30);
    let access = Access { size, sign_extend: false, sixty_four: size == Size::Double, rt, write };
    // Nine bits, sign-extended.
    let offset = ((instruction >> 12 & 0x1ff) as i16) << 7 >> 7;
    Some(PostIndexed { access, rn, offset })
}

impl PostIndexed {
    /// Adds the offset to the base register. For register 31, `context.sys` must hold the stack pointers of the vCPU and they must be
    /// loaded again.
    pub fn write_back(&self, context: &mut VcpuContext) {
        const SP_ELX: u64 = 0b0101;
        let base = match usize::from(self.rn) {
            31 if context.pstate & 0xf == SP_ELX => Some(&mut context.sys.sp_el1),
            31 => Some(&mut context.sys.sp_el0),
            n => context.x.get_mut(n),
        };
        if let Some(base) = base {
            *base = base.wrapping_add_signed(self.offset.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(size: Size, sign_extend: bool, sixty_four: bool, value: u64) -> u64 {
        let mut context = VcpuContext::default();
        context.x[3] = u64::MAX;
        Access { size, sign_extend, sixty_four, rt: 3, write: false }.complete(&mut context, value);
        context.x[3]
    }

    #[test]
    fn loads_extend_as_the_instruction_says() {
        assert_eq!(load(Size::Byte, false, false, 0x1234_5680), 0x80);
        assert_eq!(load(Size::Byte, true, false, 0x80), 0xffff_ff80);
        assert_eq!(load(Size::Byte, true, true, 0x80), 0xffff_ffff_ffff_ff80);
        assert_eq!(load(Size::Half, true, true, 0x7fff), 0x7fff);
        assert_eq!(load(Size::Word, false, false, 0xdead_beef_8000_0000), 0x8000_0000);
        assert_eq!(load(Size::Word, true, true, 0x8000_0000), 0xffff_ffff_8000_0000);
        assert_eq!(load(Size::Double, false, true, u64::MAX - 1), u64::MAX - 1);
    }

    #[test]
    fn stores_take_the_low_bytes_and_the_zero_register_is_zero() {
        let mut context = VcpuContext::default();
        context.x[0] = 0x1122_3344_5566_7788;
        let store = |size, rt| Access { size, sign_extend: false, sixty_four: false, rt, write: true };
        assert_eq!(store(Size::Half, 0).value(&context), 0x7788);
        assert_eq!(store(Size::Double, 0).value(&context), 0x1122_3344_5566_7788);
        assert_eq!(store(Size::Double, 31).value(&context), 0);
        let before = context.x;
        store(Size::Word, 31).complete(&mut context, 7);
        assert_eq!(context.x, before);
    }

    #[test]
    fn post_indexed_forms_decode() {
        // str w1, [x2], #4
        let store = decode_post_indexed(0xb800_4441).unwrap();
        assert_eq!(store.access, Access { size: Size::Word, sign_extend: false, sixty_four: false, rt: 1, write: true });
        assert_eq!((store.rn, store.offset), (2, 4));
        // ldr x0, [sp], #-8
        let load = decode_post_indexed(0xf85f_87e0).unwrap();
        assert_eq!(load.access, Access { size: Size::Double, sign_extend: false, sixty_four: true, rt: 0, write: false });
        assert_eq!((load.rn, load.offset), (31, -8));
        // ldrb w3, [x4], #-256
        let byte = decode_post_indexed(0x3850_0483).unwrap();
        assert_eq!((byte.access.size, byte.rn, byte.offset), (Size::Byte, 4, -256));
    }

    #[test]
    fn other_forms_are_refused() {
        let refused = [
            0xb840_4442, // ldr w2, [x2], #4: base loaded as well
            0xb800_4c41, // str w1, [x2, #4]!: pre-indexed
            0xbc00_4441, // str s1, [x2], #4: vector
            0x3880_4441, // ldrsb x1, [x2], #4
            0xa8c1_0440, // ldp x0, x1, [x2], #16
            0xb940_0041, // ldr w1, [x2]
            0x885f_7c41, // ldxr w1, [x2]
            0xd50b_7423, // dc zva, x3
            0x0000_0000,
            0xffff_ffff,
        ];
        for instruction in refused {
            assert_eq!(decode_post_indexed(instruction), None, "{instruction:#x}");
        }
    }

    #[test]
    fn write_back_moves_the_selected_stack_pointer() {
        let mut context = VcpuContext::default();
        (context.sys.sp_el0, context.sys.sp_el1) = (0x1000, 0x2000);
        let pop = decode_post_indexed(0xf85f_87e0).unwrap();
        context.pstate = 0x3c5;
        pop.write_back(&mut context);
        context.pstate = 0;
        pop.write_back(&mut context);
        context.pstate = 4;
        pop.write_back(&mut context);
        assert_eq!((context.sys.sp_el0, context.sys.sp_el1), (0xff0, 0x1ff8));
    }
}
