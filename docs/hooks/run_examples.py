"""Pages of the examples: the cells of each script, and what it prints and draws when it is run now.

`STIFFRAX_EXAMPLES` says which scripts a build runs: `none`, `quick` (the default: those of a
few seconds), or `all`. A script that fails ends the build. Nothing that scripts print or draw is
kept in the repository.
"""

import html
import logging
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[2]
# A few seconds each.
QUICK = ("examples/01_robertson.py",)
MARKER = re.compile(r"^<!-- (?P<what>run|draw) (?P<script>\S+\.py) -->$", re.M)
log = logging.getLogger("mkdocs.plugins")


def _scripts():
    return sorted((ROOT / "examples").glob("[0-9]*.py"))


def _title(script):
    return re.search(r"^# # (.*)$", script.read_text(), re.M).group(1)


def _is_run(name):
    chosen = os.environ.get("STIFFRAX_EXAMPLES", "quick")
    if chosen not in ("none", "quick", "all"):
        raise PluginError(f"STIFFRAX_EXAMPLES={chosen}: write none, quick or all.")
    return chosen == "all" or (chosen == "quick" and name in QUICK)


class Results:
    """What the scripts of this build have printed and drawn, each run once."""

    def __init__(self):
        self.found = {}
        self.folder = tempfile.TemporaryDirectory()

    def of(self, name):
        if name not in self.found:
            self.found[name] = self._run(name) if _is_run(name) else None
        return self.found[name]

    def _run(self, name):
        log.info(f"Running {name}")
        folder = pathlib.Path(self.folder.name, pathlib.Path(name).stem)
        folder.mkdir()
        environment = {**os.environ, "MPLBACKEND": "agg", "CI": "true"}
        command = [sys.executable, str(ROOT / name)]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise PluginError(f"{name} failed:\n{done.stdout}\n{done.stderr}")
        beside = (ROOT / name).with_suffix(".png")
        if beside.is_file():
            shutil.move(beside, folder / beside.name)
        figures = sorted(folder.glob("*.png"))
        if not figures:
            raise PluginError(f"{name} saved no figure, neither beside itself nor where it ran.")
        return done.stdout, figures


def _block(name, results, figures_at, with_output=True):
    """The figures of a script and its output, or how to get them."""
    result = results.of(name)
    if result is None:
        return f"*`make docs-full` runs `{name}` and shows its figure here.*\n"
    printed, figures = result
    images = [f"![What {name} draws]({figures_at}{figure.name})" for figure in figures]
    escaped = html.escape(printed.strip(), quote=False)
    text = f'<pre class="printed"><code>{escaped}</code></pre>' if escaped and with_output else ""
    return "\n\n".join([*images, text])


def _page(script, results):
    """Cells as text and code; after the last one what the script prints and draws."""
    cells = re.split(r"^# %%[ \t]*(.*)\n", script.read_text(), flags=re.M)[1:]
    parts = []
    for title, body in zip(cells[::2], cells[1::2], strict=True):
        if title.strip() == "[markdown]":
            lines = [line.removeprefix("#").removeprefix(" ") for line in body.splitlines()]
            parts.append("\n".join(lines))
        else:
            heading = f"{title.strip()}\n\n" if title.strip() else ""
            parts.append(f"{heading}```python\n{body.strip()}\n```")
    name = f"examples/{script.name}"
    parts.append("## What it prints and draws\n\n" + _block(name, results, ""))
    parts.append(f"Run it with `python {name}`.")
    return "\n\n".join(parts)


results = Results()


def on_config(config):
    """One entry of the navigation for each script, in the order of their numbers."""
    pages = [{_title(script): f"examples/{script.stem}.md"} for script in _scripts()]
    config.nav = [{"Examples": pages} if "Examples" in entry else entry for entry in config.nav]
    return config


def on_files(files, config):
    """The pages of the scripts, and the figures of all scripts that are run."""
    for script in _scripts():
        content = _page(script, results)
        files.append(File.generated(config, f"examples/{script.stem}.md", content=content))
    for file in files.documentation_pages():
        for _, script in MARKER.findall(file.content_string):
            results.of(script)
    for result in filter(None, results.found.values()):
        for figure in result[1]:
            uri = f"examples/{figure.name}"
            files.append(File.generated(config, uri, abs_src_path=str(figure)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Puts figures and output where a page asks for those of a script."""
    up = "../" * page.file.src_uri.count("/")

    def block(marker):
        return _block(marker["script"], results, f"{up}examples/", marker["what"] == "run")

    return MARKER.sub(block, markdown)
