"""What is known of `trref.tokens.dual_clip`."""

from trref.catalog import Limit, Method, Objective
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.places import REINFORCE_OVER_ANSWERS, nothing_negative
from trref.tokens.dual_clip import dual_clip, two_sided_clip

METHOD = Method(
    key="ye2020mastering",
    provenance="confirmed",
    functions=(
        Objective(
            f=dual_clip,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={"default": {}, "probe": {"clip": 0.35, "bound": 1.6}},
            limits=(
                Limit("grpo.grpo", {"bound": 1e14}),
                Limit("grpo.grpo", {}, where=nothing_negative),
                REINFORCE_OVER_ANSWERS,
            ),
        ),
        Objective(
            f=two_sided_clip,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={
                "default": {},
                "below the clip": {"bound": 1.1},
                "probe": {"clip": 0.35, "bound": 1.6},
            },
            limits=(
                Limit("grpo.grpo", {"bound": 1e14}),
                Limit("grpo.grpo", {}, where=nothing_negative),
                Limit("dual_clip.dual_clip", {}),
                Limit("dual_clip.dual_clip", {"bound": 2.5}, {"bound": 2.5}),
                REINFORCE_OVER_ANSWERS,
            ),
        ),
    ),
)
