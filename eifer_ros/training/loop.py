"""The one training loop. A recipe says what a step computes; everything around it is here: the budget in steps
or minutes, the learning rate, the gradient step, the running mean of weights, losses in a log, the checkpoint
from which a stopped run goes on, progress and stop.

    loop = Loop(Budget(steps=4000), Checkpoint(run / "run.pt", "my_recipe", {"network": network, ...}))
    loop.resume()

    def advance(step: int, along: float) -> Losses:
        set_rates(optimizer, 1e-3 * cosine_fall(along))
        terms = losses(network, batch(step))
        descend(optimizer, terms)
        return terms

    complete = loop.run(advance, stop=event.is_set)

Nothing here draws random numbers: a recipe whose choices depend on its seed and `step` alone resumes bit for bit.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from ..errors import ConfigError, InputError, ModelError
from .tensors import check_names, read_tensors, write_tensors

FORMAT = 1
MODEL_KEYS = {
    "encoder": "kind of encoder",
    "head_model": "head model",
    "head_fingerprint": "version of the head model",
}
"""Parts of an identity that say what the networks are made for."""

Losses = Mapping[str, "torch.Tensor | float"]
Advance = Callable[[int, float], Losses]
"""One step: (number of the step from 0, share of the budget spent 0..1) to losses by name."""


# ---- budget and learning rate


@dataclass(frozen=True)
class Budget:
    """How long a run is over all its sittings: steps or minutes, one of the two."""

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        length = self.steps if self.minutes is None else self.minutes
        if length is None or (self.steps is not None and self.minutes is not None) or not length > 0:
            raise ConfigError(f"a training run is so many steps or minutes long, more than 0; got {self}")

    def share(self, step: int, minutes: float) -> float:
        """0..1, how much is spent."""
        spent = step / self.steps if self.steps is not None else minutes / (self.minutes or 1.0)
        return min(spent, 1.0)


def warm_up(step: int, steps: int) -> float:
    """Factor of the learning rate that rises to 1 over the first `steps` steps."""
    return min((step + 1) / steps, 1.0)


def linear_fall(along: float, last: float) -> float:
    """Factor of the learning rate that falls to 0 over the `last` share of a run."""
    return min((1.0 - along) / last, 1.0)


def cosine_fall(along: float) -> float:
    """Factor of the learning rate that falls as a half cosine over the whole run."""
    return 0.5 + 0.5 * math.cos(math.pi * along)


def set_rates(optimizer: torch.optim.Optimizer, *rates: float) -> None:
    """The learning rate of each group of parameters."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


# ---- one step


def descend(
    optimizer: torch.optim.Optimizer,
    terms: Mapping[str, torch.Tensor],
    *,
    clip: float | None = None,
    average_gradients: Callable[[list[nn.Parameter]], None] | None = None,
) -> bool:
    """One step down the sum of `terms`.

    Parameters
    ----------
    optimizer
        Its parameters learn.
    terms
        Weighted losses, scalars with a gradient.
    clip
        Largest norm of the gradient over all parameters; None for no limit.
    average_gradients
        Called with the parameters between backward pass and step, for several processes.

    Returns
    -------
    bool
        False where the clipped gradient was not finite: nothing is changed then, because one broken picture must
        not end a night's training.
    """
    optimizer.zero_grad(set_to_none=True)
    if terms:
        torch.stack(list(terms.values())).sum().backward()
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    if average_gradients is not None:
        average_gradients(parameters)
    if clip is not None and not bool(torch.isfinite(nn.utils.clip_grad_norm_(parameters, clip))):
        return False
    optimizer.step()
    return True


def descend_epoch(
    optimizer: torch.optim.Optimizer,
    loss: Callable[[torch.Tensor], torch.Tensor],
    rows: torch.Tensor,
    batch: int,
    random: torch.Generator | None = None,
    after: Callable[[], None] | None = None,
) -> dict[str, float]:
    """One pass over data in memory: `loss` of every `batch` of `rows` in random order, `after` each step."""
    total = 0.0
    for part in rows[torch.randperm(len(rows), generator=random)].split(batch):
        term = loss(part)
        descend(optimizer, {"loss": term})
        total += float(term.detach()) * len(part)
        if after is not None:
            after()
    return {"loss": total / max(len(rows), 1)}


class Average:
    """Running mean of a network's weights (Polyak), which is what is judged and shipped.

    In the beginning the mean is short.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after step number `step` (from 0)."""
        decay = min(self.decay, (step + 1.0) / (step + 11.0))
        for name, value in network.state_dict().items():
            mean = self.state[name]
            if mean.dtype.is_floating_point:
                mean.mul_(decay).add_(value.detach(), alpha=1.0 - decay)
            else:
                mean.copy_(value)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The mean by name."""
        return self.state

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from a mean."""
        for name, value in state.items():
            self.state[name].copy_(value)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch on `count` threads of the CPU; 0 leaves its own choice. Small layers are faster on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ---- a run


class Stateful(Protocol):
    """A part of a run that a checkpoint holds: network, optimizer, running mean."""

    def state_dict(self) -> Any:
        """Tensors, numbers and words."""

    def load_state_dict(self, state: Any) -> Any:
        """Go on from `state_dict`."""


class Checkpoint:
    """Everything that is needed to go on, in one file.

    Parameters
    ----------
    path
        The file.
    kind
        Word that says whose checkpoint it is.
    parts
        What is saved, by name.
    identity
        What a run that goes on must share: values of `MODEL_KEYS`, and tables of settings by name.
    about
        Further values for those who read the file, made when it is saved.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        parts: Mapping[str, Stateful],
        identity: Mapping[str, Any] | None = None,
        about: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        self.path = path
        self.kind = kind
        self.parts = dict(parts)
        self.identity = dict(identity or {})
        self.about = about

    def save(self, step: int, minutes: float) -> None:
        """Write the file in one step."""
        content: dict[str, Any] = {"format": FORMAT, "kind": self.kind, "identity": self.identity}
        content |= {"step": step, "minutes": minutes}
        content |= {name: part.state_dict() for name, part in self.parts.items()}
        write_tensors(self.path, {**content, **(self.about() if self.about is not None else {})})

    def load(self) -> dict[str, Any]:
        """Put what is saved into the parts; returns the whole content.

        Raises
        ------
        InputError
            For a damaged file and one of other settings.
        ModelError
            For a file of another kind, version, head model or architecture.
        """
        content = read_tensors(self.path)
        if content.get("kind") != self.kind:
            raise ModelError(f"{self.path}: not a checkpoint of '{self.kind}'")
        if content.get("format") != FORMAT:
            raise ModelError(
                f"{self.path}: checkpoint format {content.get('format')}; this version of eifer reads format {FORMAT}: "
                "begin in another folder"
            )
        if missing := {"identity", "step", *self.parts} - set(content):
            raise ModelError(f"{self.path}: not a whole checkpoint: {', '.join(sorted(missing))} missing")
        self._check_identity(content["identity"])
        for name, part in self.parts.items():
            if isinstance(part, nn.Module | Average):
                check_names(self.path, f"a checkpoint of this '{name}'", part.state_dict(), content[name])
            part.load_state_dict(content[name])
        return content

    def _check_identity(self, theirs: Mapping[str, Any]) -> None:
        for key, words in MODEL_KEYS.items():
            if key in self.identity and theirs.get(key) != self.identity[key]:
                raise ModelError(
                    f"{self.path}: was trained with another {words} ({theirs.get(key)}, not {self.identity[key]}); "
                    "take another folder"
                )
        for key, values in self.identity.items():
            if key in MODEL_KEYS:
                continue
            for name, value in values.items():
                if theirs.get(key, {}).get(name) != value:
                    raise InputError(
                        f"{self.path}: belongs to a run with {name} = {theirs.get(key, {}).get(name)}, not {value}; "
                        "take another folder"
                    )


class Loop:
    """Runs steps until the budget is spent.

    Parameters
    ----------
    budget
        How long.
    checkpoint
        What is saved; None for a run that is too short to be stopped.
    log
        File of JSON lines, one each time the run is saved: step, minutes, mean losses, what `judge` says.
    save_every, save_every_s
        Steps and seconds between two checkpoints; the last step is always saved.
    writes
        Whether this process writes files; one of several does.
    echo
        Print the lines of the log, too.
    clock
        Seconds, for minutes of the budget.
    """

    window = 100
    """Losses are means over so many steps."""

    def __init__(
        self,
        budget: Budget,
        checkpoint: Checkpoint | None = None,
        *,
        log: Path | None = None,
        save_every: int | None = None,
        save_every_s: float = math.inf,
        writes: bool = True,
        echo: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.budget = budget
        self.checkpoint = checkpoint
        self.log = log
        self.save_every = save_every
        self.save_every_s = save_every_s
        self.writes = writes
        self.echo = echo
        self.clock = clock
        self.step = 0
        self.minutes = 0.0

    @property
    def complete(self) -> bool:
        """Whether the budget is spent."""
        return self.budget.share(self.step, self.minutes) >= 1.0

    def resume(self) -> bool:
        """Go on from the checkpoint; False where there is none. Raises as `Checkpoint.load`."""
        if self.checkpoint is None or not self.checkpoint.path.exists():
            return False
        content = self.checkpoint.load()
        self.step = int(content["step"])
        self.minutes = float(content.get("minutes", 0.0))
        return True

    def save(self) -> None:
        """Write the checkpoint."""
        if self.checkpoint is not None:
            self.checkpoint.save(self.step, self.minutes)

    def run(
        self,
        advance: Advance,
        *,
        progress: Callable[[int, dict[str, float]], None] | None = None,
        stop: Callable[[], bool] | None = None,
        judge: Callable[[int, dict[str, float]], Mapping[str, float] | None] | None = None,
    ) -> bool:
        """Run until the budget is spent or `stop` says so; saved either way.

        Parameters
        ----------
        advance
            One step.
        progress
            Called after every step with its number (from 1) and the mean losses.
        stop
            Asked after every step, by all of several processes alike.
        judge
            Called before the run is saved with the number of the step and the mean losses; what it returns goes into
            the log.

        Returns
        -------
        bool
            Whether the budget is spent.
        """
        windows: dict[str, deque[float]] = {}
        before = self.minutes
        begun = self.clock()
        saved = begun
        while not self.complete:
            losses = advance(self.step, self.budget.share(self.step, self.minutes))
            for name, value in losses.items():
                number = float(value.detach()) if isinstance(value, torch.Tensor) else float(value)
                windows.setdefault(name, deque(maxlen=self.window)).append(number)
            self.step += 1
            now = self.clock()
            self.minutes = before + (now - begun) / 60.0
            means = {name: sum(values) / len(values) for name, values in windows.items()}
            if progress is not None:
                progress(self.step, means)
            stopped = stop is not None and stop()
            due = bool(self.save_every) and self.step % (self.save_every or 1) == 0
            if self.writes and (stopped or self.complete or due or now - saved > self.save_every_s):
                saved = now
                self._record(means | dict((judge(self.step, means) if judge is not None else None) or {}))
                self.save()
            if stopped:
                break
        return self.complete

    def _record(self, values: Mapping[str, float]) -> None:
        line: dict[str, float] = {"step": self.step, "minutes": round(self.minutes, 2)}
        line |= {name: round(value, 5) for name, value in values.items()}
        if self.log is not None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        if self.echo:
            print(json.dumps(line), flush=True)
