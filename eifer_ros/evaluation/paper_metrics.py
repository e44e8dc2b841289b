"""Metrics as the papers define them, beside those of `metrics.py`.

EIFER's figures for Exp2EMG are per muscle: MSE and RMS of the envelope in uV, SMAPE in per cent, Spearman's
rho. emg2face reports medians over participants of Pearson r, R2 and mean vertex error in mm. MC-CycleGAN
reports the Fréchet distance (Heusel et al. 2017, section 2: Gaussians fitted to features) and how often a
classifier names the same expression.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from scipy import linalg

from ..errors import InputError, ModelError
from ..inference.network import open_network
from ..types import F64, U8, Floats


def mse(estimate: Floats, truth: Floats) -> F64:
    """(K,) mean squared error of (T, K), in the square of the unit given."""
    difference = np.asarray(estimate, np.float64) - np.asarray(truth, np.float64)
    return np.asarray((difference**2).mean(axis=0))


def rms(estimate: Floats, truth: Floats) -> F64:
    """(K,) root of `mse`, in the unit given."""
    return np.sqrt(mse(estimate, truth))


def frechet_distance(first: Floats, second: Floats) -> float:
    """Fréchet distance of two feature sets (N, D), (M, D): |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2).

    Needs N, M > 1.
    """
    a = np.asarray(first, np.float64)
    b = np.asarray(second, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise InputError(
            f"features of shapes {a.shape} and {b.shape}; a Fréchet distance needs two sets of at least two rows of one width"
        )
    ca = np.atleast_2d(np.cov(a, rowvar=False))
    cb = np.atleast_2d(np.cov(b, rowvar=False))
    # tr (C1 C2)^1/2 by the symmetric root: sqrt(C1)^T C2 sqrt(C1) has the same eigenvalues and is never
    # complex
    values, vectors = linalg.eigh(ca)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    cross = np.sqrt(np.maximum(linalg.eigvalsh(root @ cb @ root), 0.0)).sum()
    return float(((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() + np.trace(ca) + np.trace(cb) - 2 * cross)


class PictureNetwork:
    """A user's ONNX network from pictures (N, 3, H, W) or (N, H, W, 3) float32 to (N, D): features or class
    scores.

    Pictures are resized to the size the network declares (224 where it leaves it open) and scaled to 0..1;
    whatever else a network wants (mean, deviation) must be part of it. Its file's SHA-256 goes into the
    results.
    """

    def __init__(self, path: Path) -> None:
        self._network = open_network(path)
        self.digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self._input, declared = next(iter(self._network.inputs.items()))
        self._output = next(iter(self._network.outputs))
        shape = [size if isinstance(size, int) else 0 for size in declared]
        if len(shape) != 4 or 3 not in (shape[1], shape[3]):
            raise ModelError(
                f"{path}: its input is {list(declared)}; N x 3 x H x W or N x H x W x 3 is needed"
            )
        self._first = shape[1] == 3
        height, width = (shape[2], shape[3]) if self._first else (shape[1], shape[2])
        self.size = (width or 224, height or 224)

    def __call__(self, pictures: Iterable[U8]) -> F64:
        """(N, D) of RGB pictures."""
        rows = []
        for picture in pictures:
            small = cv2.resize(picture, self.size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
            batch = (small.transpose(2, 0, 1) if self._first else small)[None]
            (row,) = self._network.run([self._output], {self._input: batch})
            rows.append(np.asarray(row, np.float64).reshape(-1))
        return np.stack(rows) if rows else np.zeros((0, 0))


def agreement(first: Floats, second: Floats) -> float:
    """Share of rows of class scores (N, K) for which both name the same class."""
    if first.shape != second.shape or not len(first):
        raise InputError(
            f"class scores of shapes {first.shape} and {second.shape}; the same pictures must be judged twice"
        )
    return float((np.argmax(first, axis=1) == np.argmax(second, axis=1)).mean())
