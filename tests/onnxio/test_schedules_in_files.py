"""Exported training files follow their learning-rate schedule without Python."""

import json

import numpy as np
import onnxruntime as ort
import pytest

import graphopt as go

lr = go.optimizer.lr
INSIDE = {
    "step": lambda: lr.StepDecay(0.5, step_size=2, gamma=0.5),
    "noam": lambda: lr.NoamDecay(d_model=16, warmup_steps=4, learning_rate=0.5),
    "warmup": lambda: lr.LinearWarmup(lr.CosineAnnealingDecay(0.3, T_max=5), 3, 0.0, 0.3),
    "one cycle": lambda: lr.OneCycleLR(0.5, total_steps=30),
}
OUTSIDE = {
    "plateau": lambda: lr.ReduceOnPlateau(0.5),
    "lambda": lambda: lr.LambdaDecay(0.5, lambda e: 0.9**e),
}


class Saved:
    """Two steps of training, then saved; ``steps`` goes on with the files alone."""

    def __init__(self, schedule, path, **arguments):
        main, startup = go.static.Program(), go.static.Program()
        with go.static.program_guard(main, startup):
            x = go.static.data("x", [None, 2])
            start = go.nn.initializer.Assign([1.0, 2.0])
            w = go.create_parameter([2], "float32", name="w", default_initializer=start)
            loss = go.mean(x * w)
            go.optimizer.SGD(schedule).minimize(loss)
        self.exe, self.scope = go.static.Executor(), go.static.Scope()
        self.main, self.w, self.schedule = main, w, schedule
        self.feed = {"x": np.ones((1, 2), "f4")}
        with go.static.scope_guard(self.scope):
            self.exe.run(startup)
            go.static.save_training_model(path, [x], [loss], self.exe, program=main, **arguments)
        self.files = [
            ort.InferenceSession(f"{path}.{kind}.onnx", providers=["CPUExecutionProvider"])
            for kind in ("train", "state")
        ]

    def here(self, epochs):
        """w after each step, with the scheduler stepped after the steps that ``epochs`` says."""
        found = []
        for advance in epochs:
            self.exe.run(self.main, feed=self.feed, scope=self.scope)
            found.append(self.w.get_value(self.scope))
            if advance:
                self.schedule.step()
        return found

    def there(self, count, **extra):
        step, start = self.files
        pairs = json.loads(step.get_modelmeta().custom_metadata_map["graphopt.state"])
        state = dict(zip([o.name for o in start.get_outputs()], start.run(None, {}), strict=True))
        found = []
        for k in range(count):
            fed = {name: np.asarray(values[k]) for name, values in extra.items()}
            _, *following = step.run(None, {**self.feed, **fed, **state})
            state = {p["input"]: v for p, v in zip(pairs, following, strict=True)}
            found.append(state["w"])
        return found


@pytest.mark.parametrize("kind", INSIDE)
def test_the_file_follows_the_schedule(kind, tmp_path):
    schedule = INSIDE[kind]()
    schedule.step()
    schedule.step()
    saved = Saved(schedule, tmp_path / "m")
    names = [i.name for i in saved.files[0].get_inputs()]
    assert names == ["x", "w", "learning_rate_0_step"]
    np.testing.assert_allclose(saved.there(8), saved.here([True] * 8), rtol=1e-5)


def test_a_schedule_of_epochs(tmp_path):
    saved = Saved(INSIDE["step"](), tmp_path / "m", steps_per_epoch=3)
    expected = saved.here([k % 3 == 2 for k in range(15)])
    np.testing.assert_allclose(saved.there(15), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", OUTSIDE)
def test_other_schedules_are_an_input(kind, tmp_path):
    saved = Saved(OUTSIDE[kind](), tmp_path / "m")
    assert [i.name for i in saved.files[0].get_inputs()] == ["x", "learning_rate", "w"]
    rates = np.array([0.5, 0.1, 0.05], "f4")
    found = saved.there(3, learning_rate=rates)
    np.testing.assert_allclose(found[-1], [1.0, 2.0] - 0.5 * rates.sum(), rtol=1e-5)


def test_steps_per_epoch_is_positive(tmp_path):
    with pytest.raises(ValueError, match="steps_per_epoch"):
        Saved(INSIDE["step"](), tmp_path / "m", steps_per_epoch=0)
