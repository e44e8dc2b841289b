"""Pages of the documentation site that are made from the code while mkdocs builds it (a hook of mkdocs.yml).

Command line from typer, configuration from the pydantic configs, the Python API from docstrings, the gallery from `examples/`, and the pages of
the repository that stand outside `docs/`.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

API: dict[str, tuple[str, ...]] = {
    "Foundation": ("types", "component", "config", "errors", "clock", "topics", "registry"),
    "Running": ("pipeline", "hosts.local"),
    "Head": ("head.model", "head.flame", "head.flame_rows", "head.retarget"),
    "Rendering": ("render.rasteriser", "render.shade", "render.head_sheet"),
    "EMG": ("emg.montage", "emg.filters", "emg.quality", "emg.calibration"),
    "Reconstruction": ("reconstruction.estimators", "micro.event_spotter"),
    "Mapping": ("mapping.fit", "mapping.mapping", "mapping.fusion", "mapping.lag"),
    "Recording": ("recording.reader", "recording.writer", "recording.sync"),
    "Output": (
        "avatar.sender",
        "avatar.vmc",
        "avatar.vrchat",
        "avatar.livelink",
        "avatar.livelink_csv",
        "avatar.ifacialmocap",
        "animatronic.joint_map",
        "animatronic.guard",
        "wire.conversions",
        "viewer.server",
    ),
    "Workflows": (
        "workflows.run",
        "workflows.record",
        "workflows.calibrate",
        "workflows.fit",
        "workflows.simulate",
        "workflows.view",
        "workflows.drive",
        "workflows.imports",
        "workflows.exports",
        "workflows.sync",
        "workflows.evaluate",
        "workflows.batch",
        "workflows.write_report",
        "workflows.demo",
    ),
}
"""Public modules of `eifer_ros` by chapter: they have pages, and `test/test_docs.py` holds their docstrings to numpydoc's rules."""

OUTSIDE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "QUALITY_DECLARATION.md": "quality_declaration.md",
    "eifer_msgs/QUALITY_DECLARATION.md": "quality_declaration_messages.md",
    "SECURITY.md": "security.md",
    "models/README.md": "models.md",
    "examples/README.md": "examples/index.md",
}
"""Pages of the repository outside `docs/`, and where they stand in the site."""


def on_config(config: Any) -> Any:
    """Put the chapters of the API and the examples into the navigation, where `mkdocs.yml` says `API` and `EXAMPLES`."""
    chapters: list[Any] = ["reference/api/index.md"]
    chapters += [{chapter: [_api_page(name) for name in names]} for chapter, names in API.items()]
    config.nav = _replaced(config.nav, "API", chapters)
    gallery = ["examples/index.md", *(f"examples/{path.stem}.md" for path in examples())]
    config.nav = _replaced(config.nav, "EXAMPLES", gallery)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made here, and the files outside `docs/` that pages link to."""
    from mkdocs.structure.files import File

    pages = {
        "reference/command_line.md": command_line(),
        "reference/configuration.md": configuration(),
        "reference/api/index.md": api_index(),
        **{_api_page(name): api_module(name) for names in API.values() for name in names},
        **{target: _relinked(source, target) for source, target in OUTSIDE.items()},
        **{f"examples/{path.stem}.md": example(path) for path in examples()},
        **{
            f"config/{path.name}": path.read_text(encoding="utf-8")
            for path in (ROOT / "config").glob("*.yaml")
        },
    }
    for uri, content in pages.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links that leave `docs/` in the repository stay in the site."""
    depth = "../" * page.file.src_uri.count("/")
    for source, target in OUTSIDE.items():
        markdown = markdown.replace(f"]({depth}../{source}", f"]({depth}{target}")
    return markdown.replace(f"]({depth}../config/", f"]({depth}config/")


def command_line() -> str:
    """Every command with its arguments and options, as typer documents itself."""
    import typer
    from typer.cli import get_docs_for_click

    from eifer_ros.cli import app

    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="eifer"), name="eifer")
    # lists of subcommands with their sentences cut off, and the option that every command has
    text = re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+", "", text)
    text = text.replace("* `--help`: Show this message and exit.\n", "")
    text = re.sub(r"\*\*Options\*\*:\n\n(?=\n|#|$)", "", text)
    return text.replace("# `eifer`", "# Command line", 1)


def _configs() -> dict[str, list[type[Any]]]:
    """Configs by module, of modules that need no ROS."""
    import eifer_ros
    from eifer_ros.config import Config

    classes: dict[str, list[type[Any]]] = {}
    for module in pkgutil.walk_packages(eifer_ros.__path__, "eifer_ros."):
        text = Path(str(importlib.util.find_spec(module.name).origin)).read_text(encoding="utf-8")  # type: ignore[union-attr]
        if "(Config)" not in text and "Config):" not in text:
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(value) and issubclass(value, Config) and value.__module__ == module.name:
                classes.setdefault(module.name, []).append(value)
    return classes


def configuration() -> str:
    """Every config with its parameters."""
    table = _module("make_ros_api").parameters
    lines = [
        "# Configuration",
        "",
        "Parameter files are YAML in ROS 2's format; the same file serves `--config` of a command and `--params-file` of a node. The folder",
        "[config/](../config/eifer.yaml) holds one file for each node with every default. A key that nobody knows, a value outside its range",
        "and NaN are refused with the name of the key.",
        "",
        "Parameters marked *run time* may be set while a node runs.",
        "",
    ]
    for module, classes in sorted(_configs().items()):
        for model in classes:
            if not model.model_fields:
                continue
            summary = inspect.cleandoc(model.__doc__ or "").split("\n\n")[0]
            nested = any("type" not in schema for schema in model.model_json_schema()["properties"].values())
            rows = _nested_parameters(model) if nested else table(model)
            lines += [f"## {model.__name__}", "", f"`{module}`: {summary}", "", *rows]
    return "\n".join(lines)


def _nested_parameters(model: type[Any]) -> list[str]:
    """The table of a config that holds other configs: a file of a command, never parameters of a node."""
    lines = ["| key | type | default | |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        kind = (
            str(getattr(field.annotation, "__name__", field.annotation))
            if "[" not in str(field.annotation)
            else str(field.annotation)
        )
        kind = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", kind).replace("|", "\\|")
        default = "" if field.is_required() or field.default_factory else f"`{field.default}`"
        lines.append(
            f"| `{name}` | {kind} | {default} | {(field.description or '').replace('|', chr(92) + '|')} |"
        )
    return [*lines, ""]


def api_index() -> str:
    """The list of public modules with the first sentence of each."""
    lines = [
        "# Python API",
        "",
        "What stands here is public: it changes only with a minor version and a line in the [changelog](../../changelog.md). Stamps are integer",
        "nanoseconds since 1970 at acquisition, everything else is SI; arrays say their shape and element type.",
        "",
    ]
    for chapter, names in API.items():
        lines += [f"## {chapter}", "", "| module | |", "|---|---|"]
        lines += [f"| [`{name}`]({_slug(name)}.md) | {_summary(name)} |" for name in names]
        lines.append("")
    return "\n".join(lines)


def api_module(name: str) -> str:
    """The page of one module."""
    return f"---\ntitle: {name}\n---\n\n# eifer_ros.{name}\n\n::: eifer_ros.{name}\n"


def examples() -> list[Path]:
    """The scripts of `examples/`, in order."""
    return sorted((ROOT / "examples").glob("[0-9]*.py"))


def example(path: Path) -> str:
    """The page of one example: what its docstring says, and the script."""
    text = path.read_text(encoding="utf-8")
    title, _, rest = (ast.get_docstring(ast.parse(text)) or path.stem).partition("\n")
    return f'# {title.rstrip(".")}\n\n{rest.strip()}\n\n```python title="examples/{path.name}"\n{text}```\n'


def _relinked(source: str, target: str) -> str:
    """A page from outside `docs/` with its links turned to where things are in the site."""
    folder = Path(source).parent
    up = "../" * target.count("/")

    def link(match: re.Match[str]) -> str:
        address, anchor = match.group(1), match.group(2) or ""
        if re.match(r"[a-z]+:", address) or not address:
            return match.group(0)
        path = Path(*_normal(folder / address))
        if path.as_posix() in OUTSIDE:
            return f"]({up}{OUTSIDE[path.as_posix()]}{anchor})"
        if path.parts[:1] == ("docs",):
            inside = Path(*path.parts[1:]).as_posix() if len(path.parts) > 1 else "index.md"
            return f"]({up}{inside}{anchor})"
        if path.parts[:1] == ("examples",) and path.suffix == ".py":
            return f"]({up}examples/{path.stem}.md)"
        if path.parts[:1] == ("config",):
            return f"]({up}{path.as_posix()})"
        return match.group(0)

    return re.sub(r"\]\(([^)#]*)(#[^)]*)?\)", link, (ROOT / source).read_text(encoding="utf-8"))


def _normal(path: Path) -> list[str]:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return parts


def _replaced(nav: Any, word: str, value: Any) -> Any:
    if isinstance(nav, list):
        return [_replaced(entry, word, value) for entry in nav]
    if isinstance(nav, dict):
        return {key: _replaced(entry, word, value) for key, entry in nav.items()}
    return value if nav == word else nav


def _slug(name: str) -> str:
    return name.replace(".", "_")


def _api_page(name: str) -> str:
    return f"reference/api/{_slug(name)}.md"


def _summary(name: str) -> str:
    path = ROOT / "eifer_ros" / Path(*name.split("."))
    path = path.with_suffix(".py")
    text = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
    return text.replace("\n", " ").replace("|", "\\|")


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
