"""The documentation builds without a broken link, shows what is public, and fetches nothing when it is looked at."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import eifer_ros


@pytest.fixture(scope="module")
def pages(root: Path) -> ModuleType:
    """The hook that makes pages from the code."""
    spec = importlib.util.spec_from_file_location("docs_pages", root / "tools" / "docs_pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a link to nowhere ends the build."""
    pytest.importorskip("mkdocs", reason="pip install 'eifer_ros[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_of_the_folder_is_in_the_navigation(root: Path) -> None:
    nav = (root / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    for path in (root / "docs").rglob("*.md"):
        assert path.relative_to(root / "docs").as_posix() in nav, path


def test_a_public_class_a_command_and_a_parameter_have_their_place_in_the_site(site: Path) -> None:
    assert 'id="eifer_ros.types.FaceState"' in (site / "reference/api/types.html").read_text()
    assert 'id="eifer-calibrate"' in (site / "reference/command_line.html").read_text()
    assert "min_confidence" in (site / "reference/configuration.html").read_text()


def test_looking_at_a_page_fetches_nothing_from_elsewhere(site: Path) -> None:
    fetched = re.compile(
        r'<(?:script|img|iframe)[^>]+src="?(https?:)?//|<link[^>]+rel="?(?:stylesheet|preconnect)[^>]+//'
    )
    read = list(site.rglob("*.html"))
    assert len(read) > 30
    for path in read:
        assert not fetched.search(path.read_text(encoding="utf-8")), path.name
    for path in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//", path.read_text(encoding="utf-8")), path.name


def test_every_example_has_a_page_and_a_line_in_the_gallery(site: Path, pages: ModuleType) -> None:
    gallery = (site / "examples/index.html").read_text()
    for path in pages.examples():
        assert (site / "examples" / f"{path.stem}.html").exists()
        assert f'href="{path.stem}.html"' in gallery, path.name


def test_the_citation_names_the_version_that_is_here(root: Path) -> None:
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == eifer_ros.__version__
    changes = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{citation['version']}] - {citation['date-released']}" in changes
