// SPDX-License-Identifier: GPL-2.0-or-later OR MIT
/*
 * The front end's data path: from an skb to a record in the batch page, and
 * from there by one hypercall into the back end's buffers.
 *
 * netfront's queues are not lockless: start_xmit runs under the lock of the
 * queue, which protects all that is here.
 */

#include <linux/skbuff.h>
#include <xen/page.h>

#include "front.h"

/* Bytes of the largest record. */
#define RECORD_MAX (sizeof(struct txcopy_packet) + \
		    TXCOPY_MAX_PIECES * sizeof(struct txcopy_piece))

static netdev_tx_t stock_xmit(struct front_queue *q, struct sk_buff *skb)
{
	return q->front->end.stock->ndo_start_xmit(skb, q->txq->dev);
}

static bool page_is_full(const struct front_queue *q)
{
	return q->used > PAGE_SIZE - RECORD_MAX;
}

static void set_piece(struct txcopy_piece *piece, phys_addr_t addr, u32 len)
{
	piece->addr = addr;
	piece->len = len;
	piece->pad = 0;
}

/* Describe skb, which has few enough pieces; returns the record's size. */
static unsigned int describe(struct txcopy_packet *packet,
			     const struct sk_buff *skb)
{
	struct txcopy_piece *piece = (struct txcopy_piece *)(packet + 1);
	const struct skb_shared_info *info = skb_shinfo(skb);
	unsigned int i, n = 0;

	packet->len = skb->len;
	packet->flags = 0;
	packet->csum_start = 0;
	packet->csum_offset = 0;
	packet->gso_size = 0;
	packet->gso_type = TXCOPY_GSO_NONE;
	packet->pad = 0;
	if (skb->ip_summed == CHECKSUM_PARTIAL) {
		packet->flags = TXCOPY_PACKET_CSUM_PARTIAL;
		packet->csum_start = skb_checksum_start_offset(skb);
		packet->csum_offset = skb->csum_offset;
		if (info->gso_size) {
			packet->gso_size = info->gso_size;
			packet->gso_type = info->gso_type & SKB_GSO_TCPV6 ?
					   TXCOPY_GSO_TCPV6 : TXCOPY_GSO_TCPV4;
		}
	} else if (skb->ip_summed == CHECKSUM_UNNECESSARY) {
		packet->flags = TXCOPY_PACKET_CSUM_VALID;
	}

	if (skb_headlen(skb))
		set_piece(&piece[n++], virt_to_phys(skb->data),
			  skb_headlen(skb));
	for (i = 0; i < info->nr_frags; i++) {
		const skb_frag_t *frag = &info->frags[i];

		if (skb_frag_size(frag))
			set_piece(&piece[n++], page_to_phys(skb_frag_page(frag)) +
				  skb_frag_off(frag), skb_frag_size(frag));
	}
	packet->pieces = n;
	return sizeof(*packet) + n * sizeof(*piece);
}

/* Take the first n packets out of the batch; their skbs are the caller's. */
static void forget(struct front_queue *q, unsigned int n)
{
	unsigned int i, bytes = 0;

	q->first_copied = false;
	q->count -= n;
	if (!q->count) {
		q->used = 0;
		return;
	}
	for (i = 0; i < n; i++)
		bytes += q->size[i];
	q->used -= bytes;
	memmove(q->page, (void *)q->page + bytes, q->used);
	memmove(q->skb, q->skb + n, q->count * sizeof(q->skb[0]));
	memmove(q->size, q->size + n, q->count * sizeof(q->size[0]));
}

static void drop_first(struct front_queue *q)
{
	struct sk_buff *skb = q->skb[0];

	forget(q, 1);
	q->counters.dropped++;
	dev_kfree_skb_any(skb);
}

/*
 * The hypervisor refused the first packet. It may lie in memory that is not
 * this domain's own, as that of a packet which is passed on from another vif:
 * a copy is ours. Should it be refused too, the packet is lost.
 */
static void mend_first(struct front_queue *q)
{
	struct sk_buff *copy = NULL;
	unsigned int size;

	if (!q->first_copied)
		copy = skb_copy(q->skb[0], GFP_ATOMIC | __GFP_NOWARN);
	if (!copy) {
		drop_first(q);
		return;
	}
	/* One piece: the record does not become larger. */
	size = sizeof(struct txcopy_packet) + sizeof(struct txcopy_piece);
	memmove((void *)q->page + size, (void *)q->page + q->size[0],
		q->used - q->size[0]);
	q->used -= q->size[0] - size;
	q->size[0] = describe(q->page, copy);
	dev_consume_skb_any(q->skb[0]);
	q->skb[0] = copy;
	q->first_copied = true;
	q->counters.copied++;
}

/* Give to netfront what the batch holds, in order, as far as it takes it. */
static void hand_to_stock(struct front_queue *q)
{
	while (q->count && !netif_tx_queue_stopped(q->txq)) {
		struct sk_buff *skb = q->skb[0];

		forget(q, 1);
		stock_xmit(q, skb);
	}
}

static void die(struct front_queue *q)
{
	q->dead = true;
	/* It was running or stopped by us: netfront's ring has room. */
	q->waiting = false;
	netif_tx_start_queue(q->txq);
	hand_to_stock(q);
	if (!netif_tx_queue_stopped(q->txq))
		netif_schedule_queue(q->txq);
	WRITE_ONCE(q->front->fallbacks, q->front->fallbacks + 1);
	WRITE_ONCE(q->front->dead, true);
	tx_end_look(&q->front->end, HZ);
}

static void send(struct front_queue *q)
{
	while (q->count) {
		long taken = txcopy_op(TXCOPY_SEND, q->handle, q->used,
				       TXCOPY_SEND_WANT_SPACE);

		q->counters.batches++;
		if (likely(taken > 0 && taken <= q->count)) {
			unsigned int i;

			q->counters.packets += taken;
			for (i = 0; i < taken; i++) {
				q->counters.bytes += q->skb[i]->len;
				dev_consume_skb_any(q->skb[i]);
			}
			forget(q, taken);
			continue;
		}
		switch (taken) {
		case -EAGAIN:
			q->counters.full++;
			q->waiting = true;
			netif_tx_stop_queue(q->txq);
			return;
		case -EFAULT:
		case -EINVAL:
			mend_first(q);
			break;
		case -EMSGSIZE:
			drop_first(q);
			break;
		default:
			die(q);
			return;
		}
	}
}

/* Can and may this packet be described? If not, it is lost, as with netfront. */
static bool acceptable(struct sk_buff *skb)
{
	const struct skb_shared_info *info = skb_shinfo(skb);

	if (unlikely(skb->len > TXCOPY_MAX_PACKET || !skb->len))
		return false;
	if (info->gso_size &&
	    (!(info->gso_type & (SKB_GSO_TCPV4 | SKB_GSO_TCPV6)) ||
	     skb->ip_summed != CHECKSUM_PARTIAL))
		return false;
	if (unlikely(info->frag_list || info->nr_frags >= TXCOPY_MAX_PIECES))
		return !skb_linearize(skb);
	return true;
}

netdev_tx_t front_start_xmit(struct sk_buff *skb, struct net_device *dev)
{
	const struct net_device_ops *ops = READ_ONCE(dev->netdev_ops);
	unsigned int index = skb_get_queue_mapping(skb);
	bool more = netdev_xmit_more();
	struct tx_front *front;
	struct front_set *set;
	struct front_queue *q;

	/* The caller may have read them before we gave the interface back. */
	if (unlikely(ops->ndo_start_xmit != front_start_xmit))
		return ops->ndo_start_xmit(skb, dev);
	front = container_of(ops, struct tx_front, end.ops);
	set = rcu_dereference_bh(front->set);
	if (!set || index >= set->count) {
		if (unlikely(READ_ONCE(front->hold)))
			return NETDEV_TX_BUSY;
		return front->end.stock->ndo_start_xmit(skb, dev);
	}
	q = &set->queue[index];
	if (unlikely(q->dead)) {
		hand_to_stock(q);
		return q->count ? NETDEV_TX_BUSY : stock_xmit(q, skb);
	}
	if (unlikely(page_is_full(q))) {
		/* It waits for room, but netfront has started the queue. */
		netif_tx_stop_queue(q->txq);
		return NETDEV_TX_BUSY;
	}

	if (likely(netif_carrier_ok(dev) && acceptable(skb))) {
		skb_tx_timestamp(skb);
		q->skb[q->count] = skb;
		q->size[q->count] = describe((void *)q->page + q->used, skb);
		q->used += q->size[q->count++];
	} else {
		q->counters.dropped++;
		dev_kfree_skb_any(skb);
	}
	if (!q->waiting && (!more || page_is_full(q)))
		send(q);
	return NETDEV_TX_OK;
}

static void room(struct tasklet_struct *tasklet)
{
	struct front_queue *q = from_tasklet(q, tasklet, room);

	__netif_tx_lock(q->txq, smp_processor_id());
	q->counters.space_events++;
	if (q->waiting && !q->dead) {
		q->waiting = false;
		send(q);
		if (!q->waiting && !q->dead && netif_running(q->txq->dev))
			netif_tx_wake_queue(q->txq);
	}
	__netif_tx_unlock(q->txq);
}

static irqreturn_t front_interrupt(int irq, void *data)
{
	struct front_queue *q = data;

	tasklet_schedule(&q->room);
	return IRQ_HANDLED;
}

/* Take up a channel for queue index; q is zero. */
int front_queue_attach(struct front_queue *q, struct tx_front *front,
		       unsigned int index, u32 channel)
{
	struct txcopy_attach attach = {
		.version = TXCOPY_VERSION,
		.receiver = front->end.peer,
		.channel = channel,
	};
	evtchn_port_t port;
	int err;

	q->front = front;
	q->txq = netdev_get_tx_queue(front->end.dev, index);
	q->page = (void *)get_zeroed_page(GFP_KERNEL);
	if (!q->page)
		return -ENOMEM;
	tasklet_setup(&q->room, room);

	err = tx_alloc_port(front->end.peer, &port);
	if (err)
		goto free_page;
	err = bind_evtchn_to_irqhandler(port, front_interrupt, 0,
					front->end.dev->name, q);
	if (err < 0) {
		tx_close_port(port);
		goto free_page;
	}
	q->irq = err;

	attach.port = port;
	attach.batch_gfn = virt_to_gfn(q->page);
	err = txcopy_op(TXCOPY_ATTACH, (unsigned long)&attach, 0, 0);
	if (err)
		goto unbind;
	q->handle = attach.handle;
	return 0;

unbind:
	unbind_from_irqhandler(q->irq, q);
free_page:
	free_page((unsigned long)q->page);
	q->page = NULL;
	return err;
}

/*
 * The set with q is no longer seen by start_xmit. Let out what q still holds:
 * over the channel, else to netfront, else (or with drop) not at all.
 */
void front_queue_settle(struct front_queue *q, bool drop)
{
	__netif_tx_lock_bh(q->txq);
	if (!drop && !q->dead) {
		q->waiting = false;
		netif_tx_start_queue(q->txq);
		send(q);
		/* No event will come any more. */
		if (q->waiting)
			netif_tx_start_queue(q->txq);
	}
	if (!drop)
		hand_to_stock(q);
	while (q->count)
		drop_first(q);
	q->dead = true;
	if (!drop && !netif_tx_queue_stopped(q->txq) &&
	    netif_running(q->txq->dev))
		netif_schedule_queue(q->txq);
	__netif_tx_unlock_bh(q->txq);
}

/* After settling. */
void front_queue_detach(struct front_queue *q)
{
	if (!q->page)
		return;
	unbind_from_irqhandler(q->irq, q);
	tasklet_kill(&q->room);
	txcopy_op(TXCOPY_DETACH, q->handle, 0, 0);
	free_page((unsigned long)q->page);
	q->page = NULL;
}
