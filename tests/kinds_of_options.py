"""What the options of conf are for: protocols of data, and what methods give a task."""

from omegaconf import OmegaConf
from toys import ROOT

from runs.arguments import import_target

# The protocol that data of other classes than FewShotData select, and the shots that it starts with.
PROTOCOL_OF = {
    "datamodules.captioned.CaptionedData": ("captions", -1),
    "datamodules.questions.QuestionData": ("captions", -1),
    "datamodules.segmented.SegmentedData": ("pixels", -1),
    "datamodules.detected.DetectedData": ("pixels", -1),
    "datamodules.grounding.GroundingData": ("grounding", 0),
    "datamodules.relations.PairData": ("grounding", 0),
}
SHOTS_OF = dict(PROTOCOL_OF.values())


def gives_class_logits(method):
    """Whether a method of conf/method gives what classification needs, by its class or that of the yaml it is made of."""
    node = OmegaConf.load(ROOT / "conf" / "method" / f"{method}.yaml")
    node = node.get("method", node)  # of yamls that set keys outside of their group too
    if "_target_" not in node:
        return gives_class_logits(next(entry for entry in node.defaults if isinstance(entry, str) and entry != "_self_"))
    return "class logits" in import_target(node["_target_"], method).offers
