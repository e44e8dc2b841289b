"""Console entry points of ROS 2: one short module per executable.

Nothing of ROS is imported before `main` is called.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .. import threads as _threads  # noqa: F401  (before anything that loads a BLAS)


def run(name: str, components: Sequence[str] | None = None) -> int:
    """Run the node called `name`: the part of that name alone, or where `components` is given all parts in one
    process.
    """
    try:
        import rclpy  # noqa: F401
    except ImportError as error:
        print(
            f"{name}: rclpy cannot be imported ({error}); source ROS 2 first: . /opt/ros/<distro>/setup.bash",
            file=sys.stderr,
        )
        return 5
    from .. import graph
    from ..errors import EiferError
    from ..hosts.ros import serve
    from ..pipeline import assemble
    from ._parts import part

    try:
        return serve(
            name,
            [part(name)] if components is None else [part(each) for each in graph.COMPONENTS],
            components,
            assemble=assemble,
        )
    except EiferError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code
