"""Where the recipes of a run come from: sections of a method's file, plain files, a protocol that uses another's."""

import re
import shutil

import pytest
from omegaconf import OmegaConf
from toys import ROOT, TESTS

from runs import jobs, recipe_files, recipes

CONF = ROOT / "conf"
TOYS = f"file://{TESTS / 'conf'}"


def compose(*overrides, search=(TOYS,)):
    return jobs.compose_job([f"hydra.searchpath=[{','.join(search)}]", *overrides], CONF)[0]


def write(folder, **files):
    """Yaml files by their place: recipe__mine is recipe/mine.yaml."""
    for name, text in files.items():
        path = folder.joinpath(*name.split("__")).with_suffix(".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def users(tmp_path):
    """A folder of a user's own, with a space and a quote in its name, which holds a method and its recipes."""
    folder = tmp_path / "a user's own"
    write(folder, method__mine="_target_: toys.Toy\nrank: 2\n")
    text = "common: {batch_size: 8}\nprotocol: {few_shot: {epochs: 7}}\nclip: {tiny: {epochs: 9}}\n"
    write(folder, recipe__mine=text + "data: {digits: {batch_size: 5}}\n")
    return folder


def by_hand(cfg):
    return [name for name in cfg.recipes.used if not name.startswith("found/")]


def searched(folder):
    return ["'file://" + str(folder).replace("'", r"\'") + "'"]


def test_sections_are_merged_in_the_order_of_the_opening_screen(users):
    cfg = compose("method=mine", "data=digits", search=searched(users))
    assert cfg.recipes == {"used": ["mine-few_shot", "mine-tiny", "mine-digits"], "missing": None}
    assert (cfg.epochs, cfg.batch_size) == (9, 5)
    cfg = compose("method=mine", "data=shapes", search=searched(users))
    assert (cfg.epochs, cfg.batch_size, cfg.recipes.used) == (9, 8, ["mine-few_shot", "mine-tiny"])
    assert compose("method=mine", "epochs=3", search=searched(users)).epochs == 3
    assert compose("method=mine", "recipe=none", "clip=rn50", search=searched(users)).epochs == 50


def test_a_recipe_of_the_project_has_the_last_word_over_nothing_but_its_order():
    """coop.yaml says 16 tokens under few-shot and 4 on the tiny CLIP."""
    assert compose("method=coop").method.n_ctx == 4
    assert compose("method=coop", "recipe_clip=maple-tiny").method.n_ctx == 2
    assert compose("method=coop", "clip=vit_b16").method.n_ctx == 16
    assert compose("method=coop", "method.n_ctx=3").method.n_ctx == 3


@pytest.mark.parametrize("where", ["file", "experiment", "command line"])
def test_a_protocol_uses_the_recipe_of_another(tmp_path, where):
    text = "train: all\nevaluate: {test: all}\ntargets: {}\nsummary: {}\nrecipe: "
    write(tmp_path, protocol__theirs=text + ("base_to_new" if where == "file" else "null") + "\n")
    write(tmp_path, experiment__mine="# @package _global_\nprotocol: {recipe: base_to_new}\n")
    more = {"file": [], "experiment": ["experiment=mine"], "command line": ["protocol.recipe=base_to_new"]}[where]
    search = [TOYS, f"file://{tmp_path}"]
    cfg = compose("method=maple", "clip=vit_b16", "protocol=theirs", *more, search=search)
    assert (cfg.recipes.used, cfg.epochs, cfg.optim.lr, cfg.method.depth) == (["maple-base_to_new"], 5, 0.0035, 9)
    assert cfg.protocol.recipe == "base_to_new"
    toy = compose("method=toy", "protocol=theirs", "~method.rank", "+method.rank=9", *more, search=search)
    assert (toy.recipes.used, toy.epochs, toy.method.rank) == (["toy-base_to_new"], 50, 9)  # a plain file
    assert compose("method=maple", "protocol=theirs", "epochs=2", *more, search=search).epochs == 2
    other = compose("method=maple", "clip=vit_b16", "protocol=theirs", "recipe=maple-cross_dataset", *more, search=search)
    assert other.recipes.used == ["maple-cross_dataset"]


def test_what_hydra_itself_shows_has_the_recipe(capfd):
    from hydra import compose as plain
    from hydra import initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert plain("config", ["protocol=open", "method=coop", "clip=vit_b16"]).epochs == 200


def test_protocol_recipe_is_a_name():
    with pytest.raises(ValueError, match=re.escape("protocol.recipe=['coop']: give the name of a protocol, or null")):
        compose("method=coop", "protocol.recipe=[coop]")
    assert "there is no recipe for method=coop" in compose("method=coop", "protocol.recipe=nothing").recipes.missing


def test_a_method_without_a_recipe_hears_which_there_are(users):
    missing = compose("method=mine", "protocol=base_to_new", search=searched(users)).recipes.missing
    assert "method=mine with protocol=base_to_new" in missing
    assert "choose another's, such as recipe=mine-few_shot; or give recipe=none" in missing
    (users / "recipe/mine.yaml").unlink()
    missing = compose("method=mine", search=searched(users)).recipes.missing
    assert "recipe=NAME with a name that --help lists under recipe" in missing


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: 5\n", "mine.yaml: the key epochs is not known: recipes of a method are common, protocol, clip, data"),
        ("- 1\n", "mine.yaml is no mapping"),
        ("protocol: {few_shot: 5}\n", "mine.yaml: common is a mapping, and protocol a mapping of names to mappings"),
        ("protocol: [few_shot]\n", "mine.yaml: common is a mapping"),
        ("common: 5\n", "mine.yaml: common is a mapping"),
        ("protocol: {few_shoot: {}}\n", "mine.yaml: protocol has few_shoot, which is not known: choose among base_to_new, "),
        ("data: {_base: {}}\n", "mine.yaml: data has _base, which is not known"),
        ("protocol: {few_shot: {}\n", "mine.yaml cannot be read as yaml"),
    ],
)
def test_a_wrong_file_of_recipes_is_refused(users, text, message):
    write(users, recipe__mine=text)
    with pytest.raises(ValueError, match=re.escape(message)):
        compose("method=mine", search=searched(users))


def test_a_users_file_adds_to_a_method_of_the_project(tmp_path):
    shutil.copy(CONF / "data/digits.yaml", tmp_path / "digits.yaml")
    write(tmp_path, data__mine=(CONF / "data/digits.yaml").read_text(), recipe__coop="data: {mine: {epochs: 3}}\n")
    cfg = compose("method=coop", "data=mine", search=[f"file://{tmp_path}"])
    assert (by_hand(cfg), cfg.epochs) == (["coop-few_shot", "coop-tiny", "coop-mine"], 3)


# ---------------------------------------------------------------- what a search found


def test_what_a_search_found_wins_over_what_is_written_and_loses_against_the_command_line(users):
    write(users, recipe__found__mine="clip: {tiny: {epochs: 4, optim: {lr: 0.5}}}\ndata: {digits: {batch_size: 2}}\n")
    cfg = compose("method=mine", "data=digits", search=searched(users))
    assert cfg.recipes.used == ["mine-few_shot", "mine-tiny", "found/mine-tiny", "mine-digits", "found/mine-digits"]
    assert (cfg.epochs, cfg.optim.lr, cfg.batch_size) == (4, 0.5, 2)
    assert compose("method=mine", "epochs=3", search=searched(users)).epochs == 3
    write(users, experiment__mine="# @package _global_\nepochs: 6\n")
    assert compose("method=mine", "experiment=mine", search=searched(users)).epochs == 6
    cfg = compose("method=mine", "data=digits", "clip=vit_b16", search=searched(users))
    assert (cfg.recipes.used, cfg.epochs) == (["mine-few_shot", "mine-digits", "found/mine-digits"], 7)


def test_a_section_may_be_found_alone(users):
    """A dataset that needs nothing but what a search found; and a method that has no file written by hand."""
    write(users, recipe__found__mine="data: {shapes: {epochs: 11}}\n")
    cfg = compose("method=mine", "data=shapes", search=searched(users))
    assert (cfg.recipes.used[-2:], cfg.epochs, cfg.batch_size) == (["mine-shapes", "found/mine-shapes"], 11, 8)
    assert "mine-shapes" in recipe_files.options("recipe_data", [users])
    (users / "recipe/mine.yaml").unlink()
    cfg = compose("method=mine", "data=shapes", search=searched(users))
    assert (cfg.recipes.used, cfg.epochs) == (["mine-shapes", "found/mine-shapes"], 11)
    assert "there is no recipe for method=mine" in cfg.recipes.missing


def test_what_is_found_of_the_projects_own_folder(tmp_path):
    """Served by Hydra's search path itself, without a second composition."""
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf, ignore=shutil.ignore_patterns("found"))
    before = jobs.compose_job(["method=dpl"], conf)[0]
    write(conf, recipe__found__dpl="clip: {tiny: {optim: {lr: 0.7}, earlier: {method: {alpha_lr: 0.9}}}}\n")
    after = jobs.compose_job(["method=dpl"], conf)[0]
    assert before.recipes.used == ["dpl-few_shot", "dpl-tiny"]
    assert after.recipes.used == ["dpl-few_shot", "dpl-tiny", "found/dpl-tiny"]
    assert (after.optim.lr, after.earlier.method.alpha_lr, after.epochs) == (0.7, 0.9, before.epochs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: 5\n", "recipe/found/mine.yaml: the key epochs is not known: recipes of a method are common, protocol"),
        ("clip: {tiny: 5}\n", "recipe/found/mine.yaml: common is a mapping, and clip a mapping of names to mappings"),
        ("clip: {tinny: {}}\n", "recipe/found/mine.yaml: clip has tinny, which is not known: choose among "),
        ("clip: {tiny: {}\n", "recipe/found/mine.yaml cannot be read as yaml"),
        (
            "# @package _global_\nepochs: 5\n",
            "recipe/found/mine.yaml is a recipe by itself, which nothing reads in the folder found",
        ),
    ],
)
def test_a_wrong_file_of_what_was_found_is_refused(users, text, message):
    write(users, recipe__found__mine=text)
    with pytest.raises(ValueError, match=re.escape(message)):
        compose("method=mine", search=searched(users))


def test_names_with_dashes(tmp_path):
    write(tmp_path, recipe__a="protocol: {b-c: {epochs: 1}}\n", **{"recipe__a-b": "protocol: {d: {epochs: 2}}\n"})
    assert recipe_files.find_section(tmp_path, "recipe", "a-b-c") == {"epochs": 1}
    assert recipe_files.find_section(tmp_path, "recipe", "a-b-d") == {"epochs": 2}
    for name in ("a-x", "a", "", "-", "../recipe/a-b-c"):
        assert recipe_files.find_section(tmp_path, "recipe", name) is None
    assert recipe_files.options("recipe", [tmp_path]) == ["a-b-c", "a-b-d"]


def test_a_file_that_changes_is_read_anew(tmp_path):
    import os

    write(tmp_path, recipe__a="protocol: {b: {epochs: 1}}\n")
    assert recipe_files.find_section(tmp_path, "recipe", "a-b") == {"epochs": 1}
    write(tmp_path, recipe__a="protocol: {b: {epochs: 2}}\n")
    os.utime(tmp_path / "recipe/a.yaml", ns=(1, 1))
    assert recipe_files.find_section(tmp_path, "recipe", "a-b") == {"epochs": 2}
    write(tmp_path, recipe__found__a="protocol: {b: {epochs: 3}}\n", protocol__p="recipe: b\n")
    assert recipe_files.find_section(tmp_path, "recipe", "a-b") == {"epochs": 3}
    assert recipe_files.served_name(tmp_path, "recipe", "a-p") == "a-b"
    write(tmp_path, protocol__p="recipe: c\n")
    os.utime(tmp_path / "protocol/p.yaml", ns=(1, 1))
    assert recipe_files.served_name(tmp_path, "recipe", "a-p") == "a-c"
    (tmp_path / "recipe/found/a.yaml").unlink()
    assert recipe_files.find_section(tmp_path, "recipe", "a-b") == {"epochs": 2}


def test_what_hydra_gets_is_a_copy(tmp_path):
    write(tmp_path, recipe__a="protocol: {b: {epochs: 1, defaults: []}}\n")
    source = recipe_files.RecipeSource("a test", f"recipes://{tmp_path}")
    del source.load_config("recipe/a-b").config.defaults
    assert "defaults" in source.load_config("recipe/a-b").config


def test_each_recipe_of_the_project_is_named_after_what_exists():
    """A misspelt section would never be used."""
    for file in (CONF / "recipe").glob("*.yaml"):
        if file.stem != "none":
            assert (CONF / "method" / file.name).exists(), file
            assert recipe_files.read_recipes(file), file
            recipes.check_names(file.stem, [CONF])
    borrowed = {file.stem for file in (CONF / "protocol").glob("*.yaml") if OmegaConf.load(file).get("recipe")}
    names = recipe_files.options("recipe", [CONF])
    assert not [name for name in names if name.rpartition("-")[2] in borrowed]  # hidden by the other protocol's
