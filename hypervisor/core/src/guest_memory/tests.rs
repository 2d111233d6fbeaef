use super::*;
use crate::frames::{Frame, FrameKind};
use crate::machine::fake::FakeMachine;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

const BASE: u64 = 0x4_0000;
const GUEST: Vmid = Vmid(1);

/// Stage 1 as a map from virtual page to frame and writability, which counts translations.
#[derive(Default)]
struct Pages {
    map: BTreeMap<u64, (Mfn, bool)>,
    asked: RefCell<u32>,
}

impl Stage1 for Pages {
    fn translate(&self, va: GuestVa, write: bool) -> Option<MachineAddr> {
        *self.asked.borrow_mut() += 1;
        let (mfn, writable) = self.map.get(&(va.0 >> 12)).copied()?;
        (writable || !write).then(|| MachineAddr(mfn.address().0 + va.page_offset()))
    }
}

fn frames() -> FrameTable {
    let table: Vec<Frame> = (0..16).map(|_| Frame::default()).collect();
    let frames = FrameTable::new(FakeMachine::leak(BASE << 12, 16), &[Mfn(BASE)..Mfn(BASE + 16)], table.leak());
    frames.give(Mfn(BASE)..Mfn(BASE + 16), false);
    frames.account(GUEST).set_max_pages(100);
    frames.account(Vmid(2)).set_max_pages(100);
    frames
}

/// Pages 1 and 2 writable, 3 read-only, 5 another domain's, 6 shared by the hypervisor; 4 is a hole.
fn guest(frames: &FrameTable) -> Pages {
    let page = |owner, kind| frames.allocate(owner, 0, kind).unwrap();
    let mut pages = Pages::default();
    // Machine frames in descending order, so that adjoining virtual pages do not adjoin.
    let (b, a) = (page(GUEST, FrameKind::Ram), page(GUEST, FrameKind::Ram));
    pages.map.insert(1, (a, true));
    pages.map.insert(2, (b, true));
    pages.map.insert(3, (page(GUEST, FrameKind::Ram), false));
    pages.map.insert(5, (page(Vmid(2), FrameKind::Ram), true));
    pages.map.insert(6, (page(GUEST, FrameKind::Xen), true));
    pages
}

fn no_references_left(frames: &FrameTable) {
    assert!(frames.iter().all(|(_, i)| i.references <= 1));
}

#[test]
fn values_cross_page_ends() {
    let frames = frames();
    let stage1 = guest(&frames);
    let memory = GuestMemory::new(&frames, &stage1, GUEST);
    for start in [0x1000, 0x1ff8, 0x1ff9, 0x1fff, 0x2000, 0x2ff8] {
        let ptr = GuestPtr::<u64>::new(start);
        memory.write(ptr, &0x0123_4567_89ab_cdef_u64).unwrap();
        assert_eq!(memory.read(ptr), Ok(0x0123_4567_89ab_cdef));
        assert_eq!(memory.pin(ptr).unwrap().read(), 0x0123_4567_89ab_cdef);
    }
    assert_eq!(memory.read(GuestPtr::<u8>::new(0x2fff)), Ok(0x01), "the last byte of a page");
    drop(memory);
    no_references_left(&frames);
}

#[test]
fn a_fault_on_the_second_page_writes_nothing() {
    let frames = frames();
    let stage1 = guest(&frames);
    let memory = GuestMemory::new(&frames, &stage1, GUEST);
    let last = 0x2ffc;
    assert_eq!(memory.write(GuestPtr::new(last), &[0xff_u8; 8]), Err(Fault), "into a read-only page");
    assert_eq!(memory.read(GuestPtr::<[u8; 4]>::new(last)), Ok([0; 4]));
    assert!(memory.pin(GuestPtr::<[u8; 8]>::new(last)).is_err());
    assert_eq!(memory.read(GuestPtr::<u64>::new(0x3ffc)), Err(Fault), "into a hole");
    drop(memory);
    no_references_left(&frames);
}

#[test]
fn only_the_callers_own_ram_counts() {
    let frames = frames();
    let mut stage1 = guest(&frames);
    stage1.map.insert(7, (Mfn(BASE + 15), true)); // a free page
    stage1.map.insert(8, (Mfn(1), true)); // no RAM
    let memory = GuestMemory::new(&frames, &stage1, GUEST);
    for page in [0, 4, 5, 7, 8] {
        let ptr = GuestPtr::<u32>::new(page << 12);
        assert_eq!(memory.read(ptr), Err(Fault), "page {page}");
        assert_eq!(memory.write(ptr, &1), Err(Fault), "page {page}");
        assert!(memory.pin(ptr).is_err(), "page {page}");
    }
    assert_eq!(memory.read(GuestPtr::<u32>::new(0x3000)), Ok(0));
    assert_eq!(memory.write(GuestPtr::<u32>::new(0x3000), &1), Err(Fault), "read first, then written: asked again");
}

#[test]
fn the_ends_of_the_address_space() {
    let frames = frames();
    let mut stage1 = guest(&frames);
    let page = stage1.map[&1];
    stage1.map.insert(u64::MAX >> 12, page);
    stage1.map.insert(0, page);
    let memory = GuestMemory::new(&frames, &stage1, GUEST);
    memory.write(GuestPtr::new(u64::MAX), &7u8).unwrap();
    assert_eq!(memory.read(GuestPtr::<u8>::new(u64::MAX)), Ok(7));
    memory.write(GuestPtr::new(u64::MAX - 7), &[1u8; 8]).unwrap();
    assert_eq!(memory.write(GuestPtr::new(u64::MAX), &7u16), Err(Fault), "does not wrap to 0");
    assert_eq!(memory.read(GuestPtr::<u16>::new(u64::MAX)), Err(Fault));
    assert!(GuestPtr::<u64>::new(8).offset(u64::MAX / 8).is_none());
    assert!(GuestPtr::<u64>::new(u64::MAX).offset(1).is_none());
    assert_eq!(GuestPtr::<u64>::new(16).offset(3).unwrap().va(), GuestVa(40));
}

#[test]
fn nothing_is_asked_about_no_bytes() {
    let frames = frames();
    let stage1 = guest(&frames);
    let memory = GuestMemory::new(&frames, &stage1, GUEST);
    assert_eq!(memory.read_bytes(GuestVa(0x4000), &mut []), Ok(()));
    assert_eq!(memory.write_bytes(GuestVa(0x4000), &[]), Ok(()));
    assert_eq!(*stage1.asked.borrow(), 0);
}

#[test]
fn an_array_translates_once_per_page() {
    let frames = frames();
    let stage1 = guest(&frames);
    let memory = GuestMemory::new(&frames, &stage1, GUEST);
    let array = GuestPtr::<u64>::new(0x1000);
    for i in 0..1024 {
        memory.read(array.offset(i).unwrap()).unwrap();
    }
    assert_eq!(*stage1.asked.borrow(), 2);
}

#[test]
fn elements_of_one_page_are_held_together() {
    let frames = frames();
    let stage1 = guest(&frames);
    let memory = GuestMemory::new(&frames, &stage1, GUEST);
    // Three elements end in page 1, one lies in both, the others in page 2; page 3 cannot be written.
    let array = GuestPtr::<[u32; 3]>::new(0x2000 - 40);
    let write = |from: u32, most| {
        let pinned = memory.pin_some(array.offset(from.into()).unwrap(), most).ok()?;
        for n in 0..pinned.count() {
            let mut value = [1; 3];
            pinned.read_nth(n, &mut value);
            assert_eq!(value, [0; 3]);
            pinned.write_nth(n, &[from + n; 3]);
            pinned.read_nth(n, &mut value);
            assert_eq!(value, [from + n; 3]);
        }
        Some(pinned.count())
    };
    assert_eq!(write(0, 2), Some(2));
    assert_eq!(write(2, 9), Some(1));
    assert_eq!(write(3, 9), Some(1));
    assert_eq!(write(4, 1000), Some(340));
    assert_eq!(write(344, 9), None);
    for n in 0..344 {
        assert_eq!(memory.read(array.offset(n.into()).unwrap()), Ok([n; 3]));
    }
    drop(memory);
    no_references_left(&frames);
}

#[test]
fn a_pinned_value_outlives_its_mapping() {
    let frames = frames();
    let stage1 = guest(&frames);
    let (mfn, _) = stage1.map[&1];
    let memory = GuestMemory::new(&frames, &stage1, GUEST);
    let pinned = memory.pin(GuestPtr::<u32>::new(0x1010)).unwrap();
    drop(memory);
    assert!(frames.release(mfn, GUEST), "the guest gives the page back");
    pinned.write(&5);
    assert_eq!(pinned.read(), 5);
    let free = frames.free_pages();
    drop(pinned);
    assert_eq!(frames.free_pages(), free + 1);
    assert_eq!(frames.machine().load_u32(MachineAddr(mfn.address().0 + 0x10)), 0, "scrubbed");
}

proptest! {
    /// Reads and writes of any length anywhere agree with plain bytes, and hold nothing afterwards.
    #[test]
    fn agrees_with_an_array(accesses in prop::collection::vec((0u64..0x5000, 0usize..9000, any::<bool>(), any::<u8>()), 1..30)) {
        let frames = frames();
        let stage1 = guest(&frames);
        let mut model = vec![0u8; 0x10000];
        for (va, len, write, fill) in accesses {
            let memory = GuestMemory::new(&frames, &stage1, GUEST);
            let (start, end) = (va as usize, va as usize + len);
            let readable = len == 0 || (va >= 0x1000 && end <= 0x4000);
            let writable = len == 0 || (va >= 0x1000 && end <= 0x3000);
            if write {
                let result = memory.write_bytes(GuestVa(va), &vec![fill; len]);
                prop_assert_eq!(result.is_ok(), writable);
                if writable {
                    model[start..end].fill(fill);
                } else if len > 0x1000 {
                    // May have been written in part: take what is there.
                    memory.read_bytes(GuestVa(0x1000), &mut model[0x1000..0x4000]).unwrap();
                }
            } else {
                let mut bytes = vec![0; len];
                prop_assert_eq!(memory.read_bytes(GuestVa(va), &mut bytes).is_ok(), readable);
                if readable { prop_assert_eq!(&bytes[..], &model[start..end]); }
            }
            let mut all = vec![0; 0x3000];
            memory.read_bytes(GuestVa(0x1000), &mut all).unwrap();
            prop_assert_eq!(&all[..], &model[0x1000..0x4000]);
            drop(memory);
            no_references_left(&frames);
        }
    }
}
