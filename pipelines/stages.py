"""Keep the source files in `dvc.yaml` exact: `python -m pipelines.stages` compares, `--write` corrects.

A stage depends on every file of this repository that its step can reach by its imports (at the top of a module or inside
a function) or by name, and on nothing else: too few and DVC calls stale results up to date, too many and it trains again for nothing.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

STEPS = ("ingest", "validate", "preprocess", "train", "evaluate", "register")

SEARCHED = ("gateline.tasks", "gateline.cells")
"""Packages that search themselves for modules at run time: whoever imports the package may run any module of it."""

SOURCES = {"gateline": "src/gateline", "components": "components"}
"""Folder of each package, as seen from the repository's root."""


LONGEST_NAME = 120  # a longer string is text, not the name of a file


class Sources:
    """The source files of the repository, and who imports whom.

    Args:
        root: the repository.
    """

    def __init__(self, root: Path) -> None:
        import grimp

        self.root = root
        self._graph: Any = grimp.build_graph(
            *SOURCES, include_external_packages=False, exclude_type_checking_imports=True, cache_dir=None
        )
        self._files = {
            path.relative_to(root).as_posix()
            for folder in SOURCES.values()
            for path in (root / folder).rglob("*")
            if path.is_file() and path.suffix != ".pyc" and path.name != "py.typed"
        }
        self._modules = {file: module_of(file) for file in self._files if file.endswith(".py")}
        self._file_of = {module: file for file, module in self._modules.items()}
        self._by_name: dict[str, set[str]] = {}
        for file in self._files:
            if not file.endswith(("/__init__.py", "/__main__.py")):
                self._by_name.setdefault(PurePosixPath(file).name, set()).add(file)

    def of_step(self, step: str) -> set[str]:
        """List the files that a step can reach.

        Reached is what a reached file imports; a module, package or file whose name stands as a string in it (that is
        how templates, scripts and modules chosen by a setting are found); and the packages around a module.
        """
        start = f"components/{step}/__main__.py"
        if start not in self._files:
            raise FileNotFoundError(f"{start}: the command line of the step is not there")
        reached: set[str] = set()
        ahead = {start}
        while ahead:
            file = ahead.pop()
            reached.add(file)
            ahead |= (self._imported_by(file) | self._named_in(file)) - reached
        return reached

    def data_files(self) -> set[str]:
        """List the files of the packages that are no Python files, e.g. templates."""
        return {file for file in self._files if not file.endswith(".py")}

    def _imported_by(self, file: str) -> set[str]:
        module = self._modules.get(file)
        if module is None:
            return set()
        imported = set(self._graph.find_modules_directly_imported_by(module))
        imported |= self._inside(module) if module in SEARCHED else {module.rpartition(".")[0]}
        return {self._file_of[each] for each in imported if each in self._file_of}

    def _named_in(self, file: str) -> set[str]:
        found: set[str] = set()
        for word in words_of(self.root / file):
            if word in self._file_of:
                found.add(self._file_of[word])
            elif (
                word.endswith(".") and word.count(".") > 1 and word[:-1] in self._file_of
            ):  # f"gateline.scoring.{task}"
                found |= {self._file_of[each] for each in self._inside(word[:-1])}
            else:
                found |= self._by_name.get(PurePosixPath(word).name if len(word) < LONGEST_NAME else "", set())
        return found

    def _inside(self, package: str) -> set[str]:
        return {package, *(str(module) for module in self._graph.find_descendants(package))}


def module_of(file: str) -> str:
    """Name the module of a Python file, e.g. ``gateline.cells`` of ``src/gateline/cells/__init__.py``."""
    (package, folder) = next((package, folder) for package, folder in SOURCES.items() if file.startswith(f"{folder}/"))
    return (package + file.removeprefix(folder).removesuffix(".py").replace("/", ".")).removesuffix(".__init__")


def words_of(path: Path) -> list[str]:
    """List the strings of a Python file; of a data file, what stands between quotes."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return re.findall(r"""["']([^"'\n]+)["']""", text)
    return [
        node.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def is_source(dependency: str) -> bool:
    """Tell a source file of a stage from an artifact that it reads."""
    return any(dependency == folder or dependency.startswith(f"{folder}/") for folder in SOURCES.values())


def covered(root: Path, dependencies: Iterable[str]) -> set[str]:
    """List the files behind the source dependencies of a stage; a folder stands for every file in it."""
    files: set[str] = set()
    for dependency in filter(is_source, dependencies):
        path = root / dependency
        inside = (
            [each for each in path.rglob("*") if each.is_file() and each.suffix != ".pyc"] if path.is_dir() else [path]
        )
        files |= {each.relative_to(root).as_posix() for each in inside}
    return files


def differences(root: Path, stages: dict[str, Any]) -> list[str]:
    """Say which lines to add to or to remove from the deps of each stage, or nothing."""
    sources, lines = Sources(root), []
    for step in STEPS:
        expected, found = sources.of_step(step), covered(root, stages[step]["deps"])
        lines += [f"{step}: add      - {path}" for path in sorted(expected - found)]
        lines += [f"{step}: remove   - {path}" for path in sorted(found - expected)]
    return lines


def correct(root: Path) -> None:
    """Write the source files of every stage into `dvc.yaml`; the rest of it, comments too, stays."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    path, sources = root / "dvc.yaml", Sources(root)
    content = yaml.load(path)
    for step in STEPS:
        stage = content["stages"][step]
        artifacts = [dependency for dependency in stage["deps"] if not is_source(dependency)]
        stage["deps"] = artifacts + sorted(sources.of_step(step))
    yaml.dump(content, path)


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, or correct."""
    flags = argparse.ArgumentParser(prog="python -m pipelines.stages", description=__doc__)
    flags.add_argument("--write", action="store_true", help="correct dvc.yaml")
    args = flags.parse_args(argv)
    root = Path(__file__).resolve().parent.parent
    if args.write:
        correct(root)
    import yaml

    lines = differences(root, yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"])
    for line in lines:
        print(line)
    print(
        "dvc.yaml: run `python -m pipelines.stages --write`" if lines else "dvc.yaml: the deps of every stage are exact"
    )
    return 2 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
