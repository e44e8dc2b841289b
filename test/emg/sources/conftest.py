from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eifer_ros.component import Emission, Source


class Running:
    """A source produced from in a thread, with everything it emitted so far."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.emissions: list[Emission] = []
        self.error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            for emission in self.source.produce():
                with self._changed:
                    self.emissions.append(emission)
                    self._changed.notify_all()
        except BaseException as error:
            self.error = error
        finally:
            with self._changed:
                self._changed.notify_all()

    @property
    def chunks(self) -> list:
        return [e.item for e in self.emissions if e.port == "emg/raw"]

    @property
    def infos(self) -> list:
        return [e.item for e in self.emissions if e.port == "emg/raw_channels"]

    @property
    def received(self) -> int:
        return sum(len(chunk.samples) for chunk in self.chunks)

    def until(self, condition: Callable[[], object], what: str, timeout: float = 120.0) -> None:
        """Wait until `condition` holds; conditions outside the stream (health) are looked at every 10 ms."""
        end = time.monotonic() + timeout
        with self._changed:
            while not condition():
                if self.error is not None:
                    raise self.error
                left = end - time.monotonic()
                assert left > 0, f"timed out waiting for {what}; health: {self.source.health()}"
                self._changed.wait(min(left, 0.01))

    def end(self) -> None:
        self.source.stop()
        self._thread.join(120)
        assert not self._thread.is_alive(), "produce did not end after stop"
        self.source.close()
        self.source.close()


@pytest.fixture
def run() -> Iterator[Callable[[Source], Running]]:
    running: list[Running] = []

    def start(source: Source) -> Running:
        source.setup()
        running.append(Running(source))
        return running[-1]

    yield start
    for one in running:
        one.end()


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = Path(os.environ.get("EIFER_TEST_DATA") or Path(__file__).parents[4] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no folder of real recordings (../shared/data or EIFER_TEST_DATA)")
    return folder
