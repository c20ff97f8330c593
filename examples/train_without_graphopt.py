"""Train a step saved by graphopt with nothing but onnxruntime and numpy.

    python train_without_graphopt.py PREFIX BATCHES.npz

Runs ``PREFIX.state.onnx`` once for the state, then ``PREFIX.train.onnx`` once per batch: the batch
and the state go in, the loss and the next state come out. Prints the losses as JSON. The same loop
works in any language that has onnxruntime.
"""

import json
import sys

import numpy as np
import onnxruntime as ort


def main(prefix: str, batches: str) -> None:
    """The loss of every batch, as a JSON list."""
    start = ort.InferenceSession(f"{prefix}.state.onnx", providers=["CPUExecutionProvider"])
    step = ort.InferenceSession(f"{prefix}.train.onnx", providers=["CPUExecutionProvider"])
    pairs = json.loads(step.get_modelmeta().custom_metadata_map["graphopt.state"])
    names = [output.name for output in start.get_outputs()]
    state = dict(zip(names, start.run(None, {}), strict=True))
    loss = step.get_outputs()[0].name

    losses = []
    with np.load(batches) as file:
        for k in range(len(next(iter(file.values())))):
            feed = {name: file[name][k] for name in file.files}
            outputs = [loss, *(pair["output"] for pair in pairs)]
            found, *following = step.run(outputs, {**feed, **state})
            state = {p["input"]: v for p, v in zip(pairs, following, strict=True)}
            losses.append(float(found))
    print(json.dumps(losses))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
