"""The offline teacher with the real bi-encoder."""

from __future__ import annotations

from pathlib import Path

from tests.unit.training.synthetic import RECIPE, group, mined
from training import synthesize
from training.records import Judgement, read
from training.stages import Stage
from training.synthesize import OfflineConfig, SynthesizeConfig
from whyrank.embedded.cache import silent
from whyrank.settings import Settings

QUERIES = ("write dirty pages more rarely", "get disk space back from deleted records", "angle unit of sin and cos")


def test_the_real_encoder_finds_what_answers_a_query_in_other_words(tmp_path: Path) -> None:
    run = mined(tmp_path, [group(f"g{i}", query) for i, query in enumerate(QUERIES)])
    config = SynthesizeConfig(offline=OfflineConfig(shares=(0.5, 0.2, 0.3)))
    report = synthesize.run(run, config, Settings(), RECIPE, silent)
    judgements = list(read(run.folder(Stage.SYNTHESIZE) / "judgements.jsonl", Judgement))
    assert len(judgements) == 9
    for i in range(3):
        best = max((j for j in judgements if j.group == f"g{i}"), key=lambda j: j.relevance)
        assert best.passage == f"g{i}-p{i}"
        assert best.label == 2
    assert report.figures["teacher"].startswith("offline/bge-small-en-v1.5@")
    again = synthesize.run(run, config, Settings(), RECIPE, silent)
    assert again.figures["encoded"] == {"passages": 0, "queries": 0, "sentences": 0}
    assert again.outputs == report.outputs
