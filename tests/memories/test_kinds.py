import json
from collections import Counter
from pathlib import Path

import pytest

from memories.kinds import kind_of
from memories.models import Kind

CODING = Path(__file__).parents[1] / "evaluation" / "coding" / "memories.jsonl"

EXAMPLES = {
    Kind.PREFERENCE: [
        "The user prefers short answers without bullet points.",
        "I like tabs over spaces.",
        "Please answer in German.",
        "Never add comments that repeat the code.",
        "Ich bevorzuge kurze Antworten.",
        "Je préfère les réponses courtes.",
        "Prefiero respuestas cortas en español.",
    ],
    Kind.DECISION: [
        "We decided to use PostgreSQL instead of MongoDB because of transactions.",
        "Sessions are stored in Redis rather than in the database.",
        "Wir haben beschlossen, Redis abzuschaffen.",
        "Nous avons décidé d'utiliser PostgreSQL.",
        "Decidimos usar PostgreSQL.",
    ],
    Kind.PROCEDURE: [
        "To deploy: run `make release` and then `kubectl rollout status deploy/api`.",
        "Run the tests with `pytest -q --reuse-db`.",
        "Steps to rotate the key: 1. create a new one, 2. deploy, 3. revoke the old one.",
        "Um die Tests zu starten, `make test` ausführen.",
        "Pour lancer les tests : `make test` puis `make lint`.",
    ],
    Kind.ERROR: [
        "ImportError: cannot import name 'x' from 'y' means that the package is older than 2.0.",
        "The build failed with exit code 137 because the runner had 2 GB; fixed by using a larger one.",
        "Der Import brach ab, weil das Zeichen fehlte; jetzt wird es ersetzt.",
        "Le build échouait à cause du cache ; corrigé en le vidant.",
        "El despliegue falló porque faltaba la variable; corregido.",
    ],
    Kind.REFERENCE: [
        "The API docs are at https://docs.example.com/api",
        "Anna is responsible for payments; ask Anna about refunds.",
        "Ansprechpartner für Steuern ist Frau Seidel.",
    ],
    Kind.FACT: [
        "The server listens on port 8080.",
        "Robin lives in Lisbon and works in the mornings.",
        "Der Dienst läuft auf Port 8080.",
        "The timeout of the payment service is 30 seconds.",
        "The error handler lives in api/errors.py.",
        "Tests run in parallel with four workers.",
        "La base de datos es PostgreSQL 16.",
        "",
        "✓",
    ],
}


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in EXAMPLES.items() for text in texts])
def test_a_text_says_of_what_kind_it_is(kind: str, text: str) -> None:
    assert kind_of(text) == kind


def test_kinds_are_right_more_often_than_not_on_texts_nobody_looked_at(subtests: pytest.Subtests) -> None:
    """Memories with an odd number were read while the rules were written; of the others only these figures were."""
    rows = [json.loads(line) for line in CODING.read_text().splitlines()]
    judged = [row for row in rows if row["kind"] != Kind.MESSAGE]
    for half, odd, floor in (("developed on", 1, 0.80), ("held out", 0, 0.59)):
        with subtests.test(half):
            found = [(row["kind"], kind_of(row["content"])) for row in judged if int(row["id"][1:]) % 2 == odd]
            right = sum(given == guessed for given, guessed in found) / len(found)
            assert right >= floor, Counter(found)


def test_a_long_text_takes_no_longer() -> None:
    assert kind_of("x " * 10_000) == Kind.FACT
    assert kind_of("`" * 20_000) == Kind.FACT
    assert kind_of("a:" * 10_000 + "Error") == Kind.FACT
