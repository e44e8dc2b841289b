"""Counts what the house must not have, from the source alone: `python tools/house.py [--check]`.

Imports count wherever they stand: at the top of a file, in a function, under `TYPE_CHECKING`. A room is a
folder of `eifer_ros`, or a file beside them; `research/` is a room too, and what `import_research` names counts
as an import. `--check` fails where a figure is above
its limit.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "eifer_ros"
FLOORS = (
    "cli nodes launching",
    "commands",
    "research",
    "workflows doctor console",
    "viewer evaluation training",
    "pipeline graph hosts",
    "simulation animatronic avatar recording micro meaning mapping reconstruction emg camera",
    "render inference head wire clock",
    "topics registry component",
    "types config resources stamps threads source_tree",
    "errors",
)
"""Rooms from the roof down; imports run downwards or stay on their floor."""
LIMITS = {
    "file_circles": 0,
    "room_circles": 0,
    "arrows_up": 0,
    "session_openers": 1,
    "z_buffers_numba": 1,
    "z_buffers_torch": 1,
    "topic_tables": 0,
    "graph_builders": 1,
    "training_loops": 1,
}
"""The most that `--check` lets pass."""
_TOPIC = re.compile(r"(audio|camera|emg|face|truth|animatronic|muscles|markers?)/[a-z_]+(/[a-z_]+)*")

Graph = Mapping[str, frozenset[str]]


class House:
    """The source tree at `root`, parsed once."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self.trees: dict[str, ast.Module] = {}
        self.sources: dict[str, str] = {}
        for folder in (PACKAGE, "research"):
            for path in sorted((root / folder).rglob("*.py")):
                name = ".".join(path.relative_to(root).with_suffix("").parts)
                self.sources[name] = path.read_text(encoding="utf-8")
                self.trees[name] = ast.parse(self.sources[name])
        self.packages = {name.removesuffix(".__init__") for name in self.trees if name.endswith(".__init__")}

    @property
    def wheel(self) -> dict[str, ast.Module]:
        """The files that are installed."""
        return {name: tree for name, tree in self.trees.items() if name.startswith(PACKAGE)}

    # imports ---------------------------------------------------------------------------------------------------
    def _module(self, name: str) -> str | None:
        """The file that `name` stands for, if it is one of ours."""
        if name in self.trees:
            return name
        return f"{name}.__init__" if name in self.packages else None

    def _imported(self, importer: str) -> Iterator[str]:
        package = importer.split(".")[:-1]
        for node in ast.walk(self.trees[importer]):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
                base = ".".join(part for part in (base, node.module) if part)
                # `from . import x` names a file where there is one, else a thing in the package
                inside = [f"{base}.{alias.name}" for alias in node.names]
                names = [name if self._module(name) else base for name in inside]
            elif isinstance(node, ast.Call) and "import_research" in _names(node.func):
                first = node.args[0] if node.args else None
                names = [f"research.{first.value}"] if isinstance(first, ast.Constant) else []
            else:
                continue
            yield from (module for name in names if (module := self._module(name)) not in (None, importer))

    @cached_property
    def files(self) -> Graph:
        """Which file imports which."""
        return {name: frozenset(self._imported(name)) for name in self.trees}

    @cached_property
    def rooms(self) -> Graph:
        """Which room imports which."""
        graph: dict[str, set[str]] = defaultdict(set)
        for name, imported in self.files.items():
            graph[room(name)] |= {room(other) for other in imported} - {room(name)}
        return {name: frozenset(others) for name, others in graph.items()}

    def arrows_up(self) -> list[str]:
        """Imports of a room on a higher floor, and rooms that have no floor."""
        floors = {name: number for number, names in enumerate(FLOORS) for name in names.split()}
        homeless = sorted({room(name) for name in self.files} - floors.keys() - {"__init__", "__main__"})
        return [f"{name} has no floor in tools/house.py" for name in homeless] + [
            f"{name} -> {other}"
            for name, imported in sorted(self.files.items())
            for other in sorted(imported)
            if floors.get(room(name), 0) > floors.get(room(other), len(FLOORS))
        ]

    # what there is to be only once ---------------------------------------------------------------------------------
    def session_openers(self) -> list[str]:
        """Files that open a session of onnxruntime or OpenVINO."""
        return [
            name
            for name, tree in self.trees.items()
            if {"InferenceSession", "compile_model"} & set(_called(tree))
        ]

    def z_buffers(self) -> tuple[list[str], list[str]]:
        """Functions that scan triangles row by row (numba), and functions that scatter the nearest (torch)."""
        scans = []
        scatters = []
        for name, tree in self.trees.items():
            for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
                where = f"{name}.{function.name}"
                if _scans_rows(function):
                    scans.append(where)
                if "scatter_reduce_" in _called(function):
                    scatters.append(where)
        return scans, scatters

    def topic_tables(self) -> list[str]:
        """Collections at the top of a module, outside topics.py, that hold two topics' names or more."""
        tables = []
        for name, tree in self.wheel.items():
            for node in tree.body:
                value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
                if value is None or name == f"{PACKAGE}.topics":
                    continue
                texts = [one.value for one in ast.walk(value) if isinstance(one, ast.Constant)]
                topics = {text for text in texts if isinstance(text, str) and _TOPIC.fullmatch(text)}
                if len(topics) >= 2:
                    tables.append(f"{name}:{node.lineno}")
        return tables

    def graph_builders(self) -> list[str]:
        """Functions that put components into a LocalHost."""
        return [
            f"{name}.{function.name}"
            for name, tree in self.wheel.items()
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef) and "LocalHost" in _called(function)
        ]

    def training_loops(self) -> list[str]:
        """Functions that call `.backward()`: the shared loop has the one step down a gradient."""
        return [
            f"{name}.{function.name}"
            for name, tree in self.trees.items()
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef) and "backward" in _called(function)
        ]

    def lines(self) -> int:
        """Lines of Python in the wheel."""
        return sum(len(self.sources[name].splitlines()) for name in self.wheel)

    def statements(self) -> int:
        """Statements in the wheel, which no formatter changes; docstrings count as one."""
        return sum(isinstance(node, ast.stmt) for tree in self.wheel.values() for node in ast.walk(tree))

    def findings(self) -> dict[str, list[str]]:
        """What was counted, by figure."""
        scans, scatters = self.z_buffers()
        return {
            "file_circles": [" <-> ".join(circle) for circle in circles(self.files)],
            "room_circles": [" <-> ".join(circle) for circle in circles(self.rooms)],
            "arrows_up": self.arrows_up(),
            "session_openers": self.session_openers(),
            "z_buffers_numba": scans,
            "z_buffers_torch": scatters,
            "topic_tables": self.topic_tables(),
            "graph_builders": self.graph_builders(),
            "training_loops": self.training_loops(),
        }


def room(name: str) -> str:
    """The room of a module."""
    parts = name.split(".")
    return parts[1] if parts[0] == PACKAGE else parts[0]


def circles(graph: Graph) -> list[list[str]]:
    """Groups that reach each other: strongly connected components of two members or more."""
    reached = {name: _reach(graph, name) for name in graph}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached.get(other, ()))) for name in graph
    }
    return sorted(list(group) for group in groups if len(group) > 1)


def _reach(graph: Graph, start: str) -> set[str]:
    """All that can be come to from `start` by one import or more."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph.get(waiting.pop(), frozenset()) - reached
        reached |= new
        waiting += new
    return reached


def _called(tree: ast.AST) -> Iterable[str]:
    """Last names of what is called in `tree`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from _names(node.func)


def _names(function: ast.expr) -> Iterable[str]:
    """Last name of what is called."""
    if isinstance(function, ast.Attribute):
        yield function.attr
    elif isinstance(function, ast.Name):
        yield function.id


def _scans_rows(function: ast.FunctionDef) -> bool:
    """Whether a loop over faces holds a loop over rows that begins and ends at rounded heights, and that one a
    loop over columns.
    """
    for outer in ast.walk(function):
        for rows in ast.walk(outer) if isinstance(outer, ast.For) else ():
            rounded = (
                isinstance(rows, ast.For)
                and rows is not outer
                and {"ceil", "floor"} <= set(_called(rows.iter))
            )
            if rounded and any(isinstance(node, ast.For) for node in ast.walk(rows) if node is not rows):
                return True
    return False


def main(arguments: list[str] | None = None) -> int:
    """Print the figures and what is behind them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="fail where a figure is above its limit")
    check = parser.parse_args(arguments).check
    house = House()
    over = []
    for figure, items in house.findings().items():
        limit = LIMITS.get(figure)
        print(f"{figure}: {len(items)}" + ("" if limit is None else f" (at most {limit})"))
        print("".join(f"    {item}\n" for item in items), end="")
        if limit is not None and len(items) > limit:
            over.append(figure)
    print(f"wheel_lines: {house.lines()}\nwheel_statements: {house.statements()}")
    if check and over:
        print(f"above the limit: {', '.join(over)}", file=sys.stderr)
    return int(check and bool(over))


if __name__ == "__main__":
    sys.exit(main())
