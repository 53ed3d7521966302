"""Search with the vectors of a real sentence transformer, through the door that every provider's come in."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings

from memories.search import search
from tests.memories.test_embedding_spaces import build, forget_all, remember, texts
from tests.people import People

PYTHON, MODEL = os.environ.get("MEM0_TEST_MODEL_PYTHON", ""), os.environ.get("MEM0_TEST_MODEL", "")
DIMENSIONS = 384
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        not (PYTHON and MODEL),
        reason="No real model here: set MEM0_TEST_MODEL to a directory with the ONNX file and tokenizer of a sentence"
        f" transformer of {DIMENSIONS} dimensions (all-MiniLM-L6-v2), and MEM0_TEST_MODEL_PYTHON to a Python that has"
        " onnxruntime, tokenizers and numpy.",
    ),
]

MEMORIES = [
    "Robin drives to work in a small electric car.",
    "The kitchen was painted green last spring.",
    "Our dog is afraid of thunderstorms.",
    "Payments are retried with growing pauses, five times at most.",
    "The office closes early on Fridays.",
    "Invoices are stored as integers of the smallest coin.",
    "Mara is allergic to hazelnuts.",
    "Backups are copied to another continent every night.",
    "The meeting room on the third floor has no projector.",
    "Passwords must have at least twelve characters.",
]
# With hardly a word in common.
PARAPHRASES = {
    "how does he commute": "Robin drives to work in a small electric car.",
    "what scares the puppy": "Our dog is afraid of thunderstorms.",
    "food that would make her ill": "Mara is allergic to hazelnuts.",
    "where do we keep copies in case of disaster": "Backups are copied to another continent every night.",
    "how do we represent money": "Invoices are stored as integers of the smallest coin.",
    "attempts after a failed charge": "Payments are retried with growing pauses, five times at most.",
}


@pytest.fixture
def model() -> Iterator[None]:
    command = [PYTHON, "-m", "tests.model_server", MODEL]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=settings.BASE_DIR) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        assert address, "the model's server did not start"  # it has ended, so nobody waits for it
        given = settings.PROVIDERS["embedder"] | {"kind": "compatible", "base_url": address, "model": Path(MODEL).name}
        given |= {"dimensions": DIMENSIONS, "timeout_ms": 20_000, "query_budget_ms": 5_000}
        try:
            with override_settings(PROVIDERS=settings.PROVIDERS | {"embedder": given}):
                forget_all()
                yield
            forget_all()
        finally:
            server.terminate()


def test_paraphrases_are_found_by_a_real_models_vectors(people: People, model: Any) -> None:
    alice = people.alice.actor
    remember(alice, *MEMORIES)
    alone = {query for query, answer in PARAPHRASES.items() if texts(search(alice, query))[0] == answer}
    build(dimensions=DIMENSIONS, model=Path(MODEL).name)
    found = {query: texts(search(alice, query))[0] for query in PARAPHRASES}
    assert found == PARAPHRASES
    assert alone < PARAPHRASES.keys(), "the local table knows words, not sentences"
