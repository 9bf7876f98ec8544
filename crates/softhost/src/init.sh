#!/bin/busybox sh
# First process of the software host. Its whole user land is this archive: busybox, kernel modules, our binaries.
# busybox runs its applets without links to them, but finds itself through /proc, so that comes first.
/bin/busybox mount -t proc proc /proc
mount -t devtmpfs dev /dev
exec </dev/null >/dev/console 2>&1
export PATH=/bin:/podflare/bin HOME=/ TERM=dumb

say() { echo "podflare: $*"; }

mount -t sysfs sys /sys
mkdir -p /dev/shm /dev/pts
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t tmpfs shm /dev/shm
mount -t devpts -o mode=600,ptmxmode=666 pts /dev/pts
# Without favordynmods every KVM_CREATE_VM waits for an RCU grace period, 15 to 40 ms instead of 3.
mount -t cgroup2 -o favordynmods none /sys/fs/cgroup

while read -r module; do
    insmod "/lib/modules/$module" || say "the module $module does not load"
done </lib/modules/order
[ -c /dev/kvm ] || say "there is no /dev/kvm: this QEMU does not emulate SVM"

hostname podflare
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2
# VMs are cloned by fork(2), which accounts for memory that is never written.
echo 1 >/proc/sys/vm/overcommit_memory
ulimit -n 65536

# Finds a disk by the serial number QEMU gives it, as names depend on the order of discovery.
disk() {
    for candidate in /sys/block/vd*; do
        if [ "$(cat "$candidate/serial")" = "$1" ]; then
            echo "/dev/${candidate##*/}"
            return
        fi
    done
    echo /dev/null
}
mount -t ext4 -o ro "$(disk podflare-images)" /images || say "the images disk cannot be mounted"
# A journal recovers the state after a power cut; discard gives freed space back to the host.
mount -t ext4 -o noatime,discard "$(disk podflare-state)" /state || say "the state disk cannot be mounted"

# The port for the daemon's log, which takes a line in one go; the console takes it byte by byte.
log_port() {
    for candidate in /sys/class/virtio-ports/vport*; do
        if [ "$(cat "$candidate/name" 2>/dev/null)" = podflare.log ]; then
            echo "/dev/${candidate##*/}"
            return
        fi
    done
    echo /dev/console
}

# Keeps the host daemon running; its VMs live on without it, and the next one takes them over. One that ended is started again at
# once, those after it that live shorter than 10 s after 1, 2, 4, 5 s: a machine that is silent for a minute is taken for dead by
# whoever started it, with all its VMs.
run_hostd() {
    delay=0
    while [ ! -e /run/stopping ]; do
        started=$(date +%s)
        /podflare/start-hostd 2>"$(log_port)" &
        pid=$!
        # Never there half written, for whoever signals the process it names.
        echo $pid >/run/hostd.pid.new
        mv /run/hostd.pid.new /run/hostd.pid
        wait $pid
        status=$?
        [ -e /run/stopping ] && return
        if [ -e /run/restarting ]; then
            rm /run/restarting
            delay=0
            continue
        fi
        [ $(($(date +%s) - started)) -ge 10 ] && delay=0
        say "the host daemon ended with status $status; it is started again in $delay s"
        sleep $delay
        delay=$((delay * 2))
        [ $delay -eq 0 ] && delay=1
        [ $delay -gt 5 ] && delay=5
    done
}

hostd_alive() { kill -0 "$(cat /run/hostd.pid)" 2>/dev/null; }

# Ends everything in order: the host daemon first, which ends its VMs; then whatever is left; then the disks.
power_off() {
    touch /run/stopping
    kill -TERM "$(cat /run/hostd.pid)"
    tenths=0
    while hostd_alive && [ $tenths -lt 400 ]; do
        usleep 100000
        tenths=$((tenths + 1))
    done
    hostd_alive && say "the host daemon did not end within 40 s"
    kill -KILL -1
    sync
    umount /state || mount -o remount,ro /state
    say "powering off"
    poweroff -f
}

# The control channel: requests `id verb base64-argument`, answers `id status base64-output`, one line each.
# Lines that are not requests are ignored, so noise does no harm. A lock keeps answers from mixing.
reply() {
    until mkdir /run/replying 2>/dev/null; do usleep 20000; done
    echo "$1 $2 $3" >/dev/ttyS1
    rmdir /run/replying
}

# The argument is a time limit in seconds, a space, and a shell command.
execute() {
    limit=${2%% *}
    command=${2#* }
    {
        timeout -k 2 "$limit" sh -c "$command" </dev/null 2>&1
        echo $? >"/tmp/status.$1"
    } | head -c 65536 | base64 -w 0 >"/tmp/output.$1"
    reply "$1" "$(cat "/tmp/status.$1")" "$(cat "/tmp/output.$1")"
    rm -f "/tmp/status.$1" "/tmp/output.$1"
}

stats() { head -n 5 /proc/meminfo; cat /proc/loadavg /proc/uptime; df -k /state; ps -o pid,rss,args; }

serve() {
    while read -r id verb argument; do
        case "$id" in '' | *[!a-z0-9]*) continue ;; esac
        argument=$(echo "$argument" | base64 -d 2>/dev/null)
        case "$verb" in
            ping) reply "$id" 0 "$(echo pong | base64 -w 0)" ;;
            stats) reply "$id" 0 "$(stats 2>&1 | head -c 65536 | base64 -w 0)" ;;
            # Not a child of this shell: one that ended would interrupt `read`, which then forgets half a request.
            exec) (execute "$id" "$argument" &) ;;
            poweroff)
                reply "$id" 0 ""
                power_off
                ;;
        esac
    done
}

# Raw: no echo, which would send each request back, and no flow control or signals from bytes that look like it.
stty -F /dev/ttyS1 raw -echo clocal
run_hostd &
while :; do
    serve
    sleep 1
done </dev/ttyS1 &
say "software host up after $(cut -d ' ' -f 1 /proc/uptime) s"

# The first process must not end, and waits for the orphans it inherits.
while :; do
    wait
    sleep 1
done
