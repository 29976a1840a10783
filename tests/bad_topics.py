"""Wrong values of keys that have files of their own, in the form of `VALUES` in tests/bad_inputs.py."""

from bad_boxes import BOXES
from bad_clips import CLIPS
from bad_dense import DENSE
from bad_lms import LMS
from bad_masks import MASKS
from bad_pairs import PAIRS
from bad_pixels import PIXELS
from bad_refer import REFER
from bad_regions import REGIONS

TOPICS = "\n" + "".join(part.lstrip() for part in (BOXES, CLIPS, DENSE, LMS, MASKS, PAIRS, PIXELS, REFER, REGIONS))
