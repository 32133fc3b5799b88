"""Person segmenters behind one Protocol (ultralytics .pt, exported .onnx), and the resumable builder of masks."""
