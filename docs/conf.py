"""The site, `make docs`: its tutorials and its gallery are programs, run when it is built."""

import inspect
import pathlib
import re
import sys

import keras
import latex2mathml.converter
import tensorflow_probability as tfp
from docutils import nodes

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from public import PACKAGES, found, members, names  # noqa: E402

import tfresflow  # noqa: E402
from train import flags  # noqa: E402

# Some packages are an attribute of `tfresflow`, and have another name as a file.
for package in PACKAGES:
    sys.modules.setdefault(package, found(package))

project = "tfresflow"
author = "the tfresflow authors"
copyright = "the tfresflow authors, Apache-2.0"
release = version = tfresflow.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon",
              "sphinx.ext.viewcode", "sphinx_copybutton", "sphinx_design"]
exclude_patterns = ["conf.py", "public.py", "_templates", "_static"]
templates_path = ["_templates"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
nb_output_stderr = "remove"  # what TensorFlow says about processors and tracing
copybutton_exclude = ".linenos, .gp, .go"

autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autoclass_content = "class"
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"tfresflow {version}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_math_renderer = "mathml"

_ELSEWHERE = {"tf": "https://www.tensorflow.org/api_docs/python/",
              "keras": "https://www.tensorflow.org/api_docs/python/tf/",
              "tfp": "https://www.tensorflow.org/probability/api_docs/python/"}
_PUBLIC = set(names())
_CLASSES = {thing: name for package in PACKAGES for name, thing in members(package).items()
            if inspect.isclass(thing)}
_CODE = re.compile(r"(?<![`:\w])`([^`]+)`(?!`)(?=(\w?))")
_BASES = {keras.Model: "keras.Model", keras.layers.Layer: "keras.layers.Layer",
          tfp.bijectors.Bijector: "tfp.bijectors.Bijector"}


def as_rst(app, what, name, obj, options, lines):
    """Docstrings are written as plain text with code in backticks; names in them become links."""
    del app, what, obj, options
    text = re.sub(r"^( *)```python\n(.*?)^ *```$", _block, "\n".join(lines), flags=re.S | re.M)
    text = re.sub(r"(?<![\\`*])\*\*kwargs", r"\*\*kwargs", text)
    parts = [part if ">>> " in part else
             _CODE.sub(lambda at: _role(at[1], name) + "\\ " * bool(at[2]), part)
             for part in text.split("\n\n")]
    lines[:] = "\n\n".join(parts).split("\n")


def _block(found):
    return found[1] + ".. code-block:: python\n\n" + re.sub("^", "    ", found[2], flags=re.M)


def _role(code, where):
    packages = [where.rsplit(".", i)[0] for i in range(1, where.count(".") + 1)]
    for prefix in ["", "tfresflow.", *(f"{package}." for package in packages)]:
        if prefix + code in _PUBLIC:
            return f":py:obj:`{code} <{prefix}{code}>`"
    if re.fullmatch(r"(tf|keras|tfp)(\.\w+)+", code):
        return f":py:obj:`{code}`"
    return f"``{code}``"


def constructor(app, what, name, obj, options, signature, annotation):
    """Keras gives its classes a `__new__` of any arguments: `__init__` says which."""
    del app, name, options
    if what == "class" and signature and signature.startswith("(*args"):
        of_init = inspect.signature(obj.__init__)
        signature = str(of_init.replace(parameters=list(of_init.parameters.values())[1:]))
    return signature, annotation


def is_no_method(app, what, name, obj, skip, options):
    """Leaves out what Keras and TFP define, and defaults of fields that are functions."""
    del app, name, options
    function = getattr(obj, "fget", None) or getattr(obj, "func", None) or obj
    module = getattr(function, "__module__", None) or "tfresflow"
    default = inspect.isfunction(obj) and "." not in obj.__qualname__
    foreign = module.split(".")[0] not in ("tfresflow", "bijectors")
    return True if what == "class" and (default or foreign) else skip


def public_bases(app, name, obj, options, bases):
    """Of the classes that one is derived from, those that a reader can look up."""
    del app, name, obj, options
    bases[:] = list(dict.fromkeys(shown for base in bases for shown in _shown(base))) or [object]


def _shown(base):
    if base in _BASES:
        return [f":py:class:`{_BASES[base]}`"]
    if base in _CLASSES:
        return [f":py:class:`{_CLASSES[base]}`"]
    return [shown for above in getattr(base, "__bases__", ()) for shown in _shown(above)]


def elsewhere(app, env, node, contnode):
    """TensorFlow, Keras and TFP publish no inventory; their pages are found by name."""
    del app, env
    target = node.get("reftarget", "").replace("tensorflow.python.framework.tensor.", "tf.")
    package = target.split(".")[0]
    if package in _ELSEWHERE:
        uri = _ELSEWHERE[package] + target.replace(".", "/")
        return nodes.reference("", "", contnode, refuri=uri, internal=False)
    return None


def mathml(writer, node):
    """Formulas that browsers show by themselves, without a script from elsewhere."""
    display = "block" if isinstance(node, nodes.math_block) else "inline"
    formula = latex2mathml.converter.convert(node.astext(), display=display)
    space = '<mspace width="0.17em"/>'  # around the names of functions, as TeX has it
    writer.body.append(
        re.sub(r"<m[io][^>]*>[A-Za-z]{2,}</m[io]>", rf"{space}\g<0>{space}", formula))
    raise nodes.SkipNode


def write_flags(app):
    """The text of --help, for the guide of the command line."""
    generated = pathlib.Path(app.srcdir) / "reference" / "generated"
    generated.mkdir(exist_ok=True)
    (generated / "flags.txt").write_text(flags.usage())


def setup(app):
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))
    app.connect("builder-inited", write_flags)
    app.connect("autodoc-process-docstring", as_rst, priority=600)
    app.connect("autodoc-process-signature", constructor)
    app.connect("autodoc-skip-member", is_no_method)
    app.connect("autodoc-process-bases", public_bases)
    app.connect("missing-reference", elsewhere)
