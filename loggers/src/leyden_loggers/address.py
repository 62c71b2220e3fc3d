"""Reads where a logger posts to, so that no password in it is shown or taken for a part of the host."""

from __future__ import annotations

import re
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from leyden.messages import shown


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: a POST would become a GET without what was posted, and its headers go to another server."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        return None


OPENER = urllib.request.build_opener(_StayHere)
"""Posts to one address; a redirect is an ``HTTPError``."""


def read_address(url: Any, label: str) -> tuple[str, str, dict[str, str]]:
    """What to post to.

    Args:
        url: as the user gave it.
        label: what the user calls it, for messages; these show nothing of ``url``.

    Returns:
        The address without a name, a password and a fragment; its host; and the header that the name and the password make.

    Raises:
        ValueError: it is no address of ``http`` or ``https``.
    """

    def refused(problem: str) -> ValueError:
        return ValueError(f"{label}: expected an address such as 'https://example.org/hook', got {problem}")

    if not isinstance(url, str):
        raise refused(shown(url))
    if not url.startswith(("http://", "https://")):
        scheme = re.match(r"[a-z][a-z0-9+.-]*://", url)
        raise refused(f"one of {scheme[0]}" if scheme else "one without 'https://' in front")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise refused("one with characters that no address has; write them as in '%20'")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # its own words may show a password
        host = port = parts = None
    if parts is None or not host:
        raise refused("one without a host, or whose port is no number")
    place = (f"[{host}]" if ":" in host else host) + ("" if port is None else f":{port}")
    named = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    headers = {"Authorization": f"Basic {b64encode(named.encode()).decode()}"} if "@" in parts.netloc else {}
    return urlunsplit(parts._replace(netloc=place, fragment="")), host, headers


def check_headers(headers: Any, label: str) -> None:
    """Refuses headers that cannot be sent; messages show their names only.

    Raises:
        TypeError: it is no dict of str.
        ValueError: a name or a value has a character that no header has.
    """
    if headers is None:
        return
    if not isinstance(headers, Mapping) or not all(isinstance(text, str) for pair in headers.items() for text in pair):
        raise TypeError(f"{label}: expected a dict of str")
    for name, value in headers.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise ValueError(f"{label}: {name!r} is no name of a header")
        if re.search(r"[\r\n\0]|[^\x00-\xff]", value):
            raise ValueError(f"{label}: the value of {name!r} has a line break or another character that no header has")
