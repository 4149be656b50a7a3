"""The sizes of Dreamer 4, built on the meta device: parameters are counted and shapes flow without a byte of memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from distwm.config import load
from learners.dreamer4.dynamics import Noise
from learners.dreamer4.system import Dreamer4, Dreamer4Config
from replay.schema import EpisodeSpec


def config(size: str) -> Dreamer4Config:
    return load("dreamer4", {"size": size}).system


def build(size: str, image: tuple[int, int, int], actions: int) -> Dreamer4:
    spec = EpisodeSpec.build({"image": (image, "uint8")}, actions)
    with torch.device("meta"):
        return config(size).build(spec)


def millions(module: nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


@pytest.fixture(scope="module")
def paper() -> Dreamer4:
    return build("paper", (384, 640, 3), actions=25)


def test_the_papers_networks_have_the_papers_size(paper: Dreamer4) -> None:
    assert millions(paper.tokenizer) == pytest.approx(400, rel=0.1)
    assert millions(paper.dynamics) == pytest.approx(1600, rel=0.1)
    assert all(p.device.type == "meta" for p in paper.parameters())


def test_the_papers_bottleneck(paper: Dreamer4) -> None:
    """960 patches -> 512 latents of 16 channels -> 256 spatial tokens of 32 channels -> and back to pixels."""
    code, world = paper.tokenizer, paper.dynamics
    with torch.device("meta"), torch.no_grad():
        z = code.encode(torch.zeros(1, 2, 384, 640, 3, dtype=torch.uint8))
        label = torch.zeros(1, 2, dtype=torch.long)
        action, labelled = torch.zeros(1, 2, 25), torch.ones(1, 2, dtype=torch.bool)
        out = world(z, Noise(label, label), action, labelled, torch.zeros(1, dtype=torch.long))
        video = code.decode(z)
    assert code.position.shape == (960, 1024)
    assert z.shape == out.z.shape == (1, 2, 512, 16)
    assert (world.spatial, world.z_in.in_features) == (256, 32)
    assert out.h is not None
    assert out.h.shape == (1, 2, 2048)
    assert video.shape == (1, 2, 384, 640, 3)


def test_the_papers_settings() -> None:
    world = config("paper").dynamics
    net, trunk = world.net, world.net.transformer
    assert trunk.context == 192
    assert (world.length_short, world.length_long) == (64, 256)
    assert [trunk.is_time(i) for i in range(4)] == [False, False, False, True]
    assert trunk.kv_heads < trunk.heads
    assert (net.registers, net.k_max, net.tasks) == (8, 64, 20)
    assert world.bootstrap_share == pytest.approx(6 / 7)  # of the seven step sizes one has the flow loss
    assert (world.bootstrap_from, world.context_share, world.image_share) == (0.0, 0.0, 0.3)
    assert config("paper").agent.noise == "forcing"


@pytest.mark.parametrize(("size", "pixels", "least"), [("small", 64, 10), ("base", 128, 50)])
def test_sizes_for_the_control_suite(size: str, pixels: int, least: float) -> None:
    assert load("dreamer4", {"size": size}).env.image_size == pixels
    assert least < millions(build(size, (pixels, pixels, 3), actions=6)) < 2 * least
