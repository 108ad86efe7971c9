"""Notes: texts for people that programs tell apart by their codes."""

from __future__ import annotations

import copy
import json
import pickle

from spikeattn.boundary.notes import Note


def test_a_note_is_its_text_and_has_a_code():
    note = Note("silent", "1 of 19 neurons never fired: block.0")
    assert note == "silent: 1 of 19 neurons never fired: block.0" and note.code == "silent"
    assert note.text == "1 of 19 neurons never fired: block.0"
    assert json.loads(json.dumps([note])) == [str(note)] and f"{note}" == str(note)
    plain = Note.plain("first-layer", "first layer conv: charged once")
    assert plain == plain.text == "first layer conv: charged once" and plain.code == "first-layer"


def test_a_note_is_read_from_its_text():
    read = Note.read("untrained: the weights are random")
    assert (read.code, read.text) == ("untrained", "the weights are random")
    for text in ("first layer conv: charged once", "no colon", ""):
        assert (Note.read(text).code, Note.read(text).text) == ("", text)
    plain = Note.plain("first-layer", "first layer conv: charged once")
    assert Note.read(plain) is plain


def test_copies_keep_code_and_text():
    for note in (Note("words", "16 bits"), Note.plain("batch-norms", "batch norms: one each")):
        for other in (copy.deepcopy(note), copy.copy(note), pickle.loads(pickle.dumps(note))):
            assert (other, other.code, other.text, type(other)) == (note, note.code, note.text, Note)
