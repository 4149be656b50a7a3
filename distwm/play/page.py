"""The page of the player: a canvas, sliders, keys."""

from __future__ import annotations

import json
from html import escape
from string import Template

KEYS = [("ArrowLeft", "ArrowRight"), ("ArrowDown", "ArrowUp"), ("a", "d"), ("s", "w"), ("j", "l"), ("k", "i")]
SIGNS = {"ArrowLeft": "←", "ArrowRight": "→", "ArrowDown": "↓", "ArrowUp": "↑"}

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$task, dreamt</title>
<style>
body { margin: 0; min-height: 100vh; display: grid; place-content: center; gap: 18px; background: #f7f6f3;
       color: #22303c; font: 15px/1.5 Inter, "Segoe UI", "Liberation Sans", Arial, sans-serif; }
h1 { font: 400 26px/1.2 "Iowan Old Style", Palatino, Georgia, "Liberation Serif", serif; margin: 0; }
canvas { width: min(72vh, 90vw); aspect-ratio: 1; border-radius: 8px; background: #e6e4df; image-rendering: pixelated; }
.row { display: flex; align-items: center; gap: 14px; color: #66727d; }
input { flex: 1; accent-color: #2a6f97; } kbd { font: inherit; background: #fff; border: 1px solid #e6e4df;
        border-radius: 5px; padding: 0 7px; }
#pace { min-height: 1.5em; color: #66727d; font-variant-numeric: tabular-nums; }
</style>
</head>
<body>
<h1>$task, dreamt</h1>
<canvas id="dream" width="1" height="1"></canvas>
$controls
<div class="row"><span><kbd>r</kbd> a new dream</span><span id="pace">falling asleep …</span></div>
<script>
const keys = $keys, size = $size;
const sliders = [...document.querySelectorAll("input")], canvas = document.getElementById("dream");
const pace = document.getElementById("pace"), held = new Set();
const socket = new WebSocket(`ws://$${location.host}/dream`);
socket.binaryType = "arraybuffer";
const send = message => { if (socket.readyState === 1) socket.send(JSON.stringify(message)); };
const act = () => send({action: sliders.map(slider => Number(slider.value))});
function press(key, down) {
  keys.forEach(([less, more], k) => {
    if (key !== less && key !== more) return;
    down ? held.add(key) : held.delete(key);
    sliders[k].value = (held.has(more) ? size : 0) - (held.has(less) ? size : 0);
    act();
  });
}
addEventListener("keydown", event => {
  if (event.repeat || event.ctrlKey || event.metaKey) return;
  if (event.key.startsWith("Arrow")) event.preventDefault();
  event.key === "r" ? send({reset: true}) : press(event.key, true);
});
addEventListener("keyup", event => press(event.key, false));
addEventListener("blur", () => [...held].forEach(key => press(key, false)));
sliders.forEach(slider => slider.addEventListener("input", act));
socket.onmessage = ({data}) => {
  if (typeof data === "string") {
    const message = JSON.parse(data);
    if (message.width) [canvas.width, canvas.height] = [message.width, message.height];
    if (message.pace) pace.textContent =
      `$${message.pace.fps.toFixed(0)} frames/s possible, p95 $${message.pace.p95_ms.toFixed(0)} ms`;
    return;
  }
  const rgb = new Uint8Array(data), image = new ImageData(canvas.width, canvas.height);
  for (let p = 0; p < rgb.length / 3; p++) {
    image.data.set([rgb[3 * p], rgb[3 * p + 1], rgb[3 * p + 2], 255], 4 * p);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
};
socket.onclose = event => pace.textContent = `awake$${event.reason ? ": " + event.reason : ""}; reload to dream again`;
</script>
</body>
</html>
""")


def page(task: str, actions: int) -> str:
    """The whole page; the first six actions have keys, all have a slider."""
    pairs = KEYS[:actions]
    return _PAGE.substitute(
        task=escape(task), controls="".join(map(_control, range(actions))), keys=json.dumps(pairs), size=1
    )


def _control(number: int) -> str:
    less, more = (SIGNS.get(key, key) for key in KEYS[number]) if number < len(KEYS) else ("", "")
    slider = f'<input type="range" min="-1" max="1" step="0.05" value="0" aria-label="action {number + 1}">'
    keys = [f"<kbd>{key}</kbd>" if key else "" for key in (less, more)]
    return f'<div class="row">{keys[0]}{slider}{keys[1]}</div>'
