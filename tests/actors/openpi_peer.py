"""openpi's own client and tools, asked from its interpreter: `python openpi_peer.py TASK [WORDS]` prints one JSON line.

pictures             what openpi_client.image_tools makes of the pictures of `picture`, thinned out
pack MESSAGES        messages as openpi_client.msgpack_numpy packs them; MESSAGES is a file of Python, see the test
ask URL NUMBER       what a policy server answers to openpi's own client; also how it takes a failure
turns URL NUMBER     seconds of each of NUMBER requests of a connection, CPU seconds, and requests/s of four
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import numpy as np

SIZES = ((256, 256), (128, 128), (180, 320), (320, 200), (50, 37))  # of pictures that are made 224 x 224
THINNED = 16


def picture(height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8: smooth and sharp parts, nothing symmetric."""
    y, x = np.mgrid[:height, :width]
    channels = [128 + 100 * np.sin(x / 17 + y / 29), (x * 7 + y * 3) % 256, 200 * ((x // 9 + y // 13) % 2)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def seen(number: int) -> dict[str, Any]:
    """As openpi's example for LIBERO asks: 301 kB."""
    return {
        "observation/image": np.full((224, 224, 3), number, np.uint8),
        "observation/wrist_image": np.full((224, 224, 3), number + 1, np.uint8),
        "observation/state": (number + np.arange(8)).astype(np.float64),
        "prompt": f"task {number}",
    }


def pictures() -> Any:
    from openpi_client.image_tools import resize_with_pad

    return [resize_with_pad(picture(*size), 224, 224)[::THINNED, ::THINNED].tolist() for size in SIZES]


def pack(path: str) -> Any:
    from openpi_client.msgpack_numpy import packb

    found: dict[str, Any] = {"np": np}
    with open(path) as file:
        exec(file.read(), found)
    return {name: packb(message).hex() for name, message in found["MESSAGES"].items()}


def client(url: str) -> Any:
    from openpi_client.websocket_client_policy import WebsocketClientPolicy

    return WebsocketClientPolicy(url)


def ask(url: str, number: str) -> Any:
    policy = client(url)
    answers = [policy.infer(seen(n)) for n in range(int(number))]
    timing = [sorted(one["server_timing"]) for one in answers]
    try:
        policy.infer({"prompt": "nothing to see"})
        failed = ""
    except RuntimeError as error:
        failed = str(error)
    metadata = policy.get_server_metadata()
    actions = [one["actions"].tolist() for one in answers]
    return {"actions": actions, "timing": timing, "failed": failed, "metadata": sorted(metadata)}


def turns(url: str, number: str) -> Any:
    policies, message = [client(url) for _ in range(4)], seen(1)

    def once(policy: Any) -> float:
        begun = time.perf_counter()
        policy.infer(message)
        return time.perf_counter() - begun

    used = time.process_time()
    seconds = [once(policies[0]) for _ in range(int(number))]
    used = (time.process_time() - used) / int(number)
    threads = [threading.Thread(target=lambda p=p: [once(p) for _ in range(int(number))]) for p in policies]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"seconds": seconds, "cpu": used, "rate": 4 * int(number) / (time.perf_counter() - begun)}


if __name__ == "__main__":
    print(json.dumps({"pictures": pictures, "pack": pack, "ask": ask, "turns": turns}[sys.argv[1]](*sys.argv[2:])))
