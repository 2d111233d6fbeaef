//! What a guest and the hypervisor agree on: one file per Xen public header.
#![no_std]
#![forbid(unsafe_code)]

pub mod grant_table;
