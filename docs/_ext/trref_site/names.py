"""What the site's search finds beside words: equations by name, functions by name and argument."""

import html
import json

from trref_site import pages, source

__all__ = ["script", "sitemap"]


def script():
    """JavaScript that defines ``TRREF``: equations and functions with their addresses, and words for each method."""
    equations, functions, words = [], [], {}
    for family, methods in pages.families().items():
        for method in methods:
            address, title = f"methods/{family}/{method.slug}.html", pages.heading_of(method)
            labels = source.read(method.module.__name__).labels
            equations += [
                [label, f"{title}, equation {n}", f"{address}#equation-{label}"] for n, label in enumerate(labels, 1)
            ]
            for record in method.functions:
                arguments = " ".join([*record.inputs, *record.hyper_parameters])
                functions.append([record.name, arguments, f"{address}#{record.f.__module__}.{record.f.__name__}"])
            words[address] = " ".join([method.slug, *(r.name for r in method.functions), *labels, method.title])
    return f"window.TRREF = {json.dumps({'equations': equations, 'functions': functions, 'words': words})};\n"


def sitemap(base, pages):
    """The sitemap of pages below an address."""
    entries = "".join(f"<url><loc>{html.escape(base.rstrip('/') + '/' + page)}</loc></url>\n" for page in pages)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
        f"{entries}</urlset>\n"
    )
