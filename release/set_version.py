"""Sets the version of all distributions, and of each other that they require: python release/set_version.py 0.2.0"""

from __future__ import annotations

import re
import sys

from check_distributions import projects


def main(version: str) -> None:
    """Rewrite each pyproject.toml."""
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        sys.exit(f"{version!r}: must be like 1.2.3 or 1.2.3rc1")
    for project in projects():
        path = project / "pyproject.toml"
        text = re.sub(r'^version = "[^"]*"$', f'version = "{version}"', path.read_text(), count=1, flags=re.MULTILINE)
        path.write_text(re.sub(r'"(offloop[\w-]*(?:\[[^]]*\])?) >= [\w.]+"', rf'"\1 >= {version}"', text))
        print(f"{path}: {version}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
