import dataclasses

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.emg.montage import (
    FRIDLUND,
    KURAMOTO,
    MMM_COLUMNS,
    build_montage,
    contact_points,
    guess_scheme,
    load_scheme,
    on_head,
    plain_scheme,
    scheme_from_mapping,
)
from eifer_ros.emg.picture import save_scheme_picture, scheme_picture
from eifer_ros.errors import InputError, ModelError
from eifer_ros.head.model import load_head


def test_fridlund_has_eleven_muscles_per_side_with_odd_numbers_on_the_right():
    assert FRIDLUND.names == tuple(f"F{n}" for n in range(1, 23))
    for index, name in enumerate(FRIDLUND.names):
        x = FRIDLUND.positions[index, 0]
        right = int(name[1:]) % 2 == 1
        assert (x < 0) == right
        assert FRIDLUND.muscles[index].endswith("_right" if right else "_left")
    assert np.allclose(FRIDLUND.positions[0::2] * (-1, 1), FRIDLUND.positions[1::2])
    assert np.allclose(FRIDLUND.fibres[0::2] * (-1, 1), FRIDLUND.fibres[1::2])
    assert np.allclose(np.linalg.norm(FRIDLUND.fibres, axis=1), 1.0)


def test_kuramoto_has_eight_pairs_and_three_midline_sites():
    assert len(KURAMOTO.names) == 19
    assert tuple(KURAMOTO.positions[KURAMOTO.index("K19")]) == (0, 47)
    assert KURAMOTO.mirrored("K19") == "K19"
    assert KURAMOTO.mirrored("K1") == "K2"
    assert tuple(KURAMOTO.positions[KURAMOTO.index("K17")]) == (-72, -50)


@pytest.mark.parametrize(
    ("word", "channel"),
    [
        ("Corrugator Supercilii_l", "F6"),
        ("Depressor Ang. Oris_r", "F13"),
        ("Zygomaticus_l", "F20"),
        ("med Front re", "F1"),
        ("OrbOc li", "F18"),
        ("DAO li", "F14"),
        ("f01", "F1"),
        ("F22", "F22"),
        ("zygomaticus_major_right", "F19"),
        ("left masseter", "F22"),
        ("EMG Corr re", "F5"),
    ],
)
def test_names_of_every_lab_lead_to_the_same_channel(word, channel):
    assert FRIDLUND.resolve(word) == channel


def test_every_mmm_column_is_known_and_each_means_another_channel():
    assert len(MMM_COLUMNS) == 22
    assert list(MMM_COLUMNS) == sorted(MMM_COLUMNS)
    assert {FRIDLUND.resolve(column) for column in MMM_COLUMNS} == set(FRIDLUND.names)


def test_kuramoto_accepts_e_numbers_and_fridlund_does_not():
    assert KURAMOTO.resolve("E9") == "K9"
    assert KURAMOTO.resolve("E11") is None
    assert FRIDLUND.resolve("E9") is None


def test_an_unknown_channel_is_named_with_the_nearest_spelling():
    with pytest.raises(InputError, match=r"zygomaticus_major_lef.*did you mean 'zygomaticus_major_left'"):
        FRIDLUND.index("zygomaticus_major_lef")


def test_mmm_columns_come_out_in_the_order_of_the_scheme():
    montage = build_montage(MMM_COLUMNS, FRIDLUND)
    samples = np.arange(22.0)[None, :]
    out = montage.apply(samples)[0]
    for value, channel in zip(out, montage.channels, strict=True):
        assert FRIDLUND.resolve(MMM_COLUMNS[int(value)]) == channel
    assert montage.kind == "bipolar"
    assert montage.missing == ()


def test_contact_pairs_become_differences_whatever_their_order():
    source = ["F2b", "aux", "F1a", "F2a", "F1b"]
    montage = build_montage(source, FRIDLUND)
    x = np.random.default_rng(0).standard_normal((7, 5))
    assert montage.channels == ("F1", "F2")
    assert np.allclose(montage.apply(x), np.stack([x[:, 2] - x[:, 4], x[:, 3] - x[:, 0]], axis=1))
    assert montage.ignored == ("aux",)
    assert montage.contacts == ((2, 4), (3, 0))
    assert "F3" in montage.missing


@settings(max_examples=30, deadline=None)
@given(st.floats(-1, 1), st.integers(0, 2**31))
def test_pairs_and_common_average_take_out_what_is_common_to_all_electrodes(common, seed):
    x = np.random.default_rng(seed).standard_normal((5, 6)) * 1e-4
    pairs = build_montage(["F1a", "F1b", "F2a", "F2b", "F3a", "F3b"], FRIDLUND)
    average = build_montage(["K1", "K2", "K3", "K4", "K5", "K6"], KURAMOTO, "average")
    for montage in (pairs, average):
        assert np.allclose(montage.apply(x + common), montage.apply(x), atol=1e-12)
    assert average.kind == "average"
    assert np.allclose(average.apply(x).mean(axis=1), 0.0, atol=1e-15)


def test_the_streaming_product_equals_the_matrix():
    x = np.random.default_rng(1).standard_normal((9, 4))
    for montage in (
        build_montage(["K1", "K2", "x", "K24"], KURAMOTO),
        build_montage(["K1", "K2", "x", "K24"], KURAMOTO, "average"),
        build_montage(["F1+", "F1-", "x", "y"], FRIDLUND),
    ):
        assert np.allclose(montage.apply(x), x @ montage.matrix.T)


def test_a_damaged_contact_touches_only_its_own_channel():
    x = np.ones((3, 4))
    x[1, 0] = np.nan
    pairs = build_montage(["F1a", "F1b", "F2a", "F2b"], FRIDLUND).apply(x)
    assert np.isnan(pairs[1, 0])
    assert np.isfinite(np.delete(pairs.ravel(), 2)).all()
    x[:, 1:] = [2.0, 4.0, 6.0]
    average = build_montage(["K1", "K2", "K3", "K4"], KURAMOTO, "average").apply(x)
    assert np.isnan(average[1, 0])
    assert np.allclose(average[1, 1:], [-2.0, 0.0, 2.0])


def test_a_bad_channel_stays_in_place_as_unknown_and_leaves_the_average():
    montage = build_montage(["K1", "K2", "K3"], KURAMOTO, "average", bad=["K3"])
    out = montage.apply(np.array([[1.0, 3.0, 1000.0]]))
    assert np.allclose(out[0, :2], [-1.0, 1.0])
    assert np.isnan(out[0, 2])
    assert montage.bad == ("K3",)


def test_a_channel_map_serves_amplifiers_whose_names_say_nothing():
    montage = build_montage(["ch 1", "ch 2", "ch 3"], FRIDLUND, channel_map=["Zyg re = ch 3, ch 1"])
    assert montage.channels == ("F19",)
    assert np.allclose(montage.apply(np.array([[1.0, 5.0, 4.0]])), [[3.0]])


@pytest.mark.parametrize(
    ("source", "options", "says"),
    [
        (["a", "b"], {}, "none of the amplifier channels .a, b."),
        (["F1", "F1"], {}, "occurs twice"),
        (["F1", "med Front re"], {}, "both mean F1"),
        (["F1a", "F2a", "F2b"], {"kind": "bipolar"}, "'F1a' is one contact of F1"),
        (["F1", "F2"], {"kind": "bipolar"}, "use 'recorded'"),
        (["F1"], {"kind": "laplace"}, "laplace"),
        (["F1"], {"bad": ["F99"]}, "bad channel 'F99'"),
        (["ch 1"], {"channel_map": ["F1 -> ch 1"]}, "must read"),
        (["ch 1"], {"channel_map": ["F1 = ch 2"]}, "no channel 'ch 2'.*did you mean 'ch 1'"),
        (["ch 1"], {"channel_map": ["F99 = ch 1"]}, "no channel 'F99'"),
        (["ch 1", "ch 2"], {"channel_map": ["F1 = ch 1", "F1 = ch 2"]}, "twice"),
        (["ch 1"], {"channel_map": ["F1 = ch 1, ch 1"]}, "from itself"),
        (["F1"], {"kind": "average"}, "at least 2"),
    ],
)
def test_a_montage_that_cannot_be_built_says_which_channel_is_wrong(source, options, says):
    with pytest.raises(InputError, match=says):
        build_montage(source, FRIDLUND, **options)


def test_the_scheme_is_guessed_from_the_names():
    assert guess_scheme(["F1", "F2", "trigger"]).name == "fridlund"
    assert guess_scheme(["F1a", "F1b"]).name == "fridlund"
    assert guess_scheme(["E1", "E2", "E3"]).name == "kuramoto"
    assert guess_scheme(["ch1", "ch2"]).names == plain_scheme(["ch1", "ch2"]).names


def test_a_user_scheme_is_read_from_yaml(tmp_path):
    path = tmp_path / "lab.yaml"
    path.write_text(
        "name: lab\nreference: bipolar\nchannels:\n"
        "  - {name: Z, muscle: zygomaticus_major_left, position: [53, -23], fibre: [-2, 2], aliases: [cheek]}\n"
        "  - {name: C, position: [22, 52]}\n"
    )
    scheme = load_scheme(str(path))
    assert scheme.name == "lab"
    assert scheme.resolve("Cheek") == "Z"
    assert scheme.muscles == ("zygomaticus_major_left", "C")
    assert np.allclose(scheme.fibres[0], (-np.sqrt(0.5), np.sqrt(0.5)))
    assert np.isnan(scheme.fibres[1]).all()
    assert scheme.bipolar


def test_the_shipped_scheme_and_the_one_in_the_user_page_can_be_read(root):
    affect = load_scheme("affect")
    assert affect.name == "affect"
    for name in affect.names:
        index = affect.index(name)
        twin = FRIDLUND.index(affect.muscles[index])
        assert np.array_equal(affect.positions[index], FRIDLUND.positions[twin])
        assert affect.fibres[index] @ FRIDLUND.fibres[twin] > 0.99
    page = (root / "docs" / "emg.md").read_text()
    example = page.split("### Your own scheme")[1].split("```yaml")[1].split("```")[0]
    scheme = scheme_from_mapping(yaml.safe_load(example), "docs/emg.md")
    assert scheme.names == ("Z", "C")
    assert scheme.resolve("cheek") == "Z"


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        (None, "needs 'name'"),
        ({"channels": []}, "needs 'name'"),
        ({"channels": [{"name": "A", "position": [1, 2]}], "rate": 3}, "unknown key 'rate'"),
        ({"channels": [{"position": [1, 2]}]}, "channel 1: each channel needs"),
        (
            {"channels": [{"name": "A", "position": [1]}]},
            "channel 1 .A.: position is .1.; it must be two numbers",
        ),
        ({"channels": [{"name": "A", "position": [1, 300]}]}, "off the face"),
        ({"channels": [{"name": "A", "position": [1, float("nan")]}]}, "two numbers"),
        (
            {"channels": [{"name": "A", "position": [1, 2]}, {"name": "A", "position": [3, 4]}]},
            "occurs twice",
        ),
        ({"channels": [{"name": "A", "position": [1, 2], "fibre": [0, 0]}]}, "no direction"),
        ({"channels": [{"name": "A", "position": [1, 2], "colour": "red"}]}, "unknown key 'colour'"),
        ({"reference": "ear", "channels": [{"name": "A", "position": [1, 2]}]}, "reference is 'ear'"),
        (
            {
                "channels": [
                    {"name": "A", "position": [1, 2], "aliases": ["x"]},
                    {"name": "B", "position": [1, 2], "aliases": ["X"]},
                ]
            },
            "would mean both",
        ),
    ],
)
def test_a_wrong_scheme_file_is_refused_by_entry(tree, says):
    with pytest.raises(InputError, match=says):
        scheme_from_mapping(tree, "lab.yaml")


def test_an_unknown_scheme_name_gets_a_hint():
    with pytest.raises(InputError, match="did you mean 'fridlund'"):
        load_scheme("fridlundt")


def test_contacts_sit_a_centimetre_apart_around_their_site_on_the_head():
    head = load_head()
    contacts = contact_points(FRIDLUND, head)
    sites = head.points(head.template, "electrodes_fridlund")
    apart = np.linalg.norm(contacts[:, 0] - contacts[:, 1], axis=1)
    assert apart == pytest.approx(np.full(22, 0.010), rel=0.08)
    # the middle of the pair lies on the skin, but for the curvature over a centimetre
    assert np.linalg.norm(contacts.mean(axis=1) - sites, axis=1).max() < 0.002
    single = contact_points(KURAMOTO, head)
    assert np.array_equal(single[:, 0], single[:, 1])
    assert np.allclose(single[:, 0], head.points(head.template, "electrodes_kuramoto"), atol=1e-6)


def test_any_position_lies_on_the_skin_and_its_mirror_on_the_other_side():
    head = load_head()
    places = on_head([[-45, 0], [45, 0]], head)
    assert places[0, 0] < -0.02 < 0.02 < places[1, 0]
    assert np.allclose(places[0] * (-1, 1, 1), places[1], atol=0.003)
    nearest = np.linalg.norm(head.template[:, None] - places, axis=2).min(axis=0)
    assert nearest.max() < 0.008


def test_a_head_without_electrode_sites_is_named():
    bare = dataclasses.replace(load_head(), id="bare", embeddings={})
    with pytest.raises(ModelError, match="'bare' carries no electrode sites"):
        on_head([[0, 0]], bare)


def test_the_picture_shows_right_red_and_left_blue(tmp_path):
    for scheme in (FRIDLUND, KURAMOTO):
        image = scheme_picture(scheme, load_head(), 600)
        face = image[:, : image.shape[0]].astype(int)
        red = np.argwhere(np.abs(face - (214, 96, 77)).sum(axis=2) < 12)
        blue = np.argwhere(np.abs(face - (67, 147, 195)).sum(axis=2) < 12)
        assert len(red) > 200
        assert len(blue) > 200
        middle = image.shape[0] / 2
        assert red[:, 1].max() < middle < blue[:, 1].min()
    save_scheme_picture(FRIDLUND, load_head(), tmp_path / "f.png", 600)
    assert cv2.imread(str(tmp_path / "f.png")).shape[1] == 600
    with pytest.raises(InputError, match=r"cannot be written|not a picture format"):
        save_scheme_picture(FRIDLUND, load_head(), tmp_path / "f.docx")
    with pytest.raises(InputError, match="no electrode positions"):
        scheme_picture(plain_scheme(["a"]), load_head())
