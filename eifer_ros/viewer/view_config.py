"""Parameters of the live page."""

from __future__ import annotations

from ..config import Config, parameter
from ..head.model import DEFAULT_HEAD


class ViewConfig(Config):
    """Parameters of the live page."""

    host: str = parameter("127.0.0.1", "address to serve on; any other than loopback needs a token")
    port: int = parameter(8765, "port; 0 takes a free one", ge=0, le=65535)
    token: str = parameter(
        "",
        "what a visitor must know on an address other than loopback; empty: one is made and shown in the address",
    )
    rate_hz: float = parameter(30.0, "pictures of the main head per second, at most", unit="Hz", gt=0, le=120)
    second_rate_hz: float = parameter(
        15.0, "pictures per second of the other heads and of the camera", unit="Hz", gt=0, le=120
    )
    camera_px: int = parameter(360, "height of the camera picture on the page", unit="px", ge=64, le=2160)
    jpeg_quality: int = parameter(84, "quality of pictures", ge=30, le=98)
    max_pages: int = parameter(8, "pages that may be open at once", ge=1, le=100)
    head_model: str = parameter(DEFAULT_HEAD, "head model shown before a face says which")
