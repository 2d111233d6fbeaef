//! What spans two domains, or a domain and the machine: both ends of an event channel, a channel of tx copy and its sender, interrupts.

use super::{Domains, Imbalance, List, first_difference};
use crate::addr::DomainId;
use crate::domain::Domain;
use crate::evtchn::Peer;
use crate::hypervisor::Hypervisor;
use crate::vgic::FIRST_SPI;
use alloc::sync::Weak;

impl Hypervisor {
    pub(super) fn check_ports(&self, domains: &Domains) -> Result<(), Imbalance> {
        let (mut there, mut back) = (List::default(), List::default());
        for domain in domains {
            domain.events.check_ports().map_err(|port| Imbalance::Port { domain: domain.id, port })?;
            domain.events.for_each_connected(|port, Peer { domain: far, port: far_port }| {
                there.push((domain.id, port, far, far_port));
                back.push((far, far_port, domain.id, port));
            });
        }
        // Connected ports come in pairs, so the list is the same seen from the other side.
        match first_difference(&there.sorted()?, &back.sorted()?) {
            Some((domain, port, ..)) => Err(Imbalance::Port { domain, port }),
            None => Ok(()),
        }
    }

    pub(super) fn check_txcopy(&self, domains: &Domains) -> Result<(), Imbalance> {
        let (mut channels, mut senders, mut attachments) = (List::default(), List::default(), List::default());
        for domain in domains {
            domain.txcopy.for_each_channel(|number, generation, channel| {
                channels.push((domain.id, number, generation));
                if channel.is_attached() {
                    senders.push((domain.id, number, generation, id(channel.sender())));
                }
            });
        }
        let channels = channels.sorted()?;
        for domain in domains {
            domain.txcopy.for_each_attachment(|attachment| {
                let Some(receiver) = id(&attachment.receiver) else { return };
                let (number, generation) = (attachment.channel, attachment.generation);
                // An attachment may be left of a channel that has ended.
                if channels.binary_search(&(receiver, number, generation)).is_ok() {
                    attachments.push((receiver, number, generation, Some(domain.id)));
                }
            });
        }
        match first_difference(&senders.sorted()?, &attachments.sorted()?) {
            Some((receiver, channel, ..)) => Err(Imbalance::Channel { receiver, channel }),
            None => Ok(()),
        }
    }

    pub(super) fn check_lines(&self, domains: &Domains) -> Result<(), Imbalance> {
        for domain in domains {
            let wrong = (FIRST_SPI..FIRST_SPI + domain.spis)
                .find(|intid| domain.vgic.is_linked(*intid) != (self.passthrough.owner(*intid) == Some(domain.vmid)));
            wrong.map_or(Ok(()), |intid| Err(Imbalance::Line(intid)))?;
        }
        Ok(())
    }
}

fn id(domain: &Weak<Domain>) -> Option<DomainId> {
    domain.upgrade().map(|domain| domain.id)
}
