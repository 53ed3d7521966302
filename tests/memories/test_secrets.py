"""Credentials are found before they are stored, and harmless texts pass.

`data/secrets.jsonl` holds one text a line. Every value is invented. `[[` and `]]` surround what must be reported, in
the order of `kinds`; `{split}` stands inside values so that the file itself shows no scanner a contiguous key. Both are
removed here. A line without kinds is harmless.
"""

import itertools
import json
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memories.secrets import Secret, find_secrets

SPLIT, OPEN, CLOSE = "{split}", "[[", "]]"


def _labelled() -> list[tuple[str, list[Secret]]]:
    path = Path(__file__).parent / "data" / "secrets.jsonl"
    return [_parse(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _parse(row: dict[str, object]) -> tuple[str, list[Secret]]:
    raw, kinds = str(row["text"]).replace(SPLIT, ""), row["kinds"]
    assert isinstance(kinds, list)
    text, secrets = "", []
    for kind in kinds:
        before, raw = raw.split(OPEN, 1)
        value, raw = raw.split(CLOSE, 1)
        start = len(text) + len(before)
        secrets.append(Secret(str(kind), start, start + len(value)))
        text += before + value
    return text + raw, secrets


LABELLED = _labelled()
WITH_SECRETS = [(text, secrets) for text, secrets in LABELLED if secrets]
HARMLESS = [text for text, secrets in LABELLED if not secrets]


def test_the_labelled_set_is_large_and_varied() -> None:
    assert len(WITH_SECRETS) >= 60
    assert len(HARMLESS) >= 100
    assert len({text for text, _ in LABELLED}) == len(LABELLED)
    assert len({secret.kind for _, secrets in WITH_SECRETS for secret in secrets}) >= 35


def test_labelled_secrets_are_found_with_kind_and_place() -> None:
    wanted = [(text, secret) for text, secrets in WITH_SECRETS for secret in secrets]
    missed = [f"{secret.kind}: {text}" for text, secret in wanted if secret not in find_secrets(text)]
    assert len(missed) <= 0.03 * len(wanted), "\n".join(missed)


def test_texts_with_secrets_raise_no_second_alarm() -> None:
    surplus = [(text, found) for text, secrets in WITH_SECRETS if (found := set(find_secrets(text)) - set(secrets))]
    assert len(surplus) <= 0.03 * len(WITH_SECRETS), surplus


def test_harmless_texts_raise_no_alarm() -> None:
    alarms = [f"{found[0].kind}: {text}" for text in HARMLESS if (found := find_secrets(text))]
    assert len(alarms) <= 0.01 * len(HARMLESS), "\n".join(alarms)


def test_many_secrets_in_one_text_are_all_found() -> None:
    text, wanted = "", Counter[str]()
    for part, secrets in WITH_SECRETS:
        text += part + "\n\n"
        wanted.update(secret.kind for secret in secrets)
    found = find_secrets(text)
    assert len(found) >= 0.97 * wanted.total()
    _assert_well_formed(text, found)


def test_offsets_count_characters_of_the_given_text() -> None:
    # Lower-casing "İ" makes two characters of it; the offsets must not move.
    text = "İİ 🙂 password=Gr4pe!Harbor92 ok"
    assert [text[secret.start : secret.end] for secret in find_secrets(text)] == ["Gr4pe!Harbor92"]


def test_the_specific_kind_wins_over_the_general_one() -> None:
    token = "ghp" + "_" + "a8Kd02mQxZ71vNbT5yRw" + "LpE93uHsJcF6gViO"
    assert [secret.kind for secret in find_secrets(f"api_key={token} token: {token}")] == ["github_token"] * 2


@pytest.mark.parametrize(
    "unit",
    [
        "a", ":", "1", "4 ", "4539 ", "=", "\\", '"', "İ", "://", "://a:b", "://a:a@", "password=", "password for ",
        "password is ", "--password ", "key=", "secret=", "token: ", "api key for a ", "-----BEGIN ",
        "-----BEGIN" " PRIVATE KEY-----", "-----BEGIN" " RSA PRIVATE KEY-----\nabc ", "sk-", "eyJ", "-eyJ",
        "eyJaaaaaaaaaaaa.", "AKIA", "Bearer ", "Bearer aaaaaaaa", "authorization: ", "curl -u a:", "login ",
        "heroku api key ", "twilio auth token ", "AccountKey=", "sig=", ":AA", "Q~",
        "password=testtesttesttesttesttest!", "password=Aa1aAa1a", "AaB ", "login a:",
        "password=" + "a." * 60 + "! ", "password=" + "Ab" * 60 + "! ", "password=s3cr3T!x ", "İpassword=",
    ],
)  # fmt: skip
def test_repetition_takes_linear_time(unit: str) -> None:
    text = (unit * 20_000)[:20_000]
    began = time.perf_counter()
    found = find_secrets(text)
    # A few milliseconds are usual; the bound only tells linear from quadratic on a busy machine.
    assert time.perf_counter() - began < 4
    _assert_well_formed(text, found)


_PIECES = st.sampled_from(
    ["password", "=", ": ", "://", "@", "sk-", "ghp_", "eyJ", "-----BEGIN" " PRIVATE KEY-----", "AKIA", "Bearer ", "İ",
     " is ", "token", "4539578763621486", "Xk9!mmP2qq", "Q~", '"', "\n", "AccountKey=",
     "hooks.slack.com/services/T", "curl -u a:"]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(st.one_of(_PIECES, st.text(max_size=12))).map("".join)))
@settings(max_examples=400, deadline=None)
def test_any_text_gives_ordered_secrets_inside_it(text: str) -> None:
    _assert_well_formed(text, find_secrets(text))


def _assert_well_formed(text: str, found: list[Secret]) -> None:
    assert all(0 <= secret.start < secret.end <= len(text) for secret in found)
    assert all(left.end <= right.start for left, right in itertools.pairwise(found))
