#!/bin/sh
# What must be gone when the tests that started a private Docker engine are: all that belongs to its directory.
#
#   dockerd.sh keep DIR     waits until stdin ends, which it does however the tests end; then as `clear`
#   dockerd.sh clear DIR    ends engine, containers and containerd, unmounts, removes DIR
#
# What belongs to it: processes with DIR in their command line (dockerd, containerd, its shims), and those in the
# control groups of that name, which are the processes of its containers.
set -u
dir=$2
name=$(basename "$dir")

if [ "$1" = keep ]; then cat >/dev/null; fi

# with_dir: the pids of processes whose command line names something in the directory (this script's does not).
with_dir() {
    printf '%s/' "$dir" | grep -alsF -f - /proc/[0-9]*/cmdline | cut -d / -f 3
}

in_containers() {
    cat /sys/fs/cgroup/"$name"/*/cgroup.procs /sys/fs/cgroup/*/"$name"/*/cgroup.procs 2>/dev/null | sort -u
}

send() {
    signal=$1
    shift
    if [ $# != 0 ]; then kill -s "$signal" "$@" 2>/dev/null; fi
}

# wait_none COMMAND TENTHS: whether it prints nothing any more.
wait_none() {
    left=$2
    while [ -n "$($1)" ]; do
        left=$((left - 1))
        if [ $left -le 0 ]; then return 1; fi
        sleep 0.1
    done
}

# In this order an engine that can still do it tidies up behind itself.
send CONT $(with_dir)
send KILL $(in_containers)
send TERM $(cat "$dir/pid" 2>/dev/null)
wait_none with_dir 20 || send KILL $(with_dir)
send KILL $(in_containers)
wait_none with_dir 20
wait_none in_containers 20

# The innermost first.
sed -n "s|^[^ ]* \($dir/[^ ]*\) .*|\1|p" /proc/mounts | sort -r | while read -r mount; do umount -l "$mount"; done 2>/dev/null
for group in /sys/fs/cgroup/"$name" /sys/fs/cgroup/*/"$name"; do
    if [ -d "$group" ]; then find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null; fi
done
rm -rf "$dir"
