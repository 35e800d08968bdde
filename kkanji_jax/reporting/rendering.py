"""The templates of this package: text for people, filled in by Jinja2.

A template named `*.html.j2` escapes everything that it is given; a Markdown template passes text of
others through `cell`.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import jinja2


def render(template: str, context: Mapping[str, Any]) -> str:
    """A template of templates/, filled in; a name that the context lacks is an error."""
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
    """A text as the content of a Markdown cell: on one line, with bars escaped."""
    return " ".join(str(value).split()).replace("|", "\\|")
