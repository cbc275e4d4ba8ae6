"""`offloop new-plugin`: writes a distribution with a plugin that works, and its tests."""

from __future__ import annotations

import re
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

import click

__all__ = ["new_plugin"]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_FILES = {
    "README.md": "README.md",
    "pyproject.toml": "pyproject.toml",
    "package.py": "src/$package/__init__.py",
    "plugin.py": "src/$package/plugin.py",
    "processor.py": "src/$package/processor.py",
    "tests.py": "tests/test_$module.py",
}
"""Templates, and the paths of the files that are made from them."""


@click.command("new-plugin")
@click.argument("name")
@click.option(
    "--into", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path(), help="Folder for the distribution."
)
def new_plugin(*, name: str, into: Path) -> None:
    """Write the distribution offloop-NAME: a plugin that works, and tests that pass.

    NAME is lower case: letters, digits and single hyphens, such as "ocr" or "audio-tags". Nothing that exists is changed.
    """
    if not _NAME.fullmatch(name):
        raise click.BadParameter(
            f"{name!r}: must be lower case letters, digits and single hyphens, and begin with a letter", param_hint="NAME"
        )
    folder = into / f"offloop-{name}"
    if folder.exists():
        raise click.ClickException(f"{folder} exists")
    names = {
        "distribution": f"offloop-{name}",
        "name": name,
        "module": name.replace("-", "_"),
        "package": f"offloop_{name.replace('-', '_')}",
        "title": "".join(word.capitalize() for word in name.split("-")),
        "version": version("offloop"),
    }
    for template, path in _FILES.items():
        _write(folder / Template(path).substitute(names), Template(_read(template)).substitute(names))
    _write(folder / "src" / names["package"] / "py.typed", "")
    click.echo(f'{folder}: next, cd {folder} && python -m pip install -e ".[dev]" && python -m pytest')


def _read(template: str) -> str:
    return (files("offloop.cli.scaffolding") / "templates" / f"{template}.template").read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
