"""What a run shows beside numbers, on W&B and on TensorBoard alike. What W&B's own files hold: test_loggers.py."""

import io
import json
from importlib.util import find_spec

import numpy as np
import pytest
from fakes import guessed, put
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from toys import NAMES, ROOT, TESTS, only, toy_clip

from lightning_modules import shown
from lightning_modules.boards import Board, TensorBoard, WandbBoard, boards_of
from lightning_modules.loggers import group_of
from prompts.coop import CoOp
from prompts.learner import TrainInfo
from prompts.prompted_clip import PromptedCLIP
from runs import jobs

needs_tensorboard = pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")


class Seen(Board):
    """A board that remembers."""

    def __init__(self):
        self.pictures, self.tables, self.numbers, self.origins = {}, {}, {}, []

    def show_numbers(self, numbers):
        self.numbers |= numbers

    def show_table(self, name, columns, rows):
        self.tables[name] = (columns, rows)

    def show_picture(self, name, picture):
        self.pictures[name] = picture.size

    def show_confusion(self, name, true_N, predicted_N, classes):
        self.tables[name] = (classes, [true_N, predicted_N])

    def keep_prompts(self, path, name, alias, about):
        return {"entity": "", "project": "p", "artifact": f"{name}:{alias}"}

    def note_origin(self, kept):
        self.origins.append(kept["artifact"])


def events_of(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0}).Reload()


def text_of(events, name):
    return events.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0].decode()


def test_pictures_among_a_learners_files_are_shown(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "dpl.png")
    board = Seen()
    shown.show_pictures([board], [tmp_path / "dpl.json", tmp_path / "dpl.png"])
    assert board.pictures == {"dpl": (4, 3)}


def test_the_prompts_words_are_a_table():
    model = PromptedCLIP(toy_clip(), CoOp(2, init="a dog"))
    model.setup(TrainInfo(NAMES, 4))
    board = Seen()
    shown.show_words([board], model)
    columns, rows = board.tables["prompt words"]
    assert columns == ["tensor", "vector", "nearest words"]
    assert [row[:2] for row in rows] == [["ctx", 1], ["ctx", 2]]
    assert [row[2].split(", ")[0] for row in rows] == ["a", "dog"]  # a word is nearest to itself


def test_only_loggers_that_take_more_than_numbers_are_boards(tmp_path):
    assert boards_of([CSVLogger(str(tmp_path))]) == []
    mine = Seen()
    assert boards_of([mine]) == [mine]


def job(*overrides):
    search = f"hydra.searchpath=[file://{TESTS / 'conf'}]"
    cfg, names = jobs.compose_job([search, "clip=toy", "data=toy", "method=toy", *overrides], ROOT / "conf")
    return jobs.describe(cfg, names)


def test_a_group_is_a_configuration_over_its_seeds():
    group = group_of(job("seed=1", "shots=4"))
    assert group.startswith("toy on toy, 4 shots, few_shot #")
    assert group_of(job("seed=2", "shots=4", "workers=0", "output=elsewhere")) == group
    others = [group_of(job("shots=4", other)) for other in ("optim.lr=0.3", "epochs=3", "protocol=base_to_new")]
    assert len({group, group_of(job("shots=8")), *others}) == 5
    started = [group_of(job("shots=4", f"init_from=out/shots4-abc/seed{seed}", f"seed={seed}")) for seed in (1, 2)]
    assert started[0] == started[1] != group


def test_kept_prompts_are_found_by_the_runs_that_start_from_them(run_here, tmp_path):
    """W&B's run is a stand-in: lineage is of its server, which no test has."""

    class Run:
        entity, project, offline, summary = "me", "p", False, {}

        def __init__(self):
            self.logged, self.used, self.config = [], [], self
            self.kept = {}

        def get(self, key, default):
            return self.kept.get(key, default)

        def update(self, values, allow_val_change):
            self.kept |= values

        def log_artifact(self, artifact, aliases):
            self.logged.append((artifact.name, artifact.type, aliases, list(artifact.manifest.entries), artifact.metadata))

        def use_artifact(self, path):
            self.used.append(path)

    run_here("shots=1")
    folder = only(tmp_path, "result.json").parent
    run, trained = Run(), job("shots=1", "epochs=2")
    shown.keep_prompts([WandbBoard(run)], trained, folder / "prompts.safetensors")
    [(name, kind, aliases, files, about)] = run.logged
    assert (kind, files, about["seed"]) == ("prompts", ["prompts.safetensors"], 1)
    assert name == f"toy-toy-toy-few_shot-{trained.digest}-seed1"
    later = Run()
    cfg, _ = jobs.compose_job([f"init_from={folder}", "clip=tiny"], ROOT / "conf")
    shown.note_origins([WandbBoard(later)], cfg)
    assert later.used == later.kept["started_from"] == [f"me/p/{name}:{aliases[1]}"]
    offline = Run()
    offline.offline = True
    cfg.init_from = str(folder / "prompts.safetensors")  # the file as well as its folder
    shown.note_origins([WandbBoard(offline)], cfg)
    assert (offline.used, offline.kept["started_from"]) == ([], later.used)


def test_a_run_without_kept_prompts_is_no_origin(tmp_path):
    board = Seen()
    shown.note_origins([board], jobs.compose_job([f"init_from={tmp_path}"], ROOT / "conf")[0])
    assert board.origins == []


@pytest.mark.parametrize(
    "content", ["{}", "[1]", '[{"artifact": "a"}]', '[{"entity": "", "project": "", "artifact": 3}]', "[" * 99, "x" * 99999]
)
def test_a_hostile_list_of_kept_prompts_is_one_sentence(tmp_path, content):
    (tmp_path / shown.KEPT).write_text(content)
    with pytest.raises(ValueError, match=str(tmp_path)):
        shown.kept_in(tmp_path)


@needs_tensorboard
def test_tensorboard_gets_what_wandb_gets(run_here, tmp_path):
    result = run_here("logger=tensorboard", "protocol=base_to_new", "shots=4", "select=best_val")
    events = events_of(only(tmp_path, "result.json").parent / "tensorboard")
    images = events.Tags()["images"]
    assert {"base/confusion", "new/confusion"} <= set(images)
    assert any(name.startswith("base/predictions/") for name in images)
    base = result["metrics"]["base"]["accuracy"]
    assert f"| base | {base:.4g} |" in text_of(events, "evaluations")
    assert text_of(events, "classes").count("\n") == 1 + len(NAMES)
    assert "| why | image | true | predicted | confidence |" in text_of(events, "base/predictions")
    best = max(entry["val"]["accuracy"] for entry in result["history"])
    assert f"| best/val | {best:.4g} |" in text_of(events, "summary")
    assert events.Scalars("base/accuracy")[-1].value == pytest.approx(base)
    assert "_hparams_/session_start_info" in events.PluginTagToContent("hparams")


@needs_tensorboard
def test_samples_and_confusion_are_drawn(tmp_path):
    metrics, arrays = guessed(0.7)
    path = put(tmp_path, metrics={"test": 50.0}, trainable_parameters=1, seconds=1.0, peak_memory={}, epoch=1)
    Image.new("RGB", (32, 32), "red").save(path.with_name("0.png"))
    answers = {"question": "what | colour?", "answer": "red", "answers": ["red"], "accuracy": 100.0, "shots": 4}
    sample = {"why": "best", "image": "0.png", "index": 0, **answers}
    path.with_name("samples.json").write_text(json.dumps({"task": "vqa", "evaluations": {"test": [sample]}}))
    board = TensorBoard(TensorBoardLogger(str(tmp_path), name="tb", version=""))
    shown.show_result(board, path)
    _, true, _ = arrays
    classes = [str(number) for number in range(int(true.max()) + 1)]
    board.show_confusion("test/confusion", true.astype(int), np.zeros(len(true), int), classes)
    board.end()
    events = events_of(tmp_path / "tb")
    assert {"test/samples/00-image", "test/confusion"} <= set(events.Tags()["images"])
    picture = Image.open(io.BytesIO(events.Images("test/samples/00-image")[0].encoded_image_string))
    assert picture.convert("RGB").getpixel((5, 5)) == (255, 0, 0)
    assert r"what \| colour?" in text_of(events, "test/samples")
