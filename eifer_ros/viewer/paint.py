"""Live pictures of a head, fast enough for a page: one pass over the triangles, light computed per vertex (Gouraud).

`head/shade.py` lights every pixel and is the better picture; this one takes a third of its time, which is what lets a page without a
graphics card show several heads at 30 Hz for a fraction of a core.
"""

from __future__ import annotations

from typing import Any

import cv2
import numba
import numpy as np
import numpy.typing as npt

from ..head import projection, raster, shade
from ..head.model import HeadModel, rotation_matrix
from ..head.show import Studio
from ..types import F32, F64, U8, FaceState, FaceStatus

BACKDROP = ((52, 58, 66), (24, 27, 32))
"""RGB of the backdrop's middle and of its corners; the page uses the same two."""
_LIGHTS = np.array([[0.42, -0.62, -0.66], [-0.75, -0.05, -0.45]])  # key and fill: towards the light, camera coordinates
_DISTANCE = 0.9
_SOFT = np.array([0.13, 0.74, 0.13])


@raster.compiled
def _lit(camera: Any, normals: Any, colours: Any, lights: Any, out: Any) -> None:
    """Colour 0..255 of each vertex: sky light, a soft key, a cool fill, a little gloss."""
    for i in range(camera.shape[0]):
        x, y, z = camera[i, 0], camera[i, 1], camera[i, 2]
        scale = -1.0 / np.sqrt(x * x + y * y + z * z)
        vx, vy, vz = x * scale, y * scale, z * scale
        nx, ny, nz = normals[i, 0], normals[i, 1], normals[i, 2]
        facing = nx * vx + ny * vy + nz * vz
        if facing < 0.0:
            nx, ny, nz = -nx, -ny, -nz
        key = 0.5 + 0.5 * (nx * lights[0, 0] + ny * lights[0, 1] + nz * lights[0, 2])
        fill = max(nx * lights[1, 0] + ny * lights[1, 1] + nz * lights[1, 2], 0.0)
        hx, hy, hz = lights[0, 0] + vx, lights[0, 1] + vy, lights[0, 2] + vz
        half = (nx * hx + ny * hy + nz * hz) / (np.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9)
        shine = max(half, 0.0) ** 2
        shine *= shine
        gloss = 26.0 * shine * shine * shine * shine * shine * shine  # cosine to the 24th
        bright = 0.16 + 0.94 * key * key
        out[i, 0] = min(colours[i, 0] * 255.0 * (bright + 0.06 * fill) + gloss, 254.5)
        out[i, 1] = min(colours[i, 1] * 255.0 * (bright + 0.09 * fill) + gloss, 254.5)
        out[i, 2] = min(colours[i, 2] * 255.0 * (bright + 0.14 * fill) + gloss, 254.5)


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})  # type: ignore[untyped-decorator]
def _paint(v: Any, faces: Any, inner: int, lit: Any, nearness: Any, out: Any) -> None:
    """Triangles seen from outside, with linearly interpolated colours. v: (V, 3) u, v, depth. inner: from which on skin may hide them."""
    height, width = nearness.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, bx, by, cx, cy = v[a, 0], v[a, 1], v[b, 0], v[b, 1], v[c, 0], v[c, 1]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if not area < 0.0:  # from behind, without extent, or not finite
            continue
        low, high = min(ay, by, cy), max(ay, by, cy)
        left, right = min(ax, bx, cx), max(ax, bx, cx)
        if high < 0.0 or low > height - 1 or right < 0.0 or left > width - 1 or min(v[a, 2], v[b, 2], v[c, 2]) < raster.NEAR_M:
            continue
        if f >= inner:  # teeth, tongue, eyes: small triangles, of which three hidden corners mean nothing to see
            hidden = True
            for k in (a, b, c):
                row, column = int(v[k, 1] + 0.5), int(v[k, 0] + 0.5)
                if not (0 <= row < height and 0 <= column < width) or nearness[row, column] * v[k, 2] < 1.004:
                    hidden = False
            if hidden:
                continue
        share = 1.0 / area
        # weights, nearness and colours are linear in the picture; the head is far enough for that to be exact to a thousandth
        bu, bv = (cy - ay) * share, -(cx - ax) * share
        cu, cv = -(by - ay) * share, (bx - ax) * share
        na = 1.0 / v[a, 2]
        db, dc = 1.0 / v[b, 2] - na, 1.0 / v[c, 2] - na
        nu, nv = db * bu + dc * cu, db * bv + dc * cv
        r0, g0, b0 = lit[a, 0], lit[a, 1], lit[a, 2]
        rb, gb, bb = lit[b, 0] - r0, lit[b, 1] - g0, lit[b, 2] - b0
        rc, gc, bc = lit[c, 0] - r0, lit[c, 1] - g0, lit[c, 2] - b0
        ru, gu, blu = rb * bu + rc * cu, gb * bu + gc * cu, bb * bu + bc * cu
        rv, gv, blv = rb * bv + rc * cv, gb * bv + gc * cv, bb * bv + bc * cv
        for row in range(max(int(np.ceil(low)), 0), min(int(np.floor(high)), height - 1) + 1):
            dy = row - ay
            n1, r1, g1, b1 = na + dy * nv, r0 + dy * rv, g0 + dy * gv, b0 + dy * blv
            # where wb >= 0, wc >= 0 and wb + wc <= 1 on this row
            begin, end = left - ax, right - ax
            for turn in range(3):
                if turn == 0:
                    slope, offset = bu, dy * bv
                elif turn == 1:
                    slope, offset = cu, dy * cv
                else:
                    slope, offset = -bu - cu, 1.0 - dy * (bv + cv)
                if slope > 1e-12:
                    begin = max(begin, (-1e-6 - offset) / slope)
                elif slope < -1e-12:
                    end = min(end, (-1e-6 - offset) / slope)
                elif offset < -1e-6:
                    end = begin - 1.0
            for column in range(max(int(np.ceil(begin + ax)), 0), min(int(np.floor(end + ax)), width - 1) + 1):
                dx = column - ax
                near = n1 + dx * nu
                if near > nearness[row, column]:
                    nearness[row, column] = near
                    out[row, column, 0] = np.uint8(r1 + dx * ru)
                    out[row, column, 1] = np.uint8(g1 + dx * gu)
                    out[row, column, 2] = np.uint8(b1 + dx * blu)


def backdrop(width: int, height: int) -> U8:
    """(H, W, 3) RGB: a calm vignette, lighter behind the head."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    distance = np.hypot((x - width / 2) / (0.72 * width), (y - 0.45 * height) / (0.72 * height))
    share = np.clip(distance, 0.0, 1.0)[:, :, None] ** 1.5
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (height, width, 1))  # against banding
    return np.asarray(np.clip((1 - share) * np.array(BACKDROP[0]) + share * np.array(BACKDROP[1]) + noise + 0.5, 0, 255), np.uint8)


class HeadPainter:
    """Takes pictures of one head model. Keeps its buffers: use it from one thread.

    size: (width, height) of the pictures. width_m: how much of the world the picture's width shows at the face.
    """

    def __init__(self, head: HeadModel, size: tuple[int, int] = (296, 296), width_m: float = 0.262) -> None:
        self.head, self.size = head, size
        studio = Studio(head)
        self.centre, self.skin = studio.centre, studio.colours
        skin = head.template[head.parts == 0]
        # turn about the neck's top, look at the face a little below its middle so that chin and forehead both fit
        self.pivot = np.array([self.centre[0], self.centre[1] - 0.01, float(skin[:, 2].min() + skin[:, 2].max()) / 2])
        # skin first: what it hides then costs little. Outside is where the volume says, whichever way a head's triangles turn
        inside = head.parts[head.faces].max(axis=1) > 0
        order, self._inner = np.argsort(inside, kind="stable"), int((~inside).sum())
        corners = head.template[head.faces[order]].astype(np.float64) - head.template.mean(axis=0)
        volume = np.einsum("fk,fk->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum()
        self._faces = np.ascontiguousarray(head.faces[order][:, :: 1 if volume > 0 else -1], np.int32)
        width, height = size
        focal = width * _DISTANCE / width_m
        self._K = np.array([[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]])
        self._backdrop = backdrop(width, height)
        self._nearness = np.zeros((height, width), np.float32)
        self._lit = np.zeros((len(head.template), 3), np.float32)
        self._rest: tuple[bytes, F32] | None = None
        self._eyes = [
            (np.flatnonzero(head.skin_weights[:, head.joints.index(name)] > 0.5), head.joints.index(name))
            for name in ("eye_left", "eye_right") if name in head.joints
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
        turned = np.nan_to_num(np.concatenate([state.jaw, state.neck]))
        if turned.any() or len(self._eyes) < 2:
            return self.head.state_vertices(state, rest)
        # only the eyes turn: cheaper than skinning the whole head
        posed = self.head.vertices(state.shape, state.expression, eyelids=np.nan_to_num(state.eyelids), neutral=rest)
        joints = self.head.joint_positions(state.shape)
        for (index, joint), angle in zip(self._eyes, np.nan_to_num(state.eyes), strict=True):
            posed[index] = (posed[index] - joints[joint]) @ rotation_matrix(angle).T.astype(np.float32) + joints[joint]
        return posed

    def paint(self, vertices: F32, rotation: F64 | None = None, colours: F32 | None = None) -> U8:
        """(H, W, 3) RGB picture. rotation: (3, 3) of the head pose, model to camera; from the front where None or NaN."""
        if rotation is None or not np.isfinite(rotation).all():
            pose = projection.facing_pose(_DISTANCE, centre=self.centre)
        else:
            front = projection.facing_pose(_DISTANCE, centre=self.centre)
            pose = np.eye(4)
            pose[:3, :3] = rotation
            pose[:3, 3] = front[:3, :3] @ self.pivot + front[:3, 3] - rotation @ self.pivot
        camera = np.asarray(projection.to_camera(vertices, pose), np.float32)
        normals = shade.vertex_normals(camera, self._faces)
        tint = self.skin if colours is None else np.ascontiguousarray(colours, np.float32)
        _lit(camera, normals, tint, _LIGHTS / np.linalg.norm(_LIGHTS, axis=1)[:, None], self._lit)
        pixels = np.empty_like(camera)
        pixels[:, :2] = camera[:, :2] / camera[:, 2:] * np.float32(self._K[0, 0]) + self._K[:2, 2].astype(np.float32)
        pixels[:, 2] = camera[:, 2]
        out = self._backdrop.copy()
        self._nearness[:] = 0.0
        _paint(pixels, self._faces, self._inner, self._lit, self._nearness, out)
        # a whisper of blur takes the stairs off the edges; true multisampling would cost four times the painting
        return np.asarray(cv2.sepFilter2D(out, -1, _SOFT, _SOFT), np.uint8)


def jpeg(image: U8, quality: int = 84) -> bytes:
    """RGB picture as JPEG."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return data.tobytes()
