"""README's commands run as written, and what the documents point to exists."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.core.management import get_commands

from tests.running import CHECKOUT, RunningService

README = CHECKOUT / "README.md"
DOCUMENTS = [README, CHECKOUT / "CHANGELOG.md", CHECKOUT / "SECURITY.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
_TESTED = re.compile(r"<!-- tested -->\n```bash\n(?P<shell>.*?)```\n\n```text\n(?P<answer>.*?)```\n", re.DOTALL)
# What differs from one run to the next, and what the document leaves out.
_CHANGING = re.compile(r"\.\.\.|[0-9]+\.[0-9]+|\([0-9]+ a second\)")


@dataclass(frozen=True)
class Example:
    shell: str
    answer: str


def examples() -> list[Example]:
    return [Example(match["shell"], match["answer"]) for match in _TESTED.finditer(README.read_text())]


def test_commands_of_the_readme_give_the_answers_it_shows(service: RunningService) -> None:
    shown = examples()
    assert len(shown) == README.read_text().count("<!-- tested -->") > 0
    mark = "---- end of an example ----"
    script = "set -euo pipefail\n" + "".join(f"{one.shell}\necho; echo '{mark}'\n" for one in shown)
    for written, actual in (
        ("~/.mem0stack", str(service.home)),
        ("http://127.0.0.1:8000", service.url),
        (".venv/bin/python", sys.executable),
        ("| python3 ", f"| {sys.executable} "),
    ):
        script = script.replace(written, actual)

    result = subprocess.run(
        ["bash", "-c", script],  # noqa: S607  README's readers have it on their path as well
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=CHECKOUT,
        env=os.environ | {"MEM0_HOME": str(service.home)},
    )

    assert result.returncode == 0, result.stderr + result.stdout
    outputs = result.stdout.split(mark)
    for example, output in zip(shown, outputs, strict=False):
        for line in example.answer.splitlines():
            assert _like(line).search(output), f"not in the output: {line}\n{output}"


def _like(line: str) -> re.Pattern[str]:
    """The line, with anything where figures and left-out parts stand."""
    return re.compile(".*?".join(re.escape(part) for part in _CHANGING.split(line.strip())))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)\s]+)\)", document.read_text()):
        path, _, anchor = target.partition("#")
        found = (document.parent / path).resolve()
        assert found.exists(), f"{document.name} points to {target}"
        if anchor and found.suffix == ".md":
            assert anchor in _anchors(found), f"{document.name} points to {target}"


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_documented_commands_exist(document: Path) -> None:
    named = set(re.findall(r"manage\.py ([a-z][a-z_]+)", document.read_text()))
    assert named <= set(get_commands()), f"{document.name} names {named - set(get_commands())}"


def test_every_setting_is_documented() -> None:
    settings = (CHECKOUT / "mem0stack" / "settings.py").read_text()
    read = set(re.findall(r'env\.\w+\(\s*"([A-Z0-9_]+)"', settings))
    example = set(re.findall(r"^#([A-Z0-9_]+)=", (CHECKOUT / ".env.example").read_text(), re.MULTILINE))
    documented = set(re.findall(r"`([A-Z0-9_]+)`", (CHECKOUT / "docs" / "configuration.md").read_text()))
    assert read | example <= documented, f"not in docs/configuration.md: {sorted((read | example) - documented)}"


def test_documents_name_every_route() -> None:
    routes = re.findall(r"^  (/api/v2/\S*):$", (CHECKOUT / "docs" / "openapi.yaml").read_text(), re.MULTILINE)
    text = (CHECKOUT / "docs" / "api.md").read_text()
    missing = [route for route in routes if re.sub(r"\{\w+\}", "{id}", route).removeprefix("/api/v2/") not in text]
    assert routes
    assert not missing, f"not in docs/api.md: {missing}"
