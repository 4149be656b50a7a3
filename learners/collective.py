"""What the learners of one group agree on: starting weights, gradients, and whether a step counts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn


def listen(world: int, timeout_s: float) -> dist.TCPStore:
    """The meeting point of a group, on a free port of this host; whoever holds the store keeps it open."""
    return dist.TCPStore("0.0.0.0", 0, world, True, timedelta(seconds=timeout_s), wait_for_workers=False)


def join(host: str, port: int, rank: int, world: int, device: torch.device, timeout_s: float) -> None:
    """Makes this process rank `rank` of the group. Every later collective fails after `timeout_s` without a peer."""
    timeout = timedelta(seconds=timeout_s)
    store = dist.TCPStore(host, port, world, False, timeout)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout)


class Peers:
    """The group as a learner sees it; alone, it costs nothing."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world

    def average(self, parameters: Sequence[Tensor], loss: Tensor) -> Tensor:
        """Every gradient becomes the mean over the group, bit-equal on all ranks; returns the mean loss.

        All travel in one flat float32 buffer. The last entries say who has a gradient at all (a parameter without one
        anywhere is left alone by the optimiser, as it is without a group) and carry the loss, so a loss that is not
        finite anywhere is not finite everywhere, and all ranks skip the same steps.
        """
        if self.world == 1:
            return loss
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        has = torch.tensor([p.grad is not None for p in parameters], device=loss.device)
        flat = torch.cat([*(g.flatten().float() for g in gradients), has.float(), loss.detach().float().view(1)])
        dist.all_reduce(flat)
        flat /= self.world
        sizes = [p.numel() for p in parameters]
        *means, has, mean_loss = flat.split([*sizes, len(sizes), 1])
        for parameter, mean, anyone in zip(parameters, means, (has != 0).tolist(), strict=True):
            parameter.grad = mean.view_as(parameter).to(parameter.dtype) if anyone else None
        return mean_loss[0]

    @torch.no_grad()
    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Every float32 tensor becomes its sum over the group, bit-equal on all ranks, in one message."""
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([x.flatten() for x in tensors])
        dist.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([x.numel() for x in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    @torch.no_grad()
    def gather(self, tensor: Tensor) -> Tensor:
        """(world, *shape): everybody's, by rank."""
        if self.world == 1:
            return tensor[None]
        found = [torch.empty_like(tensor) for _ in range(self.world)]
        dist.all_gather(found, tensor.contiguous())
        return torch.stack(found)

    def share_state(self, module: nn.Module) -> None:
        """Everybody gets the parameters and buffers of rank 0."""
        self._broadcast(list(module.state_dict().values()))

    def share_buffers(self, module: nn.Module) -> None:
        """Everybody gets the running statistics of rank 0, as DistributedDataParallel does it."""
        parameters = {name for name, _ in module.named_parameters()}
        self._broadcast([x for name, x in module.state_dict().items() if name not in parameters])

    @torch.no_grad()
    def _broadcast(self, tensors: Sequence[Tensor]) -> None:
        """One message for all, as bytes, so that any dtype may be among them."""
        if self.world == 1 or not tensors:
            return
        message = torch.cat([x.contiguous().view(-1).view(torch.uint8) for x in tensors])
        dist.broadcast(message, src=0)
        parts = message.split([x.numel() * x.element_size() for x in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.clone().view(tensor.dtype).view_as(tensor))
