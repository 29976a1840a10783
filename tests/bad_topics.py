"""Wrong values of keys that have files of their own, in the form of `VALUES` in tests/bad_inputs.py."""

from bad_clips import CLIPS
from bad_dense import DENSE
from bad_lms import LMS
from bad_masks import MASKS
from bad_pixels import PIXELS

TOPICS = CLIPS + LMS.lstrip() + MASKS.lstrip() + PIXELS.lstrip() + DENSE.lstrip()
