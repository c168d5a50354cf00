"""The public names: what has a page in the reference, and must have a docstring."""

import functools
import importlib
import inspect

__all__ = ["PACKAGES", "found", "members", "names"]

PACKAGES = ["tfresflow", "tfresflow.autodiff", "tfresflow.functions", "tfresflow.importance",
            "tfresflow.layers", "tfresflow.logdet", "tfresflow.losses", "tfresflow.optimizers",
            "tfresflow.seeds", "tfresflow.serving", "tfresflow.solvers", "tfresflow.targets",
            "tfresflow.threads", "bijectors", "bijectors.density", "bijectors.flows"]


def found(package):
    """The module or the attribute of a dotted name."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError:
        parent, _, name = package.rpartition(".")
        return getattr(importlib.import_module(parent), name)


def members(package):
    """`{dotted name: class or function}` of what a package offers."""
    module = found(package)
    return {f"{package}.{name}": getattr(module, name) for name in module.__all__
            if not inspect.ismodule(getattr(module, name))}


def names():
    """All public names, and those of the methods and properties that classes of ours define."""
    for package in PACKAGES:
        yield package
        for name, thing in members(package).items():
            yield name
            if inspect.isclass(thing):
                yield from (f"{name}.{method}" for method, value in vars(thing).items()
                            if method[0] != "_" and value.__doc__ and _is_method(value))


def _is_method(value):
    return inspect.isroutine(value) or isinstance(value, (property, functools.cached_property))
