"""Classification of texts: no leak, metrics as scikit-learn computes them, serving equals evaluation, bad rows named."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
import torch

from gateline.adapters.served_model import FOLDER, ServedModel
from gateline.batch import LabelledBatch
from gateline.data.examples import open_examples
from gateline.errors import DataError, WorkloadError
from gateline.evaluation import evaluate
from gateline.manifest import Artifact
from gateline.predictors.classification import TextClassifier, class_errors
from gateline.scoring.class_metrics import measure
from gateline.table import TABLE, read_table
from gateline.tasks.classification import TASK
from gateline.training.run import RunSettings, train
from gateline.workload.schema import Schema
from gateline.workload.training import Training
from tests.reviews import prepare_reviews, reviews, reviews_workload


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TextClassifier, Artifact, Artifact, Artifact]:
    folder = tmp_path_factory.mktemp("reviews")
    workload, prepared = prepare_reviews(folder)
    model = train(workload, prepared, folder / "model", RunSettings(seed=1))
    evaluation = evaluate(workload, prepared, model, folder / "evaluation")
    classifier = TASK.load_predictor(model.path)
    assert isinstance(classifier, TextClassifier)
    return classifier, prepared, model, evaluation


def test_it_learns_and_is_measured_beside_its_baselines(
    trained: tuple[TextClassifier, Artifact, Artifact, Artifact],
) -> None:
    scores = trained[3].read_json("metrics.json")
    assert set(scores["baselines"]) == {"majority", "naive_bayes", "logistic_regression"}
    assert scores["test"]["error_rate"] < 0.5 * scores["baselines"]["majority"]["error_rate"]
    assert set(scores["slices"]) == {"critic=c0", "critic=c1", "critic=c2"}
    report = (trained[3].path / "report.html").read_text()
    assert "What the model looked at" in report
    assert "<td>texts</td>" in report.lower()


def test_texts_that_are_all_too_long_to_show_leave_the_report_without_them(
    trained: tuple[TextClassifier, Artifact, Artifact, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateline.scoring.classification.LONGEST_SHOWN", 1)
    evaluation = evaluate(prepare_reviews(tmp_path)[0], trained[1], trained[2], tmp_path / "evaluation")

    report = (evaluation.path / "report.html").read_text()
    assert "What the model looked at" not in report
    assert "Inside the cell" in report  # of a long text, what is read first


def test_a_text_that_is_cut_when_served_is_flagged(
    trained: tuple[TextClassifier, Artifact, Artifact, Artifact],
) -> None:
    served: Any = ServedModel()
    served.load_context(SimpleNamespace(artifacts={FOLDER: str(trained[2].path)}))
    asked = pd.DataFrame({"review": [" ".join(["good"] * length) for length in (20, 21)]})

    assert served.predict(None, asked)["flags"].str.endswith("21 tokens, the first 20 are read").tolist() == [
        False,
        True,
    ]


def test_metrics_equal_scikit_learns(rng: np.random.Generator) -> None:
    probabilities, target = rng.dirichlet([1, 1], 300), rng.integers(0, 2, 300)
    chosen = probabilities.argmax(axis=1)
    measured = measure(probabilities, target, positive=1)
    assert measured["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(target, chosen))
    assert measured["log_loss"] == pytest.approx(sklearn.metrics.log_loss(target, probabilities))
    assert measured["brier"] == pytest.approx(sklearn.metrics.brier_score_loss(target, probabilities[:, 1]))
    assert measured["f1_macro"] == pytest.approx(sklearn.metrics.f1_score(target, chosen, average="macro"))
    assert measured["auroc"] == pytest.approx(sklearn.metrics.roc_auc_score(target, probabilities[:, 1]))
    assert measured["auprc"] == pytest.approx(sklearn.metrics.average_precision_score(target, probabilities[:, 1]))


def test_what_is_evaluated_is_what_is_served_and_what_models_are_compared_by(
    trained: tuple[TextClassifier, Artifact, Artifact, Artifact],
) -> None:
    classifier, prepared, _, evaluation = trained
    said = read_table(evaluation.path / "predictions.parquet")
    answer = classifier.predict(pd.DataFrame({"review": said["text"]}))
    assert answer["verdict"].tolist() == said["answer"].tolist()
    np.testing.assert_allclose(answer["probability_good"], said["probability_good"], rtol=1e-5)
    assert [name for name, _ in classifier.output_columns] == list(answer.columns)
    errors = classifier.test_errors(prepared, "log_loss", ["critic=c1"])
    assert errors.score() == pytest.approx(evaluation.read_json("metrics.json")["test"]["log_loss"], rel=1e-5)
    one = evaluation.read_json("metrics.json")["slices"]["critic=c1"]["log_loss"]
    assert errors.slices == {"critic=c1": pytest.approx(one, rel=1e-5)}


def test_order_and_company_of_a_text_change_nothing(
    trained: tuple[TextClassifier, Artifact, Artifact, Artifact],
) -> None:
    classifier = trained[0]
    texts = reviews(50, seed=3)["review"].tolist()
    together = classifier.probabilities(texts)
    alone = np.concatenate([classifier.probabilities([text]) for text in texts])
    np.testing.assert_allclose(alone, together, atol=1e-6)
    np.testing.assert_allclose(classifier.probabilities(texts[::-1])[::-1], together, atol=1e-6)


def test_attention_weighs_the_words_of_a_text_and_sums_to_one(
    trained: tuple[TextClassifier, Artifact, Artifact, Artifact],
) -> None:
    _, weights = trained[0].explain(["the film was superb", "dull"])
    assert weights is not None
    assert [len(row) for row in weights] == [4, 1]
    assert [float(row.sum()) for row in weights] == pytest.approx([1, 1], abs=1e-5)


def test_nothing_of_later_parts_reaches_what_is_fitted(tmp_path: Path) -> None:
    frame = reviews()
    _, prepared = prepare_reviews(tmp_path / "a", frame)
    test = np.concatenate([open_examples(prepared, part) for part in ("validation", "test")])
    spoilt = frame.copy()
    spoilt.loc[test[::2], "verdict"] = "bad"  # the texts, and so their parts, stay
    _, again = prepare_reviews(tmp_path / "b", spoilt)
    assert again.read_json("state.json") == prepared.read_json("state.json")
    tokens = set(prepared.read_json("state.json")["encoding"]["tokenizer"]["tokens"][4:])
    train_words = " ".join(frame["review"].to_numpy()[open_examples(prepared, "train")]).split()
    assert tokens <= set(train_words)


def test_padding_changes_no_loss(trained: tuple[TextClassifier, Artifact, Artifact, Artifact]) -> None:
    _, prepared, _, _ = trained
    dataset = TASK.dataset(prepared, "train")
    torch.manual_seed(0)
    network = TASK.build(TASK.Model(hidden_size=6, pooling="mean"), TASK.shapes(prepared)).eval()
    batch = dataset.__getitems__(np.arange(8))
    wider = LabelledBatch(torch.nn.functional.pad(batch.values, (0, 5), value=7), batch.lengths, batch.target)
    plain, padded = (TASK.loss(network, one, "cross_entropy", None)[0] for one in (batch, wider))
    torch.testing.assert_close(plain, padded)


def test_errors_of_examples() -> None:
    probabilities = np.array([[0.8, 0.2], [0.4, 0.6]])
    target = np.array([0, 0])
    assert class_errors("error_rate", probabilities, target).tolist() == [0, 1]
    np.testing.assert_allclose(class_errors("log_loss", probabilities, target), -np.log([0.8, 0.4]))
    np.testing.assert_allclose(class_errors("brier", probabilities, target), [0.04, 0.36])


def test_a_class_that_training_has_not_is_named(tmp_path: Path) -> None:
    frame = reviews()
    _, prepared = prepare_reviews(tmp_path / "a", frame)
    row = int(open_examples(prepared, "test")[0])
    frame["verdict"] = frame["verdict"].astype(object)
    frame.loc[row, "verdict"] = "mixed"
    with pytest.raises(DataError, match="mixed only in another part"):
        prepare_reviews(
            tmp_path / "b", frame, **{"schema.columns.verdict": {"type": "text", "values": ["good", "bad", "mixed"]}}
        )


@pytest.mark.parametrize(
    ("request_frame", "words"),
    [
        (pd.DataFrame({"review": []}), "rows with a text"),
        (pd.DataFrame({"reviews": ["fine film"]}), "no review"),
        (pd.DataFrame({"review": ["fine film", None]}), "none in row 1"),
        (pd.DataFrame({"review": ["abc"]}), "of 5 to 200 characters"),
    ],
)
def test_a_request_that_cannot_be_answered_says_why(
    request_frame: pd.DataFrame, words: str, trained: tuple[TextClassifier, Artifact, Artifact, Artifact]
) -> None:
    with pytest.raises(DataError, match=words):
        trained[0].predict(request_frame)


def test_words_that_nobody_knows_are_still_answered(
    trained: tuple[TextClassifier, Artifact, Artifact, Artifact],
) -> None:
    answer = trained[0].predict(pd.DataFrame({"review": ["      ", "zzz qqq xxx"]}))
    assert answer.filter(like="probability_").sum(axis=1).tolist() == pytest.approx([1, 1], abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preprocess.label": "stars"}, "preprocess.label"),
        ({"preprocess.inputs": {"kind": "text", "column": "number", "tokenizer": {"kind": "word"}}}, "column of texts"),
        (
            {"preprocess.split": {"rule": "column", "column": "x", "train": "a", "validation": "b", "test": "c"}},
            "split",
        ),
    ],
)
def test_sections_that_do_not_fit_are_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=words):
        prepare_reviews(tmp_path / "a", **changes)


def test_no_column_of_texts_is_drawn() -> None:
    content = reviews_workload(evaluation={"shown": ["review"]})
    schema = Schema.model_validate(content["schema"])
    preprocess = TASK.Preprocess.model_validate(content["preprocess"])

    with pytest.raises(WorkloadError, match=r"evaluation\.shown: expected no such key where texts are classified"):
        TASK.check(schema, preprocess, TASK.Evaluation.model_validate(content["evaluation"]), None)


def test_only_the_cross_entropy_trains_classes() -> None:
    with pytest.raises(WorkloadError, match="cross_entropy"):
        TASK.check_training(TASK.Model(hidden_size=4), Training(loss="absolute"))


def test_the_prepared_table_is_the_one_that_models_are_compared_on(
    trained: tuple[TextClassifier, Artifact, Artifact, Artifact],
) -> None:
    _, prepared, _, _ = trained
    assert read_table(prepared.path / TABLE)["review"].tolist() == reviews()["review"].tolist()
