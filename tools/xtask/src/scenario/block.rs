//! A block device: there at boot, attached later, written, read back, detached.

use super::{BOOT, Scenario, guest};
use crate::console::Machine;
use crate::xl;
use anyhow::{Result, ensure};

pub const ALL: &[Scenario] = &[Scenario::new("block", block)];

fn block(machine: &mut Machine) -> Result<String> {
    machine.wait_for_dom0(BOOT)?;
    machine.sh("dd if=/dev/urandom of=/tmp/a bs=1M count=8 2>/dev/null; dd if=/dev/zero of=/tmp/b bs=1M count=16 2>/dev/null", 60)?;
    xl::create(machine, "domu1", 2, "\"disk=['format=raw,vdev=xvda,access=ro,target=/tmp/a']\"")?;
    xl::up(machine, "domu1")?;
    let sum = |machine: &mut Machine, file: &str| -> Result<String> { Ok(machine.sh(&format!("md5sum <{file}"), 60)?.trim().into()) };
    ensure!(guest(machine, "md5sum </dev/xvda")? == sum(machine, "/tmp/a")?, "the DomU reads other bytes from xvda than are there");

    machine.sh("xl block-attach domu1 format=raw,vdev=xvdb,access=rw,target=/tmp/b", 60)?;
    guest(machine, "until [ -b /dev/xvdb ]; do sleep 1; done")?;
    let listed = machine.sh("xl block-list domu1", 30)?.lines().count();
    ensure!(listed == 3, "xl block-list gives {listed} lines, not a heading and two devices");
    let written = guest(
        machine,
        "dd if=/dev/urandom of=/dev/xvdb bs=1M count=16 2>/dev/null; sync; echo 3 >/proc/sys/vm/drop_caches; md5sum </dev/xvdb",
    )?;
    machine.sh("xl block-detach domu1 xvdb", 60)?;
    guest(machine, "while [ -b /dev/xvdb ]; do sleep 1; done")?;
    ensure!(sum(machine, "/tmp/b")? == written, "what the DomU wrote is not what is in the file");
    machine.sh("xl destroy domu1 && gone domu1", 60)?;
    machine.sh("i=0; while losetup -a | grep -q /tmp/; do sleep 1; i=$((i+1)); [ $i -lt 20 ]; done", 60)?;
    Ok("16 MiB written, read back, detached".into())
}
