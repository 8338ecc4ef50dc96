"""Small ONNX graphs, run by ONNX Runtime and by the torch engine's interpreter."""

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from aopsam_ros.runtime.signatures import Signature
from aopsam_ros.runtime.torch_engine.graph import load_graph
from aopsam_ros.runtime.torch_engine.recording import Weights, record

CPU = torch.device("cpu")


def model(nodes, inputs, outputs, constants=None, opset=17):
    """Make a model whose inputs and outputs are float32; sizes may be names.

    Args:
        nodes: of the graph.
        inputs: name to shape.
        outputs: names.
        constants: name to array.
        opset: that the model says it uses.
    """
    constants = {name: np.asarray(value) for name, value in (constants or {}).items()}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    # Checked graphs have shaped outputs.
    return onnx.shape_inference.infer_shapes(made, strict_mode=True)


def signature(made):
    """Return a model's own signature, sizes that are names as any size."""

    def shapes(values):
        return {
            value.name: tuple(
                d.dim_value if d.HasField("dim_value") else None
                for d in value.type.tensor_type.shape.dim
            )
            for value in values
        }

    return Signature(shapes(made.graph.input), shapes(made.graph.output))


def load(made, name="graph.onnx"):
    return load_graph(made.SerializeToString(), name, signature(made))


class Runner:
    """A graph in the interpreter: each new shape is recorded, then its program is run."""

    def __init__(self, made, half=False):
        self.graph = load(made)
        self.weights = Weights(self.graph.body.constants, CPU)
        self.half = half
        self.programs = {}

    def __call__(self, **feeds):
        tensors = {name: torch.from_numpy(np.array(feeds[name])) for name in self.graph.inputs}
        shapes = tuple(value.shape for value in tensors.values())
        with torch.inference_mode():
            if shapes in self.programs:
                outputs = self.programs[shapes].run(*tensors.values())
            else:
                program, outputs = record(self.graph, self.weights, tensors, self.half)
                self.programs[shapes] = program
        return [value.numpy() for value in outputs]


def run_onnx(made, feeds):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # As it is written: the engine's own optimisations are not what is compared with.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)
