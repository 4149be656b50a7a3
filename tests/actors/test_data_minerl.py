"""MineRL v0 directories: alignment, vectors, damage, and the package itself where it is installed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from recordings import PLAYED, minerl_arrays, picture, write_minerl

from actors.data.minerl import open_minerl
from actors.data.minerl_fields import WORDS
from actors.data.options import ReadOptions
from actors.data.segments import SegmentReader
from actors.envs.flat_action import ActionCodec
from actors.hosting.interpreters import interpreter
from distwm import ingest
from replay.dataset.episodes import NamedEpisode, Unreadable
from replay.errors import BadInput, Missing

NAVIGATE = "MineRLNavigate-v0"


def open_(path: Path, **options: object) -> SegmentReader:
    return open_minerl(path, {}, ReadOptions(**options))  # type: ignore[arg-type]


def native(env: str) -> spaces.Dict:
    """The action space as herobraine has it; an Enum is a Discrete of its words."""
    found: dict[str, spaces.Space] = {name: spaces.Discrete(2) for name in PLAYED}
    found["camera"] = spaces.Box(-180, 180, (2,), np.float32)
    if env == NAVIGATE:
        found["place"] = spaces.Discrete(2)
    return spaces.Dict(found)


@pytest.mark.parametrize("env", ["MineRLTreechop-v0", NAVIGATE])
def test_records_are_aligned_and_actions_flattened(tmp_path: Path, env: str) -> None:
    write_minerl(tmp_path, "v3_one", 30, env=env)
    write_minerl(tmp_path, "v3_two", 9, env=env, surplus=0, success=False)
    (tmp_path / "VERSION").write_text("4\n")
    found = list(open_(tmp_path).read())
    assert [f.name for f in found] == [f"{env}/v3_one@0000000", f"{env}/v3_two@0000000"]
    codec = ActionCodec(native(env))
    for episode, steps in zip(found, (30, 9), strict=True):
        assert isinstance(episode, NamedEpisode), episode
        arrays, wanted = episode.arrays, minerl_arrays(steps, seed=steps, env=env)
        shown = [*range(steps), steps - 1]  # the last state shows the frame before
        assert (arrays["image"] == np.stack([picture(t) for t in shown])).all()
        assert arrays["reward"].tolist() == [0, *wanted["reward"]]
        assert arrays["is_last"].tolist() == [False] * steps + [True]
        assert arrays["is_terminal"][-1] == (steps == 30)
        assert (episode.actors[0].source, episode.task) == ("human", env)
        for t in range(steps):
            action: dict = {name: wanted[f"action${name}"][t] for name in PLAYED}
            action["camera"] = wanted["action$camera"][t]
            if env == NAVIGATE:
                action["place"] = int(wanted["action$place"][t] == "none")
            assert arrays["action"][t + 1] == pytest.approx(codec.encode(action), abs=1e-6)
        if env == NAVIGATE:
            state = np.stack([wanted["observation$compass$angle"], wanted["observation$inventory$dirt"]], axis=1)
            assert (arrays["state"] == state.astype(np.float32)).all()


def test_cut_and_verified_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_minerl(tmp_path / "in", "v3_one", 30)
    words = ["minerl", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--segment-steps", "10", "--verify"]
    assert ingest.main(words) == 0
    assert "3 episodes, 33 steps" in capsys.readouterr().out
    assert ingest.main([*words, "--image-size", "32"]) == 2, "another data set than before"
    found = list(open_(tmp_path / "in/MineRLTreechop-v0", segment_steps=10).read())
    assert [e.arrays["is_terminal"][-1] for e in found if isinstance(e, NamedEpisode)] == [False, False, True]


def test_damage_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    folders = {
        n: write_minerl(tmp_path, n, 20) for n in ("a_cut", "b_video", "c_word", "d_short", "e_notes", "f_whole")
    }
    numbers = folders["a_cut"] / "rendered.npz"
    numbers.write_bytes(numbers.read_bytes()[:-200])
    video = folders["b_video"] / "recording.mp4"
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 3 // 4])
    arrays = minerl_arrays(20)
    arrays["action$jump"][7] = 3
    np.savez(folders["c_word"] / "rendered.npz", **arrays)
    arrays = minerl_arrays(20)
    arrays["action$camera"] = arrays["action$camera"][:5]
    np.savez(folders["d_short"] / "rendered.npz", **arrays)
    (folders["e_notes"] / "metadata.json").write_text('{"success": tr')
    reader = open_(tmp_path)
    found = list(reader.read())
    assert reader.episodes == len(found) == 6
    said = {f.name.rpartition("/")[2].partition("@")[0]: f.reason for f in found if isinstance(f, Unreadable)}
    size = numbers.stat().st_size
    assert f"{numbers}, byte {size}, its end: BadZipFile" in said["a_cut"]
    assert f"{video}, frame " in said["b_video"]
    assert "rendered.npz, action$jump, row 7: " in said["c_word"]
    assert "rendered.npz, action$camera: it ends at row 5 of 20" in said["d_short"]
    assert "metadata.json: JSONDecodeError" in said["e_notes"]
    assert isinstance(found[-1], NamedEpisode)


def test_a_flipped_byte_in_an_array_is_found(tmp_path: Path) -> None:
    folder = write_minerl(tmp_path, "one", 20)
    write_minerl(tmp_path, "two", 20)
    path = folder / "rendered.npz"
    content = bytearray(path.read_bytes())
    content[content.find(b"action$camera.npy") + 200] ^= 1
    path.write_bytes(content)
    found = list(open_(tmp_path).read())
    assert [isinstance(f, Unreadable) for f in found] == [True, False]
    assert f"{path}, array 'action$camera': BadZipFile: Bad CRC-32" in found[0].reason  # type: ignore[union-attr]


def test_what_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no MineRL recordings"):
        open_(tmp_path)
    write_minerl(tmp_path, "one", 5)
    (tmp_path / "VERSION").write_text("2")
    with pytest.raises(BadInput, match="version '2'"):
        open_(tmp_path)
    (tmp_path / "VERSION").write_text("3")
    write_minerl(tmp_path, "one", 5, env=NAVIGATE)
    with pytest.raises(BadInput, match="different spaces"):
        open_(tmp_path)
    assert open_(tmp_path / NAVIGATE).episodes == 1
    with pytest.raises(BadInput, match="another name"):
        open_minerl(tmp_path, {"pov": "x"}, ReadOptions())


PEER = """
import json, sys, warnings; warnings.filterwarnings("ignore")
import numpy as np, minerl, minerl.data
from minerl.herobraine import envs
root, env, stream, out = sys.argv[1:]
pipe = minerl.data.make(env, data_dir=root, num_workers=1)
steps = list(pipe.load_data(stream))
space = pipe.action_space.spaces
def flat(tree, prefix=""):
    return {k: v for name, value in tree.items() for k, v in
        (flat(value, prefix + name + "$") if hasattr(value, "items") else {prefix + name: value}).items()}
arrays = {"reward": np.array([s[2] for s in steps]), "done": np.array([s[4] for s in steps])}
for place, name in ((0, "now"), (1, "action"), (3, "next")):
    rows = [flat(s[place]) for s in steps]
    for key in rows[0]:
        arrays[name + "/" + key] = np.array([r[key] for r in rows])
words = {k: list(map(str, s.values)) for k, s in space.items() if hasattr(s, "values") and hasattr(s, "value_map")}
arrays["words"] = np.array(json.dumps({"keys": sorted(space), "words": words}))
np.savez(out, **arrays)
"""


@pytest.mark.parametrize("lossy", [False, True])
@pytest.mark.parametrize("env", ["MineRLTreechop-v0", NAVIGATE])
def test_agrees_with_minerl_data_step_by_step(tmp_path: Path, env: str, lossy: bool) -> None:
    """Against the package itself, in the interpreter that `distwm.envs install minerl` makes."""
    try:
        python = interpreter("minerl")
    except Missing as error:
        pytest.skip(str(error))
    write_minerl(tmp_path / "in", "v3_one", 40, env=env, lossy=lossy)
    (tmp_path / "in/VERSION").write_text("4")
    words = [str(python), "-c", PEER, str(tmp_path / "in"), env, "v3_one", str(tmp_path / "peer.npz")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    peer = np.load(tmp_path / "peer.npz")
    (episode,) = open_(tmp_path / "in").read()
    assert isinstance(episode, NamedEpisode)
    arrays = episode.arrays
    assert len(peer["reward"]) == episode.steps - 1 == 40
    assert (arrays["reward"][1:] == peer["reward"]).all()
    assert (arrays["is_last"][1:] == peer["done"]).all()
    for name, ours in (("now/pov", arrays["image"][:-1]), ("next/pov", arrays["image"][1:])):
        difference = np.abs(ours.astype(int) - peer[name])
        assert difference.max() <= (8 if lossy else 0), "two decoders may round colours differently"
        assert difference.mean() <= (2 if lossy else 0)
    said = json.loads(str(peer["words"]))
    codec = ActionCodec(native(env))
    assert list(codec.space) == said["keys"]  # type: ignore[call-overload]
    for t in range(40):
        action = {}
        for key in said["keys"]:
            value = peer[f"action/{key}"][t]
            action[key] = said["words"][key].index(str(value)) if key in said["words"] else value
        assert arrays["action"][t + 1] == pytest.approx(codec.encode(action), abs=1e-6)
    if env == NAVIGATE:
        for name, rows in (("now", arrays["state"][:-1]), ("next", arrays["state"][1:])):
            assert rows[:, 0] == pytest.approx(peer[f"{name}/compass$angle"])
            assert rows[:, 1] == pytest.approx(peer[f"{name}/inventory$dirt"])


def test_the_words_are_those_of_the_package() -> None:
    try:
        python = interpreter("minerl")
    except Missing as error:
        pytest.skip(str(error))
    script = (
        "import json, warnings; warnings.filterwarnings('ignore'); from minerl.herobraine import envs\n"
        "s = envs.ENV_SPEC_MAPPINGS['MineRLObtainDiamond-v0']; a = s.action_space.spaces\n"
        "found = {'action$' + k: list(map(str, v.values)) for k, v in a.items() if hasattr(v, 'value_map')}\n"
        "held = s.observation_space.spaces['equipped_items'].spaces['mainhand'].spaces['type']\n"
        "found['observation$equipped_items$mainhand$type'] = list(map(str, held.values)); print(json.dumps(found))"
    )
    done = subprocess.run([str(python), "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {key: list(words) for key, words in WORDS.items()}
