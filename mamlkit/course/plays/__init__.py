"""Plays: what a reader does with mouse, finger or keys, here and on the site.

A play is one ESM file beside this one that exports `{ render({ model, el }) }`
and asks its model for nothing but `get`, `set`, `save_changes` and `on`; it
fills `el`, whatever stood there before. In JupyterLab anywidget mounts it. A
stored notebook and the site hold the same state in a `div.mamlkit-play`, from
which a script makes a model and mounts it.
"""

from mamlkit.course.plays.stage import emit, script

__all__ = ["emit", "script"]
