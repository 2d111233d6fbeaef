# Dom0's environment, and the words that the scenarios speak to it.
export PATH=/usr/lib/xen-4.20/bin:/bin:/sbin:/usr/bin:/usr/sbin ENV=/lib.sh TERM=vt100

# domu NAME LAST-BYTE-OF-IP [SETTING...]: create a DomU with this name and address 10.0.0.N; settings as in an xl config. With EXTRA=tx it
# loads its end of tx copy before netfront.
domu() {
  name=$1 n=$2; shift 2
  xl create /guest/domu.cfg "name='$name'" "extra='console=hvc0 loglevel=4 ip0=10.0.0.$n $EXTRA'" "vif=['bridge=xenbr0,mac=00:16:3e:00:00:0$n']" "$@"
}
# up NAME: wait until it has said DOMU-UP on its console.
up() { i=0; until grep -q DOMU-UP /var/log/xen/console/guest-$1.log 2>/dev/null; do [ $i -lt 300 ] || return 1; sleep 0.5; i=$((i+1)); done; grep DOMU-UP /var/log/xen/console/guest-$1.log | tail -1; }
# gone NAME: wait until no domain has that name.
gone() { i=0; while xl domid $1 >/dev/null 2>&1; do [ $i -lt 300 ] || return 1; sleep 0.5; i=$((i+1)); done; rm -f /var/log/xen/console/guest-$1.log; }
# guest N 'COMMAND': run it in the DomU at 10.0.0.N, and print what it prints.
guest() { echo "$2" | timeout ${3:-90} nc 10.0.0.$1 9999; }
# rate N [OPTION...]: iperf3 with the DomU at 10.0.0.N; prints what the receiver got.
rate() { n=$1; shift; iperf3 -c 10.0.0.$n -t 3 -f m "$@" | grep receiver; }
# heap: what is free, in kB, as the hypervisor counts its pages; empty if it does not tell.
heap() { xl debug-keys m; xl dmesg | sed -n 's/.*Dom heap: *\([0-9]*\)kB free.*/\1/p' | tail -1; }
