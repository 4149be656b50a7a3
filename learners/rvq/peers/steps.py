"""Residual k-means of single actions: the learnt tokenizer without its network.

Shapes: N chunks of T steps, A numbers of an action.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from learners.rvq.peers.coded import Coded
from learners.rvq.quantizer import QuantizerConfig
from learners.rvq.residual import ResidualConfig, ResidualVectorQuantizer
from learners.seeding import generator


def by_layers(train_NTA: np.ndarray, test_NTA: np.ndarray, layers: int, codes: int, seed: int = 0) -> Iterator[Coded]:
    """One for each number of layers, from 1."""
    steps, actions = test_NTA.shape[1:]
    config = ResidualConfig(num_layers=layers, quantizer=QuantizerConfig(num_embeddings=codes, dim=actions))
    rvq = ResidualVectorQuantizer(config).eval()
    known = torch.from_numpy(np.ascontiguousarray(train_NTA, np.float32)).flatten(0, 1)
    rvq.initialise(known, generator((seed,), known.device))
    found = rvq.encode(torch.from_numpy(np.ascontiguousarray(test_NTA, np.float32)))
    for number in range(1, layers + 1):
        bits = steps * number * int(np.ceil(np.log2(codes)))
        yield Coded(bits=bits, tokens=steps * number, found=rvq.decode(found, number).numpy())
