"""From tokens as they come to a text that stays: whole characters, and nothing of a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from pyattn.models._generator_tokens import GeneratorTokens

UNKNOWN = "\ufffd"  # stands for bytes that are no character, or not yet
MOST_UNKNOWN = 3  # bytes that may yet become one
MOST_BEFORE = 8  # tokens of the prompt that are looked at


class Characters:
    """Tokens are parts of words, or of characters. Only a few of the last are looked at, so that
    the time for one does not depend on how many there were."""

    def __init__(self, tokens: GeneratorTokens, prompt: Sequence[int]) -> None:
        self._tokens = tokens
        # What is before decides: at the beginning of a text some tokenizers leave out a space.
        for count in range(1, MOST_BEFORE + 1):
            self._ids = list(prompt[-count:])
            before = tokens.text(self._ids)
            if before and UNKNOWN not in before:
                break
        self._shown = len(tokens.text(self._ids))
        self._before = len(self._ids)  # of the text before the piece that is being made

    def of(self, token: int) -> str:
        """What is certain now that this token has come."""
        self._ids.append(token)
        text = self._tokens.text(self._ids)
        unknown = len(text) - len(text.rstrip(UNKNOWN))
        if len(self._ids) - self._before > MOST_UNKNOWN:  # some are none, whatever comes
            unknown = min(unknown, MOST_UNKNOWN)
        # In the tokenizers of Llama 2 one unfinished character makes all bytes before it unknown.
        end = max(len(text) - unknown, self._shown)
        piece, self._shown = text[self._shown : end], end
        if end == len(text) and piece:
            self._ids = self._ids[self._before :]
            self._before = len(self._ids)
            self._shown = len(self._tokens.text(self._ids))
        return piece


class Stops:
    """Holds back what may be the beginning of a stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.met = False

    def of(self, piece: str) -> str:
        """What is certain now: all before the first stop string, once there is one."""
        text = self._held + piece
        places = [at for at in map(text.find, self._stops) if at >= 0]
        self.met = bool(places)
        end = min(places) if places else len(text) - self._doubtful(text)
        self._held = text[end:]
        return text[:end]

    def rest(self) -> str:
        """What has been held back, when nothing comes any more."""
        return "" if self.met else self._held

    def _doubtful(self, text: str) -> int:
        """How many of the last characters begin a stop string."""
        longest = max(map(len, self._stops), default=1) - 1
        for count in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-count:]) for stop in self._stops):
                return count
        return 0
