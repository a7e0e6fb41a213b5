"""The examples of `docs/extending`: each runs by itself, says one line, and is one that the page names."""

import ast
import re

import pytest
from shared import ROOT, python

PAGE = ROOT / "docs" / "extending.md"
EXAMPLES = sorted((ROOT / "docs" / "extending").glob("*.py"))
WARNING = {"scheme": "does not keep the sign"}
"""What an example is warned of, as the page says; the others of nothing."""


def test_the_page_names_exactly_the_examples():
    named = re.findall(r"\]\(extending/([^)]*)\)", PAGE.read_text(encoding="utf-8"))
    assert sorted(named) == [example.name for example in EXAMPLES]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_asserts_a_number_and_says_one_line(example):
    text = example.read_text(encoding="utf-8")
    assert any(isinstance(statement, ast.Assert) for statement in ast.parse(text).body)
    done = python(example)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"[^\n]*\d[^\n]*\n", done.stdout), done.stdout
    warned = [line for line in done.stderr.splitlines() if "Warning" in line]
    assert all(example.stem in WARNING and WARNING[example.stem] in line for line in warned), done.stderr


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_uses_public_names_only(example):
    """What it has of this package is `mfpde` and names that `mfpde` lists."""
    tree = ast.parse(example.read_text(encoding="utf-8"))
    imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    imported += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert [name for name in imported if name.startswith("mfpde")] == ["mfpde"]
    hidden = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("_")]
    assert hidden == []
