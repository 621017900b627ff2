"""The host's resolv.conf(5), read for its servers and rewritten for a sandbox."""

from __future__ import annotations

from ipaddress import ip_address


def name_servers(resolv_conf: str) -> list[str]:
    """The servers of a resolv.conf(5), at most three as in glibc; the loopback address when it names none.

    What is not an address is left out, as glibc does: to ask for it would take the resolver that is being set up.
    """
    found = []
    for line in resolv_conf.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver" and _is_address(words[1]):
            found.append(words[1])
    return found[:3] or ["127.0.0.1"]


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def sandbox_resolv_conf(resolv_conf: str, server: str) -> str:
    """The host's resolv.conf with our server in place of its own; search list and options stay."""
    kept = [line for line in resolv_conf.splitlines() if line.split()[:1] not in (["nameserver"], [])]
    return "\n".join([*kept, f"nameserver {server}", ""])
