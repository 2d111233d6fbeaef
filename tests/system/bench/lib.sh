# What the scenarios of `cargo xtask bench` are made of. Dom0 runs them at 10.0.0.1; tx is DomU to Dom0, rx is Dom0 to DomU.
. /lib.sh
g=10.0.0.2
dds() { echo "<CycloneDDS><Domain><General><Interfaces><NetworkInterface address=\"$1\"/></Interfaces><AllowMulticast>false</AllowMulticast></General><Discovery><ParticipantIndex>auto</ParticipantIndex><Peers><Peer address=\"$2\"/></Peers></Discovery></Domain></CycloneDDS>"; }
export CYCLONEDDS_URI="$(dds 10.0.0.1 $g)"

# gone_quietly NAME: wait until no domain has that name; its console's log stays.
gone_quietly() { i=0; while xl domid $1 >/dev/null 2>&1 && [ $i -lt 60 ]; do sleep 1; i=$((i+1)); done; }
# scene NAME 'COMMANDS': run them, what they print between marks that the host waits for.
scene() { echo "BENCH-BEGIN $1"; eval "$2"; echo "BENCH-END $1"; }
# in_domu 'COMMANDS' [SECONDS]: in the DomU, with what it prints.
in_domu() { guest 2 "$1" "${2:-60}"; }
# alone: both ends of what follows are here.
alone() { g=127.0.0.1; in_domu() { sh -c "$1"; }; export CYCLONEDDS_URI="$(dds $g $g)"; }
# machine: the guest of KVM, as the DomU is of Xen.
machine() {
  qemu-system-aarch64 -M virt,gic-version=3 -accel kvm -cpu host -m 256 -smp 1 -nodefaults -display none -kernel /guest/Image -initrd /guest/domu.cpio \
    -append 'console=ttyAMA0 loglevel=4 ip0=10.0.0.2' -serial file:/var/log/xen/console/guest-domu1.log \
    -netdev tap,id=n,ifname=tap0,script=no,downscript=no,vhost=on -device virtio-net-pci,netdev=n,romfile=,mac=00:16:3e:00:00:02 >/tmp/qemu.log 2>&1 &
  up domu1 || cat /tmp/qemu.log; sleep 2
}
# flow SECONDS [OPTION...]: iperf3 from Dom0 to the DomU, or with -R back.
flow() { t=$1; shift; iperf3 -c $g -t $t -f k "$@" | grep receiver; }
# rr KIND LENGTH: requests and responses of one byte each, for so many seconds or, below zero, so many of them.
rr() { netperf -H $g -t $1 -l $2; }
# offload on|off: segmentation offload of both ends.
offload() { in_domu "ethtool -K eth0 tso $1 gso $1"; for i in xenbr0 $(vif); do ethtool -K $i tso $1 gso $1; done; }
# vif: the interface to the DomU.
vif() { cd /sys/class/net; ls -d tap0 vif*.0 2>/dev/null | head -1; }
delivered() { cat ${counter:-/sys/class/net/$(vif)/statistics/rx_packets}; }
# spin, spun: a program of Dom0's that computes, from one to the other.
spin() { sh -c 'while :; do :; done' & spinner=$!; }
spun() { kill $spinner; wait $spinner 2>/dev/null; }
# second, third: one more DomU, at 10.0.0.3 and 10.0.0.4, from the first time on.
second() { xl domid domu2 >/dev/null 2>&1 || { domu domu2 3 >/dev/null; up domu2; sleep 2; }; }
third() { xl domid domu3 >/dev/null 2>&1 || { domu domu3 4 >/dev/null; up domu3; sleep 2; }; }
# between SECONDS [OPTION...]: iperf3 from the first DomU to the second.
between() { in_domu "iperf3 -c 10.0.0.3 -f k -t $* | grep receiver"; }
# together SECONDS: three DomUs send to Dom0 at once.
together() { for n in 2 3; do iperf3 -c 10.0.0.$n -R -t $1 -f k | grep receiver & done; iperf3 -c 10.0.0.4 -R -t $1 -f k | grep receiver; wait; }
# outside SIZE COUNT: the driver path on through the bridge and Dom0's network card, which drops what comes.
outside() {
  ifconfig eth0 up; brctl addif xenbr0 eth0; usleep 500000
  counter=/sys/class/net/eth0/statistics/tx_packets; pktgen start_xmit $1 $2; counter=
  brctl delif xenbr0 eth0
}
# pktgen MODE SIZE COUNT: the driver path alone, counted where the vif delivers to Dom0; the frames are for nobody there.
# start_xmit calls the driver and waits while its queue is stopped; queue_xmit takes the stack's egress path and drops when the queue is full.
pktgen() {
  echo "before $(delivered)"
  in_domu "insmod /lib/modules/pktgen.ko 2>/dev/null; cd /proc/net/pktgen; echo rem_device_all >kpktgend_0; echo add_device eth0 >kpktgend_0; for o in 'count $3' 'pkt_size $2' 'delay 0' 'xmit_mode $1' 'dst 10.0.0.77' 'dst_mac 02:00:00:00:00:77'; do echo \"\$o\" >eth0; done; echo start >pgctrl; grep -A2 Result eth0"
  usleep 100000; echo "after $(delivered)"
}
dds_pub() { (in_domu "ddsperf -D $(($1 + 1)) pub >/dev/null 2>&1" >/dev/null &); ddsperf -D $1 sub | grep rate; usleep 1500000; }
dds_ping() { (in_domu "ddsperf -D $(($1 + 1)) pong >/dev/null 2>&1" >/dev/null &); ddsperf -D $1 ping 2>&1 | grep mean; usleep 1500000; }

# gate NAME 'COMMANDS': run them once the host has seen NAME and typed a line, and go on after another: it logs exceptions meanwhile. It is
# told how many packets came from the DomU.
gate() {
  had=$(delivered); echo "BENCH-GATE $1"; read -r line
  eval "$2" >/dev/null 2>&1
  echo "BENCH-GATED $1 $(($(delivered) - had))"; read -r line
}
# symbols: where the two kernels make hypercalls.
symbols() { for w in HYPERVISOR_ xenolith_tx; do grep -F $w /proc/kallsyms | sed 's/^/Dom0 /'; in_domu "grep -F $w /proc/kallsyms" | sed 's/^/DomU /'; done; }
# held 'COMMANDS': the sender's buffers while they run: how long the DomU's driver holds each (HOLD and the percentiles 0 to 100 in µs,
# then their number), and how many it holds (OCC and for each ms with events the most and the last).
held() {
  in_domu "cd /sys/kernel/tracing 2>/dev/null && [ -e trace ] || mount -t tracefs t /sys/kernel/tracing; cd /sys/kernel/tracing
    echo 0 >tracing_on; echo 16384 >buffer_size_kb; echo >trace
    for e in net/net_dev_start_xmit skb/consume_skb skb/kfree_skb; do echo 1 >events/\$e/enable; done; echo 1 >tracing_on"
  eval "$1"
  in_domu "cd /sys/kernel/tracing; echo 0 >tracing_on; for e in net skb; do echo 0 >events/\$e/enable; done
    awk '{t=0; a=0; for(i=1;i<=NF;i++){if(!t&&\$i~/^[0-9]+\.[0-9]+:\$/){split(\$i,s,/[.:]/);t=s[1]*1000000+s[2]} if(\$i~/^skbaddr=/)a=\$i}}
      /net_dev_start_xmit: dev=eth0/{if(!(a in q)){q[a]=t;n++}}
      /consume_skb:|kfree_skb:/{if(a in q){print \"H\",t-q[a];delete q[a];n--}}
      t{if(!z)z=t;m=int((t-z)/1000);if(n>o[m])o[m]=n;e[m]=n+0;l=m}
      END{for(m=0;m<=l;m++)if(m in e)print \"O\",m,o[m]+0,e[m]}' trace >/tmp/held
    sed -n 's/^H //p' /tmp/held | sort -n | awk '{v[NR]=\$1} END{printf \"HOLD\";for(p=0;p<=100;p++)printf \" %d\",v[1+int(p*(NR-1)/100)];print \"\",NR}'
    awk '/^O/{printf \"%s%s:%s:%s\",(c++?\" \":\"OCC \"),\$2,\$3,\$4} END{print \"\"}' /tmp/held; echo >trace" 120
}
# busy MS AFTER-MS: nothing else runs in Dom0 for so long, from then on.
busy() {
  (usleep $(($2 * 1000)); chrt -f 90 sh -c 'n() { read -r u _ </proc/uptime; n=${u%.*}${u#*.}; }; n; e=$((n + '$(($1 / 10))')); while n; [ $n -lt $e ]; do :; done') &
}
