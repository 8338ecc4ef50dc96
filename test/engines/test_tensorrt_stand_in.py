"""The stand-in has no name that the real module of its version lacks.

`tensorrt_names.json` holds the public names of the real Python modules, by version and class.
"""

import json
from pathlib import Path

import pytest

from support.stand_in.cuda import StandInDriver
from support.stand_in.tensorrt import VERSIONS, make_module

NAMES = json.loads(Path(__file__).with_name("tensorrt_names.json").read_text())


def names_of(kind):
    own = {name for base in kind.__mro__[:-1] for name in vars(base)} - set(dir(bytes))
    if hasattr(kind, "__members__"):
        own = set(kind.__members__)
    return {name for name in own if not name.startswith("_")}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_is_a_real_one(version):
    module = make_module(version, StandInDriver())
    real = {kind: set(names.split()) for kind, names in NAMES[version].items()}
    classes = {n: v for n, v in vars(module).items() if isinstance(v, type)}
    assert set(classes) <= set(real)
    for name, kind in classes.items():
        assert names_of(kind) <= real[name], name
