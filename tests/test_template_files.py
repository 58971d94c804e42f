"""What the template's own files promise, without a render."""

import keyword
import re
import sys
from importlib import metadata
from pathlib import Path

import yaml
from packaging.utils import canonicalize_name

from .rendering import ROOT, pins, questions, settings

TEMPLATE = ROOT / "template"
JINJA = re.compile(r"\{\{|\{%|\{#")
SKIPPED = {"__pycache__", ".ruff_cache", ".mypy_cache", ".pytest_cache"}


def template_files() -> list[Path]:
    """Every file in template/ but the caches of tools."""
    return [
        path
        for path in sorted(TEMPLATE.rglob("*"))
        if path.is_file() and not SKIPPED & set(path.parts)
    ]


def text_of(path: Path) -> str:
    """What a file says; weights say nothing."""
    return "" if path.suffix == ".safetensors" else path.read_text(encoding="utf-8")


def test_nobody_has_to_trust_the_template() -> None:
    assert not {"_tasks", "_migrations", "_jinja_extensions"} & set(settings())


def test_the_suffix_jinja_is_on_the_files_with_jinja_only() -> None:
    for path in template_files():
        has = JINJA.search(text_of(path)) is not None
        assert has == (path.suffix == ".jinja"), path


def test_every_question_says_why_and_is_used() -> None:
    texts = [text_of(path) for path in template_files()]
    texts += [str(path.relative_to(TEMPLATE)) for path in template_files()]
    # an answer may also just decide about a file
    texts += settings()["_exclude"]
    for name, question in questions().items():
        assert len(question["help"]) > 40, name
        used = re.compile(rf"(\{{\{{|\{{%).*\b{name}\b")
        assert any(used.search(text) for text in texts), f"{name} is asked for nothing"


def test_no_package_can_shadow_a_module_or_be_a_keyword() -> None:
    reserved = set(yaml.safe_load(settings()["reserved_names"]["default"]))
    possible = re.compile(r"[a-z][a-z0-9_]{0,23}")
    taken = {*sys.stdlib_module_names, *keyword.kwlist, *keyword.softkwlist}
    # also what the project's dependencies import: it would find the wrong module or be it
    taken |= {
        name
        for name, providers in metadata.packages_distributions().items()
        if pins().keys() & set(map(canonicalize_name, providers))
    }
    assert {name for name in taken if possible.fullmatch(name)} <= reserved
