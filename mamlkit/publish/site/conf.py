"""Sphinx's configuration; `mamlkit.publish.site.build` adds the pages."""

from mamlkit import __version__

project = "mamlkit"
author = "the mamlkit maintainers"
release = __version__
language = "en"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "mamlkit.publish.site.extension",
]
exclude_patterns = ["extra"]
templates_path = ["templates"]

# Notebooks carry their outputs; nothing is executed.
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 4
# The anchors of JupyterLab, which chapters use.
myst_heading_slug_func = "mamlkit.publish.site.extension.anchor"

# Docstrings mark code by single backticks.
default_role = "code"
add_module_names = False
autodoc_typehints = "none"
# As the source has them: their values may be paths of this machine.
autodoc_preserve_defaults = True
napoleon_use_rtype = False

html_theme = "sphinx_book_theme"
html_title = "mamlkit"
html_static_path = ["static"]
html_css_files = ["fonts.css", "katex/katex.min.css", "site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_math_renderer = "katex"
html_copy_source = False
html_show_sourcelink = False
html_permalinks_icon = "#"
html_use_index = False
html_domain_indices = False
html_sidebars = {
    "**": ["home.html", "search-button-field.html", "routes.html"],
}
html_theme_options = {
    "search_bar_text": "Search the course",
    "toc_title": "On this page",
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "footer_content_items": ["about.html"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
# What runs, and not what was printed.
copybutton_selector = ":not(.output) > div.highlight pre"
copybutton_exclude = ".linenos"
