// SPDX-License-Identifier: GPL-2.0-or-later OR MIT
/*
 * The front end of tx copy: sits between the network stack and xen-netfront,
 * and sends over a channel what would go through netfront's ring.
 *
 * It replaces the interface's net_device_ops, under RTNL, by a copy in which
 * start_xmit and get_stats64 are its own. What it cannot or may not do it
 * leaves to netfront, which stays loaded, connected and unchanged.
 *
 * Contexts: the netdevice notifier (RTNL held) takes interfaces up and lets
 * them go; one ordered workqueue speaks with xenstore, never under RTNL, since
 * the xenwatch thread takes RTNL inside netfront's and netback's callbacks.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/module.h>
#include <linux/random.h>
#include <linux/rtnetlink.h>
#include <linux/slab.h>

#include "front.h"

/* An attachment that failed is tried again after this time. */
#define RETRY (5 * HZ)

struct workqueue_struct *front_wq;
static atomic_t fronts = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(fronts_gone);

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
	front = container_of(ops, struct tx_front, ops);
	front->stock->ndo_get_stats64(dev, stats);
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
		for (i = 0; i < front->dev->real_num_tx_queues; i++)
			stopped |= netif_tx_queue_stopped(netdev_get_tx_queue(front->dev, i));
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
		if (netif_running(front->dev) && !stock_has_drained(front))
			err = -EBUSY;
		if (!err)
			rcu_assign_pointer(front->set, set);
		WRITE_ONCE(front->hold, false);
		netif_tx_schedule_all(front->dev);
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
	node = xenbus_read(XBT_NIL, front->otherend, TX_CHANNELS, &len);
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
	queues = front->dev ? front->dev->real_num_tx_queues : 0;
	rtnl_unlock();
	if (!queues || queues > TX_MAX_QUEUES)
		return;
	snprintf(line, sizeof(line), "%u %u %u", TXCOPY_VERSION,
		 ++front->serial, queues);
	front->requested = !tx_publish(front->vif->nodename, TX_REQUEST, line);
}

static void negotiate(struct tx_front *front)
{
	char answer[TX_ANSWER_SIZE];
	u32 channels[TX_MAX_QUEUES];
	unsigned int count;

	if (!front->requested)
		request(front);
	if (!front->requested)
		return;
	count = read_answer(front, answer, channels);

	rtnl_lock();
	if (!front->dev)
		goto out;
	if (READ_ONCE(front->dead)) {
		/* Ask anew: the old answer may still stand there. */
		WRITE_ONCE(front->dead, false);
		detach(front, false);
		front->requested = false;
		queue_delayed_work(front_wq, &front->work, 0);
		goto out;
	}
	if (rtnl_dereference(front->set)) {
		if (count && !strcmp(answer, front->attached))
			goto out;
		front->fallbacks++;
		netdev_info(front->dev, "tx copy ended, sending by xen-netfront\n");
		detach(front, false);
	}
	if (!count)
		goto out;
	if (count == front->dev->real_num_tx_queues &&
	    !attach(front, channels, count)) {
		strscpy(front->attached, answer, sizeof(front->attached));
		netdev_info(front->dev, "sending by tx copy, %u queue(s)\n", count);
	} else {
		front->requested = false;
		queue_delayed_work(front_wq, &front->work, RETRY);
	}
out:
	rtnl_unlock();
}

/* The interface is gone, and with it all that start_xmit might have seen. */
static void bury(struct tx_front *front)
{
	if (front->watching)
		unregister_xenbus_watch(&front->watch);
	cancel_delayed_work(&front->work);
	if (front->requested)
		xenbus_rm(XBT_NIL, front->vif->nodename, TX_DIR);
	put_device(&front->vif->dev);
	kfree(front->watch.node);
	kfree(front->otherend);
	kfree(front);
	if (atomic_dec_and_test(&fronts))
		wake_up(&fronts_gone);
}

static void front_work(struct work_struct *work)
{
	struct tx_front *front = container_of(to_delayed_work(work),
					      struct tx_front, work);
	bool gone;

	rtnl_lock();
	gone = !front->dev;
	rtnl_unlock();
	if (gone) {
		bury(front);
		return;
	}
	if (!front->watching)
		front->watching = !register_xenbus_watch(&front->watch);
	negotiate(front);
}

static void answer_changed(struct xenbus_watch *watch, const char *path,
			   const char *token)
{
	struct tx_front *front = container_of(watch, struct tx_front, watch);

	mod_delayed_work(front_wq, &front->work, 0);
}

static void take_up(struct net_device *dev)
{
	struct xenbus_device *vif = tx_vif(dev, "xen");
	struct tx_front *front;

	if (!vif || !vif->otherend || !dev->netdev_ops->ndo_get_stats64)
		return;
	front = kzalloc(sizeof(*front), GFP_KERNEL);
	if (!front)
		return;
	front->otherend = kstrdup(vif->otherend, GFP_KERNEL);
	front->watch.node = kasprintf(GFP_KERNEL, "%s/" TX_DIR, vif->otherend);
	if (!front->otherend || !front->watch.node) {
		kfree(front->watch.node);
		kfree(front->otherend);
		kfree(front);
		return;
	}
	front->watch.callback = answer_changed;
	front->vif = vif;
	get_device(&vif->dev);
	front->peer = vif->otherend_id;
	front->serial = get_random_u32();
	INIT_DELAYED_WORK(&front->work, front_work);
	atomic_inc(&fronts);

	front->dev = dev;
	front->stock = dev->netdev_ops;
	front->ops = *dev->netdev_ops;
	front->ops.ndo_start_xmit = front_start_xmit;
	front->ops.ndo_get_stats64 = front_get_stats64;
	/* start_xmit may run: it must see all of the above. */
	smp_store_release(&dev->netdev_ops, &front->ops);
	if (sysfs_create_group(&dev->dev.kobj, &front_group))
		netdev_warn(dev, "no counters in sysfs\n");
	queue_delayed_work(front_wq, &front->work, 0);
}

static void let_go(struct net_device *dev)
{
	struct tx_front *front = front_of(dev);

	sysfs_remove_group(&dev->dev.kobj, &front_group);
	detach(front, dev->reg_state != NETREG_REGISTERED);
	WRITE_ONCE(dev->netdev_ops, front->stock);
	synchronize_net();
	front->dev = NULL;
	mod_delayed_work(front_wq, &front->work, 0);
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
	int err;

	if (!tx_copy_offered()) {
		pr_info("no tx copy here, xen-netfront sends\n");
		return 0;
	}
	front_wq = alloc_ordered_workqueue(KBUILD_MODNAME, 0);
	if (!front_wq)
		return -ENOMEM;
	/* Tells of the interfaces that there are, too. */
	err = register_netdevice_notifier(&front_notifier);
	if (err) {
		destroy_workqueue(front_wq);
		front_wq = NULL;
	}
	return err;
}
module_init(front_init);

static void __exit front_exit(void)
{
	if (!front_wq)
		return;
	/* Tells that every interface goes. */
	unregister_netdevice_notifier(&front_notifier);
	wait_event(fronts_gone, !atomic_read(&fronts));
	destroy_workqueue(front_wq);
}
module_exit(front_exit);

MODULE_DESCRIPTION("Xenolith tx copy, the sending end");
MODULE_LICENSE("Dual MIT/GPL");
