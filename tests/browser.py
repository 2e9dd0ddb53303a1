"""The browser that tests open pages in, where this machine has one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless_shell")
BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), None)
PHONE, SCREEN = 360, 1280

in_a_browser = pytest.mark.skipif(BROWSER is None, reason=f"no browser on this machine: none of {', '.join(BROWSERS)}")

LOOK = """
<!DOCTYPE html><meta charset="utf-8"><body style="margin:0"><iframe id="page" style="border:0;width:{width}px;height:900px"></iframe>
<pre id="found"></pre><script>
const problems = [];
window.addEventListener("error", event => problems.push(String(event.message)));
const frame = document.getElementById("page");
frame.onload = async () => {{
  const page = frame.contentDocument, view = frame.contentWindow;
  view.addEventListener("error", event => problems.push(String(event.message)), true);
  await page.fonts.ready;
  const wide = [...page.querySelectorAll("main > *, .card, .facts > *")]
    .filter(box => box.getBoundingClientRect().right > {width} + 0.5).map(box => box.className || box.tagName);
  const images = [...page.images].map(image => [image.alt, image.complete && image.naturalWidth]);
  const small = [...page.querySelectorAll("td, th, p, span, figcaption")]
    .filter(text => text.textContent.trim() && parseFloat(view.getComputedStyle(text).fontSize) < 12).length;
  document.getElementById("found").textContent = "FOUND " + JSON.stringify({{
    title: page.title, width: page.documentElement.clientWidth, scrolls: page.documentElement.scrollWidth,
    wide: wide, images: images, problems: problems, small: small }}) + " END";
}};
frame.src = "report.html";
</script>
"""


def browse(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run the browser once, with a profile of its own."""
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [
        "--no-first-run",
        "--disable-extensions",
        f"--user-data-dir={folder / 'profile'}",
        "--enable-logging=stderr",
    ]
    command += ["--allow-file-access-from-files", "--virtual-time-budget=8000", *argv]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def seen(folder: Path, width: int) -> dict[str, Any]:
    """Open the report at a width, and measure what a reader would see."""
    (folder / "look.html").write_text(LOOK.format(width=width), encoding="utf-8")
    done = browse(folder, "--dump-dom", f"--window-size={max(width, 500)},1000", f"file://{folder}/look.html")
    found = re.search(r"FOUND (\{.*?\}) END", done.stdout, re.DOTALL)
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    said = re.findall(r'CONSOLE[^"]*"(.*?)"', done.stderr)
    answer: dict[str, Any] = json.loads(found[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))
    return answer | {"console": said}


def assert_reads_well(folder: Path, width: int, title: str = "the gates", *, pictures: bool = True) -> None:
    """Open the report of a folder: it fits the width, all pictures are there, nothing is said on the console."""
    found = seen(folder, width)
    assert title in found["title"]
    assert width - 20 < found["width"] <= width, "but for a scroll bar"
    assert found["scrolls"] <= found["width"], f"it scrolls sideways; too wide: {found['wide']}"
    assert found["wide"] == []
    assert found["images"] or not pictures, "there are pictures"
    assert all(there for _, there in found["images"]), found["images"]
    assert found["problems"] == []
    assert found["console"] == []
    assert found["small"] == 0, "words too small to read on a phone"
