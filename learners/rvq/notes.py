"""A few words that travel with weights and checkpoints, as a tensor: where the data came from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

BYTES = 4096


class Notes(nn.Module):
    """A JSON object of up to BYTES bytes."""

    text: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("text", torch.zeros(BYTES, dtype=torch.uint8))

    def write(self, content: Mapping[str, Any]) -> None:
        """What is too long is not written in part: then it says so."""
        encoded = json.dumps(content).encode()
        if len(encoded) > BYTES:
            encoded = json.dumps({"note": f"{len(encoded)} bytes were too many"}).encode()
        padded = encoded.ljust(BYTES, b"\0")
        self.text.copy_(torch.frombuffer(bytearray(padded), dtype=torch.uint8))

    def read(self) -> dict[str, Any]:
        """{} if nothing was written."""
        encoded = bytes(self.text.cpu().numpy()).rstrip(b"\0")
        return json.loads(encoded) if encoded else {}
