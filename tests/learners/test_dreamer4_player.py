"""The player: its dreams are the model's own, whoever plays beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import squares
import torch

from learners.dreamer4.player import Dreamer4Player
from learners.dreamer4.shortcut import Conditions, commit, generate
from learners.dreamer4.system import Dreamer4
from replay.schema import Episode

CONTEXT, FRAMES = 5, 20  # more than three wraps of the cache


def build(time_every: int = 0) -> Dreamer4:
    config = squares.config()
    code = config.tokenizer.net
    decoder = replace(code.decoder, time_every=time_every, context=4)
    encoder = replace(code.encoder, time_every=time_every, context=4)
    config = replace(config, tokenizer=replace(config.tokenizer, net=replace(code, encoder=encoder, decoder=decoder)))
    torch.manual_seed(0)
    return Dreamer4(config, squares.SPEC).eval()


def context() -> Episode:
    return squares.episode(0, CONTEXT)


def actions(number: int = FRAMES) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (number, 2)).astype(np.float32)


def play(player: Dreamer4Player, number: int = FRAMES) -> np.ndarray:
    player.reset(context())
    return np.stack([player.step(action) for action in actions(number)])


def test_frames_are_pictures() -> None:
    frames = play(build().player())
    assert frames.shape == (FRAMES, squares.PIXELS, squares.PIXELS, 3)
    assert frames.dtype == np.uint8
    assert frames.std() > 0


@torch.no_grad()
@pytest.mark.parametrize("time_every", [0, 2])
def test_a_dream_is_what_the_model_draws_and_the_tokenizer_decodes_at_once(time_every: int) -> None:
    """The same draws by hand, then the whole video decoded in one pass, without caches."""
    system = build(time_every)
    frames = play(system.player())
    world, code, generator = system.dynamics, system.tokenizer, torch.Generator().manual_seed(0)
    true = {name: torch.from_numpy(array)[None] for name, array in context().arrays.items()}
    z = list(world.standardise(code.encode(true["image"])).split(1, dim=1))
    cache = world.cache(1, world.scale.device)
    for t in range(CONTEXT):
        given = Conditions(true["action"][:, [t]], ~true["is_first"][:, [t]])
        commit(world, cache, z[t], given, None, generator)
    for action in torch.from_numpy(actions()):
        given = Conditions(action[None, None], torch.ones(1, 1, dtype=torch.bool))
        z.append(generate(world, cache, (1, 1, 4, 4), given, 4, generator))
        commit(world, cache, z[-1], given, None, generator)
    video = code.decode(world.original(torch.cat(z, dim=1)))[0, CONTEXT:] * 255
    assert (torch.from_numpy(frames).float() - video).abs().max() <= 0.51


def test_the_action_steers() -> None:
    player = build().player()
    player.reset(context())
    left = player.step(np.array([-1, 0], np.float32))
    other = build().player()
    other.reset(context())
    assert not np.array_equal(left, other.step(np.array([1, 0], np.float32)))


def test_players_do_not_disturb_each_other_and_a_reset_forgets() -> None:
    system = build()
    one, other = system.player(), system.player()
    alone = play(system.player())
    one.reset(context())
    other.reset(squares.episode(1, CONTEXT))
    mixed = []
    for action in actions():
        mixed.append(one.step(action))
        other.step(-action)
    assert np.array_equal(np.stack(mixed), alone)
    one.reset(context())
    assert one._past.position == CONTEXT


def test_several_dreams_at_once() -> None:
    player = build().player(batch_size=3)
    player.reset(context())
    same = np.zeros((3, 2), np.float32)
    frames = player.step(same)
    assert frames.shape == (3, squares.PIXELS, squares.PIXELS, 3)
    assert not np.array_equal(frames[0], frames[1])  # each has its own noise


def test_a_context_of_one_frame_is_enough() -> None:
    player = build().player()
    player.reset(squares.episode(2, 1))
    assert player.step(np.zeros(2, np.float32)).shape == (squares.PIXELS, squares.PIXELS, 3)
