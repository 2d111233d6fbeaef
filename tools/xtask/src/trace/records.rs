//! The records in a file of `xentrace`. Source: xen/include/public/trace.h; what they mean on Xenolith: `guest-abi/src/trace.rs`.

use anyhow::{Result, ensure};
use guest_abi::trace::{TRC_HD_CYCLE_FLAG as CYCLES, TRC_TRACE_CPU_CHANGE as CPU_CHANGE, TRC_TRACE_WRAP_BUFFER as WRAP};

/// More CPUs than Xen has.
const CPUS: u32 = 4096;

/// One record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The CPU that made it.
    pub cpu: u32,
    /// The counter; of a record without, that of the one before.
    pub ticks: u64,
    /// What happened.
    pub event: u32,
    /// More about it.
    pub data: Vec<u32>,
}

/// All records, each CPU's in their order, by time. The last may be cut off.
pub fn read(bytes: &[u8]) -> Result<Vec<Record>> {
    let words: Vec<u32> = bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
    let (mut records, mut cpu, mut at): (Vec<Record>, _, _) = (Vec::new(), None, 0);
    let mut last = std::collections::BTreeMap::new();
    while let Some(header) = words.get(at) {
        let (event, count) = (header & 0x0fff_ffff, (header >> 28 & 7) as usize);
        let time = if header & CYCLES == 0 { 0 } else { 2 };
        let Some(rest) = words.get(at + 1..at + 1 + time + count) else { break };
        let (time, data) = rest.split_at(time);
        ensure!(cpu.is_some() || event == CPU_CHANGE, "it does not begin with the number of a CPU");
        at += 1 + rest.len();
        if event == CPU_CHANGE {
            ensure!(data.len() == 2 && data[0] < CPUS, "word {at}: not the number of a CPU");
            cpu = Some(data[0]);
        } else if let (Some(cpu), true) = (cpu, event != WRAP) {
            let ticks = last.entry(cpu).or_insert(0);
            if let [low, high] = time {
                *ticks = u64::from(*low) | u64::from(*high) << 32;
            }
            records.push(Record { cpu, ticks: *ticks, event, data: data.to_vec() });
        }
    }
    // Stable: what one CPU recorded at one time stays in order.
    records.sort_by_key(|record| record.ticks);
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn records_of_two_cpus_are_put_in_order() {
        let file = bytes(&[
            CPU_CHANGE | 2 << 28,
            1,
            28,
            0x2_8004 | 2 << 28 | CYCLES,
            20,
            0,
            3,
            4,
            WRAP,
            0x2_1002 | 1 << 28,
            7,
            CPU_CHANGE | 2 << 28,
            0,
            100,
            0x2_8006 | CYCLES,
            10,
            0,
            0x2_8006 | CYCLES,
            11,
        ]);
        let record = |cpu, ticks, event, data: &[u32]| Record { cpu, ticks, event, data: data.to_vec() };
        let expected = [record(0, 10, 0x2_8006, &[]), record(1, 20, 0x2_8004, &[3, 4]), record(1, 20, 0x2_1002, &[7])];
        assert_eq!(read(&file).unwrap(), expected);
        assert!(read(&bytes(&[0x2_8006])).is_err());
        assert!(read(b"").unwrap().is_empty());
    }
}
