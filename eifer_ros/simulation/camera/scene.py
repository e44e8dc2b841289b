"""The camera that looks at the simulated participant: a picture is a function of (seed, pose of the face,
time) and nothing else.

The same face with and without sensors is the same picture wherever no sensor or its shadow shows, down to the
noise, as long as `variation.jpeg_quality` is 0 (always so in the lab profile).
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ...head import projection
from ...head.model import HeadModel, load_head
from ...render import rasteriser as raster
from ...render import shade
from ...types import ARKIT_52, F32, F64, I32, NS, U8, Bools
from ..seeds import generator
from . import materials as appearance
from . import sensors
from . import shading as pixels
from . import surface as surfaces
from .materials import Variation
from .surface import Surface

_NOISE = 128
_FITTINGS = sensors.BANK
_STRAND_STEPS = 14
_BAND = 24
"""Rows that are painted together, whatever the number of threads: what a picture looks like must not depend
on it.
"""
_PAD_PULL = 0.0022
"""Pads are drawn this much (m) nearer than they are, so that coarse skin triangles do not cut through them.
"""


@dataclass(frozen=True)
class View:
    """One moment, seen with and without sensors.

    mask: (H, W) bool, True where the two pictures may differ.
    """

    bare: U8
    with_sensors: U8
    mask: Bools


@functools.lru_cache(maxsize=1)
def _codes() -> tuple[F32, U8]:
    """sRGB: (256,) 8 bit -> linear; (4096,) linear -> 8 bit."""
    code = np.arange(256) / 255.0
    decode = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    linear = np.arange(4096) / 4095.0
    encode = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return decode.astype(np.float32), np.round(encode * 255.0).astype(np.uint8)


def _tone(variation: Variation) -> U8:
    """(4096,) linear light to 8 bit with this camera's gamma and contrast; bright parts roll off instead of
    clipping.
    """
    linear = np.arange(4096) / 4095.0
    rolled = np.where(linear > 0.6, 0.6 + 0.4 * np.tanh((linear - 0.6) / 0.4), linear) / (
        0.6 + 0.4 * np.tanh(1.0)
    )
    code = (
        np.where(rolled <= 0.0031308, 12.92 * rolled, 1.055 * rolled ** (1 / 2.4) - 0.055) ** variation.gamma
    )
    code = code + variation.contrast * (code * code * (3.0 - 2.0 * code) - code)
    return np.asarray(np.round(np.clip(code, 0.0, 1.0) * 255.0), np.uint8)


@functools.lru_cache(maxsize=4)
def _grain(width: int, height: int) -> npt.NDArray[np.int8]:
    """(height + _NOISE, 3 (width + _NOISE)) sensor noise, standard deviation 32, three channels that are
    partly alike.
    """
    rng = generator("camera noise")
    shared = rng.standard_normal((height + _NOISE, width + _NOISE, 1), np.float32)
    own = rng.standard_normal((height + _NOISE, width + _NOISE, 3), np.float32)
    return (
        np.clip(np.round(32.0 * (0.8 * shared + 0.6 * own)), -127, 127)
        .astype(np.int8)
        .reshape(height + _NOISE, -1)
    )


@raster.compiled
def _finish(image: Any, grain: Any, noise: float, floor: float, vignette: float, box: Any) -> None:
    """Vignette and noise in place inside box (top, bottom, left, right).

    image (H, 3 W), grain (H, 3 W) of standard deviation 32.

    After gamma, noise is strongest in the dark middle tones; floor: how much of it is left at black.
    """
    height, width = image.shape
    cy = np.float32(0.5 * (height - 1))
    cx = np.float32(0.5 * (width - 1) / 3)
    inverse = np.float32(vignette / (cx * cx + cy * cy + 1.0))
    across = np.empty(width, np.float32)
    for i in range(width):
        across[i] = (np.float32(i // 3) - cx) * (np.float32(i // 3) - cx)
    scale = np.float32(noise / 32.0)
    least = np.float32(floor)
    first, end = max(3 * box[2], 0), max(3 * box[3], 0)
    across = across[first:end]
    for y in range(box[0], box[1]):
        dy = (np.float32(y) - cy) * (np.float32(y) - cy)
        line = image[y, first:end]
        speckle = grain[y, first:end]
        for i in range(line.shape[0]):
            code = np.float32(line[i])
            middle = min(least + code * np.float32(0.025), np.float32(1.0)) * (
                np.float32(1.2) - np.float32(0.0022) * code
            )
            value = (
                code * (np.float32(1.0) - inverse * (dy + across[i]))
                + np.float32(speckle[i]) * scale * middle
            )
            line[i] = np.uint8(min(max(value + np.float32(0.5), np.float32(0.0)), np.float32(255.0)))


class ParticipantCamera:
    """Renders one simulated participant.

    seed: who sits there and how the sensors were put on. sensors: whether `render` shows them. size: (width,
    height). K: pinhole matrix, default `projection.default_intrinsics`. head: default `models/open_head.npz`.
    variation: default `Variation.sample(seed, profile)`. sensor_seed: which fitting of the sensors; default
    `seed`, in the wild profile one of 256. threads: how many draw one picture together; it is the same
    picture with any number.

    Pictures of one camera may be made in any order. Not for two callers at once.
    """

    def __init__(
        self,
        seed: int,
        sensors: bool = True,
        size: tuple[int, int] = (640, 480),
        K: npt.ArrayLike | None = None,
        head: HeadModel | None = None,
        *,
        profile: appearance.Profile = "lab",
        variation: Variation | None = None,
        sensor_seed: int | None = None,
        threads: int = 1,
    ) -> None:
        width, height = size
        if width < 16 or height < 16:
            raise InputError(
                f"the simulated camera's picture is {width} x {height}; it must be at least 16 x 16"
            )
        self.seed = seed
        self.sensors = sensors
        self.size = (width, height)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads - 1, "camera") if threads > 1 else None
        self.head = load_head() if head is None else head
        self.intrinsics: F64 = (
            projection.default_intrinsics(width, height) if K is None else np.asarray(K, np.float64)
        )
        self.variation = Variation.sample(seed, profile) if variation is None else variation
        self.sensor_seed = (
            sensor_seed
            if sensor_seed is not None
            else seed
            if self.variation.profile == "lab"
            else seed % _FITTINGS
        )
        self._surface = surfaces.prepare(self.head)
        # a skin map about as fine as the pixels of a face 0.6 m away
        density = float(self.intrinsics[0, 0]) / 0.6
        self._map_width = 256 if density < 750 else 512 if density < 1400 else 1024
        self._skin = pixels.pack_skin(appearance.skin_map(self._surface, self.variation, self._map_width))
        self._relief = appearance.relief(self._surface, self._map_width, self.variation.relief)
        self._bump = pixels.pack_relief(self._relief.bump)
        self._encode = _tone(self.variation)
        self._background = _background(self.variation, width, height)
        self._neutral: tuple[bytes, F32] | None = None
        self._head, self._head_spans = raster.new_samples(2 * width, 2 * height)
        self._over, self._over_spans = raster.new_samples(2 * width, 2 * height)
        self._used = (0, 0, 0, 0)
        self._used_over = self._used
        self._lay_out()

    def _lay_out(self) -> None:
        """Vertex ranges and faces: head, torso, hair; then pads and cables."""
        surface = self._surface
        v = self.variation
        head_count = len(self.head.template)
        torso, torso_faces = _torso(surface)
        self._torso = torso
        self._hair = _hair(surface, v)
        strands = self._hair.radius.shape[0]
        self._hair_first = head_count + len(torso)
        bare_count = self._hair_first + 2 * strands * _STRAND_STEPS
        self._rig = sensors.build(surface, self.sensor_seed)
        self._pad_first = bare_count
        self._cable_first = bare_count + len(self._rig.pad_local)
        total = self._cable_first + 2 * self._rig.radius.size
        # rows of the style table: clothes, lashes of the head model, hair, then sensors, so that sensors do
        # not change the rest
        first = 2 + strands
        self._styles = np.zeros((first + len(self._rig.styles), sensors.STYLE_SIZE), np.float32)
        self._styles[0, :4] = (*v.clothes, 0.02)
        self._styles[1, :4] = (0.012, 0.009, 0.007, 0.0)
        self._styles[2:first, :4] = self._hair.colour
        self._styles[first:] = self._rig.styles
        self._hair_style = np.arange(2, first, dtype=np.int32)
        self._cable_style = self._rig.cable_style + np.int32(first)
        bare = [surface.faces, torso_faces + head_count]
        bare_material = [surface.material, np.full(len(torso_faces), surfaces.CLOTH, np.uint8)]
        if strands:
            ribbons = pixels.ribbon_faces(strands, _STRAND_STEPS, self._hair_first)
            bare.append(ribbons)
            bare_material.append(np.full(len(ribbons), surfaces.HAIR, np.uint8))
        pads = sensors.pad_faces(self._rig.pad_count, self._pad_first)
        cables = pixels.ribbon_faces(self._rig.radius.shape[0], sensors.STEPS, self._cable_first)
        self._solid_faces = len(surface.faces) + len(torso_faces)
        self._bare_faces = sum(len(piece) for piece in bare)
        self._faces = np.concatenate([*bare, pads, cables])
        self._material = np.concatenate(
            [
                *bare_material,
                sensors.pad_materials(self._rig.pad_count),
                np.full(len(cables), surfaces.CABLE, np.uint8),
            ]
        )
        self._vertices = np.zeros((total, 3), np.float32)
        self._attributes = np.zeros((total, pixels.ATTRIBUTES), np.float32)
        a = self._attributes
        a[:head_count, 3:5] = surface.uv
        a[:head_count, 9:12] = surface.local
        lashes = np.unique(surface.faces[surface.material == surfaces.HAIR])
        a[lashes, 13] = 1
        a[head_count : self._hair_first, 5] = np.linspace(0.35, 0.75, len(torso))
        a[head_count : self._hair_first, 9:12] = torso
        a[head_count : self._hair_first, 13] = 0
        a[self._pad_first : self._cable_first, 9:11] = self._rig.pad_local
        a[self._pad_first : self._cable_first, 13] = np.repeat(
            first + np.arange(self._rig.pad_count), len(self._rig.pad_local) // self._rig.pad_count
        )
        self._appearance = _appearance(surface, v)
        self._bulk = _bulk(surface, v)

    def render(
        self,
        shape: npt.ArrayLike | None,
        expression: npt.ArrayLike | None,
        eyes: npt.ArrayLike | None,
        head_pose: npt.ArrayLike,
        time_s: float,
        *,
        jaw: npt.ArrayLike | None = None,
        neck: npt.ArrayLike | None = None,
        eyelids: npt.ArrayLike | None = None,
        offsets: npt.ArrayLike | None = None,
    ) -> U8:
        """(H, W, 3) uint8 RGB picture of a face; arguments as in `FaceState`, `time_s` chooses the noise of
        the moment.

        offsets: (V, 3) m in model coordinates, added to the posed vertices. Raises InputError where it has
        another shape.
        """
        self._pose_head(shape, expression, eyes, head_pose, jaw, neck, eyelids, offsets)
        if not self.sensors:
            self._fill_head()
            return self._develop(self._paint(False), time_s)
        if self._pool is None:
            self._fill_head()
            self._pose_sensors()
        else:
            head = self._pool.submit(self._fill_head)
            self._pose_sensors()
            head.result()
        return self._develop(self._paint(True), time_s)

    def render_pair(
        self,
        shape: npt.ArrayLike | None,
        expression: npt.ArrayLike | None,
        eyes: npt.ArrayLike | None,
        head_pose: npt.ArrayLike,
        time_s: float,
        *,
        jaw: npt.ArrayLike | None = None,
        neck: npt.ArrayLike | None = None,
        eyelids: npt.ArrayLike | None = None,
        offsets: npt.ArrayLike | None = None,
    ) -> View:
        """The same moment with and without sensors, whatever `self.sensors` says; arguments as for `render`."""
        self._pose_head(shape, expression, eyes, head_pose, jaw, neck, eyelids, offsets)
        self._fill_head()
        bare = self._paint(False, wipe=False)
        self._pose_sensors()
        mask = np.zeros(bare.shape[:2], np.uint8)
        covered = self._paint(True, bare, mask)
        # both are developed in the box of the larger one, so that they stay equal where no sensor is
        without = self._develop(bare, time_s)
        with_ = self._develop(covered, time_s)
        spread = self._blur_reach()
        if spread:
            mask = np.asarray(cv2.dilate(mask, np.ones((2 * spread + 1, 2 * spread + 1), np.uint8)), np.uint8)
        return View(without, with_, mask > 0)

    # drawing
    # -------------------------------------------------------------------------------------------------------------
    def _pose_head(
        self,
        shape: npt.ArrayLike | None,
        expression: npt.ArrayLike | None,
        eyes: npt.ArrayLike | None,
        head_pose: npt.ArrayLike,
        jaw: npt.ArrayLike | None,
        neck: npt.ArrayLike | None,
        eyelids: npt.ArrayLike | None,
        offsets: npt.ArrayLike | None,
    ) -> None:
        """Head, torso and hair of this moment into the vertex and sample buffers."""
        surface = self._surface
        key = b"" if shape is None else np.asarray(shape, np.float32).tobytes()
        if self._neutral is None or self._neutral[0] != key:
            self._neutral = (key, self.head.neutral(shape))
        posed = self.head.vertices(
            shape, expression, jaw=jaw, neck=neck, eyes=eyes, eyelids=eyelids, neutral=self._neutral[1]
        )
        if offsets is not None:
            moved = np.asarray(offsets, np.float32)
            if moved.shape != posed.shape:
                raise InputError(
                    f"offsets have shape {moved.shape}; this head has {len(posed)} vertices, so it must be {posed.shape}"
                )
            posed = posed + moved
        pose = np.asarray(head_pose, np.float64)
        if pose.shape != (4, 4) or not np.isfinite(pose).all():
            raise InputError(f"head_pose must be a finite 4 x 4 matrix; got shape {pose.shape}")
        turn = pose[:3, :3].astype(np.float32)
        shift = pose[:3, 3].astype(np.float32)
        count = len(posed)
        normals = shade.vertex_normals(posed, surface.faces)
        self._model = (posed, normals)
        v = self._vertices
        a = self._attributes
        pixels.carry(posed, normals, self._bulk, turn, shift, v, a)
        weights = appearance.arkit_weights(self.head, expression)
        a[:count, 5] = self._open(weights, jaw, eyelids)
        a[:count, 6:9] = self._relief.weights(weights, self.variation.age, self.variation.lines)
        ring, rest = self._ring
        v[count : self._hair_first] = (self._torso + (posed[ring].mean(axis=0) - rest)) @ turn.T + shift
        a[count : self._hair_first, :3] = _torso_normals(self._torso) @ turn.T
        least = 0.55 / (2.0 * float(self.intrinsics[0, 0]))
        if len(self._hair.radius):
            hair = self._hair
            lashes = (
                hair.spread @ hair.lids.on(posed)
                + hair.spread @ hair.lids.on(normals) * hair.lift[:, None]
                + hair.shift
            )
            points = np.concatenate([hair.glue.on(posed, normals), lashes]).reshape(-1, _STRAND_STEPS, 3)
            pixels.threads(
                points @ turn.T + shift,
                self._hair.radius,
                self._hair_first,
                self._hair_style,
                0.7,
                least,
                v,
                a,
            )
        self._pose = (turn, shift)
        self._least = least
        self._appearance[pixels.L_UP : pixels.L_UP + 3] = turn[:, 1]
        self._pixels = np.empty_like(v)
        self._project(0, self._pad_first)
        self._used = self._reach(0, self._pad_first)

    def _fill_head(self) -> None:
        """Head, torso and hair into the sample buffers."""
        # the head is closed: its far side need not be drawn; hair ribbons have no side
        solid = self._solid_faces
        raster.fill(self._pixels, self._faces[:solid], raster.NEAR_M, self._head, self._head_spans, 0, -1)
        raster.fill(
            self._pixels,
            self._faces[solid : self._bare_faces],
            raster.NEAR_M,
            self._head,
            self._head_spans,
            solid,
            0,
        )

    def _pose_sensors(self) -> None:
        """Sensors of the same moment into sample buffers of their own."""
        rig = self._rig
        posed, normals = self._model
        turn, shift = self._pose
        v = self._vertices
        a = self._attributes
        first = self._pad_first
        end = self._cable_first
        placed = rig.pads.on(posed, normals)
        v[first:end] = placed @ turn.T + shift
        flat = sensors._weighted(normals, rig.pads.points.corners, rig.pads.points.weights) @ turn.T
        grid = flat.reshape(rig.pad_count, -1, 3)
        a[first:end, :3] = (0.5 * grid + 0.5 * grid.mean(axis=1, keepdims=True)).reshape(-1, 3)
        open_ = sensors._weighted(a[: len(posed), 5:6], rig.pads.points.corners, rig.pads.points.weights)
        a[first:end, 5] = 0.3 + 0.7 * open_[:, 0]
        control = rig.cables.on(posed, normals).reshape(-1, sensors.CONTROLS, 3)
        points = np.einsum("sk,nkd->nsd", sensors.BLEND, control)
        pixels.threads(
            np.ascontiguousarray(points @ turn.T + shift),
            rig.radius,
            self._cable_first,
            self._cable_style,
            0.85,
            self._least,
            v,
            a,
        )
        self._project(first, len(v))
        nearer = self._pixels[first:end]
        nearer[:, 2] -= _PAD_PULL
        self._used_over = self._reach(first, len(v))
        bare = self._bare_faces
        raster.fill(self._pixels, self._faces[bare:], raster.NEAR_M, self._over, self._over_spans, bare, 0)

    def _reach(self, first: int, end: int) -> tuple[int, int, int, int]:
        """Rows and columns of the sample buffers that projected vertices first..end can touch."""
        height, width = self._head.shape
        across = self._pixels[first:end, 0].copy()
        down = self._pixels[first:end, 1].copy()
        left = across.min()
        right = across.max()
        top = down.min()
        bottom = down.max()
        if not np.isfinite([left, right, top, bottom]).all():
            return 0, height, 0, width
        rows, columns = np.clip([top, bottom + 2], 0, height), np.clip([left, right + 2], 0, width)
        return int(rows[0]), int(rows[1]), int(columns[0]), int(columns[1])

    def _project(self, first: int, end: int) -> None:
        """Camera coordinates to supersampled pixels."""
        K = self.intrinsics
        matrix = np.array(
            [[2 * K[0, 0], 2 * K[0, 1], 2 * K[0, 2] + 0.5], [0, 2 * K[1, 1], 2 * K[1, 2] + 0.5], [0, 0, 1]]
        )
        pixels.project(self._vertices, matrix, first, end, self._pixels)

    def _paint(
        self, sensors: bool, same: U8 | None = None, mask: U8 | None = None, *, wipe: bool = True
    ) -> U8:
        """The picture before the camera's own faults.

        With `same`, the picture without sensors, and a mask to fill: only what differs.

        wipe: leave the sample buffers empty for the next moment.
        """
        K = self.intrinsics
        ray = np.array(
            [0.5 / K[0, 0], -(K[0, 2] + 0.25) / K[0, 0], 0.5 / K[1, 1], -(K[1, 2] + 0.25) / K[1, 1]]
        )
        decode, _ = _codes()
        lights = np.asarray(self.variation.lights, np.float32)
        image = self._background.copy() if same is None else same.copy()
        (top, bottom, left, right), over = self._used, self._used_over
        if sensors:
            top = min(top, over[0])
            bottom = max(bottom, over[1])
            left = min(left, over[2])
            right = max(right, over[3])
        self._box = np.array([top // 2, (bottom + 1) // 2, left // 2, (right + 1) // 2])

        def band(first: int) -> None:
            pixels.paint(
                self._over if sensors else self._over[:0],
                self._head,
                self._over_spans,
                self._head_spans,
                self._pixels,
                self._faces,
                self._material,
                self._attributes,
                ray,
                self._skin,
                self._bump,
                self._appearance,
                lights,
                self._styles,
                decode,
                self._encode,
                self._background,
                same is not None,
                wipe,
                np.array([first, min(first + _BAND, self._box[1]), self._box[2], self._box[3]]),
                image,
                np.empty((0, 0), np.uint8) if mask is None else mask,
            )

        todo = iter(range(self._box[0], self._box[1], _BAND))

        def work() -> None:
            for first in todo:
                band(first)

        # bands do not know of each other; whoever is free takes the next one
        helping = [] if self._pool is None else [self._pool.submit(work) for _ in range(self._threads - 1)]
        work()
        for one in helping:
            one.result()
        return image

    def _open(self, arkit: F32, jaw: npt.ArrayLike | None, eyelids: npt.ArrayLike | None) -> F32:
        """(V,) how much of its surroundings each vertex sees in this pose: the resting value moved by jaw and
        lids.
        """
        rest, mouth, left, right = self._surface.openness
        name = ARKIT_52.index
        wide = float(arkit[name("jawOpen")]) / 0.7 + 0.35 * float(
            arkit[name("mouthLowerDownLeft")] + arkit[name("mouthUpperUpLeft")]
        )
        if jaw is not None:
            wide += max(float(np.asarray(jaw)[0]), 0.0) / 0.3
        lids = np.array([arkit[name("eyeBlinkLeft")], arkit[name("eyeBlinkRight")]])
        if eyelids is not None:
            lids = np.maximum(lids, np.asarray(eyelids, np.float64))
        value = rest + min(wide, 1.0) * (mouth - rest) + lids[0] * (left - rest) + lids[1] * (right - rest)
        return np.asarray(np.clip(value, 0.02, 1.0), np.float32)

    @functools.cached_property
    def _ring(self) -> tuple[I32, F32]:
        """The lowest vertices of the neck, and their middle at rest."""
        template = self.head.template
        skin = np.unique(self._surface.skin_faces)
        low = skin[template[skin, 1] < template[skin, 1].min() + 0.012]
        return low.astype(np.int32), template[low].mean(axis=0)

    # the camera's own faults
    # ---------------------------------------------------------------------------------------------
    def _blur_reach(self) -> int:
        """How many pixels a change can spread by blur."""
        scale = self.size[1] / 480.0
        v = self.variation
        reach = int(4.0 * v.blur_px * scale + 1.5) if v.blur_px * scale > 0.25 else 0
        chroma = int(4.0 * v.chroma_blur_px * scale + 1.5) if v.chroma_blur_px * scale > 0.3 else 0
        return reach + chroma + (int(v.motion_px * scale) + 1 if v.motion_px * scale >= 1.5 else 0) + 1

    def _develop(self, image: U8, time_s: float) -> U8:
        """Lens and sensor: blur, colour softness, motion, vignette, noise, compression.

        `image` is written over.
        """
        v = self.variation
        width, height = self.size
        scale = height / 480.0
        box = np.array([0, height, 0, width])
        if (
            v.background == "black"
        ):  # cut out on black, as the published pictures are: nothing happens beyond the blur
            reach = self._blur_reach()
            box = self._box + np.array([-reach, reach, -reach, reach])
            box = np.array([max(box[0], 0), min(box[1], height), max(box[2], 0), min(box[3], width)])
        part = image[box[0] : box[1], box[2] : box[3]]
        if part.size == 0:
            return image
        if v.chroma_blur_px * scale > 0.3:
            luma, red, blue = cv2.split(cv2.cvtColor(part, cv2.COLOR_RGB2YCrCb))
            soft = v.chroma_blur_px * scale
            red = cv2.GaussianBlur(red, (0, 0), soft)
            blue = cv2.GaussianBlur(blue, (0, 0), soft)
            part[:] = cv2.cvtColor(cv2.merge([luma, red, blue]), cv2.COLOR_YCrCb2RGB)
        if v.blur_px * scale > 0.25:
            part[:] = cv2.GaussianBlur(part, (0, 0), v.blur_px * scale)
        length = v.motion_px * scale
        if length >= 1.5:
            size = 2 * int(length / 2 + 1) + 1
            kernel = np.zeros((size, size), np.uint8)
            half = np.array([np.cos(v.motion_angle), np.sin(v.motion_angle)]) * length / 2
            ends = np.round((np.stack([-half, half]) + size // 2) * 16).astype(np.int32)
            cv2.polylines(kernel, [ends], False, 255, 1, cv2.LINE_AA, 4)
            part[:] = cv2.filter2D(part, -1, kernel.astype(np.float32) / kernel.sum())
        rng = generator(self.seed, "frame", round(time_s * NS))
        row, column = (int(value) for value in rng.integers(0, _NOISE, 2))
        grain = _grain(width, height)[row : row + height, 3 * column : 3 * (column + width)]
        _finish(
            image.reshape(height, -1),
            grain,
            v.noise,
            0.0 if v.background == "black" else 0.4,
            v.vignette,
            box,
        )
        if v.jpeg_quality:
            _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, v.jpeg_quality])
            image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
        return image


# hair, torso, look
# -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Strands:
    """Hair drawn as threads: locks of long hair and lashes. Every point is glued on its own."""

    glue: sensors.Glue
    """Points of the locks."""
    lids: surfaces.Points
    """Landmarks of the lids, which the lashes stand on."""
    spread: F32
    """(M, landmarks) how every point of a lash mixes them."""
    lift: F32
    shift: F32
    radius: F32
    """(N, steps) m."""
    colour: F32
    """(N, 4) linear colour and gloss."""


def _hair(surface: Surface, v: Variation) -> _Strands:
    """Locks that fall from the sides of the head, and the lashes of both eyes."""
    steps = _STRAND_STEPS
    t = np.linspace(0.0, 1.0, steps)
    count = v.long_hair
    rng = generator(v.seed, "hair")
    pieces: list[tuple[surfaces.Points, F64, F64, F64, F64]] = []
    if count:
        side = np.where(rng.random(count) < 0.5, -1.0, 1.0)
        azimuth = side * rng.uniform(1.35, 2.6, count)
        elevation = rng.uniform(0.05, 0.75, count)
        directions = np.stack(
            [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)],
            axis=-1,
        )
        points, _ = surface.around(directions)
        fall = rng.uniform(0.12, 0.26, count)[:, None]
        wave = 0.004 * np.sin(t * rng.uniform(3, 9, count)[:, None] + rng.uniform(0, 6, count)[:, None])
        out = side[:, None] * (
            rng.uniform(0.0, 0.018, count)[:, None] * np.sin(np.minimum(t * 2.5, 1.6)) + wave
        )
        course = np.stack([out, -fall * t**1.1, -0.01 * t + 0.5 * wave], axis=-1)
        tone = np.exp(rng.normal(0.0, 0.22, count))[:, None]
        pieces.append(
            (
                surfaces.Points(
                    np.repeat(points.corners, steps, axis=0), np.repeat(points.weights, steps, axis=0)
                ),
                np.full((count, steps), 0.6 * v.hair_bulk_m),
                course,
                rng.uniform(0.0018, 0.0045, count)[:, None] * (1.0 - 0.75 * t**3),
                np.column_stack([np.asarray(v.hair_colour) * tone, np.full(count, 0.12)]),
            )
        )
    lids, spread, more = _lashes(surface, v, rng, t)
    corners = np.concatenate([*(piece[0].corners for piece in pieces), np.zeros((0, 3), np.int32)]).astype(
        np.int32
    )
    weights = np.concatenate([*(piece[0].weights for piece in pieces), np.zeros((0, 3), np.float32)]).astype(
        np.float32
    )
    pieces += more
    lift = np.concatenate([piece[1].reshape(-1) for piece in pieces]).astype(np.float32)
    shift = np.concatenate([piece[2].reshape(-1, 3) for piece in pieces]).astype(np.float32)
    radius = np.concatenate([np.broadcast_to(piece[3], (len(piece[4]), steps)) for piece in pieces]).astype(
        np.float32
    )
    loose = len(corners)
    return _Strands(
        sensors.Glue(surfaces.Points(corners, weights), lift[:loose], shift[:loose]),
        lids,
        spread,
        lift[loose:],
        shift[loose:],
        radius,
        np.concatenate([piece[4] for piece in pieces]).astype(np.float32),
    )


def _lashes(
    surface: Surface, v: Variation, rng: np.random.Generator, t: F64
) -> tuple[surfaces.Points, F32, list[tuple[surfaces.Points, F64, F64, F64, F64]]]:
    """Lid margins as dark lines and lashes on the upper lids.

    Returns the lid landmarks as glued points (36), how each thread point mixes them (N * steps, 36), and the
    threads themselves as lift, shift, radius and colour (their own points are empty).
    """
    steps = len(t)
    embedding = surface.head.embedding("landmarks_478")
    marks = np.array(
        [
            *surfaces.LID_UPPER["right"],
            *surfaces.LID_LOWER["right"],
            *surfaces.LID_UPPER["left"],
            *surfaces.LID_LOWER["left"],
        ]
    )
    lids = surfaces.Points(
        surface.faces[embedding.triangles[marks]].astype(np.int32),
        embedding.weights[marks].astype(np.float32),
    )
    count = len(surfaces.LID_UPPER["right"])
    nothing = surfaces.Points(np.zeros((0, 3), np.int32), np.zeros((0, 3), np.float32))
    dark = np.minimum(np.asarray(v.hair_colour) * 0.35, 0.02)
    spread: list[F64] = []
    pieces = []

    def mix(lid: int, places: F64) -> F64:
        """(N, 36) weights of points at `places` 0..1 along lid number `lid`."""
        rows = np.zeros((len(places), len(marks)))
        at = np.clip(places, 0.0, 1.0) * (count - 1)
        low = np.minimum(at.astype(int), count - 2)
        rows[np.arange(len(places)), lid * count + low] = 1.0 - (at - low)
        rows[np.arange(len(places)), lid * count + low + 1] = at - low
        return rows

    for lid in range(4):
        upper = lid % 2 == 0
        side = -1.0 if lid < 2 else 1.0
        thick = (
            (0.00070 if upper else 0.00028)
            * (0.5 + 0.6 * v.lashes)
            * np.sin(np.pi * np.clip(t * 0.85 + 0.10, 0, 1)) ** 0.6
        )
        spread.append(mix(lid, t))
        colour = dark if upper else dark + 0.06
        pieces.append(
            (
                nothing,
                np.full((1, steps), 0.0006 if upper else 0.0002),
                np.zeros((1, steps, 3)),
                thick[None],
                np.array([[*colour, 0.0]]),
            )
        )
        if upper:
            hairs = int(12 + 14 * v.lashes)
            root = np.linspace(0.12, 0.97, hairs) + rng.normal(0, 0.01, hairs)
            length = (rng.uniform(0.0045, 0.0075, hairs) * (0.5 + 0.6 * v.lashes))[:, None]
            fan = side * np.linspace(-0.25, 0.75, hairs)[:, None]
            bend = np.stack([fan * t * length, 0.45 * t**2 * length, 0.1 * t * length], axis=-1)
            spread.append(np.repeat(mix(lid, root), steps, axis=0))
            pieces.append(
                (
                    nothing,
                    0.0004 + length * t * 0.8,
                    bend,
                    np.full((hairs, 1), 0.00012) * (1.0 - 0.6 * t),
                    np.tile([*dark, 0.0], (hairs, 1)),
                )
            )
    return lids, np.concatenate(spread).astype(np.float32), pieces


@functools.lru_cache(maxsize=4)
def _torso(surface: Surface) -> tuple[F32, I32]:
    """Neck to shoulders: (V, 3) template coordinates and triangles, a lofted bust under the head."""
    template = surface.head.template
    skin = np.unique(surface.skin_faces)
    low = float(template[skin, 1].min())
    ring = template[skin[template[skin, 1] < low + 0.045]]  # the cut slants: its back lies higher
    centre = (ring.min(axis=0) + ring.max(axis=0)) / 2.0
    wide, deep = (ring.max(axis=0) - ring.min(axis=0))[[0, 2]] / 2.0
    turn = np.linspace(0.0, 2.0 * np.pi, 32, endpoint=False)
    rows = []
    for drop, across, back in (
        (0.02, 0.93, 0.93),
        (0.012, 1.12, 1.12),
        (-0.004, 1.22, 1.2),
        (-0.02, 1.7, 1.35),
        (-0.04, 2.6, 1.5),
        (-0.07, 3.3, 1.7),
        (-0.13, 3.6, 1.9),
        (-0.30, 3.7, 2.0),
    ):
        rows.append(
            np.column_stack(
                [
                    centre[0] + wide * across * np.sin(turn),
                    np.full(32, low + drop),
                    centre[2] + deep * back * np.cos(turn),
                ]
            )
        )
    grid = np.arange(len(rows) * 32).reshape(len(rows), 32)
    a = grid[:-1].reshape(-1)
    b = np.roll(grid, -1, axis=1)[:-1].reshape(-1)
    c = grid[1:].reshape(-1)
    d = np.roll(grid, -1, axis=1)[1:].reshape(-1)
    faces = np.concatenate([np.stack([a, c, b], -1), np.stack([b, c, d], -1)]).astype(np.int32)
    return np.concatenate(rows).astype(np.float32), faces


def _torso_normals(torso: F32) -> F32:
    outward = torso - np.array([0.0, torso[:, 1].min() - 0.05, torso[:, 2].mean()], np.float32)
    return np.asarray(outward / np.linalg.norm(outward, axis=1, keepdims=True), np.float32)


def _bulk(surface: Surface, v: Variation) -> F32:
    """(V,) how far hair or cap stands off the skin, m."""
    if v.cover == "none":
        return np.zeros(len(surface.uv), np.float32)
    where = appearance.masks(surface, 256).hairline
    height, width = where.shape
    x = np.clip((surface.uv[:, 0] * width).astype(int), 0, width - 1)
    y = np.clip((surface.uv[:, 1] * height).astype(int), 0, height - 1)
    rise = np.clip((where[y, x] - v.hairline_m - 0.004) / 0.03, 0.0, 1.0)
    skin = np.zeros(len(surface.uv), bool)
    skin[np.unique(surface.skin_faces)] = True
    rng = generator(v.seed, "bulk")
    template = surface.head.template
    wave = np.sin(template @ rng.normal(0.0, 70.0, 3) + rng.uniform(0, 6)) * np.sin(
        template @ rng.normal(0.0, 70.0, 3)
    )
    uneven = 1.0 + (0.35 if v.cover == "hair" else 0.12) * wave
    return np.where(skin, v.hair_bulk_m * np.sqrt(rise) * uneven, 0.0).astype(np.float32)


def _appearance(surface: Surface, v: Variation) -> F32:
    appearance = np.zeros(pixels.LOOK_SIZE, np.float32)
    for place, value in (
        (pixels.L_AMBIENT, v.ambient),
        (pixels.L_GROUND, v.ground),
        (pixels.L_COVER_COLOUR, v.cover_colour),
        (pixels.L_HAIR_COLOUR, v.hair_colour),
        (pixels.L_IRIS, v.iris),
        (pixels.L_SCLERA, v.sclera),
        (pixels.L_TEETH, v.teeth),
    ):
        appearance[place : place + 3] = value
    for place, number in (
        (pixels.L_EXPOSURE, v.exposure),
        (pixels.L_GLOSS, v.gloss),
        (pixels.L_ROUGH, v.sharpness),
        (pixels.L_BUMP, 1.0),
        (pixels.L_COVER, float({"none": 0, "short": 1, "net": 2, "cap": 3, "hair": 4}[v.cover])),
        (pixels.L_PUPIL, v.pupil),
        (pixels.L_SEED, float(v.seed % 1000)),
        (pixels.L_AO, v.occlusion),
        (pixels.L_WET, 0.9),
        (pixels.L_UNIT, surface.unit),
        (pixels.L_MICRO, 0.35 + 0.35 * v.age),
        (pixels.L_NET, 130.0),
    ):
        appearance[place] = number
    return appearance


def _background(v: Variation, width: int, height: int) -> U8:
    """(H, W, 3) uint8 picture behind the head."""
    if v.background == "black":
        return np.zeros((height, width, 3), np.uint8)
    rng = generator(v.seed, "background")
    base = rng.uniform(10, 235, 3) * 0.4 + rng.uniform(10, 235) * 0.6
    if v.background == "plain":
        slope = rng.normal(0.0, 30.0, 2)
        y, x = np.mgrid[-1:1:12j, -1:1:16j]
        small = base + (slope[0] * x + slope[1] * y)[..., None]
    elif v.background == "blobs":
        rows, columns = int(rng.integers(3, 9)), int(rng.integers(4, 12))
        small = base + rng.normal(0.0, 55.0, (rows, columns, 1)) + rng.normal(0.0, 25.0, (rows, columns, 3))
    elif v.background == "noise":
        small = np.zeros((96, 128, 3))
        for size in (4, 8, 16, 32, 96):
            layer = (
                rng.normal(0.0, 1.0, (size * 3 // 4, size, 1))
                + rng.normal(0.0, 0.3, (size * 3 // 4, size, 3))
            ).astype(np.float32)
            small += cv2.resize(layer, (128, 96), interpolation=cv2.INTER_CUBIC) * 90.0 / np.sqrt(size)
        small += base
    else:
        small = np.full((96, 128, 3), base)
        for _ in range(int(rng.integers(5, 18))):
            x0 = int(rng.integers(-20, 120))
            y0 = int(rng.integers(-20, 90))
            x1 = x0 + int(rng.integers(4, 70))
            y1 = y0 + int(rng.integers(4, 70))
            small[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = (
                rng.uniform(0, 255, 3) * 0.5 + rng.uniform(0, 255) * 0.5
            )
        small = cv2.GaussianBlur(small, (0, 0), float(rng.uniform(0.4, 5.0)))
    big = cv2.resize(small.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(big, 0, 255), np.uint8)
