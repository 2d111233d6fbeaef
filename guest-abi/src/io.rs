//! What front and back ends agree on; the hypervisor has no part in it. Source: xen/include/public/io.

pub mod console;
pub mod netif;
pub mod ring;
pub mod xenbus;
