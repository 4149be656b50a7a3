"""Action tokenizers on any chunks: the document's configuration over several seeds, and every method at equal bits.

    python tests/bench/bench_tokenizers.py               scripted chunks, of 50 training episodes and 20 to test
    python tests/bench/bench_tokenizers.py --train-episodes 200 --seeds 0
    python tests/bench/bench_tokenizers.py DATA...       recorded data of ours: their training and held-out episodes

What is asked: errors of the document's configuration at 2 layers at most 0.010 and at 8 at most 0.0010, falling with
every layer, at least 0.9 of the codes of layers 1 to 4 in use, trained within 120 s of one core; the bands at most 0.6
of FAST's error at 160 and 265 bits, and at most 0.2 of that of three cosines of 8 bits (168 bits).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from timing import table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import picking

from learners.allocator import keep_freed
from learners.rvq.analyse import AnalyseConfig, at_equal_bits, find
from learners.rvq.bands import BandTokenizer
from learners.rvq.chunks import Chunks, ChunksConfig, card, load, of_episodes
from learners.rvq.heldout import Layers, by_layers
from learners.rvq.rates import Curves, at_most, between
from learners.rvq.tokenizer import RVQTokenizer
from replay.config import ReplayConfig
from replay.sources.dataset_source import DatasetSource

SIZE = 10


def scripted(train: int, stride: int, test_stride: int) -> tuple[Chunks, Chunks]:
    known = [picking.actions(seed) for seed in range(train)]
    fresh = [picking.actions(seed) for seed in range(10_000, 10_020)]
    return of_episodes(known, SIZE, stride, "scripted"), of_episodes(fresh, SIZE, test_stride, "scripted")


def recorded(paths: Sequence[Path], stride: int, valid_share: float) -> tuple[Chunks, Chunks]:
    parts = []
    for path in paths:
        source = DatasetSource(path, ReplayConfig(arena_bytes=0, valid_share=valid_share))
        try:
            config = ChunksConfig(train_stride=stride)
            parts.append((load(source, "train", SIZE, config), load(source, "valid", SIZE, config)))
        finally:
            source.close()
    train, test = (joined(some) for some in zip(*parts, strict=True))
    return train, test


def joined(parts: Sequence[Chunks]) -> Chunks:
    """Of several recordings, whose episodes are numbered one after the other."""
    before = [sum(len(part.taken) for part in parts[:place]) for place in range(len(parts))]
    return Chunks(
        actions=np.concatenate([part.actions for part in parts]),
        episode=np.concatenate([part.episode + first for part, first in zip(parts, before, strict=True)]),
        start=np.concatenate([part.start for part in parts]),
        taken=tuple(taken for part in parts for taken in part.taken),
        predicted=all(part.predicted for part in parts),
        sources=tuple(source for part in parts for source in part.sources),
    )


def fitted(train: Chunks, updates: int, seed: int) -> tuple[RVQTokenizer, float]:
    """And the seconds of one core that it took."""
    torch.manual_seed(seed)
    tokenizer, begun = RVQTokenizer(action_dim=train.actions.shape[2]), time.process_time()
    tokenizer.fit(train, updates=updates, seed=seed)
    return tokenizer, time.process_time() - begun


def document(train: Chunks, test: Chunks, updates: int, seeds: Sequence[int]) -> tuple[RVQTokenizer, list[Layers]]:
    """The document's configuration; a row for each seed."""
    rows, found, tokenizer = [], [], RVQTokenizer()
    for seed in seeds:
        tokenizer, seconds = fitted(train, updates, seed)
        layers = by_layers(tokenizer, test.actions)
        found.append(layers)
        errors = [float(each.norm.mean()) for each in layers.errors]
        falling = all(later < earlier for earlier, later in pairwise(errors))
        rows.append(
            [
                seed,
                *(f"{errors[n]:.5f}" for n in (0, 1, 2, 3, 7)),
                "yes" if falling else "no",
                f"{layers.usage[:4].min():.2f}",
                f"{layers.usage.min():.2f}",
                f"{layers.perplexity[:4].min():.0f}",
                f"{100 * layers.sign_errors[1:].max():.2f}%",
                f"{seconds:.0f} s",
            ]
        )
    head = ["seed", "L1", "L2", "L3", "L4", "L8", "falling", "least use, L1-4", "least use", "perplexity, L1-4"]
    table([*head, "gripper wrong, L2 on", "trained in"], rows)
    return tokenizer, found


def equal_bits(curves: Curves) -> None:
    """Every point, by method."""
    rows = [
        [method, f"{p[0]:.0f}", f"{p[1]:.1f}", *(f"{error:.5f}" for error in p[2:])]
        for method, points in curves.items()
        for p in zip(
            *(points[n] for n in ("bits", "tokens", "mse_norm", "mse_arm", "mse_gripper", "mse_raw")), strict=True
        )
        if p[0] <= 700
    ]
    table(["method", "bits", "tokens", "normalised", "arm", "gripper", "raw"], rows)


def ratios(curves: Curves, config: AnalyseConfig) -> None:
    figures = at_equal_bits(curves, config)
    for name in (name for name in figures if "_over_" in name):
        print(f"{name}: {figures[name]:.3f}")
    cosines, (bits, error) = between(curves["dct8"], 168), at_most(curves["bands"], 168)
    print(f"bands at {bits:.0f} bits over three cosines of 8 bits (168): {error / cosines:.3f}")
    learnt = between(curves["rvq"], 160)
    print(f"learnt, 2 layers (160 bits), over three cosines of 8 bits: {learnt / cosines:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="*", help="recorded data of ours; scripted chunks if not given")
    parser.add_argument("--train-episodes", type=int, default=50, help="of scripted data")
    parser.add_argument("--valid-share", type=float, default=0.2857, help="of recorded episodes, held out")
    parser.add_argument("--stride", type=int, default=3, help="actions between two training windows")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--updates", type=int, default=1500)
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed()
    train, test = (
        recorded(given.data, given.stride, given.valid_share)
        if given.data
        else scripted(given.train_episodes, given.stride, 3)
    )
    print(f"trained on {card(train, given.stride)}\ntested on {card(test, 3)}")
    tokenizer, _ = document(train, test, given.updates, given.seeds)
    begun = time.process_time()
    bands = BandTokenizer(train.actions.shape[2]).fit(train, stride=given.stride)
    print(f"\nbands fitted in {time.process_time() - begun:.0f} s of one core\n")
    config = AnalyseConfig()
    found = find(config, tokenizer, bands, train, test)
    equal_bits(found.curves)
    print()
    ratios(found.curves, config)
    print(*found.hypotheses, sep="\n")
    for phase, mean, chunks in zip(*(found.phases[n] for n in ("phases", "mean", "chunks")), strict=True):
        print(f"layers needed for an error of {config.error:g}, {phase}: {mean:.2f} ({chunks} chunks)")


if __name__ == "__main__":
    main()
