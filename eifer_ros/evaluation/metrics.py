"""How far an estimate is from the truth, in the units papers use."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from ..head.model import HeadModel
from ..types import F64, Floats


def displacement_basis(head: HeadModel, region: str = "face") -> F64:
    """(N, 3, E) expression basis on the vertices of a region, m per unit."""
    return head.expression_basis[head.regions[region]].astype(np.float64)


def vertex_error_mm(basis: F64, estimate: Floats, truth: Floats) -> F64:
    """(T,) mean distance in mm between the vertices of two expressions (T, E) on the same head; `basis` from
    `displacement_basis`.

    What the person looks like and where the head is do not enter: this is the error of the expression alone.
    """
    difference = np.asarray(estimate, np.float64) - np.asarray(truth, np.float64)
    flat = difference @ basis.reshape(-1, basis.shape[2]).T
    distance: F64 = np.linalg.norm(flat.reshape(len(difference), -1, 3), axis=2)
    return np.asarray(1e3 * distance.mean(axis=1))


def rigid_vertex_error_mm(estimate: Floats, truth: Floats) -> float:
    """Mean distance in mm between two (N, 3) vertex sets after the best rigid alignment (Kabsch); shape and
    expression enter.
    """
    a = np.asarray(estimate, np.float64)
    b = np.asarray(truth, np.float64)
    ca = a - a.mean(axis=0)
    cb = b - b.mean(axis=0)
    u, _, vt = np.linalg.svd(ca.T @ cb)
    turn = (u * [1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    return float(1e3 * np.linalg.norm(ca @ turn - cb, axis=1).mean())


def smape(estimate: Floats, truth: Floats) -> F64:
    """(K,) symmetric mean absolute percentage error of (T, K): mean of 200 |e - t| / (|e| + |t|), in per
    cent.
    """
    e = np.asarray(estimate, np.float64)
    t = np.asarray(truth, np.float64)
    total = np.abs(e) + np.abs(t)
    share = np.where(total > 0, 200.0 * np.abs(e - t) / np.where(total > 0, total, 1.0), 0.0)
    return np.asarray(share.mean(axis=0))


def spearman(estimate: Floats, truth: Floats) -> F64:
    """(K,) rank correlation of (T, K); NaN where a column does not move."""
    e = rankdata(estimate, axis=0)
    t = rankdata(truth, axis=0)
    de = e - e.mean(axis=0)
    dt = t - t.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((de * dt).sum(axis=0) / np.sqrt((de**2).sum(axis=0) * (dt**2).sum(axis=0)))
