from types import SimpleNamespace

import pytest

from lightning_modules import progress
from lightning_modules.progress import RunProgress
from runs.journal import duration_text


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (3600 * 5 + 60 * 12.5, "5 h 12 min")]
)
def test_times_are_two_units(seconds, words):
    assert duration_text(seconds) == words


@pytest.fixture
def trainer():
    loader = SimpleNamespace(sampler=SimpleNamespace(batch_size=64))
    return SimpleNamespace(
        max_epochs=5,
        num_training_batches=20,
        current_epoch=2,
        accumulate_grad_batches=2,
        train_dataloader=loader,
        is_global_zero=True,
    )


def test_images_per_second_count_from_where_this_process_began(trainer, monkeypatch):
    """Resumed after 45 of 100 micro-batches of 32 images; ten of them in four seconds: 45 are left, 18 seconds."""
    bar = RunProgress()
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    assert bar.pace(trainer, 45) == ""
    bar.start = (100.0, 45)
    assert bar.pace(trainer, 45) == ""
    now[0] = 104.0
    assert bar.pace(trainer, 55) == "   80 images/s   18 s left"


def test_lines_also_come_within_long_epochs(trainer, capsys):
    bar, module = RunProgress(), SimpleNamespace(losses=[[6.0, 4]])
    bar.lines = True
    bar.disable()
    for batch in range(20):
        bar.on_train_batch_end(trainer, module, None, None, batch)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2  # a tenth of the run is half an epoch
    assert lines[0].startswith("  epoch 3/5, batch 10/20   loss 1.5000")
    assert lines[1].startswith("  epoch 3/5   loss 1.5000")
    assert all(" images/s   " in line and line.endswith(" left") for line in lines)


def test_the_bar_looks_at_the_losses_four_times_a_second(monkeypatch):
    bar, now, looks = RunProgress(), [100.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress.RichProgressBar, "get_metrics", lambda *_: looks.append(now[0]) or {"loss": len(looks)})
    trainer = SimpleNamespace(training=False)
    seen = []
    for _ in range(5):
        seen.append(bar.get_metrics(trainer, None)["loss"])
        now[0] += 0.125
    assert looks == [100.0, 100.25, 100.5]
    assert seen == [1, 1, 2, 2, 3]
