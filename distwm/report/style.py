"""The look of a report's page."""

CSS = """
:root { --ink: #22303c; --quiet: #66727d; --line: #e6e4df; --paper: #f7f6f3; --card: #fff;
        --good: #3f7d5f; --open: #8a7443; --bad: #b3492b; }
*, *::before { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 Inter, "Segoe UI", "Helvetica Neue",
       "Liberation Sans", Arial, sans-serif; -webkit-font-smoothing: antialiased; }
main { max-width: 1060px; margin: 0 auto; padding: 56px 28px 80px; }
h1 { font: 400 34px/1.25 "Iowan Old Style", Palatino, "Palatino Linotype", Georgia, "Liberation Serif", serif;
     margin: 10px 0 18px; letter-spacing: -0.01em; text-wrap: balance; }
h2 { font-size: 19px; font-weight: 600; margin: 0 0 4px; }
p { margin: 0 0 14px; max-width: 74ch; }
.kicker, .caption { color: var(--quiet); font-size: 14px; max-width: 92ch; }
.kicker b { color: var(--ink); font-weight: 600; }
h1.good { color: var(--good); } h1.bad { color: var(--bad); }
.notes { list-style: none; padding: 0; margin: 0 0 30px; font-size: 15px; }
.notes li { padding: 2px 0 2px 22px; position: relative; }
.notes li::before { content: ""; position: absolute; left: 3px; top: 11px; width: 8px; height: 8px;
                    border-radius: 50%; }
.notes .good::before { background: var(--good); } .notes .bad::before { background: var(--bad); }
.notes .open::before { background: none; border: 2px solid var(--open); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 22px 24px;
        margin: 0 0 22px; }
.pair { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1.15fr); gap: 22px; }
.pair .card { margin: 0 0 22px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 0; margin: 0 0 26px;
         border-top: 1px solid var(--line); border-bottom: 1px solid var(--line); }
.tile { padding: 14px 18px 12px 0; } .tile b { display: block; font-size: 24px; font-weight: 500; line-height: 1.2; }
.tile span { color: var(--quiet); font-size: 13.5px; line-height: 1.35; display: block; margin-top: 3px; }
img, video { display: block; width: 100%; height: auto; }
video { border-radius: 4px; image-rendering: pixelated; cursor: pointer; }
figure { margin: 8px 0 0; } figcaption { color: var(--quiet); font-size: 13.5px; margin-top: 6px; }
.films { display: grid; grid-template-columns: repeat(auto-fill, minmax(280px, 1fr)); gap: 18px; margin-top: 10px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 15px; margin-top: 8px; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 500; color: var(--quiet); font-size: 13.5px; }
th, td { padding: 7px 18px 7px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
tr:last-child td { border-bottom: 0; } td small { color: var(--quiet); font-size: 13.5px; }
td.good, td.bad { font-weight: 500; } td.good { color: var(--good); } td.bad { color: var(--bad); }
details { margin: 0 0 12px; } summary { cursor: pointer; color: var(--quiet); padding: 4px 0; }
pre { font: 13px/1.5 ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; background: var(--card);
      border: 1px solid var(--line); border-radius: 8px; padding: 14px 18px; overflow-x: auto; margin: 6px 0 0; }
a { color: #2a6f97; text-underline-offset: 3px; }
@media (max-width: 760px) {
  .pair { grid-template-columns: 1fr; gap: 0; } main { padding: 32px 16px; } h1 { font-size: 27px; } }
@media print { body { background: #fff; } .card { break-inside: avoid; } }
"""
