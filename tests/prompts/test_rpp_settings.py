"""Settings of RPP that are refused."""

import pytest
from rpp_models import L, model_of, rpp


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_text": 0, "n_image": 0}, "RPP without a prompt in any block learns nothing"),
        ({"prompt_lengths": {"text": [0] * L, "image": [0] * L}}, "method.prompt_lengths that are not all 0"),
        ({"prompt_lengths": {"text": [2] * 12, "image": [2] * 12}}, "names 12 blocks of the text tower"),
        ({"qkv_share": "none"}, "method.qkv_share='none' is none of shared, unshared, kv_only"),
        ({"residual_source": "x"}, "method.residual_source='x' is none of q, k, v, mean, none"),
        ({"first_layer_entry": None}, "method.first_layer_entry=None is none of clip, raw"),
        ({"n_text": -1}, "method.n_text=-1: give a number, 0 or more"),
        ({"depth_text": 4}, "a prompt depth of 4 does not fit the text tower's 3 blocks"),
    ],
)
def test_a_wrong_setting_is_one_sentence(small_clip, settings, message):
    with pytest.raises(ValueError, match=message):
        model_of(small_clip, rpp(**settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0}, "method.distillation.temperature=0: give a number above 0"),
        ({"weight": -0.5}, "method.distillation.weight=-0.5: give a number, 0 or more"),
        ({"weight": "1"}, "method.distillation.weight='1' is not of the type float"),
        ({"weight": float("nan")}, "method.distillation.weight=nan is not of the type float"),
        ({"form": "convex", "weight": 2}, "give at most 1"),
        ({"form": "none"}, "method.distillation.form='none' is none of sum, convex, mixed_target"),
        ({"form": "mixed_target", "class_set": "all"}, "leave distillation.class_set=sampled"),
        ({"kd_weight": 1.0}, "method.distillation.kd_weight is no setting: there are weight, temperature"),
    ],
)
def test_a_wrong_setting_of_the_distillation_is_one_sentence(settings, message):
    with pytest.raises(ValueError, match=message):
        rpp(distillation=settings)
    with pytest.raises(ValueError, match="method.distillation=5: give a mapping"):
        rpp(distillation=5)
