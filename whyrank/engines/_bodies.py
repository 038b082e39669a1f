"""Large request bodies, sent as aiohttp wants them."""

from __future__ import annotations

import io
from typing import Any

from aiohttp import ClientSession

LARGE = 1 << 20
"""Bytes from which aiohttp warns that a body given as bytes holds up the event loop."""


class StreamedBodies:
    """A client's session, which sends large bodies from a file object: aiohttp writes that in parts."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session

    def request(self, method: str, url: Any, *, data: Any = None, **options: Any) -> Any:
        """As `ClientSession.request`."""
        large = isinstance(data, bytes) and len(data) >= LARGE
        return self._session.request(method, url, data=io.BytesIO(data) if large else data, **options)

    async def close(self) -> None:
        """Release the connections."""
        await self._session.close()
