"""Which requests of browsers are answered, and where they are listened for.

A page of a stranger can make the browser of somebody who visits it ask this server, too. Two checks keep its pictures from
such a page: the stranger's own name that was pointed at this machine's address (DNS rebinding) is not among ours, and a
WebSocket, which browsers let any page open, names the page that opened it as its origin.
"""

import errno
import ipaddress
import socket
from urllib.parse import urlsplit

from sega_ros.errors import SegaError


class WebError(SegaError):
    """The address can't be listened on."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 is a free one.

    Raises:
        WebError: the port is taken or not allowed, or the host is not an address of this machine.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family)
    except (OSError, UnicodeError) as e:
        if isinstance(e, OSError) and e.errno == errno.EADDRINUSE:
            raise WebError(f'port {port} of {host} is taken by another program; choose another port, or 0 for a free one') from e
        raise WebError(f"{host!r}, port {port}, can't be listened on: {e}; host is an address of this machine, a port below "
                       '1024 needs privileges') from e


def own_names(host: str, more: str) -> frozenset[str]:
    """Return the names by which browsers may call this machine; `more` are further ones, comma between."""
    machine = socket.gethostname()
    return frozenset(name.strip().lower() for name in ('localhost', machine, f'{machine}.local', host, *more.split(','))) - {''}


def refusal(host: str, origin: str | None, names: frozenset[str]) -> str:
    """Return why a request with these headers is refused, or ''.

    An address as `host` is always right: only names can be pointed elsewhere. Without `origin` it is no WebSocket of a page.
    """
    try:
        name = urlsplit(f'//{host}').hostname or ''
    except ValueError:
        name = ''
    if name not in names and not _is_address(name):
        return (f'host: found {host[:80]!r}, wanted an IP address, localhost or the name of this machine; other names belong '
                'into the parameter host_names of avatar_web')
    if origin is not None and origin.partition('://')[2].lower() != host.lower():
        return f'origin: found {origin[:80]!r}, wanted a page of {host[:80]!r}; open the page of avatar_web itself'
    return ''


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
