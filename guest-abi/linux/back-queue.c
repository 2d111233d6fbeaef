// SPDX-License-Identifier: GPL-2.0-or-later OR MIT
/*
 * The back end's data path: from completed slots of the ring to packets that
 * enter the stack on the vif, built on the posted buffers themselves.
 *
 * Only the hypervisor writes to the ring beside us, but what a packet holds
 * and what its metadata says is the sender's word: nothing of it is believed
 * unchecked. The frames are ours alone once their slots are completed.
 */

#include <linux/etherdevice.h>
#include <linux/if_vlan.h>
#include <linux/virtio_net.h>
#include <net/page_pool/helpers.h>
#include <xen/page.h>

#include "back.h"

/* Before a packet: room for the headers of what it is forwarded to. */
#define HEADROOM	(NET_SKB_PAD + NET_IP_ALIGN)
/* Of a page that is a posted buffer. */
#define BUFFER_SIZE	(SKB_WITH_OVERHEAD(PAGE_SIZE) - HEADROOM)
/*
 * Up to this length a packet is copied out of its buffer: an skb of its own
 * size instead of a page keeps a socket's memory for many small packets, and
 * the buffer is posted again at once. netback does the same with its first 128.
 */
#define COPYBREAK	256

/* What a packet of up to half a page is charged for. */
#define HALF_PAGE_TRUESIZE SKB_TRUESIZE(SKB_WITH_OVERHEAD(PAGE_SIZE / 2))

static void post(struct back_queue *q, struct page *page)
{
	u32 i = q->posted++ & q->mask;
	struct txcopy_slot *slot = &q->slots[i];

	q->pages[i] = page;
	slot->addr = pfn_to_gfn(page_to_pfn(page)) * (u64)XEN_PAGE_SIZE + HEADROOM;
	slot->size = BUFFER_SIZE;
}

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

/* What the sender said of the packet, in the words of virtio, whose checks apply. */
static bool apply_metadata(struct sk_buff *skb, const struct txcopy_slot *slot)
{
	struct virtio_net_hdr hdr = { };
	u16 flags = slot->flags;

	if (flags & TXCOPY_PACKET_CSUM_PARTIAL) {
		hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		hdr.csum_start = (__force __virtio16)cpu_to_le16(slot->csum_start);
		hdr.csum_offset = (__force __virtio16)cpu_to_le16(slot->csum_offset);
		if ((u32)slot->csum_start + slot->csum_offset + 2 > skb->len)
			return false;
	} else if (flags & TXCOPY_PACKET_CSUM_VALID) {
		skb->ip_summed = CHECKSUM_UNNECESSARY;
	}
	switch (slot->gso_type) {
	case TXCOPY_GSO_NONE:
		hdr.gso_type = VIRTIO_NET_HDR_GSO_NONE;
		break;
	case TXCOPY_GSO_TCPV4:
		hdr.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
		break;
	case TXCOPY_GSO_TCPV6:
		hdr.gso_type = VIRTIO_NET_HDR_GSO_TCPV6;
		break;
	default:
		return false;
	}
	if (hdr.gso_type && !(flags & TXCOPY_PACKET_CSUM_PARTIAL))
		return false;
	hdr.gso_size = (__force __virtio16)cpu_to_le16(slot->gso_size);
	return !virtio_net_hdr_to_skb(skb, &hdr, true);
}

/*
 * The buffer of a completed slot, with a new one posted in its place; NULL if
 * there is no memory for that: then the old one is posted again.
 */
static struct page *take_buffer(struct back_queue *q)
{
	struct page *page = q->pages[q->consumed++ & q->mask];
	struct page *fresh = page_pool_dev_alloc_pages(q->pool);

	post(q, fresh ? fresh : page);
	return fresh ? page : NULL;
}

static void repost(struct back_queue *q, u32 n)
{
	while (n--)
		post(q, q->pages[q->consumed++ & q->mask]);
}

static struct sk_buff *small_packet(struct back_queue *q, u32 len)
{
	struct page *page = q->pages[q->consumed & q->mask];
	struct sk_buff *skb = napi_alloc_skb(&q->napi, len);

	if (skb)
		skb_put_data(skb, page_address(page) + HEADROOM, len);
	repost(q, 1);
	return skb;
}

/* The packet in the next n slots: the first is its head, the others frags. */
static struct sk_buff *large_packet(struct back_queue *q, u32 n, u32 total)
{
	u32 len = min_t(u32, q->slots[q->consumed & q->mask].len, BUFFER_SIZE);
	struct page *page = take_buffer(q);
	struct sk_buff *skb;
	u32 i;

	if (!page) {
		repost(q, n - 1);
		return NULL;
	}
	skb = napi_build_skb(page_address(page), PAGE_SIZE);
	if (!skb) {
		page_pool_recycle_direct(q->pool, page);
		repost(q, n - 1);
		return NULL;
	}
	skb_mark_for_recycle(skb);
	skb_reserve(skb, HEADROOM);
	skb_put(skb, len);
	for (i = 1; i < n; i++) {
		len = min_t(u32, q->slots[q->consumed & q->mask].len, BUFFER_SIZE);
		page = i <= MAX_SKB_FRAGS ? take_buffer(q) : NULL;
		if (!page) {
			/* take_buffer has consumed the slot, if it was called. */
			repost(q, n - i - (i <= MAX_SKB_FRAGS));
			dev_kfree_skb_any(skb);
			return NULL;
		}
		skb_add_rx_frag(skb, i - 1, page, HEADROOM, len, PAGE_SIZE);
	}
	if (skb->len != total) {
		dev_kfree_skb_any(skb);
		return NULL;
	}
	/*
	 * A frame of the usual size fills not half of its page. Charged for all
	 * of it, a socket would hold 48 of them, fewer than come at once while
	 * its reader waits for the CPU; netback charges no more than the bytes.
	 */
	if (n == 1 && skb->truesize > HALF_PAGE_TRUESIZE &&
	    len <= PAGE_SIZE / 2)
		skb->truesize = HALF_PAGE_TRUESIZE;
	return skb;
}

static void receive(struct back_queue *q, u32 n)
{
	/* By value: posting a buffer reuses the slot. */
	struct txcopy_slot first = q->slots[q->consumed & q->mask];
	struct sk_buff *skb;

	q->counters.slots += n;
	if (!first.len) {
		repost(q, n);
		return;
	}
	if (n == 1 && first.len <= COPYBREAK)
		skb = small_packet(q, first.len);
	else
		skb = large_packet(q, n, first.total);
	if (!skb) {
		q->counters.dropped++;
		return;
	}
	if (skb->len < ETH_HLEN || !apply_metadata(skb, &first)) {
		q->counters.dropped++;
		dev_kfree_skb_any(skb);
		return;
	}
	skb->protocol = eth_type_trans(skb, q->dev);
	skb_record_rx_queue(skb, q->index);
	q->counters.packets++;
	q->counters.bytes += skb->len;
	napi_gro_receive(&q->napi, skb);
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
		receive(q, n);
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
	struct page_pool_params params = {
		.pool_size = back_slot_pages * SLOTS_PER_PAGE,
		.nid = NUMA_NO_NODE,
		.napi = &q->napi,
	};
	u32 n = params.pool_size;

	q->mask = n - 1;
	q->ring = (void *)get_zeroed_page(GFP_KERNEL);
	q->slots = alloc_pages_exact(back_slot_pages * PAGE_SIZE,
				     GFP_KERNEL | __GFP_ZERO);
	q->pages = kvcalloc(n, sizeof(*q->pages), GFP_KERNEL);
	if (!q->ring || !q->slots || !q->pages)
		return -ENOMEM;
	q->pool = page_pool_create(&params);
	if (IS_ERR(q->pool)) {
		int err = PTR_ERR(q->pool);

		q->pool = NULL;
		return err;
	}
	while (n--) {
		struct page *page = page_pool_alloc_pages(q->pool, GFP_KERNEL);

		if (!page)
			return -ENOMEM;
		post(q, page);
	}
	return 0;
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
		xen_evtchn_close(port);
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

	q->dev = back->dev;
	q->index = index;
	netif_napi_add(back_napi_dev, &q->napi, back_poll);
	err = make_ring(q);
	if (!err)
		err = make_channel(q, back->peer);
	return err;
}

/*
 * End a channel, also a half-made one. What has been completed is still
 * delivered if the interface receives: the front end counts it as sent. RTNL.
 */
void back_queue_destroy(struct back_queue *q)
{
	unsigned int i, turns;

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

	if (q->pool) {
		for (i = 0; i <= q->mask; i++)
			if (q->pages[i])
				page_pool_put_full_page(q->pool, q->pages[i], false);
		/* Waits by itself for pages that are still in packets. */
		page_pool_destroy(q->pool);
	}
	kvfree(q->pages);
	if (q->slots)
		free_pages_exact(q->slots, back_slot_pages * PAGE_SIZE);
	free_page((unsigned long)q->ring);
	q->dev = NULL;
}
