"""The option table: every default is valid, every bad value is refused with a reason."""

import math

import numpy as np
import pytest

from aopsam_ros.errors import OptionError
from aopsam_ros.options import OPTIONS, AsfOptions, SegmenterOptions, check


def test_table_and_dataclasses_name_the_same_options():
    groups = vars(SegmenterOptions())
    names = {f"{group}.{key}" for group, options in groups.items() for key in vars(options)}
    assert names == set(OPTIONS)
    assert list(SegmenterOptions().flat()) == list(OPTIONS)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("asf.smoothing_sigma", -0.1, "between 0 and 32"),
        ("asf.smoothing_sigma", math.nan, "finite"),
        ("asf.smoothing_sigma", 10**400, "finite"),
        ("asf.confidence_threshold", 1.01, "between 0 and 1"),
        ("asf.confidence_threshold", "0.3", "must be a number"),
        ("asf.min_spacing", 2.5, "whole number"),
        ("asf.min_spacing", True, "must be a number"),
        ("asf.batch_size", 0, "between 1 and"),
        ("asf.filtering", "papers", "one of paper, none"),
        ("asf.filtering", 1, "one of paper, none"),
        ("mask.min_area", None, "must be a number"),
        ("mask.area", 1, "unknown option"),
    ],
)
def test_bad_value_is_refused_with_a_reason(name, value, reason):
    with pytest.raises(OptionError, match=reason):
        check(name, value)
    with pytest.raises(OptionError, match=reason):
        SegmenterOptions().updated({name: value})


def test_numbers_become_the_table_type():
    options = AsfOptions(smoothing_sigma=3, min_spacing=np.int64(4))
    assert type(options.smoothing_sigma) is float
    assert type(options.min_spacing) is int


def test_updated_changes_only_what_is_named():
    before = SegmenterOptions()
    after = before.updated({"asf.min_spacing": 9, "mask.min_area": 3})
    changed = {n for n in OPTIONS if after.flat()[n] != before.flat()[n]}
    assert changed == {"asf.min_spacing", "mask.min_area"}
    assert before == SegmenterOptions()
