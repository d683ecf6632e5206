"""The package's public names load, and loading the package itself needs nothing but Python."""

import subprocess
import sys

import pytest

import LoraModel


@pytest.mark.parametrize("name", LoraModel.__all__)
def test_public_name_loads(name):
    assert getattr(LoraModel, name) is not None


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = LoraModel.nonsense


def test_import_alone_brings_no_torch():
    code = ("import LoraModel, sys; assert 'torch' not in sys.modules and 'numpy' not in sys.modules; assert 'inject' "
            "in dir(LoraModel)")
    subprocess.run([sys.executable, "-c", code], check=True)
