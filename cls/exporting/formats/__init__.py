"""Conversions of a trained network: ONNX, OpenVINO, TensorRT, TorchScript."""
