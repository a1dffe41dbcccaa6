"""The modules that a layer's file imports from its own folder, package or project: found without running code."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.system import InputError

FILES = {
    "cells/own.py": "import keras, os\nfrom helper import *\ndef f():\n    import spaces.deep as s\n    return s\n",
    "cells/helper.py": "import own_package.cells\nraise SystemExit('this must not run')\n",
    "cells/spaces/deep.py": "1 +\n",
    "cells/unused.py": "",
    "own_package/__init__.py": "from . import first\n",
    "own_package/first.py": "from .sub.second import x\n",
    "own_package/cells.py": "import seqmnist_tf\nfrom own_package.sub import second\n",
    "own_package/sub/__init__.py": "",
    "own_package/sub/second.py": "from ..first import y\nimport own_module\n",
    "own_module.py": "",
}
PACKAGE = {"__init__.py", "cells.py", "first.py", "sub/__init__.py", "sub/second.py"}


@pytest.fixture
def project(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which Python imports, with the files of a layer."""
    for name, text in FILES.items():
        (in_tmp / name).parent.mkdir(parents=True, exist_ok=True)
        (in_tmp / name).write_text(text)
    monkeypatch.syspath_prepend(in_tmp)
    return in_tmp


def configure(layer: str) -> cfg.Config:
    return cfg.with_values(cfg.Config(), {"model.layer": layer})


def test_what_a_layer_imports_of_its_own_is_found(project: Path) -> None:
    package = {f"own_package/{name}" for name in PACKAGE} | {"own_module.py"}
    file = cfg.read_layer(configure("cells/own.py:Own"))
    assert file is not None and set(file.imports) == {"helper.py", "spaces/deep.py", *package}
    module = cfg.read_layer(configure("own_package.cells:Own"))
    assert module is not None and set(module.imports) == package
    assert cfg.read_layer(configure("keras.layers:GRU")) is None and cfg.read_layer(configure("no.such:X")) is None
    for name, content in file.files.items():
        (project / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (project / "run" / name).write_bytes(content)
    copy = cfg.read_copy(project / "run")
    assert copy is not None and copy.files == file.files and copy.content == file.content


@pytest.mark.parametrize("name", ["cells/helper.py", "own_package/sub/second.py", "own_package/__init__.py"])
def test_each_of_them_counts_in_the_identity_of_the_layer(name: str, project: Path) -> None:
    config = configure("cells/own.py:Own")
    before = cfg.config_id(config)
    (project / "cells/unused.py").write_text("# changed\n")
    assert cfg.config_id(config) == before
    (project / name).write_text(FILES[name] + "# changed\n")
    assert cfg.config_id(config) != before
    (project / "cells/own.py").write_text("import keras\n")  # a file that imports nothing of its own: its content
    file = cfg.read_layer(config)
    assert file is not None and file.content == b"import keras\n"


def test_what_cannot_be_copied_is_named(project: Path) -> None:
    (project / "cells/helper.py").unlink()
    (project / "cells/helper.so").touch()
    with pytest.raises(InputError, match=r"cells/own.py:Own imports helper, and .*cells/helper.so is no Python source"):
        cfg.read_layer(configure("cells/own.py:Own"))
