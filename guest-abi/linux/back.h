/* SPDX-License-Identifier: GPL-2.0-or-later OR MIT */
/* The back end: one struct tx_back for each interface of xen-netback. */
#ifndef XENOLITH_TX_BACK_H
#define XENOLITH_TX_BACK_H

#include <linux/netdevice.h>

#include "xenolith-tx-end.h"

#define SLOTS_PER_PAGE (PAGE_SIZE / sizeof(struct txcopy_slot))

struct back_counters {
	u64 packets;		/* given to the network stack */
	u64 bytes;		/* of those */
	u64 slots;		/* consumed */
	u64 dropped;		/* no memory, or what they said was wrong */
	u64 interrupts;
	u64 polls;
	u64 posted_calls;	/* POSTED hypercalls */
};

/* Memory that is posted in a slot. */
struct back_buffer {
	struct page *page;		/* NULL: none */
	u32 offset;			/* where packets go to, from the page on */
	u32 size;
	u32 parts;			/* half pages that it occupies */
	bool pooled;			/* in one of the pool's pages: a reference for each part */
};

/* The receiving end of a channel. */
struct back_queue {
	struct napi_struct napi;
	struct net_device *dev;		/* the vif */
	struct page_pool *pool;
	struct txcopy_ring *ring;
	struct txcopy_slot *slots;
	struct back_buffer *buffers;	/* of each slot */
	u32 mask;			/* slots - 1 */
	u32 consumed;
	u32 large;			/* consumed, when a packet needed whole pages */
	struct page *chunk;		/* the pool's page that is cut into buffers */
	u32 chunk_used;			/* bytes of it */
	u32 posted;
	u32 index;
	u32 channel;
	int irq;
	bool running;			/* NAPI is enabled; RTNL */
	bool created;			/* the hypervisor knows the channel */
	bool broken;			/* the ring says what cannot be */
	struct back_counters counters;
};

struct back_set {
	unsigned int count;
	struct back_queue queue[] __counted_by(count);
};

struct tx_back {
	struct tx_end end;
	struct back_set __rcu *set;		/* changed under RTNL */

	u32 serial;				/* the request that set answers */
	unsigned long made;			/* when, in jiffies */

	struct back_counters past;		/* of sets that are no more; RTNL */
};

extern unsigned int back_slot_pages;
extern struct net_device *back_napi_dev;

int back_queue_create(struct back_queue *q, struct tx_back *back,
		      unsigned int index);
void back_queue_run(struct back_queue *q, bool run);
void back_queue_destroy(struct back_queue *q);

int back_fill_ring(struct back_queue *q);
void back_empty_ring(struct back_queue *q);
void back_receive(struct back_queue *q, u32 n);

#endif /* XENOLITH_TX_BACK_H */
