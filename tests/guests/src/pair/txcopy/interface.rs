//! The rows about the interface itself: who may have channels, how many, of which version, called from where.

use super::*;

/// T10: domains that are wrong.
pub fn t10(test: &mut Test) {
    with_channel(test, |test, c| {
        let second = match Peer::build(1) {
            Ok(peer) => peer,
            Err(why) => return test.error("build", why),
        };
        for (sender, errno) in
            [(SELF, EINVAL), (0, EINVAL), (1000, ESRCH), (0x7ff1, ESRCH), (0x7ff2, ESRCH), (0x7ff4, ESRCH), (0xffff, ESRCH)]
        {
            refuse(test, format_args!("create for {sender:#x}"), call(TXCOPY_CREATE, &mut request(sender, c.port)), errno);
        }
        // Another domain takes neither the channel nor the handle; nor is there one between the two.
        let port = second.call(0, jobs::offer, args([0]));
        let batch = second.call(0, jobs::take, args([0]));
        refuse(test, "another's channel", second.rc(attach, args([c.number.into(), port, batch])), ENOENT);
        refuse(test, "another's handle", second.rc(channel::send, args([c.handle, 32, 0, 0])), ENOENT);
        let job = |a: [u64; 6]| {
            let mut op =
                Attach { version: TXCOPY_VERSION, receiver: a[0] as u16, port: a[1] as u32, batch_gfn: a[2], ..Default::default() };
            call(TXCOPY_ATTACH, &mut op).cast_unsigned()
        };
        for (receiver, errno) in [(c.peer.id, EPERM), (second.id, EINVAL), (SELF, EINVAL), (1000, ESRCH), (0x7ff2, ESRCH), (0xffff, ESRCH)]
        {
            refuse(test, format_args!("attach to {receiver:#x}"), second.rc(job, args([receiver.into(), port, batch])), errno);
        }
        // Ports that are not the caller's to wait on.
        let port_of_peer = |test: &mut Test, name: &str, port: u64| {
            refuse(test, name, c.peer.rc(attach, args([c.number.into(), port, c.batch_gfn])), EINVAL);
        };
        port_of_peer(test, "port 0", 0);
        port_of_peer(test, "closed port", 999);
        port_of_peer(test, "port beyond", u64::from(u32::MAX));
        refuse(test, "create with a closed port", call(TXCOPY_CREATE, &mut request(c.peer.id, 1001)), EINVAL);
        // Twice.
        refuse(test, "attach again", c.peer.rc(attach, args([c.number.into(), c.peer_port, c.batch_gfn])), EBUSY);
        // A domain that dies: its page is still mapped here, so it stays.
        want(test, "hold", ops::map_foreign(second.id, batch, Page::hole(0x701).gfn()), 0);
        want(test, "kill", second.kill(), 0);
        refuse(test, "create for a dying one", call(TXCOPY_CREATE, &mut request(second.id, c.port)), ESRCH);
        want(test, "let go", ops::remove(Page::hole(0x701).gfn()), 0);
        if !ops::within(2_000_000, || !exists(second.id)) {
            test.fail("let go", "something of the domain is left");
        }
        plain(test, c, 0);
    });
}

/// T13: as many channels and attachments as there may be, and one more.
pub fn t13(test: &mut Test) {
    with_peer(test, |test, peer| {
        let port = ops::offer_port(peer.id) as u32;
        let mut made = 0;
        let refused = loop {
            let rc = call(TXCOPY_CREATE, &mut request(peer.id, port));
            if rc != 0 || made > 300 {
                break rc;
            }
            made += 1;
        };
        want(test, "channels", made, TXCOPY_MAX_CHANNELS.into());
        refuse(test, "one channel more", refused, ENOSPC);
        let peer_port = peer.call(0, jobs::offer, args([0]));
        let batch = peer.call(0, jobs::take, args([0]));
        for n in 0..TXCOPY_MAX_ATTACHMENTS.into() {
            want(test, format_args!("attach {n}"), peer.rc(attach, args([n, peer_port, batch])), n.cast_signed());
        }
        refuse(test, "one attachment more", peer.rc(attach, args([40, peer_port, batch])), ENOSPC);
        let detach = |a: [u64; 6]| call_raw(TXCOPY_DETACH, a[0]).cast_unsigned();
        want(test, "detach", peer.rc(detach, args([7])), 0);
        refuse(test, "detach again", peer.rc(detach, args([7])), ENOENT);
        want(test, "attach in its place", peer.rc(attach, args([200, peer_port, batch])), 7);
        refuse(test, "detach 32", peer.rc(detach, args([32])), ENOENT);
        refuse(test, "destroy 256", call_raw(TXCOPY_DESTROY, 256), ENOENT);
        refuse(test, "destroy 2^32", call_raw(TXCOPY_DESTROY, 1 << 32), ENOENT);
        refuse(test, "posted 2^32", call_raw(TXCOPY_POSTED, 1 << 32), ENOENT);
        // Half by the receiver; the sender then hears that they have ended; the rest dies with the peer, or with this domain's will.
        for n in 0..TXCOPY_MAX_CHANNELS / 2 {
            want(test, "destroy", call_raw(TXCOPY_DESTROY, n.into()), 0);
        }
        refuse(test, "destroy again", call_raw(TXCOPY_DESTROY, 0), ENOENT);
        refuse(test, "send on an ended one", peer.rc(channel::send, args([3, 32, 0, 0])), EPIPE);
        want(test, "detach from an ended one", peer.rc(detach, args([3])), 0);
        let mut again = request(peer.id, port);
        want(test, "create again", call(TXCOPY_CREATE, &mut again), 0);
        refuse(test, "an attachment to the one before", peer.rc(channel::send, args([0, 32, 0, 0])), EPIPE);
        want(test, "destroy the new one", call_raw(TXCOPY_DESTROY, again.channel.into()), 0);
        for n in TXCOPY_MAX_CHANNELS / 2..TXCOPY_MAX_CHANNELS {
            want(test, "destroy", call_raw(TXCOPY_DESTROY, n.into()), 0);
        }
        ops::close(port);
    });
}

/// T14: what is written back holds nothing of the hypervisor's.
pub fn t14(test: &mut Test) {
    with_channel(test, |test, c| {
        let page = Page::take();
        page.fill(0xa5);
        want(test, "query", call_raw(TXCOPY_QUERY, page.address()), 0);
        want(test, "query.reserved", page.read32(28).into(), 0);
        want(test, "query.behind", page.read64(32).cast_signed(), 0xa5a5_a5a5_a5a5_a5a5_u64.cast_signed());
        page.fill(0xa5);
        page.write32(0, c.number);
        want(test, "stats", call_raw(TXCOPY_STATS, page.address()), 0);
        want(test, "stats.reserved", (page.read64(80) | page.read64(88)).cast_signed(), 0);
        want(test, "stats.behind", page.read64(96).cast_signed(), 0xa5a5_a5a5_a5a5_a5a5_u64.cast_signed());
        // A slot and its buffer: nothing but the packet.
        slots().fill(0xa5);
        buffer(0).fill(0xa5);
        let posted = post(0, 1);
        want(test, "send", c.send(c.one(c.address(0), 1), 0), 1);
        want(test, "slot.pad", slot(0)._pad.iter().map(|byte| i64::from(*byte)).sum(), 0);
        want(test, "buffer", buffer(0).read8(1).into(), 0xa5);
        want(test, "header.pad", (header().read64(8) | header().read64(72)).cast_signed(), 0);
        plain(test, c, posted);
    });
}

/// T16: within a multicall.
pub fn t16(test: &mut Test) {
    with_channel(test, |test, c| {
        let posted = post(0, 128);
        let mut at = 0;
        for _ in 0..100 {
            at = put(c.batch(), at, &packet(2000, 1), &[(c.address(0), 2000)]);
        }
        // Longer than a step: it must come back to the same entry.
        let job = |a: [u64; 6]| {
            let send = |bytes| MulticallEntry { op: TXCOPY_OP, args: [TXCOPY_SEND, a[0], bytes, 0, 0, 0], ..Default::default() };
            let mut list = [send(a[1]), send(0), MulticallEntry { op: TXCOPY_OP, args: [99, 0, 0, 0, 0, 0], ..Default::default() }];
            let rc = hypercall::raw(nr::MULTICALL, [hypercall::address(&mut list), 3, 0, 0, 0]);
            (rc == 0 && list[0].result == 100 && list[1].result.cast_signed() == -22 && list[2].result.cast_signed() == -38).into()
        };
        want(test, "multicall", c.peer.rc(job, args([c.handle, at])), 1);
        want(test, "completed", completed().into(), 100);
        let _ = posted;
    });
}

/// T17: discovery, versions, reserved fields.
pub fn t17(test: &mut Test) {
    with_channel(test, |test, c| {
        let mut query = Query::default();
        want(test, "query", call(TXCOPY_QUERY, &mut query), 0);
        want(test, "version", query.version.into(), TXCOPY_VERSION.into());
        for op in [8, 9, 99, u64::from(u32::MAX), 1 << 32, u64::MAX] {
            refuse(test, format_args!("op {op:#x}"), call_raw(op, 0), ENOSYS);
        }
        for version in [0, 2, u32::MAX] {
            let mut op = Create { version, ..request(c.peer.id, c.port) };
            refuse(test, format_args!("create of version {version}"), call(TXCOPY_CREATE, &mut op), EOPNOTSUPP);
        }
        let good = request(c.peer.id, c.port);
        for (name, mut op) in [
            ("flags", Create { flags: 1, ..good }),
            ("pad", Create { _pad: 1, ..good }),
            ("reserved", Create { _reserved: 1 << 63, ..good }),
            ("no slots", Create { slot_pages: 0, ..good }),
            ("three pages", Create { slot_pages: 3, ..good }),
            ("64 pages", Create { slot_pages: 64, ..good }),
            ("2^31 pages", Create { slot_pages: 1 << 31, ..good }),
            ("-1 pages", Create { slot_pages: u32::MAX, ..good }),
        ] {
            refuse(test, name, call(TXCOPY_CREATE, &mut op), EINVAL);
        }
        let job = |a: [u64; 6]| {
            let mut op = Attach {
                version: a[3] as u32,
                channel: a[0] as u32,
                port: a[1] as u32,
                batch_gfn: a[2],
                flags: a[4] as u32,
                _reserved: a[5] >> 1,
                _pad: a[5] as u16 & 1,
                ..Default::default()
            };
            call(TXCOPY_ATTACH, &mut op).cast_unsigned()
        };
        let n = u64::from(c.number);
        for (name, a, errno) in [
            ("version 0", [n, c.peer_port, c.batch_gfn, 0, 0, 0], EOPNOTSUPP),
            ("version 2", [n, c.peer_port, c.batch_gfn, 2, 0, 0], EOPNOTSUPP),
            ("flags", [n, c.peer_port, c.batch_gfn, 1, 1, 0], EINVAL),
            ("pad", [n, c.peer_port, c.batch_gfn, 1, 0, 1], EINVAL),
            ("reserved", [n, c.peer_port, c.batch_gfn, 1, 0, 2], EINVAL),
            ("no channel", [n + 1, c.peer_port, c.batch_gfn, 1, 0, 0], ENOENT),
            ("channel 256", [256, c.peer_port, c.batch_gfn, 1, 0, 0], ENOENT),
            ("channel -1", [u64::from(u32::MAX), c.peer_port, c.batch_gfn, 1, 0, 0], ENOENT),
        ] {
            refuse(test, format_args!("attach: {name}"), c.peer.rc(job, a), errno);
        }
        plain(test, c, 0);
    });
}
