"""One tensor of handles in place of a thousand captured variables."""

import numpy as np
import pytest
import tensorflow as tf

from tfresflow.training import packing as captures


def test_a_packed_call_does_what_the_function_does():
    """Reads, writes, arguments of all kinds, results of any structure, a trace a shape."""
    variables = [tf.Variable(float(i), dtype=("float32", "float64")[i % 2]) for i in range(6)]
    table = tf.constant([10.0, 20.0])  # captured, but no variable
    traces = []

    def step(pair, iterator):
        traces.append(pair[0].shape)
        x = next(iterator) + tf.reduce_sum(pair[0]) + pair[1]
        for v in variables:
            v.assign_add(tf.cast(x, v.dtype))
        return {"sum": tf.add_n([tf.cast(v, tf.float32) for v in variables]), "none": None,
                "ragged": tf.RaggedTensor.from_row_lengths(tf.fill([3], x), [1, 2]),
                "table": (tf.reduce_sum(table) + x, [x])}

    call = captures.pack_captures(tf.function(step, autograph=False))
    iterator = iter(tf.data.Dataset.range(1, 4).map(lambda i: tf.cast(i, tf.float32)))
    results = [call((np.float32([2.0]), tf.constant(4.0)), iterator) for _ in range(2)]
    assert len(traces) == 1
    results.append(call((np.float32([2.0, 0.0]), tf.constant(4.0)), iterator))
    assert len(traces) == 2
    total = 15.0
    for i, result in enumerate(results):
        x = i + 1 + 2.0 + 4.0
        total += 6 * x
        assert result["none"] is None and float(result["sum"]) == total
        assert result["ragged"].to_list() == [[x], [x, x]]
        assert [float(t) for t in tf.nest.flatten(result["table"])] == [30 + x, x]
    np.testing.assert_array_equal([float(v) for v in variables], np.arange(6) + 24.0)
    with pytest.raises(tf.errors.OutOfRangeError):
        call((np.float32([2.0]), tf.constant(4.0)), iterator)


def test_one_argument_for_all_variables():
    variables = [tf.Variable(1.0) for _ in range(50)]
    function = tf.function(lambda: tf.add_n([v + 0.0 for v in variables]), autograph=False)
    assert len(function.get_concrete_function().inputs) == 50
    graphs = []
    original = tf.raw_ops.StatefulPartitionedCall

    def spy(**kwargs):
        graphs.append(tf.compat.v1.get_default_graph())
        return original(**kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.raw_ops, "StatefulPartitionedCall", spy)
        assert float(captures.pack_captures(function)()) == 50.0
    [graph] = graphs
    assert len(graph.inputs) == 1


def test_variables_of_several_devices_stay_arguments():
    """A handle that came out of a tensor does not say where it belongs."""
    with tf.device("CPU:1"):
        far = tf.Variable(2.0)
    near = tf.Variable(3.0)
    function = tf.function(lambda: near + far, autograph=False)
    assert not captures._is_on_one_cpu(function.get_concrete_function())
    assert float(captures.pack_captures(function)()) == 5.0


def test_eager_functions_stay_eager():
    seen = []
    call = captures.pack_captures(tf.function(lambda x: seen.append(x) or x, autograph=False))
    tf.config.run_functions_eagerly(True)
    try:
        call(tf.constant(1.0))
    finally:
        tf.config.run_functions_eagerly(False)
    assert float(seen[0]) == 1.0
