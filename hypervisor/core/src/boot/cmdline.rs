//! Xen's command line (Xen's docs/misc/xen-command-line): options separated by spaces, `name`, `name=value` or `no-name`.
//!
//! Unknown options are ignored: users keep theirs for other boards and versions. A known option with a value that cannot be read keeps
//! its default and makes a warning.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

mod value;

use value::{boolean, level, number, size};

/// What the command line asks for. `Options::default()` is an empty command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// `dom0_mem=<size>`: bytes of Dom0's memory. Default [`DEFAULT_DOM0_MEM`], with a warning when Dom0 is built.
    pub dom0_mem: Option<u64>,
    /// `dom0_max_vcpus=<n>`: vCPUs of Dom0. Default: one for each CPU.
    pub dom0_max_vcpus: Option<u32>,
    /// `dom0_vcpus_pin`: vCPU n of Dom0 stays on CPU n. Default off.
    pub dom0_vcpus_pin: bool,
    /// `console=<name>,…`: consoles by name; on Arm only `dtuart` exists. Default: it.
    pub console: Vec<String>,
    /// `dtuart=<path or alias>[:<options>]`: the UART. Default: `/chosen/stdout-path`.
    pub dtuart: Option<String>,
    /// `conswitch=<char>[x]`: the letter that, with Ctrl and three times, switches console input between Xen and Dom0. Default `a`.
    /// `None`: never.
    pub conswitch: Option<u8>,
    /// Second part of `conswitch`: input does *not* go to Dom0 on its start.
    pub conswitch_stays: bool,
    /// `loglvl=<threshold>[/<rate-limited threshold>]`: Xen's messages. Default info, everything unlimited.
    pub loglvl: Threshold,
    /// `guest_loglvl=`: messages about guests. Default none, errors and warnings rate-limited.
    pub guest_loglvl: Threshold,
    /// `noreboot`: halt instead of rebooting after a fault. Default off.
    pub noreboot: bool,
    /// `maxcpus=<n>`: CPUs to bring up, at least 1. Default all.
    pub maxcpus: Option<u32>,
    /// `bootscrub=<boolean>|idle`: scrub free RAM. Default idle.
    pub bootscrub: Bootscrub,
    /// `sched=<name>`: accepted names are credit, credit2, rtds, null. Default credit2, and the only one there is.
    pub sched: String,
    /// `sched_ratelimit_us=<n>`: microseconds that a vCPU runs at least. Default 1000.
    pub sched_ratelimit_us: u32,
    /// `vwfi=trap|native`: whether WFI and WFE of guests trap. Default trap.
    pub vwfi_native: bool,
    /// `gnttab_max_frames=<n>`: grant table frames of a domain. Default 64.
    pub gnttab_max_frames: u32,
    /// `gnttab_max_maptrack_frames=<n>`. Default 1024.
    pub gnttab_max_maptrack_frames: u32,
    /// `gnttab=max-ver:<n>`: highest grant table version. Default 1, the only one on Arm.
    pub gnttab_max_version: u8,
    /// `ext_regions=<boolean>`: tell Dom0 of address space for foreign mappings. Default on.
    pub ext_regions: bool,
    /// `xsm=dummy|silo`: whether DomUs may reach each other. Default silo, as Debian's.
    pub xsm: Xsm,
    /// `memop-max-order=<domU>[,<control>[,<hardware>[,<passthrough>]]]`: log2 of the pages of one extent. Default 9,18,10,10.
    pub memop_max_order: [u32; 4],
    /// `console_timestamps=<mode>`: prefix of console lines. Default none.
    pub console_timestamps: Timestamps,
    /// `sync_console`: wait until the UART took the output. Default off.
    pub sync_console: bool,
    /// `serrors=diverse|panic`: an SError that a guest causes crashes the guest, or the machine. Default diverse.
    pub serrors_panic: bool,
}

/// Dom0's memory if `dom0_mem` is absent: 512 MiB.
pub const DEFAULT_DOM0_MEM: u64 = 512 << 20;

/// Message levels, the most severe first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// No message at all.
    None,
    /// Errors.
    Error,
    /// And warnings.
    Warning,
    /// And information.
    Info,
    /// Everything.
    Debug,
}

/// Which messages are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Threshold {
    /// Messages up to this level always.
    pub always: Level,
    /// Messages up to this level are printed at a limited rate; not below `always`.
    pub limited: Level,
}

/// When free RAM is scrubbed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bootscrub {
    /// Not at all.
    Off,
    /// Before Dom0 starts.
    On,
    /// While CPUs are idle.
    Idle,
}

/// Policy between domains.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Xsm {
    /// Domains may share with whom they like.
    Dummy,
    /// DomUs may share with Dom0 only.
    Silo,
}

/// Prefix of console lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timestamps {
    /// None.
    None,
    /// Date and time of day; without a clock, as `Boot`.
    Date,
    /// The same with milliseconds.
    DateMs,
    /// Seconds since boot.
    Boot,
    /// The counter.
    Raw,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dom0_mem: None,
            dom0_max_vcpus: None,
            dom0_vcpus_pin: false,
            console: Vec::from(["dtuart".into()]),
            dtuart: None,
            conswitch: Some(b'a'),
            conswitch_stays: false,
            loglvl: Threshold { always: Level::Info, limited: Level::Info },
            guest_loglvl: Threshold { always: Level::None, limited: Level::Warning },
            noreboot: false,
            maxcpus: None,
            bootscrub: Bootscrub::Idle,
            sched: "credit2".into(),
            sched_ratelimit_us: 1000,
            vwfi_native: false,
            gnttab_max_frames: 64,
            gnttab_max_maptrack_frames: 1024,
            gnttab_max_version: 1,
            ext_regions: true,
            xsm: Xsm::Silo,
            memop_max_order: [9, 18, 10, 10],
            console_timestamps: Timestamps::None,
            sync_console: false,
            serrors_panic: false,
        }
    }
}

impl Options {
    /// Reads a command line. The second value is one line for each option whose value could not be read and was ignored.
    pub fn parse(line: &str) -> (Self, Vec<String>) {
        let mut options = Self::default();
        let mut warnings = Vec::new();
        for word in line.split_ascii_whitespace() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                // "no-name" is "name=no".
                None => word.strip_prefix("no-").map_or((word, None), |name| (name, Some("no"))),
            };
            if options.set(name, value).is_none() {
                warnings.push(format!("command line option '{word}' has a value that cannot be used: ignored"));
            }
        }
        (options, warnings)
    }

    /// Bytes of Dom0's memory.
    pub fn dom0_bytes(&self) -> u64 {
        self.dom0_mem.unwrap_or(DEFAULT_DOM0_MEM)
    }

    /// Sets one option; `None` if its value cannot be used.
    fn set(&mut self, name: &str, value: Option<&str>) -> Option<()> {
        let text = value.unwrap_or_default();
        match name {
            "dom0_mem" => self.dom0_mem = Some(size(text).filter(|&bytes| bytes != 0)?),
            "dom0_max_vcpus" => self.dom0_max_vcpus = Some(number(text).filter(|&count| count != 0)?),
            "dom0_vcpus_pin" => self.dom0_vcpus_pin = boolean(value)?,
            "console" => self.console = text.split(',').filter(|name| !name.is_empty()).map(Into::into).collect(),
            "dtuart" => self.dtuart = Some(text).filter(|text| !text.is_empty()).map(Into::into),
            "conswitch" => self.set_conswitch(text)?,
            "loglvl" => self.loglvl = threshold(text)?,
            "guest_loglvl" => self.guest_loglvl = threshold(text)?,
            "noreboot" => self.noreboot = boolean(value)?,
            "maxcpus" => self.maxcpus = Some(number(text)?.max(1)),
            "bootscrub" if text == "idle" => self.bootscrub = Bootscrub::Idle,
            "bootscrub" => self.bootscrub = if boolean(value)? { Bootscrub::On } else { Bootscrub::Off },
            "sched" => self.sched = Some(text).filter(|name| ["credit", "credit2", "rtds", "null", "arinc653"].contains(name))?.into(),
            "sched_ratelimit_us" => self.sched_ratelimit_us = number(text)?,
            "vwfi" => self.vwfi_native = one_of(text, &[("trap", false), ("native", true)])?,
            "gnttab_max_frames" => self.gnttab_max_frames = number(text).filter(|&frames| frames != 0)?,
            "gnttab_max_maptrack_frames" => self.gnttab_max_maptrack_frames = number(text)?,
            "gnttab" => self.set_gnttab(text)?,
            "ext_regions" => self.ext_regions = boolean(value)?,
            "xsm" => self.xsm = one_of(text, &[("dummy", Xsm::Dummy), ("silo", Xsm::Silo)])?,
            "memop-max-order" => self.set_max_order(text)?,
            "console_timestamps" => self.set_timestamps(value)?,
            "sync_console" => self.sync_console = boolean(value)?,
            "serrors" => self.serrors_panic = one_of(text, &[("diverse", false), ("panic", true)])?,
            _ => {}
        }
        Some(())
    }

    fn set_conswitch(&mut self, text: &str) -> Option<()> {
        let (letter, stays) = match *text.as_bytes() {
            [letter] => (letter, false),
            [letter, b'x'] => (letter, true),
            _ => return None,
        };
        self.conswitch = letter.is_ascii_lowercase().then_some(letter);
        self.conswitch_stays = stays;
        Some(())
    }

    /// A list of `max-ver:<n>` and `transitive=<boolean>` (which is about version 2 only).
    fn set_gnttab(&mut self, text: &str) -> Option<()> {
        for part in text.split(',') {
            if let Some(version) = part.strip_prefix("max-ver:") {
                self.gnttab_max_version = number(version).filter(|version| (1..=2).contains(version))? as u8;
            } else if !part.trim_start_matches("no-").starts_with("transitive") {
                return None;
            }
        }
        Some(())
    }

    fn set_max_order(&mut self, text: &str) -> Option<()> {
        let mut orders = self.memop_max_order;
        let mut parts = text.split(',');
        for (order, part) in orders.iter_mut().zip(parts.by_ref()).filter(|(_, part)| !part.is_empty()) {
            *order = number(part).filter(|&order| order <= 18)?;
        }
        if parts.next().is_some() {
            return None;
        }
        self.memop_max_order = orders;
        Some(())
    }

    fn set_timestamps(&mut self, value: Option<&str>) -> Option<()> {
        let modes = [
            ("none", Timestamps::None),
            ("date", Timestamps::Date),
            ("datems", Timestamps::DateMs),
            ("boot", Timestamps::Boot),
            ("raw", Timestamps::Raw),
        ];
        self.console_timestamps = match value.and_then(|text| one_of(text, &modes)) {
            Some(mode) => mode,
            None if boolean(value)? => Timestamps::Date,
            None => Timestamps::None,
        };
        Some(())
    }
}

fn one_of<T: Copy>(text: &str, choices: &[(&str, T)]) -> Option<T> {
    choices.iter().find(|(name, _)| *name == text).map(|&(_, choice)| choice)
}

/// `<threshold>[/<rate-limited threshold>]`.
fn threshold(text: &str) -> Option<Threshold> {
    let (always, limited) = text.split_once('/').unwrap_or((text, text));
    let (always, limited) = (level(always)?, level(limited)?);
    Some(Threshold { always, limited: limited.max(always) })
}

#[cfg(test)]
mod tests;
