//! Copying.

use super::*;
use core::sync::atomic::Ordering::SeqCst;

fn own(page: u64, offset: u16) -> CopyPtr {
    CopyPtr { u: RAM + page, domid: DOMID_SELF, offset, _pad: 0x5a5a_5a5a }
}

fn gref(domid: u16, reference: u32, offset: u16) -> CopyPtr {
    // The upper half of the union is not looked at.
    CopyPtr { u: 0x5a5a_5a5a_0000_0000 | u64::from(reference), domid, offset, _pad: 0 }
}

fn op(source: CopyPtr, dest: CopyPtr, len: u16, flags: u16) -> abi::Copy {
    abi::Copy { source, dest, len, flags, status: 0x7777, _pad: 0 }
}

const FROM_GRANT: u16 = GNTCOPY_SOURCE_GREF;
const TO_GRANT: u16 = GNTCOPY_DEST_GREF;

#[test]
fn copies_between_grants_and_own_pages() {
    let w = World::new();
    w.grant(&w.a, 1, GTF_PERMIT_ACCESS | GTF_READONLY, 0, 1);
    w.grant(&w.a, 2, GTF_PERMIT_ACCESS, 0, 2);
    w.bed.poke(&w.a, Testbed::va(1, 0), b"from A, page 1");
    assert_eq!(w.copy(&w.dom0, op(gref(1, 1, 5), own(3, 100), 9, FROM_GRANT)), GNTST_OKAY);
    assert_eq!(w.bed.peek::<u8>(&w.dom0, Testbed::va(3, 99), 11), b"\0A, page 1\0");
    assert_eq!(w.copy(&w.dom0, op(own(3, 100), gref(1, 2, 4095), 1, TO_GRANT)), GNTST_OKAY);
    assert_eq!(w.bed.peek::<u8>(&w.a, Testbed::va(2, 4095), 1), b"A");
    assert_eq!(w.copy(&w.dom0, op(gref(1, 1, 0), gref(1, 2, 0), 4096, FROM_GRANT | TO_GRANT)), GNTST_OKAY);
    assert_eq!(w.bed.peek::<u8>(&w.a, Testbed::va(2, 0), 14), b"from A, page 1");
    assert_eq!(w.copy(&w.dom0, op(own(3, 0), own(3, 50), 200, 0)), GNTST_OKAY, "within a page, overlapping");
    assert_eq!([w.flags(&w.a, 1), w.flags(&w.a, 2)], [GTF_PERMIT_ACCESS | GTF_READONLY, GTF_PERMIT_ACCESS]);
    w.assert_idle();
}

#[test]
fn copies_are_refused_without_a_trace() {
    let w = World::new();
    w.grant(&w.a, 1, GTF_PERMIT_ACCESS, 0, 1);
    w.grant(&w.a, 2, GTF_PERMIT_ACCESS | GTF_READONLY, 0, 2);
    w.grant(&w.a, 3, GTF_PERMIT_ACCESS, 2, 2);
    w.grant(&w.a, 4, GTF_PERMIT_ACCESS, 0, 0x1000);
    w.grant(&w.a, 5, GTF_TRANSITIVE, 0, 1);
    w.bed.poke(&w.a, Testbed::va(1, 0), &[0xaa_u8; 4096]);
    w.bed.poke(&w.dom0, Testbed::va(3, 0), &[0x55_u8; 4096]);
    let not_ours = |domid| CopyPtr { domid, ..own(3, 0) };
    let cases = [
        // XSA-212 and friends: bounds.
        (op(gref(1, 1, 4095), own(3, 0), 2, FROM_GRANT), GNTST_BAD_COPY_ARG),
        (op(gref(1, 1, 0), own(3, 4095), 2, FROM_GRANT), GNTST_BAD_COPY_ARG),
        (op(gref(1, 1, 0xffff), own(3, 0), 0xffff, FROM_GRANT), GNTST_BAD_COPY_ARG),
        (op(gref(1, 1, 0), own(3, 0xffff), 1, FROM_GRANT), GNTST_BAD_COPY_ARG),
        (op(gref(1, 1, 0), own(3, 0), 4097, FROM_GRANT), GNTST_BAD_COPY_ARG),
        // Only a domain's own pages by number, and only as DOMID_SELF.
        (op(not_ours(1), own(3, 0), 1, 0), GNTST_PERMISSION_DENIED),
        (op(not_ours(0), own(3, 0), 1, 0), GNTST_PERMISSION_DENIED),
        (op(own(3, 0), not_ours(0), 1, 0), GNTST_PERMISSION_DENIED),
        (op(not_ours(9), own(3, 0), 1, 0), GNTST_PERMISSION_DENIED),
        (op(gref(9, 1, 0), own(3, 0), 1, FROM_GRANT), GNTST_BAD_DOMAIN),
        (op(own(3, 0), gref(9, 1, 0), 1, TO_GRANT), GNTST_BAD_DOMAIN),
        (op(gref(1, 512, 0), own(3, 0), 1, FROM_GRANT), GNTST_BAD_GNTREF),
        (op(own(3, 0), gref(1, u32::MAX, 0), 1, TO_GRANT), GNTST_BAD_GNTREF),
        (op(gref(1, 0, 0), own(3, 0), 1, FROM_GRANT), GNTST_GENERAL_ERROR),
        (op(own(3, 0), gref(1, 2, 0), 1, TO_GRANT), GNTST_GENERAL_ERROR),
        (op(gref(1, 3, 0), own(3, 0), 1, FROM_GRANT), GNTST_GENERAL_ERROR),
        (op(gref(1, 4, 0), own(3, 0), 1, FROM_GRANT), GNTST_BAD_PAGE),
        (op(gref(1, 5, 0), own(3, 0), 1, FROM_GRANT), GNTST_GENERAL_ERROR),
        (op(gref(0, 0, 0), own(3, 0), 1, FROM_GRANT), GNTST_GENERAL_ERROR),
        (op(own(0x1000, 0), own(3, 0), 1, 0), GNTST_BAD_PAGE),
        (op(own(3, 0), own(0x1000, 0), 1, 0), GNTST_BAD_PAGE),
        (op(CopyPtr { u: u64::MAX, ..own(0, 0) }, own(3, 0), 1, 0), GNTST_BAD_PAGE),
    ];
    for (op, expected) in cases {
        let done = w.op(&w.dom0, GNTTABOP_COPY, op);
        assert_eq!(done, abi::Copy { status: expected, ..op });
        w.assert_idle();
    }
    // What came before a refusal by its second side is undone, too.
    assert_eq!(w.copy(&w.dom0, op(gref(1, 1, 0), gref(1, 2, 0), 1, FROM_GRANT | TO_GRANT)), GNTST_GENERAL_ERROR);
    assert_eq!(w.flags(&w.a, 1), GTF_PERMIT_ACCESS);
    w.assert_idle();
    assert_eq!(w.bed.peek::<u8>(&w.a, Testbed::va(1, 0), 4096), [0xaa; 4096]);
    assert_eq!(w.bed.peek::<u8>(&w.dom0, Testbed::va(3, 0), 4096), [0x55; 4096]);
}

#[test]
fn nothing_is_checked_for_no_bytes() {
    let w = World::new();
    for flags in [0, FROM_GRANT, TO_GRANT, 0xffff] {
        assert_eq!(w.copy(&w.a, op(gref(9, u32::MAX, 0xffff), gref(1234, 77, 0xffff), 0, flags)), GNTST_OKAY, "XSA-448");
    }
    w.assert_idle();
}

#[test]
fn silo_keeps_copies_apart() {
    let w = World::new();
    w.grant(&w.a, 1, GTF_PERMIT_ACCESS, 2, 1);
    w.grant(&w.a, 2, GTF_PERMIT_ACCESS, 0, 1);
    w.grant(&w.b, 1, GTF_PERMIT_ACCESS, 0, 1);
    assert_eq!(w.copy(&w.b, op(gref(1, 1, 0), own(3, 0), 1, FROM_GRANT)), GNTST_PERMISSION_DENIED);
    assert_eq!(w.copy(&w.b, op(own(3, 0), gref(1, 1, 0), 1, TO_GRANT)), GNTST_PERMISSION_DENIED);
    assert_eq!(w.copy(&w.dom0, op(gref(1, 2, 0), gref(2, 1, 0), 1, FROM_GRANT | TO_GRANT)), GNTST_OKAY, "the control domain may");
    w.assert_idle();
}

/// XSA-318: a batch is continued, every status is written, and operations happen in order.
#[test]
fn batches_are_done_in_order() {
    let w = World::new();
    w.grant(&w.a, 1, GTF_PERMIT_ACCESS, 0, 1);
    w.bed.poke(&w.a, Testbed::va(1, 0), &[1_u8, 2, 3, 4]);
    // Byte i of page 4 is copied from byte i - 1: the first one travels through the whole list.
    let mut ops = vec![op(gref(1, 1, 2), own(4, 0), 1, FROM_GRANT)];
    ops.extend((1..180).map(|i| op(own(4, i - 1), own(4, i), 1, 0)));
    ops[100].len = 0xffff;
    ops[101] = op(gref(1, 1, 3), own(4, 101), 1, FROM_GRANT);
    // The list takes two pages.
    let list = Testbed::va(LIST, 0);
    w.bed.poke(&w.dom0, list, &ops);
    assert_eq!(w.bed.hypercall(&w.dom0, GRANT_TABLE_OP, [GNTTABOP_COPY.into(), list, 180, 0, 0]), (0, 3));
    let statuses: Vec<_> = w.bed.peek::<abi::Copy>(&w.dom0, list, 180).iter().map(|op| op.status).collect();
    assert!((0..180).all(|i| statuses[i] == if i == 100 { GNTST_BAD_COPY_ARG } else { GNTST_OKAY }));
    let bytes = w.bed.peek::<u8>(&w.dom0, Testbed::va(4, 0), 181);
    assert!((0..181).all(|i| bytes[i]
        == if i < 100 {
            3
        } else if (101..180).contains(&i) {
            4
        } else {
            0
        }));
    w.assert_idle();
}

#[test]
fn a_run_of_copies_pins_its_pages_once() {
    let w = World::new();
    w.grant(&w.a, 1, GTF_PERMIT_ACCESS, 0, 1);
    w.grant(&w.a, 2, GTF_PERMIT_ACCESS, 0, 2);
    // Meddling that changes no bit counts the attempts.
    w.bed.machine.meddle.store(100, SeqCst);
    let ops: Vec<_> = (0..8).map(|i| op(gref(1, 1, i), own(3, i), 1, FROM_GRANT)).collect();
    let (_, done) = w.ops(&w.dom0, GNTTABOP_COPY, &ops);
    assert!(done.iter().all(|op| op.status == GNTST_OKAY));
    assert_eq!(w.bed.machine.meddle.load(SeqCst), 99);
    assert_eq!(w.flags(&w.a, 1), GTF_PERMIT_ACCESS);
    // The same reference of the other side, then another reference, then by number.
    let ops = [
        op(gref(1, 1, 0), gref(1, 1, 8), 1, FROM_GRANT | TO_GRANT),
        op(gref(1, 2, 0), gref(1, 1, 9), 1, FROM_GRANT | TO_GRANT),
        op(CopyPtr { domid: 1, ..own(2, 0) }, gref(1, 1, 9), 1, TO_GRANT),
        op(own(2, 0), gref(1, 1, 9), 1, TO_GRANT),
    ];
    let (_, done) = w.ops(&w.dom0, GNTTABOP_COPY, &ops);
    let statuses: Vec<_> = done.iter().map(|op| op.status).collect();
    assert_eq!(statuses, [GNTST_OKAY, GNTST_OKAY, GNTST_PERMISSION_DENIED, GNTST_OKAY], "a number is never of another domain");
    w.assert_idle();
}

#[test]
fn a_page_mapped_from_a_grant_is_not_ones_own() {
    let w = World::new();
    w.grant(&w.a, 1, GTF_PERMIT_ACCESS, 0, 1);
    assert_eq!(w.map(&w.dom0, map_op(1, 1, RAM + 0x20, GNTMAP_HOST_MAP)).status, GNTST_OKAY);
    assert_eq!(w.copy(&w.dom0, op(own(0x20, 0), own(3, 0), 1, 0)), GNTST_BAD_PAGE);
    assert_eq!(w.copy(&w.dom0, op(own(3, 0), own(0x20, 0), 1, 0)), GNTST_BAD_PAGE);
    assert_eq!(w.copy(&w.dom0, op(gref(1, 1, 0), own(3, 0), 1, FROM_GRANT)), GNTST_OKAY, "as netback names it instead");
    assert_eq!(w.flags(&w.a, 1), GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING, "XSA-230");
}

#[test]
fn nothing_is_copied_of_a_dying_domain() {
    let w = World::new();
    w.grant(&w.a, 1, GTF_PERMIT_ACCESS, 0, 1);
    let mapped = w.map(&w.dom0, map_op(1, 1, HOLE, GNTMAP_HOST_MAP));
    while matches!(w.bed.hv.destroy(&w.a), crate::domain::destroy::Progress::More) {}
    assert_eq!(w.copy(&w.dom0, op(gref(1, 1, 0), own(3, 0), 8, FROM_GRANT)), GNTST_BAD_DOMAIN);
    assert_eq!(w.copy(&w.dom0, op(own(3, 0), gref(1, 1, 0), 8, TO_GRANT)), GNTST_BAD_DOMAIN);
    assert_eq!(w.unmap(&w.dom0, mapped.handle, HOLE * PAGE_SIZE), GNTST_OKAY);
}
