"""Builds all distributions, and checks them as a user gets them: python release/check_distributions.py [--python 3.12 ...]

Builds a source distribution and a wheel of each, checks metadata and contents, installs the wheels into an empty environment
for each Python, uses them there without this repository, and type-checks a program of a user with pyright and mypy. Requires
the extra `release`. Everything is written below build/release.

With `--compile`, it builds a compiled wheel of offloop for each Python, too, and runs the tests of its core from it.
`--compiled` takes wheels that were built already.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "release"
DISTRIBUTIONS = FOLDER / "dist"
COMPILED = FOLDER / "compiled"
PHOTO = ROOT / "docs" / "photos" / "coffee.webp"

CONSUMER = """from offloop import Outcome, Pool, Result
from offloop_vips import Resize, Webp


async def thumbnail(pool: Pool, picture: bytes) -> bytes:
    result: Result = await pool.run(picture, [Resize(320), Webp(quality=80)], timeout=10)
    return bytes(result)


async def all_of(pool: Pool, pictures: list[bytes]) -> list[Outcome[bytes]]:
    async with pool.map(pictures, [Resize(320), Webp()]) as outcomes:
        return [outcome async for outcome in outcomes]
"""
WRONG = 'from offloop import Pool\n\npool = Pool(workers="four")\n'  # an error that only a typed package shows

USE = """
import asyncio, importlib, json, sys
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path

modules = json.loads(sys.argv[1])
for name in modules:
    module = importlib.import_module(name)
    assert not module.__file__.startswith(sys.argv[2]), module.__file__
    assert (files(name) / "py.typed").is_file(), name

from offloop import Pool
from offloop_vips import Resize, Webp

async def main():
    async with Pool(1) as pool:
        result = await pool.run(Path(sys.argv[3]), [Resize(16), Webp()])
        assert (result.info.media_type, result.info.width) == ("image/webp", 16)

asyncio.run(main())
"""


USE_COMPILED = """
import asyncio, importlib, json, sys

for name in json.loads(sys.argv[1]):
    module = importlib.import_module(name)
    assert module.__file__.endswith(".so"), module.__file__

from offloop import Pool
from offloop.testing.faults import Echo, FaultsPlugin

async def main():
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        assert bytes(await pool.run(b"abc", [Echo()])) == b"abc"

asyncio.run(main())
"""
TEST_PACKAGES = ("hypothesis", "numpy", "pytest", "pytest-randomly", "pytest-timeout", "pytest-xdist", "trio")


def projects() -> list[Path]:
    """The folder of each distribution."""
    return [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml")), ROOT / "docs/examples/visualizer"]


def run(*command: str | Path, cwd: Path = FOLDER, expected: int = 0, **variables: str) -> str:
    """The output of a command. Ends this program if its exit code is another one."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != expected:
        sys.exit(f"{' '.join(str(part) for part in command)}: exit code {done.returncode}\n{done.stdout}")
    return done.stdout


def build() -> list[Path]:
    """Build everything. Returns the wheels."""
    for project in projects():
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", DISTRIBUTIONS, project)
    wheels = sorted(DISTRIBUTIONS.glob("*.whl"))
    assert len(wheels) == len(projects()) == len(list(DISTRIBUTIONS.glob("*.tar.gz")))
    return wheels


def check_contents(wheels: list[Path]) -> None:
    """Check metadata, and that nothing is missing or superfluous."""
    run(sys.executable, "-m", "twine", "check", "--strict", *sorted(DISTRIBUTIONS.iterdir()))
    # W002: an empty module and an empty py.typed are equal files
    run(Path(sys.executable).with_name("check-wheel-contents"), "--ignore", "W002", *wheels)
    for wheel in wheels:
        names = ZipFile(wheel).namelist()
        assert [name for name in names if name.endswith("/py.typed")], f"{wheel.name} has no py.typed"
        if wheel.name.startswith(("offloop-", "offloop_onnx-")):  # the others have no file of a licence
            assert [name for name in names if "/licenses/" in name], f"{wheel.name} has no licence"
    for archive in DISTRIBUTIONS.glob("*.tar.gz"):
        with tarfile.open(archive) as files:
            names = files.getnames()
        assert [name for name in names if name.endswith("/pyproject.toml")]
        assert not [name for name in names if "/.venv" in name or "__pycache__" in name or "/build/" in name], archive.name


def check_install(python: str, wheels: list[Path]) -> None:
    """Install the wheels into an empty environment of this Python, and use them as a user does."""
    home = FOLDER / f"environment-{python}"
    extras = {"offloop": "[asgi,cli,otel,prometheus]", "offloop_page": "[live,storage]", "offloop_visualizer": "[video]"}
    wanted = [
        f"{wheel.name.split('-')[0].replace('_', '-')}{extras.get(wheel.name.split('-')[0], '')} @ {wheel.as_uri()}"
        for wheel in wheels
    ]
    inside = new_environment(python, home, *wanted)
    modules = [wheel.name.split("-")[0] for wheel in wheels]
    run(inside, "-I", "-c", USE, json.dumps(modules), str(ROOT / "src"), PHOTO)
    report = json.loads(run(home / "bin" / "offloop", "doctor", "--json"))
    assert report["usable"], report["problems"]
    assert {"vips", "onnx", "visualizer"} <= {plugin["name"] for plugin in report["examination"]["plugins"]}
    assert "page" in run(home / "bin" / "offloop", "--help")
    check_cluster(home)
    check_types(home)
    print(f"Python {python}: {len(wheels)} wheels are installed, found, used and typed")


def check_cluster(home: Path) -> None:
    """Run the commands of docs/cluster.md for a cluster on a laptop as they stand there, and a batch on it."""
    page = (ROOT / "docs" / "cluster.md").read_text()
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    blocks = [text for language, text in found if not language]
    (start,) = [block for block in blocks if "dask scheduler" in block]
    (use,) = [block for block in blocks if "s3://photos" in block]
    folder = home / "cluster"
    (folder / "pictures").mkdir(parents=True)
    shutil.copy(PHOTO, folder / "pictures")
    use = use.replace("s3://photos/2026", f"file://{folder}/pictures").replace("s3://thumbnails", f"file://{folder}/small")
    script = f'PATH="{home}/bin:$PATH"\n{start}{use}status=$?\nkill $(jobs -p)\nwait\nexit $status\n'
    run("bash", "-uc", script, cwd=folder)
    assert (folder / "small" / PHOTO.name).is_file()


def check_types(home: Path) -> None:
    """Check that type checkers see the types of the installed packages: a right program passes, and a wrong one does not."""
    consumer = home / "consumer"
    consumer.mkdir()
    (consumer / "right.py").write_text(CONSUMER)
    (consumer / "wrong.py").write_text(WRONG)
    (consumer / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    inside = home / "bin" / "python"
    for name, expected in (("right.py", 0), ("wrong.py", 1)):
        run(sys.executable, "-m", "pyright", "--pythonpath", inside, name, cwd=consumer, expected=expected)
        run(sys.executable, "-m", "mypy", "--strict", "--python-executable", inside, name, cwd=consumer, expected=expected)


def build_compiled(python: str) -> Path:
    """Build a compiled wheel of offloop with this Python."""
    home = FOLDER / f"builder-{python}"
    inside = new_environment(python, home, "build")
    run(inside, "-m", "build", "--wheel", "--outdir", COMPILED, ROOT, HATCH_BUILD_HOOKS_ENABLE="true")
    (wheel,) = COMPILED.glob(f"offloop-*-cp{python.replace('.', '')}-*.whl")
    return wheel


def check_compiled(wheel: Path, *, with_tests: bool) -> None:
    """Check that the wheel has each compiled module beside its source, and that these are loaded where it is installed."""
    python = re.sub(r".*-cp(\d)(\d+)-.*", r"\1.\2", wheel.name)
    run(sys.executable, "-m", "twine", "check", "--strict", wheel)
    # mypyc's library of all modules is beside the package (W009), and its name is a hash, which may begin with a digit (W004)
    run(Path(sys.executable).with_name("check-wheel-contents"), "--ignore", "W002,W004,W009", wheel)
    names = ZipFile(wheel).namelist()
    paths = [name.partition(".")[0] for name in names if name.startswith("offloop/") and name.endswith(".so")]
    assert len(paths) > 40, paths  # noqa: PLR2004 (all of the core, and more)
    assert {f"{path}.py" for path in paths} <= set(names)
    packages = TEST_PACKAGES if with_tests else ()
    inside = new_environment(python, FOLDER / f"compiled-{python}", f"offloop @ {wheel.as_uri()}", *packages)
    run(inside, "-I", "-c", USE_COMPILED, json.dumps([path.replace("/", ".") for path in paths]))
    if with_tests:
        run(inside, "-m", "pytest", "-p", "no:cacheprovider", "tests/core", "tests/wire", cwd=ROOT)
    print(f"Python {python}: {len(paths)} compiled modules are installed, loaded and used")


def new_environment(python: str, home: Path, *packages: str) -> Path:
    """The interpreter of a new environment with these packages."""
    run(interpreter(python), "-m", "venv", "--without-pip", home)
    inside = home / "bin" / "python"
    pip = sys.executable if has_pip() else "python3"
    run(pip, "-m", "pip", "--python", inside, "install", "-q", *packages)
    return inside


def has_pip() -> bool:
    """Whether the running Python has pip."""
    return subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


def interpreter(version: str) -> str:
    """The interpreter of a version, also where pyenv provides several."""
    if f"{sys.version_info[0]}.{sys.version_info[1]}" == version:
        return sys.executable
    if shutil.which("pyenv"):
        found = subprocess.run(["pyenv", "prefix", version], capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return f"{found.stdout.strip()}/bin/python"
    name = shutil.which(f"python{version}")
    if name is None:
        sys.exit(f"there is no Python {version} here")
    return name


def check_versions() -> None:
    """Check that all distributions have one version, and depend on each other's."""
    versions: set[str] = set()
    for project in projects():
        described = tomllib.loads((project / "pyproject.toml").read_text())["project"]
        versions.add(described["version"])
        texts = [
            *described["dependencies"],
            *(text for texts in described.get("optional-dependencies", {}).values() for text in texts),
        ]
        versions |= {found[1] for text in texts if (found := re.match(r"offloop[\w-]*(?:\[[^]]*\])? >= ([\d.]+)", text))}
    assert len(versions) == 1, f"several versions: {versions}"


def main() -> None:
    """Run all checks."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", nargs="*", default=[here], help="versions to install for, such as 3.11 3.12 3.13")
    parser.add_argument("--compile", action="store_true", help="build and check a compiled wheel for each of them, too")
    parser.add_argument("--compiled", nargs="*", type=Path, default=[], help="compiled wheels that were built already")
    arguments = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    DISTRIBUTIONS.mkdir(parents=True)
    check_versions()
    wheels = build()
    check_contents(wheels)
    for python in arguments.python:
        check_install(python, wheels)
        if arguments.compile:
            check_compiled(build_compiled(python), with_tests=True)
    for wheel in arguments.compiled:
        check_compiled(wheel.resolve(), with_tests=False)


if __name__ == "__main__":
    main()
