// SPDX-License-Identifier: GPL-2.0-or-later OR MIT
/*
 * The front end of tx copy: sits between the network stack and xen-netfront,
 * and sends over a channel what would go through netfront's ring.
 *
 * It replaces the interface's net_device_ops, under RTNL, by a copy in which
 * start_xmit and get_stats64 are its own. What it cannot or may not do it
 * leaves to netfront, which stays loaded, connected and unchanged.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/module.h>
#include <linux/random.h>

#include "front.h"

/* An attachment that failed is tried again after this time. */
#define RETRY (5 * HZ)

static void add_counters(struct front_counters *sum,
			 const struct front_counters *c)
{
	sum->packets += READ_ONCE(c->packets);
	sum->bytes += READ_ONCE(c->bytes);
	sum->batches += READ_ONCE(c->batches);
	sum->full += READ_ONCE(c->full);
	sum->space_events += READ_ONCE(c->space_events);
	sum->copied += READ_ONCE(c->copied);
	sum->dropped += READ_ONCE(c->dropped);
}

static void total(struct tx_front *front, struct front_counters *sum)
{
	struct front_set *set;
	unsigned int i;

	rcu_read_lock();
	*sum = front->past;
	set = rcu_dereference(front->set);
	for (i = 0; set && i < set->count; i++)
		add_counters(sum, &set->queue[i].counters);
	rcu_read_unlock();
}

static void front_get_stats64(struct net_device *dev,
			      struct rtnl_link_stats64 *stats)
{
	const struct net_device_ops *ops = READ_ONCE(dev->netdev_ops);
	struct front_counters sum;
	struct tx_front *front;

	/* As in start_xmit: it may be netfront's again. */
	if (ops->ndo_get_stats64 != front_get_stats64) {
		ops->ndo_get_stats64(dev, stats);
		return;
	}
	front = container_of(ops, struct tx_front, end.ops);
	front->end.stock->ndo_get_stats64(dev, stats);
	total(front, &sum);
	stats->tx_packets += sum.packets;
	stats->tx_bytes += sum.bytes;
	stats->tx_dropped += sum.dropped;
}

#define FRONT_COUNTER(name)						\
static ssize_t name##_show(struct device *d,				\
			   struct device_attribute *attr, char *buf)	\
{									\
	struct front_counters sum;					\
									\
	total(front_of(to_net_dev(d)), &sum);				\
	return sysfs_emit(buf, "%llu\n", sum.name);			\
}									\
static DEVICE_ATTR_RO(name)

FRONT_COUNTER(packets);
FRONT_COUNTER(bytes);
FRONT_COUNTER(batches);
FRONT_COUNTER(full);
FRONT_COUNTER(space_events);
FRONT_COUNTER(copied);
FRONT_COUNTER(dropped);

static ssize_t fallbacks_show(struct device *d, struct device_attribute *attr,
			      char *buf)
{
	return sysfs_emit(buf, "%llu\n",
			  READ_ONCE(front_of(to_net_dev(d))->fallbacks));
}
static DEVICE_ATTR_RO(fallbacks);

static ssize_t queues_show(struct device *d, struct device_attribute *attr,
			   char *buf)
{
	struct front_set *set;
	unsigned int count;

	rcu_read_lock();
	set = rcu_dereference(front_of(to_net_dev(d))->set);
	count = set ? set->count : 0;
	rcu_read_unlock();
	return sysfs_emit(buf, "%u\n", count);
}
static DEVICE_ATTR_RO(queues);

static struct attribute *front_attrs[] = {
	&dev_attr_queues.attr,
	&dev_attr_packets.attr,
	&dev_attr_bytes.attr,
	&dev_attr_batches.attr,
	&dev_attr_full.attr,
	&dev_attr_space_events.attr,
	&dev_attr_copied.attr,
	&dev_attr_dropped.attr,
	&dev_attr_fallbacks.attr,
	NULL
};

static const struct attribute_group front_group = {
	.name = "xenolith_tx",
	.attrs = front_attrs,
};

/* Go back to netfront; with drop, the interface itself goes away. RTNL. */
static void detach(struct tx_front *front, bool drop)
{
	struct front_set *set = rtnl_dereference(front->set);
	unsigned int i;

	if (!set)
		return;
	rcu_assign_pointer(front->set, NULL);
	synchronize_net();
	for (i = 0; i < set->count; i++)
		front_queue_settle(&set->queue[i], drop);
	for (i = 0; i < set->count; i++) {
		front_queue_detach(&set->queue[i]);
		add_counters(&front->past, &set->queue[i].counters);
	}
	front->attached[0] = '\0';
	kvfree(set);
}

/*
 * What netfront has sent is with the back end only after a while: hold new
 * packets for that long, so that they do not overtake. At the end netfront's
 * ring must have room: if ever we go back to it, it is started without asking.
 */
static bool stock_has_drained(struct tx_front *front)
{
	unsigned int tries, i;

	for (tries = 0; tries < 10; tries++) {
		bool stopped = false;

		msleep(20);
		for (i = 0; i < front->end.dev->real_num_tx_queues; i++)
			stopped |= netif_tx_queue_stopped(netdev_get_tx_queue(front->end.dev, i));
		if (!stopped)
			return true;
	}
	return false;
}

/* Attach to all channels of an answer, or to none. RTNL. */
static int attach(struct tx_front *front, const u32 *channels,
		  unsigned int count)
{
	struct front_set *set;
	unsigned int i;
	int err = 0;

	set = kvzalloc(struct_size(set, queue, count), GFP_KERNEL);
	if (!set)
		return -ENOMEM;
	set->count = count;
	for (i = 0; i < count && !err; i++)
		err = front_queue_attach(&set->queue[i], front, i, channels[i]);
	if (!err) {
		WRITE_ONCE(front->hold, true);
		synchronize_net();
		if (netif_running(front->end.dev) && !stock_has_drained(front))
			err = -EBUSY;
		if (!err)
			rcu_assign_pointer(front->set, set);
		WRITE_ONCE(front->hold, false);
		netif_tx_schedule_all(front->end.dev);
	}
	if (err) {
		for (i = 0; i < count; i++)
			front_queue_detach(&set->queue[i]);
		kvfree(set);
	}
	return err;
}

/* Read the answer to our request; returns how many channels it names. */
static unsigned int read_answer(struct tx_front *front, char *answer,
				u32 *channels)
{
	unsigned int len, version, serial, count = 0;
	char *node, *next;
	int used;

	answer[0] = '\0';
	node = xenbus_read(XBT_NIL, front->end.otherend, TX_CHANNELS, &len);
	if (IS_ERR(node))
		return 0;
	if (strscpy(answer, node, TX_ANSWER_SIZE) < 0)
		answer[0] = '\0';
	kfree(node);
	if (sscanf(answer, "%u %u%n", &version, &serial, &used) != 2 ||
	    version != TXCOPY_VERSION || serial != front->serial)
		return 0;
	for (next = answer + used; count < TX_MAX_QUEUES; next += used) {
		if (sscanf(next, "%u%n", &channels[count], &used) != 1)
			break;
		count++;
	}
	return count;
}

static void request(struct tx_front *front)
{
	char line[40];
	unsigned int queues;

	rtnl_lock();
	queues = front->end.dev ? front->end.dev->real_num_tx_queues : 0;
	rtnl_unlock();
	if (!queues || queues > TX_MAX_QUEUES)
		return;
	snprintf(line, sizeof(line), "%u %u %u", TXCOPY_VERSION,
		 ++front->serial, queues);
	front->requested = !tx_publish(front->end.vif->nodename, TX_REQUEST, line);
}

static void negotiate(struct tx_end *end)
{
	struct tx_front *front = container_of(end, struct tx_front, end);
	char answer[TX_ANSWER_SIZE];
	u32 channels[TX_MAX_QUEUES];
	unsigned int count;

	if (!front->requested)
		request(front);
	if (!front->requested)
		return;
	count = read_answer(front, answer, channels);

	rtnl_lock();
	if (!front->end.dev)
		goto out;
	if (READ_ONCE(front->dead)) {
		/* Ask anew: the old answer may still stand there. */
		WRITE_ONCE(front->dead, false);
		detach(front, false);
		front->requested = false;
		tx_end_look(end, 0);
		goto out;
	}
	if (rtnl_dereference(front->set)) {
		if (count && !strcmp(answer, front->attached))
			goto out;
		front->fallbacks++;
		netdev_info(front->end.dev, "tx copy ended, sending by xen-netfront\n");
		detach(front, false);
	}
	if (!count)
		goto out;
	if (count == front->end.dev->real_num_tx_queues &&
	    !attach(front, channels, count)) {
		strscpy(front->attached, answer, sizeof(front->attached));
		netdev_info(front->end.dev, "sending by tx copy, %u queue(s)\n", count);
	} else {
		front->requested = false;
		tx_end_look(end, RETRY);
	}
out:
	rtnl_unlock();
}

static struct tx_side front_side = {
	.counters = &front_group,
	.negotiate = negotiate,
};

static void take_up(struct net_device *dev)
{
	struct xenbus_device *vif = tx_vif(dev, "xen");
	struct tx_front *front;

	if (!vif || !vif->otherend || !dev->netdev_ops->ndo_get_stats64)
		return;
	front = kzalloc(sizeof(*front), GFP_KERNEL);
	if (!front)
		return;
	front->serial = get_random_u32();
	front->end.ops = *dev->netdev_ops;
	front->end.ops.ndo_start_xmit = front_start_xmit;
	front->end.ops.ndo_get_stats64 = front_get_stats64;
	tx_end_take_up(&front->end, &front_side, vif, dev);
}

static void let_go(struct net_device *dev)
{
	struct tx_front *front = front_of(dev);

	detach(front, dev->reg_state != NETREG_REGISTERED);
	tx_end_let_go(&front->end);
}

static int front_event(struct notifier_block *nb, unsigned long event,
		       void *data)
{
	struct net_device *dev = netdev_notifier_info_to_dev(data);
	bool ours = dev->netdev_ops->ndo_start_xmit == front_start_xmit;

	if (event == NETDEV_REGISTER && !ours)
		take_up(dev);
	else if (event == NETDEV_UNREGISTER && ours)
		let_go(dev);
	return NOTIFY_DONE;
}

static struct notifier_block front_notifier = {
	.notifier_call = front_event,
};

static int __init front_init(void)
{
	if (tx_copy_offered())
		return tx_side_start(&front_side, &front_notifier);
	pr_info("no tx copy here, xen-netfront sends\n");
	return 0;
}
module_init(front_init);

static void __exit front_exit(void)
{
	if (front_side.wq)
		tx_side_stop(&front_side, &front_notifier);
}
module_exit(front_exit);

MODULE_DESCRIPTION("Xenolith tx copy, the sending end");
MODULE_LICENSE("Dual MIT/GPL");
