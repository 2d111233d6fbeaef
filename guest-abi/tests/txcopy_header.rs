//! Compares the tx copy interface with its C header, as C compilers see it: every size, offset, field width and constant.
//!
//! The header is compiled as strictly as the kernel's, by the host's compiler and by one for Arm64, each if it is there. The values become
//! assertions of the compiler: no code runs.

use guest_abi::txcopy as abi;
use std::mem::{offset_of, size_of};
use std::path::PathBuf;
use std::process::Command;

/// What the header needs of the kernel's `linux/types.h`.
const TYPES: &str =
    "typedef unsigned char __u8; typedef unsigned short __u16; typedef unsigned int __u32; typedef unsigned long long __u64;\n";

/// `(C expression, value)` for the size of a structure and for each field's offset and width.
macro_rules! structure {
    ($checks:ident, $c:literal, $rust:ident { $($c_field:literal $field:ident),* $(,)? }) => {
        $checks.push((format!("sizeof(struct {})", $c), size_of::<abi::$rust>() as u64));
        // Names all fields: a new one must be added here.
        let abi::$rust { $($field),* } = abi::$rust::default();
        $(
            $checks.push((format!("offsetof(struct {}, {})", $c, $c_field), offset_of!(abi::$rust, $field) as u64));
            $checks.push((format!("sizeof(((struct {} *)0)->{})", $c, $c_field), std::mem::size_of_val(&$field) as u64));
        )*
    };
}

macro_rules! constants {
    ($checks:ident: $($c:literal $rust:ident),* $(,)?) => {
        $($checks.push(($c.into(), u64::from(abi::$rust)));)*
    };
}

fn checks() -> Vec<(String, u64)> {
    let mut checks = Vec::new();
    structure!(checks, "txcopy_query", Query {
        "version" version, "max_slot_pages" max_slot_pages, "max_pieces" max_pieces, "max_packet" max_packet,
        "max_channels" max_channels, "max_attachments" max_attachments, "min_buffer" min_buffer, "reserved" _reserved,
    });
    structure!(checks, "txcopy_create", Create {
        "version" version, "sender" sender, "pad" _pad, "ring_gfns" ring_gfns, "slot_pages" slot_pages, "port" port,
        "channel" channel, "flags" flags, "reserved" _reserved,
    });
    structure!(checks, "txcopy_attach", Attach {
        "version" version, "receiver" receiver, "pad" _pad, "channel" channel, "port" port, "batch_gfn" batch_gfn,
        "handle" handle, "flags" flags, "reserved" _reserved,
    });
    structure!(checks, "txcopy_stats", Stats {
        "channel" channel, "attached" attached, "packets" packets, "bytes" bytes, "batches" batches, "full" full,
        "notified" notified, "suppressed" suppressed, "refused" refused, "unusable" unusable, "woken" woken, "reserved" _reserved,
    });
    structure!(checks, "txcopy_ring", RingHeader {
        "posted" posted, "event_at" event_at, "pad0" _pad0, "completed" completed, "flags" flags, "pad1" _pad1,
    });
    structure!(checks, "txcopy_slot", Slot {
        "addr" addr, "size" size, "len" len, "total" total, "flags" flags, "csum_start" csum_start, "csum_offset" csum_offset,
        "gso_size" gso_size, "gso_type" gso_type, "pad" _pad,
    });
    structure!(checks, "txcopy_packet", PacketHeader {
        "len" len, "pieces" pieces, "flags" flags, "csum_start" csum_start, "csum_offset" csum_offset, "gso_size" gso_size,
        "gso_type" gso_type, "pad" _pad,
    });
    structure!(checks, "txcopy_piece", Piece { "addr" addr, "len" len, "pad" _pad });
    constants!(checks:
        "TXCOPY_OP" TXCOPY_OP, "TXCOPY_VERSION" TXCOPY_VERSION, "TXCOPY_QUERY" TXCOPY_QUERY, "TXCOPY_CREATE" TXCOPY_CREATE,
        "TXCOPY_DESTROY" TXCOPY_DESTROY, "TXCOPY_ATTACH" TXCOPY_ATTACH, "TXCOPY_DETACH" TXCOPY_DETACH, "TXCOPY_SEND" TXCOPY_SEND,
        "TXCOPY_POSTED" TXCOPY_POSTED, "TXCOPY_STATS" TXCOPY_STATS, "TXCOPY_SEND_WANT_SPACE" TXCOPY_SEND_WANT_SPACE,
        "TXCOPY_MAX_PIECES" TXCOPY_MAX_PIECES, "TXCOPY_MAX_PACKET" TXCOPY_MAX_PACKET, "TXCOPY_MIN_BUFFER" TXCOPY_MIN_BUFFER,
        "TXCOPY_MAX_SLOT_PAGES" TXCOPY_MAX_SLOT_PAGES, "TXCOPY_MAX_CHANNELS" TXCOPY_MAX_CHANNELS,
        "TXCOPY_MAX_ATTACHMENTS" TXCOPY_MAX_ATTACHMENTS, "TXCOPY_RING_SENDER_WAITS" RING_SENDER_WAITS, "TXCOPY_SLOT_MORE" SLOT_MORE,
        "TXCOPY_PACKET_CSUM_PARTIAL" PACKET_CSUM_PARTIAL, "TXCOPY_PACKET_CSUM_VALID" PACKET_CSUM_VALID,
        "TXCOPY_GSO_NONE" GSO_NONE, "TXCOPY_GSO_TCPV4" GSO_TCPV4, "TXCOPY_GSO_TCPV6" GSO_TCPV6,
    );
    checks
}

#[test]
fn agrees_with_the_c_header() {
    let checks = checks();
    let asserts: String =
        checks.iter().map(|(c, value)| format!("_Static_assert(({c}) == {value}ull, \"{c} is not {value}\");\n")).collect();
    let source = format!("#include <stddef.h>\n#include \"xenolith-txcopy.h\"\n#include \"xenolith-txcopy.h\"\n{asserts}");
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("txcopy-header");
    std::fs::create_dir_all(dir.join("linux")).unwrap();
    std::fs::write(dir.join("linux/types.h"), TYPES).unwrap();
    std::fs::write(dir.join("check.c"), source).unwrap();
    let header = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("linux");
    let mut compared = 0;
    for compiler in ["gcc", "aarch64-linux-gnu-gcc"] {
        let mut command = Command::new(compiler);
        command.args(["-std=gnu11", "-Wall", "-Wextra", "-Wpadded", "-Werror", "-fsyntax-only", "-I"]).arg(&dir).arg("-I").arg(&header);
        let Ok(output) = command.arg(dir.join("check.c")).output() else {
            println!("SKIPPED: no {compiler}");
            continue;
        };
        assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
        compared += 1;
    }
    println!("{} sizes, offsets and constants compared by {compared} compilers", checks.len());
}

/// A constant that nobody compares may be wrong for ever.
#[test]
fn every_constant_is_compared() {
    let own = include_str!("txcopy_header.rs");
    let listed: std::collections::HashSet<&str> = own.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let rust = include_str!("../src/txcopy.rs").lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    let c = include_str!("../linux/xenolith-txcopy.h").lines().filter_map(|line| line.strip_prefix("#define ")?.split_whitespace().next());
    let forgotten: Vec<_> = rust.chain(c).filter(|name| *name != "XENOLITH_TXCOPY_H" && !listed.contains(name)).collect();
    assert!(forgotten.is_empty(), "compare these: {forgotten:?}");
}
