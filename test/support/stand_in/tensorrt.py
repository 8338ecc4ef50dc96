"""A `tensorrt` module in place of the real one, as of a version: ONNX Runtime does the work.

It has what the real module of that version has, of what this project uses, and nothing else:
`test_tensorrt_stand_in.py` compares all names with those of the real modules.
"""

import enum
import json
import types

import numpy as np
import onnx
import onnxruntime

VERSIONS = ("8.6.1", "10.3.0", "11.4.0.106")
_MAGIC = b"stand-in plan\n"
_LAYERS = {"LayerNormalization": "NORMALIZATION", "Softmax": "SOFTMAX", "ReduceMean": "REDUCE"}


def make_module(version, driver):
    """Return a module as of `version` on the GPU of a `StandInDriver`; `faults` is an attribute."""
    major = int(version.split(".")[0])
    trt = types.ModuleType("tensorrt")
    trt.__version__ = version
    trt.faults = types.SimpleNamespace(  # what goes wrong on purpose, and what was built
        wrong_half=(),  # graphs by their output's name whose 16 bits are NaN
        wrong_full=(),
        kept_full=[],  # layers in 32 bits of engines whose other bits TensorRT chooses
        builds=[],  # of every build: (graph's outputs, precision)
        **dict.fromkeys(("out_of_memory", "refuses_to_run", "no_context"), False),
    )

    trt.DataType = enum.Enum("DataType", "FLOAT HALF INT8 INT32 BOOL")
    trt.TensorIOMode = enum.Enum("TensorIOMode", "NONE INPUT OUTPUT", start=0)
    trt.LayerType = enum.Enum(
        "LayerType", "CONVOLUTION NORMALIZATION SOFTMAX REDUCE UNARY ELEMENTWISE SHAPE"
    )
    trt.MemoryPoolType = enum.Enum("MemoryPoolType", "WORKSPACE", start=0)
    flags = {8: "EXPLICIT_BATCH", 10: "EXPLICIT_BATCH STRONGLY_TYPED", 11: "STRONGLY_TYPED"}
    trt.NetworkDefinitionCreationFlag = enum.IntEnum(
        "NetworkDefinitionCreationFlag", flags[major], start=0
    )
    builder_flags = ["TF32", *(["FP16", "OBEY_PRECISION_CONSTRAINTS"] if major < 11 else [])]
    trt.BuilderFlag = enum.Enum("BuilderFlag", " ".join(builder_flags), start=0)

    class ILogger:
        VERBOSE, INFO, WARNING, ERROR, INTERNAL_ERROR = range(5)

    trt.ILogger = ILogger
    if major >= 10:
        trt.IProgressMonitor = type("IProgressMonitor", (), {})

    class ITensor:
        def __init__(self, name, dtype):
            self.name, self.dtype = name, dtype

    class NetworkInput(ITensor):
        """One whose sizes can be fixed, where the graph leaves them open: -1."""

        def __init__(self, network, index, value):
            super().__init__(value.name, trt.DataType.FLOAT)
            self._network, self._index = network, index
            dims = value.type.tensor_type.shape.dim
            self._shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims)

        @property
        def shape(self):
            return self._shape

        @shape.setter
        def shape(self, sizes):
            pairs = zip(self._shape, sizes, strict=True)
            assert all(old in (-1, new) and new > 0 for old, new in pairs)
            self._shape = tuple(sizes)
            model = onnx.load_from_string(self._network._graph)
            dims = model.graph.input[self._index].type.tensor_type.shape.dim
            for dim, size in zip(dims, sizes, strict=True):
                dim.dim_value = size
            self._network._graph = model.SerializeToString()

    class ILayer:
        """A layer; it has a precision of its own only before TensorRT 11."""

        def __init__(self, node):
            self._op, self.name = node.op_type, f"{node.op_type} of {node.output[0]}"
            dtype = trt.DataType.INT32 if self._op == "Shape" else trt.DataType.FLOAT
            self._inputs = [ITensor(name, dtype) if name else None for name in node.input]
            self._outputs = [ITensor(name, dtype) for name in node.output]
            if major < 11:
                self.precision = None

        @property
        def type(self):
            return trt.LayerType[_LAYERS.get(self._op, "ELEMENTWISE")]

        num_inputs = property(lambda self: len(self._inputs))
        num_outputs = property(lambda self: len(self._outputs))

        def get_input(self, index):
            return self._inputs[index]

        def get_output(self, index):
            return self._outputs[index]

    if major < 11:
        ILayer.set_output_type = lambda self, index, dtype: None

    class INetworkDefinition:
        def __init__(self, is_typed):
            self._is_typed, self._graph, self._layers, self._inputs = is_typed, b"", [], []

        num_inputs = property(lambda self: len(self._inputs))

        def get_input(self, index):
            return self._inputs[index]

        num_layers = property(lambda self: len(self._layers))

        def get_layer(self, index):
            return self._layers[index]

    class ParserError:
        def __init__(self, text):
            self._text = text

        def desc(self):
            return self._text

    class OnnxParser:
        def __init__(self, network, logger):
            assert isinstance(network, INetworkDefinition) and isinstance(logger, ILogger)
            self._network, self._errors = network, []

        def parse(self, model):
            try:
                graph = onnx.load_from_string(model).graph
            except Exception:
                self._errors = [ParserError("Failed to parse\nthe ONNX model")]
                return False
            self._network._graph = bytes(model)
            weights = {item.name for item in graph.initializer}
            values = enumerate(graph.input)
            self._network._inputs = [
                NetworkInput(self._network, i, v) for i, v in values if v.name not in weights
            ]
            # Constants are layers without inputs, as in the real parser's networks.
            constants = [onnx.helper.make_node("Constant", [], [c.name]) for c in graph.initializer]
            self._network._layers = [ILayer(node) for node in (*constants, *graph.node)]
            return True

        num_errors = property(lambda self: len(self._errors))

        def get_error(self, index):
            return self._errors[index]

    class IOptimizationProfile:
        def __init__(self):
            self._shapes = {}

        def set_shape(self, input, min, opt, max):
            if not all(a <= b <= c for a, b, c in zip(min, opt, max, strict=True)):
                raise ValueError("min <= opt <= max must hold")
            self._shapes[input] = [list(min), list(opt), list(max)]

    class IBuilderConfig:
        def __init__(self):
            self._flags, self._profiles, self._pools = set(), [], {}

        def set_memory_pool_limit(self, pool, pool_size):
            self._pools[trt.MemoryPoolType(pool)] = int(pool_size)

        def set_flag(self, flag):
            self._flags.add(trt.BuilderFlag(flag))

        def add_optimization_profile(self, profile):
            self._profiles.append(profile._shapes)

    if major >= 10:
        IBuilderConfig.progress_monitor = None

    class IHostMemory(bytes):
        nbytes = property(len)

    class Builder:
        def __init__(self, logger):
            assert isinstance(logger, ILogger)
            self._logger = logger

        def create_network(self, flags=0):
            known = trt.NetworkDefinitionCreationFlag
            chosen = {flag for flag in known if flags >> flag & 1}
            assert flags == sum(1 << flag for flag in chosen), "an unknown flag"
            if major == 8:
                assert known.EXPLICIT_BATCH in chosen, "parsers need an explicit batch"
            return INetworkDefinition(
                major >= 11 or getattr(known, "STRONGLY_TYPED", None) in chosen
            )

        def create_builder_config(self):
            return IBuilderConfig()

        def create_optimization_profile(self):
            return IOptimizationProfile()

        def build_serialized_network(self, network, config):
            model = onnx.load_from_string(network._graph)
            for item in model.graph.input:
                if any(d.dim_param for d in item.type.tensor_type.shape.dim):
                    assert item.name in config._profiles[0], f"{item.name} has no profile"
            has_half = any(_makes_half(node) for node in model.graph.node)
            chosen = {flag.name for flag in config._flags}
            half = has_half if network._is_typed else "FP16" in chosen
            if network._is_typed and "FP16" in chosen:
                return self._fail("strongly typed networks take no precision flags")
            if "FP16" in chosen:
                assert "OBEY_PRECISION_CONSTRAINTS" in chosen
                kept = [x.name for x in network._layers if x.precision == trt.DataType.FLOAT]
                trt.faults.kept_full += kept
            outputs = [output.name for output in model.graph.output]
            trt.faults.builds.append((outputs[0], "half" if half else "full"))
            if trt.faults.out_of_memory:
                return self._fail("Could not find any implementation:\n out of memory")
            if major >= 10:
                _tell(config.progress_monitor)
            head = {"version": version, "gpu": driver.name.decode(), "half": bool(half)}
            head["profile"] = config._profiles[0] if config._profiles else {}
            return IHostMemory(_MAGIC + json.dumps(head).encode() + b"\n" + network._graph)

        def _fail(self, reason):
            self._logger.log(ILogger.ERROR, reason)

    class ICudaEngine:
        def __init__(self, head, graph):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            self._session = onnxruntime.InferenceSession(
                graph, options, providers=["CPUExecutionProvider"]
            )
            self._head = head
            self._tensors = {}
            for mode, nodes in (
                (trt.TensorIOMode.INPUT, self._session.get_inputs()),
                (trt.TensorIOMode.OUTPUT, self._session.get_outputs()),
            ):
                for node in nodes:
                    sizes = [s if isinstance(s, int) else -1 for s in node.shape]
                    self._tensors[node.name] = (mode, tuple(sizes), node.type)

        num_io_tensors = property(lambda self: len(self._tensors))

        def get_tensor_name(self, index):
            return list(self._tensors)[index]

        def get_tensor_mode(self, name):
            return self._tensors[name][0]

        def get_tensor_shape(self, name):
            return self._tensors[name][1]

        def get_tensor_dtype(self, name):
            is_float = self._tensors[name][2] == "tensor(float)"
            return trt.DataType.FLOAT if is_float else trt.DataType.HALF

        def create_execution_context(self):
            return None if trt.faults.no_context else IExecutionContext(self)

    class IExecutionContext:
        def __init__(self, engine):
            self._engine, self._addresses, self._shapes = engine, {}, {}

        def set_tensor_address(self, name, memory):
            self._addresses[name] = int(memory)
            return name in self._engine._tensors

        def set_input_shape(self, name, shape):
            mode, sizes, _ = self._engine._tensors[name]
            if mode is not trt.TensorIOMode.INPUT or len(sizes) != len(shape):
                return False
            if any(s not in (-1, found) for s, found in zip(sizes, shape, strict=True)):
                return False
            if name in self._engine._head["profile"]:
                least, _, most = self._engine._head["profile"][name]
                if not all(a <= s <= b for a, s, b in zip(least, shape, most, strict=True)):
                    return False
            self._shapes[name] = tuple(shape)
            return True

        def execute_async_v3(self, stream_handle):
            if trt.faults.refuses_to_run or set(self._addresses) != set(self._engine._tensors):
                return False
            shapes = dict(self._shapes)
            return driver.enqueue(stream_handle, lambda: self._execute(shapes)) == 0

        def _execute(self, shapes):
            feed = {}
            for name, (mode, sizes, _) in self._engine._tensors.items():
                if mode is trt.TensorIOMode.INPUT:
                    shape = shapes.get(name, sizes)
                    place = driver.place(self._addresses[name], 4 * int(np.prod(shape)))
                    feed[name] = place.view(np.float32).reshape(shape)
            names = [n for n, t in self._engine._tensors.items() if n not in feed and t]
            half = self._engine._head["half"]
            wrong = trt.faults.wrong_half if half else trt.faults.wrong_full
            for name, array in zip(names, self._engine._session.run(names, feed), strict=True):
                result = array * np.float32("nan") if name in wrong else array
                place = driver.place(self._addresses[name], result.nbytes)
                place.view(np.float32)[:] = result.ravel()

    class Runtime:
        def __init__(self, logger):
            assert isinstance(logger, ILogger)
            self._logger = logger

        def deserialize_cuda_engine(self, serialized_engine):
            try:
                magic, head, graph = bytes(serialized_engine).split(b"\n", 2)
                facts = json.loads(head)
                assert magic + b"\n" == _MAGIC
                assert (facts["version"], facts["gpu"]) == (version, driver.name.decode())
                return ICudaEngine(facts, graph)
            except Exception:
                self._logger.log(ILogger.ERROR, "the plan was built for another version or GPU")
                return None

    for kind in (
        ITensor, ILayer, INetworkDefinition, ParserError, OnnxParser, IOptimizationProfile,
        IBuilderConfig, IHostMemory, Builder, ICudaEngine, IExecutionContext, Runtime,
    ):  # fmt: skip
        setattr(trt, kind.__name__, kind)
    return trt


def _makes_half(node):
    half = onnx.TensorProto.FLOAT16
    return node.op_type == "Cast" and any(a.name == "to" and a.i == half for a in node.attribute)


def _tell(monitor):
    """Report progress as TensorRT does: phases within phases."""
    if monitor is None:
        return
    monitor.phase_start("Building Engine", None, 2)
    monitor.phase_start("Tactic Selection", "Building Engine", 3)
    assert monitor.step_complete("Tactic Selection", 0)
    monitor.phase_finish("Tactic Selection")
    for step in range(2):
        assert monitor.step_complete("Building Engine", step)
    monitor.phase_finish("Building Engine")
