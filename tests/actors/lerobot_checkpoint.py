"""A checkpoint that lerobot itself saves, with random weights: `python lerobot_checkpoint.py FOLDER`, in lerobot's
interpreter. ACT, since it is small; it reads what LIBERO shows."""

from __future__ import annotations

import sys

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors

SIZE = 64
CAMERAS = ("observation.images.image", "observation.images.image2")


def main(folder: str) -> None:
    torch.manual_seed(0)
    inputs = {name: PolicyFeature(FeatureType.VISUAL, (3, SIZE, SIZE)) for name in CAMERAS}
    config = ACTConfig(
        input_features=inputs | {"observation.state": PolicyFeature(FeatureType.STATE, (8,))},
        output_features={"action": PolicyFeature(FeatureType.ACTION, (7,))},
        device="cpu",
        chunk_size=12,
        n_action_steps=12,
        dim_model=32,
        n_heads=2,
        dim_feedforward=32,
        n_encoder_layers=1,
        n_vae_encoder_layers=1,
        latent_dim=4,
        pretrained_backbone_weights=None,
    )
    get_policy_class("act")(config).save_pretrained(folder)
    stats = {name: {"mean": torch.full((3, 1, 1), 0.5), "std": torch.full((3, 1, 1), 0.25)} for name in CAMERAS}
    stats |= {
        name: {"mean": torch.ones(n), "std": 2 * torch.ones(n)} for name, n in (("observation.state", 8), ("action", 7))
    }
    for processor in make_pre_post_processors(config, dataset_stats=stats):
        processor.save_pretrained(folder)


if __name__ == "__main__":
    main(sys.argv[1])
