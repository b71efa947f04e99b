#!/bin/sh
# A throw-away machine over the host's root; called by support/booted.py.
#   boot.sh hold FOLDER [SOURCE TARGET]...   lay the root in FOLDER, with read-only folders in it, and stay
#   boot.sh init FOLDER                      be its PID 1
set -eu
verb=$1 folder=$2 root=$2/root
shift 2

if [ "$verb" = hold ]; then
    mount -t tmpfs -o mode=755 tmpfs "$folder"
    mkdir "$folder/upper" "$folder/work" "$root"
    mount -t overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" overlay "$root"
    mkdir -p "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/tmp"
    while [ $# -gt 0 ]; do
        mkdir -p "$root$2"
        mount --bind "$1" "$root$2"
        mount -o remount,bind,ro "$root$2"
        shift 2
    done
    touch "$folder/held"
    exec sleep infinity
fi

mount --rbind "$root" "$root"
mount -t proc proc "$root/proc"
# Settings of the kernel belong to the host.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero full random urandom tty; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
touch "$root/dev/console"
mkdir "$root/run/host"
cd "$root"
pivot_root . run/host
umount -l /run/host
# As systemd itself has it outside of containers; credentials reach a service by this.
mount --make-rshared /
# Never the clock of the host, nor its modules, nor its power.
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    setpriv --bounding-set -sys_time,-sys_module,-sys_boot,-syslog /lib/systemd/systemd --system --show-status=no
