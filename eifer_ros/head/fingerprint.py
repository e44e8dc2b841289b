"""Which version of a head model a table or a network was made for."""

from __future__ import annotations

import hashlib

import numpy as np

from .model import HeadModel


def fingerprint(head: HeadModel) -> str:
    """Digest of everything in `head` that a table or a network made for it depends on: rest geometry, bases
    and where the landmarks lie.
    """
    landmarks = head.embedding("landmarks_478")
    digest = hashlib.blake2b(digest_size=16)
    for values in (
        head.template,
        head.faces,
        head.shape_basis,
        head.expression_basis,
        landmarks.triangles,
        landmarks.weights,
    ):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
