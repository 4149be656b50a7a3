"""LPIPS without torchvision: shapes, values by hand, where its weights come from."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path

import pytest
import torch

from learners.nn import lpips
from learners.nn.lpips import LPIPS, LPIPSConfig, features
from replay.errors import BadInput, Missing

needs_heads = pytest.mark.skipif(importlib.util.find_spec("lpips") is None, reason="the lpips wheel is not installed")


def images(seed: int, pixels: int = 32) -> torch.Tensor:
    return torch.rand(2, pixels, pixels, 3, generator=torch.Generator().manual_seed(seed))


@needs_heads
@pytest.mark.parametrize("net", ["vgg", "alex"])
def test_zero_where_equal_and_positive_elsewhere(net: str) -> None:
    metric = LPIPS(LPIPSConfig(backbone="random", net=net))
    a, b = images(0), images(1)
    assert torch.equal(metric(a, a), torch.zeros(2))
    assert (metric(a, b) > 0).all()
    near = (a + 0.05 * (b - a)).clamp(0, 1)
    assert (metric(a, near) < metric(a, b)).all()
    assert torch.allclose(metric(a, b), metric(b, a))
    assert "torchvision" not in sys.modules
    assert "lpips" not in sys.modules


@needs_heads
@pytest.mark.parametrize("net", ["vgg", "alex"])
def test_value_by_the_papers_equation(net: str) -> None:
    """d = sum_l 1/(H W) sum_hw || w_l * (y - y0) ||^2 with unit-normalised y (eq. 1), written out."""
    metric = LPIPS(LPIPSConfig(backbone="random", net=net))
    a, b = images(0), images(1)
    state = torch.load(
        Path(importlib.util.find_spec("lpips").origin).parent / "weights" / "v0.1" / f"{net}.pth",
        map_location="cpu",
        weights_only=True,
    )
    total = torch.zeros(2)
    x, y = ((2 * i.permute(0, 3, 1, 2) - 1 - metric.shift) / metric.scale for i in (a, b))
    tap = 0
    for index, layer in enumerate(metric.features):
        x, y = layer(x), layer(y)
        if index in metric.taps:
            unit = [z / (z.norm(dim=1, keepdim=True) + 1e-10) for z in (x, y)]
            weight = state[f"lin{tap}.model.1.weight"]
            total += torch.nn.functional.conv2d((unit[0] - unit[1]) ** 2, weight).mean((1, 2, 3))
            tap += 1
    assert torch.allclose(metric(a, b), total, rtol=1e-4, atol=1e-6)


@needs_heads
def test_gradients_are_finite_and_reach_the_image_alone() -> None:
    metric = LPIPS(LPIPSConfig(backbone="random", net="alex")).train()
    a = torch.zeros(2, 32, 32, 3, requires_grad=True)
    metric(a, images(1)).mean().backward()
    assert torch.isfinite(a.grad).all()
    assert a.grad.abs().max() > 0
    assert not any(p.requires_grad for p in metric.parameters())


@needs_heads
def test_random_is_said_out_loud_and_always_the_same(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        first, second = (LPIPS(LPIPSConfig(backbone="random", net="alex")) for _ in range(2))
    assert "not the published metric" in caplog.text
    assert torch.equal(first.features[0].weight, second.features[0].weight)


def test_trunks_have_torchvisions_names_and_shapes() -> None:
    """Indices and shapes of torchvision's vgg16.features and alexnet.features."""
    with torch.device("meta"):
        vgg, alex = features("vgg"), features("alex")
        convolutions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
        assert {k.split(".")[0] for k in vgg.state_dict()} == {str(i) for i in convolutions}
        assert {k.split(".")[0] for k in alex.state_dict()} == {"0", "3", "6", "8", "10"}
        assert vgg.state_dict()["28.weight"].shape == (512, 512, 3, 3)
        assert alex.state_dict()["3.weight"].shape == (192, 64, 5, 5)
        assert sum(p.numel() for p in vgg.parameters()) == 14_714_688
        assert sum(p.numel() for p in alex.parameters()) == 2_469_696
        assert vgg(torch.empty(1, 3, 224, 224)).shape == (1, 512, 14, 14)
        assert alex(torch.empty(1, 3, 224, 224)).shape == (1, 256, 13, 13)


@needs_heads
@pytest.mark.parametrize("where", ["local", "path"])
def test_weights_from_a_file(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    path.parent.mkdir(parents=True)
    state = {f"features.{k}": torch.full_like(v, 0.01) for k, v in features("alex").state_dict().items()}
    torch.save(state | {"classifier.1.weight": torch.zeros(2)}, path)
    metric = LPIPS(LPIPSConfig(backbone="local" if where == "local" else str(path), net="alex"))
    assert torch.equal(metric.features[3].weight, torch.full((192, 64, 5, 5), 0.01))
    torch.save({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(BadInput, match="no weights"):
        LPIPS(LPIPSConfig(backbone=str(path), net="alex"))


def test_missing_weights_name_the_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(Missing, match=r"vgg16-397923af\.pth is not there.*wget"):
        LPIPS(LPIPSConfig(backbone="local"))
    monkeypatch.setattr(lpips.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Missing, match=r"pip install --no-deps lpips==0\.1\.4"):
        LPIPS(LPIPSConfig(backbone="random"))


def test_off_and_bad_input() -> None:
    assert LPIPSConfig().backbone == "none"
    with pytest.raises(BadInput, match="backbone none"):
        LPIPS(LPIPSConfig())
    with pytest.raises(BadInput, match="squeeze"):
        LPIPSConfig(net="squeeze")


@needs_heads
def test_small_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 31 pixels"):
        LPIPS(LPIPSConfig(backbone="random", net="alex"))(images(0, 16), images(1, 16))
