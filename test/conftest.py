"""Shared by all tests: seeds, where real recordings are, one thread for small linear algebra."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings

import eifer_ros.threads  # noqa: F401  (before anything that loads a BLAS)

settings.register_profile(
    "eifer",
    deadline=None,
    max_examples=40,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# `make nightly`: other examples every night, and what to paste into the test to see a failure again
settings.register_profile(
    "nightly", settings.get_profile("eifer"), max_examples=400, derandomize=False, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "eifer"))

# a shell starts what it puts into the background with Ctrl-C ignored, and so would every program that a test
# starts and interrupts
if (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not exercised and why: a skip is no pass."""
    reasons: dict[str, Counter[str]] = {}
    for report in terminalreporter.stats.get("skipped", []):
        where, _, reason = (
            report.longrepr if isinstance(report.longrepr, tuple) else ("", 0, str(report.longrepr))
        )
        whole = not isinstance(report, pytest.TestReport)
        file = report.nodeid.partition("::")[0] or os.path.relpath(where, ROOT)
        reasons.setdefault(reason.removeprefix("Skipped: "), Counter())[file + " (all of it)" * whole] += 1
    if not reasons:
        return
    count = sum(sum(files.values()) for files in reasons.values())
    terminalreporter.section(
        f"not exercised: {count} tests or files, for {len(reasons)} reasons", yellow=True
    )
    for reason, files in sorted(reasons.items(), key=lambda pair: (-sum(pair[1].values()), pair[0])):
        terminalreporter.line(f"{sum(files.values()):4d}  {reason}")
        for file, times in sorted(files.items()):
            terminalreporter.line(f"        {file}" + (f" ({times})" if times > 1 else ""))


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of real recordings (not part of the repository); tests that need it skip where it is absent."""
    folder = Path(os.environ.get("EIFER_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real recordings are not at {folder}; set EIFER_TEST_DATA to a folder that holds them")
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def eifer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., SimpleNamespace]:
    """Run a command in this process; gives exit code, standard output and standard error."""

    from eifer_ros import cli  # the command line is not loaded for tests that do not use it

    def call(*arguments: object) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["eifer", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return call
