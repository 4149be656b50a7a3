"""Published weights: copies, whole files, the newest version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from learners import weights
from learners.weights import Weights
from replay.errors import BadInput


def net() -> nn.Module:
    module = nn.Linear(3, 2)
    module.register_buffer("ready", torch.tensor(True))
    module.register_buffer("count", torch.tensor(3))
    return module


def test_weights_are_a_copy() -> None:
    module = net()
    published = Weights.of(module, 1)
    before = published.arrays["weight"].copy()
    nn.init.zeros_(module.weight)
    assert np.array_equal(published.arrays["weight"], before)
    for array in published.arrays.values():
        array.flags.writeable = False  # as the object store hands them out
    published.apply(module)
    assert np.array_equal(module.weight.detach().numpy(), before)


def test_weights_of_another_system_are_refused() -> None:
    with pytest.raises(BadInput, match="do not fit"):
        Weights.of(net(), 1).apply(nn.Linear(4, 2))


def test_publish_and_load(tmp_path: Path) -> None:
    assert weights.load(tmp_path) is None
    module = net()
    for version in (9, 10, 11):
        nn.init.constant_(module.weight, version)
        path = weights.publish(Weights.of(module, version), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    loaded = weights.load(tmp_path)
    assert loaded is not None
    assert loaded.version == 11
    other = net()
    loaded.apply(other)
    assert all(torch.equal(x, other.state_dict()[n]) for n, x in module.state_dict().items())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadInput, match="holds no weights"):
        weights.load(tmp_path)
