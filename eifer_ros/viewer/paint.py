"""Live pictures of a head, fast enough for a page: light is computed per vertex (Gouraud).

`render/shade.py` lights every pixel and is the better picture; this one takes a fraction of its time, which is
what lets a page without a graphics card show several heads at 30 Hz for a tenth of a core: only what moves is
moved, only what is seen is lit, and teeth, tongue and eyes are looked at after the skin, which mostly hides
them.
"""

from __future__ import annotations

from typing import Any

import cv2
import numba
import numpy as np
import numpy.typing as npt

from ..head import projection
from ..head.model import HeadModel, rotation_matrix
from ..render import rasteriser as raster
from ..render.head_sheet import Studio
from ..render.shade import add_normal
from ..types import F32, F64, I64, U8, FaceState, FaceStatus

BACKDROP = ((52, 58, 66), (24, 27, 32))
"""RGB of the backdrop's middle and of its corners; the page uses the same two."""
_LIGHTS = np.array(
    [[0.42, -0.62, -0.66], [-0.75, -0.05, -0.45]]
)  # key and fill: towards the light, camera coordinates
_LIGHTS = np.asarray(_LIGHTS / np.linalg.norm(_LIGHTS, axis=1)[:, None], np.float32)
_DISTANCE = 0.9
_SOFT = np.array([0.13, 0.74, 0.13])


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})  # type: ignore[untyped-decorator]
def _bend(rest: Any, starts: Any, rows: Any, moves: Any, expression: Any, out: Any) -> None:
    """Bend the resting head: out = rest + what each coefficient moves; only vertices that it moves are
    touched.
    """
    out[:] = rest
    for e in range(min(expression.shape[0], starts.shape[0] - 1)):
        weight = expression[e]
        if weight == 0.0:
            continue
        for k in range(starts[e], starts[e + 1]):
            row = rows[k]
            out[row, 0] += weight * moves[k, 0]
            out[row, 1] += weight * moves[k, 1]
            out[row, 2] += weight * moves[k, 2]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})  # type: ignore[untyped-decorator]
def _project(vertices: Any, pose: Any, focal: Any, cu: Any, cv: Any, camera: Any, pixels: Any) -> None:
    """Vertices as the camera has them (V, 3), m, and in the picture (V, 3): u, v, depth."""
    for i in range(vertices.shape[0]):
        x = vertices[i, 0]
        y = vertices[i, 1]
        z = vertices[i, 2]
        for k in range(3):
            camera[i, k] = pose[k, 0] * x + pose[k, 1] * y + pose[k, 2] * z + pose[k, 3]
        near = focal / camera[i, 2]
        pixels[i, 0] = camera[i, 0] * near + cu
        pixels[i, 1] = camera[i, 1] * near + cv
        pixels[i, 2] = camera[i, 2]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})  # type: ignore[untyped-decorator]
def _choose(
    camera: Any, pixels: Any, faces: Any, inner: int, samples: Any, normals: Any, visible: Any, count: int
) -> int:
    """Which triangles are to be drawn: those seen from outside and, of the inner ones, those that skin does
    not hide.

    Adds the normals of what is looked at to `normals` and the triangles to `visible`, which holds `count`.
    Returns how many it holds then. inner: leave out what lies behind `samples`.
    """
    height, width = samples.shape
    for f in range(faces.shape[0]):
        a = faces[f, 0]
        b = faces[f, 1]
        c = faces[f, 2]
        ax = pixels[a, 0]
        ay = pixels[a, 1]
        bx = pixels[b, 0]
        by = pixels[b, 1]
        cx = pixels[c, 0]
        cy = pixels[c, 1]
        front = (bx - ax) * (cy - ay) - (cx - ax) * (
            by - ay
        ) < 0.0  # else from behind, without extent, or not finite
        if not front and inner:
            continue
        if front and inner:
            # teeth, tongue, eyes: small triangles, of which three hidden corners mean nothing to see
            hidden = True
            for k in (a, b, c):
                if pixels[k, 0] >= 0.0 and pixels[k, 1] >= 0.0:
                    row = int(pixels[k, 1] + 0.5)
                    column = int(pixels[k, 0] + 0.5)
                    if (
                        row < height
                        and column < width
                        and raster.inverse_depth(samples[row, column]) * pixels[k, 2] < 1.004
                    ):
                        hidden = False
            if hidden:
                continue
        add_normal(camera, a, b, c, normals)
        if front:
            visible[count, 0] = a
            visible[count, 1] = b
            visible[count, 2] = c
            count += 1
    return count


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})  # type: ignore[untyped-decorator]
def _light(
    camera: Any,
    normals: Any,
    colours: Any,
    lights: Any,
    visible: Any,
    done: Any,
    lit: Any,
) -> None:
    """Colour 0..255 of each vertex of the chosen triangles: sky light, a soft key, a cool fill, a little
    gloss.
    """
    one = np.float32(1.0)
    half = np.float32(0.5)
    most = np.float32(254.5)
    tiny = np.float32(1e-12)
    nothing = np.float32(0.0)
    for g in range(visible.shape[0]):
        for corner in range(3):
            i = visible[g, corner]
            if done[i]:
                continue
            done[i] = True
            x = camera[i, 0]
            y = camera[i, 1]
            z = camera[i, 2]
            away = -one / np.sqrt(x * x + y * y + z * z + tiny)
            vx = x * away
            vy = y * away
            vz = z * away
            nx = normals[i, 0]
            ny = normals[i, 1]
            nz = normals[i, 2]
            length = one / np.sqrt(nx * nx + ny * ny + nz * nz + np.float32(1e-30))
            if nx * vx + ny * vy + nz * vz < nothing:
                length = -length
            nx = nx * length
            ny = ny * length
            nz = nz * length
            key = half + half * (nx * lights[0, 0] + ny * lights[0, 1] + nz * lights[0, 2])
            fill = max(nx * lights[1, 0] + ny * lights[1, 1] + nz * lights[1, 2], nothing)
            hx = lights[0, 0] + vx
            hy = lights[0, 1] + vy
            hz = lights[0, 2] + vz
            shine = max((nx * hx + ny * hy + nz * hz) / np.sqrt(hx * hx + hy * hy + hz * hz + tiny), nothing)
            shine *= shine
            shine *= shine
            shine *= shine
            gloss = np.float32(26.0) * shine * shine * shine  # cosine to the 24th
            bright = np.float32(0.16) + np.float32(0.94) * key * key
            lit[i, 0] = min(
                colours[i, 0] * np.float32(255.0) * (bright + np.float32(0.06) * fill) + gloss, most
            )
            lit[i, 1] = min(
                colours[i, 1] * np.float32(255.0) * (bright + np.float32(0.09) * fill) + gloss, most
            )
            lit[i, 2] = min(
                colours[i, 2] * np.float32(255.0) * (bright + np.float32(0.14) * fill) + gloss, most
            )


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})  # type: ignore[untyped-decorator]
def _slopes(v: Any, faces: Any, lit: Any, out: Any) -> None:
    """How the colours of a triangle run over the picture, (F, 3, 3): at its first corner, per column, per row.

    They are linear there: the head is far enough for that to be exact to a thousandth.
    """
    for f in range(faces.shape[0]):
        a = faces[f, 0]
        b = faces[f, 1]
        c = faces[f, 2]
        bx = v[b, 0] - v[a, 0]
        by = v[b, 1] - v[a, 1]
        cx = v[c, 0] - v[a, 0]
        cy = v[c, 1] - v[a, 1]
        share = np.float32(1.0) / (bx * cy - cx * by)
        for k in range(3):
            to_b = (lit[b, k] - lit[a, k]) * share
            to_c = (lit[c, k] - lit[a, k]) * share
            out[f, 0, k] = lit[a, k]
            out[f, 1, k] = cy * to_b - by * to_c
            out[f, 2, k] = bx * to_c - cx * to_b


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})  # type: ignore[untyped-decorator]
def _paint(v: Any, faces: Any, slopes: Any, samples: Any, spans: Any, out: Any) -> None:
    """What the samples see, in its colours. Leaves samples and spans empty for the next picture."""
    zero = np.float32(0.0)
    most = np.float32(254.5)
    for y in range(samples.shape[0]):
        for x in range(spans[y, 0], spans[y, 1]):
            if samples[y, x] == 0:
                continue
            f = raster.LAST - (samples[y, x] & raster.LAST)
            samples[y, x] = 0
            dx = np.float32(x) - v[faces[f, 0], 0]
            dy = np.float32(y) - v[faces[f, 0], 1]
            for k in range(3):
                # on an edge seen from the side, colours may be carried a little too far
                value = slopes[f, 0, k] + dx * slopes[f, 1, k] + dy * slopes[f, 2, k]
                out[y, x, k] = np.uint8(min(max(value, zero), most))
        spans[y, 0] = samples.shape[1]
        spans[y, 1] = 0


def backdrop(width: int, height: int) -> U8:
    """(H, W, 3) RGB: a calm vignette, lighter behind the head."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    distance = np.hypot((x - width / 2) / (0.72 * width), (y - 0.45 * height) / (0.72 * height))
    share = np.clip(distance, 0.0, 1.0)[:, :, None] ** 1.5
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (height, width, 1))  # against banding
    return np.asarray(
        np.clip((1 - share) * np.array(BACKDROP[0]) + share * np.array(BACKDROP[1]) + noise + 0.5, 0, 255),
        np.uint8,
    )


class HeadPainter:
    """Takes pictures of one head model. Keeps its buffers: use it from one thread.

    size: (width, height) of the pictures. width_m: how much of the world the picture's width shows at the
    face.
    """

    def __init__(self, head: HeadModel, size: tuple[int, int] = (296, 296), width_m: float = 0.262) -> None:
        self.head = head
        self.size = size
        studio = Studio(head)
        self.centre = studio.centre
        self.skin = studio.colours
        skin = head.template[head.parts == 0]
        # turn about the neck's top, look at the face a little below its middle so that chin and forehead both
        # fit
        self.pivot = np.array(
            [self.centre[0], self.centre[1] - 0.01, float(skin[:, 2].min() + skin[:, 2].max()) / 2]
        )
        # outside is where the volume says, whichever way a head's triangles turn
        inside = head.parts[head.faces].max(axis=1) > 0
        corners = head.template[head.faces].astype(np.float64) - head.template.mean(axis=0)
        volume = np.einsum("fk,fk->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum()
        faces = head.faces[:, :: 1 if volume > 0 else -1]
        self._faces = [np.ascontiguousarray(faces[which], np.int32) for which in (~inside, inside)]
        width, height = size
        self._focal = np.float32(width * _DISTANCE / width_m)
        self._K = np.array(
            [[self._focal, 0.0, (width - 1) / 2], [0.0, self._focal, (height - 1) / 2], [0.0, 0.0, 1.0]]
        )
        self._front = projection.facing_pose(_DISTANCE, centre=self.centre)
        self._backdrop = backdrop(width, height)
        self._samples, self._spans = raster.new_samples(width, height)
        count = len(head.template)
        self._camera, self._pixels, self._normals, self._lit = (
            np.zeros((count, 3), np.float32) for _ in range(4)
        )
        self._done = np.zeros(count, np.bool_)
        self._visible = np.zeros((len(head.faces), 3), np.int32)
        self._slopes = np.zeros((len(head.faces), 3, 3), np.float32)
        self._moves = _moves(head)
        self._rest: tuple[bytes, F32] | None = None
        self._eyes = [
            (np.flatnonzero(head.skin_weights[:, head.joints.index(name)] > 0.5), head.joints.index(name))
            for name in ("eye_left", "eye_right")
            if name in head.joints
        ]

    def neutral(self, shape: npt.ArrayLike | None) -> F32:
        """The resting head of a person; kept, because shape hardly changes from frame to frame."""
        if shape is None or np.isnan(np.asarray(shape)).any():
            return self.head.template
        key = np.asarray(shape, np.float32).tobytes()
        if self._rest is None or self._rest[0] != key:
            self._rest = (key, self.head.neutral(shape))
        return self._rest[1]

    def vertices(self, state: FaceState | None) -> F32:
        """(V, 3) vertices of a state in model coordinates; the mean head at rest where there is none."""
        if state is None or state.status == FaceStatus.LOST or np.isnan(state.expression).any():
            return self.head.template
        rest = self.neutral(state.shape)
        if _turned(state.jaw) or _turned(state.neck) or len(self._eyes) < 2:
            return self.head.state_vertices(state, rest)
        # only the eyes turn: cheaper than skinning the whole head
        if self._moves is not None and self.head.eyelid_basis is None:
            posed = np.empty_like(rest)
            _bend(rest, *self._moves, state.expression, posed)
        else:
            posed = self.head.vertices(
                state.shape, state.expression, eyelids=np.nan_to_num(state.eyelids), neutral=rest
            )
        if _turned(state.eyes):
            joints = self.head.joint_positions(state.shape)
            for (index, joint), angle in zip(self._eyes, np.nan_to_num(state.eyes), strict=True):
                posed[index] = (posed[index] - joints[joint]) @ rotation_matrix(angle).T.astype(
                    np.float32
                ) + joints[joint]
        return posed

    def paint(self, vertices: F32, rotation: F64 | None = None, colours: F32 | None = None) -> U8:
        """(H, W, 3) RGB picture.

        rotation: (3, 3) of the head pose, model to camera; from the front where None or NaN.
        """
        pose = self._front
        if rotation is not None and np.isfinite(rotation).all():
            pose = np.eye(4)
            pose[:3, :3] = rotation
            pose[:3, 3] = self._front[:3, :3] @ self.pivot + self._front[:3, 3] - rotation @ self.pivot
        tint = self.skin if colours is None else np.ascontiguousarray(colours, np.float32)
        cu = np.float32(self._K[0, 2])
        cv = np.float32(self._K[1, 2])
        _project(
            np.ascontiguousarray(vertices, np.float32),
            pose.astype(np.float32),
            self._focal,
            cu,
            cv,
            self._camera,
            self._pixels,
        )
        out = self._backdrop.copy()
        self._normals.fill(0.0)
        self._done.fill(False)
        count = 0
        for inner, faces in enumerate(self._faces):  # skin first: what it hides then costs little
            begin = count
            count = _choose(
                self._camera, self._pixels, faces, inner, self._samples, self._normals, self._visible, begin
            )
            more = self._visible[begin:count]
            raster.fill(self._pixels, more, raster.NEAR_M, self._samples, self._spans, begin, 0)
        drawn = self._visible[:count]
        slopes = self._slopes[:count]
        _light(self._camera, self._normals, tint, _LIGHTS, drawn, self._done, self._lit)
        _slopes(self._pixels, drawn, self._lit, slopes)
        _paint(self._pixels, drawn, slopes, self._samples, self._spans, out)
        # a whisper of blur takes the stairs off the edges; true multisampling would cost four times the
        # painting
        return np.asarray(cv2.sepFilter2D(out, -1, _SOFT, _SOFT), np.uint8)


def _turned(angles: F32) -> bool:
    """Whether any angle is known and not 0."""
    return any(angle != 0.0 and angle == angle for angle in angles.ravel().tolist())


def _moves(head: HeadModel) -> tuple[I64, I64, F32] | None:
    """(starts, rows, moves) of `_bend`, or None for a head whose coefficients move most of it, where a
    product is faster.
    """
    size = np.abs(head.expression_basis).max(axis=1)
    moved = size > 2e-6  # two micrometres at full strength: nothing that could be seen
    if moved.mean() > 0.3:
        return None
    columns, rows = np.nonzero(moved.T)
    starts = np.searchsorted(columns, np.arange(head.expression_size + 1))
    return starts, rows, np.ascontiguousarray(head.expression_basis[rows, :, columns], np.float32)


def jpeg(image: U8, quality: int = 84) -> bytes:
    """RGB picture as JPEG."""
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    assert done
    return data.tobytes()
