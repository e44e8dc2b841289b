"""Imports a FLAME file (2020, 2023 or 2023 Open) into the head model format.

FLAME: Li, Bolkart, Black, Li, Romero 2017, "Learning a model of facial shape and expression from 4D scans".
The official pickles are read by `flame_pickle.py`, without chumpy and without executing code. What FLAME
files lack (landmarks, electrode sites, regions, eyelids, the meaning of each coefficient) comes from the open
head by dense correspondence (`correspondence.py`): nothing under another licence is needed.

Licence: FLAME 2023 Open is CC-BY-4.0. FLAME 2020 and 2023 are for non-commercial research and may not be
passed on, nor may anything imported from them. The importer records which it is, in the asset.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import ModelError
from ..types import ARKIT_52, F32, F64, I64, U8, Indices
from . import correspondence
from .correspondence import Surface
from .flame_pickle import dense, read_pickle
from .model import EMBEDDINGS, Embedding, HeadModel, load_head

VERTICES = 5023
FACES = 9976
JOINTS = 5
SHAPE = 300
EXPRESSION = 100
JOINT_NAMES = ("root", "neck", "jaw", "eye_left", "eye_right")
PARENTS = (-1, 0, 1, 1, 1)
BOUND = 3.0
"""Expression coefficients are in standard deviations; fits of real faces stay within three."""

LICENCE_OPEN = (
    "FLAME 2023 Open, CC-BY-4.0: (c) Max-Planck-Gesellschaft; T. Li, T. Bolkart, M. J. Black, H. Li, J. Romero, Learning a model of facial "
    "shape and expression from 4D scans, 2017. Landmarks, electrode sites and eyelids from the open head."
)
LICENCE_RESEARCH = (
    "FLAME, non-commercial scientific research only (Max-Planck-Gesellschaft); this file may not be redistributed. Landmarks, "
    "electrode sites and eyelids from the open head."
)
LICENCES = {"cc-by-4.0": LICENCE_OPEN, "non-commercial": LICENCE_RESEARCH}

_SURFACE = ("skin", "mouth")
"""Parts of the reference that FLAME's skin may lie on: it goes over the lips into the mouth."""
_EYEBALL = {
    f"{part}_{side}": f"eye_{side}" for part in ("eye", "iris", "pupil") for side in ("left", "right")
}
_GAZE_AND_TONGUE = tuple(name for name in ARKIT_52 if name.startswith("eyeLook") or name == "tongueOut")


@dataclass(frozen=True)
class FlameImport:
    """What came of an import.

    Parameters
    ----------
    model : HeadModel
        The head.
    surface_mm : tuple[float, float]
        50th and 95th percentile of how far the face of the open head lies off FLAME's after alignment, mm.
    explained : dict[str, float]
        Share (0..1) of each ARKit action's motion that this head can make, by name.
    """

    model: HeadModel
    surface_mm: tuple[float, float]
    explained: dict[str, float]


def licence_text(path: Path, licence: str | None = None) -> str:
    """The licence to record.

    Only a file that calls itself open is taken for the open one: the stricter licence is the safer mistake.

    Parameters
    ----------
    path : Path
        The FLAME file.
    licence : str, optional
        `cc-by-4.0`, `non-commercial`, any text of the owner, or None to go by the file's name.

    Returns
    -------
    str
        For `HeadModel.licence`.
    """
    if licence:
        return LICENCES.get(licence.lower(), licence)
    return LICENCE_OPEN if "open" in path.stem.lower() else LICENCE_RESEARCH


def read_flame(path: Path, head_id: str, licence: str) -> HeadModel:
    """The model as the file gives it: bases, pose correctives, joints by the regressor, skin weights; no
    embeddings.

    Parameters
    ----------
    path : Path
        The official pickle; no code in it is run.
    head_id : str
        Id of the head.
    licence : str
        To be recorded.

    Returns
    -------
    HeadModel
        The head.

    Raises
    ------
    ModelError
        The file is not of FLAME's structure; names the array and its shape.
    """
    content = read_pickle(path)
    shapes: dict[str, tuple[int, ...]] = {
        "v_template": (VERTICES, 3),
        "f": (FACES, 3),
        "shapedirs": (VERTICES, 3, SHAPE + EXPRESSION),
        "posedirs": (VERTICES, 3, 9 * (JOINTS - 1)),
        "J_regressor": (JOINTS, VERTICES),
        "weights": (VERTICES, JOINTS),
        "kintree_table": (2, JOINTS),
    }
    arrays: dict[str, F64] = {}
    for name, shape in shapes.items():
        if name not in content:
            raise ModelError(
                f"{path}: not a FLAME file, '{name}' is missing; it has {', '.join(sorted(content)) or 'nothing'}"
            )
        arrays[name] = dense(content[name], name, path)
        if arrays[name].shape != shape:
            got, expected = (
                " x ".join(map(str, s)) or "a single number" for s in (arrays[name].shape, shape)
            )
            raise ModelError(f"{path}: {name} is {got}; in FLAME 2020, 2023 and 2023 Open it is {expected}")
        if not np.isfinite(arrays[name]).all():
            raise ModelError(f"{path}: {name} holds values that are not finite")
    if arrays["f"].min() < 0 or arrays["f"].max() >= VERTICES:
        raise ModelError(f"{path}: f points at vertices outside 0..{VERTICES - 1}")
    parents = tuple(
        int(p) if p < JOINTS else -1 for p in arrays["kintree_table"][0]
    )  # the root's parent is 2^32 - 1
    if parents != PARENTS:
        raise ModelError(
            f"{path}: kintree_table has the parents {parents}; FLAME's are {PARENTS} (root, neck, jaw, eyes)"
        )
    if np.abs(arrays["weights"].sum(axis=1) - 1.0).max() > 1e-3:
        raise ModelError(f"{path}: weights do not sum to 1 for every vertex")
    regressor = arrays["J_regressor"]
    basis = arrays["shapedirs"]
    joint_basis = np.einsum("jv,vdc->jdc", regressor, basis)

    def f32(value: F64) -> F32:
        return np.ascontiguousarray(value, np.float32)

    return HeadModel(
        id=head_id,
        template=f32(arrays["v_template"]),
        faces=arrays["f"].astype(np.int32),
        shape_basis=f32(basis[:, :, :SHAPE]),
        expression_basis=f32(basis[:, :, SHAPE:]),
        expression_names=tuple(f"expression_{i:03d}" for i in range(EXPRESSION)),
        expression_bounds=np.tile(np.array([-BOUND, BOUND], np.float32), (EXPRESSION, 1)),
        joints=JOINT_NAMES,
        parents=np.array(PARENTS, np.int32),
        joint_template=f32(regressor @ arrays["v_template"]),
        joint_shape_basis=f32(joint_basis[:, :, :SHAPE]),
        joint_expression_basis=f32(joint_basis[:, :, SHAPE:]),
        skin_weights=f32(arrays["weights"]),
        regions={},
        parts=_parts(arrays["weights"]),
        part_names=("skin", "eye_left", "eye_right"),
        embeddings={},
        licence=licence,
        origin=f"imported from {path.name}",
        pose_basis=f32(arrays["posedirs"]),
    )


def _parts(weights: F64) -> U8:
    """Eyeballs are what turns with an eye joint and nothing else."""
    parts = np.zeros(len(weights), np.uint8)
    for part, joint in ((1, JOINT_NAMES.index("eye_left")), (2, JOINT_NAMES.index("eye_right"))):
        parts[weights[:, joint] > 0.5] = part
    return parts


def import_flame(
    path: Path,
    out: Path | None = None,
    head_id: str = "flame",
    *,
    licence: str | None = None,
    reference: HeadModel | None = None,
) -> FlameImport:
    """Import a FLAME pickle. Takes some seconds.

    Parameters
    ----------
    path : Path
        The official pickle; no code in it is run.
    out : Path, optional
        Where to write the head model; None for nowhere.
    head_id : str, optional
        Id of the head.
    licence : str, optional
        See `licence_text`.
    reference : HeadModel, optional
        A head with ARKit's 52 actions as expression and all embeddings; None for the open head.

    Returns
    -------
    FlameImport
        The head, and how well it fits.

    Raises
    ------
    ModelError
        Anything that is not the official structure.
    """
    head = read_flame(path, head_id, licence_text(path, licence))
    result = annotate(head, load_head() if reference is None else reference)
    if out is not None:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            result.model.save(out)
        except OSError as error:
            raise ModelError(f"{out}: cannot be written ({error.strerror or error})") from None
    return result


def annotate(head: HeadModel, reference: HeadModel) -> FlameImport:
    """Give `head` the regions, embeddings, eyelids and ARKit map that `reference` has, by dense
    correspondence.

    Parameters
    ----------
    head : HeadModel
        A head of FLAME's structure.
    reference : HeadModel
        A head with ARKit's 52 actions as expression and all embeddings.

    Returns
    -------
    FlameImport
        The head with what was carried over, and how well it fits.

    Raises
    ------
    ModelError
        The reference's expression is not ARKit's 52 actions or it has no region `face`, or the eyes of `head`
        do not lie as FLAME's.
    """
    if reference.expression_names != ARKIT_52:
        raise ModelError(
            f"head model '{reference.id}' cannot serve as reference: its expression is not ARKit's 52 actions"
        )
    if "face" not in reference.regions:
        raise ModelError(f"head model '{reference.id}' cannot serve as reference: it has no region 'face'")
    skin = np.flatnonzero(np.isin(reference.parts, _indices(reference, _SURFACE)))
    flame_skin = head.part("skin")
    source = Surface(reference.template.astype(np.float64), _faces_of(reference, skin))
    target = Surface(head.template.astype(np.float64), _faces_of(head, flame_skin))
    face = np.intersect1d(reference.regions["face"], skin).astype(np.int64)
    fit = correspondence.register(
        source, reference.shape_basis.astype(np.float64), face, target, _eyes_onto_eyes(reference, head)
    )
    laid = Surface(fit.vertices, source.faces)
    off = correspondence.closest(laid.vertices[face], laid.vertex_normals()[face], target).distance * 1e3

    # every skin vertex of the head takes on the actions of the reference point it lies on
    back = correspondence.closest(target.vertices[flame_skin], target.vertex_normals()[flame_skin], laid)
    corners = laid.faces[back.triangles]
    actions = reference.expression_basis[corners].astype(np.float64)
    moved = fit.transform.directions(np.moveaxis(np.einsum("nc,ncda->nda", back.weights, actions), 2, 0))
    displacement = np.zeros((len(head.template), 3, len(ARKIT_52)))
    displacement[flame_skin] = np.moveaxis(moved, 0, 2)

    nearest = corners[np.arange(len(corners)), np.argmax(back.weights, axis=1)]
    regions = {
        name: flame_skin[np.isin(nearest, indices)].astype(np.int32)
        for name, indices in reference.regions.items()
    }
    normals = laid.vertex_normals()
    embeddings: dict[str, Embedding] = {}
    for which in EMBEDDINGS:
        if which in reference.embeddings:
            embeddings[which] = _carry(
                reference.embeddings[which], reference, laid.vertices, normals, head, target
            )

    blinks = [ARKIT_52.index("eyeBlinkLeft"), ARKIT_52.index("eyeBlinkRight")]
    head = replace(
        head,
        regions=regions,
        embeddings=embeddings,
        eyelid_basis=np.ascontiguousarray(displacement[:, :, blinks], np.float32),
        origin=f"{head.origin}; landmarks, electrodes, regions and eyelids from '{reference.id}'",
    )
    head, explained = _with_arkit(head, displacement)
    return FlameImport(head, (float(np.median(off)), float(np.percentile(off, 95))), explained)


def _indices(head: HeadModel, names: tuple[str, ...]) -> list[int]:
    """Numbers of those of the parts `names` that `head` has."""
    return [i for i, name in enumerate(head.part_names) if name in names]


def _faces_of(head: HeadModel, vertices: Indices) -> I64:
    """The triangles whose corners all belong to `vertices`."""
    return np.asarray(head.faces[np.isin(head.faces, vertices).all(axis=1)], np.int64)


def _eyes_onto_eyes(reference: HeadModel, head: HeadModel) -> correspondence.Similarity:
    """A rough alignment: both heads look along +z with y up, so the eye centres fix scale and position."""
    a, b = (
        np.array(
            [model.joint_template[model.joints.index(name)] for name in ("eye_left", "eye_right")], np.float64
        )
        for model in (reference, head)
    )
    apart = np.linalg.norm(b[0] - b[1])
    if apart < 1e-6 or (b[0] - b[1])[0] < 0.8 * apart:
        raise ModelError(
            f"head model '{head.id}': the left eye must lie at larger x than the right one, y up, the face towards +z"
        )
    scale = float(apart / np.linalg.norm(a[0] - a[1]))
    return correspondence.Similarity(scale, np.eye(3), b.mean(axis=0) - scale * a.mean(axis=0))


def _carry(
    embedding: Embedding, reference: HeadModel, laid: F64, normals: F64, head: HeadModel, skin: Surface
) -> Embedding:
    """Points of the reference, laid onto the head, at the closest place of its surface; iris points go to its
    eyeballs.
    """
    corners = reference.faces[embedding.triangles]
    points = np.einsum("nc,ncd->nd", embedding.weights.astype(np.float64), laid[corners])
    directions = np.einsum("nc,ncd->nd", embedding.weights.astype(np.float64), normals[corners])
    triangles = np.zeros(len(points), np.int32)
    weights = np.zeros((len(points), 3), np.float32)
    part = np.array([reference.part_names[p] for p in reference.parts[corners[:, 0]]])
    for name in np.unique(part):
        rows = np.flatnonzero(part == name)
        eyeball = _EYEBALL.get(str(name))
        surface = skin if eyeball is None else Surface(skin.vertices, _faces_of(head, head.part(eyeball)))
        if len(surface.faces) == 0:
            raise ModelError(f"head model '{head.id}' has no {name}, which the reference's points lie on")
        ahead = directions[rows] if eyeball is None else np.tile([0.0, 0.0, 1.0], (len(rows), 1))
        match = correspondence.closest(points[rows], ahead, surface)
        index = np.flatnonzero(np.isin(head.faces, np.unique(surface.faces)).all(axis=1))
        triangles[rows] = index[match.triangles]
        weights[rows] = match.weights
    return Embedding(embedding.names, triangles, weights)


def _with_arkit(head: HeadModel, displacement: F64) -> tuple[HeadModel, dict[str, float]]:
    """Least squares of the head's own motions on the ARKit actions' displacements (V, 3, 52), over the face."""
    face = np.asarray(head.regions["face"], np.int64)
    actions = displacement[face].reshape(-1, len(ARKIT_52)).copy()
    actions[:, [ARKIT_52.index(name) for name in _GAZE_AND_TONGUE]] = (
        0.0  # gaze is read off the eye joints; FLAME has no tongue
    )
    jaw = jaw_motion(head)[face].reshape(len(actions), 3)
    own = np.hstack([head.expression_basis[face].reshape(len(actions), -1).astype(np.float64), jaw])
    gram = actions.T @ actions
    ridge = 1e-3 * np.trace(gram) / np.count_nonzero(np.diag(gram))
    gram += ridge * np.eye(len(gram))
    weights = np.linalg.solve(gram, actions.T @ own)

    lids = actions[:, [ARKIT_52.index("eyeBlinkLeft"), ARKIT_52.index("eyeBlinkRight")]]
    span, _ = np.linalg.qr(np.hstack([own, lids]))
    total = (actions**2).sum(axis=0)
    within_span = ((span.T @ actions) ** 2).sum(axis=0)
    explained = {name: float(within_span[i] / total[i]) for i, name in enumerate(ARKIT_52) if total[i] > 0}
    mapped = replace(
        head,
        arkit=np.ascontiguousarray(weights[:, : head.expression_size], np.float32),
        arkit_jaw=np.ascontiguousarray(weights[:, head.expression_size :], np.float32),
        arkit_gram=np.ascontiguousarray(gram, np.float32),
    )
    return mapped, explained


def jaw_motion(head: HeadModel) -> F64:
    """How far each vertex goes per rad of the jaw's axis-angle: opening (x) as the secant of 0.25 rad, the
    others central.

    Parameters
    ----------
    head : HeadModel
        A head with a jaw joint.

    Returns
    -------
    ndarray of float64, shape (V, 3, 3)
        M per rad; the last axis is that of the rotation.
    """
    columns = []
    for axis, angle, both in ((0, 0.25, False), (1, 0.1, True), (2, 0.1, True)):
        turn = np.zeros(3)
        turn[axis] = angle
        ahead = head.vertices(jaw=turn).astype(np.float64)
        behind = head.vertices(jaw=-turn).astype(np.float64) if both else head.template
        columns.append((ahead - behind) / (angle * (2 if both else 1)))
    return np.stack(columns, axis=2)
