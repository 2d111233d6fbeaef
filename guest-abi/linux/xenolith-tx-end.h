/* SPDX-License-Identifier: GPL-2.0-or-later OR MIT */
/*
 * What both modules do with an interface of netfront or netback: take it up by
 * replacing its operations, follow what the other end says in xenstore, and
 * give it back.
 *
 * Contexts: the netdevice notifier (RTNL held) takes interfaces up and lets
 * them go; one ordered workqueue speaks with xenstore, never under RTNL, since
 * the xenwatch thread takes RTNL inside netfront's and netback's callbacks.
 */
#ifndef XENOLITH_TX_END_H
#define XENOLITH_TX_END_H

#include <linux/rtnetlink.h>
#include <linux/slab.h>
#include <linux/sysfs.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "xenolith-tx.h"

struct tx_end;

/* A module. */
struct tx_side {
	const struct attribute_group *counters;
	void (*negotiate)(struct tx_end *end);	/* work */
	struct workqueue_struct *wq;
	atomic_t ends;
	wait_queue_head_t no_ends;
};

/* An interface: the first member of what the module has of it. */
struct tx_end {
	struct net_device_ops ops;		/* the interface's, some of them ours */
	const struct net_device_ops *stock;	/* netfront's or netback's */
	struct net_device *dev;			/* NULL once it is gone; RTNL */
	struct tx_side *side;
	struct xenbus_device *vif;		/* referenced */
	domid_t peer;
	char *otherend;				/* its directory in xenstore */
	struct xenbus_watch watch;
	struct delayed_work work;
	bool watching;
};

/* Have negotiate() called: now, or in so many jiffies if not earlier. */
static inline void tx_end_look(struct tx_end *end, unsigned long delay)
{
	if (delay)
		queue_delayed_work(end->side->wq, &end->work, delay);
	else
		mod_delayed_work(end->side->wq, &end->work, 0);
}

static inline void tx_end_free(struct tx_end *end)
{
	kfree(end->watch.node);
	kfree(end->otherend);
	kfree(end);
}

static inline void tx_end_work(struct work_struct *work)
{
	struct tx_end *end = container_of(to_delayed_work(work),
					  struct tx_end, work);
	struct tx_side *side = end->side;
	bool gone;

	rtnl_lock();
	gone = !end->dev;
	rtnl_unlock();
	if (!gone) {
		if (!end->watching)
			end->watching = !register_xenbus_watch(&end->watch);
		side->negotiate(end);
		return;
	}
	if (end->watching)
		unregister_xenbus_watch(&end->watch);
	cancel_delayed_work(&end->work);
	xenbus_rm(XBT_NIL, end->vif->nodename, TX_DIR);
	put_device(&end->vif->dev);
	tx_end_free(end);
	if (atomic_dec_and_test(&side->ends))
		wake_up(&side->no_ends);
}

static inline void tx_end_changed(struct xenbus_watch *watch, const char *path,
				  const char *token)
{
	tx_end_look(container_of(watch, struct tx_end, watch), 0);
}

/*
 * Exchange the operations of an interface for end's, which is zero but for them
 * and for what the module has behind it. Frees end if that fails. RTNL.
 */
static inline void tx_end_take_up(struct tx_end *end, struct tx_side *side,
				  struct xenbus_device *vif,
				  struct net_device *dev)
{
	end->otherend = kstrdup(vif->otherend, GFP_KERNEL);
	end->watch.node = kasprintf(GFP_KERNEL, "%s/" TX_DIR, vif->otherend);
	if (!end->otherend || !end->watch.node) {
		tx_end_free(end);
		return;
	}
	end->watch.callback = tx_end_changed;
	end->side = side;
	end->vif = vif;
	get_device(&vif->dev);
	end->peer = vif->otherend_id;
	INIT_DELAYED_WORK(&end->work, tx_end_work);
	atomic_inc(&side->ends);

	end->dev = dev;
	end->stock = dev->netdev_ops;
	/* The operations may run: they must see all of the above. */
	smp_store_release(&dev->netdev_ops, &end->ops);
	if (sysfs_create_group(&dev->dev.kobj, side->counters))
		netdev_warn(dev, "no counters in sysfs\n");
	tx_end_look(end, 0);
}

/* Give the interface back; end is freed later. RTNL. */
static inline void tx_end_let_go(struct tx_end *end)
{
	struct net_device *dev = end->dev;

	sysfs_remove_group(&dev->dev.kobj, end->side->counters);
	WRITE_ONCE(dev->netdev_ops, end->stock);
	synchronize_net();
	end->dev = NULL;
	tx_end_look(end, 0);
}

/* Take up the interfaces that there are and will be. */
static inline int tx_side_start(struct tx_side *side,
				struct notifier_block *notifier)
{
	int err;

	init_waitqueue_head(&side->no_ends);
	side->wq = alloc_ordered_workqueue(KBUILD_MODNAME, 0);
	if (!side->wq)
		return -ENOMEM;
	/* Tells of the interfaces that there are, too. */
	err = register_netdevice_notifier(notifier);
	if (err) {
		destroy_workqueue(side->wq);
		side->wq = NULL;
	}
	return err;
}

static inline void tx_side_stop(struct tx_side *side,
				struct notifier_block *notifier)
{
	/* Tells that every interface goes. */
	unregister_netdevice_notifier(notifier);
	wait_event(side->no_ends, !atomic_read(&side->ends));
	destroy_workqueue(side->wq);
}

#endif /* XENOLITH_TX_END_H */
