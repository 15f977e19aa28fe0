"""A JupyterLab of its own: started, opened, and notebooks run in it."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import matplotlib
import nbformat
from browser import SECONDS
from chapters import CHAPTERS, tagged
from playwright.sync_api import Locator, Page

from mamlkit.paths import ROOT
from mamlkit.publish.runner import own_kernel

TOKEN = "learner"
RUN_SECONDS = 120  # that all cells of a chapter may take

# The notebook that is in front, in words that the tests use.
SCRIPT = """
// Cells out of view are attached in idle moments, which a busy machine may
// not have for minutes: here every moment is one.
window.requestIdleCallback = (act) => setTimeout(() => act(
  { didTimeout: false, timeRemaining: () => 50 }));
window.cancelIdleCallback = clearTimeout;
const panel = () => jupyterapp.shell.currentWidget;
const run = (command, args) => jupyterapp.commands.execute(command, args);
// Does a prediction keep such an output of the cell shut?
const keeps = (kind) => (cell) => cell.outputHidden &&
  JSON.stringify(cell.model.outputs.toJSON()).includes(kind);
const course = {
  open: async (path) => {
    const opened = await run("docmanager:open", { path });
    await opened.context.ready;
    await opened.sessionContext.ready;
    await opened.revealed;
    while (!opened.content.widgets.every((cell) => cell.isAttached))
      await new Promise((resolve) => setTimeout(resolve, 50));
  },
  runAll: () => { panel().ran = run("notebook:run-all-cells"); },
  ran: () => panel().ran,
  runCell: (index) => {
    panel().content.activeCellIndex = index;
    return run("notebook:run-cell");
  },
  cell: (index) => {
    panel().content.activeCellIndex = index;
    return panel().content.scrollToItem(index);
  },
  outputs: () => panel().content.widgets.flatMap((cell) =>
    cell.model.type === "code" ? cell.model.outputs.toJSON() : []),
  status: () => panel().sessionContext.session.kernel.status,
  sidebar: (shown) => {
    if (shown) jupyterapp.shell.expandLeft();
    else jupyterapp.shell.collapseLeft();
  },
  scroll: (step) => new Promise((resolve) => { // false at the end
    const frame = panel().content.outerNode, before = frame.scrollTop;
    frame.scrollTop = step ? before + step : 0;
    requestAnimationFrame(() => requestAnimationFrame(() =>
      resolve(frame.scrollTop !== before)));
  }),
  shut: (index) => { // is what the cell shows kept from the reader?
    const cell = panel().content.widgets[index];
    const shown = cell.node.querySelector(".jp-OutputArea-output");
    return cell.outputHidden && !shown?.getClientRects().length;
  },
  pictureTop: () => { // of the first, below the notebook's top, in screens
    const frame = panel().content.outerNode;
    const picture = frame.querySelector(".jp-OutputArea-output img, " +
      "[data-lm-suppress-shortcuts]"); // the latter is a play
    const shut = panel().content.widgets.find(keeps("image/png"));
    const tops = [picture, shut?.node].filter((e) => e?.isConnected).map(
      (e) => e.getBoundingClientRect().top);
    return (Math.min(...tops) + frame.scrollTop -
      frame.getBoundingClientRect().top) / frame.clientHeight;
  },
  firstPicture: async () => { // when all above it has its height
    let [before, now] = [NaN, NaN];
    do {
      await course.scroll(0);
      await new Promise((resolve) => setTimeout(resolve, 200));
      [before, now] = [now, course.pictureTop()];
    } while (now !== before);
    return now;
  },
  tooWide: () => [...panel().node.querySelectorAll(
    ".jp-OutputArea-output, .jp-MarkdownOutput")].filter(
    (e) => e.scrollWidth > e.clientWidth + 1).map(
    (e) => [e.scrollWidth, e.clientWidth, e.innerText.slice(0, 200)]),
  openWidgets: () => {
    panel().content.widgets.filter(keeps("widget-view")).forEach(
      (cell) => { cell.outputHidden = false; });
  },
  close: async () => {
    const { context, sessionContext } = panel();
    await context.save();
    await sessionContext.shutdown();
    panel().close();
  },
};
window.course = course;
"""


@contextlib.contextmanager
def serve(folder: Path):
    """Start JupyterLab on copies of the chapters, at ci scale.

    Nothing is written outside `folder`, and the kernel is this Python.

    Yields:
        its address.
    """
    notebooks, home = folder / "notebooks", folder / "home"
    for path in (notebooks, home):
        path.mkdir()
    for path in CHAPTERS:
        nb = nbformat.read(path, 4)
        (cell,) = tagged(nb, "parameters")
        cell.source = cell.source.replace('"laptop"', '"ci"')
        nbformat.write(nb, notebooks / path.name)
    quiet = folder / "settings/@jupyterlab/apputils-extension"
    quiet.mkdir(parents=True)
    (quiet / "notification.jupyterlab-settings").write_text(
        json.dumps({"fetchNews": "false", "checkForUpdates": False})
    )
    environ = {
        "HOME": home,
        "XDG_DATA_HOME": home / "data",
        "JUPYTER_CONFIG_DIR": folder / "config",
        "JUPYTER_RUNTIME_DIR": folder / "runtime",
        "JUPYTERLAB_SETTINGS_DIR": folder / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": folder / "workspaces",
        "MPLCONFIGDIR": matplotlib.get_cachedir(),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": ROOT,
    }
    log, port = folder / "lab.txt", _free_port()
    with own_kernel(), open(log, "w") as stderr:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyterlab", "--no-browser"),
                *("--allow-root", "--ServerApp.ip=127.0.0.1"),
                *(f"--ServerApp.root_dir={notebooks}", f"--port={port}"),
                f"--IdentityProvider.token={TOKEN}",
                "--LabApp.expose_app_in_browser=True",
            ],
            env=os.environ | {k: str(v) for k, v in environ.items()},
            stderr=stderr,
        )
        try:
            _wait_for(server, f"http://127.0.0.1:{port}/api", log)
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()
            server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(server: subprocess.Popen, url: str, log: Path) -> None:
    end = time.monotonic() + 3 * SECONDS
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(url).close()
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


def start(page: Page, address: str) -> None:
    """Open JupyterLab, with no notebook yet."""
    page.add_init_script(SCRIPT)
    page.goto(f"{address}lab?token={TOKEN}")
    page.wait_for_function("window.jupyterapp?.shell")
    page.evaluate("jupyterapp.restored")


def front(page: Page) -> Locator:
    """The notebook that is in front."""
    return page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")


def cell(page: Page, index: int) -> Locator:
    """A cell of the notebook in front, scrolled to and active."""
    page.evaluate("index => course.cell(index)", index)
    return front(page).locator(f".jp-Cell[data-windowed-list-index='{index}']")
