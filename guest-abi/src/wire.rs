//! `wire!`: one structure of the ABI, written as in the tables of its specification: size, then each field behind its offset.

/// Defines a `#[repr(C)]` structure of plain bytes whose size and offsets are checked at compile time.
///
/// All fields are public. Padding must be written out (`_pad`); what the hypervisor writes back must have it zero.
macro_rules! wire {
    ($(#[$meta:meta])* $name:ident, $size:literal bytes { $($(#[$field_meta:meta])* $offset:literal => $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, PartialEq, Eq, Debug, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
        )]
        #[repr(C)]
        pub struct $name {
            $($(#[$field_meta])* #[doc = concat!(" (Offset ", $offset, ".)")] pub $field: $ty,)*
        }

        impl Default for $name {
            /// All zero.
            fn default() -> Self {
                zerocopy::FromZeros::new_zeroed()
            }
        }

        const _: () = {
            assert!(size_of::<$name>() == $size);
            $(assert!(core::mem::offset_of!($name, $field) == $offset);)*
        };
    };
}
