// A plugin of QEMU's (interface 1, QEMU 6 to 8): counts the TLB flushes and the instructions that a hypervisor executes.
//
// The argument `out=FILE` names a file of three counters that is mapped, so that it can be read while the machine runs: flushes in all CPUs, in
// the executing one alone, and instructions at EL2. Declarations are those of QEMU's documentation of its plugin interface.
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
typedef uint64_t id;
struct tb;
struct insn;
void qemu_plugin_register_vcpu_tb_trans_cb(id, void (*)(id, struct tb *));
size_t qemu_plugin_tb_n_insns(const struct tb *);
struct insn *qemu_plugin_tb_get_insn(const struct tb *, size_t);
const void *qemu_plugin_insn_data(const struct insn *);
uint64_t qemu_plugin_insn_vaddr(const struct insn *);
uint64_t qemu_plugin_tb_vaddr(const struct tb *);
void qemu_plugin_register_vcpu_tb_exec_inline(struct tb *, int op, void *counter, uint64_t);
void qemu_plugin_register_vcpu_insn_exec_inline(struct insn *, int op, void *counter, uint64_t);

EXPORT int qemu_plugin_version = 1;

static uint64_t *counters;

static void translated(id plugin, struct tb *tb)
{
    // Xen and Xenolith run in the same terabyte, where Linux puts no program.
    if (qemu_plugin_tb_vaddr(tb) >> 40 == 0xa)
        qemu_plugin_register_vcpu_tb_exec_inline(tb, 0, &counters[2], qemu_plugin_tb_n_insns(tb));
    for (size_t n = 0; n < qemu_plugin_tb_n_insns(tb); n++) {
        struct insn *insn = qemu_plugin_tb_get_insn(tb, n);
        uint32_t code;
        memcpy(&code, qemu_plugin_insn_data(insn), sizeof code);
        // SYS with CRn 8 is TLBI. The kernels of guests, which flush their own, are in the upper half of the address space; EL2 has none.
        if ((code & 0xfff8f000) != 0xd5088000 || qemu_plugin_insn_vaddr(insn) >> 63)
            continue;
        // CRm: 0 to 3 are broadcast, 4 to 7 are not.
        qemu_plugin_register_vcpu_insn_exec_inline(insn, 0, &counters[code >> 10 & 1], 1);
    }
}

EXPORT int qemu_plugin_install(id plugin, const void *info, int argc, char **argv)
{
    if (argc < 1 || strncmp(argv[0], "out=", 4))
        return 1;
    int file = open(argv[0] + 4, O_RDWR | O_CREAT, 0644);
    if (file < 0 || ftruncate(file, 3 * sizeof *counters))
        return 1;
    counters = mmap(0, 3 * sizeof *counters, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (counters == MAP_FAILED)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(plugin, translated);
    return 0;
}
