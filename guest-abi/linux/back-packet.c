// SPDX-License-Identifier: GPL-2.0-or-later OR MIT
/*
 * The back end's buffers, and the packets that are built on them.
 *
 * Buffers are parts of the pool's larger pages, posted in the order in which
 * they lie there. What traffic needs decides their kind:
 *
 * - whole pages, while large packets come: pages that follow each other become
 *   one frag, so that 64 KiB are three or four of them instead of 17;
 * - half pages, otherwise: a frame of the usual size becomes an skb where it
 *   lies, and a socket that is charged for half a page has only that.
 *
 * Only the hypervisor writes to the ring beside us, but what a packet holds
 * and what its metadata says is the sender's word: nothing of it is believed
 * unchecked. The memory is ours alone once its slot is completed.
 */

#include <linux/etherdevice.h>
#include <linux/if_vlan.h>
#include <linux/tcp.h>
#include <linux/virtio_net.h>
#include <net/page_pool/helpers.h>

#include "back.h"

/* Of the pool's pages. */
#define ORDER		PAGE_ALLOC_COSTLY_ORDER
#define CHUNK_SIZE	(PAGE_SIZE << ORDER)
/* Pages that the pool keeps for later: more than a burst of large packets needs. */
#define POOL_SIZE	64
#define HALF_PAGE	(PAGE_SIZE / 2)
/* Before a packet in half a page: room for headers of what it is forwarded to. */
#define HEADROOM	NET_SKB_PAD
/* The longest packet that becomes an skb in half a page. */
#define IN_PLACE	(SKB_WITH_OVERHEAD(HALF_PAGE) - HEADROOM)
/*
 * Up to this length a packet is copied out of its buffer: an skb of its own
 * size instead of a page keeps a socket's memory for many small packets, and
 * the buffer is posted again at once. netback does the same with its first 128.
 */
#define COPYBREAK	256
/* Headers copied to the head of an skb whose rest are frags, at most. */
#define HEAD_SIZE	256
/* The same, if nothing is known of the headers. */
#define HEAD_GUESS	128

static void post(struct back_queue *q, const struct back_buffer *buffer)
{
	u32 i = q->posted++ & q->mask;
	struct txcopy_slot *slot = &q->slots[i];

	q->buffers[i] = *buffer;
	slot->addr = pfn_to_gfn(page_to_pfn(buffer->page)) * (u64)XEN_PAGE_SIZE +
		     buffer->offset;
	slot->size = buffer->size;
}

/* The pool's page from which parts are taken now. Each part is a reference. */
static bool get_chunk(struct back_queue *q, gfp_t gfp)
{
	struct page *page = page_pool_alloc_pages(q->pool, gfp);

	if (!page)
		return false;
	page_pool_fragment_page(page, CHUNK_SIZE / HALF_PAGE);
	q->chunk = page;
	q->chunk_used = 0;
	return true;
}

static void put_parts(struct back_queue *q, struct page *page, u32 parts)
{
	if (parts && !page_pool_unref_page(page, parts))
		page_pool_put_unrefed_page(q->pool, page, -1, false);
}

static bool get_buffer(struct back_queue *q, struct back_buffer *buffer,
		       gfp_t gfp)
{
	gfp |= __GFP_NOWARN;
	buffer->size = HALF_PAGE;
	buffer->pooled = q->chunk_used < CHUNK_SIZE || get_chunk(q, gfp);
	if (likely(buffer->pooled)) {
		buffer->page = q->chunk;
		buffer->offset = q->chunk_used;
		/* Whole pages for one round of the ring after a large packet. */
		if (!(buffer->offset % PAGE_SIZE) &&
		    q->consumed - q->large <= q->mask)
			buffer->size = PAGE_SIZE;
		buffer->parts = buffer->size / HALF_PAGE;
		q->chunk_used += buffer->size;
	} else {
		/* Memory may be too fragmented for the pool. */
		buffer->page = alloc_page(gfp);
		buffer->offset = 0;
		buffer->parts = PAGE_SIZE / HALF_PAGE;
	}
	if (buffer->size == HALF_PAGE) {
		buffer->offset += HEADROOM;
		buffer->size -= HEADROOM;
	}
	return buffer->page;
}

static void put_buffer(struct back_queue *q, const struct back_buffer *buffer)
{
	if (buffer->pooled)
		put_parts(q, buffer->page, buffer->parts);
	else
		put_page(buffer->page);
}

static void *address(const struct back_buffer *buffer)
{
	return page_address(buffer->page) + buffer->offset;
}

/*
 * Take the buffer of the next slot, and post a new one. If there is no memory
 * for that, the old one is posted again and nothing taken; the slot is consumed
 * in any case.
 */
static bool take_buffer(struct back_queue *q, struct back_buffer *buffer)
{
	struct back_buffer fresh;
	bool taken;

	*buffer = q->buffers[q->consumed++ & q->mask];
	taken = get_buffer(q, &fresh, GFP_ATOMIC);
	post(q, taken ? &fresh : buffer);
	return taken;
}

static void repost(struct back_queue *q, u32 n)
{
	while (n--) {
		struct back_buffer buffer = q->buffers[q->consumed++ & q->mask];

		post(q, &buffer);
	}
}

static struct sk_buff *copy_packet(struct back_queue *q, u32 len)
{
	struct sk_buff *skb = napi_alloc_skb(&q->napi, len);

	if (skb)
		skb_put_data(skb, address(&q->buffers[q->consumed & q->mask]), len);
	repost(q, 1);
	return skb;
}

static struct sk_buff *packet_in_place(struct back_queue *q, u32 len)
{
	struct back_buffer buffer;
	struct sk_buff *skb;

	if (!take_buffer(q, &buffer))
		return NULL;
	skb = napi_build_skb(address(&buffer) - HEADROOM, HALF_PAGE);
	if (!skb) {
		put_buffer(q, &buffer);
		return NULL;
	}
	skb_mark_for_recycle(skb);
	skb_reserve(skb, HEADROOM);
	skb_put(skb, len);
	return skb;
}

/* The headers' length, as far as the metadata tells of it: a hint, no more. */
static u32 headers(const u8 *data, u32 len, const struct txcopy_slot *slot)
{
	u32 start = slot->csum_start, size = HEAD_GUESS;

	if (slot->flags & TXCOPY_PACKET_CSUM_PARTIAL) {
		size = start + slot->csum_offset + sizeof(__sum16);
		if (slot->csum_offset == offsetof(struct tcphdr, check) &&
		    size <= len)
			size = max(size, start + (data[start + 12] >> 4) * 4);
	}
	return min3(size, len, (u32)HEAD_SIZE);
}

/*
 * Put what is used of a buffer, or of several that lie beside each other, at the
 * end of a packet, whose last part is *last: head itself, or with too many frags
 * for one skb the end of its frag_list.
 */
static bool append(struct back_queue *q, struct sk_buff *head,
		   struct sk_buff **last, const struct back_buffer *buffer)
{
	u32 n = skb_shinfo(*last)->nr_frags;
	u32 truesize = buffer->parts * HALF_PAGE;

	if (!buffer->size) {
		put_buffer(q, buffer);
		return true;
	}
	if (unlikely(n == MAX_SKB_FRAGS)) {
		struct sk_buff *next = alloc_skb(0, GFP_ATOMIC | __GFP_NOWARN);

		if (!next)
			return false;
		skb_mark_for_recycle(next);
		if (*last == head)
			skb_shinfo(head)->frag_list = next;
		else
			(*last)->next = next;
		head->truesize += next->truesize;
		*last = next;
		n = 0;
	}
	skb_add_rx_frag(*last, n, buffer->page, buffer->offset, buffer->size,
			truesize);
	if (unlikely(*last != head)) {
		head->len += buffer->size;
		head->data_len += buffer->size;
		head->truesize += truesize;
	}
	/* A frag is one reference. */
	if (buffer->pooled && buffer->parts > 1)
		page_pool_unref_page(buffer->page, buffer->parts - 1);
	return true;
}

/* The packet in the next n slots: the headers in its head, the rest as frags. */
static struct sk_buff *packet_of_frags(struct back_queue *q, u32 n,
				       const struct txcopy_slot *first)
{
	struct sk_buff *head = napi_alloc_skb(&q->napi, HEAD_SIZE);
	struct sk_buff *last = head;
	struct back_buffer run = { };

	if (!head)
		goto drop;
	skb_mark_for_recycle(head);
	while (n) {
		u32 len = q->slots[q->consumed & q->mask].len;
		struct back_buffer buffer;

		n--;
		if (!take_buffer(q, &buffer))
			goto drop;
		buffer.size = min(len, buffer.size);
		if (run.page == buffer.page &&
		    run.offset + run.size == buffer.offset) {
			run.size += buffer.size;
			run.parts += buffer.parts;
			continue;
		}
		if (!run.page) {
			u32 size = headers(address(&buffer), buffer.size, first);

			skb_put_data(head, address(&buffer), size);
			buffer.offset += size;
			buffer.size -= size;
		} else if (!append(q, head, &last, &run)) {
			put_buffer(q, &buffer);
			goto drop;
		}
		run = buffer;
	}
	if (!append(q, head, &last, &run))
		goto drop;
	if (likely(head->len == first->total))
		return head;
	run.page = NULL;
drop:
	if (run.page)
		put_buffer(q, &run);
	repost(q, n);
	dev_kfree_skb_any(head);
	return NULL;
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

/* Give the packet in the next n slots to the network stack. */
void back_receive(struct back_queue *q, u32 n)
{
	/* By value: posting a buffer reuses the slot. */
	struct txcopy_slot first = q->slots[q->consumed & q->mask];
	const struct back_buffer *buffer = &q->buffers[q->consumed & q->mask];
	struct sk_buff *skb;

	q->counters.slots += n;
	if (!first.len) {
		repost(q, n);
		return;
	}
	if (n > 1 || first.len > IN_PLACE)
		q->large = q->consumed;
	if (n == 1 && first.len <= COPYBREAK)
		skb = copy_packet(q, first.len);
	else if (n == 1 && first.len <= IN_PLACE && buffer->parts == 1)
		skb = packet_in_place(q, first.len);
	else
		skb = packet_of_frags(q, n, &first);
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

/* Make the pool, and post a buffer in each slot. */
int back_fill_ring(struct back_queue *q)
{
	struct page_pool_params params = {
		.order = ORDER,
		.pool_size = POOL_SIZE,
		.nid = NUMA_NO_NODE,
		.napi = &q->napi,
	};
	struct back_buffer buffer;

	/* Long ago. */
	q->large = q->consumed - q->mask - 1;
	q->chunk_used = CHUNK_SIZE;
	q->pool = page_pool_create(&params);
	if (IS_ERR(q->pool)) {
		int err = PTR_ERR(q->pool);

		q->pool = NULL;
		return err;
	}
	while (q->posted <= q->mask) {
		if (!get_buffer(q, &buffer, GFP_KERNEL))
			return -ENOMEM;
		post(q, &buffer);
	}
	return 0;
}

void back_empty_ring(struct back_queue *q)
{
	u32 i;

	if (!q->pool)
		return;
	for (i = 0; i <= q->mask; i++)
		if (q->buffers[i].page)
			put_buffer(q, &q->buffers[i]);
	put_parts(q, q->chunk, (CHUNK_SIZE - q->chunk_used) / HALF_PAGE);
	/* Waits by itself for pages that are still in packets. */
	page_pool_destroy(q->pool);
	q->pool = NULL;
}
