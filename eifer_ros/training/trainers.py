"""The network trainers, looked up when they are needed: torch is in the extra `train`."""

from __future__ import annotations

from ..errors import MissingExtra
from ..mapping.fit import NETWORK_KINDS, Trainer


def network_trainer(kind: str, purpose: str = "") -> Trainer | None:
    """What trains mappings of a kind.

    Parameters
    ----------
    kind
        One of `mapping.fit.KINDS`.
    purpose
        What needs it, for the error; default: fitting such a mapping.

    Returns
    -------
    Trainer or None
        None for a kind that is no network.

    Raises
    ------
    MissingExtra
        Where torch or onnx are not installed.
    """
    if kind not in NETWORK_KINDS:
        return None
    try:
        from .mapping_networks import fit_network
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "torch", "train", purpose or f"fitting a '{kind}' mapping") from None
    return fit_network
