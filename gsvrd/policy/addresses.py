"""Which addresses of the network an operator's URL may lead to. Pure: nothing is resolved or opened here.

`net.guarded` asks before it connects, for webhooks and for whatever else is fetched from an address that a user wrote: a
URL must not be a way into this machine or its neighbourhood.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Container
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_SAFE = "/%:=&?~+!$,;'@()*[]-._"
"""What may stay as it is in a path or a query: all that has a meaning there, and what is quoted already."""


@dataclass(frozen=True, slots=True)
class Target:
    """An http or https URL, taken apart."""

    scheme: str
    host: str
    """As DNS knows it: small letters, no dot at the end, not ASCII in punycode; an IPv6 address without brackets."""
    port: int
    path: str
    """Path and query, quoted. What comes after a `#` is for browsers and left out."""


def parse_target(url: str) -> Target:
    """Take a URL apart. Raises `ValueError` with a sentence for people that does not repeat the URL: it may be a secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("the address cannot be read") from None
    if parts.scheme not in _PORTS:
        raise ValueError("the address is neither http nor https")
    if "@" in parts.netloc:
        raise ValueError("the address must not hold a user name or password")
    try:
        port = parts.port
    except ValueError:
        raise ValueError("the port of the address is none") from None
    host = plain_host(parts.hostname or "")
    path = quote(parts.path or "/", _SAFE) + (f"?{quote(parts.query, _SAFE)}" if parts.query else "")
    return Target(parts.scheme, host, _PORTS[parts.scheme] if port is None else port, path)


def plain_host(host: str) -> str:
    """A host as `Target.host` spells it. Raises `ValueError` if it can be none."""
    bare = host.strip("[]").lower().removesuffix(".")
    if not bare.isascii():
        try:
            bare = bare.encode("idna").decode()
        except UnicodeError:
            raise ValueError("the host of the address is none") from None
    if not bare or not bare.isprintable() or any(c in bare for c in " /\\%"):
        raise ValueError("the host of the address is none")
    return bare


def is_public(address: Address) -> bool:
    """Whether an address is one of the open internet, and so is each address that is wrapped in it."""
    if isinstance(address, ipaddress.IPv6Address):
        wrapped = _wrapped(address)
        if wrapped is not None:
            return is_public(wrapped)
        if address.is_site_local or address.is_reserved:
            return False
    return address.is_global and not address.is_multicast


def _wrapped(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets for `address` end at: mapped, 6to4, or behind a NAT64 gateway."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def objection(target: Target, addresses: list[Address], allowed: Container[str]) -> str:
    """Why `target` must not be connected to, for people; empty if it may be. One address that is wrong is enough."""
    if target.host in allowed:
        return ""
    private = next((address for address in addresses if not is_public(address)), None)
    return "" if private is None else f"{target.host} is {private}, which is not an address of the open internet"
