// SPDX-License-Identifier: GPL-2.0-or-later OR MIT
/*
 * The back end of tx copy: beside xen-netback it receives, on the vif's own
 * interface, what the front end sends over a channel.
 *
 * A channel is made when the front end asks for one and ends when the front
 * end takes its request back, when the vif goes, or when this module does.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/log2.h>
#include <linux/module.h>
#include <linux/net.h>

#include "back.h"

/* A front end gets new channels no more often than this. */
#define PAUSE (HZ / 5)

unsigned int back_slot_pages = 2;
module_param_named(slot_pages, back_slot_pages, uint, 0444);
MODULE_PARM_DESC(slot_pages, "pages of slots of a ring, 128 buffers each; a power of two up to 32");

struct net_device *back_napi_dev;

/* With RTNL, or in sysfs: while the operations are ours for certain. */
static struct tx_back *back_of(struct net_device *dev)
{
	return container_of(dev->netdev_ops, struct tx_back, end.ops);
}

static void add_counters(struct back_counters *sum,
			 const struct back_counters *c)
{
	sum->packets += READ_ONCE(c->packets);
	sum->bytes += READ_ONCE(c->bytes);
	sum->slots += READ_ONCE(c->slots);
	sum->dropped += READ_ONCE(c->dropped);
	sum->interrupts += READ_ONCE(c->interrupts);
	sum->polls += READ_ONCE(c->polls);
	sum->posted_calls += READ_ONCE(c->posted_calls);
}

static void total(struct tx_back *back, struct back_counters *sum)
{
	struct back_set *set;
	unsigned int i;

	rcu_read_lock();
	*sum = back->past;
	set = rcu_dereference(back->set);
	for (i = 0; set && i < set->count; i++)
		add_counters(sum, &set->queue[i].counters);
	rcu_read_unlock();
}

static void back_get_stats64(struct net_device *dev,
			     struct rtnl_link_stats64 *stats)
{
	const struct net_device_ops *ops = READ_ONCE(dev->netdev_ops);
	const struct net_device_ops *stock = ops;
	struct back_counters sum = { };

	/* The caller may have read them before we gave the interface back. */
	if (ops->ndo_get_stats64 == back_get_stats64) {
		struct tx_back *back = container_of(ops, struct tx_back, end.ops);

		stock = back->end.stock;
		total(back, &sum);
	}
	if (stock->ndo_get_stats64)
		stock->ndo_get_stats64(dev, stats);
	else
		netdev_stats_to_stats64(stats, stock->ndo_get_stats(dev));
	stats->rx_packets += sum.packets;
	stats->rx_bytes += sum.bytes;
	stats->rx_dropped += sum.dropped;
}

#define BACK_COUNTER(name)						\
static ssize_t name##_show(struct device *d,				\
			   struct device_attribute *attr, char *buf)	\
{									\
	struct back_counters sum;					\
									\
	total(back_of(to_net_dev(d)), &sum);				\
	return sysfs_emit(buf, "%llu\n", sum.name);			\
}									\
static DEVICE_ATTR_RO(name)

BACK_COUNTER(packets);
BACK_COUNTER(bytes);
BACK_COUNTER(slots);
BACK_COUNTER(dropped);
BACK_COUNTER(interrupts);
BACK_COUNTER(polls);
BACK_COUNTER(posted_calls);

/* A line for each queue: what the hypervisor counts. */
static ssize_t channels_show(struct device *d, struct device_attribute *attr,
			     char *buf)
{
	struct back_set *set;
	unsigned int i;
	int len = 0;

	rcu_read_lock();
	set = rcu_dereference(back_of(to_net_dev(d))->set);
	for (i = 0; set && i < set->count; i++) {
		struct txcopy_stats s = { .channel = set->queue[i].channel };

		if (txcopy_op(TXCOPY_STATS, (unsigned long)&s, 0, 0))
			continue;
		len += sysfs_emit_at(buf, len,
				     "channel %u attached %u packets %llu bytes %llu batches %llu full %llu notified %llu suppressed %llu refused %llu unusable %llu woken %llu\n",
				     s.channel, s.attached, s.packets, s.bytes,
				     s.batches, s.full, s.notified,
				     s.suppressed, s.refused, s.unusable,
				     s.woken);
	}
	rcu_read_unlock();
	return len;
}
static DEVICE_ATTR_RO(channels);

static struct attribute *back_attrs[] = {
	&dev_attr_channels.attr,
	&dev_attr_packets.attr,
	&dev_attr_bytes.attr,
	&dev_attr_slots.attr,
	&dev_attr_dropped.attr,
	&dev_attr_interrupts.attr,
	&dev_attr_polls.attr,
	&dev_attr_posted_calls.attr,
	NULL
};

static const struct attribute_group back_group = {
	.name = "xenolith_tx",
	.attrs = back_attrs,
};

/* End the channels. RTNL. */
static void close_channels(struct tx_back *back)
{
	struct back_set *set = rtnl_dereference(back->set);
	unsigned int i;

	if (!set)
		return;
	rcu_assign_pointer(back->set, NULL);
	for (i = 0; i < set->count; i++)
		back_queue_destroy(&set->queue[i]);
	synchronize_net();
	for (i = 0; i < set->count; i++)
		add_counters(&back->past, &set->queue[i].counters);
	kvfree(set);
}

/* Make a channel for each queue, or none. RTNL. */
static int open_channels(struct tx_back *back, unsigned int count)
{
	struct back_set *set;
	unsigned int i;
	int err = 0;

	set = kvzalloc(struct_size(set, queue, count), GFP_KERNEL);
	if (!set)
		return -ENOMEM;
	set->count = count;
	for (i = 0; i < count && !err; i++)
		err = back_queue_create(&set->queue[i], back, i);
	if (err) {
		for (i = 0; i < count; i++)
			back_queue_destroy(&set->queue[i]);
		kvfree(set);
		return err;
	}
	rcu_assign_pointer(back->set, set);
	if (netif_running(back->end.dev))
		for (i = 0; i < count; i++)
			back_queue_run(&set->queue[i], true);
	return 0;
}

/* What the front end asks for; false if that is nothing we can serve. */
static bool read_request(struct tx_back *back, u32 *serial, unsigned int *queues)
{
	unsigned int version;

	return xenbus_scanf(XBT_NIL, back->end.otherend, TX_REQUEST, "%u %u %u",
			    &version, serial, queues) == 3 &&
	       version == TXCOPY_VERSION && *queues &&
	       *queues <= TX_MAX_QUEUES &&
	       /* netback's traffic shaping does not see what we receive. */
	       xenbus_exists(XBT_NIL, back->end.vif->nodename, "rate") != 1;
}

static void negotiate(struct tx_end *end)
{
	struct tx_back *back = container_of(end, struct tx_back, end);
	char answer[TX_ANSWER_SIZE];
	unsigned int queues, i;
	struct back_set *set;
	bool wanted, open;
	int err = 0, len;
	u32 serial;

	wanted = read_request(back, &serial, &queues);

	rtnl_lock();
	open = rtnl_dereference(back->set);
	rtnl_unlock();
	if (open && wanted && serial == back->serial)
		return;
	if (open) {
		/* The front end first, so that it asks for no more. */
		xenbus_rm(XBT_NIL, back->end.vif->nodename, TX_DIR);
		rtnl_lock();
		close_channels(back);
		rtnl_unlock();
	}
	if (!wanted)
		return;
	if (time_before(jiffies, back->made + PAUSE)) {
		tx_end_look(end, PAUSE);
		return;
	}
	back->made = jiffies;

	rtnl_lock();
	if (!back->end.dev) {
		rtnl_unlock();
		return;
	}
	/* As many as netback would serve. */
	err = queues <= back->end.dev->num_tx_queues ?
	      open_channels(back, queues) : -EINVAL;
	if (err) {
		if (net_ratelimit())
			netdev_warn(back->end.dev, "no tx copy channels: %d\n",
				    err);
		rtnl_unlock();
		return;
	}
	back->serial = serial;
	set = rtnl_dereference(back->set);
	len = scnprintf(answer, sizeof(answer), "%u %u", TXCOPY_VERSION, serial);
	for (i = 0; i < queues; i++)
		len += scnprintf(answer + len, sizeof(answer) - len, " %u",
				 set->queue[i].channel);
	rtnl_unlock();
	tx_publish(back->end.vif->nodename, TX_CHANNELS, answer);
}

static struct tx_side back_side = {
	.counters = &back_group,
	.negotiate = negotiate,
};

static void take_up(struct net_device *dev)
{
	struct xenbus_device *vif = tx_vif(dev, "xen-backend");
	struct tx_back *back;

	if (!vif || !vif->otherend ||
	    !(dev->netdev_ops->ndo_get_stats64 || dev->netdev_ops->ndo_get_stats))
		return;
	back = kzalloc(sizeof(*back), GFP_KERNEL);
	if (!back)
		return;
	back->made = jiffies - PAUSE;
	back->end.ops = *dev->netdev_ops;
	back->end.ops.ndo_get_stats64 = back_get_stats64;
	tx_end_take_up(&back->end, &back_side, vif, dev);
}

static void let_go(struct net_device *dev)
{
	struct tx_back *back = back_of(dev);

	close_channels(back);
	tx_end_let_go(&back->end);
}

static void run(struct net_device *dev, bool run)
{
	struct back_set *set = rtnl_dereference(back_of(dev)->set);
	unsigned int i;

	for (i = 0; set && i < set->count; i++)
		back_queue_run(&set->queue[i], run);
}

static bool leaving;

static int back_event(struct notifier_block *nb, unsigned long event,
		      void *data)
{
	struct net_device *dev = netdev_notifier_info_to_dev(data);
	bool ours = dev->netdev_ops->ndo_get_stats64 == back_get_stats64;

	if (event == NETDEV_REGISTER && !ours) {
		take_up(dev);
		return NOTIFY_DONE;
	}
	if (!ours)
		return NOTIFY_DONE;
	switch (event) {
	case NETDEV_UP:
		run(dev, true);
		break;
	case NETDEV_GOING_DOWN:
		/* Also said of an interface that stays, when we leave. */
		if (!leaving)
			run(dev, false);
		break;
	case NETDEV_UNREGISTER:
		let_go(dev);
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block back_notifier = {
	.notifier_call = back_event,
};

static int __init back_init(void)
{
	int err;

	if (!tx_copy_offered()) {
		pr_info("no tx copy here, xen-netback receives\n");
		return 0;
	}
	if (!is_power_of_2(back_slot_pages) ||
	    back_slot_pages > TXCOPY_MAX_SLOT_PAGES)
		return -EINVAL;
	back_napi_dev = alloc_netdev_dummy(0);
	if (!back_napi_dev)
		return -ENOMEM;
	err = tx_side_start(&back_side, &back_notifier);
	if (err)
		free_netdev(back_napi_dev);
	return err;
}
module_init(back_init);

static void __exit back_exit(void)
{
	if (!back_side.wq)
		return;
	leaving = true;
	tx_side_stop(&back_side, &back_notifier);
	free_netdev(back_napi_dev);
}
module_exit(back_exit);

MODULE_DESCRIPTION("Xenolith tx copy, the receiving end");
MODULE_LICENSE("Dual MIT/GPL");
