"""The page in a real headless Chromium."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("aiohttp")

from chromium import Browser
from stage import Stage, micro, movement_level

from eifer_ros.errors import InputError
from eifer_ros.recording.reader import read
from eifer_ros.types import Frame, Marker
from eifer_ros.viewer.controls import ArmControl, CalibrateControl, RecordControl
from eifer_ros.viewer.server import Viewer
from eifer_ros.viewer.view_config import ViewConfig
from eifer_ros.workflows.view import view

PIXELS = (
    "Array.from(document.getElementById('{0}').getContext('2d')"
    ".getImageData(0, 0, document.getElementById('{0}').width, document.getElementById('{0}').height).data)"
)


class Robot:
    """Says what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def arm(self) -> tuple[bool, str]:
        self.told.append("arm")
        return True, "armed"

    def release(self) -> tuple[bool, str]:
        self.told.append("release")
        return True, "released"

    def stop(self) -> tuple[bool, str]:
        self.told.append("stop")
        return True, "stopped"

    def clear_stop(self) -> tuple[bool, str]:
        return True, "cleared"


class Run:
    """A viewer with every control, fed by a stage."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder, self.robot = folder, Robot()
        self.record = RecordControl(folder)
        times = {"prepare_s": 0.2, "perform_s": 0.8, "relax_s": 0.3, "rest_s": 0.8, "reaction_s": 0.2}
        self.calibrate = CalibrateControl(folder, record=self.record, times=times)
        controls = {
            "record": self.record,
            "calibrate": self.calibrate,
            "arm": ArmControl(self.robot, "example face"),
        }
        self.viewer = Viewer(ViewConfig(port=port), title="a stage", controls=controls)
        self.record.emit = self.viewer.take
        self.url = self.viewer.start()
        self.stage = Stage(self._take)

    def _take(self, port, item) -> None:
        self.viewer.take(port, item)
        self.record.take(port, item)
        if port == "emg/activity":
            self.calibrate.take(port, item)

    def close(self) -> None:
        self.stage.close()
        self.viewer.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    started = Run(tmp_path / "sessions")
    yield started
    started.close()


def drawn(browser: Browser, kind: str) -> np.ndarray:
    return np.array(browser.run(PIXELS.format(kind)), np.float64)


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 240.0) -> None:
    """Wait until what is drawn fulfils a condition."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"not within {timeout_s:.0f} s: {what}"


def settle(browser: Browser, kind: str = "face", count: int = 8) -> None:
    """Wait for some more pictures of that kind."""
    before = browser.run(f"eifer.drawn.{kind} ?? 0")
    browser.until(f"(eifer.drawn.{kind} ?? 0) >= {before + count}")


@pytest.mark.parametrize(
    ("name", "width", "height", "dark"),
    [("light", 1280, 720, False), ("dark", 1280, 720, True), ("tablet", 820, 1180, False)],
)
def test_the_page_fills_without_an_error_and_asks_nobody_else(
    browser: Browser, run: Run, artefacts: Path, name, width, height, dark
) -> None:
    browser.open(run.url, width, height, dark)
    browser.until("eifer.shown > 10 && eifer.drawn.camera && eifer.streams.measured")
    browser.until("document.getElementById('contact').textContent === '22 good contacts'")
    browser.picture(artefacts / f"page_{name}.png")
    assert browser.errors == []
    assert [
        request for request in browser.requests if not request.startswith((run.url, "blob:", "data:"))
    ] == []
    # nothing is pushed out of the window sideways, and on a desk nothing needs scrolling at all
    assert browser.run("document.documentElement.scrollWidth") <= width
    if width == 1280:
        assert browser.run("document.documentElement.scrollHeight") <= height


@pytest.mark.parametrize("renderer", ["jpeg", "webgl"])
def test_the_head_moves_when_coefficients_change(
    browser: Browser, run: Run, artefacts: Path, renderer: str
) -> None:
    browser.open(f"{run.url}?renderer={renderer}")
    browser.until("eifer.drawn.face > 5", 60)
    if browser.run("document.body.dataset.renderer") != renderer:
        pytest.skip("this Chromium has no WebGL")
    settle(browser)
    rest = drawn(browser, "face")
    run.stage.weights = {"jawOpen": 1.0}
    settle(browser)
    browser.picture(artefacts / f"jaw_{renderer}.png")
    moved = drawn(browser, "face")
    run.stage.weights = {}
    settle(browser)
    again = drawn(browser, "face")
    assert rest.shape == moved.shape
    changed = np.abs(moved - rest).reshape(-1, 4)[:, :3].max(axis=1) > 24
    assert changed.mean() > 0.02
    # the lower half of the picture changes, the forehead does not
    rows = changed.reshape(-1, int(browser.run("document.getElementById('face').width"))).mean(axis=1)
    assert rows[len(rows) // 2 :].sum() > 20 * rows[: len(rows) // 3].sum()
    assert np.abs(again - rest).mean() < 0.5


def test_the_restored_face_gets_a_panel_when_it_comes(browser: Browser, run: Run, artefacts: Path) -> None:
    browser.open(run.url)
    browser.until("eifer.drawn.camera > 3")
    assert browser.run("document.getElementById('panel-restored').hidden")

    def restored(port: str, item: object) -> None:
        run._take(port, item)
        if isinstance(item, Frame):
            run._take("face/restored", Frame(item.stamp, np.full((120, 160, 3), (10, 200, 30), np.uint8)))

    run.stage.take = restored
    browser.until("(eifer.drawn.restored ?? 0) > 2 && !document.getElementById('panel-restored').hidden")
    green = np.median(drawn(browser, "restored").reshape(-1, 4), axis=0)
    np.testing.assert_allclose(green[:3], (10, 200, 30), atol=8)
    browser.picture(artefacts / "restored.png")
    assert browser.run("document.documentElement.scrollWidth") <= 1280
    assert browser.errors == []


def test_the_newest_micro_expressions_are_listed_with_their_lead(
    browser: Browser, run: Run, artefacts: Path
) -> None:
    browser.open(run.url)
    browser.until("eifer.shown > 3")
    for number in range(6):
        run._take(
            "face/events",
            micro(
                time.time_ns(),
                "happiness" if number % 2 else "unknown",
                0.0625 if number == 5 else float("nan"),
            ),
        )
    browser.until("eifer.events.length === 6")
    figures = "document.getElementById('figures').innerText"
    browser.until(f"{figures}.includes('happiness +63 ms')")
    text = browser.run(figures)
    assert text.count("Left lips") == 3 and text.count("unknown") == 1
    assert browser.run("eifer.marks.some(({ label }) => label === 'micro: happiness')")
    browser.picture(artefacts / "micro.png")
    assert browser.errors == []


def test_the_estimator_is_chosen_on_the_page_and_the_page_says_what_is_used(
    browser: Browser, tmp_path: Path
) -> None:
    class Choice:
        chosen = "auto"

        def state(self) -> dict[str, object]:
            return {
                "chosen": self.chosen,
                "choices": ["auto", "sensors", "landmarks"],
                "used": "landmarks",
                "reason": "2 % of the face is covered",
            }

        def command(self, verb: str, values: dict[str, object]) -> str:
            if values["name"] == "sensors":
                raise InputError("face_encoder.onnx is not installed")
            self.chosen = str(values["name"])
            return f"estimator: {self.chosen}"

        def close(self) -> None: ...

    viewer = Viewer(ViewConfig(port=0), controls={"estimator": Choice()})
    stage = Stage(viewer.take)
    viewer.start()
    try:
        browser.open(viewer.url)
        browser.until(
            "document.getElementById('estimator-choice').selectedOptions[0]?.text === 'auto: landmarks'"
        )
        assert (
            browser.run("document.getElementById('estimator-choice').title")
            == "landmarks: 2 % of the face is covered"
        )
        pick = "(() => {{ const s = document.getElementById('estimator-choice'); s.value = '{0}'; s.dispatchEvent(new Event('change')); return true }})()"
        browser.run(pick.format("sensors"))
        browser.until("document.getElementById('toast').textContent.includes('not installed')")
        browser.until("document.getElementById('estimator-choice').value === 'auto'")
        browser.run(pick.format("landmarks"))
        browser.until(
            "eifer.controlled.estimator.chosen === 'landmarks' && document.getElementById('estimator-choice').value === 'landmarks'"
        )
        assert browser.errors == []
    finally:
        stage.close()
        viewer.close()


def test_a_recording_is_started_marked_and_stopped_by_clicks(browser: Browser, run: Run) -> None:
    browser.open(run.url)
    browser.until("eifer.shown > 5")
    browser.click("#record")
    browser.until("document.getElementById('record').getAttribute('aria-pressed') === 'true'")
    browser.key("m")
    browser.until("document.getElementById('marking').open")
    browser.run("document.getElementById('marking-label').value = 'sneezed'")
    browser.click("#marking-form .main")
    browser.until("eifer.controlled.record.markers === 1")
    browser.click("#record")
    browser.until("!eifer.controlled.record.recording && eifer.controlled.record.message.startsWith('saved')")
    (path,) = run.folder.iterdir()
    items = list(read(path))
    assert [
        (item.label, item.phase)
        for _, topic, item in items
        if topic == "markers" and isinstance(item, Marker)
    ] == [("sneezed", "note")]
    assert {"face/fused", "emg/activity", "camera/image_raw"} <= {topic for _, topic, _ in items}
    assert browser.errors == []


def test_the_wizard_leads_through_a_calibration_by_clicks(
    browser: Browser, run: Run, artefacts: Path
) -> None:
    rng = np.random.default_rng(2)

    def obey() -> np.ndarray:
        state = run.calibrate.state()
        return movement_level(state.get("movement", ""), state.get("phase", ""), rng)

    run.stage.level = obey
    browser.open(run.url)
    browser.until("eifer.shown > 5")
    browser.click("#calibrate")
    browser.until(
        "[...document.querySelectorAll('#wizard-plan img')].filter((image) => image.complete && image.naturalWidth > 0).length >= 6"
    )
    browser.picture(artefacts / "wizard_start.png")
    browser.click("#wizard-go")
    browser.until(
        "eifer.controlled.calibrate.phase === 'perform' && eifer.controlled.calibrate.movement === 'Smile-Open'"
    )
    browser.until("document.getElementById('wizard-picture').naturalWidth > 0")
    browser.picture(artefacts / "wizard_smile.png")
    browser.until("document.getElementById('wizard-phase').textContent === 'Done'", 150)
    files = list(run.folder.glob("calibration_*.yaml"))
    assert len(files) == 1
    takes = [take["accepted"] for take in run.calibrate.state()["takes"]]
    assert (
        sum(takes) > len(takes) / 2
    )  # the stage obeys in real time: a starved computer may miss the start of a movement
    assert browser.run("document.querySelectorAll('#wizard-takes li').length") == 11
    assert browser.errors == []


def test_an_animatronic_face_is_armed_only_after_the_question(browser: Browser, run: Run) -> None:
    browser.open(run.url)
    browser.until("eifer.shown > 5")
    browser.click("#arm")
    browser.until("document.getElementById('arming').open")
    browser.click("#arming-no")
    browser.until("!document.getElementById('arming').open")
    assert run.robot.told == []
    browser.click("#arm")
    browser.click("#arming-yes")
    browser.until("document.getElementById('toast').textContent === 'armed'")
    browser.key("s")
    browser.until("document.getElementById('toast').textContent === 'stopped'")
    assert run.robot.told == ["arm", "stop"]


def test_the_page_comes_back_after_the_server_restarts(browser: Browser, tmp_path: Path) -> None:
    first = Run(tmp_path / "a")
    browser.open(first.url)
    browser.until("eifer.shown > 5")
    port = first.viewer.port
    first.close()
    browser.until("document.body.dataset.state === 'lost'")
    second = Run(tmp_path / "b", port)
    try:
        shown = browser.run("eifer.shown")
        browser.until(f"document.body.dataset.state === 'live' && eifer.shown > {shown} + 5")
    finally:
        second.close()


def test_a_bag_plays_pauses_and_seeks(browser: Browser, bag: Path, artefacts: Path) -> None:
    address: list[str] = []
    known, stop = threading.Event(), threading.Event()

    def ready(url: str) -> None:
        address.append(url)
        known.set()

    job = threading.Thread(
        target=view,
        args=(str(bag),),
        kwargs={"page": ViewConfig(port=0), "ready": ready, "stop": stop, "playing": False},
        daemon=True,
    )
    job.start()
    try:
        assert known.wait(240)
        browser.open(address[0])
        browser.until(
            "eifer.hello && eifer.controlled.player.duration_s > 7.9 && !eifer.controlled.player.playing"
        )
        browser.run(
            "document.getElementById('seek').value = 2; document.getElementById('seek').dispatchEvent(new Event('change'))"
        )
        browser.until(
            "eifer.faces.face && Math.abs(eifer.faces.face.ms / 1000 - 1790000002) < 0.2 && eifer.drawn.face > 1"
        )
        rest = drawn(browser, "face")
        browser.run(
            "document.getElementById('seek').value = 5; document.getElementById('seek').dispatchEvent(new Event('change'))"
        )
        browser.until("Math.abs(eifer.faces.face.ms / 1000 - 1790000005) < 0.2")
        # the last picture of the moment may still be on its way
        wait_for(lambda: (np.abs(drawn(browser, "face") - rest) > 24).mean() > 0.01, "the smile on the page")
        browser.picture(artefacts / "bag.png")
        browser.key(" ", "Space")
        browser.until("eifer.controlled.player.playing && eifer.controlled.player.position_s > 5.2")
        browser.key(" ", "Space")
        browser.until("!eifer.controlled.player.playing")
        browser.key("ArrowLeft")
        browser.until("eifer.faces.face.ms / 1000 < 1790000004.6")
        assert browser.errors == []
    finally:
        stop.set()
        job.join(120)
    assert not job.is_alive()
