//! `cargo xtask guests`: Debian's arm64 kernel, its Xen 4.20 (the peer), and the roots of Dom0 and DomU, from Debian packages only.
//!
//! Packages are unpacked, never configured: no arm64 code runs on the host.

use crate::apt::{self, Apt};
use crate::initrd::Root;
use crate::{doctor, host};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The Debian release that has Xen 4.20.
const SUITE: &str = "trixie";
/// One that has another kernel.
const SECOND_SUITE: &str = "bookworm-backports";
const USERLAND: &str = "xen-utils-4.20 xen-utils-common xenstore-utils xen-hypervisor-4.20-arm64 busybox-static util-linux coreutils bash \
    iproute2 ethtool iperf3 netperf cyclonedds-tools";

const APPLETS: &str = "[ arping ash awk basename blockdev brctl cat chmod cmp cp cttyhack cut date dd dirname dmesg env expr false find free \
    getopt grep head hexdump hostname id ifconfig insmod kill killall ln logger losetup ls lsmod md5sum mkdir mkfs.ext2 mknod mktemp mount mv \
    nc pgrep pidof ping poweroff printf ps readlink realpath reboot rm rmmod route sed seq setsid sh sleep sort stty sync tail tee test time \
    timeout top touch tr true tty umount uname uniq usleep wc which xargs";
const MEASURING: &[&str] =
    &["usr/bin/iperf3", "usr/bin/netperf", "usr/bin/netserver", "usr/bin/ddsperf", "usr/sbin/ethtool", "usr/bin/chrt"];

const DOM0_MODULES: &str = "xen-evtchn xen-gntdev xen-gntalloc xen-privcmd xenfs llc stp bridge xen-netback xen-blkback loop tun failover net_failover virtio_net \
    virtio_mmio pktgen tap vhost_iotlb vhost vhost_net nvme-keyring nvme-auth nvme-core nvme";
const DOMU_MODULES: &str =
    "xen-netfront xen-blkfront xen-evtchn xen-gntdev xen-gntalloc xen-privcmd xenfs pktgen failover net_failover virtio_net";

const DOM0_INIT: &str = include_str!("../../../tests/system/dom0/init");
const DOM0_LIB: &str = include_str!("../../../tests/system/dom0/lib.sh");
const DOM0_MEASURE: &str = include_str!("../../../tests/system/dom0/measure");
const DOMU_INIT: &str = include_str!("../../../tests/system/domu/init");
const DOMU_CFG: &str = include_str!("../../../tests/system/domu/domu.cfg");

/// The folder with all that a machine boots beside the hypervisor.
pub struct Guests {
    dir: PathBuf,
    /// The Debian release of the kernel.
    kernel_suite: &'static str,
}

impl Guests {
    /// Debian's Xen 4.20 for Arm64.
    pub fn xen(&self) -> PathBuf {
        self.dir.join("xen")
    }

    /// Debian's arm64 kernel, for Dom0 and DomU alike.
    pub fn kernel(&self) -> PathBuf {
        self.dir.join("Image")
    }

    /// Dom0's root.
    pub fn initrd(&self) -> PathBuf {
        self.dir.join("dom0.cpio")
    }

    /// A DomU's root, which Dom0's root also holds.
    pub fn domu(&self) -> PathBuf {
        self.dir.join("domu.cpio")
    }

    /// Dom0's root with more files, written to `to`: Linux unpacks one archive behind the other.
    pub fn initrd_with(&self, more: &Root, to: &Path) -> Result<()> {
        let mut archive = fs::read(self.initrd())?;
        archive.extend(more.pack()?);
        // Under its name in one step: another xtask may be about to boot it.
        let partial = to.with_extension(format!("{}.partial", std::process::id()));
        fs::write(&partial, archive)?;
        fs::rename(&partial, to)?;
        Ok(())
    }

    /// Debian releases with the kernel's headers and the tools to build modules with.
    pub fn suites(&self) -> [&'static str; 2] {
        [self.kernel_suite, SUITE]
    }

    /// The release of the kernel: that of its image's package.
    pub fn kernel_release(&self) -> Result<String> {
        let versions = self.versions()?;
        let image = versions.lines().find_map(|file| file.strip_prefix("linux-image-")?.split_once('_'));
        Ok(image.context("the guests' list of packages names no kernel")?.0.into())
    }

    /// The versions of what was built.
    pub fn versions(&self) -> Result<String> {
        Ok(fs::read_to_string(self.dir.join("versions"))?)
    }
}

/// The guests from the cache, built there first if they are not, or if the recipe has changed.
pub fn guests() -> Result<Guests> {
    with_kernel_of(SUITE)
}

/// The same with another kernel of Debian's in both domains.
pub fn with_second_kernel() -> Result<Guests> {
    with_kernel_of(SECOND_SUITE)
}

fn with_kernel_of(suite: &'static str) -> Result<Guests> {
    let recipe = [include_str!("guests.rs"), include_str!("initrd.rs"), DOM0_INIT, DOM0_LIB, DOM0_MEASURE, DOMU_INIT, DOMU_CFG, suite];
    let dir = host::cached(&format!("guests-{}", host::stamp(recipe)), |dir| build(dir, suite).context("cannot make the Debian guests"))?;
    Ok(Guests { dir, kernel_suite: suite })
}

fn build(dir: &Path, kernel_suite: &str) -> Result<()> {
    doctor::need(&[doctor::APT, doctor::DPKG, doctor::KEYRING, doctor::XZ])?;
    eprintln!("guests: reading Debian's package lists for arm64 ({SUITE})");
    let apt = Apt::open("guests", "arm64", &[SUITE])?;

    let kernels = Apt::open(&format!("kernel-{kernel_suite}"), "arm64", &[kernel_suite])?;
    let kernel = kernel_packages(&kernels)?;
    eprintln!("guests: fetching the kernel, {}", kernel.join(" "));
    let kernel = kernels.download(&kernel)?;
    eprintln!("guests: fetching Xen 4.20, its tools and what measures the network");
    let packages: Vec<_> = USERLAND.split_whitespace().map(String::from).collect();
    let userland = apt.download_closure(&packages)?;

    eprintln!("guests: unpacking {} packages", kernel.len() + userland.len());
    let (modules, root) = (dir.join("kernel"), dir.join("userland"));
    apt::unpack(&kernel, &modules)?;
    apt::unpack(&userland, &root)?;
    let image = find(&modules.join("boot"), &|name| name.starts_with("vmlinuz")).context("the kernel package holds no vmlinuz")?;
    fs::copy(image, dir.join("Image"))?;
    fs::copy(root.join("boot/xen-4.20-arm64"), dir.join("xen")).context("xen-hypervisor-4.20-arm64 holds no xen")?;

    eprintln!("guests: packing the roots of Dom0 and DomU");
    let domu = domu(&root, &modules)?.pack()?;
    fs::write(dir.join("domu.cpio"), &domu)?;
    let dom0 = dom0(&root, &modules, fs::read(dir.join("Image"))?, domu)?.pack()?;
    fs::write(dir.join("dom0.cpio"), dom0)?;
    let versions = kernel.iter().chain(&userland).filter_map(|deb| Some(format!("{}\n", deb.file_name()?.display())));
    fs::write(dir.join("versions"), versions.collect::<String>())?;
    fs::remove_dir_all(modules)?;
    fs::remove_dir_all(root)?;
    Ok(())
}

/// The packages with the image and the modules of the newest kernel: `linux-image-arm64` leads to the first, and newer kernels keep
/// theirs in packages of their own.
fn kernel_packages(apt: &Apt) -> Result<Vec<String>> {
    let kernel = |name: &String| name.starts_with("linux-image-") && name.as_bytes().get(12).is_some_and(u8::is_ascii_digit);
    let image = apt.depends("linux-image-arm64")?.into_iter().find(kernel).context("linux-image-arm64 names no kernel")?;
    let parts = apt.depends(&image)?;
    let parts = parts.into_iter().filter(|name| ["linux-binary-", "linux-modules-"].iter().any(|part| name.starts_with(part)));
    Ok(std::iter::once(image).chain(parts).collect())
}

/// Dom0: Debian's Xen tools, the bridge, and the DomU's files under /guest.
fn dom0(from: &Path, modules: &Path, kernel: Vec<u8>, domu: Vec<u8>) -> Result<Root> {
    let mut root = base(from)?;
    for path in ["etc/xen", "usr/lib/xen-4.20", "usr/lib/xen-common"] {
        root.tree(from, path)?;
    }
    for dir in ["usr/bin", "usr/sbin"] {
        for entry in fs::read_dir(from.join(dir))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with("xen") || name == "xl" {
                root.tree(from, &format!("{dir}/{name}"))?;
            }
        }
    }
    for program in ["usr/bin/bash", "usr/bin/flock", "usr/bin/stat", "usr/bin/ip"] {
        root.program(from, program)?;
    }
    root.link("bin/bash", "../usr/bin/bash");
    add_modules(&mut root, modules, DOM0_MODULES)?;
    root.file("guest/Image", kernel, 0o644);
    root.file("guest/domu.cpio", domu, 0o644);
    root.file("guest/domu.cfg", DOMU_CFG, 0o644);
    root.file("lib.sh", DOM0_LIB, 0o644);
    root.file("measure", DOM0_MEASURE, 0o755);
    root.file("init", DOM0_INIT, 0o755);
    Ok(root)
}

/// DomU: the front ends and a command server.
fn domu(from: &Path, modules: &Path) -> Result<Root> {
    let mut root = base(from)?;
    add_modules(&mut root, modules, DOMU_MODULES)?;
    root.file("init", DOMU_INIT, 0o755);
    // What the kernel runs when xl asks the domain to end: there is no init to tell.
    for end in ["poweroff", "reboot"] {
        root.file(&format!("sbin/{end}"), format!("#!/bin/sh\nexec /bin/{end} -f\n"), 0o755);
    }
    Ok(root)
}

/// What both have: busybox and the tools that measure the network.
fn base(from: &Path) -> Result<Root> {
    let mut root = Root::default();
    for dir in "bin sbin proc sys dev tmp run mnt root etc var/lock var/log/xen/console var/lib/xen var/lib/xenstored".split(' ') {
        root.dir(dir);
    }
    root.program(from, "usr/bin/busybox")?;
    for applet in APPLETS.split_whitespace() {
        root.link(&format!("bin/{applet}"), "/usr/bin/busybox");
    }
    for program in MEASURING {
        root.program(from, program)?;
    }
    root.program(from, "usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1")?;
    root.link("lib/ld-linux-aarch64.so.1", "/usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1");
    Ok(root)
}

/// Adds kernel modules by name, uncompressed; one that is built into the kernel has no file.
fn add_modules(root: &mut Root, from: &Path, names: &str) -> Result<()> {
    for name in names.split_whitespace() {
        let file = find(from, &|file| file == format!("{name}.ko") || file == format!("{name}.ko.xz"));
        let Some(file) = file else { continue };
        let content = if file.extension().is_some_and(|end| end == "xz") {
            let output = Command::new("xz").arg("-dc").arg(&file).output().context("cannot run xz")?;
            anyhow::ensure!(output.status.success(), "xz cannot unpack {}", file.display());
            output.stdout
        } else {
            fs::read(&file)?
        };
        root.file(&format!("lib/modules/{name}.ko"), content, 0o644);
    }
    Ok(())
}

/// The first file below `dir` whose name is `wanted`.
fn find(dir: &Path, wanted: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries
        .into_iter()
        .filter(|path| !path.is_symlink())
        .find_map(|path| if path.is_dir() { find(&path, wanted) } else { wanted(&path.file_name()?.to_string_lossy()).then_some(path) })
}
