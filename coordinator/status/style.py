"""How the status page looks, by day and by night, on a desk and on a phone."""

from __future__ import annotations

from typing import Final

STYLESHEET: Final = """
:root { color-scheme: light dark; --ink: #1d1d1f; --paper: #fff; --quiet: #5c5f66; --line: #d9dbe0; --mark: #1f5fbf;
        --warn: #a33b00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e5e8; --paper: #16181c; --quiet: #a2a6ae; --line: #3a3d44;
        --mark: #7fb0ff; --warn: #ffb073; } }
body { font: 1rem/1.45 system-ui, sans-serif; margin: 1rem auto; max-width: 64rem; padding: 0 1rem; color: var(--ink);
       background: var(--paper); }
h1 { font-size: 1.3rem; margin: .5rem 0 } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem }
p { margin: .3rem 0 } a { color: var(--mark) } a:focus-visible, summary:focus-visible, .wrap:focus-visible {
       outline: 3px solid var(--mark); outline-offset: 2px }
header nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem; font-size: .9rem }
.skip { position: absolute; left: -100rem } .skip:focus { position: static }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
.quiet { color: var(--quiet); font-size: .9rem } .warn { color: var(--warn) }
.wrap { overflow-x: auto; max-width: 100% }
table { border-collapse: collapse; width: 100%; font-size: .95rem }
td, th { text-align: left; font-weight: 400; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line);
       vertical-align: top }
tbody th, td:not(:last-child) { white-space: nowrap }
thead th { color: var(--quiet); font-size: .85rem; white-space: nowrap }
.curves { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: 0; flex: 1 1 16rem; max-width: 26rem }
figcaption { font-size: .85rem; color: var(--quiet) }
svg text { fill: var(--quiet); font-size: 11px } .curve { width: 100%; height: auto }
.curve polyline { stroke: var(--mark); stroke-width: 2 } .curve circle { fill: var(--mark) }
.coverage rect { fill: var(--mark); stroke: var(--line) } .coverage .level0 { fill: none; stroke: var(--warn) }
.coverage .level1 { fill-opacity: .2 } .coverage .level2 { fill-opacity: .45 } .coverage .level3 { fill-opacity: .7 }
details summary { cursor: pointer; margin: .4rem 0 }
"""
