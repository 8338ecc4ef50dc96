"""Importing the authors' code: from an installed package, or from a checkout."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from aopsam_ros.errors import EngineError, InputError


def import_part(package: str, module: str, source: Path | None, remedy: str) -> ModuleType:
    """Import a module of a package without the package's own `__init__`.

    That often imports much more than the networks: predictors, and with them torchvision.

    Args:
        package: its name, or below a checkout the path of its folder, such as "edge_sam/modeling".
        module: inside it, with dots.
        source: a checkout; None: the package is installed.
        remedy: what brings the code.

    Raises:
        InputError: if the checkout has no such package.
        EngineError: if the package, or another one that it imports, is not installed.
    """
    folder = _folder(package, source, remedy)
    alias = f"_authors_{package.replace('/', '_')}"
    bare = ModuleType(alias)
    bare.__path__ = [str(folder)]
    sys.modules[alias] = bare
    return _import(f"{alias}.{module}", remedy)


def import_whole(module: str, source: Path | None, remedy: str) -> ModuleType:
    """Import a module under its own name; arguments and errors as `import_part`."""
    package = module.partition(".")[0]
    folder = str(_folder(package, source, remedy).parent)
    loaded = sys.modules.get(package)
    if source is not None and loaded is not None and str(Path(source)) not in str(loaded.__path__):
        raise InputError(f"{source}: another package called {package} is in use; start anew")
    sys.path.insert(0, folder)
    try:
        return _import(module, remedy)
    finally:
        sys.path.remove(folder)


def _folder(package: str, source: Path | None, remedy: str) -> Path:
    if source is not None:
        folder = source / package
        if not folder.is_dir():
            raise InputError(f"{source}: holds no folder {package}; needed: {remedy}")
        return folder.resolve()
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise EngineError(f"the authors' code is needed, their package {package}: {remedy}")
    return Path(next(iter(spec.submodule_search_locations)))


def _import(module: str, remedy: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EngineError(f"the authors' code cannot be imported ({error}): {remedy}") from error
