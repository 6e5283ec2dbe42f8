"""Which addresses plain text may go to. Pure: no name is looked up."""

from __future__ import annotations

import ipaddress

_TAILNET = ipaddress.ip_network("100.64.0.0/10")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's loopback."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_sealed_on_the_way(host: str) -> bool:
    """Whether what is sent there in clear is so on no wire: loopback, or Tailscale's range, whose WireGuard
    encrypts it. False for names: where they lead to may change.
    """
    if is_loopback(host):
        return True
    try:
        return ipaddress.ip_address(host) in _TAILNET
    except ValueError:
        return False
