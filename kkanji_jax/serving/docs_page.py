"""The page at /docs: the OpenAPI description as HTML, which loads nothing from other hosts."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import jinja2

from kkanji_jax.serving.limits import Limits


def docs_page(openapi: Mapping[str, Any], limits: Limits) -> str:
    """HTML of an application's OpenAPI description and of its limits."""
    return _template().render(
        info=openapi["info"],
        operations=[
            {"method": method.upper(), "path": path, **operation}
            for path, operations in openapi["paths"].items()
            for method, operation in operations.items()
        ],
        limits=limits,
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kkanji_jax.serving"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["pretty"] = lambda value: json.dumps(value, ensure_ascii=False, indent=1)
    environment.filters["types"] = _types
    environment.filters["marked"] = _marked
    return environment.get_template("docs.html.j2")


def _types(schema: Mapping[str, Any]) -> str:
    """What a value may be, in words: `integer, 1 to 100`, `json or csv`, `string or null`."""
    if "anyOf" in schema:
        return " or ".join(_types(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(schema["enum"])
    kind = schema.get("type", "any")
    told = " or ".join(kind) if isinstance(kind, list) else kind
    least, most = schema.get("minimum"), schema.get("maximum")
    return told if least is None or most is None else f"{told}, {least:g} to {most:g}"


def _marked(text: str) -> Any:
    """HTML of a text, with `code` in code elements."""
    from markupsafe import Markup, escape

    parts = str(text).split("`")
    html = (f"<code>{escape(p)}</code>" if i % 2 else str(escape(p)) for i, p in enumerate(parts))
    return Markup("".join(html))
