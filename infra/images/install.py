"""Install packages while an image is built, see Dockerfile; runs on the base image's Python alone.

install.py EXTRA ... [--torch cpu|cuda]      what these extras of pyproject.toml need, into /venv
install.py --library DIR --prefix DIR        the library without what it needs
install.py --remove-pip                      so that nothing can be installed any more
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterable
from pathlib import Path

BASE_PYTHON = Path(sys.executable).resolve()  # of the base image: /venv has no pip
PYTHON, WHEELS, CERTIFICATE = "/venv/bin/python", Path("/wheels"), Path("/run/secrets/ca.crt")
LOCK, PROJECT = Path("/build/requirements.lock"), Path("/build/pyproject.toml")
INSTALLERS = ("pip", "setuptools", "wheel", "pkg_resources", "_distutils_hack")
OWN_EXTRAS = re.compile(r"gateline\[(.+)\]")


def requirements(extras: Iterable[str], project_file: Path = PROJECT) -> list[str]:
    """What the extras need, those that they name in turn with them, and what every step needs."""
    project = tomllib.loads(project_file.read_text(encoding="utf-8"))["project"]
    known, wanted, found = project["optional-dependencies"], list(extras), list(project["dependencies"])
    for extra in wanted:  # grows while it is read
        for requirement in known[extra]:
            own = OWN_EXTRAS.fullmatch(requirement)
            if own is None:
                found.append(requirement)
            else:
                wanted += [name for name in own[1].split(",") if name not in wanted]
    return found


def builds_of_torch(wanted: Iterable[str], torch: str | None) -> list[str]:
    """Ask for builds for CPU by their local name; those for CUDA have none on the public index."""
    return [f"{line}+cpu" if torch == "cpu" and line.startswith("torch==") else line for line in wanted]


def pip(*words: str) -> None:
    """Install into /venv, from the wheels that were given or from the index that pip's settings name."""
    command = [
        str(BASE_PYTHON),
        "-m",
        "pip",
        "--python",
        PYTHON,
        "install",
        "--quiet",
        "--no-compile",
        "--no-cache-dir",
    ]
    if WHEELS.is_dir() and any(WHEELS.glob("*.whl")):
        command += ["--no-index", "--find-links", str(WHEELS)]
    environment = {"PIP_CERT": str(CERTIFICATE)} if CERTIFICATE.is_file() else {}
    command += ["--disable-pip-version-check", *words]
    subprocess.run(command, check=True, env={**os.environ, **environment})  # noqa: S603  (pip, and words of this file)


def install(extras: list[str], torch: str | None) -> None:
    """Install what some extras need, in the versions of the lock; torch as a build for cpu, or for CUDA."""
    pip("--constraint", str(LOCK), *builds_of_torch(requirements(extras), torch))
    if torch == "cuda":
        check = "import sys, torch; sys.exit(torch.version.cuda is None)"
        if subprocess.run([PYTHON, "-c", check], check=False).returncode:  # noqa: S603
            sys.exit(
                "install.py: expected a build of torch for CUDA; found one for CPU. Give pip wheels or an index with one."
            )
    # Tests of libraries are a tenth of them.
    for folder in [path for path in Path("/venv/lib").rglob("tests") if path.is_dir()]:
        shutil.rmtree(folder, ignore_errors=True)
    compile_all("/venv")


def compile_all(folder: str) -> None:
    """Make bytecode now, by every processor: where the steps run, nothing can be written beside the source."""
    # Templates that are no Python are among the files, and are left alone.
    subprocess.run([PYTHON, "-m", "compileall", "-qq", "-j", "0", f"{folder}/lib"], check=False)  # noqa: S603


def remove_pip() -> None:
    """Remove pip, and what would bring it back."""
    library = Path(sysconfig.get_path("stdlib"))
    shutil.rmtree(library / "ensurepip", ignore_errors=True)
    shutil.rmtree("/usr/share/python-wheels", ignore_errors=True)
    for folder in (library, library / "site-packages", Path("/usr/lib/python3/dist-packages")):
        for name in INSTALLERS:
            for path in (folder / name, *folder.glob(f"{name}-*")):
                shutil.rmtree(path, ignore_errors=True)
    for folder in (Path("/usr/bin"), Path("/usr/local/bin")):
        for path in (*folder.glob("pip*"), *folder.glob("wheel*")):
            path.unlink()


def main() -> None:
    """Do what the flags say."""
    flags = argparse.ArgumentParser()
    flags.add_argument("extras", nargs="*")
    flags.add_argument("--torch", choices=("cpu", "cuda"))
    flags.add_argument("--library")
    flags.add_argument("--prefix")
    flags.add_argument("--remove-pip", action="store_true")
    args = flags.parse_args()
    if args.remove_pip:
        remove_pip()
    elif args.library:
        pip("--no-deps", "--prefix", args.prefix, args.library)
        compile_all(args.prefix)
    else:
        install(args.extras, args.torch)


if __name__ == "__main__":
    main()
