// SPDX-License-Identifier: GPL-2.0-or-later OR MIT
/*
 * A channel of the back end: its ring, its port, and the NAPI poll that goes
 * through the completed slots.
 */

#include <net/page_pool/helpers.h>
#include <xen/page.h>

#include "back.h"

/* Slots of the next packet, if all of them are completed; else 0. */
static u32 packet_slots(const struct back_queue *q, u32 available)
{
	u32 n;

	for (n = 0; n < available; n++)
		if (!(READ_ONCE(q->slots[(q->consumed + n) & q->mask].flags) &
		      TXCOPY_SLOT_MORE))
			return n + 1;
	return 0;
}

static int back_poll(struct napi_struct *napi, int budget)
{
	struct back_queue *q = container_of(napi, struct back_queue, napi);
	/* Before all that is read of the slots and their buffers. */
	u32 completed = virt_load_acquire(&q->ring->completed);
	int work = 0;

	q->counters.polls++;
	if (completed - q->consumed > q->mask + 1)
		q->broken = true;
	while (!q->broken && work < budget && q->consumed != completed) {
		u32 n = packet_slots(q, completed - q->consumed);

		if (!n) {
			/* Only whole packets are ever completed. */
			q->broken = true;
			break;
		}
		back_receive(q, n);
		work++;
	}
	if (work) {
		/* After the slots; then we see SENDER_WAITS or the hypervisor this. */
		virt_store_release(&q->ring->posted, q->posted);
		virt_mb();
		if (READ_ONCE(q->ring->flags) & TXCOPY_RING_SENDER_WAITS) {
			q->counters.posted_calls++;
			txcopy_op(TXCOPY_POSTED, q->channel, 0, 0);
		}
	}
	if (work < budget && napi_complete_done(napi, work) && !q->broken) {
		WRITE_ONCE(q->ring->event_at, q->consumed);
		/* We see what is completed, or the hypervisor event_at. */
		virt_mb();
		if (READ_ONCE(q->ring->completed) != q->consumed)
			napi_schedule(napi);
	}
	return work;
}

static irqreturn_t back_interrupt(int irq, void *data)
{
	struct back_queue *q = data;

	q->counters.interrupts++;
	napi_schedule_irqoff(&q->napi);
	return IRQ_HANDLED;
}

/* Start or stop receiving, with the interface. RTNL. */
void back_queue_run(struct back_queue *q, bool run)
{
	if (q->running == run)
		return;
	q->running = run;
	if (!run) {
		napi_disable(&q->napi);
		return;
	}
	napi_enable(&q->napi);
	local_bh_disable();
	napi_schedule(&q->napi);
	local_bh_enable();
}

static int make_ring(struct back_queue *q)
{
	u32 n = back_slot_pages * SLOTS_PER_PAGE;

	q->mask = n - 1;
	q->ring = (void *)get_zeroed_page(GFP_KERNEL);
	q->slots = alloc_pages_exact(back_slot_pages * PAGE_SIZE,
				     GFP_KERNEL | __GFP_ZERO);
	q->buffers = kvcalloc(n, sizeof(*q->buffers), GFP_KERNEL);
	if (!q->ring || !q->slots || !q->buffers)
		return -ENOMEM;
	return back_fill_ring(q);
}

static int make_channel(struct back_queue *q, domid_t sender)
{
	struct txcopy_create create = {
		.version = TXCOPY_VERSION,
		.sender = sender,
		.slot_pages = back_slot_pages,
	};
	u64 gfns[1 + TXCOPY_MAX_SLOT_PAGES];
	evtchn_port_t port;
	unsigned int i;
	int err;

	err = tx_alloc_port(sender, &port);
	if (err)
		return err;
	err = bind_evtchn_to_irqhandler(port, back_interrupt, 0,
					q->dev->name, q);
	if (err < 0) {
		tx_close_port(port);
		return err;
	}
	q->irq = err;

	gfns[0] = virt_to_gfn(q->ring);
	for (i = 0; i < back_slot_pages; i++)
		gfns[1 + i] = virt_to_gfn((void *)q->slots + i * PAGE_SIZE);
	create.ring_gfns = (unsigned long)gfns;
	create.port = port;
	err = txcopy_op(TXCOPY_CREATE, (unsigned long)&create, 0, 0);
	if (err)
		return err;
	q->channel = create.channel;
	q->created = true;
	/* Making the channel has cleared the header. After the slots. */
	virt_store_release(&q->ring->posted, q->posted);
	return 0;
}

/* Make the channel for a queue of the front end; q is zero. */
int back_queue_create(struct back_queue *q, struct tx_back *back,
		      unsigned int index)
{
	int err;

	q->dev = back->end.dev;
	q->index = index;
	netif_napi_add(back_napi_dev, &q->napi, back_poll);
	err = make_ring(q);
	if (!err)
		err = make_channel(q, back->end.peer);
	return err;
}

/*
 * End a channel, also a half-made one. What has been completed is still
 * delivered if the interface receives: the front end counts it as sent. RTNL.
 */
void back_queue_destroy(struct back_queue *q)
{
	unsigned int turns;

	if (!q->dev)
		return;
	if (q->created)
		txcopy_op(TXCOPY_DESTROY, q->channel, 0, 0);
	for (turns = 0; q->running && turns <= q->mask; turns++) {
		if (q->broken || READ_ONCE(q->ring->completed) == READ_ONCE(q->consumed))
			break;
		local_bh_disable();
		napi_schedule(&q->napi);
		local_bh_enable();
		cond_resched();
	}
	if (q->irq)
		unbind_from_irqhandler(q->irq, q);
	back_queue_run(q, false);
	netif_napi_del(&q->napi);

	back_empty_ring(q);
	kvfree(q->buffers);
	if (q->slots)
		free_pages_exact(q->slots, back_slot_pages * PAGE_SIZE);
	free_page((unsigned long)q->ring);
	q->dev = NULL;
}
