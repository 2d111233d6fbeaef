/* SPDX-License-Identifier: GPL-2.0-or-later OR MIT */
/*
 * What the two Linux ends of tx copy share: the hypercall, and the words that
 * they exchange through xenstore.
 *
 * The front end asks by writing, in its own directory of the vif,
 *	xenolith-tx/request = "<version> <serial> <queues>"
 * and the back end, which sees that by a watch, answers in its own one with
 *	xenolith-tx/channels = "<version> <serial> <channel of queue 0> ..."
 * Each is one node, so it is read whole or not at all. An answer counts if it
 * bears the serial that was asked for. A side that goes away removes its node,
 * and the other one sees that by its watch.
 */
#ifndef XENOLITH_TX_H
#define XENOLITH_TX_H

#include <linux/device.h>
#include <linux/err.h>
#include <linux/netdevice.h>
#include <linux/string.h>
#include <xen/events.h>
#include <xen/page.h>
#include <xen/xen.h>
#include <xen/xenbus.h>
#include <asm/xen/hypercall.h>

#include "xenolith-txcopy.h"

#define TX_DIR		"xenolith-tx"
#define TX_REQUEST	TX_DIR "/request"
#define TX_CHANNELS	TX_DIR "/channels"

#ifndef __counted_by
#define __counted_by(count)	/* before Linux 6.6 */
#endif

/* Queues of an interface at most; netfront and netback use 8 by default. */
#define TX_MAX_QUEUES	16

/* The longest answer: two numbers and TX_MAX_QUEUES channels. */
#define TX_ANSWER_SIZE	(11 * (TX_MAX_QUEUES + 2) + 1)

/* The kernel exports no call for a hypercall that Xen does not have. */
static inline long txcopy_op(unsigned long op, unsigned long a1,
			     unsigned long a2, unsigned long a3)
{
	register unsigned long x0 asm("x0") = op;
	register unsigned long x1 asm("x1") = a1;
	register unsigned long x2 asm("x2") = a2;
	register unsigned long x3 asm("x3") = a3;
	register unsigned long x4 asm("x4") = 0;
	register unsigned long x16 asm("x16") = TXCOPY_OP;

	asm volatile("hvc #0xea1"
		     : "+r" (x0), "+r" (x1), "+r" (x2), "+r" (x3), "+r" (x4),
		       "+r" (x16)
		     : : "x5", "memory", "cc");
	return x0;
}

static inline bool tx_copy_offered(void)
{
	struct txcopy_query query = { };

	return xen_domain() && PAGE_SIZE == XEN_PAGE_SIZE &&
	       !txcopy_op(TXCOPY_QUERY, (unsigned long)&query, 0, 0) &&
	       query.version >= TXCOPY_VERSION &&
	       query.max_pieces >= TXCOPY_MAX_PIECES &&
	       query.max_packet >= TXCOPY_MAX_PACKET;
}

/* The vif behind an interface if its driver sits on this xenbus bus. */
static inline struct xenbus_device *tx_vif(struct net_device *dev,
					   const char *bus)
{
	struct device *parent = dev->dev.parent;
	struct xenbus_device *xdev;

	if (!parent || !parent->bus || strcmp(parent->bus->name, bus))
		return NULL;
	xdev = to_xenbus_device(parent);
	return strcmp(xdev->devicetype, "vif") ? NULL : xdev;
}

/*
 * A port of ours which the hypervisor raises. xenbus_alloc_evtchn() would end
 * the whole vif if there is none.
 */
static inline int tx_alloc_port(domid_t peer, evtchn_port_t *port)
{
	struct evtchn_alloc_unbound alloc = {
		.dom = DOMID_SELF,
		.remote_dom = peer,
	};
	int err = HYPERVISOR_event_channel_op(EVTCHNOP_alloc_unbound, &alloc);

	*port = alloc.port;
	return err;
}

/* Not all kernels export their function for it. */
static inline void tx_close_port(evtchn_port_t port)
{
	struct evtchn_close close = { .port = port };

	HYPERVISOR_event_channel_op(EVTCHNOP_close, &close);
}

/*
 * Write a node below a directory only while that is there: a plain write would
 * bring back what the toolstack has removed.
 */
static inline int tx_publish(const char *dir, const char *node,
			     const char *value)
{
	struct xenbus_transaction xbt;
	int err;

	do {
		err = xenbus_transaction_start(&xbt);
		if (err)
			return err;
		err = -ENOENT;
		if (xenbus_exists(xbt, dir, "state") == 1)
			err = xenbus_write(xbt, dir, node, value);
		if (err) {
			xenbus_transaction_end(xbt, 1);
			return err;
		}
		err = xenbus_transaction_end(xbt, 0);
	} while (err == -EAGAIN);
	return err;
}

#endif /* XENOLITH_TX_H */
