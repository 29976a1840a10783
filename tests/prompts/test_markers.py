"""Markers on tensors. Numbers in names are those of the specification's list of tests (3.4)."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from region_stubs import noise

from prompts.cpt import CPT
from prompts.parts import marking
from prompts.parts.marker_bases import COLOURS, RED
from prompts.parts.markers import MARKERS, FillBox, make_markers

BOX = torch.tensor([5.0, 8, 21, 19])
BOXES = torch.tensor([[5.0, 8, 21, 19], [0, 0, 40, 30], [30, 2, 38, 28]])
SPEC = {"size": 32, "mean": (0.0,) * 3, "std": (1.0,) * 3, "interpolation": "bicubic"}


def array(image):
    return image.permute(1, 2, 0).numpy()


def pasted(image, box, colour=RED, alpha=127):
    """As CPT's code paints: a block with an alpha of its own, pasted by Pillow."""
    x1, y1, x2, y2 = (int(edge) for edge in box)
    picture = Image.fromarray(array(image)).convert("RGB")
    block = Image.new("RGBA", (x2 - x1, y2 - y1), (*colour, alpha))
    picture.paste(block, (x1, y1), block)
    return np.asarray(picture)


@pytest.mark.parametrize("colour", COLOURS)
def test_3_4_01_a_filled_box_is_the_released_blend(colour):
    image, before = noise(30, 40), noise(30, 40)
    marked = FillBox(COLOURS[colour]).mark(image, BOX)
    assert torch.equal(image, before)
    assert marked.dtype == torch.uint8
    inside = torch.zeros(30, 40, dtype=torch.bool)
    inside[8:19, 5:21] = True
    mixed = 127 / 255 * torch.tensor(COLOURS[colour])[:, None, None] + 128 / 255 * image.double()
    assert (marked - mixed)[:, inside].abs().max() <= 0.5 + 1e-4
    assert torch.equal(marked[:, ~inside], image[:, ~inside])
    assert np.abs(array(marked).astype(int) - pasted(image, BOX, COLOURS[colour])).max() <= 1
    of_floats = FillBox(COLOURS[colour]).mark(image / 255, BOX)
    assert (of_floats * 255 - marked).abs().max() < 1e-3
    assert torch.equal(of_floats[:, ~inside], (image / 255)[:, ~inside])


@pytest.mark.parametrize("name", [name for name in MARKERS if name != "crop"])
def test_batches_are_single_images(name):
    """One image with many boxes, many images with one each, and one by one: the same pixels, and nothing else is touched."""
    marker, image = make_markers([name])[0], noise(30, 40)
    masks = torch.rand(3, 30, 40, generator=torch.Generator().manual_seed(1)) > 0.5
    one = torch.stack([marker.mark(image, box, mask) for box, mask in zip(BOXES, masks, strict=True)])
    assert torch.equal(one, marker.mark(image, BOXES, masks))
    assert torch.equal(one, marker.mark(image.expand(3, 3, 30, 40), BOXES, masks))
    area = marker.area(BOXES, 30, 40, masks)[:, None].expand(-1, 3, -1, -1)
    assert torch.equal(one[~area], image.expand(3, 3, 30, 40)[~area])
    assert area.any()
    assert (one[0] != image).any()


def test_3_4_03_each_copy_has_its_own_region_marked():
    image, seen = noise(30, 40), []
    marked = FillBox().mark(image, BOXES)
    assert len(marked) == len(BOXES)
    for copy, (x1, y1, x2, y2) in zip(marked, BOXES.int().tolist(), strict=True):
        rows, columns = (copy != image).any(0).nonzero().unbind(1)
        assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (y1, y2, x1, x2)
        seen.append((rows.min(), columns.min()))
    assert len(set(seen)) == len(BOXES)
    form = CPT(form="colours", colours=["red", "blue", "green"], calibrate="none").colours
    assert len(set(form.words)) == 3
    assert form.passes(7) == [
        [(0, 0), (1, 1), (2, 2)],
        [(2, 0), (3, 1), (4, 2)],
        [(4, 0), (5, 1), (6, 2)],
    ]  # ceil(7 / 3) images
    for pairs in form.passes(7):
        assert len({colour for _, colour in pairs}) == len(pairs)
    black, boxes = torch.zeros(3, 30, 40, dtype=torch.uint8), torch.tensor([[0.0, 0, 5, 5], [10, 10, 20, 20], [30, 0, 40, 9]])
    painted = form.paint(black, boxes, None, form.passes(3)[0])
    for (x1, y1, *_), word in zip(boxes.int().tolist(), form.words, strict=True):
        assert torch.equal(painted[:, y1, x1], (torch.tensor(COLOURS[word]) * 127 / 255).round())


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((-5, -5, 3, 4), (0, 0, 3, 4)),  # partly outside
        ((38, 28, 90, 90), (38, 28, 40, 30)),
        ((7, 9, 8, 10), (7, 9, 8, 10)),  # one pixel
        ((7, 9, 7, 9), (7, 9, 8, 10)),  # no area: grown to a pixel
        ((40, 30, 40, 30), (39, 29, 40, 30)),
        ((0, 0, 40, 30), (0, 0, 40, 30)),  # the whole image
        ((5.5, 8.49, 7.5, 10.51), (5, 8, 7, 11)),  # a pixel belongs to the box where its centre does
        ((5.51, 8.51, 7.51, 10.5), (6, 9, 8, 10)),
    ],
)
def test_boxes_are_clamped_and_rounded_by_centres(box, pixels):
    image = torch.zeros(3, 30, 40, dtype=torch.uint8)
    x1, y1, x2, y2 = pixels
    filled = FillBox(alpha=255).mark(image, torch.tensor(box, dtype=torch.float32))[0] > 0
    assert filled[y1:y2, x1:x2].all()
    assert filled.sum() == (x2 - x1) * (y2 - y1)
    crop = make_markers(["crop"])[0].mark(noise(30, 40), torch.tensor(box, dtype=torch.float32))
    assert torch.equal(crop, noise(30, 40)[:, y1:y2, x1:x2])


@pytest.mark.parametrize(
    ("box", "words"),
    [((50, 0, 60, 9), "outside the image of 40 x 30"), ((9, 0, 3, 9), "negative width"), ((0, 0, float("nan"), 9), "finite")],
)
def test_boxes_that_are_none_are_refused(box, words):
    with pytest.raises(ValueError, match=words):
        FillBox().mark(noise(30, 40), torch.tensor(box, dtype=torch.float32))


def test_the_rule_for_boxes_is_that_of_the_data():
    boxes = pytest.importorskip("datamodules.boxes")  # prompts import nothing of it
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        corners = torch.rand(4, generator=generator) * 60 - 10
        box = (*torch.minimum(corners[:2], corners[2:]).tolist(), *torch.maximum(corners[:2], corners[2:]).tolist())
        try:
            ours = marking.clamp_boxes(torch.tensor([box]), 30, 40)[0].tolist()
        except ValueError:
            with pytest.raises(ValueError, match="outside"):
                boxes.clamp(box, (40, 30))
        else:
            assert ours == pytest.approx(boxes.clamp(box, (40, 30)), abs=1e-4)


@pytest.mark.parametrize("box", [(82, 10, 96, 30), (0, 0, 10, 10), (33, 41, 61, 59)])
def test_3_4_14_a_marker_is_where_it_belongs_after_the_resize(box):
    image = torch.zeros(3, 60, 100, dtype=torch.uint8)
    marked = FillBox((255, 255, 255), 255).mark(image, torch.tensor([box], dtype=torch.float32))
    pixels = marking.to_pixels(marked, SPEC)[0, 0]
    centres = torch.arange(32) + 0.5
    x, y = (pixels.sum(0) * centres).sum() / pixels.sum(), (pixels.sum(1) * centres).sum() / pixels.sum()
    assert x.item() == pytest.approx((box[0] + box[2]) / 2 / 100 * 32, abs=0.2)
    assert y.item() == pytest.approx((box[1] + box[3]) / 2 / 60 * 32, abs=0.2)
    cropped = marking.to_pixels(marked, SPEC, "shortest")[0, 0]
    assert cropped.shape == (32, 32)
    assert (cropped.max() > 0.5) == (box[0] == 33)  # the centre crop cuts the other two off


def test_pixels_are_those_of_the_images_that_clip_is_tested_on():
    """The same resize as Pillow's within its rounding, and the same normalisation."""
    from datamodules.transforms import eval_transform

    smooth = marking.blurred(noise(60, 100).float(), 1.5).round().to(torch.uint8)
    for mode in ("squash", "shortest"):
        theirs = eval_transform(32, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "bicubic", mode)(Image.fromarray(array(smooth)))
        ours = marking.to_pixels(smooth[None], SPEC | {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}, mode)[0]
        theirs = theirs if theirs.is_floating_point() else (theirs / 255 - torch.tensor([0.1, 0.2, 0.3])[:, None, None])
        assert (ours - theirs).abs().max() < 0.02


def test_3_4_15_a_mask_of_everything_is_a_filled_box():
    fill, mask, image = *make_markers(["fill_box", "fill_mask"]), noise(30, 40)
    everything = torch.ones(3, 30, 40, dtype=torch.bool)
    assert torch.equal(mask.mark(image, BOXES, everything), fill.mark(image, BOXES))
    assert torch.equal(mask.mark(image, BOXES, ~everything), fill.mark(image, BOXES))  # a region without a mask is its box
    half = everything[0].clone()
    half[:, 10:] = False
    changed = (mask.mark(image, BOX, half) != image).any(0)
    assert torch.equal(changed, half & marking.box_area(BOX[None], 30, 40)[0])
    with pytest.raises(ValueError, match="draws the masks of regions, and these have none"):
        mask.mark(image, BOXES)
    with pytest.raises(ValueError, match="give one of the image's size for each region"):
        mask.mark(image, BOXES, torch.ones(2, 30, 40))


def test_an_ellipse_is_a_pure_red_line_in_its_box():
    black, box = torch.zeros(3, 100, 200, dtype=torch.uint8), torch.tensor([50.0, 20, 150, 80])
    line = make_markers(["ellipse"])[0].mark(black, box)
    drawn = line[0] > 0
    assert line[:, drawn].unique(dim=1).flatten().tolist() == [255, 0, 0]
    rows, columns = drawn.nonzero().unbind(1)
    # inscribed in the box itself, as FGVP's released code draws it, with half of the line's two pixels on either side
    assert (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1) == (49, 151, 19, 81)
    assert drawn[50].nonzero().flatten().tolist() == [49, 50, 149, 150]
    assert not drawn[40:60, 60:140].any()
    wide = make_markers([{"name": "ellipse", "expand": 0.01}])[0].mark(black, box)[0] > 0  # 2 and 1 pixels further out
    assert (wide[50].nonzero().min(), wide[:, 100].nonzero().min()) == (47, 18)
    thick = make_markers([{"name": "ellipse", "at": 50}])[0].mark(black, box)  # two pixels of 50 are four of 100
    assert (thick[0, 50] > 0).sum() == 8
    outline = make_markers([{"name": "outline_box", "thickness": 4}])[0].mark(black, box)[0] > 0
    assert outline[50].nonzero().flatten().tolist() == [48, 49, 50, 51, 148, 149, 150, 151]


def test_what_is_outside_is_blurred_or_grey_as_pillow_does_it():
    image = noise(60, 80)
    picture = Image.fromarray(array(image))
    outside = ~marking.box_area(BOX[None], 60, 80)[0]
    grey = make_markers(["grey_outside"])[0].mark(image, BOX)
    wanted = torch.from_numpy(np.array(picture.convert("L")))
    assert (grey.int() - wanted)[:, outside].abs().max() <= 1
    blurred = make_markers([{"name": "blur_outside", "std": 3}])[0].mark(image, BOX)
    wanted = torch.from_numpy(np.array(picture.filter(ImageFilter.GaussianBlur(3)))).permute(2, 0, 1)
    inner = outside.clone()
    inner[:9], inner[-9:], inner[:, :9], inner[:, -9:] = False, False, False, False
    assert (blurred.int() - wanted.int())[:, inner].abs().max() <= 3  # Pillow's is three boxes, and has edges of its own
    flat = make_markers(["blur_outside"])[0].mark(image, BOX)[:, outside].float()
    assert (flat.std(1) < 12).all()  # of 74: at 100 pixels, as released, little is left of so small an image
    for name, other in (("blur_circle", "blur_outside"), ("grey_circle", "grey_outside")):
        whole = make_markers([name])[0].mark(image, BOX)
        inside = marking.ellipse_area(BOX[None], 60, 80)[0]
        assert torch.equal(whole[:, inside], image[:, inside])
        assert torch.equal(whole[:, outside & ~inside], make_markers([other])[0].mark(image, BOX)[:, outside & ~inside])
    scaled = make_markers([{"name": "blur_circle", "std": 3, "at": 30}])[0].mark(image, BOX)  # 3 pixels of 30 are 6 of 60
    assert torch.equal(scaled, make_markers([{"name": "blur_circle", "std": 6}])[0].mark(image, BOX))


def test_crops_are_images_of_their_own():
    crops = make_markers([{"name": "crop", "enlarge": 2}])[0].mark(noise(30, 40), BOXES)
    assert [tuple(crop.shape) for crop in crops] == [(3, 15, 20), (3, 30, 40), (3, 30, 12)]
    assert marking.to_pixels(crops, SPEC).shape == (3, 3, 32, 32)


def test_colours_have_names():
    for name, levels in COLOURS.items():
        ellipse, block = make_markers([{"name": "ellipse", "colour": name}, {"name": "fill_box", "colour": name}])
        assert ellipse.colour == block.colour == levels
        assert block.text == f"{{}} is in {name} color."
    (named,) = make_markers([{"name": "fill_box", "colour": "blue", "word": "azure"}])
    assert named.text == "{} is in azure color."


@pytest.mark.parametrize(
    ("markers", "words"),
    [
        ([], "give a list with some of fill_box"),
        ("ellipse", "give a list"),
        (["circle"], "'circle' is no marker: choose among"),
        ([5], "is no marker"),
        ([{"name": "ellipse", "width": 2}], "ellipse cannot be made from"),
        ([{"name": "ellipse", "thickness": -1}], "thickness=-1"),
        ([{"name": "fill_box", "colour": [1, 2]}], "give three numbers and one, 0 to 255"),
        ([{"name": "fill_box", "alpha": 300}], "give three numbers and one, 0 to 255"),
        ([{"name": "fill_box", "text": "no place"}], "must have one {}"),
        ([{"name": "blur_outside", "std": 0}], "std=0"),
        ([{"name": "ellipse", "colour": "pink"}], "'pink' is none of red, blue, yellow, purple, green: write its numbers"),
        ([{"name": "ellipse", "colour": 5}], r"colour=5 of ellipse is not of the type Sequence\[float\] \| str"),
        ([{"name": "ellipse", "colour": ["a", "b", "c"]}], "give three numbers and one, 0 to 255"),
        ([{"name": "ellipse", "thickness": "2"}], "thickness='2' of ellipse is not of the type float"),
        ([{"name": "ellipse", "at": 1.5}], r"at=1.5 of ellipse is not of the type int \| None"),
        ([{"name": "crop", "text": 5}], "text=5 of crop is not of the type str"),
        ([{"name": "grey_outside", "text": None}], "text=None of grey_outside is not of the type str"),
        ([{"name": "fill_mask", "word": 5}], r"word=5 of fill_mask is not of the type str \| None"),
    ],
)
def test_markers_that_cannot_be_are_refused(markers, words):
    with pytest.raises(ValueError, match=words):
        make_markers(markers)
