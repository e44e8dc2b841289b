from __future__ import annotations

import time
from typing import Any

import pytest
from ros_peer import ACTIVATE, ACTIVE_SHUTDOWN, CLEANUP, CONFIGURE, DEACTIVATE, SHUTDOWN, wait_for
from ros_toys import TickingToy, Toy, ToySource, chunk

from eifer_ros.hosts.ros_part import Extra, Part
from eifer_ros.types import NS
from eifer_ros.wire import conversions, messages

TOY = (Part("toy", Toy),)
RAW, CHUNK_TYPE = "/eifer/emg/raw", "eifer_msgs/msg/EmgChunk"


def send(publisher: Any, index: int, stamp: int) -> None:
    publisher.publish(messages.serialise(conversions.to_wire(chunk(index, stamp), "emg/raw")[0].message))


def test_a_node_walks_through_every_state_twice(peer: Any) -> None:
    host = peer.host("toy", TOY)
    for _ in range(2):
        assert peer.state("toy") == "unconfigured"
        assert peer.change("toy", CONFIGURE) and peer.state("toy") == "inactive"
        assert peer.change("toy", ACTIVATE) and peer.state("toy") == "active"
        toy = host.components["toy"]
        assert peer.change("toy", DEACTIVATE) and peer.state("toy") == "inactive"
        assert peer.change("toy", ACTIVATE) and peer.change("toy", DEACTIVATE)
        assert peer.change("toy", CLEANUP)
        assert toy.closed == 1 and not host.components and host.inlets is None
    assert peer.change("toy", SHUTDOWN) and peer.state("toy") == "finalized"


def test_a_transition_that_the_state_does_not_have_is_answered_with_no_and_the_node_lives_on(
    peer: Any,
) -> None:
    peer.host("toy", TOY)
    assert not peer.change("toy", ACTIVATE)
    assert not peer.change("toy", DEACTIVATE)
    assert not peer.change("toy", CLEANUP)
    assert not peer.change("toy", 99)
    assert peer.state("toy") == "unconfigured"
    assert peer.change("toy", CONFIGURE)
    assert not peer.change("toy", CONFIGURE)
    assert peer.state("toy") == "inactive"


def test_shutdown_from_active_ends_the_run_and_releases_everything(peer: Any) -> None:
    host = peer.host("toy", TOY)
    assert peer.change("toy", CONFIGURE) and peer.change("toy", ACTIVATE)
    toy = host.components["toy"]
    assert peer.change("toy", ACTIVE_SHUTDOWN)
    assert peer.state("toy") == "finalized" and toy.closed == 1


def test_a_missing_model_file_makes_configure_fail_with_its_name(
    peer: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    host = peer.host("toy", TOY, model="/absent/face.onnx")
    assert not peer.change("toy", CONFIGURE)
    assert peer.state("toy") == "unconfigured" and not host.components
    assert "/absent/face.onnx" in capfd.readouterr().err


def test_a_component_that_breaks_deactivates_its_node_and_can_be_activated_again(
    peer: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    host = peer.host("toy", TOY, fail_at=2)
    told = peer.diagnostics()
    assert peer.change("toy", CONFIGURE) and peer.change("toy", ACTIVATE)
    publisher = peer.publisher(RAW, CHUNK_TYPE)
    for index in range(3):
        send(publisher, index, time.time_ns())
    wait_for(lambda: peer.state("toy") == "inactive", "the node is inactive")
    wait_for(
        lambda: (s := told.get("eifer/toy")) and s.message == "stopped: the toy broke" and s.level == b"\x02",
        "diagnostics",
    )
    assert "the toy broke" in capfd.readouterr().err
    assert peer.change("toy", ACTIVATE)
    before = len(host.components["toy"].got)
    send(publisher, 9, time.time_ns())
    wait_for(lambda: len(host.components["toy"].got) > before, "items flow again")


def test_a_source_produces_again_after_it_was_deactivated(peer: Any) -> None:
    host = peer.host("source", (Part("source", ToySource),))
    assert peer.change("source", CONFIGURE)
    source = host.components["source"]
    for round_ in (1, 2):
        assert peer.change("source", ACTIVATE)
        source.step.release()
        wait_for(lambda round_=round_: source.made == round_, "an item")
        assert peer.change("source", DEACTIVATE)
    assert source.setups == 3  # opened anew while inactive, so that activation is instant


def test_a_recording_that_begins_again_starts_everything_afresh(peer: Any) -> None:
    host = peer.host("toy", TOY)
    assert peer.change("toy", CONFIGURE) and peer.change("toy", ACTIVATE)
    toy = host.components["toy"]
    publisher = peer.publisher(RAW, CHUNK_TYPE)
    start = time.time_ns()
    for index in range(3):
        send(publisher, index, start + index * NS)
    send(publisher, 2, start + 2 * NS - NS // 100)  # jitter is no jump
    wait_for(lambda: len(toy.got) == 4, "the first round")
    assert toy.resets == 0
    for index in range(3):
        send(publisher, index, start - 60 * NS + index * NS)
    wait_for(lambda: len(toy.got) == 7, "the second round")
    assert toy.resets == 1


def test_under_simulated_time_ticks_follow_the_clock_and_a_jump_back_starts_afresh(peer: Any) -> None:
    host = peer.host("toy", (Part("toy", TickingToy),), use_sim_time="true")
    assert peer.change("toy", CONFIGURE) and peer.change("toy", ACTIVATE)
    toy = host.components["toy"]
    clock = peer.publisher("/clock", "rosgraph_msgs/msg/Clock", depth=10)
    kind, stamp = (
        messages.ros_class("rosgraph_msgs/msg/Clock"),
        messages.ros_class("builtin_interfaces/msg/Time"),
    )

    def set_time(now: int) -> None:
        clock.publish(kind(clock=stamp(sec=now // NS, nanosec=now % NS)))
        wait_for(lambda: host.now() == now, "the clock")

    set_time(1000 * NS)
    wait_for(lambda: toy.resets == 1, "the clock was set for the first time")
    for step in range(1, 6):
        set_time(1000 * NS + step * 20_000_000)
        wait_for(
            lambda step=step: toy.ticks and toy.ticks[-1] == 1000 * NS + step * 20_000_000, f"tick {step}"
        )
    ticks = len(toy.ticks)
    assert ticks <= 6
    set_time(900 * NS)
    wait_for(lambda: toy.resets == 2, "the reset")


def test_without_simulated_time_ticks_carry_the_clock_of_the_node(peer: Any) -> None:
    host = peer.host("toy", (Part("toy", TickingToy),))
    assert peer.change("toy", CONFIGURE) and peer.change("toy", ACTIVATE)
    toy = host.components["toy"]
    wait_for(lambda: len(toy.ticks) > 3, "ticks")
    assert abs(toy.ticks[-1] - host.now()) < 60 * NS


def test_what_a_node_offers_besides_is_paused_before_the_streams_end_and_closed_with_them(peer: Any) -> None:
    calls: list[str] = []

    class Offer(Extra):
        def __init__(self, host: Any, component: Any) -> None:
            self.host = host
            calls.append("open")

        def take(self, port: str, item: Any) -> None:
            calls.append(port)

        def pause(self) -> None:
            calls.append(f"pause while active: {self.host.active}")

        def close(self) -> None:
            calls.append("close")

    peer.host("toy", (Part("toy", Toy, (Offer,)),))
    assert peer.change("toy", CONFIGURE) and peer.change("toy", ACTIVATE)
    send(peer.publisher(RAW, CHUNK_TYPE), 0, time.time_ns())
    wait_for(lambda: "emg/activity" in calls, "both items")
    assert peer.change("toy", DEACTIVATE) and peer.change("toy", CLEANUP)
    assert calls == ["open", "emg/raw", "emg/activity", "pause while active: True", "close"]


def test_a_node_can_start_by_itself(peer: Any) -> None:
    process = peer.start("emg_source", url="performer:7", autostart="true")
    wait_for(lambda: peer.state("emg_source") == "active", lambda: f"active\n{process.output}")
    assert process.interrupt() == 0, process.output
