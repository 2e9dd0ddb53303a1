"""How far translations are from references, on texts as people read them, by sacrebleu. E sentences.

Source: translation edit rate, Snover et al. (2006); BLEU, Papineni et al. (2002), as Post (2018) made it comparable, arXiv
1804.08771; chrF, Popović (2015).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

GATE_METRIC = "translation_edit_rate"
METRICS = (GATE_METRIC, "bleu", "chrf", "length_ratio")
"""translation_edit_rate: edits (words put in, left out, exchanged; stretches moved) over words of the references, lower is better;
bleu and chrf from 0 to 100, higher is better; length_ratio: words written over words of the references."""


def edits_and_words(translations: Sequence[str], references: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Count the edits that turn each translation into its reference, and the reference's words: float64 (E,) each.

    As tercom does by default: words as spaces part them, in lower case.
    """
    from sacrebleu.metrics.ter import TER

    scores = [
        TER().sentence_score(translation, [reference])
        for translation, reference in zip(translations, references, strict=True)
    ]
    return np.array([float(s.num_edits) for s in scores]), np.array([float(s.ref_length) for s in scores])


def translation_metrics(
    translations: Sequence[str], references: Sequence[str], counted: tuple[np.ndarray, np.ndarray] | None = None
) -> dict[str, float]:
    """Compute METRICS of some sentences.

    Args:
        translations: E texts.
        references: E texts.
        counted: what `edits_and_words` says of them, if it is known.
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    edits, words = edits_and_words(translations, references) if counted is None else counted
    bleu = BLEU().corpus_score(translations, [references])
    return {
        GATE_METRIC: float(edits.sum() / words.sum()),
        "bleu": float(bleu.score),
        "chrf": float(CHRF().corpus_score(translations, [references]).score),
        "length_ratio": float(bleu.sys_len / bleu.ref_len),
    }


def scores_by_rows(translations: Sequence[str], references: Sequence[str]) -> Callable[[np.ndarray], dict[str, float]]:
    """Count what bleu, chrf and length_ratio follow from once, sentence by sentence, so that resamples of the sentences cost little.

    Returns:
        takes places of sentences, each as often as it counts, and gives bleu, chrf and length_ratio of those.
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    metrics = {"bleu": BLEU(), "chrf": CHRF()}
    counts = {
        name: np.array(metric._extract_corpus_statistics(translations, [references]))  # (E, matches and totals)
        for name, metric in metrics.items()
    }

    def measure(rows: np.ndarray) -> dict[str, float]:
        summed = {name: of_sentence[rows].sum(axis=0).tolist() for name, of_sentence in counts.items()}
        found: Any = {name: metric._compute_score_from_stats(summed[name]) for name, metric in metrics.items()}
        ratio = found["bleu"].sys_len / found["bleu"].ref_len if found["bleu"].ref_len else float("nan")
        return {name: float(score.score) for name, score in found.items()} | {"length_ratio": float(ratio)}

    return measure
