//! A domain's emulated UART, joined with what it needs of others: its interrupt, the console, xenconsoled's event channel.

use super::Domain;
use crate::addr::{DomainId, Ipa, Mfn};
use crate::evtchn::Peer;
use crate::hypervisor::Hypervisor;
use crate::mmio::Size;
use crate::vpl011::{Effects, Vpl011};
use guest_abi::arch_arm::{GUEST_PL011_BASE, GUEST_PL011_SIZE, GUEST_VPL011_SPI};
use guest_abi::errno::Errno;

impl Domain {
    /// Its emulated UART, and the offset of `at` in it.
    fn uart_at(&self, at: Ipa) -> Option<(&Vpl011, u64)> {
        let offset = at.0.checked_sub(GUEST_PL011_BASE).filter(|offset| *offset < GUEST_PL011_SIZE)?;
        Some((self.uart.get()?, offset))
    }
}

impl Hypervisor {
    /// A load at a guest address that trapped; `None` if it is not one that the domain's UART answers.
    pub fn uart_read(&self, domain: &Domain, at: Ipa, size: Size) -> Option<u64> {
        let (uart, offset) = domain.uart_at(at)?;
        let (value, effects) = uart.read(self.machine, offset, size)?;
        self.apply_uart(domain, &effects);
        Some(value)
    }

    /// A store; `false` if it is not one that the domain's UART takes.
    pub fn uart_write(&self, domain: &Domain, at: Ipa, size: Size, value: u64) -> bool {
        let Some((uart, offset)) = domain.uart_at(at) else { return false };
        let has_input = self.console.lock().input_to() == crate::console::InputTo::Domain(domain.id);
        let effects = uart.write(self.machine, offset, size, value, has_input);
        effects.iter().for_each(|effects| self.apply_uart(domain, effects));
        effects.is_some()
    }

    /// A byte was typed on the serial console for a domain other than the control domain; `held` switch characters came before.
    pub(crate) fn type_for(&self, id: DomainId, held: u8, byte: u8) {
        let Some(domain) = self.domains.get(id) else { return };
        let Some(uart) = domain.uart.get() else { return };
        let code = self.console.lock().switch_code().unwrap_or_default();
        for byte in core::iter::repeat_n(code, held.into()).chain([byte]) {
            self.apply_uart(&domain, &uart.receive(byte));
        }
    }

    /// Xenconsoled has read from a domain's UART or written to it.
    #[cold]
    #[inline(never)]
    pub(crate) fn uart_ring_moved(&self, domain: &Domain) {
        if let Some(uart) = domain.uart.get() {
            self.apply_uart(domain, &uart.ring_moved(self.machine));
        }
    }

    /// Gives a domain that has not run yet a UART whose other end is a ring in the page `page`, and `console` its reader. The reference to the
    /// page goes to the UART. Returns the port that the reader connects to.
    ///
    /// # Errors
    /// `EINVAL` if it has one, or a device with that interrupt; those of a new event channel. The page is then still the caller's.
    pub fn add_ring_uart(&self, domain: &Domain, page: Mfn, console: DomainId) -> Result<u32, Errno> {
        // Under a lock, so that there are never two.
        let _life = domain.life.lock();
        if domain.uart.is_completed() || domain.vgic.is_linked(GUEST_VPL011_SPI) {
            return Err(Errno::EINVAL);
        }
        let port = domain.events.alloc_unbound_for_xen(self.machine, console, 0).map_err(|error| error.errno())?;
        domain.uart.call_once(|| Vpl011::on_ring(page.address(), port));
        Ok(port)
    }

    fn apply_uart(&self, domain: &Domain, effects: &Effects) {
        if let Some(line) = &effects.said {
            self.say(domain, line);
        }
        if effects.interrupt {
            let notice = domain.vgic.raise_spi(GUEST_VPL011_SPI);
            notice.iter().filter_map(|vcpu| domain.vcpu(vcpu)).for_each(|vcpu| self.notice(vcpu));
        }
        if let Some(port) = effects.notify
            && let Some(to) = domain.events.xen_peer(port)
            && let Some(reader) = self.domains.get(to.domain)
        {
            let notify = reader.events.deliver(self.machine, to.port, Peer { domain: domain.id, port });
            self.deliver(&reader, notify);
        }
    }
}
