"""What the prose promises is there: commands, flags, files, links, versions; and no litter."""

import functools
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import kkanji_jax
from kkanji_jax.config import default_config

ROOT = Path(__file__).resolve().parents[1]
PROSE = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
)
MAX_README_LINES = 150
MAX_FILE_BYTES, MAX_GOLDEN_BYTES = 3_000_000, 100_000
LARGE_FOLDERS = ("kkanji_jax/demo/", "kkanji_jax/pretrained/")
# Written so that this file does not match itself.
LITTER = {
    "a path of one machine": r"/(?:work|root)/|/tmp/(?:team|real|env)|/home/\w",
    "a package registry": r"pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|conda\.anaconda\.org",
    "working papers": r"HOUSE[_]STYLE|\bDESIGN[.]md|\bshared/(?:reference|data|prototypes)",
    "a merge conflict": r"(?m)^(?:<{7}|>{7}) ",
}

pytestmark = pytest.mark.skipif(
    not (ROOT / "README.md").is_file(), reason="the tests run without a checkout beside them"
)


def code_spans(text: str) -> Iterator[str]:
    """Every command line of the bash blocks, continued lines joined, and every `span`."""
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def commands_in(text: str) -> Iterator[tuple[str, list[str]]]:
    """(command, its flags) of every command of ours; a bare `kkanji_jax.x` in prose is none."""
    for span in code_spans(text):
        span = span.partition(" #")[0]
        match = re.search(r"(python -m )?\b((?:kkanji_jax|data_tools)\.\w+)(?= |$)(.*)", span)
        if match and (match[1] or " --" in match[3]):
            yield match[2], re.findall(r"(?<=\s)--[\w.-]+", match[3])
        elif span.startswith("--config."):
            yield "kkanji_jax.train", re.findall(r"--[\w.-]+", span)


@functools.cache
def help_of(command: str) -> str:
    words = [sys.executable, "-m", command, "--help"]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, f"{command} --help: {result.stderr}"
    return result.stdout


def is_answered(command: str, flag: str) -> bool:
    """Whether the command knows the flag; `--config.optim.b1` is a field of the config."""
    if flag.startswith("--config."):
        fields: Any = default_config().to_dict()
        for name in flag.split(".")[1:]:
            fields = fields[name] if isinstance(fields, dict) and name in fields else KeyError
        return fields is not KeyError
    return re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", help_of(command)) is not None


def project_files() -> list[str]:
    """What git tracks, or would: relative to the root, in posix form."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("git does not know this folder")
    names = [os.fsdecode(name) for name in listed.split(b"\0") if name]
    return [name for name in names if (ROOT / name).is_file()]


def litter_in(text: str) -> list[str]:
    return [what for what, pattern in LITTER.items() if re.search(pattern, text)]


@pytest.mark.parametrize("name", PROSE)
def test_every_command_in_the_prose_exists_with_its_flags(name: str):
    wrong = []
    for command, flags in commands_in((ROOT / name).read_text()):
        if importlib.util.find_spec(command) is None:
            wrong.append(f"no {command}")
            continue
        wrong += [f"{command} has no {flag}" for flag in flags if not is_answered(command, flag)]
    assert not wrong, f"{name}: " + "; ".join(wrong)


def test_the_readme_shows_every_command():
    shown = {command for command, _ in commands_in((ROOT / "README.md").read_text())}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    commands = {target.partition(":")[0] for target in project["scripts"].values()}
    assert {command.removesuffix(".__main__") for command in commands} <= shown


def test_the_reader_of_prose_finds_commands_and_flags():
    text = (
        "```bash\npython -m data_tools.build --source x \\\n  --out-dir y  # --not-this\n```\n"
        "See `data_tools.verify` and `data_tools.inspect --of val`, or `--config.seed=3`."
    )
    assert list(commands_in(text)) == [
        ("data_tools.build", ["--source", "--out-dir"]),
        ("data_tools.inspect", ["--of"]),
        ("kkanji_jax.train", ["--config.seed"]),
    ]
    assert is_answered("kkanji_jax.train", "--config.optim.b1")
    assert not is_answered("kkanji_jax.train", "--config.optim.b3")


@pytest.mark.parametrize("name", PROSE)
def test_every_file_and_link_in_the_prose_exists(name: str):
    text = (ROOT / name).read_text()
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target = link.partition("#")[0]
        if not link.startswith(("http://", "https://", "#")):
            if not ((ROOT / name).parent / target).exists():
                missing.append(link)
    named = re.findall(
        r"\b(?:configs|scripts|docs|tests|data_tools)/[\w/]+\.(?:py|sh|md|png)", text
    )
    missing += [path for path in named if not (ROOT / path).is_file()]
    assert not missing, f"{name} names what is not there: {', '.join(sorted(set(missing)))}"


def without_code(text: str) -> str:
    return re.sub(r"(?ms)^ *```.*?^ *```", "", text)


def anchors_in(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a Markdown text."""
    found: list[str] = []
    for heading in re.findall(r"(?m)^#{1,6} +(.+?) *#*$", without_code(text)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        times = sum(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", each) is not None for each in found)
        found.append(f"{slug}-{times}" if times else slug)
    return set(found)


@pytest.mark.parametrize("name", PROSE)
def test_every_anchor_that_the_prose_links_to_exists(name: str):
    text, dead = (ROOT / name).read_text(), []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(text)):
        target, _, anchor = link.partition("#")
        if anchor and not link.startswith(("http://", "https://")):
            linked = (ROOT / name).parent / target if target else ROOT / name
            if anchor not in anchors_in(linked.read_text()):
                dead.append(link)
    assert not dead, f"{name} links to no heading: {', '.join(dead)}"


def test_the_anchors_of_headings_are_githubs():
    text = (
        "# Kuzushiji, and *the data*\n```bash\n# no heading\n```\n## Few\n### `Few`\n"
        "## Variants: [what](x.md) a_label – is\n"
    )
    assert anchors_in(text) == {
        "kuzushiji-and-the-data",
        "few",
        "few-1",
        "variants-what-a_label--is",
    }


def pictures_in_the_prose() -> list[tuple[str, str, str]]:
    """(file, alternative text, picture) of every picture."""
    found = []
    for name in PROSE:
        text = without_code((ROOT / name).read_text())
        shown = re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", text)
        found += [(name, alt, Path(link).name) for alt, link in shown]
    return found


def test_every_picture_has_an_alternative_text_and_a_caption():
    for name, alt, picture in pictures_in_the_prose():
        assert len(alt) > 40, f"{name}: {picture} needs a description"
        after = (ROOT / name).read_text().partition(f"{picture})")[2].lstrip()
        assert re.match(r"\*[^*\s]", after), f"{name}: {picture} needs a caption in *italics*"


def test_no_two_pictures_have_the_same_alternative_text():
    described: dict[str, str] = {}
    for name, alt, picture in pictures_in_the_prose():
        assert described.setdefault(alt, picture) == picture, f"{name}: {picture}"


@pytest.mark.parametrize("name", PROSE)
def test_every_config_variant_in_the_prose_is_accepted(name: str):
    for file, variant in re.findall(r"(configs/\w+\.py):(\w+)", (ROOT / name).read_text()):
        spec = importlib.util.spec_from_file_location("config", ROOT / file)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.get_config(variant)


def test_the_readme_is_short_and_has_its_parts_in_order():
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") <= MAX_README_LINES
    parts = (
        "![",
        "## What the released model knows",
        "## Install, and read",
        "## Train a model",
        "## Results",
        "## Build on it",
        "## Coming from",
        "## Licence and citation",
    )
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


def test_the_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    cited = re.search(r"(?m)^version: *\"?([\w.]+)", (ROOT / "CITATION.cff").read_text())
    newest = re.search(r"(?m)^## \[(\d[\w.]*)\]", (ROOT / "CHANGELOG.md").read_text())
    assert cited and newest
    assert {project["version"], cited[1], newest[1]} == {kkanji_jax.__version__}


def test_every_console_script_has_its_function():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, target in project["scripts"].items():
        module, _, function = target.partition(":")
        source = (ROOT / module.replace(".", "/")).with_suffix(".py")
        assert source.is_file(), f"{name} wants {source.relative_to(ROOT)}"
        assert f"def {function}(" in source.read_text()


def test_every_requirement_is_pinned_to_a_version_it_allows():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    pinned = ("dev", "bench", "demo", "wasm")
    expected = [*project["dependencies"], *(each for name in pinned for each in extras[name])]
    pins: dict[str, list[str]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            pins.setdefault(pin.name, []).append(str(pin.specifier).removeprefix("=="))
    for requirement in map(Requirement, expected):
        versions = pins.get(requirement.name.lower(), [])
        assert versions, f"{requirement.name} is not in constraints.txt; make it anew"
        for version in versions:
            assert requirement.specifier.contains(Version(version)), f"{requirement}: {version}"


def test_no_file_is_litter_or_too_large():
    wrong = []
    for name in project_files():
        path = ROOT / name
        size = path.stat().st_size
        most = MAX_GOLDEN_BYTES if name.startswith("tests/golden/") else MAX_FILE_BYTES
        if size > most and not name.startswith(LARGE_FOLDERS):
            wrong.append(f"{name} has {size:,} bytes, over {most:,}")
        content = path.read_bytes()
        # .ci/run alone may look for real files beside the checkout.
        if b"\0" not in content[:8000] and name != ".ci/run":
            wrong += [f"{name} holds {what}" for what in litter_in(content.decode())]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "text",
    ["see /" + "root/x", "/tmp/" + "team", "https://py" + "pi.org/simple", "<" * 7 + " HEAD"],
)
def test_planted_litter_is_found(text: str):
    assert len(litter_in(text)) == 1
