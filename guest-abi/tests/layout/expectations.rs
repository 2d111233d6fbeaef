//! What must be the same in Rust and in C: each structure with its fields, and each constant.

use guest_abi::*;

/// Which headers a value can be compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Any: this part of the ABI never changes, it only grows.
    Stable,
    /// Those of the same interface version.
    Tools,
}

/// A C expression, and the value it must have. A macro in it is marked `$`, in capitals.
pub struct Expectation {
    pub group: Group,
    pub expression: String,
    pub value: u64,
}

struct List(Vec<Expectation>);

impl List {
    fn add(&mut self, group: Group, expression: String, value: i64) {
        self.0.push(Expectation { group, expression, value: value as u64 });
    }
}

/// Macros that have the same name but for case.
macro_rules! constants {
    ($list:ident, $group:ident, $module:path: $($name:ident),*) => {{
        use $module as module;
        $($list.add(Group::$group, concat!("$", stringify!($name)).into(), module::$name as i64);)*
    }};
}

/// A structure; fields are given a C name if it is another one.
macro_rules! structure {
    ($list:ident, $group:ident, $type:ty = $c:literal: $($field:ident $(= $c_field:literal)?),*) => {
        $list.add(Group::$group, concat!("sizeof(", $c, ")").into(), size_of::<$type>() as i64);
        $(
            let name = [$($c_field,)? stringify!($field)][0];
            let offset = core::mem::offset_of!($type, $field) as i64;
            $list.add(Group::$group, format!("offsetof({}, {name})", $c), offset);
            $list.add(Group::$group, format!("sizeof((({} *)0)->{name})", $c), width(|s: &$type| &s.$field));
        )*
    };
}

fn width<T, F>(_: fn(&T) -> &F) -> i64 {
    size_of::<F>() as i64
}

/// All of them.
pub fn all() -> Vec<Expectation> {
    let mut all = List(Vec::new());
    structures(&mut all);
    macros(&mut all);
    expressions(&mut all);
    all.0
}

fn structures(all: &mut List) {
    structure! { all, Stable, xen::MulticallEntry = "struct multicall_entry": op, result, args }
    structure! { all, Tools, xen::XenctlBitmap = "struct xenctl_bitmap": bitmap, nr_bits }
    structure! { all, Stable, arch_arm::CoreRegs = "struct vcpu_guest_core_regs":
        pc64, cpsr, spsr_el1, spsr_fiq, spsr_irq, spsr_und, spsr_abt, sp_el0, sp_el1, elr_el1
    }
    structure! { all, Stable, arch_arm::VcpuGuestContext = "struct vcpu_guest_context": flags, user_regs, sctlr, ttbcr, ttbr0, ttbr1 }
    structure! { all, Tools, arch_arm::ArchDomainConfig = "struct xen_arch_domainconfig":
        gic_version, sve_vl, tee_type, nr_spis, clock_frequency
    }
    structure! { all, Stable, shared_info::VcpuTimeInfo = "struct vcpu_time_info":
        version, tsc_timestamp, system_time, tsc_to_system_mul, tsc_shift, flags
    }
    structure! { all, Stable, shared_info::VcpuInfo = "struct vcpu_info": evtchn_upcall_pending, evtchn_pending_sel, time }
    structure! { all, Stable, shared_info::SharedInfo = "struct shared_info":
        vcpu_info, evtchn_pending, evtchn_mask, wc_version, wc_sec, wc_nsec, wc_sec_hi
    }
    structure! { all, Stable, shared_info::FifoControlBlock = "struct evtchn_fifo_control_block": ready, head }
    structure! { all, Stable, event_channel::AllocUnbound = "struct evtchn_alloc_unbound": dom, remote_dom, port }
    structure! { all, Stable, event_channel::BindInterdomain = "struct evtchn_bind_interdomain": remote_dom, remote_port, local_port }
    structure! { all, Stable, event_channel::BindVirq = "struct evtchn_bind_virq": virq, vcpu, port }
    structure! { all, Stable, event_channel::BindPirq = "struct evtchn_bind_pirq": pirq, flags, port }
    structure! { all, Stable, event_channel::BindIpi = "struct evtchn_bind_ipi": vcpu, port }
    structure! { all, Stable, event_channel::Close = "struct evtchn_close": port }
    structure! { all, Stable, event_channel::Send = "struct evtchn_send": port }
    structure! { all, Stable, event_channel::Status = "struct evtchn_status":
        dom, port, status, vcpu, binding = "u.virq", remote_port = "u.interdomain.port"
    }
    structure! { all, Stable, event_channel::BindVcpu = "struct evtchn_bind_vcpu": port, vcpu }
    structure! { all, Stable, event_channel::Unmask = "struct evtchn_unmask": port }
    structure! { all, Stable, event_channel::Reset = "struct evtchn_reset": dom }
    structure! { all, Stable, event_channel::InitControl = "struct evtchn_init_control": control_gfn, offset, vcpu, link_bits }
    structure! { all, Stable, event_channel::ExpandArray = "struct evtchn_expand_array": array_gfn }
    structure! { all, Stable, event_channel::SetPriority = "struct evtchn_set_priority": port, priority }
    structure! { all, Stable, grant_table::GrantEntryV1 = "struct grant_entry_v1": flags, domid, frame }
    structure! { all, Stable, grant_table::MapGrantRef = "struct gnttab_map_grant_ref":
        host_addr, flags, grant_ref = "ref", dom, status, handle, dev_bus_addr
    }
    structure! { all, Stable, grant_table::UnmapGrantRef = "struct gnttab_unmap_grant_ref": host_addr, dev_bus_addr, handle, status }
    structure! { all, Stable, grant_table::UnmapGrantRef = "struct gnttab_unmap_and_replace":
        host_addr, dev_bus_addr = "new_addr", handle, status
    }
    structure! { all, Stable, grant_table::SetupTable = "struct gnttab_setup_table": dom, nr_frames, status, frame_list }
    structure! { all, Stable, grant_table::Transfer = "struct gnttab_transfer": mfn, domid, grant_ref = "ref", status }
    structure! { all, Stable, grant_table::CopyPtr = "struct gnttab_copy_ptr": u, domid, offset }
    structure! { all, Stable, grant_table::Copy = "struct gnttab_copy": source, dest, len, flags, status }
    structure! { all, Stable, grant_table::QuerySize = "struct gnttab_query_size": dom, nr_frames, max_nr_frames, status }
    structure! { all, Stable, grant_table::SetVersion = "struct gnttab_set_version": version }
    structure! { all, Stable, grant_table::GetStatusFrames = "struct gnttab_get_status_frames": nr_frames, dom, status, frame_list }
    structure! { all, Stable, grant_table::GetVersion = "struct gnttab_get_version": dom, version }
    structure! { all, Stable, grant_table::SwapGrantRef = "struct gnttab_swap_grant_ref": ref_a, ref_b, status }
    structure! { all, Stable, grant_table::CacheFlush = "struct gnttab_cache_flush": dev_bus_addr = "a.dev_bus_addr", offset, length, op }
    structure! { all, Stable, memory::MemoryReservation = "struct xen_memory_reservation":
        extent_start, nr_extents, extent_order, mem_flags, domid
    }
    structure! { all, Stable, memory::MemoryExchange = "struct xen_memory_exchange": input = "in", output = "out", nr_exchanged }
    structure! { all, Tools, memory::MemoryDomain = "struct xen_memory_domain": domid }
    structure! { all, Stable, memory::AddToPhysmap = "struct xen_add_to_physmap": domid, size, space, idx, gpfn }
    structure! { all, Stable, memory::AddToPhysmapBatch = "struct xen_add_to_physmap_batch":
        domid, space, size, foreign_domid = "u.foreign_domid", idxs, gpfns, errs
    }
    structure! { all, Stable, memory::RemoveFromPhysmap = "struct xen_remove_from_physmap": domid, gpfn }
    structure! { all, Stable, memory::ReservedDeviceMemoryMap = "struct xen_reserved_device_memory_map":
        flags, nr_entries, buffer, seg = "dev.pci.seg", bus = "dev.pci.bus", devfn = "dev.pci.devfn"
    }
    structure! { all, Stable, memory::AcquireResource = "struct xen_mem_acquire_resource":
        domid, kind = "type", id, nr_frames, pad, frame, frame_list
    }
    structure! { all, Stable, sched::Shutdown = "struct sched_shutdown": reason }
    structure! { all, Stable, sched::Poll = "struct sched_poll": ports, nr_ports, timeout }
    structure! { all, Stable, sched::RemoteShutdown = "struct sched_remote_shutdown": domain_id, reason }
    structure! { all, Stable, sched::Watchdog = "struct sched_watchdog": id, timeout }
    structure! { all, Stable, sched::PinOverride = "struct sched_pin_override": pcpu }
    structure! { all, Stable, vcpu::RunstateInfo = "struct vcpu_runstate_info": state, state_entry_time, time }
    structure! { all, Stable, vcpu::RegisterRunstateMemoryArea = "struct vcpu_register_runstate_memory_area": addr }
    structure! { all, Stable, vcpu::RegisterVcpuInfo = "struct vcpu_register_vcpu_info": mfn, offset, rsvd }
    structure! { all, Stable, version::CompileInfo = "struct xen_compile_info": compiler, compile_by, compile_domain, compile_date }
    structure! { all, Stable, version::FeatureInfo = "struct xen_feature_info": submap_idx, submap }
    structure! { all, Stable, hvm::HvmParam = "struct xen_hvm_param": domid, pad, index, value }
    structure! { all, Stable, platform::PlatformOp = "struct xen_platform_op":
        cmd, interface_version, secs = "u.settime64.secs", nsecs = "u.settime64.nsecs", mbz = "u.settime64.mbz", system_time =
        "u.settime64.system_time"
    }
    structure! { all, Tools, domctl::CreateDomain = "struct xen_domctl_createdomain":
        ssidref, handle, flags, iommu_opts, max_vcpus, max_evtchn_port, max_grant_frames, max_maptrack_frames, grant_opts,
        altp2m_opts, vmtrace_size, cpupool_id, arch
    }
    structure! { all, Tools, domctl::GetDomainInfo = "struct xen_domctl_getdomaininfo":
        domain, flags, tot_pages, max_pages, outstanding_pages, shr_pages, paged_pages, shared_info_frame, cpu_time,
        nr_online_vcpus, max_vcpu_id, ssidref, handle, cpupool, gpaddr_bits, arch_config
    }
    structure! { all, Tools, domctl::MaxMem = "struct xen_domctl_max_mem": max_memkb }
    structure! { all, Tools, domctl::VcpuContext = "struct xen_domctl_vcpucontext": vcpu, ctxt }
    structure! { all, Tools, domctl::GetVcpuInfo = "struct xen_domctl_getvcpuinfo": vcpu, online, blocked, running, cpu_time, cpu }
    structure! { all, Tools, domctl::NodeAffinity = "struct xen_domctl_nodeaffinity": nodemap }
    structure! { all, Tools, domctl::VcpuAffinity = "struct xen_domctl_vcpuaffinity": vcpu, flags, cpumap_hard, cpumap_soft }
    structure! { all, Tools, domctl::MaxVcpus = "struct xen_domctl_max_vcpus": max }
    structure! { all, Tools, domctl::SchedulerOp = "struct xen_domctl_scheduler_op":
        sched_id, cmd, weight = "u.credit2.weight", cap = "u.credit2.cap"
    }
    structure! { all, Tools, domctl::SetDomainHandle = "struct xen_domctl_setdomainhandle": handle }
    structure! { all, Tools, domctl::SetDebugging = "struct xen_domctl_setdebugging": enable }
    structure! { all, Tools, domctl::IrqPermission = "struct xen_domctl_irq_permission": pirq, allow_access, pad }
    structure! { all, Tools, domctl::IomemPermission = "struct xen_domctl_iomem_permission": first_mfn, nr_mfns, allow_access }
    structure! { all, Tools, domctl::SetTimeOffset = "struct xen_domctl_settimeoffset": time_offset_seconds }
    structure! { all, Tools, domctl::SendTrigger = "struct xen_domctl_sendtrigger": trigger, vcpu }
    structure! { all, Tools, domctl::Subscribe = "struct xen_domctl_subscribe": port }
    structure! { all, Tools, domctl::AddressSize = "struct xen_domctl_address_size": size }
    structure! { all, Tools, domctl::AssignDevice = "struct xen_domctl_assign_device":
        dev, flags, size = "u.dt.size", path = "u.dt.path"
    }
    structure! { all, Tools, domctl::BindPtIrq = "struct xen_domctl_bind_pt_irq": machine_irq, irq_type, spi = "u.spi.spi" }
    structure! { all, Tools, domctl::MemoryMapping = "struct xen_domctl_memory_mapping":
        first_gfn, first_mfn, nr_mfns, add_mapping, padding
    }
    structure! { all, Tools, domctl::SetTarget = "struct xen_domctl_set_target": target }
    structure! { all, Tools, domctl::SetVirqHandler = "struct xen_domctl_set_virq_handler": virq }
    structure! { all, Tools, domctl::CacheFlush = "struct xen_domctl_cacheflush": start_pfn, nr_pfns }
    structure! { all, Tools, domctl::Vnuma = "struct xen_domctl_vnuma":
        nr_vnodes, nr_vmemranges, nr_vcpus, pad, vdistance, vcpu_to_vnode, vnode_to_pnode, vmemrange
    }
    structure! { all, Tools, domctl::VuartOp = "struct xen_domctl_vuart_op": cmd, kind = "type", gfn, console_domid, pad, evtchn }
    structure! { all, Tools, domctl::PagingMempool = "struct xen_domctl_paging_mempool": size }
    structure! { all, Tools, domctl::DtOverlay = "struct xen_domctl_dt_overlay": overlay_fdt, overlay_fdt_size, overlay_op, pad }
    structure! { all, Tools, domctl::SetLlcColors = "struct xen_domctl_set_llc_colors": num_llc_colors, pad, llc_colors }
    structure! { all, Tools, sysctl::ReadConsole = "struct xen_sysctl_readconsole": clear, incremental, pad0, pad1, index, buffer, count }
    structure! { all, Tools, sysctl::TbufOp = "struct xen_sysctl_tbuf_op": cmd, cpu_mask, evt_mask, buffer_mfn, size }
    structure! { all, Stable, trace::TBuf = "struct t_buf": cons, prod }
    structure! { all, Tools, sysctl::PhysInfo = "struct xen_sysctl_physinfo":
        threads_per_core, cores_per_socket, nr_cpus, max_cpu_id, nr_nodes, max_node_id, cpu_khz, capabilities, arch_capabilities,
        total_pages, free_pages, scrub_pages, outstanding_pages, max_mfn, hw_cap
    }
    structure! { all, Tools, sysctl::SchedId = "struct xen_sysctl_sched_id": sched_id }
    structure! { all, Tools, sysctl::GetDomainInfoList = "struct xen_sysctl_getdomaininfolist":
        first_domain, max_domains, buffer, num_domains
    }
    structure! { all, Tools, sysctl::DebugKeys = "struct xen_sysctl_debug_keys": keys, nr_keys }
    structure! { all, Tools, sysctl::CpuInfo = "struct xen_sysctl_cpuinfo": idletime }
    structure! { all, Tools, sysctl::GetCpuInfo = "struct xen_sysctl_getcpuinfo": max_cpus, info, nr_cpus }
    structure! { all, Tools, sysctl::AvailHeap = "struct xen_sysctl_availheap": min_bitwidth, max_bitwidth, node, avail_bytes }
    structure! { all, Tools, sysctl::CpuHotplug = "struct xen_sysctl_cpu_hotplug": cpu, op }
    structure! { all, Tools, sysctl::CpuTopo = "struct xen_sysctl_cputopo": core, socket, node }
    structure! { all, Tools, sysctl::CpuTopoInfo = "struct xen_sysctl_cputopoinfo": num_cpus, cputopo }
    structure! { all, Tools, sysctl::PciTopoInfo = "struct xen_sysctl_pcitopoinfo": num_devs, devs, nodes }
    structure! { all, Tools, sysctl::MemInfo = "struct xen_sysctl_meminfo": memsize, memfree }
    structure! { all, Tools, sysctl::NumaInfo = "struct xen_sysctl_numainfo": num_nodes, meminfo, distance }
    structure! { all, Tools, sysctl::CpupoolOp = "struct xen_sysctl_cpupool_op": op, cpupool_id, sched_id, domid, cpu, n_dom, cpumap }
    structure! { all, Tools, sysctl::SchedulerOp = "struct xen_sysctl_scheduler_op":
        cpupool_id, sched_id, cmd, ratelimit_us = "u.sched_credit2.ratelimit_us"
    }
    structure! { all, Stable, io::netif::TxRequest = "struct netif_tx_request": gref, offset, flags, id, size }
    structure! { all, Stable, io::netif::TxResponse = "struct netif_tx_response": id, status }
    structure! { all, Stable, io::netif::RxRequest = "struct netif_rx_request": id, gref }
    structure! { all, Stable, io::netif::RxResponse = "struct netif_rx_response": id, offset, flags, status }
    structure! { all, Stable, io::netif::ExtraInfo = "struct netif_extra_info":
        kind = "type", flags, gso_size = "u.gso.size", gso_type = "u.gso.type", gso_features = "u.gso.features"
    }
    structure! { all, Stable, io::xenbus::XsdSockmsg = "struct xsd_sockmsg": kind = "type", req_id, tx_id, len }
    structure! { all, Stable, io::xenbus::XenstoreDomainInterface = "struct xenstore_domain_interface":
        req, rsp, req_cons, req_prod, rsp_cons, rsp_prod, server_features, connection, error
    }
    structure! { all, Stable, io::console::XenconsInterface = "struct xencons_interface":
        input = "in", output = "out", in_cons, in_prod, out_cons, out_prod
    }
}

fn macros(all: &mut List) {
    constants! { all, Stable, xen:
        XEN_HYPERCALL_TAG, DOMID_FIRST_RESERVED, DOMID_SELF, DOMID_IO, DOMID_XEN, DOMID_COW, DOMID_INVALID, DOMID_IDLE, DOMID_MASK,
        VIRQ_TIMER, VIRQ_DEBUG, VIRQ_CONSOLE, VIRQ_DOM_EXC, VIRQ_TBUF, VIRQ_DEBUGGER, VIRQ_XENOPROF, VIRQ_CON_RING, VIRQ_PCPU_STATE,
        VIRQ_MEM_EVENT, VIRQ_ARGO, VIRQ_ENOMEM, VIRQ_XENPMU, VIRQ_ARCH_0, NR_VIRQS, VMASST_CMD_ENABLE, VMASST_CMD_DISABLE,
        VMASST_TYPE_RUNSTATE_UPDATE_FLAG
    }
    constants! { all, Stable, trace:
        TRACE_EXTRA_MAX, TRACE_EXTRA_SHIFT, TRC_HD_CYCLE_FLAG, TRC_CLS_SHIFT, TRC_SUBCLS_SHIFT, TRC_GEN, TRC_SCHED, TRC_DOM0OP,
        TRC_HVM, TRC_MEM, TRC_HW, TRC_ALL, TRC_SCHED_MIN, TRC_SCHED_VERBOSE, TRC_HVM_ENTRYEXIT, TRC_HVM_HANDLER, TRC_HW_IRQ,
        TRC_DOM0_DOMOPS, TRC_LOST_RECORDS, TRC_TRACE_WRAP_BUFFER, TRC_TRACE_CPU_CHANGE, TRC_SCHED_RUNSTATE_CHANGE,
        TRC_SCHED_CONTINUE_RUNNING, TRC_SCHED_DOM_ADD, TRC_SCHED_DOM_REM, TRC_SCHED_SLEEP, TRC_SCHED_WAKE, TRC_SCHED_YIELD,
        TRC_SCHED_BLOCK, TRC_SCHED_SWITCH, TRC_SCHED_SWITCH_INFPREV, TRC_SCHED_SWITCH_INFNEXT, TRC_SCHED_SWITCH_INFCONT,
        TRC_DOM0_DOM_ADD, TRC_DOM0_DOM_REM, TRC_MEM_PAGE_GRANT_MAP, TRC_MEM_PAGE_GRANT_UNMAP, TRC_HVM_VMENTRY, TRC_64_FLAG,
        TRC_HVM_VMEXIT64, TRC_HVM_VMMCALL, TRC_HW_IRQ_HANDLED
    }
    constants! { all, Stable, console:
        CONSOLEIO_WRITE, CONSOLEIO_READ
    }
    constants! { all, Stable, arch_arm:
        VGCF_ONLINE, XEN_DOMCTL_CONFIG_GIC_V2, XEN_DOMCTL_CONFIG_GIC_V3, XEN_DOMCTL_CONFIG_TEE_NONE, XEN_DOMCTL_CONFIG_TEE_OPTEE,
        XEN_DOMCTL_CONFIG_TEE_FFA, XEN_LEGACY_MAX_VCPUS, GUEST_MAX_VCPUS, PSR_FIQ_MASK, PSR_IRQ_MASK, PSR_ABT_MASK, PSR_DBG_MASK,
        PSR_MODE_EL0T, PSR_MODE_EL1T, PSR_MODE_EL1H, PSR_MODE_BIT, SCTLR_GUEST_INIT, GUEST_VIRTIO_MMIO_BASE, GUEST_VIRTIO_MMIO_SIZE,
        GUEST_GICD_BASE, GUEST_GICD_SIZE, GUEST_GICC_BASE, GUEST_GICC_SIZE, GUEST_GICV3_GICD_BASE, GUEST_GICV3_GICD_SIZE,
        GUEST_GICV3_RDIST_REGIONS, GUEST_GICV3_GICR0_BASE, GUEST_GICV3_GICR0_SIZE, GUEST_VPCI_ECAM_BASE, GUEST_VPCI_ECAM_SIZE,
        GUEST_ACPI_BASE, GUEST_ACPI_SIZE, GUEST_PL011_BASE, GUEST_PL011_SIZE, GUEST_VPCI_MEM_ADDR, GUEST_VPCI_MEM_SIZE,
        GUEST_GNTTAB_BASE, GUEST_GNTTAB_SIZE, GUEST_MAGIC_BASE, GUEST_MAGIC_SIZE, GUEST_RAM_BANKS, GUEST_RAM0_BASE, GUEST_RAM0_SIZE,
        GUEST_VPCI_PREFETCH_MEM_ADDR, GUEST_VPCI_PREFETCH_MEM_SIZE, GUEST_RAM1_BASE, GUEST_RAM1_SIZE, GUEST_TIMER_VIRT_PPI,
        GUEST_TIMER_PHYS_S_PPI, GUEST_TIMER_PHYS_NS_PPI, GUEST_EVTCHN_PPI, GUEST_VPL011_SPI, GUEST_VIRTIO_MMIO_SPI_FIRST,
        GUEST_VIRTIO_MMIO_SPI_LAST, GUEST_PHANDLE_GIC, GUEST_PHANDLE_IOMMU, GUEST_ROOT_ADDRESS_CELLS, GUEST_ROOT_SIZE_CELLS
    }
    constants! { all, Stable, event_channel:
        EVTCHNOP_BIND_INTERDOMAIN, EVTCHNOP_BIND_VIRQ, EVTCHNOP_BIND_PIRQ, EVTCHNOP_CLOSE, EVTCHNOP_SEND, EVTCHNOP_STATUS,
        EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_BIND_IPI, EVTCHNOP_BIND_VCPU, EVTCHNOP_UNMASK, EVTCHNOP_RESET, EVTCHNOP_INIT_CONTROL,
        EVTCHNOP_EXPAND_ARRAY, EVTCHNOP_SET_PRIORITY, EVTCHNSTAT_CLOSED, EVTCHNSTAT_UNBOUND, EVTCHNSTAT_INTERDOMAIN,
        EVTCHNSTAT_PIRQ, EVTCHNSTAT_VIRQ, EVTCHNSTAT_IPI
    }
    constants! { all, Stable, shared_info:
        EVTCHN_2L_NR_CHANNELS, EVTCHN_FIFO_PRIORITY_MAX, EVTCHN_FIFO_PRIORITY_DEFAULT, EVTCHN_FIFO_PRIORITY_MIN,
        EVTCHN_FIFO_MAX_QUEUES, EVTCHN_FIFO_PENDING, EVTCHN_FIFO_MASKED, EVTCHN_FIFO_LINKED, EVTCHN_FIFO_BUSY,
        EVTCHN_FIFO_LINK_BITS, EVTCHN_FIFO_LINK_MASK, EVTCHN_FIFO_NR_CHANNELS
    }
    constants! { all, Stable, grant_table:
        GNTTAB_NR_RESERVED_ENTRIES, GNTTAB_RESERVED_CONSOLE, GNTTAB_RESERVED_XENSTORE, GTF_INVALID, GTF_PERMIT_ACCESS,
        GTF_ACCEPT_TRANSFER, GTF_TRANSITIVE, GTF_TYPE_MASK, GTF_READONLY, GTF_READING, GTF_WRITING, GTF_SUB_PAGE,
        GNTTABOP_MAP_GRANT_REF, GNTTABOP_UNMAP_GRANT_REF, GNTTABOP_SETUP_TABLE, GNTTABOP_DUMP_TABLE, GNTTABOP_TRANSFER,
        GNTTABOP_COPY, GNTTABOP_QUERY_SIZE, GNTTABOP_UNMAP_AND_REPLACE, GNTTABOP_SET_VERSION, GNTTABOP_GET_STATUS_FRAMES,
        GNTTABOP_GET_VERSION, GNTTABOP_SWAP_GRANT_REF, GNTTABOP_CACHE_FLUSH, GNTMAP_DEVICE_MAP, GNTMAP_HOST_MAP, GNTMAP_READONLY,
        GNTMAP_APPLICATION_MAP, GNTMAP_CONTAINS_PTE, GNTCOPY_SOURCE_GREF, GNTCOPY_DEST_GREF, GNTTAB_CACHE_CLEAN, GNTTAB_CACHE_INVAL,
        GNTTAB_CACHE_SOURCE_GREF, GNTST_OKAY, GNTST_GENERAL_ERROR, GNTST_BAD_DOMAIN, GNTST_BAD_GNTREF, GNTST_BAD_HANDLE,
        GNTST_BAD_VIRT_ADDR, GNTST_BAD_DEV_ADDR, GNTST_NO_DEVICE_SPACE, GNTST_PERMISSION_DENIED, GNTST_BAD_PAGE, GNTST_BAD_COPY_ARG,
        GNTST_ADDRESS_TOO_BIG, GNTST_EAGAIN, GNTST_NO_SPACE
    }
    constants! { all, Stable, memory:
        XENMEM_INCREASE_RESERVATION, XENMEM_DECREASE_RESERVATION, XENMEM_MAXIMUM_RAM_PAGE, XENMEM_CURRENT_RESERVATION,
        XENMEM_MAXIMUM_RESERVATION, XENMEM_MACHPHYS_MFN_LIST, XENMEM_POPULATE_PHYSMAP, XENMEM_ADD_TO_PHYSMAP, XENMEM_MEMORY_MAP,
        XENMEM_MACHINE_MEMORY_MAP, XENMEM_EXCHANGE, XENMEM_MACHPHYS_MAPPING, XENMEM_SET_MEMORY_MAP, XENMEM_MAXIMUM_GPFN,
        XENMEM_REMOVE_FROM_PHYSMAP, XENMEM_SET_POD_TARGET, XENMEM_GET_POD_TARGET, XENMEM_GET_SHARING_FREED_PAGES,
        XENMEM_GET_SHARING_SHARED_PAGES, XENMEM_PAGING_OP, XENMEM_ACCESS_OP, XENMEM_SHARING_OP, XENMEM_ADD_TO_PHYSMAP_BATCH,
        XENMEM_CLAIM_PAGES, XENMEM_MACHPHYS_COMPAT_MFN_LIST, XENMEM_GET_VNUMAINFO, XENMEM_RESERVED_DEVICE_MEMORY_MAP,
        XENMEM_ACQUIRE_RESOURCE, XENMEM_RDM_ALL, XENMEMF_POPULATE_ON_DEMAND, XENMEMF_EXACT_NODE_REQUEST, XENMEMF_VNODE, XENMAPSPACE_SHARED_INFO,
        XENMAPSPACE_GRANT_TABLE, XENMAPSPACE_GMFN, XENMAPSPACE_GMFN_RANGE, XENMAPSPACE_GMFN_FOREIGN, XENMAPSPACE_DEV_MMIO,
        XENMAPIDX_GRANT_TABLE_STATUS, XENMEM_RESOURCE_IOREQ_SERVER, XENMEM_RESOURCE_GRANT_TABLE, XENMEM_RESOURCE_VMTRACE_BUF,
        XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED, XENMEM_RESOURCE_GRANT_TABLE_ID_STATUS
    }
    constants! { all, Stable, sched:
        SCHEDOP_YIELD, SCHEDOP_BLOCK, SCHEDOP_SHUTDOWN, SCHEDOP_POLL, SCHEDOP_REMOTE_SHUTDOWN, SCHEDOP_SHUTDOWN_CODE,
        SCHEDOP_WATCHDOG, SCHEDOP_PIN_OVERRIDE, SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT, SHUTDOWN_SUSPEND, SHUTDOWN_CRASH,
        SHUTDOWN_WATCHDOG, SHUTDOWN_SOFT_RESET, SHUTDOWN_MAX
    }
    constants! { all, Stable, vcpu:
        VCPUOP_INITIALISE, VCPUOP_UP, VCPUOP_DOWN, VCPUOP_IS_UP, VCPUOP_GET_RUNSTATE_INFO, VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA,
        VCPUOP_SET_PERIODIC_TIMER, VCPUOP_STOP_PERIODIC_TIMER, VCPUOP_SET_SINGLESHOT_TIMER, VCPUOP_STOP_SINGLESHOT_TIMER,
        VCPUOP_REGISTER_VCPU_INFO, VCPUOP_SEND_NMI, VCPUOP_GET_PHYSID, VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA,
        VCPUOP_REGISTER_RUNSTATE_PHYS_AREA, VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA, RUNSTATE_RUNNING, RUNSTATE_RUNNABLE,
        RUNSTATE_BLOCKED, RUNSTATE_OFFLINE, XEN_RUNSTATE_UPDATE
    }
    constants! { all, Stable, version:
        XENVER_VERSION, XENVER_EXTRAVERSION, XENVER_COMPILE_INFO, XENVER_CAPABILITIES, XENVER_CHANGESET, XENVER_PLATFORM_PARAMETERS,
        XENVER_GET_FEATURES, XENVER_PAGESIZE, XENVER_GUEST_HANDLE, XENVER_COMMANDLINE, XENVER_BUILD_ID, XENVER_EXTRAVERSION2,
        XENVER_CAPABILITIES2, XENVER_CHANGESET2, XENVER_COMMANDLINE2, XEN_EXTRAVERSION_LEN, XEN_CAPABILITIES_INFO_LEN,
        XEN_CHANGESET_INFO_LEN
    }
    constants! { all, Stable, hvm:
        HVMOP_SET_PARAM, HVMOP_GET_PARAM, HVMOP_FLUSH_TLBS, HVMOP_GUEST_REQUEST_VM_EVENT, HVMOP_ALTP2M, HVM_PARAM_CALLBACK_IRQ,
        HVM_PARAM_STORE_PFN, HVM_PARAM_STORE_EVTCHN, HVM_PARAM_CONSOLE_PFN, HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_MONITOR_RING_PFN,
        HVM_NR_PARAMS, HVM_PARAM_CALLBACK_IRQ_TYPE_MASK, HVM_PARAM_CALLBACK_TYPE_PPI, HVM_PARAM_CALLBACK_TYPE_PPI_FLAG_MASK,
        HVM_PARAM_CALLBACK_TYPE_PPI_FLAG_LOW_LEVEL
    }
    constants! { all, Stable, platform:
        XENPF_INTERFACE_VERSION, XENPF_SETTIME64
    }
    constants! { all, Stable, physdev:
        PHYSDEVOP_MANAGE_PCI_ADD, PHYSDEVOP_MANAGE_PCI_REMOVE, PHYSDEVOP_MANAGE_PCI_ADD_EXT, PHYSDEVOP_PCI_MMCFG_RESERVED,
        PHYSDEVOP_PCI_DEVICE_ADD, PHYSDEVOP_PCI_DEVICE_REMOVE, PHYSDEVOP_PCI_DEVICE_RESET
    }
    constants! { all, Tools, domctl:
        XEN_DOMCTL_INTERFACE_VERSION, XEN_DOMCTL_CREATEDOMAIN, XEN_DOMCTL_DESTROYDOMAIN, XEN_DOMCTL_PAUSEDOMAIN,
        XEN_DOMCTL_UNPAUSEDOMAIN, XEN_DOMCTL_GETDOMAININFO, XEN_DOMCTL_SETVCPUAFFINITY, XEN_DOMCTL_MAX_MEM,
        XEN_DOMCTL_SETVCPUCONTEXT, XEN_DOMCTL_GETVCPUCONTEXT, XEN_DOMCTL_GETVCPUINFO, XEN_DOMCTL_MAX_VCPUS, XEN_DOMCTL_SCHEDULER_OP,
        XEN_DOMCTL_SETDOMAINHANDLE, XEN_DOMCTL_SETDEBUGGING, XEN_DOMCTL_IRQ_PERMISSION, XEN_DOMCTL_IOMEM_PERMISSION,
        XEN_DOMCTL_SETTIMEOFFSET, XEN_DOMCTL_GETVCPUAFFINITY,
        XEN_DOMCTL_RESUMEDOMAIN, XEN_DOMCTL_SENDTRIGGER, XEN_DOMCTL_SUBSCRIBE,
        XEN_DOMCTL_SET_ADDRESS_SIZE, XEN_DOMCTL_GET_ADDRESS_SIZE, XEN_DOMCTL_ASSIGN_DEVICE, XEN_DOMCTL_BIND_PT_IRQ,
        XEN_DOMCTL_MEMORY_MAPPING, XEN_DOMCTL_TEST_ASSIGN_DEVICE, XEN_DOMCTL_SET_TARGET, XEN_DOMCTL_DEASSIGN_DEVICE,
        XEN_DOMCTL_UNBIND_PT_IRQ, XEN_DOMCTL_VM_EVENT_OP,

        XEN_DOMCTL_SET_ACCESS_REQUIRED, XEN_DOMCTL_SET_VIRQ_HANDLER, XEN_DOMCTL_SETNODEAFFINITY, XEN_DOMCTL_GETNODEAFFINITY,
        XEN_DOMCTL_CACHEFLUSH, XEN_DOMCTL_SETVNUMAINFO, XEN_DOMCTL_MONITOR_OP, XEN_DOMCTL_SOFT_RESET, XEN_DOMCTL_VUART_OP,
        XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE,
        XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE, XEN_DOMCTL_DT_OVERLAY, XEN_DOMCTL_SET_LLC_COLORS,
        XEN_DOMCTL_CDF_HVM, XEN_DOMCTL_CDF_HAP, XEN_DOMCTL_CDF_S3_INTEGRITY, XEN_DOMCTL_CDF_OOS_OFF, XEN_DOMCTL_CDF_XS_DOMAIN,
        XEN_DOMCTL_CDF_IOMMU, XEN_DOMCTL_CDF_NESTED_VIRT, XEN_DOMCTL_CDF_VPMU, XEN_DOMCTL_IOMMU_NO_SHAREPT,
        XEN_DOMCTL_GRANT_VERSION_MASK, XEN_DOMINF_DYING, XEN_DOMINF_HVM_GUEST, XEN_DOMINF_SHUTDOWN, XEN_DOMINF_PAUSED,
        XEN_DOMINF_BLOCKED, XEN_DOMINF_RUNNING, XEN_DOMINF_DEBUGGED, XEN_DOMINF_XS_DOMAIN, XEN_DOMINF_HAP, XEN_DOMINF_SHUTDOWNMASK,
        XEN_DOMINF_SHUTDOWNSHIFT, XEN_INVALID_MAX_VCPU_ID, XEN_VCPUAFFINITY_HARD, XEN_VCPUAFFINITY_SOFT, XEN_VCPUAFFINITY_FORCE,
        XEN_SCHEDULER_CREDIT, XEN_SCHEDULER_CREDIT2, XEN_SCHEDULER_ARINC653, XEN_SCHEDULER_RTDS, XEN_SCHEDULER_NULL,
        XEN_DOMCTL_SCHEDOP_PUTINFO, XEN_DOMCTL_SCHEDOP_GETINFO, XEN_DOMCTL_SCHEDOP_PUTVCPUINFO, XEN_DOMCTL_SCHEDOP_GETVCPUINFO,
        XEN_DOMCTL_DEV_PCI, XEN_DOMCTL_DEV_DT, DPCI_REMOVE_MAPPING, DPCI_ADD_MAPPING, XEN_DOMCTL_VUART_OP_INIT,
        XEN_DOMCTL_VUART_TYPE_VPL011
    }
    constants! { all, Tools, sysctl:
        XEN_SYSCTL_INTERFACE_VERSION, XEN_SYSCTL_READCONSOLE, XEN_SYSCTL_TBUF_OP, XEN_SYSCTL_PHYSINFO, XEN_SYSCTL_SCHED_ID,
        XEN_SYSCTL_PERFC_OP, XEN_SYSCTL_GETDOMAININFOLIST, XEN_SYSCTL_DEBUG_KEYS, XEN_SYSCTL_GETCPUINFO, XEN_SYSCTL_AVAILHEAP,
        XEN_SYSCTL_GET_PMSTAT, XEN_SYSCTL_CPU_HOTPLUG, XEN_SYSCTL_PM_OP, XEN_SYSCTL_PAGE_OFFLINE_OP, XEN_SYSCTL_LOCKPROF_OP,
        XEN_SYSCTL_CPUTOPOINFO, XEN_SYSCTL_NUMAINFO, XEN_SYSCTL_CPUPOOL_OP, XEN_SYSCTL_SCHEDULER_OP, XEN_SYSCTL_COVERAGE_OP,
        XEN_SYSCTL_PCITOPOINFO,
        XEN_SYSCTL_LIVEPATCH_OP, XEN_SYSCTL_DT_OVERLAY,
        XEN_SYSCTL_PHYSCAP_HVM, XEN_SYSCTL_PHYSCAP_PV, XEN_SYSCTL_PHYSCAP_DIRECTIO, XEN_SYSCTL_PHYSCAP_HAP,
        XEN_SYSCTL_PHYSCAP_SHADOW, XEN_SYSCTL_PHYSCAP_IOMMU_HAP_PT_SHARE, XEN_SYSCTL_PHYSCAP_VMTRACE, XEN_SYSCTL_PHYSCAP_VPMU,
        XEN_SYSCTL_PHYSCAP_GNTTAB_V1, XEN_SYSCTL_PHYSCAP_GNTTAB_V2, XEN_SYSCTL_PHYSCAP_ARM_SVE_MASK, XEN_INVALID_CORE_ID,
        XEN_INVALID_SOCKET_ID, XEN_INVALID_NODE_ID, XEN_INVALID_MEM_SZ, XEN_INVALID_NODE_DIST, XEN_SYSCTL_CPUPOOL_OP_CREATE,
        XEN_SYSCTL_CPUPOOL_OP_DESTROY, XEN_SYSCTL_CPUPOOL_OP_INFO, XEN_SYSCTL_CPUPOOL_OP_ADDCPU, XEN_SYSCTL_CPUPOOL_OP_RMCPU,
        XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN, XEN_SYSCTL_CPUPOOL_OP_FREEINFO, XEN_SYSCTL_CPUPOOL_PAR_ANY, XEN_SYSCTL_SCHEDOP_PUTINFO,
        XEN_SYSCTL_SCHEDOP_GETINFO, XEN_SYSCTL_SCHED_RATELIMIT_MAX, XEN_SYSCTL_SCHED_RATELIMIT_MIN, XEN_SYSCTL_TBUFOP_GET_INFO,
        XEN_SYSCTL_TBUFOP_SET_CPU_MASK, XEN_SYSCTL_TBUFOP_SET_EVT_MASK, XEN_SYSCTL_TBUFOP_SET_SIZE, XEN_SYSCTL_TBUFOP_ENABLE,
        XEN_SYSCTL_TBUFOP_DISABLE
    }
    constants! { all, Stable, io::netif:
        XEN_NETIF_NR_SLOTS_MIN, XEN_NETIF_MAX_TX_SIZE, NETTXF_CSUM_BLANK, NETTXF_DATA_VALIDATED, NETTXF_MORE_DATA,
        NETTXF_EXTRA_INFO, NETRXF_DATA_VALIDATED, NETRXF_CSUM_BLANK, NETRXF_MORE_DATA, NETRXF_EXTRA_INFO, NETRXF_GSO_PREFIX,
        XEN_NETIF_EXTRA_TYPE_NONE, XEN_NETIF_EXTRA_TYPE_GSO, XEN_NETIF_EXTRA_TYPE_MCAST_ADD, XEN_NETIF_EXTRA_TYPE_MCAST_DEL,
        XEN_NETIF_EXTRA_TYPE_HASH, XEN_NETIF_EXTRA_FLAG_MORE, XEN_NETIF_GSO_TYPE_NONE, XEN_NETIF_GSO_TYPE_TCPV4,
        XEN_NETIF_GSO_TYPE_TCPV6, NETIF_RSP_DROPPED, NETIF_RSP_ERROR, NETIF_RSP_OKAY, NETIF_RSP_NULL
    }
    constants! { all, Stable, io::xenbus:
        XENSTORE_RING_SIZE, XENSTORE_PAYLOAD_MAX, XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX,
        XENSTORE_SERVER_FEATURE_RECONNECTION, XENSTORE_SERVER_FEATURE_ERROR, XENSTORE_CONNECTED, XENSTORE_RECONNECT
    }
}

/// Values whose C name is not simply the same in capitals: expressions, enumerations, prefixes.
fn expressions(all: &mut List) {
    for (name, flag) in version::Features::all().iter_names() {
        all.add(Group::Stable, format!("1u << $XENFEAT_{name}"), flag.bits().into());
    }
    macro_rules! hypercalls {
        ($($name:ident),*) => {
            $(all.add(Group::Stable, concat!("$__HYPERVISOR_", stringify!($name)).into(), xen::hypercall::$name as i64);)*
        };
    }
    hypercalls! {
        PLATFORM_OP, MEMORY_OP, MULTICALL, XEN_VERSION, CONSOLE_IO, GRANT_TABLE_OP, VM_ASSIST, VCPU_OP, XSM_OP, SCHED_OP,
        EVENT_CHANNEL_OP, PHYSDEV_OP, HVM_OP, SYSCTL, DOMCTL, ARGO_OP, DM_OP, HYPFS_OP
    }
    macro_rules! errors {
        ($($name:ident),*) => { $(all.add(Group::Stable, concat!("XEN_", stringify!($name)).into(), errno::Errno::$name as i64);)* };
    }
    errors! {
        EPERM, ENOENT, ESRCH, EIO, ENXIO, E2BIG, ENOEXEC, EBADF, ECHILD, EAGAIN, ENOMEM, EACCES, EFAULT, EBUSY, EEXIST, EXDEV,
        ENODEV, ENOTDIR, EISDIR, EINVAL, ENFILE, EMFILE, ENOSPC, EROFS, EMLINK, EDOM, ERANGE, EDEADLK, ENAMETOOLONG, ENOLCK, ENOSYS,
        ENOTEMPTY, ENODATA, ETIME, EBADMSG, EOVERFLOW, EILSEQ, ENOTSOCK, EMSGSIZE, EOPNOTSUPP, EADDRINUSE, EADDRNOTAVAIL, ENOBUFS,
        EISCONN, ENOTCONN, ETIMEDOUT, ECONNREFUSED
    }
    macro_rules! xenstore_messages {
        ($($name:ident),*) => { $(all.add(Group::Stable, stringify!($name).into(), io::xenbus::$name.into());)* };
    }
    xenstore_messages! {
        XS_CONTROL, XS_DIRECTORY, XS_READ, XS_GET_PERMS, XS_WATCH, XS_UNWATCH, XS_TRANSACTION_START, XS_TRANSACTION_END,
        XS_INTRODUCE, XS_RELEASE, XS_GET_DOMAIN_PATH, XS_WRITE, XS_MKDIR, XS_RM, XS_SET_PERMS, XS_WATCH_EVENT, XS_ERROR,
        XS_IS_DOMAIN_INTRODUCED, XS_RESUME, XS_SET_TARGET, XS_RESET_WATCHES, XS_DIRECTORY_PART
    }
    let mut stable = |expression: &str, value: u64| all.add(Group::Stable, expression.into(), value as i64);
    stable("XenbusStateUnknown", io::xenbus::XENBUS_STATE_UNKNOWN.into());
    stable("XenbusStateInitialising", io::xenbus::XENBUS_STATE_INITIALISING.into());
    stable("XenbusStateInitWait", io::xenbus::XENBUS_STATE_INIT_WAIT.into());
    stable("XenbusStateInitialised", io::xenbus::XENBUS_STATE_INITIALISED.into());
    stable("XenbusStateConnected", io::xenbus::XENBUS_STATE_CONNECTED.into());
    stable("XenbusStateClosing", io::xenbus::XENBUS_STATE_CLOSING.into());
    stable("XenbusStateClosed", io::xenbus::XENBUS_STATE_CLOSED.into());
    stable("XenbusStateReconfiguring", io::xenbus::XENBUS_STATE_RECONFIGURING.into());
    stable("XenbusStateReconfigured", io::xenbus::XENBUS_STATE_RECONFIGURED.into());
    stable("sizeof(xen_commandline_t)", version::XEN_COMMANDLINE_LEN as u64);
    stable("XENMEMF_get_address_bits(~0u)", memory::XENMEMF_ADDRESS_BITS_MASK.into());
    stable("XENMEMF_node(0)", 1 << memory::XENMEMF_NODE_SHIFT);
    stable("XEN_DOMCTL_CONFIG_GIC_NATIVE", arch_arm::XEN_DOMCTL_CONFIG_GIC_NATIVE.into());
    // Debug exceptions are masked since 4.20.4.
    stable("PSR_GUEST64_INIT | (1u << 9)", arch_arm::PSR_GUEST64_INIT);
    stable("offsetof(struct netif_tx_sring, ring)", size_of::<io::ring::Sring>() as u64);
    stable("offsetof(struct netif_tx_sring, req_event)", core::mem::offset_of!(io::ring::Sring, req_event) as u64);
    stable("offsetof(struct netif_tx_sring, rsp_prod)", core::mem::offset_of!(io::ring::Sring, rsp_prod) as u64);
    stable("offsetof(struct netif_tx_sring, rsp_event)", core::mem::offset_of!(io::ring::Sring, rsp_event) as u64);
    stable("__CONST_RING_SIZE(netif_tx, 4096)", io::netif::NET_TX_RING_SIZE as u64);
    stable("__CONST_RING_SIZE(netif_rx, 4096)", io::netif::NET_RX_RING_SIZE as u64);
    stable("offsetof(struct xen_build_id, buf)", size_of::<version::VarBuf>() as u64);
    let mut tools = |expression: &str, value: u64| all.add(Group::Tools, expression.into(), value as i64);
    tools("PT_IRQ_TYPE_SPI", domctl::PT_IRQ_TYPE_SPI.into());
    tools("sizeof(struct xen_domctl)", domctl::DOMCTL_SIZE as u64);
    tools("offsetof(struct xen_domctl, u)", domctl::DOMCTL_PAYLOAD_OFFSET as u64);
    tools("offsetof(struct xen_domctl, interface_version)", core::mem::offset_of!(domctl::Domctl, interface_version) as u64);
    tools("offsetof(struct xen_domctl, domain)", core::mem::offset_of!(domctl::Domctl, domain) as u64);
    tools("sizeof(struct xen_sysctl)", sysctl::SYSCTL_SIZE as u64);
    tools("offsetof(struct xen_sysctl, u)", sysctl::SYSCTL_PAYLOAD_OFFSET as u64);
    tools("offsetof(struct xen_sysctl, interface_version)", core::mem::offset_of!(sysctl::Sysctl, interface_version) as u64);
}

/// Not in the public headers, but in Xen's or the toolstack's sources.
#[expect(dead_code, reason = "names for the test that every constant is listed")]
const NOT_IN_HEADERS: &str = "INVALID_GFN MEMOP_CMD_MASK MEMOP_EXTENT_SHIFT PSR_MODE_MASK
    CONSOLE_PFN_OFFSET XENSTORE_PFN_OFFSET MEMACCESS_PFN_OFFSET VUART_PFN_OFFSET";
