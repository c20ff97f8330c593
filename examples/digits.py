"""Train a digit classifier with ASGD, save it, and go on training it without graphopt.

    python examples/digits.py [--epochs 40] [--out digits-run]

Reads ``data/digits.npz`` (1,797 images of 8×8 pixels); needs matplotlib for the curves.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from tqdm import tqdm

import graphopt as go

mpl.use("Agg")
HERE = Path(__file__).parent
BATCH = 48
EXTRA_STEPS = 10

Batch = tuple[np.ndarray, np.ndarray]
Programs = tuple[go.static.Program, go.static.Program, go.static.Program]
Variables = tuple[go.static.Variable, ...]


def load_digits(seed: int = 0) -> tuple[Batch, Batch]:
    """Training and held-out images f32[n, 64] in [0, 1] with labels i64[n]: 1,440 and 357."""
    with np.load(HERE / "data" / "digits.npz") as file:
        images, labels = file["images"], file["labels"]
    order = np.random.default_rng(seed).permutation(len(images))
    x = (images.reshape(-1, 64)[order] / 16).astype("float32")
    y = labels[order].astype("int64")
    return (x[:1440], y[:1440]), (x[1440:], y[1440:])


def build(batch_num: int) -> tuple[Programs, Variables, Variables]:
    """The training Program, its startup and test Programs, and what to feed and fetch."""
    main, startup = go.static.Program(), go.static.Program()
    startup.random_seed = 42
    with go.static.program_guard(main, startup):
        image = go.static.data("image", [None, 64], "float32")
        label = go.static.data("label", [None], "int64")
        hidden = go.static.nn.fc(image, 64, activation="relu")
        logits = go.static.nn.fc(hidden, 10)
        loss = go.nn.functional.cross_entropy(logits, label)
        accuracy = go.static.accuracy(logits, label)
        test = main.clone(for_test=True)
        go.optimizer.ASGD(0.05, batch_num=batch_num, weight_decay=1e-4).minimize(loss)
    return (main, startup, test), (image, label), (logits, loss, accuracy)


def train(
    exe: go.static.Executor,
    main: go.static.Program,
    test: go.static.Program,
    loss: go.static.Variable,
    accuracy: go.static.Variable,
    batches: list[Batch],
    held_out: Batch,
    epochs: int,
) -> tuple[list[float], list[float]]:
    """Run all epochs; the losses of the steps and the held-out accuracy after each epoch."""
    losses: list[float] = []
    accuracies: list[float] = []
    with tqdm(range(epochs), desc="training", unit="epoch") as progress:
        for _ in progress:
            for x, y in batches:
                [step_loss] = exe.run(main, feed={"image": x, "label": y}, fetch_list=[loss])
                losses.append(float(step_loss))
            x, y = held_out
            [found] = exe.run(test, feed={"image": x, "label": y}, fetch_list=[accuracy])
            accuracies.append(float(found))
            progress.set_postfix(
                loss=f"{losses[-1]:.4f}", accuracy=f"{accuracies[-1]:.3f}", refresh=False
            )
    return losses, accuracies


def draw(path: Path, losses: list[float], accuracies: list[float]) -> None:
    """The loss of every step and the held-out accuracy of every epoch, as a PNG."""
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    left.plot(losses, linewidth=0.6)
    left.set(title="training loss", xlabel="step", ylabel="cross-entropy", yscale="log")
    right.plot(range(1, len(accuracies) + 1), accuracies)
    right.set(title="held-out accuracy", xlabel="epoch", ylim=(min(0.9, *accuracies), 1))
    figure.savefig(path, dpi=120)


def train_without_graphopt(out: Path, batches: list[Batch]) -> list[float]:
    """Ten steps of the saved files in a process that has onnxruntime and numpy only."""
    images, labels = (np.stack(parts) for parts in zip(*batches, strict=True))
    np.savez(out / "batches.npz", image=images, label=labels)
    script = HERE / "train_without_graphopt.py"
    command = [sys.executable, str(script), str(out / "digits"), str(out / "batches.npz")]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    losses: list[float] = json.loads(found.stdout)
    return losses


def main() -> None:
    """Build, train, save, draw; then compare ten further steps with and without graphopt."""
    parser = argparse.ArgumentParser(description="Train a digit classifier with ASGD.")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("digits-run"))
    arguments = parser.parse_args()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)

    (x, y), held_out = load_digits()
    batches = [(x[k : k + BATCH], y[k : k + BATCH]) for k in range(0, len(x), BATCH)]
    (program, startup, test), feeds, (logits, loss, accuracy) = build(len(batches))
    print(program, end="\n\n")

    exe = go.static.Executor(go.CPUPlace())
    exe.run(startup)
    losses, accuracies = train(
        exe, program, test, loss, accuracy, batches, held_out, arguments.epochs
    )
    print(f"held-out accuracy: {accuracies[-1]:.4f} ({len(held_out[0])} images)")

    go.static.save_inference_model(out / "digits", [feeds[0]], [logits], exe)
    go.static.save_training_model(out / "digits", feeds, [loss], exe, program=program)
    draw(out / "curves.png", losses, accuracies)
    for name in ("digits.onnx", "digits.train.onnx", "digits.state.onnx", "curves.png"):
        print(f"wrote {out / name} ({(out / name).stat().st_size:,} bytes)")

    further = batches[:EXTRA_STEPS]
    here = [
        float(exe.run(program, feed={"image": a, "label": b}, fetch_list=[loss])[0])
        for a, b in further
    ]
    there = train_without_graphopt(out, further)
    gap = max(abs(a - b) for a, b in zip(here, there, strict=True))
    print(f"\nten further steps   graphopt: {' '.join(f'{v:.5f}' for v in here)}")
    print(f"onnxruntime alone, from the files: {' '.join(f'{v:.5f}' for v in there)}")
    print(f"largest difference: {gap:.1e}")
    if gap > 1e-5 or accuracies[-1] < 0.96:
        sys.exit("the demo did not reach what it promises")
    print(
        "\nTry next: change the network or the optimizer in examples/digits.py; read"
        " docs/tour.md; open digits.train.onnx in a model viewer."
    )


if __name__ == "__main__":
    main()
