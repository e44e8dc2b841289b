"""The pages about extending eifer: their blocks, written to files, work as the pages say, and are as few as they say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from eifer_ros import registry as registry_module
from eifer_ros.errors import ConfigError
from eifer_ros.registry import Entry

ROOT = Path(__file__).resolve().parent.parent.parent
HOW_TO = ROOT / "docs" / "how-to"
LIMITS = {"new_amplifier": 4, "new_camera": 4, "new_avatar_protocol": 3, "new_topic": 3, "new_estimator": 4}
"""How many files a change may touch, its test among them."""
PLUGINS = {
    "new_amplifier": ("EMG_SOURCES", "bursty:50"),
    "new_camera": ("CAMERAS", "gradient:64"),
    "new_avatar_protocol": ("AVATARS", "jsonface://127.0.0.1:5005"),
    "new_estimator": ("ESTIMATORS", "bright:128"),
}


def files(page: str) -> dict[str, str]:
    """Text of each block that names a file, by that name."""
    text = (HOW_TO / f"{page}.md").read_text(encoding="utf-8")
    found = re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', text, re.M | re.S)
    assert len(dict(found)) == len(found), f"{page}: a file is written twice"
    return dict(found)


def written(page: str, folder: Path, skip: str = "") -> None:
    for name, text in files(page).items():
        if name != skip:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")


def run(*command: str | Path, folder: Path, path: Path) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(path), str(ROOT)])},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("page", LIMITS)
def test_an_extension_touches_few_files(page: str) -> None:
    # a plug-in has a pyproject.toml where eifer's own tree has an entry in its registry
    own = [name for name in files(page) if name != "pyproject.toml"]
    plugin = [name for name in files(page) if name != "eifer_ros/registry.py"]
    assert 2 <= len(own) <= LIMITS[page] and len(plugin) <= LIMITS[page]
    assert any(name.startswith("test_") for name in own)


@pytest.mark.parametrize("page", PLUGINS)
def test_a_plug_in_written_as_the_page_says_is_found_once_installed(page: str, tmp_path: Path) -> None:
    source, installed = tmp_path / "source", tmp_path / "installed"
    source.mkdir()
    written(page, source, skip="eifer_ros/registry.py")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", installed)
    run("-m", "pip", "install", *options, ".", folder=source, path=tmp_path)
    (test,) = source.glob("test_*.py")
    shutil.copy(test, tmp_path)
    run("-m", "pytest", "-q", "-p", "no:cacheprovider", test.name, folder=tmp_path, path=installed)
    name, url = PLUGINS[page]
    text = run(
        "-c",
        f"from eifer_ros.registry import {name} as r; print(r.problems(), [e.usage for e in r.entries()][-1])",
        folder=tmp_path,
        path=installed,
    )
    assert text.startswith(f"() {url.partition(':')[0]}:")


@pytest.mark.parametrize("page", PLUGINS)
def test_the_entry_of_the_page_opens_it_in_eifers_own_tree(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(page, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    name, url = PLUGINS[page]
    registry = getattr(registry_module, name)
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    entry = eval(files(page)["eifer_ros/registry.py"], {"Entry": Entry})
    registry.register(entry)
    device, config = registry.configure(url)
    assert device.__name__ == entry.target.partition(":")[2]
    assert type(config) is device.config_type and entry.usage == config.usage
    with pytest.raises(ConfigError, match="already"):
        registry.register(entry)


def test_a_topic_added_as_the_page_says_is_recorded_and_read_again(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "eifer_ros", tmp_path / "eifer_ros", ignore=shutil.ignore_patterns("static"))
    for name in ("models", "config", "eifer_msgs"):
        (tmp_path / name).symlink_to(ROOT / name)
    written("new_topic", tmp_path, skip="eifer_ros/topics.py")
    table = tmp_path / "eifer_ros" / "topics.py"
    text = table.read_text(encoding="utf-8")
    row = re.search(r'^ +\("emg/activity", .*\n', text, re.M)
    assert row is not None
    table.write_text(
        text.replace(row[0], row[0] + files("new_topic")["eifer_ros/topics.py"]), encoding="utf-8"
    )
    out = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_total.py", folder=tmp_path, path=tmp_path)
    assert "2 passed" in out
