"""What is fitted is found again: on data made from known weights, and as a file that says where it came from."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mem0stack.evaluation.fitting import Asked, Candidates, answered_unseen, calibrate, held_out
from mem0stack.evaluation.logit import Choice, NothingToFit, fit_choice, fit_logistic, logistic
from mem0stack.evaluation.sets import Question
from mem0stack.lib.errors import InvalidArgument
from memories import ranking


def _choices(weights: list[float], *, questions: int, seed: int = 1) -> list[Choice]:
    """Candidates drawn at random, of which one answers as often as the model says."""
    draw, made = np.random.default_rng(seed), []
    for _ in range(questions):
        signals = draw.normal(size=(20, len(weights)))
        likely = np.exp(signals @ np.array(weights))
        is_gold = np.zeros(20, dtype=bool)
        is_gold[draw.choice(20, p=likely / likely.sum())] = True
        made.append(Choice(signals, is_gold, np.zeros(20)))
    return made


def test_the_weights_that_made_the_data_are_found() -> None:
    found = fit_choice(_choices([1.5, -0.7, 0.0, 0.3], questions=4_000), l2=0.0)

    assert found == pytest.approx([1.5, -0.7, 0.0, 0.3], abs=0.06)


def test_candidates_that_are_scored_too_high_by_a_constant_change_nothing() -> None:
    choices = _choices([1.0, -1.0], questions=200)
    moved = [Choice(choice.signals + 7.0, choice.is_gold, choice.offsets) for choice in choices]

    assert fit_choice(moved) == pytest.approx(fit_choice(choices), abs=1e-2)


def test_several_answers_share_the_probability() -> None:
    # One signal tells both answers from the rest, the other tells them apart: nothing says that it should count.
    signals = np.array([[1.0, 1.0], [1.0, -1.0], [0.0, 0.0], [0.0, 0.0]])
    found = fit_choice([Choice(signals, np.array([True, True, False, False]), np.zeros(4))])

    assert found[0] > 1
    assert found[1] == pytest.approx(0)


def test_a_penalty_keeps_weights_finite_where_the_data_would_not() -> None:
    perfect = Choice(np.array([[1.0], [0.0]]), np.array([True, False]), np.zeros(2))

    assert 0 < fit_choice([perfect], l2=0.1)[0] < fit_choice([perfect], l2=0.001)[0] < 10


def test_questions_without_an_answer_among_their_candidates_say_nothing() -> None:
    choices = _choices([1.0, -1.0], questions=50)
    lost = Choice(np.full((5, 2), 9.0), np.zeros(5, dtype=bool), np.zeros(5))

    assert fit_choice([*choices, lost]) == pytest.approx(fit_choice(choices))
    with pytest.raises(NothingToFit):
        fit_choice([lost])


def test_a_logistic_map_is_found_again() -> None:
    draw = np.random.default_rng(2)
    features = draw.normal(size=(20_000, 2))
    is_true = draw.random(20_000) < logistic(features @ np.array([2.0, -0.5]) - 1.0)
    slopes, intercept = fit_logistic(features, is_true, l2=0.0)

    assert slopes == pytest.approx([2.0, -0.5], abs=0.1)
    assert intercept == pytest.approx(-1.0, abs=0.1)


def test_a_logistic_map_of_one_class_alone_does_not_break() -> None:
    slopes, intercept = fit_logistic(np.array([[0.1], [0.9]]), np.array([True, True]))

    assert np.isfinite([*slopes, intercept]).all()


def _asked(
    fold: str, truth: list[float], *, count: int, seed: int, is_held_out: bool | None = None, none: int = 0
) -> list[Asked]:
    """Questions of a set named by the fold's first part; the last `none` have no answer, and candidates that all look
    alike."""
    question = Question("?", "kind", frozenset(), is_held_out=is_held_out)
    made = []
    for number, choice in enumerate(_choices(truth, questions=count, seed=seed)):
        keys = [f"m{place}" for place in range(len(choice.is_gold))]
        gold = {key for key, is_gold in zip(keys, choice.is_gold, strict=True) if is_gold}
        is_none = number >= count - none
        asked = replace(question, answers=frozenset() if is_none else frozenset(gold))
        signals = np.zeros((len(keys), len(ranking.COLUMNS)))
        signals[:, : len(truth)] = 0.1 * choice.signals if is_none else choice.signals
        pool = Candidates(keys, signals, choice.offsets, signals[:, 0], np.zeros(len(keys)))
        few = Candidates(keys[:3], signals[:3], choice.offsets[:3], signals[:3, 0], np.zeros(3))
        made.append(Asked(fold.partition(".")[0], fold, asked, pool, few))
    return made


def _figures(asked: list[Asked]) -> dict[str, Any]:
    return {name: found["figures"] for name, found in held_out(answered_unseen(asked)).items()}


def test_a_conversation_is_measured_by_weights_that_the_others_gave() -> None:
    # The odd one out is ranked upside down by what the others say, and would not be by weights of its own.
    asked = _asked("talks.a", [3.0], count=60, seed=1) + _asked("talks.b", [3.0], count=60, seed=2)
    odd = _asked("odd.c", [-3.0], count=20, seed=3)
    found = _figures(asked + odd)

    assert found["talks"]["overall"]["questions"] == 120
    assert found["talks"]["overall"]["mrr"] > 0.5
    assert found["odd"]["overall"]["mrr"] < 0.1
    assert fit_choice([each.choice for each in odd])[0] < -1


def test_the_held_out_half_is_measured_and_never_fitted() -> None:
    fitted = [
        each
        for part in range(3)
        for each in _asked(f"coding.{part}", [3.0], count=30, seed=part, is_held_out=False, none=5)
    ]
    kept = _asked("coding.held out", [-3.0], count=60, seed=9, is_held_out=True)
    found = _figures(fitted + kept)

    assert found["coding"].keys() == {"overall", "kind", "held-out half", "everywhere"}
    assert found["coding"]["overall"]["questions"] == 60
    assert found["coding"]["overall"]["mrr"] < 0.1
    assert not any(each.may_be_fitted for each in kept)


def test_one_conversation_alone_cannot_be_measured() -> None:
    with pytest.raises(InvalidArgument, match="two conversations"):
        held_out(answered_unseen(_asked("talks.a", [1.0], count=5, seed=1)))


def test_what_is_added_whatever_the_weights_is_not_learned_again() -> None:
    choices = _choices([2.0, -1.0], questions=2_000)
    given = [Choice(each.signals[:, :1], each.is_gold, -each.signals[:, 1]) for each in choices]

    assert fit_choice(given, l2=0.0) == pytest.approx([2.0], abs=0.1)


def test_the_line_calls_few_questions_unanswerable_whose_answer_was_found() -> None:
    asked = [
        each
        for part in range(4)
        for each in _asked(f"coding.{part}", [3.0], count=100, seed=part, is_held_out=False, none=30)
    ]
    unseen = answered_unseen(asked)
    calibration = calibrate(unseen)
    below = [each for each in unseen if calibration.scores(each.ranked)[0] < calibration.line]

    found = [each for each in unseen if each.ranked.is_gold[:5].any()]
    assert len(found) > 200
    assert sum(each.ranked.is_gold[:5].any() for each in below) <= 0.02 * len(found)
    # Nothing stands out among their candidates, so many of them can be told.
    assert sum(not each.asked.question.answers for each in below) > 0.5 * 120


def test_a_calibrated_score_is_how_often_a_hit_answers() -> None:
    asked = [each for part in range(4) for each in _asked(f"talks.{part}", [2.0, 1.0], count=200, seed=part)]
    reliability = held_out(answered_unseen(asked))["talks"]["reliability"]

    for one in reliability:
        if one["count"] >= 100:
            assert one["share_relevant"] == pytest.approx(one["mean_score"], abs=0.12)
