"""Addresses as they name one page (pure)."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote, urlsplit

_INDEX_FILE = re.compile(r"/index\.x?html?$")
_POST = re.compile(r"^/(?:questions|q|a|posts)/(\d+)(?:/[^/]*)?(?:/(\d+))?")


@lru_cache(maxsize=1 << 16)
def split(url: str) -> tuple[str, str]:
    """The page's name and the place in it: `HTTP://Ex.org/a/index.html#b` gives `//ex.org/a/` and `b`.

    http and https are one. Posts of question-and-answer sites are known by their numbers, whatever form the
    address has: `//host/posts/7`. An address that cannot be read is its own name.
    """
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "") + (f":{parts.port}" if parts.port not in {None, 80, 443} else "")
    except ValueError:
        return url, ""
    path = _INDEX_FILE.sub("/", unquote(parts.path)) or "/"
    if host and (post := _POST.match(path)):
        number = post[2] or (parts.fragment if parts.fragment.isdecimal() else post[1])
        return f"//{host}/posts/{number}", ""
    query = f"?{parts.query}" if parts.query else ""
    return f"//{host}{path}{query}", unquote(parts.fragment)
