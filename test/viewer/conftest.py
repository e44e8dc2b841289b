from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import chromium
from stage import T0, activity, face, picture

from eifer_ros.recording.writer import BagWriter
from eifer_ros.types import NS, FaceOrigin, Marker


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    pytest.importorskip("aiohttp")
    if chromium.executable() is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    running = chromium.Browser(tmp_path_factory.mktemp("chromium") / "profile")
    yield running
    running.close()


@pytest.fixture(autouse=True)
def _forget(request: pytest.FixtureRequest) -> None:
    if "browser" in request.fixturenames:
        running: chromium.Browser = request.getfixturevalue("browser")
        running.send(
            "Page.navigate", url="about:blank"
        )  # the page of the test before may still be calling its server
        running.until("location.href === 'about:blank'")
        running.errors.clear()
        running.requests.clear()


@pytest.fixture
def artefacts(tmp_path: Path) -> Path:
    """Where screenshots are kept: EIFER_ARTEFACTS, else the test's own folder."""
    return Path(os.environ.get("EIFER_ARTEFACTS", tmp_path))


@pytest.fixture(scope="session")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds: a smile from 4 s on, its muscles, pictures that grow brighter, one movement marked."""
    path = tmp_path_factory.mktemp("recording") / "smile"
    with BagWriter(path, session={"participant": "P1"}, wait=True) as out:
        for step in range(800):
            stamp, smile = T0 + step * NS // 100, 1.0 if 400 <= step < 600 else 0.0
            level = [60e-6 * smile + 5e-6 + 1e-7 * ((7 * step + 13 * k) % 10) for k in range(22)]
            out.write("emg/activity", activity(stamp, level))
            if step % 3 == 0:
                out.write("muscles/estimated", activity(stamp, level))
                weights = {"mouthSmileLeft": smile, "mouthSmileRight": smile, "jawOpen": 0.4 * smile}
                out.write("face/vision", face(stamp, FaceOrigin.VISION, **weights))
                out.write("face/emg", face(stamp, FaceOrigin.EMG, **weights))
                out.write("camera/image_raw", picture(stamp, 40 + step // 5))
        out.write("markers", Marker(T0 + 4 * NS, "Smile-Open", "start"))
        out.write("markers", Marker(T0 + 6 * NS, "Smile-Open", "end"))
    return path
