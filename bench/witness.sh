#!/bin/sh
# Runs a command, and writes to the file $WITNESS where it ran: its network namespace, and what went over each
# interface there. That is how the benchmark knows which datapath carried the bytes.
"$@"
status=$?
{
    readlink /proc/self/ns/net
    cat /proc/net/dev
} > "$WITNESS"
exit $status
