"""A checkpoint of lerobot as an action source, in lerobot's own interpreter; ours only looks at the files of one.

Files alone: nothing is asked of a hub. The server that runs it gathers what several environments ask into batches.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from actors.sources.source import ActionChunk, Request, SourceSpec
from replay.errors import BadInput, Missing
from replay.schema import FieldSpec

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
CAMERAS = {"image": "agentview", "agentview": "agentview", "image2": "wrist", "wrist_image": "wrist", "wrist": "wrist"}
SOME, MOST = 16, 0.9  # weights that are compared; share of them that the file must have
NOISE = ("pi0", "pi05")  # policies that take the noise which they begin with
TOKENIZER = "tokenizer_processor"


class LeRobotPolicy:
    """Each request's draws come from its own seed, so that a batch answers as each request alone would."""

    def __init__(
        self, path: str, policy_type: str, horizon: int, fps: float, gripper: str, tokenizer: str, device: str
    ):
        """Loads it. Raises Missing for files that are not there, BadInput for a checkpoint of another kind."""
        folder = Path(path)
        check_checkpoint(folder, policy_type)
        import torch
        from lerobot.configs import PreTrainedConfig
        from lerobot.policies.factory import get_policy_class, make_pre_post_processors

        self._torch = torch
        config = PreTrainedConfig.from_pretrained(folder)
        config.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._config, self._device = config, config.device
        overrides: dict[str, Any] = {"device_processor": {"device": config.device}}
        if found := tokenizer_of(folder, tokenizer):
            overrides[TOKENIZER] = {"tokenizer_name": found}
        self._before, self._after = make_pre_post_processors(
            config, pretrained_path=str(folder), preprocessor_overrides=overrides
        )
        self._policy = get_policy_class(config.type).from_pretrained(folder, config=config)
        check_weights(self._policy.state_dict(), folder)
        self._policy.to(config.device).eval()
        self._inputs = inputs_of({name: tuple(one.shape) for name, one in config.input_features.items()})
        if horizon > config.chunk_size:
            raise BadInput(
                f"{folder} predicts {config.chunk_size} actions.", f"Set source.horizon={config.chunk_size}."
            )
        self.spec = SourceSpec(
            action_dim=int(config.output_features["action"].shape[0]),
            horizon=horizon,
            fps=fps,
            fields=tuple(self._inputs.values()),
            gripper=gripper,
            provenance=f"lerobot checkpoint {folder.name}, a policy of type {config.type}",
        )

    def act(self, requests: Sequence[Request]) -> ActionChunk:
        begun = time.perf_counter()
        if self._config.type in NOISE:
            chunks = self._predict(requests, noise=self._noise(requests))
        else:  # it draws for itself, if at all: one by one, so that each has its own seed
            chunks = np.concatenate([self._predict([one]) for one in requests])
        took_s = np.full(len(requests), time.perf_counter() - begun)
        return ActionChunk(actions=chunks[:, : self.spec.horizon], latency_s=took_s, source_s=took_s)

    def close(self) -> None:
        """It ends with its process."""

    def _predict(self, requests: Sequence[Request], **more: Any) -> np.ndarray:
        """(B, T, A) float32."""
        self._torch.manual_seed(requests[0].seed)
        batch: dict[str, Any] = {"task": [one.prompt for one in requests]}
        for name, field in self._inputs.items():
            values = self._torch.from_numpy(np.stack([one.fields[field.name] for one in requests]))
            batch[name] = values.permute(0, 3, 1, 2).contiguous().float() / 255 if field.dtype == "uint8" else values
        with self._torch.inference_mode():
            actions = self._after(self._policy.predict_action_chunk(self._before(batch), **more))
        return np.asarray(actions.float().cpu().numpy(), np.float32)

    def _noise(self, requests: Sequence[Request]) -> Any:
        """(B, T, A as the model has it), drawn on the CPU: the same on every device."""
        shape = self._config.chunk_size, self._config.max_action_dim
        drawn = [self._torch.randn(shape, generator=self._torch.Generator().manual_seed(r.seed)) for r in requests]
        return self._torch.stack(drawn).to(self._device)


def check_checkpoint(folder: Path, policy_type: str) -> str:
    """Its type. Raises Missing, BadInput."""
    mend = "Set source.path to the folder of a checkpoint that lerobot saved (its pretrained_model)."
    if not folder.is_dir():
        raise Missing(f"There is no checkpoint in {folder}.", mend)
    try:
        kind = str(json.loads((folder / "config.json").read_bytes())["type"])
    except FileNotFoundError as error:
        raise Missing(f"{folder} has no config.json.", mend) from error
    except (ValueError, LookupError, TypeError) as error:
        raise BadInput(f"{folder / 'config.json'} is no policy's: {error}.", mend) from error
    if kind != policy_type:
        raise BadInput(f"{folder} holds a policy of type {kind}, not {policy_type}.", f"Set source.policy_type={kind}.")
    for name in ("model.safetensors", PREPROCESSOR, POSTPROCESSOR):
        if not (folder / name).is_file():
            raise Missing(f"{folder} has no {name}.", mend)
    return kind


def check_weights(loaded: Mapping[str, Any], folder: Path) -> None:
    """Whether the policy has the file's weights: lerobot's pi0.5 prints a line and acts at random if it cannot load
    them. Names may lack "model.", and a few may have changed. Raises BadInput."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        names = {f"model.{name}" if f"model.{name}" in loaded else name: name for name in file.keys()}  # noqa: SIM118
        known = sorted(names.keys() & loaded.keys())
        some = known[:: max(1, len(known) // SOME)]
        same = all(_same(loaded[name], file.get_tensor(names[name])) for name in some)
    if len(known) < MOST * len(loaded) or not same:
        others = "" if same else ", and the policy has others"
        raise BadInput(
            f"lerobot did not load {folder / 'model.safetensors'}: it has {len(known)} of the policy's {len(loaded)} "
            f"weights{others}.",
            "Give a checkpoint that this version of lerobot saved, or convert yours with lerobot's own tools.",
        )


def _same(loaded: Any, stored: Any) -> bool:
    """In the precision of the policy."""
    return loaded.shape == stored.shape and bool((loaded.cpu() == stored.to(loaded.dtype)).all())


def tokenizer_of(folder: Path, given: str) -> str:
    """The folder of the tokenizer; empty if the policy reads no text. Raises Missing: it comes from no hub."""
    steps = json.loads((folder / PREPROCESSOR).read_bytes())["steps"]
    if all(step.get("registry_name") != TOKENIZER for step in steps):
        return ""
    named = next(step["config"].get("tokenizer_name") for step in steps if step.get("registry_name") == TOKENIZER)
    for place in [Path(given)] if given else [folder / "tokenizer", folder]:
        if (place / "tokenizer.json").is_file() or (place / "tokenizer.model").is_file():
            return str(place)
    raise Missing(
        f"{given or folder} has no tokenizer, and the policy reads text with that of {named}.",
        "Set source.tokenizer to the folder of its files (tokenizer.json).",
    )


def inputs_of(features: dict[str, tuple[int, ...]]) -> dict[str, FieldSpec]:
    """Input of the policy -> the field of ours that it is made from. Raises BadInput for one that nothing shows."""
    found: dict[str, FieldSpec] = {}
    for name, shape in features.items():
        tail = name.removeprefix("observation.").removeprefix("images.")
        if name == "observation.state":
            found[name] = FieldSpec(name="proprio", shape=shape, dtype="float32", role="observation")
        elif tail in CAMERAS:
            picture = (*shape[1:], shape[0])  # theirs are (3, H, W)
            found[name] = FieldSpec(name=CAMERAS[tail], shape=picture, dtype="uint8", role="observation")
        elif not tail.startswith("empty_camera"):
            raise BadInput(f"The policy reads {name}, which LIBERO does not show.", "Give a checkpoint for LIBERO.")
    return found


def make(
    *, path: str, policy_type: str, horizon: str, fps: str, gripper: str, tokenizer: str = "", device: str = ""
) -> LeRobotPolicy:
    """From the words of the server's command."""
    return LeRobotPolicy(path, policy_type, int(horizon), float(fps), gripper, tokenizer, device)
