"""Every public name says what it is, and shows it in an example that runs."""

import doctest
import inspect
import sys

import keras
import pytest

from docs.public import PACKAGES, found, members

PUBLIC = {name: thing for package in PACKAGES for name, thing in members(package).items()}
OURS = ("tfresflow", "bijectors")


def methods(cls):
    """Those that a class of ours defines, but for what Keras, TFP or Python ask for by name."""
    others = [c for c in cls.__mro__ if c.__module__.split(".")[0] not in OURS]
    others.append(keras.layers.Layer)
    return {name: value for name, value in vars(cls).items() if not name.startswith("_")
            and (inspect.isroutine(value) or isinstance(value, property))
            and not any(hasattr(c, name) for c in others)}


@pytest.mark.parametrize("package", PACKAGES)
def test_packages(package):
    assert inspect.getdoc(found(package)) and members(package)


@pytest.mark.parametrize("name", PUBLIC)
def test_names_are_documented(name):
    thing = PUBLIC[name]
    assert thing.__doc__ and thing.__doc__.strip()
    if inspect.isclass(thing):
        for method in methods(thing):
            assert inspect.getdoc(getattr(thing, method)), method


@pytest.mark.parametrize("name", PUBLIC)
def test_names_have_an_example(name):
    assert ">>> " in PUBLIC[name].__doc__


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLIC)
def test_examples(name):
    tests = doctest.DocTestFinder(recurse=True).find(PUBLIC[name], name, globs={})
    assert sum(len(test.examples) for test in tests)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    said = []
    for test in tests:
        runner.run(test, out=said.append)
    assert not runner.summarize(verbose=False).failed, "".join(said)


def test_each_registered_name_is_of_one_class():
    """Keras loads by it: of two classes with one name, a file would bring back the other."""
    registered = {cls for module in list(sys.modules.values())
                  if getattr(module, "__name__", "").split(".")[0] in OURS
                  for cls in vars(module).values()
                  if inspect.isclass(cls) and cls.__module__.split(".")[0] in OURS
                  and ">" in keras.saving.get_registered_name(cls)}
    assert len(registered) > 60
    assert not [cls for cls in registered if keras.saving.get_registered_object(
        keras.saving.get_registered_name(cls)) is not cls]
