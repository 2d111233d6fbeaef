//! Dom0's own devices behind the machine's PCIe host bridge, by the ITS's MSIs: a network card bridged to a DomU, an NVMe disk that is the
//! DomU's.

use super::{BOOT, Scenario, Setup, guest};
use crate::console::Machine;
use crate::{host, qemu, xl};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

/// On a GICv3 alone: by the MSIs of a GICv2m both hypervisors lose packets in QEMU 7.2.
pub const ALL: &[Scenario] = &[Scenario::new("dom0-devices", devices).on(on)];

/// Who answers outside of the machine with what it was sent.
const ECHO: &str = "10.0.0.253";
const DISK_SIZE: u64 = 16 << 20;

fn on(setup: &mut Setup) -> Result<()> {
    setup.options.gic = 3;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    fs::write(file("port"), port.to_string())?;
    let disk = file("nvme");
    fs::File::create(&disk)?.set_len(DISK_SIZE)?;
    let net = format!(
        "user,id=outside,net=10.0.0.0/24,host=10.0.0.254,guestfwd=tcp:{ECHO}:7-cmd:head -n1,hostfwd=tcp:127.0.0.1:{port}-10.0.0.2:9999"
    );
    let disk = format!("if=none,id=disk,format=raw,file={}", qemu::escape(&disk.to_string_lossy()));
    let devices =
        ["-netdev", &net, "-device", "virtio-net-pci,netdev=outside,romfile=", "-drive", &disk, "-device", "nvme,drive=disk,serial=1"];
    setup.options.qemu.extend(devices.map(String::from));
    Ok(())
}

/// A file of the scenario.
fn file(what: &str) -> PathBuf {
    host::target_dir().join(format!("xenolith/test/dom0-devices-{what}"))
}

fn devices(machine: &mut Machine) -> Result<String> {
    machine.wait_for_dom0(BOOT)?;
    machine.sh("ifconfig eth0 up && brctl addif xenbr0 eth0", 30)?;
    machine.sh("i=0; until [ -b /dev/nvme0n1 ] || [ $i = 60 ]; do sleep 0.5; i=$((i+1)); done; [ -b /dev/nvme0n1 ]", 60)?;
    xl::create(machine, "domu1", 2, "\"disk=['/dev/nvme0n1,raw,xvda,rw']\"")?;
    xl::up(machine, "domu1")?;

    let echoed = guest(machine, &format!("echo to-the-outside | nc -w 20 {ECHO} 7"))?;
    ensure!(echoed == "to-the-outside", "the DomU does not reach the outside: {echoed:?}");
    let port: u16 = fs::read_to_string(file("port"))?.parse()?;
    ensure!(ask(port)?.trim() == "42", "the outside does not reach the DomU");

    guest(machine, "echo from-the-domu | dd of=/dev/xvda bs=512 conv=sync,fsync 2>/dev/null; blockdev --flushbufs /dev/xvda")?;
    let mut start = [0; 13];
    fs::File::open(file("nvme"))?.read_exact(&mut start)?;
    ensure!(&start == b"from-the-domu", "what the DomU wrote did not reach the disk");

    let lines = machine.sh("grep -E 'virtio0|nvme0' /proc/interrupts", 30)?;
    let of = |device: &str| messages(&lines, device);
    let (net, disk) = (of("virtio0-input"), of("nvme0q"));
    ensure!(net > 0 && disk > 0, "no messages of both devices:\n{lines}");
    follows_affinity(machine, port)?;
    Ok(format!("a DomU reaches the outside and is reached, and writes to an NVMe disk; {net} and {disk} interrupts by the ITS"))
}

/// Sends the network card's messages to each of Dom0's vCPUs in turn.
fn follows_affinity(machine: &mut Machine, port: u16) -> Result<()> {
    for vcpu in [1, 0, 1] {
        let line = "n=$(sed -n 's/^ *\\([0-9]*\\):.*virtio0-input.*/\\1/p' /proc/interrupts)";
        machine.sh(&format!("{line}; echo {vcpu} > /proc/irq/$n/smp_affinity_list"), 30)?;
        let count = format!("awk '/virtio0-input/ {{ print ${} }}' /proc/interrupts", vcpu + 2);
        let before: u64 = machine.sh(&count, 30)?.trim().parse()?;
        ensure!(ask(port)?.trim() == "42", "with messages to vCPU {vcpu}, the outside does not reach the DomU");
        let after: u64 = machine.sh(&count, 30)?.trim().parse()?;
        ensure!(after > before, "no message came to vCPU {vcpu}: {before}, then {after}");
    }
    Ok(())
}

/// How many messages of a device Linux has counted.
fn messages(lines: &str, device: &str) -> u64 {
    let its = lines.lines().filter(|line| line.contains(device) && line.contains("ITS-"));
    let count = |line: &str| line.split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok()).sum::<u64>();
    its.map(count).sum()
}

/// From outside, a sum that the DomU's command server knows.
fn ask(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("QEMU does not forward")?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(b"echo $((40 + 2)); exit\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_messages_are_counted() {
        let lines = " 45:  3  4   ITS-MSI 16385 Edge      virtio0-input.0\n 46:  9  9  GICv3  36 Level  virtio0-input.1\n 47: 1 0 ITS-MSI 1 Edge nvme0q0";
        assert_eq!(super::messages(lines, "virtio0-input"), 7);
    }
}
