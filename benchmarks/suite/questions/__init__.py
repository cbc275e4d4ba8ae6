"""The questions by name, in the order in which they are asked and shown."""

from __future__ import annotations

from collections.abc import Mapping

from suite.questions.article import Article
from suite.questions.base import Question
from suite.questions.calls import Calls
from suite.questions.crash import Crash
from suite.questions.order import Order
from suite.questions.payload import Payload
from suite.questions.pictures import Pictures
from suite.questions.stuck import Stuck

__all__ = ["QUESTIONS"]

_ALL = (Article(), Pictures(), Order(), Calls(), Payload(), Crash(), Stuck())
QUESTIONS: Mapping[str, Question] = {question.name: question for question in _ALL}
