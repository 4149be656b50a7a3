"""The stage that compares: bands fitted without gradients, peers at equal bits, hypotheses, layers by phase.

It trains nothing. A stage has at least one update; here it leaves every weight as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from learners.rvq.bands import BandTokenizer
from learners.rvq.chunks import Chunks, ChunksConfig, card, load
from learners.rvq.heldout import Layers, by_layers, half_ranges, lost_by
from learners.rvq.hypotheses import SCORES, Hypothesis, examine
from learners.rvq.notes import Notes
from learners.rvq.phases import MARGIN, by_phase, layers_needed, of_chunks
from learners.rvq.rates import Curves, PeersConfig, Yardstick, at_most, between, flat, peers, points_of
from learners.rvq.tokenizer import RVQTokenizer
from learners.rvq.train import examples, held_out
from learners.system import Metrics, OptimConfig
from replay.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyseConfig:
    compare_bits: tuple[int, ...] = (100, 160, 265)  # where bands and FAST are held side by side
    coarse_layers: int = 2
    coarse_mse: float = 0.01  # gate of the first hypothesis: that many layers are nearer than this
    fine_mse: float = 0.001  # gate of the second one, of all layers
    confidence: float = 0.95
    resamples: int = 2000
    error: float = 0.01  # normalised, that a chunk needs so many layers for
    grasp_margin: int = MARGIN  # actions
    closed_is_high: bool = True  # whether the gripper's higher action closes it
    peers: PeersConfig = field(default_factory=PeersConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    held: Chunks
    rvq: Layers
    bands: Layers
    curves: Curves
    hypotheses: tuple[Hypothesis, ...]
    phases: Mapping[str, np.ndarray]  # {} without a gripper


class AnalyseObjective:
    def __init__(
        self, config: AnalyseConfig, tokenizer: RVQTokenizer, bands: BandTokenizer, chunks: ChunksConfig, notes: Notes
    ) -> None:
        """`notes` is the card of the data that the bands were fitted to."""
        self.config, self.tokenizer, self.bands, self.chunks, self.notes = config, tokenizer, bands, chunks, notes
        self._train: Chunks | None = None
        self._findings: Findings | None = None

    @property
    def optim(self) -> OptimConfig:
        return OptimConfig(lr=0.0, weight_decay=0.0, warmup_steps=0, decay=0.0)

    def trained(self) -> nn.Module:
        """At a rate of 0."""
        return self.tokenizer.decoder

    def prepare(self, source: Source) -> None:
        """Fits the bands, unless they were fitted to the same chunks."""
        self._train = load(source, "train", self.tokenizer.config.chunk_size, self.chunks)
        self._findings = None
        known = card(self._train, self.chunks.of("train"))
        if not self.bands.ready or self.notes.read().get("data_hash") != known["data_hash"]:
            self.bands.fit(self._train, stride=self.chunks.of("train"))
            self.notes.write(known)

    def batch(self, source: Source, key: tuple[int, ...], progress: float) -> Tensor:
        return torch.zeros(())

    def loss(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        nothing = sum((p.sum() for p in self.tokenizer.decoder.parameters()), batch) * 0.0
        return nothing, {}

    def stepped(self) -> None:
        """Nothing follows."""

    @torch.no_grad()
    def gate(self, source: Source) -> Metrics:
        """Held-out figures: errors by layer, errors at equal bits and their ratios, intervals of the hypotheses and
        their verdicts (1 validated, 0 not shown, -1 refuted), mean layers needed by phase.

        {} while nothing is held out.
        """
        found = self._found(source)
        if not found:
            return {}
        out = found.rvq.metrics() | at_equal_bits(found.curves, self.config)
        for claim in found.hypotheses:
            mean, low, high = claim.interval
            out |= {f"{claim.name}_mean": mean, f"{claim.name}_low": low, f"{claim.name}_high": high}
            out |= {f"{claim.name}_verdict": SCORES[claim.verdict]}
        for phase, mean in zip(found.phases.get("phases", ()), found.phases.get("mean", ()), strict=True):
            if np.isfinite(mean):
                out[f"layers_needed_{phase}"] = float(mean)
        return out

    @torch.no_grad()
    def exhibits(self, source: Source) -> Mapping[str, Mapping[str, np.ndarray]]:
        found = self._found(source)
        if not found:
            return {}
        shown = {
            "rate_distortion": flat(found.curves),
            "rvq_layers": found.rvq.arrays(),
            "rvq_usage": {"counts": found.rvq.counts},
            "rvq_examples": examples(self.tokenizer, found.held.actions),
            "bands_layers": found.bands.arrays(),
            "hypotheses": claims(found.hypotheses),
        }
        return shown | ({"layers_by_phase": found.phases} if found.phases else {})

    def _found(self, source: Source) -> Findings | None:
        """Once for each preparation: no weight moves in between."""
        held = held_out(source, self.tokenizer.config.chunk_size, self.chunks)
        if held and self._train and not self._findings:
            self._findings = find(self.config, self.tokenizer, self.bands, self._train, held)
        return self._findings if held else None


def find(config: AnalyseConfig, tokenizer: RVQTokenizer, bands: BandTokenizer, train: Chunks, held: Chunks) -> Findings:
    """Everything on the same held-out chunks. Peers see what the bands see: the training chunks, normalised alike."""
    rvq, own = by_layers(tokenizer, held.actions), by_layers(bands, held.actions)
    known, asked = (bands.normalise(chunks.actions).cpu().numpy() for chunks in (train, held))
    normalizer = bands.normalizer
    against = Yardstick(
        truth=asked,
        scale=half_ranges(normalizer),
        gripper=normalizer.gripper,
        lost=lost_by(normalizer, held.actions),
    )
    curves = {"rvq": points_of(rvq), "bands": points_of(own), **peers(config.peers, known, against)}
    coarse = min(config.coarse_layers, tokenizer.num_layers)
    gates = (("coarse", coarse, config.coarse_mse), ("fine", tokenizer.num_layers, config.fine_mse))
    hypotheses = tuple(
        examine(name, rvq.errors[layers - 1].norm, held.episode, gate, config.confidence, config.resamples)
        for name, layers, gate in gates
    )
    return Findings(
        held=held, rvq=rvq, bands=own, curves=curves, hypotheses=hypotheses, phases=_phases(config, bands, rvq, held)
    )


def _phases(config: AnalyseConfig, bands: BandTokenizer, rvq: Layers, held: Chunks) -> Mapping[str, np.ndarray]:
    gripper, normalizer = bands.normalizer.gripper, bands.normalizer
    if gripper is None:
        return {}
    middle = float(normalizer.low[gripper] + normalizer.high[gripper]) / 2
    size, margin = held.actions.shape[1], config.grasp_margin
    phase = of_chunks(held.taken, held.episode, held.start, size, gripper, middle, config.closed_is_high, margin)
    needed = layers_needed(np.stack([errors.norm for errors in rvq.errors]), config.error)
    return by_phase(needed, phase, len(rvq.errors))


def at_equal_bits(curves: Curves, config: AnalyseConfig) -> Metrics:
    """Errors of the bands with at most so many bits, of FAST with exactly as many as these, and their ratios; the same
    against cosines of 8 bits at every number of them that is compared in the table."""
    out: Metrics = {}
    for wanted in config.compare_bits:
        bits, error = at_most(curves["bands"], wanted)
        out |= _finite({f"bands_b{wanted}": error, f"bands_bits_b{wanted}": bits})
        for peer in ("fast", "fast_apart", "dct8"):
            if peer in curves:
                other = between(curves[peer], bits)
                out |= _finite({f"{peer}_b{wanted}": other, f"bands_over_{peer}_b{wanted}": error / other})
    return out


def claims(hypotheses: tuple[Hypothesis, ...]) -> dict[str, np.ndarray]:
    bounds = np.asarray([claim.interval for claim in hypotheses])
    return {
        "names": np.asarray([claim.name for claim in hypotheses]),
        "gate": np.asarray([claim.gate for claim in hypotheses]),
        "mean": bounds[:, 0],
        "low": bounds[:, 1],
        "high": bounds[:, 2],
        "verdict": np.asarray([claim.verdict for claim in hypotheses]),
        "reason": np.asarray([claim.reason for claim in hypotheses]),
        "sentence": np.asarray([str(claim) for claim in hypotheses]),
    }


def _finite(figures: Metrics) -> Metrics:
    return {name: value for name, value in figures.items() if np.isfinite(value)}
