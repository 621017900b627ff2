"""Which verdict answers which question of a content filter, and what it does (reference §3.1).

    verdict \\ question    handle_new_flow        handle_…_data            handle_…_data_complete
    allow                 NEXT                   FREE this direction      FREE
    filter_data           LOOK, then NEXT        -                        -
    data(pass, peek)      -                      ADVANCE                  FREE: nothing is left to be shown
    drop                  END                    END, the whole flow      END
    pause                 PAUSE                  PAUSE                    PAUSE
    need_rules            CONTROL                CONTROL                  CONTROL
    remediate             END                    END                      END
    url_append_string     END                    -                        -

A verdict where there is a dash is nonsense, and counts as if the callback had raised an exception: policy decides.
"""

from __future__ import annotations

from enum import Enum

from ..filter_verdicts import VerdictKind
from ..rules import Direction


class Question(Enum):
    """What a filter can be asked."""

    NEW_FLOW = "new flow"
    DATA = "data"
    COMPLETE = "complete"


class Effect(Enum):
    """What a verdict does."""

    NEXT = "this filter lets the flow begin; the next one is asked"
    LOOK = "so, and it wants to see bytes of it"
    FREE = "the rest of this direction is let go"
    ADVANCE = "some bytes are let go; the filter is asked again"
    PAUSE = "nothing moves until it is resumed"
    CONTROL = "the control provider is asked in its place"
    END = "the flow ends"


_ALWAYS = {
    VerdictKind.DROP: Effect.END,
    VerdictKind.REMEDIATE: Effect.END,
    VerdictKind.PAUSE: Effect.PAUSE,
    VerdictKind.NEED_RULES: Effect.CONTROL,
}
ANSWERS: dict[Question, dict[VerdictKind, Effect]] = {
    Question.NEW_FLOW: {
        VerdictKind.ALLOW: Effect.NEXT,
        VerdictKind.FILTER_DATA: Effect.LOOK,
        VerdictKind.URL_APPEND_STRING: Effect.END,
        **_ALWAYS,
    },
    Question.DATA: {VerdictKind.ALLOW: Effect.FREE, VerdictKind.DATA: Effect.ADVANCE, **_ALWAYS},
    Question.COMPLETE: {VerdictKind.ALLOW: Effect.FREE, VerdictKind.DATA: Effect.FREE, **_ALWAYS},
}


def callback(question: Question, direction: Direction | None) -> str:
    """The name of the method that is asked, for log and errors."""
    if direction is None:
        return "handle_new_flow"
    return f"handle_{direction.name.lower()}_data{'_complete' if question is Question.COMPLETE else ''}"
