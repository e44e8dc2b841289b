from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ros_peer import ACTIVATE, CLEANUP, CONFIGURE
from ros_toys import Toy, ToySource

from eifer_ros.hosts.ros_part import Part
from eifer_ros.wire.messages import ros_class

TOY = (Part("toy", Toy),)


def describe(peer: Any, node: str, name: str) -> Any:
    return peer.call(
        "rcl_interfaces/srv/DescribeParameters", f"/eifer/{node}/describe_parameters", names=[name]
    ).descriptors[0]


def set_value(peer: Any, node: str, name: str, value: float | str) -> Any:
    kind = ros_class("rcl_interfaces/msg/ParameterValue")
    held = kind(type=3, double_value=value) if isinstance(value, float) else kind(type=4, string_value=value)
    parameter = ros_class("rcl_interfaces/msg/Parameter")(name=name, value=held)
    return peer.call(
        "rcl_interfaces/srv/SetParameters", f"/eifer/{node}/set_parameters", parameters=[parameter]
    ).results[0]


def test_a_parameter_is_described_with_text_unit_range_and_whether_it_may_change(peer: Any) -> None:
    peer.host("toy", TOY)
    rate = describe(peer, "toy", "rate_hz")
    assert rate.description == "how often [Hz]"
    assert rate.additional_constraints == "above 0, at most 240"
    assert (rate.floating_point_range[0].from_value, rate.floating_point_range[0].to_value) == (0.0, 240.0)
    assert rate.read_only
    count = describe(peer, "toy", "count")
    assert (count.integer_range[0].from_value, count.integer_range[0].to_value) == (1, 9)
    assert not describe(peer, "toy", "gain").read_only
    assert describe(peer, "toy", "mode").additional_constraints == "one of a, b"
    assert describe(peer, "toy", "names").type == 9  # a list of texts, though it is empty


def test_a_change_takes_effect_and_a_wrong_or_fixed_one_is_refused_with_a_reason(peer: Any) -> None:
    host = peer.host("toy", TOY)
    assert peer.change("toy", CONFIGURE)
    assert set_value(peer, "toy", "gain", 2.5).successful
    assert host.components["toy"].config.gain == 2.5
    refused = set_value(peer, "toy", "gain", 11.0)
    assert not refused.successful and "gain" in refused.reason
    refused = set_value(peer, "toy", "share", 0.0)  # a bound that ROS ranges cannot say
    assert not refused.successful and "share = 0.0: input should be greater than 0" in refused.reason
    fixed = set_value(peer, "toy", "rate_hz", 20.0)
    assert not fixed.successful and "read-only" in fixed.reason
    assert host.components["toy"].config.gain == 2.5


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rate_h": "20.0"}, ["unknown parameter 'rate_h'", "did you mean 'rate_hz'"]),
        ({"rate_hz": "500.0"}, ["rate_hz = 500.0", "less than or equal to 240"]),
        ({"count": "'many'"}, ["count = 'many'", "integer"]),
        ({"mode": "c"}, ["mode = 'c'", "'a' or 'b'"]),
        ({"gains.x": "'loud'"}, ["gains", "number"]),
    ],
)
def test_a_wrong_parameter_makes_configure_fail_with_the_key_and_what_would_be_right(
    peer: Any, capfd: pytest.CaptureFixture[str], given: dict[str, str], words: list[str]
) -> None:
    peer.host("toy", TOY, **given)
    assert not peer.change("toy", CONFIGURE)
    assert peer.state("toy") == "unconfigured"
    told = capfd.readouterr().err
    assert "cannot configure" in told
    assert all(word in told for word in words), told


def test_a_parameter_file_is_read_with_empty_lists_whole_numbers_and_a_number_per_name(
    peer: Any, tmp_path: Path
) -> None:
    from eifer_ros.hosts.ros import RosHost

    path = tmp_path / "params.yaml"
    path.write_text(
        "/**:\n  ros__parameters:\n    rate_hz: 60\ntoy:\n  ros__parameters:\n    names: []\n    gains:\n      smile: 1.5\n      frown: 2\n"
    )
    host = RosHost(
        "toy",
        TOY,
        context=peer.context,
        cli_args=["--ros-args", "--params-file", str(path)],
        use_global_arguments=False,
    )
    peer._hosts.append(host)
    assert host.trigger_configure().name == "SUCCESS"
    config = host.components["toy"].config
    assert (config.rate_hz, config.names, config.gains) == (60.0, (), {"smile": 1.5, "frown": 2.0})


def test_a_composition_takes_the_file_of_the_separate_nodes_and_prefixed_parameters_win(
    peer: Any, tmp_path: Path
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(
        "/**:\n  toy:\n    ros__parameters:\n      rate_hz: 60.0\n      count: 5\n  other:\n    ros__parameters:\n      x: 1\n"
    )
    parts = (Part("source", ToySource), Part("toy", Toy))
    host = peer.host("both", parts, ("source", "toy"), **{"params_file": str(path), "toy.count": "7"})
    assert peer.change("both", CONFIGURE)
    config = host.components["toy"].config
    assert (config.rate_hz, config.count) == (60.0, 7)
    assert describe(peer, "both", "toy.rate_hz").description == "how often [Hz]"


@pytest.mark.parametrize(
    ("text", "components", "words"),
    [
        (
            "toy:\n  ros__parameters:\n    rate_h: 60.0\n",
            "[toy]",
            ["toy: unknown key 'rate_h'", "did you mean 'rate_hz'"],
        ),
        ("", "[toyy]", ["unknown 'toyy'", "did you mean 'toy'", "source, toy"]),
    ],
)
def test_a_composition_that_cannot_be_is_refused_when_it_is_configured(
    peer: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], text: str, components: str, words: list[str]
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    peer.host(
        "both",
        (Part("source", ToySource), Part("toy", Toy)),
        ("source", "toy"),
        params_file=str(path),
        components=components,
    )
    assert not peer.change("both", CONFIGURE)
    told = capfd.readouterr().err
    assert all(word in told for word in words), told


def test_a_node_reads_its_parameters_anew_after_cleanup(peer: Any) -> None:
    host = peer.host("toy", TOY)
    assert peer.change("toy", CONFIGURE)
    first = host.components["toy"]
    assert set_value(peer, "toy", "gain", 3.0).successful
    assert peer.change("toy", CLEANUP) and first.closed == 1
    assert peer.change("toy", CONFIGURE)
    assert host.components["toy"] is not first and host.components["toy"].config.gain == 3.0
    assert peer.change("toy", ACTIVATE)


def test_the_qos_of_a_topic_is_a_parameter(peer: Any) -> None:
    host = peer.host(
        "toy",
        TOY,
        **{
            "qos_overrides./eifer/emg/raw.subscription.depth": "7",
            "qos_overrides./eifer/emg/activity.publisher.reliability": "best_effort",
        },
    )
    assert peer.change("toy", CONFIGURE)
    assert host.inlets.topics["emg/raw"][0].traffic.qos == "reliable, volatile, keep last 7"
    assert host.outlets.topics["emg/activity"].traffic.qos == "best effort, volatile, keep last 10"
