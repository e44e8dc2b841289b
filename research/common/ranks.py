"""Several processes that train one set of networks: gradients are averaged after every backward pass, weights
start and stay the same.

Started by `torchrun`, which sets RANK, WORLD_SIZE and where to meet; gloo between CPUs, NCCL between GPUs.
Plain averaging instead of torch's DistributedDataParallel, because a cycle calls every network twice in one
pass, which its bookkeeping does not allow.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from eifer_ros.errors import ConfigError


@dataclass(frozen=True)
class Ranks:
    """This process among `world`. device: where it computes."""

    rank: int
    world: int
    device: torch.device

    @staticmethod
    def join(device: str = "auto") -> Ranks:
        """From the environment that torchrun makes; without it, one process.

        device: auto, cpu, cuda or cuda:N.

        Raises ConfigError for a device that is not there.
        """
        rank, world, local = (
            int(os.environ.get(name, default))
            for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
        )
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            torch_device = torch.device(device)
        except RuntimeError:
            raise ConfigError(f"--device {device}: write auto, cpu, cuda or cuda:0") from None
        if torch_device.type not in ("cpu", "cuda") or (
            torch_device.type == "cuda" and not torch.cuda.is_available()
        ):
            raise ConfigError(f"--device {device}: this computer has none; write cpu")
        if torch_device.type == "cuda" and world > 1:
            torch_device = torch.device("cuda", local)
        if world > 1 and not dist.is_initialized():
            if torch_device.type == "cuda":
                torch.cuda.set_device(torch_device)
            # the first process may spend hours on collecting pictures while the others wait
            dist.init_process_group(
                "nccl" if torch_device.type == "cuda" else "gloo", timeout=timedelta(hours=12)
            )
        return Ranks(rank, world, torch_device)

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def average(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace each tensor by its mean over all processes, in place."""
        sources = list(tensors)
        if self.world == 1 or not sources:
            return
        flat = torch.cat([one.detach().reshape(-1).float() for one in sources])
        dist.all_reduce(flat)
        flat /= self.world
        for one, mean in zip(sources, flat.split([one.numel() for one in sources]), strict=True):
            one.detach().copy_(mean.reshape(one.shape))

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Of parameters that learn; a missing gradient counts as 0, so that all processes average the same
        ones.
        """
        if self.world == 1:
            return
        trainable = [one for one in parameters if one.requires_grad]
        for one in trainable:
            if one.grad is None:
                one.grad = torch.zeros_like(one)
        self.average([one.grad for one in trainable if one.grad is not None])

    def average_running(self, networks: nn.Module) -> None:
        """Running statistics of normalisations."""
        self.average(buffer for name, buffer in networks.named_buffers() if "running_" in name)

    def share(self, value: Any) -> Any:
        """What the first process passes in, in all of them."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            dist.barrier()

    def leave(self) -> None:
        """End what `join` began."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()
