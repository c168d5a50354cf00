"""Two virtual CPUs for the tests of distribution, and repeatable randomness."""

import ctypes
import gc

from train import environment

environment.prepare()

import keras  # noqa: E402
import psutil  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402

from tests import registry  # noqa: E402
from tests.allocator import in_a_process_that_counts  # noqa: E402
from tests.command import ROOT  # noqa: E402

_LIBC = ctypes.CDLL(None)
_CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(_CPU, [tf.config.LogicalDeviceConfiguration()] * 2)
tf.config.threading.set_intra_op_parallelism_threads(1)  # pytest's processes share the cores


_MANY, _EVERY = 4, 8
_ALL_CASES = "test_documented", "test_reproduce", "test_workers"

# With and without what is slow.
_LONGEST = ["test_workers", "test_reproduce", "test_registry", "test_autodiff", "test_main",
            "test_distributed", "test_interrupted", "test_faults", "test_logdet", "test_xla",
            "test_second_derivatives", "test_engine", "test_averages", "test_inverses",
            "test_norms", "test_model", "test_given", "test_units", "test_serving"]


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is slow
def pytest_collection_modifyitems(config, items):
    """Files that take minutes come first: a file is one process's, and the others must not wait."""
    said, there = {}, {}
    for item in items:
        if item.get_closest_marker("exhaustive"):
            item.add_marker(pytest.mark.slow)
        for fast in item.iter_markers("fast"):
            case, but = item.callspec.id, fast.kwargs.get("but")
            said[item.path, item.originalname] = {*fast.args, *(but or ())}
            there.setdefault((item.path, item.originalname), set()).add(case)
            if case in but if but else case not in fast.args:
                item.add_marker(pytest.mark.slow)
    unknown = {name: cases - there[name] for name, cases in said.items() if cases - there[name]}
    if unknown and not any("::" in argument for argument in config.args):  # else not all are there
        raise pytest.UsageError(f"`fast` must name cases that there are. Received: {unknown}")
    _thin_out(items)
    place = {name: i for i, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


def _thin_out(items):
    """Of a test with many slow cases CI runs every eighth, another one of each law.

    A law is tried on all kinds of flows, and a flow by all laws, in fast cases and in those; the
    others are there before a release (CONTRIBUTING.md).
    """
    slow = {}
    for item in items:
        if item.get_closest_marker("slow") and item.get_closest_marker("parametrize") and (
                item.path.stem not in _ALL_CASES):
            slow.setdefault((item.path.stem, item.originalname), []).append(item)
    for (_, name), cases in slow.items():
        first = sum(map(ord, name)) % len(cases)
        for i, item in enumerate(cases if len(cases) > _MANY else []):
            if (i - first) % _EVERY:
                item.add_marker(pytest.mark.exhaustive)


def pytest_collection_finish():
    """What was imported stays: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)  # before fixtures of whole files
def pytest_runtest_setup(item):
    """TensorFlow optimises graphs, which takes more time than they; not of a law's slow cases.

    What was traced the other way rounds in another way, and goes.
    """
    marks = {mark.name for mark in item.iter_markers()}
    as_they_are = "slow" in marks and not marks & {"allocator", "optimised"}
    if as_they_are != tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer"):
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": as_they_are})
        registry.let_go()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Tests of memory run where it can be measured."""
    return in_a_process_that_counts(pyfuncitem) or None


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """What was traced goes after the last case of a test, where a process has become large."""
    done = nextitem is None or nextitem.originalname != item.originalname
    if done and psutil.Process().memory_info().rss > 2 ** 31:
        registry.let_go()
        gc.collect()
        if hasattr(_LIBC, "malloc_trim"):  # glibc keeps what is freed
            _LIBC.malloc_trim(0)


@pytest.fixture(autouse=True)
def seeded():
    """Fixed seeds for every test."""
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch):
    """The configs are named from the project's folder."""
    monkeypatch.chdir(ROOT)


@pytest.fixture
def only_train(monkeypatch):
    """`train` ends without evaluation and samples, at which other tests look."""
    from train import fit
    monkeypatch.setattr(fit, "report", lambda settings: None)


@pytest.fixture(scope="session")
def mirrored():
    """Two replicas; one for all tests, as TensorFlow mixes up the sums of several."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
