from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from orchestrator.spec.options import ClassificationOptions
from orchestrator.trial import evaluate
from orchestrator.trial.data.dataset import DataSet, Split
from orchestrator.trial.evaluate import Evaluator
from orchestrator.trial.tasks import classification, cross_entropy, num_correct

CLASSES = classification(ClassificationOptions(name="classification"))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_of_one_prediction_a_sample_it_is_torchs_bit_for_bit(reduction: str) -> None:
    outputs = torch.randn(300, 7, requires_grad=True)
    targets = torch.randint(7, (300,))
    mine = cross_entropy(outputs, targets, reduction=reduction)  # type: ignore[arg-type]
    torchs = F.cross_entropy(outputs, targets, reduction=reduction)
    assert torch.equal(mine, torchs)
    gradients = [torch.autograd.grad(loss, [outputs])[0] for loss in (mine, torchs)]
    assert torch.equal(*gradients)


def test_of_every_token_it_is_the_mean_over_tokens() -> None:
    outputs, targets = torch.randn(4, 6, 5, dtype=torch.float64), torch.randint(5, (4, 6))
    losses = [
        F.cross_entropy(outputs[i, t].unsqueeze(0), targets[i, t].unsqueeze(0)) for i in range(4) for t in range(6)
    ]
    assert cross_entropy(outputs, targets).item() == pytest.approx(torch.stack(losses).mean().item())
    assert cross_entropy(outputs, targets, reduction="sum").item() == pytest.approx(sum(losses).item())  # type: ignore[union-attr]
    # torch's own reading of three dimensions: classes second.
    assert torch.allclose(cross_entropy(outputs, targets), F.cross_entropy(outputs.transpose(1, 2), targets))


def test_correct_predictions_are_counted_token_by_token() -> None:
    outputs = torch.eye(3).expand(2, 3, 3)
    assert num_correct(outputs, torch.tensor([[0, 1, 2], [0, 0, 0]])).item() == 4
    assert num_correct(outputs[0], torch.tensor([0, 1, 0])).item() == 2


def test_an_evaluator_measures_tokens_in_chunks_of_few_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = torch.randint(5, (40, 9))
    split = Split(tokens[:, :-1], tokens[:, 1:])
    model = nn.Embedding(5, 5)
    seen: list[int] = []
    model.register_forward_hook(lambda _, inputs, output: seen.append(len(inputs[0])))
    evaluator = Evaluator(model, DataSet(split, split, split, (8,), 5, "here"), CLASSES)
    whole = evaluator.curves()
    scores = model(split.inputs)
    assert whole["validation_loss"] == pytest.approx(cross_entropy(scores, split.targets).item(), rel=1e-6)
    assert whole["validation_accuracy"] == pytest.approx((scores.argmax(-1) == split.targets).double().mean().item())
    monkeypatch.setattr(evaluate, "CHUNK_TOKENS", 80)
    seen.clear()
    assert evaluator.curves() == pytest.approx(whole, rel=1e-6)
    assert seen == [10] * 8
