"""rnngraph beside torch, JAX, ONNX Runtime and PyTensor: `python -m benchmarks.peers`."""
