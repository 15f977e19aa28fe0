"""The transformer in the browser answers as the one in torch."""

import json
import os
import shutil
import subprocess

import pytest
import torch
from torch.func import functional_call

from mamlkit import Batch, InContextLearner
from mamlkit.course import in_context
from mamlkit.paths import ROOT

NODE = shutil.which("node")


def answers_of_javascript(model, points, xs, tmp_path):
    if not NODE:
        skip = pytest.fail if os.environ.get("CI") else pytest.skip
        skip("no node to run JavaScript with")
    source = ROOT / "mamlkit" / "course" / "in_context.js"
    shutil.copy(source, tmp_path / "in_context.mjs")
    question = {
        "weights": in_context.export_weights(model),
        "points": points.tolist(),
        "xs": xs.tolist(),
    }
    (tmp_path / "question.json").write_text(json.dumps(question))
    (tmp_path / "ask.mjs").write_text(
        "import { readFileSync } from 'node:fs';\n"
        "import { answer, readWeights } from './in_context.mjs';\n"
        "const q = JSON.parse(readFileSync('question.json', 'utf8'));\n"
        "const found = answer(readWeights(q.weights), q.points, q.xs);\n"
        "console.log(JSON.stringify(found));\n"
    )
    said = subprocess.run(
        [NODE, "ask.mjs"], cwd=tmp_path, capture_output=True, check=True
    )
    return torch.tensor(json.loads(said.stdout), dtype=torch.float64)


@pytest.mark.parametrize("k_shot", [1, 7])
@pytest.mark.parametrize("size", [{}, {"width": 24, "layers": 2, "heads": 3}])
def test_javascript_answers_as_torch_does(size, k_shot, tmp_path):
    torch.manual_seed(k_shot)
    model = InContextLearner(**size)
    points = 3 * torch.randn(k_shot, 2)
    xs = torch.linspace(-5, 5, 9)
    params = in_context.rounded(model)
    support = Batch(points[:, :1], points[:, 1:])
    expected = functional_call(model, params, (support, xs[:, None]))[:, 0]
    found = answers_of_javascript(model, points, xs, tmp_path)
    torch.testing.assert_close(
        found, expected.detach().double(), rtol=1e-4, atol=1e-4
    )
    assert expected.std() > 0.01  # there is something to compare


def test_a_rounded_weight_is_within_half_a_level():
    weight = torch.randn(5, 40)
    levels, scales = in_context.round_rows(weight)
    off = (levels * scales[:, None] - weight).abs()
    assert (off <= 0.5001 * scales[:, None]).all()
    assert levels.abs().amax(dim=1).tolist() == [127] * 5
