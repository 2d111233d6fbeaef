//! Firmware and boot loaders of Debian, and disks for them to start a hypervisor from.

use crate::apt::{self, Apt};
use crate::{doctor, host};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

const SUITE: &str = "trixie";
/// UEFI, GRUB for Arm64, U-Boot for QEMU's `virt`.
const PACKAGES: [&str; 4] = ["qemu-efi-aarch64", "grub-efi-arm64-bin", "grub-efi-arm64-unsigned", "u-boot-qemu"];

/// What the hypervisor is told, whoever starts it.
const XEN_OPTIONS: &str = "dom0_mem=1G console=dtuart dtuart=/pl011@9000000";
const DOM0_OPTIONS: &str = "console=hvc0 rdinit=/init loglevel=4";

/// The files of a boot; all on one FAT disk.
pub struct Files<'a> {
    /// The hypervisor's image.
    pub hypervisor: &'a Path,
    /// Dom0's kernel.
    pub kernel: &'a Path,
    /// Dom0's root.
    pub initrd: &'a Path,
}

/// A machine that starts by firmware.
#[derive(Clone, Debug)]
pub struct Firmware {
    /// What QEMU puts into its flash.
    pub bios: PathBuf,
    /// The folder that is its disk.
    pub disk: PathBuf,
}

/// Firmware packages, unpacked.
fn packages() -> Result<PathBuf> {
    doctor::need(&[doctor::APT, doctor::DPKG, doctor::KEYRING])?;
    host::cached(&format!("firmware-{}", host::stamp(PACKAGES)), |dir| {
        let apt = Apt::open("firmware", "arm64", &[SUITE])?;
        let debs = apt.download(&PACKAGES.map(String::from))?;
        apt::unpack(&debs, dir)
    })
}

/// UEFI starts the hypervisor itself, which reads `xen.cfg`.
pub fn uefi(files: &Files<'_>, disk: &Path) -> Result<Firmware> {
    let config =
        format!("[global]\ndefault=debian\n\n[debian]\noptions={XEN_OPTIONS}\nkernel=vmlinuz {DOM0_OPTIONS}\nramdisk=initrd.img\n");
    fill(files, disk)?;
    fs::write(disk.join("xen.cfg"), config)?;
    start_at_boot(files.hypervisor, disk)?;
    Ok(Firmware { bios: packages()?.join("usr/share/AAVMF/AAVMF_CODE.no-secboot.fd"), disk: disk.into() })
}

/// UEFI starts Debian's GRUB, which loads the hypervisor and its modules as `20_linux_xen` of Debian has it.
pub fn grub(files: &Files<'_>, disk: &Path) -> Result<Firmware> {
    let packages = packages()?;
    let modules = packages.join("usr/lib/grub/arm64-efi");
    fill(files, disk)?;
    start_at_boot(&modules.join("monolithic/grubaa64.efi"), disk)?;
    let home = disk.join("EFI/debian");
    fs::create_dir_all(home.join("arm64-efi"))?;
    for module in
        fs::read_dir(&modules)?.flatten().filter(|file| file.path().extension().is_some_and(|kind| kind == "mod" || kind == "lst"))
    {
        fs::copy(module.path(), home.join("arm64-efi").join(module.file_name()))?;
    }
    let config = format!(
        "set timeout=0\nmenuentry 'Debian GNU/Linux, with Xen hypervisor' {{\n  insmod xen_boot\n  search --no-floppy --file --set=root /xen\n  \
         xen_hypervisor /xen placeholder {XEN_OPTIONS}\n  xen_module /vmlinuz placeholder {DOM0_OPTIONS}\n  xen_module --nounzip /initrd.img\n}}\n"
    );
    fs::write(home.join("grub.cfg"), config)?;
    Ok(Firmware { bios: packages.join("usr/share/AAVMF/AAVMF_CODE.no-secboot.fd"), disk: disk.into() })
}

/// U-Boot runs a script as ImageBuilder writes it: all loaded to fixed places, told of in /chosen, `booti`.
pub fn u_boot(files: &Files<'_>, disk: &Path) -> Result<Firmware> {
    fill(files, disk)?;
    let size = |file: &Path| -> Result<u64> { Ok(file.metadata()?.len()) };
    let (kernel, initrd) = (size(files.kernel)?, size(files.initrd)?);
    let module = |node: &str, kind: &str, at: u64, size: u64| {
        format!(
            "fdt mknod /chosen {node}\nfdt set /chosen/{node} compatible \"{kind}\" \"xen,multiboot-module\" \"multiboot,module\"\n\
             fdt set /chosen/{node} reg <0x0 {at:#x} 0x0 {size:#x}>\n"
        )
    };
    let script = format!(
        "load virtio 0 0x48000000 xen\nload virtio 0 0x50000000 vmlinuz\nload virtio 0 0x58000000 initrd.img\n\
         fdt addr ${{fdtcontroladdr}}\nfdt move ${{fdtcontroladdr}} 0x47000000 0x200000\nfdt addr 0x47000000\nfdt resize 4096\n\
         fdt set /chosen \\#address-cells <0x2>\nfdt set /chosen \\#size-cells <0x2>\n\
         fdt set /chosen xen,xen-bootargs \"{XEN_OPTIONS}\"\nfdt set /chosen xen,dom0-bootargs \"{DOM0_OPTIONS}\"\n{}{}\
         setenv fdt_high 0xffffffffffffffff\nbooti 0x48000000 - 0x47000000\n",
        module("dom0", "xen,linux-zimage", 0x5000_0000, kernel),
        module("dom0-ramdisk", "xen,linux-initrd", 0x5800_0000, initrd),
    );
    fs::write(disk.join("boot.scr"), script_image(script.as_bytes())?)?;
    Ok(Firmware { bios: packages()?.join("usr/lib/u-boot/qemu_arm64/u-boot.bin"), disk: disk.into() })
}

fn fill(files: &Files<'_>, disk: &Path) -> Result<()> {
    if disk.exists() {
        fs::remove_dir_all(disk)?;
    }
    fs::create_dir_all(disk)?;
    for (file, name) in [(files.hypervisor, "xen"), (files.kernel, "vmlinuz"), (files.initrd, "initrd.img")] {
        fs::copy(file, disk.join(name)).with_context(|| format!("cannot copy {}", file.display()))?;
    }
    Ok(())
}

/// What UEFI starts from a removable disk.
fn start_at_boot(program: &Path, disk: &Path) -> Result<()> {
    fs::create_dir_all(disk.join("EFI/BOOT"))?;
    fs::copy(program, disk.join("EFI/BOOT/BOOTAA64.EFI")).with_context(|| format!("cannot copy {}", program.display()))?;
    Ok(())
}

/// A script in U-Boot's legacy image format (U-Boot include/image.h): what `mkimage -T script` makes.
fn script_image(script: &[u8]) -> Result<Vec<u8>> {
    let mut data = Vec::from(u32::try_from(script.len())?.to_be_bytes());
    data.extend([0; 4]);
    data.extend(script);
    let mut header = [0; 64];
    header[..4].copy_from_slice(&0x2705_1956_u32.to_be_bytes());
    header[12..16].copy_from_slice(&u32::try_from(data.len())?.to_be_bytes());
    header[24..28].copy_from_slice(&crc32(&data).to_be_bytes());
    // Linux, Arm64, script, not compressed.
    header[28..32].copy_from_slice(&[5, 22, 6, 0]);
    header[32..36].copy_from_slice(b"boot");
    let crc = crc32(&header);
    header[4..8].copy_from_slice(&crc.to_be_bytes());
    Ok([header.as_slice(), &data].concat())
}

/// CRC-32 of ISO 3309.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_script_has_its_header() {
        let image = script_image(b"booti").unwrap();
        assert_eq!((image.len(), &image[64..72], &image[72..]), (64 + 8 + 5, &[0, 0, 0, 5, 0, 0, 0, 0][..], &b"booti"[..]));
    }
}
