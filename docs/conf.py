"""Sphinx's configuration. python3 tools/docs.py builds the site."""

import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]
# the tutorials run in processes of their own, which import the scraper
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE / "_ext"), str(HERE.parent), os.environ.get("PYTHONPATH", "")])

from trref_site import pages, tutorials  # noqa: E402

import trref  # noqa: E402
from trref.catalog import citations  # noqa: E402

tutorials.stage({family: pages.about(family) for family in pages.families()}, pages.ONLY)

project = "trref"
author = "The trref developers"
copyright = "the trref developers"
version = release = trref.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinxcontrib.bibtex",
    "sphinx_gallery.gen_gallery",
    "trref_site",
]
exclude_patterns = ["_ext", "derivations", "verify", "**/sg_execution_times.rst", "sg_execution_times.rst"]
default_role = "py:obj"
nitpicky = False
suppress_warnings = ["config.cache"]
if pages.ONLY:  # some methods' pages, whose links to the others lead nowhere
    root_doc = "methods/index"
    some = [m for methods in pages.families().values() for m in methods]
    include_patterns = ["methods/**", *(f"auto_tutorials/{m.family}/plot_{m.slug}.rst" for m in some)]
    suppress_warnings += ["ref", "toc", "bibtex"]

autodoc_typehints = "none"
autodoc_member_order = "bysource"
add_module_names = False
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
bibtex_bibfiles = [f"../trref/references/{key}.bib" for key in citations.keys()]
bibtex_default_style = "plain"
bibtex_reference_style = "author_year"
math_eqref_format = "({number})"
mathjax3_config = {
    "svg": {"fontCache": "local"},
    "options": {"enableMenu": False},
}

sphinx_gallery_conf = {
    "examples_dirs": [str(tutorials.STAGED)],
    "gallery_dirs": ["auto_tutorials"],
    "filename_pattern": r"/plot_",
    "parallel": int(os.environ.get("TRREF_DOCS_JOBS", "2")),
    "image_scrapers": ("trref_site.figures.scraper",),
    "reset_modules": ("trref_site.figures.reset", "matplotlib"),
    "reset_modules_order": "both",
    "capture_repr": (),
    "remove_config_comments": True,
    "show_signature": False,
    "download_all_examples": False,
    "min_reported_time": 0,
    "within_subsection_order": "FileNameSortKey",
    "nested_sections": True,
    "write_computation_times": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "trref"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_baseurl = os.environ.get("TRREF_SITE_URL", "")  # where it will be served; then there is a sitemap
html_copy_source = False
html_show_sourcelink = False
html_show_search_summary = False  # summaries are fetched, which a page from the file system may not do
html_theme_options = {
    "logo": {"text": "trref"},
    "show_prev_next": True,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "header_links_before_dropdown": 6,
    "navbar_persistent": ["search-button"],
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "back_to_top_button": False,
}
# a method's page needs the width for code beside mathematics
html_sidebars = {pages.document(m).lstrip("/"): [] for some in pages.families().values() for m in some}
html_context = {"default_mode": "auto"}
