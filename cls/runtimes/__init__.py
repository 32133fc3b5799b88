"""Classifiers that are asked: PyTorch, TorchScript, ONNX Runtime, OpenVINO, TensorRT, and servers."""
