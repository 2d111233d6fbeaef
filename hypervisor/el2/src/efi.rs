//! The EFI stub: entered by UEFI firmware (or GRUB) as an application, it leaves boot services and goes on at `head` as any boot loader would.
//!
//! All that needs the firmware is done here: the device tree is looked up, the command line and the memory map are noted in the
//! [`Handoff`], files named in `xen.cfg` are loaded. Source: UEFI specification 2.10, sections 4, 7 and 13.5; Xen's docs/misc/efi.pandoc.
//!
//! This runs where the firmware put the image, not where it is linked: code and constants are reached relative to the program counter,
//! but nothing here may use a constant that holds an address (a table of strings, a vtable), nor panic with a message.

use core::arch::global_asm;
use core::ffi::c_void;
use core::ptr::null_mut;

use uefi_raw::protocol::file_system::{FileAttribute, FileMode, FileProtocolV1, SimpleFileSystemProtocol};
use uefi_raw::protocol::loaded_image::LoadedImageProtocol;
use uefi_raw::table::boot::{AllocateType, BootServices, MemoryType};
use uefi_raw::table::system::SystemTable;
use uefi_raw::{Guid, Handle, Status, guid};
use xenolith_core::addr::PAGE_SIZE;
use xenolith_core::boot::efi::{first_word, value};

/// Bytes of a command line at most.
const LINE: usize = 1024;
/// Bytes of the memory map at most.
const MAP: usize = 48 << 10;
/// The device tree among the firmware's tables (Embedded Base Boot Requirements, 2.2).
const DEVICE_TREE: Guid = guid!("b1b621d5-f19c-41a5-830b-d9152c69aae0");

/// A text of bounded length.
#[repr(C)]
pub struct Line {
    len: usize,
    bytes: [u8; LINE],
}

impl Line {
    /// What it says; what is not ASCII ends it.
    pub fn text(&self) -> &str {
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        let ascii = bytes.iter().position(|byte| !byte.is_ascii()).unwrap_or(bytes.len());
        str::from_utf8(&bytes[..ascii]).unwrap_or_default()
    }

    fn set(&mut self, text: &[u8]) {
        self.len = 0;
        for (to, from) in self.bytes.iter_mut().zip(text) {
            *to = *from;
            self.len += 1;
        }
    }
}

/// A file in memory; of size 0 if there is none.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct File {
    /// Its machine address, page aligned.
    pub start: u64,
    /// Bytes.
    pub size: u64,
}

/// What the stub leaves for the hypervisor: in the image, behind what `head` clears.
#[repr(C)]
pub struct Handoff {
    /// The hypervisor's command line.
    pub options: Line,
    /// The kernel's, if [`Self::kernel`] is there.
    pub kernel_options: Line,
    /// The kernel that `xen.cfg` names.
    pub kernel: File,
    /// The ramdisk that it names.
    pub ramdisk: File,
    map_len: usize,
    /// Bytes of a descriptor of the map.
    pub descriptor_size: usize,
    map: [u64; MAP / 8],
}

impl Handoff {
    /// The memory map.
    pub fn map(&self) -> &[u8] {
        // SAFETY: any words are bytes.
        let bytes = unsafe { core::slice::from_raw_parts(self.map.as_ptr().cast::<u8>(), MAP) };
        bytes.get(..self.map_len).unwrap_or_default()
    }
}

unsafe extern "C" {
    static mut efi_handoff: Handoff;
    static __image_start: u8;
    static __image_end: u8;
    fn efi_leave(device_tree: *const u8, image_start: *const u8, image_end: *const u8) -> !;
}

/// The handoff, if there is one: `present` is what `head` passes on.
pub fn handoff(present: u64) -> Option<&'static Handoff> {
    let handoff = &raw const efi_handoff;
    // SAFETY: `head` says that the stub was here, which filled it; nobody writes to it any more.
    (present != 0).then(|| unsafe { &*handoff })
}

/// A NUL-terminated UTF-16 text.
const fn wide<const N: usize>(text: &str) -> [u16; N] {
    let (mut wide, mut at) = ([0; N], 0);
    while at < text.len() {
        wide[at] = text.as_bytes()[at] as u16;
        at += 1;
    }
    wide
}

static NO_TREE: [u16; 64] = wide("Xenolith: no device tree. Start the firmware without ACPI.\r\n");
static NOT_EL2: [u16; 64] = wide("Xenolith: the firmware does not run at EL2.\r\n");
static NO_FILE: [u16; 64] = wide("Xenolith: a file that xen.cfg names cannot be read.\r\n");
static NO_LEAVE: [u16; 64] = wide("Xenolith: the firmware does not let go.\r\n");
static CONFIG: [u16; 16] = wide("xen.cfg");

/// The firmware's services.
struct Firmware {
    table: *const SystemTable,
    services: *const BootServices,
    image: Handle,
}

/// Where the firmware enters; it returns only if it cannot go on.
///
/// # Safety
/// The firmware's arguments of an application's entry point (UEFI 2.10, 4.1).
#[unsafe(no_mangle)]
unsafe extern "efiapi" fn efi_entry(image: Handle, table: *const SystemTable) -> Status {
    // SAFETY: by the caller's contract the table is there, and its services until they are left.
    let firmware = unsafe { Firmware { table, services: (*table).boot_services, image } };
    let handoff = &raw mut efi_handoff;
    // SAFETY: the image's own memory; nothing else runs.
    let handoff = unsafe { &mut *handoff };
    match firmware.prepare(handoff) {
        Ok(tree) => {
            let (start, end) = (&raw const __image_start, &raw const __image_end);
            // SAFETY: boot services are left, the image is as loaded, and the device tree is the firmware's.
            unsafe { efi_leave(tree, start, end) }
        }
        Err(message) => {
            firmware.print(message);
            Status::UNSUPPORTED
        }
    }
}

impl Firmware {
    fn prepare(&self, handoff: &mut Handoff) -> Result<*const u8, &'static [u16; 64]> {
        if crate::sysreg::read!("CurrentEL") >> 2 & 3 != 2 {
            return Err(&NOT_EL2);
        }
        let tree = self.device_tree().ok_or(&NO_TREE)?;
        handoff.kernel = File { start: 0, size: 0 };
        handoff.ramdisk = File { start: 0, size: 0 };
        handoff.kernel_options.len = 0;
        self.load_options(handoff);
        if !has_modules(tree) && !self.configure(handoff) {
            return Err(&NO_FILE);
        }
        if self.leave(handoff) { Ok(tree) } else { Err(&NO_LEAVE) }
    }

    fn print(&self, message: &[u16; 64]) {
        // SAFETY: the firmware's console and a text that ends with 0; boot services have not been left.
        unsafe {
            let out = (*self.table).stdout;
            let _ = ((*out).output_string)(out, message.as_ptr());
        }
    }

    fn device_tree(&self) -> Option<*const u8> {
        // SAFETY: the firmware's own count and table.
        unsafe {
            let table = &*self.table;
            (0..table.number_of_configuration_table_entries)
                .map(|n| &*table.configuration_table.add(n))
                .find(|entry| entry.vendor_guid == DEVICE_TREE)
                .map(|entry| entry.vendor_table.cast_const().cast())
        }
    }

    fn loaded_image(&self) -> Option<&LoadedImageProtocol> {
        self.protocol(self.image, &LoadedImageProtocol::GUID).map(|found: *mut LoadedImageProtocol| {
            // SAFETY: the firmware's description of this image lives as long as the image.
            unsafe { &*found }
        })
    }

    fn protocol<T>(&self, handle: Handle, guid: &Guid) -> Option<*mut T> {
        let mut found = null_mut();
        // SAFETY: a service of the firmware, given a handle of its own and a place for the answer.
        let status = unsafe { ((*self.services).handle_protocol)(handle, guid, &mut found) };
        (status == Status::SUCCESS && !found.is_null()).then_some(found.cast())
    }

    /// The command line that the loader gives; its first word is the program's name.
    fn load_options(&self, handoff: &mut Handoff) {
        let mut bytes = [0; LINE];
        let mut len = 0;
        if let Some(image) = self.loaded_image() {
            let options: *const u16 = image.load_options.cast();
            let count = if options.is_null() { 0 } else { image.load_options_size as usize / 2 };
            for (n, byte) in (0..count).zip(&mut bytes) {
                // SAFETY: within what the firmware says are the options; they need not be aligned.
                let unit = unsafe { options.add(n).read_unaligned() };
                if unit == 0 {
                    break;
                }
                *byte = u8::try_from(unit).unwrap_or(b'?');
                len = n + 1;
            }
        }
        let (_, options) = first_word(bytes.get(..len).unwrap_or_default());
        handoff.options.set(options);
    }

    /// Loads what `xen.cfg` beside the image names, if there is such a file. False if one of its files is missing.
    fn configure(&self, handoff: &mut Handoff) -> bool {
        let Some(root) = self.volume() else { return true };
        let Some(config) = self.load(root, &CONFIG) else { return true };
        // SAFETY: the file just loaded, in memory that is ours.
        let text = unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(config.start as usize), config.size as usize) };
        let section = value(text, b"global", b"default").unwrap_or(b"xen");
        if let Some(options) = value(text, section, b"options") {
            handoff.options.set(options);
        }
        let mut name = [0_u16; 256];
        if let Some(kernel) = value(text, section, b"kernel") {
            let (file, options) = first_word(kernel);
            let Some(kernel) = self.load(root, path(file, &mut name)) else { return false };
            handoff.kernel = kernel;
            handoff.kernel_options.set(options);
        }
        if let Some(ramdisk) = value(text, section, b"ramdisk") {
            let Some(ramdisk) = self.load(root, path(first_word(ramdisk).0, &mut name)) else { return false };
            handoff.ramdisk = ramdisk;
        }
        true
    }

    /// The file system that the image was loaded from.
    fn volume(&self) -> Option<*mut FileProtocolV1> {
        let image = self.loaded_image()?;
        let system: *mut SimpleFileSystemProtocol = self.protocol(image.device_handle, &SimpleFileSystemProtocol::GUID)?;
        let mut root = null_mut();
        // SAFETY: the firmware's protocol of that device, and a place for the answer.
        let status = unsafe { ((*system).open_volume)(system, &mut root) };
        (status == Status::SUCCESS).then_some(root)
    }

    fn load(&self, root: *mut FileProtocolV1, name: &[u16]) -> Option<File> {
        let mut file: *mut FileProtocolV1 = null_mut();
        // SAFETY: an open directory of the firmware's, and a name that ends with 0.
        let status = unsafe { ((*root).open)(root, &mut file, name.as_ptr(), FileMode::READ, FileAttribute::empty()) };
        if status != Status::SUCCESS {
            return None;
        }
        let mut size = 0;
        // SAFETY: an open file; the position beyond its end is its end, which is its size.
        let known = unsafe {
            ((*file).set_position)(file, u64::MAX) == Status::SUCCESS
                && ((*file).get_position)(file, &mut size) == Status::SUCCESS
                && ((*file).set_position)(file, 0) == Status::SUCCESS
        };
        let mut start = 0;
        let pages = size.div_ceil(PAGE_SIZE) as usize;
        if !known || size == 0 {
            return None;
        }
        // SAFETY: a service of the firmware, and a place for the answer.
        let status = unsafe { ((*self.services).allocate_pages)(AllocateType::ANY_PAGES, MemoryType::LOADER_DATA, pages, &mut start) };
        if status != Status::SUCCESS {
            return None;
        }
        let mut done = 0;
        while done < size {
            let mut now = (size - done) as usize;
            let to: *mut c_void = core::ptr::with_exposed_provenance_mut((start + done) as usize);
            // SAFETY: `now` bytes from `to` on are the rest of the pages just allocated.
            let status = unsafe { ((*file).read)(file, &mut now, to) };
            if status != Status::SUCCESS || now == 0 {
                return None;
            }
            done += now as u64;
        }
        Some(File { start, size })
    }

    /// Notes the memory map and leaves boot services. The map may change in between, then the firmware wants it read again.
    fn leave(&self, handoff: &mut Handoff) -> bool {
        for _ in 0..4 {
            let (mut size, mut key, mut descriptor, mut version) = (MAP, 0, 0, 0);
            // SAFETY: services of the firmware; the map has MAP bytes, and the key is that of the map just read.
            let left = unsafe {
                let services = &*self.services;
                let map = handoff.map.as_mut_ptr().cast();
                (services.get_memory_map)(&mut size, map, &mut key, &mut descriptor, &mut version) == Status::SUCCESS
                    && (services.exit_boot_services)(self.image, key) == Status::SUCCESS
            };
            if left {
                (handoff.map_len, handoff.descriptor_size) = (size, descriptor);
                return true;
            }
        }
        false
    }
}

/// A path as the firmware wants it.
fn path<'a>(name: &[u8], into: &'a mut [u16; 256]) -> &'a [u16] {
    into.fill(0);
    for (to, from) in into.iter_mut().take(255).zip(name) {
        *to = if *from == b'/' { b'\\'.into() } else { (*from).into() };
    }
    into
}

/// Whether the loader has put boot modules into the device tree.
fn has_modules(tree: *const u8) -> bool {
    const MODULE: &[u8] = b"multiboot,module";
    // SAFETY: the blob's own size is in its second word, big-endian (Devicetree specification, 5.2); the firmware vouches for it.
    let blob = unsafe { core::slice::from_raw_parts(tree, u32::from_be(tree.add(4).cast::<u32>().read()) as usize) };
    blob.windows(MODULE.len()).any(|bytes| bytes == MODULE)
}

global_asm!(
    r#"
    .section .handoff, "aw", @nobits
    .balign 4096
    .global efi_handoff
efi_handoff:
    .space {handoff}

    // x0: the device tree; x1, x2: the image. What is cached of the image goes to memory, then `head` is entered with the MMU off.
    .section .text.efi_leave, "ax"
    .global efi_leave
efi_leave:
    msr     daifset, #0xf
    mrs     x3, CTR_EL0
    ubfx    x3, x3, #16, #4
    mov     x4, #4
    lsl     x4, x4, x3
    dsb     sy
0:  dc      civac, x1
    add     x1, x1, x4
    cmp     x1, x2
    b.lo    0b
    dsb     sy
    ldr     x3, ={sctlr_off}
    msr     sctlr_el2, x3
    isb
    ic      iallu
    dsb     sy
    isb
    mov     x25, #1
    b       primary_stub
    .ltorg
"#,
    handoff = const size_of::<Handoff>(),
    sctlr_off = const crate::head::SCTLR_OFF,
);
