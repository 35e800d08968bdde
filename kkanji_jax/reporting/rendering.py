"""The templates of this package: text for people, filled in by Jinja2.

A template that is named `*.html.j2` escapes whatever it is given; a Markdown template passes what
it did not write itself through `cell`.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import jinja2


def render(template: str, context: Mapping[str, Any]) -> str:
    """A template of templates/ filled in; a name that it wants and does not get is an error."""
    return _environment().get_template(template).render(context)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kkanji_jax.reporting"),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["cell"] = cell
    return environment


def cell(value: object) -> str:
    """Any text as the content of a Markdown cell: on one line, without a bar that would end it."""
    return " ".join(str(value).split()).replace("|", "\\|")
