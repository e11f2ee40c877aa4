#!/bin/sh
# The first and only program of a virtual machine: makes a Linux host out of the unpacked initramfs, then runs what
# the test sends. `vm/channel.rs` is the other end.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root

# The initramfs itself cannot be left with pivot_root, which containers do: a bind mount of it can.
if [ "$1" != moved ]; then
    /bin/busybox --install -s /bin
    mount --bind / /mnt
    cd /mnt
    mount --move /mnt /
    exec chroot . /init moved
fi
cd /

fail() {
    echo "init: $*" >/dev/console
    # The console is slower than that.
    sleep 1
    poweroff -f
}

mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup || fail "cgroup2 cannot be mounted"
# As systemd leaves them for the groups below the root.
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done

# What the kernel's command line says: vm.name=NAME, vm.address=ADDRESS/PREFIX.
for word in $(cat /proc/cmdline); do
    case $word in
        vm.name=*) hostname "${word#*=}" ;;
        vm.address=*) address=${word#*=} ;;
    esac
done

# Older kernels have these as modules.
modprobe virtio_pci
modprobe virtio_console

ip link set lo up
if [ -n "$address" ]; then
    modprobe virtio_net || fail "there is no driver for the network"
    ip address add "$address" dev eth0 || fail "eth0 cannot have $address"
    ip link set eth0 up
fi
if [ -e /sys/class/net/eth1 ]; then
    # Where QEMU takes what comes from the host, unless it is told another address.
    ip address add 10.0.2.15/24 dev eth1 || fail "eth1 cannot have its address"
    ip link set eth1 up
fi
modprobe virtio_blk
if [ -e /dev/vda ]; then
    modprobe ext4
    # A machine that lost its power comes back with what was synced; the journal is replayed here.
    mount -t ext4 /dev/vda /var || fail "the disk cannot be mounted"
fi
mkdir -p /var/lib /var/log /var/tmp

# A port is told its name some time after it appears, later still on a busy host.
tries=0
until name=$(grep -lx tests /sys/class/virtio-ports/*/name 2>/dev/null); do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || fail "there is no way to the test"
    sleep 0.1
done
port=${name%/name}
exec 3<>"/dev/${port##*/}"

# A line is a number and a script; its answer the number, the exit code and the output. Both texts in base64.
echo ready >&3
mkdir /run/job
while read -r number script <&3; do
    echo "$script" | base64 -d >/run/job/script
    # What it leaves running may still write to its output: it is not the next one's.
    sh /run/job/script </dev/null >"/run/job/$number" 2>&1 3>&-
    code=$?
    echo "$number $code $(base64 -w0 "/run/job/$number")" >&3
    rm "/run/job/$number"
done
fail "the test is gone"
