//! A page's state word under every order of memory: who drops the last reference, and what has become of the page by then.

use super::account::Account;
use super::frame::{FrameMap, State};
use super::{Frame, FrameKind};
use crate::addr::{Mfn, Vmid};
use core::sync::atomic::Ordering;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::{model, thread};
use std::boxed::Box;
use std::vec;

const OWNER: Vmid = Vmid(1);

/// A page of RAM, given up and freed as [`super::FrameTable`] does it.
pub(crate) struct Page {
    frame: Frame,
    /// What is in it: 0 as long as it is free.
    pub content: AtomicU64,
}

impl Page {
    /// Allocated.
    pub fn new() -> Self {
        let page = Self { frame: Frame::default(), content: AtomicU64::new(0) };
        page.allocate();
        page
    }

    pub fn allocate(&self) {
        self.frame.reset(State::live(OWNER, FrameKind::Ram));
    }

    pub fn get(&self) -> bool {
        self.frame.update(|s| if s.is_ram_of(OWNER) { s.one_more() } else { None }).is_some()
    }

    /// Whether that freed it.
    pub fn put(&self) -> bool {
        let before = self.frame.drop_reference();
        assert!(before.references() > 0, "a reference too many was dropped");
        let last = before.references() == 1;
        if last {
            assert!(!before.is_allocated());
            self.content.store(0, Ordering::Relaxed);
            self.frame.reset(State::FREE);
        }
        last
    }

    /// Whether that freed it.
    pub fn release(&self) -> bool {
        assert!(self.frame.update(|s| s.owns_allocation(OWNER).then(|| s.released())).is_some());
        self.put()
    }
}

#[test]
fn a_page_is_freed_once_and_scrubbed_after_its_last_use() {
    model(|| {
        let page = Arc::new(Page::new());
        let other = page.clone();
        let user = thread::spawn(move || {
            let got = other.get();
            if got {
                other.content.store(1, Ordering::Relaxed);
            }
            u32::from(got && other.put())
        });
        let freed = u32::from(page.release()) + user.join().unwrap();
        assert_eq!((freed, page.content.load(Ordering::Relaxed)), (1, 0));
        assert!(!page.get(), "a free page");
    });
}

#[test]
fn an_orphan_that_is_released_leaves_the_list() {
    model(|| {
        let frames: &'static [Frame] = Box::leak(vec![Frame::default(), Frame::default()].into_boxed_slice());
        let books = Arc::new((FrameMap::new(&[Mfn(8)..Mfn(10)], frames), Account::default()));
        frames.iter().for_each(|frame| frame.reset(State::live(OWNER, FrameKind::Ram)));
        books.1.link_orphan(&books.0, Mfn(9), OWNER);
        let other = books.clone();
        let linking = thread::spawn(move || other.1.link_orphan(&other.0, Mfn(8), OWNER));
        let before = frames[0].update(|s| s.owns_allocation(OWNER).then(|| s.released())).unwrap();
        if before.is_orphan() {
            books.1.unlink_orphan(&books.0, Mfn(8));
        }
        assert_eq!(frames[0].drop_reference().references(), 1);
        frames[0].reset(State::FREE);
        linking.join().unwrap();
        assert_eq!(books.1.pop_orphan(&books.0), Some(Mfn(9)));
        assert_eq!(books.1.pop_orphan(&books.0), None);
    });
}
