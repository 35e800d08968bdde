"""The options of a request, in its query string: those of predict, under the same names."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from kkanji_jax.answers.rows import RowOptions
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.inference.allowed_characters import NAMED, Characters, characters_in, characters_of
from kkanji_jax.serving.limits import Refusal

MAX_TOP_K = 100  # a request may have hundreds of images
IS_INK_BRIGHT = {"auto": None, "yes": True, "no": False}


class RequestOptions(BaseModel):
    """Those of `predict`: --top-k, --chars, --min-probability, --invert, --orient and --format."""

    model_config = ConfigDict(extra="forbid")

    top_k: Annotated[
        int,
        Field(alias="top-k", ge=1, le=MAX_TOP_K, description="Candidates per image.", examples=[3]),
    ] = 5
    chars: Annotated[
        str | None,
        Field(
            description=(
                "Answer only with these: `kanji`, `kana`, or the characters themselves, as they "
                "are or as U+XXXX. Those that the model lacks are named in the header "
                "`Kkanji-Lacking-Characters`."
            ),
            examples=["kana", "春夏秋冬"],
        ),
    ] = None
    min_probability: Annotated[
        float,
        Field(
            alias="min-probability",
            ge=0,
            le=1,
            allow_inf_nan=False,
            description=(
                "Leave out less probable candidates; an image without any left is one row with "
                "the verdict `unknown`."
            ),
            examples=[0.05],
        ),
    ] = 0.0
    invert: Annotated[
        Literal["auto", "yes", "no"],
        Field(description="`yes`: the ink is brighter than the paper. `auto`: decided per image."),
    ] = "auto"
    orient: Annotated[
        Literal["no", "auto"],
        Field(
            description="`auto`: turn images that lie on their side or upside down; a remark says "
            "so. It takes up to three times as long."
        ),
    ] = "no"
    format: Annotated[
        Literal["json", "jsonl", "csv", "text"],
        Field(description="One JSON array, one JSON object per line, CSV, or text."),
    ] = "json"


def require_single(items: Sequence[tuple[str, str]]) -> None:
    """Refuses a query string that gives an option twice."""
    names = [name for name, _ in items]
    for name in names:
        if names.count(name) > 1:
            raise Refusal(422, f"the option {name} is given {names.count(name)} times: give one")


def row_options(options: RequestOptions, class_index: ClassIndex) -> tuple[RowOptions, Characters]:
    """The options in the form that rows take, with the requested characters, if any."""
    characters = Characters(frozenset())
    if options.chars is not None:
        try:
            if options.chars in NAMED:
                characters = characters_of(options.chars, class_index)
            else:
                characters = characters_in(options.chars, class_index, "chars")
        except ValueError as err:
            raise Refusal(422, str(err)) from err
    made = RowOptions(
        options.top_k,
        characters.known or None,
        options.min_probability,
        is_ink_bright=IS_INK_BRIGHT[options.invert],
        orient=options.orient,
    )
    return made, characters
