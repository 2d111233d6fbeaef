/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/*
 * Tx copy: a domain hands packets to the Xenolith hypervisor, which copies them
 * into buffers that another domain posted on a ring.
 *
 * A channel goes one way. The receiver creates it: a ring of its own pages that
 * only it and the hypervisor see, and one of its event channel ports. The
 * sender attaches to it: a page of its own in which it describes packets, and
 * one of its ports.
 *
 * The Rust form is guest-abi/src/txcopy.rs; a test compares the two. All
 * numbers are little endian. Errors are negative errno values of Xen, which are
 * those of Linux for all that occur here.
 */
#ifndef XENOLITH_TXCOPY_H
#define XENOLITH_TXCOPY_H

#include <linux/types.h>

/* The hypercall, __HYPERVISOR_arch_7; the sub-operation is the first argument. */
#define TXCOPY_OP			55
#define TXCOPY_VERSION			1

/*
 * Sub-operations, with their arguments after the sub-operation.
 *
 * QUERY(struct txcopy_query *): any domain.
 *   -EFAULT. -ENOSYS: the hypervisor has no tx copy.
 * CREATE(struct txcopy_create *): receiver. 0.
 *   -EFAULT; -EOPNOTSUPP version; -EINVAL a reserved field, slot_pages, a ring
 *   frame that is not the caller's own writable RAM or named twice, a port that
 *   is not open (unbound, interdomain or IPI), the sender is the caller; -ESRCH
 *   no such sender, or it dies; -EPERM policy; -ENOSPC too many channels; -ENOMEM.
 *   Zeroes the ring's header: post afterwards.
 * DESTROY(channel): receiver. 0; -ENOENT. The ring's pages are its own again;
 *   the sender's port is raised, its next SEND answers -EPIPE.
 * ATTACH(struct txcopy_attach *): sender. 0.
 *   -EFAULT; -EOPNOTSUPP; -EINVAL as above; -ESRCH no such receiver, or it dies;
 *   -EPERM; -ENOENT no such channel, or it is for another sender; -EBUSY it has
 *   a sender; -ENOSPC too many attachments; -ENOMEM.
 * DETACH(handle): sender. 0; -ENOENT.
 * SEND(handle, bytes, TXCOPY_SEND_*, 0): sender. How many packets were taken,
 *   from the first one on; if it is none of them:
 *   -ENOENT no such handle; -EINVAL bytes below 32, not a multiple of 16 or above
 *   4096, an unknown flag, a record that is wrong; -EFAULT a piece is not the
 *   caller's own RAM; -EAGAIN no room now (a ring with all its slots posted takes
 *   any packet); -EPIPE the channel is gone or broken: detach.
 * POSTED(channel): receiver. There are new buffers; raises the port of a sender
 *   that waits. 0; -ENOENT.
 * STATS(struct txcopy_stats *): receiver. 0; -EFAULT; -ENOENT.
 */
#define TXCOPY_QUERY			0
#define TXCOPY_CREATE			1
#define TXCOPY_DESTROY			2
#define TXCOPY_ATTACH			3
#define TXCOPY_DETACH			4
#define TXCOPY_SEND			5
#define TXCOPY_POSTED			6
#define TXCOPY_STATS			7

/* If not all packets find room: raise my port when buffers were posted. */
#define TXCOPY_SEND_WANT_SPACE		(1U << 0)

#define TXCOPY_MAX_PIECES		24
#define TXCOPY_MAX_PACKET		(65536 + 32)
/* Bytes of a buffer at least; a slot with less is completed unused. */
#define TXCOPY_MIN_BUFFER		1024
#define TXCOPY_MAX_SLOT_PAGES		32
#define TXCOPY_MAX_CHANNELS		256
#define TXCOPY_MAX_ATTACHMENTS		32

struct txcopy_query {
	__u32 version;		/* OUT: the highest */
	__u32 max_slot_pages;	/* OUT */
	__u32 max_pieces;	/* OUT */
	__u32 max_packet;	/* OUT */
	__u32 max_channels;	/* OUT */
	__u32 max_attachments;	/* OUT */
	__u32 min_buffer;	/* OUT */
	__u32 reserved;		/* OUT: 0 */
};

struct txcopy_create {
	__u32 version;		/* IN: TXCOPY_VERSION */
	__u16 sender;		/* IN: the domain that may send */
	__u16 pad;		/* IN: 0 */
	__u64 ring_gfns;	/* IN: virtual address of __u64[1 + slot_pages] */
	__u32 slot_pages;	/* IN: a power of two */
	__u32 port;		/* IN: my port that is raised for packets */
	__u32 channel;		/* OUT */
	__u32 flags;		/* IN: 0 */
	__u64 reserved;		/* IN: 0 */
};

struct txcopy_attach {
	__u32 version;		/* IN: TXCOPY_VERSION */
	__u16 receiver;		/* IN: the domain that made the channel */
	__u16 pad;		/* IN: 0 */
	__u32 channel;		/* IN */
	__u32 port;		/* IN: my port that is raised when there is room */
	__u64 batch_gfn;	/* IN: the page of the packet records */
	__u32 handle;		/* OUT */
	__u32 flags;		/* IN: 0 */
	__u64 reserved;		/* IN: 0 */
};

struct txcopy_stats {
	__u32 channel;		/* IN */
	__u32 attached;		/* OUT: 1 while there is a sender */
	__u64 packets;		/* OUT: packets taken */
	__u64 bytes;		/* OUT: bytes copied */
	__u64 batches;		/* OUT: SEND calls */
	__u64 full;		/* OUT: calls that found too little room */
	__u64 notified;		/* OUT: events raised for the receiver */
	__u64 suppressed;	/* OUT: the receiver did not want one */
	__u64 refused;		/* OUT: calls refused for what they described */
	__u64 unusable;		/* OUT: slots completed with len 0 */
	__u64 woken;		/* OUT: events raised for the sender */
	__u64 reserved[2];	/* OUT: 0 */
};

/*
 * The ring: a page with this header, then slot_pages pages of slots; slot n of
 * the count is number n modulo (slot_pages * 128). Counts run free, modulo 2^32.
 *
 * The receiver may rearm and sleep like this: write event_at = the count that it
 * has consumed, full barrier, look at completed once more. An event comes when
 * completed goes from event_at or below to above it. After posting: full
 * barrier, read flags, and if TXCOPY_RING_SENDER_WAITS is set call POSTED.
 */
struct txcopy_ring {
	__u32 posted;		/* receiver: slots that hold a buffer; release */
	__u32 event_at;		/* receiver */
	__u32 pad0[14];
	__u32 completed;	/* hypervisor: slots given back; release */
	__u32 flags;		/* hypervisor: TXCOPY_RING_* */
	__u32 pad1[14];
};

#define TXCOPY_RING_SENDER_WAITS	(1U << 0)

/*
 * addr and size are the receiver's, the rest the hypervisor's. A completed slot
 * with len 0 carries nothing (its flags are 0 too, and it lies between packets,
 * never amid one): its buffer could not be used, or it stood before one that
 * could not. Post the buffer again or give it up.
 */
struct txcopy_slot {
	__u64 addr;		/* guest physical; does not cross a page */
	__u32 size;		/* TXCOPY_MIN_BUFFER to 4096 */
	__u32 len;		/* bytes written */
	__u32 total;		/* bytes of the packet; in its first slot, else 0 */
	__u16 flags;		/* TXCOPY_PACKET_* of the first slot, TXCOPY_SLOT_MORE */
	__u16 csum_start;	/* these: in the first slot, else 0 */
	__u16 csum_offset;
	__u16 gso_size;
	__u8 gso_type;
	__u8 pad[3];
};

#define TXCOPY_SLOT_MORE		(1U << 15)
/* Checksum from csum_start on goes to csum_start + csum_offset. */
#define TXCOPY_PACKET_CSUM_PARTIAL	(1U << 0)
/* The sender vouches for the checksums. */
#define TXCOPY_PACKET_CSUM_VALID	(1U << 1)

#define TXCOPY_GSO_NONE			0
#define TXCOPY_GSO_TCPV4		1
#define TXCOPY_GSO_TCPV6		2

/*
 * A record of the batch page: this, then its pieces, then the next record.
 * Wrong (-EINVAL) are: len 0, above TXCOPY_MAX_PACKET or not the sum of the
 * pieces; pieces 0 or above TXCOPY_MAX_PIECES or beyond the bytes of the batch; a
 * piece of 0 bytes; pad not 0; an unknown flag or gso_type; a checksum that does
 * not lie in the packet; csum_start or csum_offset without CSUM_PARTIAL; a
 * gso_size without gso_type or the other way round; a gso_type without
 * CSUM_PARTIAL.
 */
struct txcopy_packet {
	__u32 len;
	__u16 pieces;
	__u16 flags;		/* TXCOPY_PACKET_* */
	__u16 csum_start;
	__u16 csum_offset;
	__u16 gso_size;
	__u8 gso_type;
	__u8 pad;
};

/* In the sender's own RAM; may cross pages whose frame numbers follow each other. */
struct txcopy_piece {
	__u64 addr;		/* guest physical */
	__u32 len;
	__u32 pad;
};

#endif /* XENOLITH_TXCOPY_H */
