"""Direct servo drivers against servos that are modelled byte by byte."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from servo_models import PATIENT_MS, DynamixelBus, I2cBus, Servo, crc16

from eifer_ros.animatronic.animatronic_face import Animatronic, AnimatronicConfig
from eifer_ros.animatronic.dynamixel import ATTEMPTS
from eifer_ros.animatronic.guard import State
from eifer_ros.animatronic.joint_map import JointMap, load_joint_map
from eifer_ros.animatronic.pca9685 import Pca9685Driver
from eifer_ros.component import Level
from eifer_ros.errors import DeviceError
from eifer_ros.types import ARKIT_52, NS, Blendshapes

T0 = 1_760_000_000 * NS

URDF = """<robot name="two"><link name="base"/><link name="a"/><link name="b"/>
<joint name="jaw" type="revolute"><parent link="base"/><child link="a"/><axis xyz="0 1 0"/><limit lower="-0.1" upper="0.6" velocity="9" effort="1"/></joint>
<joint name="brow" type="revolute"><parent link="base"/><child link="b"/><axis xyz="0 1 0"/><limit lower="-1" upper="1" velocity="9" effort="1"/></joint>
</robot>"""

MAP = """
name: two
urdf: two.urdf
slew_s: 0
joints:
  jaw: {{blendshapes: {{jawOpen: 0.5}}, range: [0, 0.5], speed: 4, acceleration: 100, servo: {jaw}}}
  brow: {{blendshapes: {{browInnerUp: 0.4}}, range: [-0.5, 0.5], speed: 4, acceleration: 100, servo: {brow}}}
driver: {driver}
"""


def joint_map(folder: Path, driver: str, jaw: str, brow: str) -> Path:
    (folder / "two.urdf").write_text(URDF)
    (folder / "map.yaml").write_text(MAP.format(driver=driver, jaw=jaw, brow=brow))
    return folder / "map.yaml"


def blendshapes(stamp: int, **weights: float) -> Blendshapes:
    values = np.zeros(52, np.float32)
    for name, value in weights.items():
        values[ARKIT_52.index(name)] = value
    return Blendshapes(stamp, values)


# ---- Dynamixel ----


LATENCY = "dynamixel_sdk.port_handler.LATENCY_TIMER"
SILENCE_MS = 300.0
"""For the tests with a silent servo, which wait for it: shorter than patience, ten times what the SDK gives."""


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Iterator[DynamixelBus]:
    pytest.importorskip("dynamixel_sdk", reason="needs the extra 'animatronic'")
    monkeypatch.setattr(LATENCY, PATIENT_MS)
    made = DynamixelBus([Servo(1, 2100), Servo(7, 2000)])
    yield made
    made.close()


def dynamixel(folder: Path, bus: DynamixelBus, watchdog_s: float = 0.2) -> Path:
    driver = f"{{type: dynamixel, port: {bus.port}, watchdog_s: {watchdog_s}}}"
    return joint_map(folder, driver, "{id: 1}", "{id: 7, inverted: true, ratio: 2.0, centre: 1900}")


def driven(path: Path) -> Animatronic:
    made = Animatronic(AnimatronicConfig(joint_map=str(path), source="blendshapes"), sleep=lambda _: None)
    made.setup()
    return made


def run(made: Animatronic, start: int, count: int, **weights: float) -> int:
    now = start
    for _ in range(count):
        now += NS // 50
        list(made.handle("face/blendshapes", blendshapes(now, **weights)))
        list(made.tick(now))
    return now


def test_the_model_of_the_bus_knows_the_published_checksum() -> None:
    # e-manual.robotis.com, protocol 2.0, example: ping of id 1
    assert crc16(bytes.fromhex("FFFFFD0001030001")) == 0x4E19


def test_setup_finds_the_servos_and_leaves_them_without_torque(bus: DynamixelBus, tmp_path: Path) -> None:
    made = driven(dynamixel(tmp_path, bus))
    for servo in bus.servos.values():
        assert not servo.torque
        assert servo.table[11] == 3  # position mode
        assert servo.table[98] == 0
        assert servo.get(116, 4) == servo.get(132, 4)
    run(made, T0, 20, jawOpen=1.0)
    assert bus.sync_writes == 0  # nothing is sent while disarmed
    made.close()
    assert bus.broken_packets == 0


def test_armed_servos_go_where_the_blendshapes_say_and_the_watchdog_is_set(
    bus: DynamixelBus, tmp_path: Path
) -> None:
    made = driven(dynamixel(tmp_path, bus))
    assert made.arm() == (True, "armed; the first 0 s are slow")
    for servo in bus.servos.values():
        assert servo.torque
        assert servo.table[98] == 10  # 0.2 s in units of 20 ms
    speed = bus.servos[1].get(112, 4) * 0.229 * 2 * math.pi / 60
    assert 4.0 <= speed < 4.1  # the joint's own limit, as a second guard
    run(made, T0, 60, jawOpen=0.8, browInnerUp=1.0)
    bus.wait_for_sync_writes(made.commands)
    assert bus.servos[1].get(132, 4) == pytest.approx(2048 + 0.4 * 4096 / (2 * math.pi), abs=1)
    assert bus.servos[7].get(132, 4) == pytest.approx(1900 - 2 * 0.4 * 4096 / (2 * math.pi), abs=1)
    assert bus.broken_packets == 0
    made.close()
    assert not bus.servos[1].torque
    assert not bus.servos[7].torque


def test_arming_moves_nothing_from_where_the_servos_stand(bus: DynamixelBus, tmp_path: Path) -> None:
    bus.servos[1].put(132, 4, 2300)  # 0.387 rad open
    made = driven(dynamixel(tmp_path, bus))
    made.arm()
    list(made.handle("face/blendshapes", blendshapes(T0, jawOpen=(2300 - 2048) / 4096 * 2 * math.pi / 0.5)))
    list(made.tick(T0))
    bus.wait_for_sync_writes(2)
    goals = [int.from_bytes(data, "little") for address, data in bus.servos[1].written if address == 116]
    assert goals == [2300, 2300]
    made.close()


def test_closing_brings_an_armed_face_to_neutral_before_the_torque_goes(
    bus: DynamixelBus, tmp_path: Path
) -> None:
    made = driven(dynamixel(tmp_path, bus))
    made.arm()
    run(made, T0, 60, jawOpen=1.0)
    made.close()
    assert not bus.servos[1].torque
    assert bus.servos[1].get(132, 4) == pytest.approx(2048, abs=2)
    goals = [int.from_bytes(data, "little") for address, data in bus.servos[1].written if address == 116]
    assert (
        max(abs(a - b) for a, b in itertools.pairwise(goals)) <= 4 * 0.02 * 4096 / (2 * math.pi) + 1
    )  # no faster than ever
    made.close()


def test_silence_eases_releases_and_comes_back_when_faces_do(bus: DynamixelBus, tmp_path: Path) -> None:
    made = driven(dynamixel(tmp_path, bus))
    made.arm()
    now = run(made, T0, 50, jawOpen=1.0)
    for _ in range(100):
        now += NS // 50
        list(made.tick(now))
    assert made.guard.state == State.RELEASED
    assert not bus.servos[1].torque
    assert bus.servos[1].get(132, 4) == pytest.approx(2048, abs=2)
    run(made, now, 50, jawOpen=1.0)
    assert bus.servos[1].torque
    made.close()


def test_a_servo_stopped_by_its_watchdog_takes_goals_again_after_arming(
    bus: DynamixelBus, tmp_path: Path
) -> None:
    made = driven(dynamixel(tmp_path, bus))
    made.arm()
    now = run(made, T0, 30, jawOpen=1.0)
    bus.wait_for_sync_writes(made.commands)
    for servo in bus.servos.values():
        servo.pass_time(0.3)  # this process hung
    assert bus.servos[1].table[98] == 0xFF
    before = bus.servos[1].get(132, 4)
    sent = bus.sync_writes
    now = run(made, now, 10)
    bus.wait_for_sync_writes(sent + 10)
    assert bus.servos[1].get(132, 4) == before  # goals are refused
    made.release()
    for _ in range(100):
        now += NS // 50
        list(made.tick(now))
    assert made.arm()[0]
    now = run(made, now, 60)
    bus.wait_for_sync_writes(sent + 70)
    assert bus.servos[1].get(132, 4) == pytest.approx(2048, abs=1)
    made.close()


def test_servos_are_switched_on_anew_after_a_stall_of_this_process(bus: DynamixelBus, tmp_path: Path) -> None:
    made = driven(dynamixel(tmp_path, bus))
    made.arm()
    now = run(made, T0, 30, jawOpen=1.0)
    bus.wait_for_sync_writes(made.commands)
    for servo in bus.servos.values():
        servo.pass_time(0.5)
    assert bus.servos[1].table[98] == 0xFF
    now = run(made, now + NS // 2, 60, jawOpen=0.4)
    assert made.driver is not None and made.driver.positions() is not None  # answered after all that was sent
    assert bus.servos[1].table[98] == 10
    assert bus.servos[1].get(116, 4) == pytest.approx(2048 + 0.2 * 4096 / (2 * math.pi), abs=1)
    made.close()


def test_a_servo_that_does_not_answer_is_named_before_anything_moves(
    bus: DynamixelBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LATENCY, SILENCE_MS)
    bus.servos[7].silent = True
    made = Animatronic(AnimatronicConfig(joint_map=str(dynamixel(tmp_path, bus))))
    with pytest.raises(DeviceError, match=r"joint 'brow' \(id 7\) did not answer"):
        made.setup()
    assert bus.sync_writes == 0
    assert not bus.servos[1].torque


def test_a_servo_that_goes_silent_when_armed_refuses_the_arming_by_name(
    bus: DynamixelBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LATENCY, SILENCE_MS)
    made = driven(dynamixel(tmp_path, bus))
    bus.servos[1].silent = True
    done, why = made.arm()
    assert not done
    assert "'jaw' (id 1)" in why
    assert made.health().level >= Level.WARN
    assert made.guard.state == State.DISARMED
    bus.servos[1].silent = False
    made.close()


@pytest.mark.parametrize("number", [1, 7])
def test_a_servo_that_falls_silent_while_active_stops_everything_by_name(
    bus: DynamixelBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    made = driven(dynamixel(tmp_path, bus))
    made.arm()
    monkeypatch.setattr(LATENCY, SILENCE_MS)
    now = run(made, T0, 10, jawOpen=1.0)
    assert made.guard.state == State.ACTIVE
    bus.servos[number].silent = True
    run(made, now, 2 + ATTEMPTS + 1, jawOpen=1.0)
    assert made.guard.state == State.STOPPED
    assert made.health().level == Level.ERROR
    assert f"(id {number}) did not answer" in made.health().message
    assert not bus.servos[8 - number].torque
    made.close()


def test_a_few_lost_answers_stop_nothing(
    bus: DynamixelBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = driven(dynamixel(tmp_path, bus))
    made.arm()
    now = run(made, T0, 10, jawOpen=1.0)
    for _ in range(3):
        bus.wait_for_sync_writes(made.commands)
        for servo in bus.servos.values():
            servo.silent = True
        monkeypatch.setattr(LATENCY, SILENCE_MS)
        # the question of the command before may still be unanswered when the silence begins
        now = run(made, now, ATTEMPTS - 2, jawOpen=1.0)
        bus.wait_for_sync_writes(made.commands)
        for servo in bus.servos.values():
            servo.silent = False
        now = run(made, now, 1, jawOpen=1.0)  # takes the last silence for what it is
        monkeypatch.setattr(LATENCY, PATIENT_MS)
        now = run(made, now, 3, jawOpen=1.0)
    assert made.guard.state == State.ACTIVE
    made.close()


def test_a_servo_that_has_restarted_stops_everything_by_name(bus: DynamixelBus, tmp_path: Path) -> None:
    made = driven(dynamixel(tmp_path, bus))
    made.arm()
    now = run(made, T0, 10, jawOpen=1.0)
    bus.servos[7].table[64] = 0  # its supply broke down for a moment
    run(made, now, 5, jawOpen=1.0)
    assert made.guard.state == State.STOPPED
    assert "'brow' (id 7) has switched its torque off" in made.health().message
    made.close()


def test_a_port_that_vanishes_while_active_stops_everything_and_is_named(
    bus: DynamixelBus, tmp_path: Path
) -> None:
    made = driven(dynamixel(tmp_path, bus))
    made.arm()
    now = run(made, T0, 10, jawOpen=1.0)
    bus.unplug()
    run(made, now, 2, jawOpen=1.0)
    assert made.guard.state == State.STOPPED
    assert made.health().level == Level.ERROR
    assert bus.port in made.health().message
    assert made.clear_stop()[0]
    armed, why = made.arm()
    assert not armed and f"{bus.port} is gone" in why
    made.close()


def test_a_port_that_is_not_there_is_named(tmp_path: Path) -> None:
    pytest.importorskip("dynamixel_sdk", reason="needs the extra 'animatronic'")
    path = joint_map(tmp_path, "{type: dynamixel, port: /dev/no-such-port}", "{id: 1}", "{id: 2}")
    with pytest.raises(DeviceError, match="/dev/no-such-port"):
        driven(path)


# ---- PCA9685 ----


def pca(folder: Path, driver: str = "{type: pca9685}") -> JointMap:
    return load_joint_map(
        joint_map(
            folder, driver, "{channel: 0}", "{channel: 15, inverted: true, centre_us: 1400, us_per_rad: 500}"
        )
    )


def test_pulses_follow_the_joint_positions(tmp_path: Path) -> None:
    bus = I2cBus()
    driver = Pca9685Driver(pca(tmp_path), bus)
    driver.open()
    assert [bus.pulse_us(channel) for channel in range(16)] == [None] * 16
    driver.enable()
    driver.command(np.array([0.3, 0.4]))
    assert bus.pulse_us(0) == pytest.approx(
        1500 + 0.3 * 636.6, abs=3
    )  # one step of 12 bits at 50 Hz is 4.9 us
    assert bus.pulse_us(15) == pytest.approx(1400 - 0.4 * 500, abs=3)
    assert bus.pulse_us(7) is None
    driver.command(np.array([9.0, -9.0]))
    assert bus.pulse_us(0) == pytest.approx(2400, abs=3)
    driver.disable()
    assert bus.pulse_us(0) is None
    driver.close()


@pytest.mark.parametrize("rate", [50.0, 60.0, 100.0, 333.0])
def test_the_pulse_rate_is_what_was_asked(tmp_path: Path, rate: float) -> None:
    bus = I2cBus()
    driver = Pca9685Driver(pca(tmp_path, f"{{type: pca9685, frequency_hz: {rate}}}"), bus)
    driver.open()
    assert 25e6 / 4096 / (bus.registers[0xFE] + 1) == pytest.approx(rate, rel=0.03)
    driver.command(np.array([0.0, 0.0]))
    assert bus.pulse_us(0) == pytest.approx(1500, abs=3)


def test_the_component_drives_pulses_only_while_armed(tmp_path: Path) -> None:
    bus = I2cBus()
    checked = pca(tmp_path)
    made = Animatronic(
        AnimatronicConfig(joint_map=str(checked.path), source="blendshapes"),
        Pca9685Driver(checked, bus),
        sleep=lambda _: None,
    )
    made.setup()
    now = run(made, T0, 20, jawOpen=1.0)
    assert bus.pulse_us(0) is None
    made.arm()
    now = run(made, now, 60, jawOpen=1.0)
    assert bus.pulse_us(0) == pytest.approx(1500 + 0.5 * 636.6, abs=4)
    made.stop()
    run(made, now, 30, jawOpen=0.0)
    assert bus.pulse_us(0) is None
    made.close()


def test_a_chip_that_is_not_there_or_is_unplugged_is_named_and_stops_everything(tmp_path: Path) -> None:
    checked = pca(tmp_path)
    with pytest.raises(DeviceError, match="PCA9685 at address 0x40 of /dev/i2c-1 did not answer"):
        Pca9685Driver(checked, I2cBus(0x41)).open()
    bus = I2cBus()
    made = Animatronic(
        AnimatronicConfig(joint_map=str(checked.path), source="blendshapes"),
        Pca9685Driver(checked, bus),
        sleep=lambda _: None,
    )
    made.setup()
    made.arm()
    now = run(made, T0, 10, jawOpen=1.0)
    bus.unplugged = True
    run(made, now, 3, jawOpen=1.0)
    assert made.guard.state == State.STOPPED
    assert "did not answer" in made.health().message
    assert made.health().level == Level.ERROR
    bus.unplugged = False
    made.close()


def test_a_lost_packet_is_asked_for_again_and_a_silent_servo_still_counts_as_silent() -> None:
    from eifer_ros.animatronic.dynamixel import DynamixelDriver

    driver = object.__new__(DynamixelDriver)
    driver._pending = False
    answers = iter([(None, -3001, 0), (None, 0, 0), (None, 0, 7)])
    assert driver._query(lambda: next(answers)) == (None, 0, 0)
    calls: list[int] = []

    def silent() -> tuple[int, int]:
        calls.append(1)
        return -3001, 0

    assert driver._query(silent) == (-3001, 0)
    assert len(calls) == ATTEMPTS
    assert driver._query(lambda: (0,)) == (0,)
