//! Random guests, devices and toolstacks against a model: no interrupt is lost, none is invented, and each physical one is deactivated once.

use super::hardware::CpuInterface;
use super::*;
use proptest::prelude::*;

const VCPUS: usize = 2;
const PRIVATE: [u32; 4] = [1, 2, 27, 31];
const SPIS: [u32; 5] = [32, 33, 34, 35, 64];
/// The SPIs that a device drives.
const LINKED: [u32; 3] = [34, 35, 64];

#[derive(Clone, Copy, Debug)]
enum Action {
    Raise(usize, u32),
    RaiseSpi(u32),
    Device(u32),
    Enable(usize, u32, bool),
    SetPending(usize, u32, bool),
    Route(u32, usize),
    Priority(usize, u32, u8),
    Enter(usize),
    Acknowledge(usize),
    Complete(usize),
    Restart(usize),
}

/// Actions on a few interrupts: the fewer, the more often they meet.
fn action(private: &'static [u32], spis: &'static [u32]) -> impl Strategy<Value = Action> {
    let vcpu = || 0..VCPUS;
    let any_intid = || prop::sample::select([private, spis].concat());
    let spi = || prop::sample::select(spis);
    prop_oneof![
        3 => (vcpu(), prop::sample::select(private)).prop_map(|(v, n)| Action::Raise(v, n)),
        3 => spi().prop_map(Action::RaiseSpi),
        4 => prop::sample::select(spis).prop_map(Action::Device),
        2 => (vcpu(), any_intid(), any::<bool>()).prop_map(|(v, n, on)| Action::Enable(v, n, on)),
        2 => (vcpu(), any_intid(), any::<bool>()).prop_map(|(v, n, on)| Action::SetPending(v, n, on)),
        2 => (spi(), vcpu()).prop_map(|(n, v)| Action::Route(n, v)),
        1 => (vcpu(), any_intid(), any::<u8>()).prop_map(|(v, n, p)| Action::Priority(v, n, p & 0xf8)),
        6 => vcpu().prop_map(Action::Enter),
        6 => vcpu().prop_map(Action::Acknowledge),
        6 => vcpu().prop_map(Action::Complete),
        1 => vcpu().prop_map(Action::Restart),
    ]
}

/// What is known of one interrupt, of a vCPU if private.
#[derive(Clone, Copy, Default)]
struct Known {
    enabled: bool,
    /// Raised since it was last acknowledged.
    owed: bool,
}

/// A physical interrupt.
#[derive(Clone, Copy, Default)]
struct Line {
    /// The device signals.
    raised: bool,
    /// Acknowledged by the hypervisor, not deactivated.
    active: bool,
    enabled: bool,
}

struct System {
    vgic: Vgic,
    machine: &'static FakeMachine,
    cpus: Vec<CpuInterface>,
    /// By vCPU (0 for SPIs) and INTID.
    known: Vec<[Known; 96]>,
    lines: [Line; 96],
    route: [usize; 96],
}

impl System {
    fn new(list_registers: usize) -> Self {
        let vgic = guest(VCPUS as u32, 64);
        LINKED.iter().for_each(|n| assert!(vgic.link_spi(*n, true)));
        let mut system = Self {
            vgic,
            machine: machine(),
            cpus: (0..VCPUS).map(|_| CpuInterface::new(list_registers)).collect(),
            known: vec![[Known::default(); 96]; VCPUS],
            lines: [Line::default(); 96],
            route: [0; 96],
        };
        system.enable_all();
        system
    }

    fn enable_all(&mut self) {
        for v in 0..VCPUS {
            PRIVATE.iter().for_each(|n| self.apply(Action::Enable(v, *n, true)));
        }
        SPIS.iter().for_each(|n| self.apply(Action::Enable(0, *n, true)));
    }

    fn known(&mut self, vcpu: usize, intid: u32) -> &mut Known {
        &mut self.known[if intid < 32 { vcpu } else { 0 }][intid as usize]
    }

    fn write(&mut self, vcpu: usize, offset: u64, intid: u32, value: u64, size: Size) {
        let base = if intid < 32 { sgi_frame(vcpu as u64) } else { GICD };
        self.vgic.write(self.machine, vcpu as u32, Ipa(base + offset), size, value).unwrap().unwrap();
        self.hardware();
    }

    /// What the hypervisor asked of the physical interrupt controller, and what the lines do about it.
    fn hardware(&mut self) {
        for asked in self.machine.take_asked() {
            match asked {
                Asked::SpiEnabled(n, on) => self.lines[n as usize].enabled = on,
                Asked::SpiDeactivate(n) => self.deactivate(n),
                Asked::SpiTrigger(..) => {}
                other => panic!("{other:?}"),
            }
        }
        for n in LINKED {
            let line = &mut self.lines[n as usize];
            if line.raised && line.enabled && !line.active {
                (line.raised, line.active) = (false, true);
                assert!(self.vgic.raise_physical_spi(n).is_ok());
                self.known(0, n).owed = true;
            }
        }
    }

    fn deactivate(&mut self, intid: u32) {
        assert!(core::mem::take(&mut self.lines[intid as usize].active), "{intid} deactivated twice");
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Raise(v, n) => {
                let _ = self.vgic.raise(v as u32, n);
                self.known(v, n).owed = true;
            }
            Action::RaiseSpi(n) => {
                let _ = self.vgic.raise_spi(n);
                self.known(0, n).owed = true;
            }
            Action::Device(n) if LINKED.contains(&n) => {
                self.lines[n as usize].raised = true;
                self.hardware();
            }
            Action::Device(_) => {}
            Action::Enable(v, n, on) => {
                self.known(v, n).enabled = on;
                let register = if on { 0x100 } else { 0x180 };
                self.write(v, register + u64::from(n / 32) * 4, n, 1 << (n % 32), Size::Word);
            }
            Action::SetPending(v, n, on) => {
                self.known(v, n).owed = on;
                let register = if on { 0x200 } else { 0x280 };
                self.write(v, register + u64::from(n / 32) * 4, n, 1 << (n % 32), Size::Word);
            }
            Action::Route(n, v) => {
                self.route[n as usize] = v;
                self.write(0, 0x6000 + u64::from(n) * 8, n, v as u64, Size::Double);
            }
            Action::Priority(v, n, priority) => self.write(v, 0x400 + u64::from(n), n, priority.into(), Size::Byte),
            Action::Enter(v) => self.enter(v),
            Action::Acknowledge(v) => {
                self.acknowledge(v);
            }
            Action::Complete(v) => {
                self.complete(v);
            }
            Action::Restart(v) => {
                let _ = self.vgic.reset_vcpu(self.machine, v as u32, &mut self.cpus[v]);
                self.cpus[v].underflow = false;
                PRIVATE.iter().for_each(|n| self.known(v, *n).owed = false);
                self.hardware();
            }
        }
    }

    /// What the run loop does before it enters the guest.
    fn enter(&mut self, v: usize) {
        // Again while filling lets the hardware signal: its interrupt is taken before the guest runs.
        let mut turns = 0;
        while self.vgic.is_dirty(v as u32) || self.cpus[v].maintenance() {
            turns += 1;
            assert!(turns < 100, "the guest is never entered");
            let filled = self.vgic.fill(self.machine, v as u32, &mut self.cpus[v]);
            self.cpus[v].underflow = filled.underflow;
            self.hardware();
        }
        self.check();
    }

    fn acknowledge(&mut self, v: usize) -> bool {
        // A kick precedes whatever the guest sees.
        self.enter(v);
        let Some(lr) = self.cpus[v].acknowledge() else { return false };
        let intid = lr.intid();
        let known = self.known(v, intid);
        assert!(known.owed, "{intid} was invented");
        assert!(known.enabled, "{intid} is disabled");
        known.owed = false;
        assert!(intid < 32 || self.route[intid as usize] == v, "{intid} at the wrong vCPU");
        true
    }

    fn complete(&mut self, v: usize) -> bool {
        let Some(lr) = self.cpus[v].complete() else { return false };
        if lr.is_hardware() {
            self.deactivate(lr.intid());
            self.hardware();
        }
        true
    }

    /// What holds at all times.
    fn check(&self) {
        for (v, cpu) in self.cpus.iter().enumerate() {
            let mut seen = vec![];
            for lr in cpu.valid() {
                assert!(!seen.contains(&lr.intid()), "{} twice on vCPU {v}", lr.intid());
                seen.push(lr.intid());
                let elsewhere = self.cpus.iter().skip(v + 1).flat_map(CpuInterface::valid).any(|other| other.intid() == lr.intid());
                assert!(lr.intid() < 32 || !elsewhere, "{} on two vCPUs", lr.intid());
            }
        }
    }

    /// Everything is enabled, and the guest handles all it gets: nothing is left.
    fn finish(&mut self) {
        self.enable_all();
        let mut turns = 0;
        while (0..VCPUS).fold(false, |any, v| {
            self.enter(v);
            any | self.complete(v) | self.acknowledge(v) | (0..VCPUS).any(|v| self.vgic.is_dirty(v as u32))
        }) {
            turns += 1;
            assert!(turns < 1000, "it does not end");
        }
        for v in 0..VCPUS {
            self.enter(v);
            for n in PRIVATE.iter().chain(&SPIS) {
                assert!(!self.known(v, *n).owed, "{n} was lost");
            }
            assert!(!self.vgic.is_dirty(v as u32) && !self.vgic.has_deliverable(v as u32) && !any_pending(&self.cpus[v]));
        }
        for n in LINKED {
            let line = self.lines[n as usize];
            assert!(!line.active && !line.raised, "the line of {n} is stuck");
        }
    }
}

fn play(list_registers: usize, actions: Vec<Action>) {
    let mut system = System::new(list_registers);
    actions.into_iter().for_each(|action| system.apply(action));
    system.finish();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn nothing_is_lost_or_invented(count in 2usize..5, actions in prop::collection::vec(action(&PRIVATE, &SPIS), 1..120)) {
        play(count, actions);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]
    #[test]
    fn one_interrupt_in_every_state(actions in prop::collection::vec(action(&PRIVATE[..1], &LINKED[..1]), 1..24)) {
        play(4, actions);
    }
}
