"""`python -m plugin_service`: the sidecar, as the environment's settings say."""

from __future__ import annotations

import uvicorn

from plugin_service.api.app import create_app, is_ours
from plugin_service.api.proxy_lane import lane_protocol
from plugin_service.bootstrap import Sidecar
from whyrank.logging import configure
from whyrank.settings import Settings

_GRACE_S = 10
"""After SIGTERM: searches under way have this long to end. Event streams end at once; their readers reconnect."""


def main() -> None:
    """Serve until SIGTERM or SIGINT; then stop accepting, finish what is under way, and stop the parts."""
    settings = Settings()
    configure(settings.log_level, settings.log_format)
    sidecar = Sidecar(settings)
    uvicorn.run(
        create_app(sidecar.parts()),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=lane_protocol(sidecar.proxy, sidecar.upstream, is_ours),
        lifespan="on",
        ws="none",
        access_log=False,
        proxy_headers=False,  # nothing here asks who the client is
        log_config=None,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )


if __name__ == "__main__":
    main()
