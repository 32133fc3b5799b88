"""What Triton runs in place of the backends onnxruntime, openvino, pytorch: a "Python-based backend", its `model.py`.

It reads of config.pbtxt what the real one reads: the model's file, inputs, outputs, the batch. Never imported here.
"""

import json
import sys

import numpy as np
import triton_python_backend_utils as pb_utils


def _onnxruntime(path, config):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda names, arrays: session.run(names, arrays)


def _openvino(path, config):
    # Missing, it reports nothing to anybody (cls.runtimes.local says more).
    sys.modules["openvino_telemetry"] = None
    import openvino

    core = openvino.Core()
    network = core.read_model(path)
    batch = config["max_batch_size"]
    if batch:
        # So does the real one: the batch of config.pbtxt is the only one the network takes from now on.
        network.reshape({port: [batch, *port.partial_shape[1:]] for port in network.inputs})
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    request = core.compile_model(network, "CPU", options).create_infer_request()

    def run(names, arrays):
        request.infer(arrays)
        return [np.array(request.get_tensor(name).data) for name in names]

    return run


def _pytorch(path, config):
    import torch

    torch.set_num_threads(1)
    network = torch.jit.load(path, map_location="cpu").eval()
    place = {item["name"]: int(item["name"].rpartition("__")[2]) for item in config["input"] + config["output"]}

    def run(names, arrays):
        given = [torch.from_numpy(arrays[name].copy()) for name in sorted(arrays, key=place.get)]
        with torch.inference_mode():
            answers = network(*given)
        answers = answers if isinstance(answers, tuple) else (answers,)
        return [answers[place[name]].numpy() for name in names]

    return run


_OPEN = {"onnxruntime": _onnxruntime, "openvino": _openvino, "pytorch": _pytorch}
_FILES = {"onnxruntime": "model.onnx", "openvino": "model.xml", "pytorch": "model.pt"}


class TritonPythonModel:
    """One instance of a model."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        backend = config["backend"]
        file = config["default_model_filename"] or _FILES[backend]
        self.run = _OPEN[backend](f"{args['model_repository']}/{args['model_version']}/{file}", config)
        self.outputs = [item["name"] for item in config["output"]]
        self.inputs = [item["name"] for item in config["input"]]

    def execute(self, requests):
        answers = []
        for request in requests:
            wanted = [name for name in self.outputs if name in request.requested_output_names()]
            # as_numpy() of this version gives empty arrays with NumPy 2.
            arrays = {name: np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name)) for name in self.inputs}
            try:
                results = self.run(wanted, arrays)
            except Exception as error:  # noqa: BLE001 (a runtime's own kinds, told to whoever asked)
                answers.append(pb_utils.InferenceResponse([], error=pb_utils.TritonError(str(error))))
                continue
            tensors = [pb_utils.Tensor.from_dlpack(name, array) for name, array in zip(wanted, results, strict=True)]
            answers.append(pb_utils.InferenceResponse(tensors))
        return answers
