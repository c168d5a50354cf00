"""Imports run one way: tfresflow <- bijectors <- train, and rooms keep to themselves."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FORBIDDEN = {"tfresflow": {"bijectors", "train", "tests", "tensorflow_probability", "absl"},
             "bijectors": {"train", "tests", "absl"}, "train": {"tests"}}
ROOMS = {path.name for path in (ROOT / "tfresflow").iterdir() if (path / "__init__.py").exists()}
# The rooms of `tfresflow`, from the ground up: each may use those on lower floors.
FLOORS = [{"checks", "saving"}, {"batches"}, {"functions"},
          {"layers", "solvers", "logdet", "targets", "importance", "autodiff"}, {"losses"},
          {"training"}]


def imports(path):
    """Dotted names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_imports_finds_them(tmp_path):
    (tmp_path / "a.py").write_text("import x.y\ndef f():\n    from train import fit\n")
    assert list(imports(tmp_path / "a.py")) == ["x.y", "train", "train.fit"]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_import_upstairs(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    wrong = [(str(f.relative_to(ROOT)), name) for f in files for name in imports(f)
             if name.split(".")[0] in FORBIDDEN[package]]
    assert not wrong


def test_every_room_has_a_floor():
    assert ROOMS == set().union(*FLOORS)


@pytest.mark.parametrize("floor, room", [(i, room) for i, rooms in enumerate(FLOORS)
                                         for room in sorted(rooms)])
def test_rooms_use_those_below(floor, room):
    allowed = {room}.union(*FLOORS[:floor])
    wrong = [(f.name, name) for f in (ROOT / "tfresflow" / room).rglob("*.py")
             for name in imports(f) if name.startswith("tfresflow.")
             and name.split(".")[1] not in allowed]
    assert not wrong


@pytest.mark.parametrize("package", FORBIDDEN)
def test_flags_are_read_in_one_place(package):
    readers = [f.name for f in (ROOT / package).rglob("*.py")
               if any(name.startswith("absl.flags") or name == "absl.flags" for name in imports(f))]
    assert set(readers) <= {"flags.py", "main.py"}
