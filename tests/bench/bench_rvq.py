"""Against vector-quantize-pytorch's ResidualVQ (1.32.0): a training step, encoding, and one chunk there and back.

8 layers of 256 codes, 1280 vectors of 64 numbers (128 chunks of 10 steps), moving averages with decay 0.99, layers
dropped as each side does it, both in one process, turn by turn. A step is forward, backward to the vectors, and the
codebooks' own update.

    pip install -c constraints.txt -e '.[bench]' && python tests/bench/bench_rvq.py
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from statistics import median

import pytest
import torch
from timing import arguments, ratio, table, turns
from torch import Tensor

from learners.rvq.quantizer import QuantizerConfig
from learners.rvq.residual import ResidualConfig, ResidualVectorQuantizer, depths
from learners.rvq.tokenizer import RVQTokenizer

LAYERS, CODES, WIDTH, CHUNKS, STEPS = 8, 256, 64, 128, 10
DECAY, COMMITMENT, DROPOUT = 0.99, 0.25, 0.1


def vectors(chunks: int = CHUNKS) -> Tensor:
    """(B, T, H): clusters, so that codes have something to find."""
    draws = torch.Generator().manual_seed(0)
    centres = torch.randn(64, WIDTH, generator=draws)
    chosen = centres[torch.randint(64, (chunks, STEPS), generator=draws)]
    return chosen + 0.3 * torch.randn(chunks, STEPS, WIDTH, generator=draws)


def ours() -> ResidualVectorQuantizer:
    torch.manual_seed(0)
    quantizer = QuantizerConfig(num_embeddings=CODES, dim=WIDTH, decay=DECAY)
    rvq = ResidualVectorQuantizer(ResidualConfig(num_layers=LAYERS, dropout=DROPOUT, quantizer=quantizer))
    rvq.initialise(vectors(800).flatten(0, 1), torch.Generator().manual_seed(0), iterations=5)
    return rvq


def theirs(own: ResidualVectorQuantizer) -> torch.nn.Module:
    library = pytest.importorskip("vector_quantize_pytorch", reason="pip install 'distwm[bench]'")
    other = library.ResidualVQ(
        dim=WIDTH,
        num_quantizers=LAYERS,
        codebook_size=CODES,
        decay=DECAY,
        commitment_weight=COMMITMENT,
        threshold_ema_dead_code=2,
        quantize_dropout=True,
    )
    for mine, layer in zip(own.quantizers, other.layers, strict=True):
        layer._codebook.embed.copy_(mine.codebook[None])
    return other


def our_step(rvq: ResidualVectorQuantizer, x: Tensor) -> Callable[[], object]:
    draws = torch.Generator().manual_seed(1)
    rvq.train()

    def step() -> None:
        leaf = x.clone().requires_grad_(True)
        depth = depths(CHUNKS, LAYERS, DROPOUT, draws)
        assert depth is not None
        found = rvq(leaf, depth[:, None].expand(CHUNKS, STEPS))
        (found.vectors.square().mean() + COMMITMENT * found.commitment).backward()
        rvq.update(found.statistics)

    return step


def their_step(other: torch.nn.Module, x: Tensor) -> Callable[[], object]:
    other.train()

    def step() -> None:
        leaf = x.clone().requires_grad_(True)
        found, _, commitment = other(leaf)
        (found.square().mean() + commitment.sum()).backward()

    return step


def compare(repetitions: int) -> list[list[object]]:
    x = vectors()
    mine = ours()
    other = theirs(mine)
    still = copy.deepcopy(mine).eval()
    still_other = theirs(still).eval()
    one = x[:1]
    with torch.no_grad():
        same = (still.encode(x) == still_other(x)[1]).float().mean()
    print(f"the same codebooks give the same indices: {100 * float(same):.2f}%\n")
    work: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "training step": (our_step(mine, x), their_step(other, x)),
        "encode 128 chunks": (lambda: still.encode(x), lambda: still_other(x)),
        "encode and decode 1 chunk": (
            lambda: still.decode(still.encode(one)),
            lambda: still_other.get_output_from_indices(still_other(one)[1]),
        ),
    }
    rows: list[list[object]] = []
    for name, (own, peer) in work.items():
        with torch.set_grad_enabled(name == "training step"):
            seconds = turns({"ours": own, "theirs": peer}, repetitions)
        ms = [f"{1e3 * median(seconds[side]):.2f} ms" for side in ("ours", "theirs")]
        rows.append([name, *ms, f"{ratio(seconds['theirs'], seconds['ours']):.2f}x"])
    return rows


def whole_tokenizer(repetitions: int) -> list[object]:
    """One chunk through the tokenizer, encoder, decoder and normaliser included."""
    tokenizer = RVQTokenizer().eval()
    chunk = torch.randn(1, STEPS, 7)
    seconds = turns({"ours": lambda: tokenizer.decode(tokenizer.encode(chunk))}, repetitions)["ours"]
    return ["the whole tokenizer, 1 chunk", f"{1e3 * median(seconds):.2f} ms", "", ""]


def report(repetitions: int) -> list[list[object]]:
    rows = [*compare(repetitions), whole_tokenizer(max(repetitions, 100))]
    table(["work", "ours", "theirs", "ours is faster by"], rows)
    return rows


@pytest.mark.bench
def test_a_training_step_is_twice_as_fast() -> None:
    torch.set_num_threads(1)
    rows = report(30)
    assert float(str(rows[0][-1]).removesuffix("x")) >= 2


if __name__ == "__main__":
    report(arguments(__doc__).repetitions or 40)
