"""Image features from the store: the figures are those without it, bit for bit, and no image is opened."""

import os

import numpy as np
import pytest
import torch
from small_runs import SGD, trainer
from test_habits import same
from toys import NAMES, Toy, VouchedToys, only, other_clip, toy_clip

from datamodules.identity import files_digest
from datamodules.module import FewShotData
from lightning_modules.classification import Classification
from lightning_modules.features import ImageFeatures, features_of
from prompts.learner import TrainInfo
from prompts.prompted_clip import PromptedCLIP
from runs.feature_store import FeatureStore

VOUCHED = "data.source._target_=toys.VouchedToys"


@pytest.fixture(autouse=True)
def _opened_nothing():
    VouchedToys.paths.clear()


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store", 1)


def opened(split):
    """How many images of a split were opened since the last call."""
    count = sum(path.startswith(split) for path in VouchedToys.paths)
    VouchedToys.paths[:] = [path for path in VouchedToys.paths if not path.startswith(split)]
    return count


# ---- whole runs


@pytest.mark.parametrize(
    "chosen",
    [
        ["method=toy", "protocol=base_to_new", "eval_every=1", "select=best_val"],
        ["method=zeroshot", "precision=bf16-mixed"],
        ["method=linear_probe"],
        ["method=cocoop", "method.n_ctx=2", "method.init=null", "recipe=none", "epochs=1", "eval_batch_size=8"],
    ],
)
def test_figures_are_those_without_a_store_and_no_image_is_opened(run_here, tmp_path, chosen):
    results, files = [], []
    for number, store in enumerate(("null", "store", "store")):
        VouchedToys.paths.clear()
        results.append(run_here(VOUCHED, *chosen, f"features.store={store}", f"output=out{number}", "shots=4"))
        files.append(np.load(only(tmp_path / f"out{number}", "predictions.npz")))
    assert same(results[0], results[1])
    assert same(results[0], results[2])
    for name in files[0]:
        assert np.array_equal(files[0][name], files[1][name])
        assert np.array_equal(files[0][name], files[2][name])
    assert opened("test") == opened("val") == 0
    assert list((tmp_path / "store").glob("*.safetensors"))


def test_a_prompted_tower_stores_nothing(run_here, tmp_path):
    run_here(VOUCHED, "features.store=store", "recipe=none", "epochs=1", "shots=1", "method=vpt", "method.depth=1")
    assert opened("test") == 35
    assert not (tmp_path / "store").exists()


def test_a_trained_tower_is_not_frozen():
    model = PromptedCLIP(toy_clip(), Toy())
    model.setup(TrainInfo(NAMES, 1))
    assert model.images_are_frozen
    model.clip.changed = True
    assert not model.images_are_frozen
    model.clip.changed, model.clip.trained = False, ["a group"]
    assert not model.images_are_frozen


def test_images_that_cannot_be_read_are_counted_and_not_kept(run_here, tmp_path, monkeypatch):
    def open_some(self, item):
        if item.path in ("test/0/1.png", "test/3/0.png", "train/0/0.png"):
            raise ValueError(f"{item.path} is torn")
        return of_source(self, item)

    of_source = VouchedToys.open
    monkeypatch.setattr(VouchedToys, "open", open_some)
    options = [VOUCHED, "data.on_bad_image=skip", "shots=-1"]
    plain, stored = (run_here(*options, f"features.store={name}", f"output=of_{name}") for name in ("null", "store"))
    assert same(plain, stored)
    assert plain["bad_images"] == stored["bad_images"]
    assert plain["bad_images"]["count"] == 3
    assert stored["metrics"]["test"]["images"] == 33
    assert not list((tmp_path / "store").glob("*.safetensors"))
    viewed = run_here(*options, "features.views=2", "features.store=store", "output=views")
    assert viewed["bad_images"] == plain["bad_images"]
    monkeypatch.setattr(VouchedToys, "open", of_source)  # repaired
    assert run_here(*options, "features.store=store", "output=repaired")["metrics"]["test"]["images"] == 35


# ---- evaluations


class Watched(Classification):
    """Keeps the logits of every evaluation."""

    def outputs(self, batch, sample=None):
        outputs = super().outputs(batch, sample)
        self.seen.append(outputs.logits)
        return outputs


def evaluated(features, source=None, clip=None, spec=None, eval_batch_size=4, precision="32-true", learner=None):
    """The logits of a toy evaluation, (35,5)."""
    clip = clip or toy_clip()
    source, spec = source or VouchedToys(), clip.image_spec | (spec or {})
    data = FewShotData("toy", source, spec, shots=4, seed=1, batch_size=6, eval_batch_size=eval_batch_size)
    torch.manual_seed(0)
    model = PromptedCLIP(clip, learner or Toy())
    model.setup(TrainInfo(data.classnames, len(data.train_items)))
    module = Watched(model, data, SGD, 1, 1, [data.evaluation("test", "test", "all")])
    module.features, module.seen = features, []
    trainer(1, precision=precision).test(module, verbose=False)
    return torch.cat(module.seen)


def test_logits_are_equal_bit_for_bit(store):
    plain = evaluated(ImageFeatures())
    first, second = ImageFeatures(store), ImageFeatures(FeatureStore(store.folder, 1))
    assert torch.equal(evaluated(first), plain)
    assert torch.equal(evaluated(second), plain)
    assert (first.encoded, second.encoded) == (35, 0)


def test_another_seed_and_another_method_share_an_entry(store):
    evaluated(ImageFeatures(store))

    class Scaled(Toy):
        def logits(self, clip, image, text):
            return 2 * clip.logits(image, text)

    features = ImageFeatures(store)
    evaluated(features, learner=Scaled())
    assert features.encoded == 0


def test_a_part_of_an_evaluation_encodes_no_more(run_here, tmp_path):
    run_here(VOUCHED, "features.store=store", "method=zeroshot", "eval_batch_size=4", "+trainer.limit_test_batches=2")
    assert opened("test") == 8
    assert not (tmp_path / "store").exists()


class Recoloured(VouchedToys):
    """Other code than its base's."""


def changed():
    source = VouchedToys()
    source.state = "changed"
    return source


@pytest.mark.parametrize(
    "options",
    [
        {"clip": other_clip()},
        {"source": changed()},
        {"source": Recoloured()},
        {"spec": {"interpolation": "bilinear"}},
        {"spec": {"mean": (0.4, 0.5, 0.5)}},
        {"eval_batch_size": 5},
        {"precision": "bf16-mixed"},
    ],
    ids=["weights", "images", "source", "interpolation", "mean", "batch size", "precision"],
)
def test_what_changes_a_bit_has_another_entry(store, options):
    evaluated(ImageFeatures(store))
    features = ImageFeatures(store)
    logits = evaluated(features, **options)
    assert features.encoded == 35
    assert torch.equal(logits, evaluated(ImageFeatures(), **options))
    assert len(store.entries()) == 2


def test_a_damaged_entry_is_computed_again(store, capsys):
    plain = evaluated(ImageFeatures(store))
    [entry] = store.entries()
    entry.path.write_bytes(entry.path.read_bytes()[:-4])
    features = ImageFeatures(store)
    assert torch.equal(evaluated(features), plain)
    assert features.encoded == 35
    assert "cut short" in capsys.readouterr().out
    assert store.entries()[0].size == entry.size


class Unvouched(VouchedToys):
    content_digest = None


def test_images_that_no_source_vouches_for_and_large_lists_are_not_stored(store):
    small = ImageFeatures(FeatureStore(store.folder, 1e-9 * 35 * 4 * 32))
    for features, source in ((ImageFeatures(store), Unvouched()), (small, None)):
        evaluated(features, source)
        assert features.encoded == 0
        assert opened("test") == 35
    assert not store.folder.exists()


def test_a_files_time_of_change_is_trusted_and_its_name_alone_is_not(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text("1")
    before = files_digest(tmp_path, ["a", "b"])
    assert files_digest(tmp_path, ["a", "b"]) == before
    assert files_digest(tmp_path, ["b", "a"]) != before
    assert files_digest(tmp_path, ["a", "c"]) != before
    os.utime(tmp_path / "a", ns=(1, 1))
    assert files_digest(tmp_path, ["a", "b"]) != before


# ---- keys


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"views": 0}, "features.views=0"),
        ({"views": -3}, "features.views=-3"),
        ({"views": 10**9}, "features.views=1000000000"),
        ({"max_gb": 0}, "features.max_gb=0"),
        ({"max_gb": float("nan")}, "features.max_gb=nan"),
        ({"store": " "}, "features.store"),
        ({"store": "a\0b"}, "features.store"),
    ],
)
def test_wrong_values(wrong, words):
    with pytest.raises(ValueError, match=words):
        features_of(**{"store": None, "max_gb": 1.0, "views": "online"} | wrong)


@pytest.mark.parametrize(
    "override", ["features.views=x", "features.max_gb=a", "features.store=5", "+features.foo=1", "features=5"]
)
def test_wrong_types(run_here, override):
    with pytest.raises(ValueError, match="features"):
        run_here(override)


def test_the_store_is_no_part_of_a_runs_identity(run_here):
    digests = {
        run_here(VOUCHED, *more, "epochs=1", "shots=1")["digest"]
        for more in ([], ["features.store=null"], ["features.store=elsewhere", "features.max_gb=2"])
    }
    assert len(digests) == 1
