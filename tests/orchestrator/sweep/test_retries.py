"""Which trials get another try, how often, and in whose company."""

from __future__ import annotations

import pytest

from orchestrator.home.records import TrialConfig
from orchestrator.sweep.driver import NUM_RETRIES, Retries
from tests.orchestrator.trials import complete, config, failed


def test_a_lost_trial_runs_again_a_limited_number_of_times() -> None:
    retries, of = Retries(), config()
    for _ in range(NUM_RETRIES):
        assert retries.take_back(of, failed(of, "lost"))
        assert retries.is_waiting
        assert retries.take() == of
    assert not retries.take_back(of, failed(of, "lost"))
    assert not retries.is_waiting


@pytest.mark.parametrize("kind", ["diverged", "crashed"])
def test_what_would_fail_again_is_not_tried_again(kind: str) -> None:
    retries, of = Retries(), config()
    assert not retries.take_back(of, failed(of, kind))
    assert not retries.take_back(of, complete(of))
    assert retries.take() is None
    assert retries.take_alone() is None


def test_out_of_memory_is_tried_once_while_nothing_else_runs() -> None:
    retries, of = Retries(), config()
    assert retries.take_back(of, failed(of, "memory"))
    assert retries.take() is None, "it is not for company"
    assert retries.take_alone() == of
    assert retries.runs_alone
    assert not retries.take_back(of, failed(of, "memory"))
    assert not retries.runs_alone


@pytest.mark.parametrize(("gpu", "whole"), [(0.25, 1.0), (0.5, 1.0)])
def test_a_share_of_a_gpu_becomes_a_whole_one(gpu: float, whole: float) -> None:
    retries, of = Retries(), config(share={"cpu": 1.0, "gpu": gpu})
    assert retries.take_back(of, failed(of, "memory"))
    again = retries.take()
    assert isinstance(again, TrialConfig)
    assert again.share.gpu == whole
    assert again.trial_id == of.trial_id
    assert not retries.take_back(again, failed(again, "memory"))


def test_a_lone_trial_that_is_lost_lets_the_others_go_on() -> None:
    retries, of = Retries(), config()
    retries.take_back(of, failed(of, "memory"))
    assert retries.take_alone() == of
    assert retries.take_back(of, failed(of, "lost"))
    assert not retries.runs_alone
    assert retries.take() is None
    assert retries.take_alone() == of
