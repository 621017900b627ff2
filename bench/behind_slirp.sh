#!/bin/sh
# behind_slirp.sh MTU COMMAND...: runs a command behind slirp4netns, as an ordinary user, in namespaces of its own.
mtu=$1
shift
work=$(mktemp -d)
mkfifo "$work/inside" "$work/ready"
unshare --user --map-root-user --net \
    sh -c 'echo > "$0/inside"; read -r _ < "$0/ready"; exec "$@"' "$work" "$@" &
command=$!
read -r _ < "$work/inside"
slirp4netns --configure --mtu="$mtu" --ready-fd=3 "$command" tap0 3> "$work/ready" > /dev/null 2>&1 &
slirp=$!
wait "$command"
status=$?
kill "$slirp"
wait "$slirp"
rm -r "$work"
exit $status
