"""SECURITY.md says what the code does."""

from __future__ import annotations

import re

from seqmnist_tf.serve import ask, guard, picture
from tests.toy import ROOT

TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
DEFAULTS = guard.Limits()
LIMITS = {
    "connections at a time": f"{DEFAULTS.connections}",
    "time for the head of a request": f"{DEFAULTS.head_seconds:g} s",
    "time for the body of a request": f"{DEFAULTS.body_seconds:g} s",
    "size of the body of a request": f"{guard.MAX_BODY_BYTES >> 20} MiB",
    "rows of a request": f"{guard.MAX_REQUEST_ROWS}",
    "time for an answer": f"{DEFAULTS.answer_seconds:g} s",
    "time in which a client must read an answer": f"{DEFAULTS.reader_seconds:g} s",
    "pixels of a picture": f"{picture.MAX_PIXELS:,}",
    "side of a picture": f"{picture.MAX_SIDE:,} pixels",
    "pictures decoded at a time": f"{DEFAULTS.decoding_threads}",
    "pictures that may wait": f"{DEFAULTS.waiting_pictures}",
    "time for decoding a picture, until the request fails": f"{DEFAULTS.decoding_seconds:g} s",
}


def test_the_limits_are_the_servers() -> None:
    assert dict(re.findall(r"^\| ([a-z].*?) \| (\d.*?) \|$", TEXT, re.MULTILINE)) == LIMITS
    assert f"which may have {ask.MAX_ANSWER_BYTES >> 20} MiB at most" in TEXT


def test_the_formats_are_the_pictures() -> None:
    (sentence,) = re.findall(r"the page open ([\w, ]+) only\.", TEXT)
    assert [name.upper() for name in re.split(", | and ", sentence)] == list(picture.FORMATS)
