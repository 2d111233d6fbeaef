/* SPDX-License-Identifier: GPL-2.0-or-later OR MIT */
/* The front end: one struct tx_front for each interface of xen-netfront. */
#ifndef XENOLITH_TX_FRONT_H
#define XENOLITH_TX_FRONT_H

#include <linux/interrupt.h>
#include <linux/netdevice.h>
#include <linux/skbuff.h>

#include "xenolith-tx-end.h"

/* Packets of a batch at most: each has a record with at least one piece. */
#define FRONT_BATCH (PAGE_SIZE / (sizeof(struct txcopy_packet) + \
				  sizeof(struct txcopy_piece)))

struct front_counters {
	u64 packets;		/* taken by the hypervisor */
	u64 bytes;		/* of those */
	u64 batches;		/* SEND hypercalls */
	u64 full;		/* times the ring had no room */
	u64 space_events;	/* times it was told of room */
	u64 copied;		/* packets copied because of foreign memory */
	u64 dropped;
};

/* A transmission queue with a channel. All but the irq: under the txq's lock. */
struct front_queue {
	struct tx_front *front;
	struct netdev_queue *txq;
	struct txcopy_packet *page;	/* the batch page */
	unsigned int used;		/* bytes of records in it */
	unsigned int count;		/* packets in it */
	bool waiting;			/* for an event that tells of room */
	bool dead;			/* the channel is gone: stock from now on */
	bool first_copied;		/* skb[0] is a copy of our own already */
	u32 handle;
	int irq;
	struct tasklet_struct room;
	struct front_counters counters;
	struct sk_buff *skb[FRONT_BATCH];
	u16 size[FRONT_BATCH];		/* bytes of the records */
};

/* The attached channels of an interface. */
struct front_set {
	unsigned int count;
	struct front_queue queue[] __counted_by(count);
};

struct tx_front {
	struct tx_end end;
	struct front_set __rcu *set;		/* changed under RTNL */
	bool hold;				/* nothing may be sent for a moment */

	u32 serial;
	bool requested;
	bool dead;				/* a channel was found dead */
	char attached[TX_ANSWER_SIZE];		/* the answer that set stands for */

	struct front_counters past;		/* of sets that are no more; RTNL */
	u64 fallbacks;				/* times it went back to netfront */
};

/* With RTNL, or in sysfs: while the operations are ours for certain. */
static inline struct tx_front *front_of(struct net_device *dev)
{
	return container_of(dev->netdev_ops, struct tx_front, end.ops);
}

netdev_tx_t front_start_xmit(struct sk_buff *skb, struct net_device *dev);
int front_queue_attach(struct front_queue *q, struct tx_front *front,
		       unsigned int index, u32 channel);
void front_queue_settle(struct front_queue *q, bool drop);
void front_queue_detach(struct front_queue *q);

#endif /* XENOLITH_TX_FRONT_H */
