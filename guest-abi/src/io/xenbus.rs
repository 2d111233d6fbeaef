//! xenstore: states of devices, and the ring to xenstored. Source: xen/include/public/io/xenbus.h, xs_wire.h.

/// Not there.
pub const XENBUS_STATE_UNKNOWN: u32 = 0;
/// Starting.
pub const XENBUS_STATE_INITIALISING: u32 = 1;
/// The back end waits for the front end's keys.
pub const XENBUS_STATE_INIT_WAIT: u32 = 2;
/// The front end waits for the back end to connect.
pub const XENBUS_STATE_INITIALISED: u32 = 3;
/// Working.
pub const XENBUS_STATE_CONNECTED: u32 = 4;
/// Going away.
pub const XENBUS_STATE_CLOSING: u32 = 5;
/// Gone.
pub const XENBUS_STATE_CLOSED: u32 = 6;
/// Changing its configuration.
pub const XENBUS_STATE_RECONFIGURING: u32 = 7;
/// It has changed its configuration.
pub const XENBUS_STATE_RECONFIGURED: u32 = 8;

/// Control of the daemon.
pub const XS_CONTROL: u32 = 0;
/// List children.
pub const XS_DIRECTORY: u32 = 1;
/// Read a value.
pub const XS_READ: u32 = 2;
/// Read permissions.
pub const XS_GET_PERMS: u32 = 3;
/// Be told of changes below a path.
pub const XS_WATCH: u32 = 4;
/// Undo.
pub const XS_UNWATCH: u32 = 5;
/// Start a transaction.
pub const XS_TRANSACTION_START: u32 = 6;
/// End a transaction: `T` commits, `F` drops it.
pub const XS_TRANSACTION_END: u32 = 7;
/// A new domain has a ring.
pub const XS_INTRODUCE: u32 = 8;
/// A domain is gone.
pub const XS_RELEASE: u32 = 9;
/// The path of a domain.
pub const XS_GET_DOMAIN_PATH: u32 = 10;
/// Write a value.
pub const XS_WRITE: u32 = 11;
/// Make a node.
pub const XS_MKDIR: u32 = 12;
/// Remove a node and all below it.
pub const XS_RM: u32 = 13;
/// Write permissions.
pub const XS_SET_PERMS: u32 = 14;
/// From xenstored: a watch fired.
pub const XS_WATCH_EVENT: u32 = 15;
/// From xenstored: the request failed; the payload is the name of the error.
pub const XS_ERROR: u32 = 16;
/// Whether a domain has a ring.
pub const XS_IS_DOMAIN_INTRODUCED: u32 = 17;
/// Forget that a domain has shut down.
pub const XS_RESUME: u32 = 18;
/// Let a domain act for another.
pub const XS_SET_TARGET: u32 = 19;
/// Drop all watches and transactions.
pub const XS_RESET_WATCHES: u32 = 21;
/// List children, in parts.
pub const XS_DIRECTORY_PART: u32 = 22;

/// Bytes of each direction of the ring.
pub const XENSTORE_RING_SIZE: usize = 1024;
/// Longest payload of a message, bytes.
pub const XENSTORE_PAYLOAD_MAX: usize = 4096;
/// Longest absolute path, bytes.
pub const XENSTORE_ABS_PATH_MAX: usize = 3072;
/// Longest relative path, bytes.
pub const XENSTORE_REL_PATH_MAX: usize = 2048;
/// In `server_features`: the connection can be reset.
pub const XENSTORE_SERVER_FEATURE_RECONNECTION: u32 = 1;
/// In `server_features`: `error` is used.
pub const XENSTORE_SERVER_FEATURE_ERROR: u32 = 2;
/// In `connection`: in use.
pub const XENSTORE_CONNECTED: u32 = 0;
/// In `connection`: not yet in use, or being reset.
pub const XENSTORE_RECONNECT: u32 = 1;

wire! {
    /// `struct xsd_sockmsg`: the head of a message; `len` bytes of payload follow.
    XsdSockmsg, 16 bytes {
        /// `XS_*`; `type` in Xen.
        0 => kind: u32,
        /// Returned with the answer.
        4 => req_id: u32,
        /// Transaction; 0 for none.
        8 => tx_id: u32,
        /// Bytes of the payload.
        12 => len: u32,
    }
}
wire! {
    /// `struct xenstore_domain_interface`: the ring page. Indices run freely and are taken modulo [`XENSTORE_RING_SIZE`].
    XenstoreDomainInterface, 2076 bytes {
        /// Requests to xenstored.
        0 => req: [u8; 1024],
        /// Answers and watch events.
        1024 => rsp: [u8; 1024],
        /// Request bytes consumed.
        2048 => req_cons: u32,
        /// Request bytes produced.
        2052 => req_prod: u32,
        /// Answer bytes consumed.
        2056 => rsp_cons: u32,
        /// Answer bytes produced.
        2060 => rsp_prod: u32,
        /// `XENSTORE_SERVER_FEATURE_*`.
        2064 => server_features: u32,
        /// `XENSTORE_CONNECTED` or `XENSTORE_RECONNECT`.
        2068 => connection: u32,
        /// Why xenstored closed the connection; 0 for no error.
        2072 => error: u32,
    }
}
