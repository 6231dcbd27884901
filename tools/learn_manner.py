"""Learn the table of points of :mod:`relay.scan.manner` from labelled texts.

    python tools/learn_manner.py [--judge] [--mail FOLDER] ../shared/devdata/*_dev.jsonl tests/corpus/lots/*.jsonl

Rows have ``text`` and ``cls`` (``a`` patients' data, ``b`` health of nobody in particular, others neither); messages of
the folder are ordinary mail. Each file is a source: with ``--judge`` each is left out in turn, learnt from the others,
and judged. Lots seven and eleven are kept for judging: nothing is learnt from them. Writes ``manner.yaml`` and
``manner-words.txt`` in ``relay/scan/data``. Needs scikit-learn (BSD), which Postern itself does not.
"""

import argparse
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from scipy.sparse import csr_matrix
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

from relay.core.phi import Phi
from relay.extract.engine import ScanEngine, load_judge
from relay.mail.text import normalise
from relay.scan.lexicon import words_of
from relay.scan.manner import FAR, Manner, Steps, evidence, shape, spoken
from relay.scan.model import Hit, Weights
from relay.scan.names import NameTable
from relay.scan.weigh import Weigher
from relay.scan.words import Words
from relay.scan.zones import said

_DATA = Path(__file__).parent.parent / "relay/scan/data"
_WEIGHER = Weigher(Weights.parse((_DATA / "weights.yaml").read_bytes()))
_TEXTS = 3  # in which a word must stand, of at least two files
_FOLDS = 4
_ORDINARY = {"mail", "phi_dev", "tricky_dev"}
"""Sources of which there are many rows: each counts for less."""
_KEPT = {"seven", "eleven"}
"""The lots that nobody learns from or tunes on: what is found in them is the measure of mail not seen before."""
_LEAST_POINTS = 0.05
_FALLS = {"length": -1, "distance": -1}
"""Features of which more says less; of all others more says more. So no odd lot of texts can turn one round."""


@dataclass(frozen=True, slots=True)
class _Text:
    """A labelled text and what the scan makes of it without the table."""

    source: str
    cls: str
    text: str
    hits: list[Hit]
    score: float
    phi: Phi
    own: str
    words: list[bytes]


def _texts(files: Sequence[Path], folder: Path | None) -> Iterator[_Text]:
    engine = ScanEngine(load_judge(lambda plain: plain))
    finder, weigher = engine._judge._finder, _WEIGHER  # noqa: SLF001

    def made(source: str, cls: str, text: str) -> _Text:
        hits = finder.find(text)
        own = said(text)
        return _Text(source, cls, text, hits, weigher.score(hits), weigher.phi(hits), own, words_of(own))

    for file in files:
        if file.stem.startswith("bounces"):  # answers of servers, which have no class
            continue
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            yield made(file.stem, row.get("cls", "e"), normalise(row["text"]))
    for path in sorted(item for item in folder.rglob("*") if item.is_file()) if folder else ():
        passages = engine.read(path.read_bytes()).passages
        yield made("mail", "d", "\n\n\n".join(passage.text for passage in passages))


def _vocabulary(rows: Sequence[_Text]) -> list[bytes]:
    """Everyday words of several texts and sources: no names, no numbers."""
    names = NameTable.parse(b"\n".join((_DATA / name).read_bytes() for name in ("names.txt", "names-today.txt")))
    english = Words(memoryview((_DATA / "words.bin").read_bytes()))
    counts: Counter[bytes] = Counter()
    sources: dict[bytes, set[str]] = {}
    for row in rows:
        for word in set(row.words):
            counts[word] += 1
            sources.setdefault(word, set()).add(row.source)
    persons = names.first | names.last
    return sorted(
        word
        for word, number in counts.items()
        if number >= _TEXTS and len(sources[word]) > 1 and word.isalpha() and word.isascii() and len(word) > 1
        and word in english and word not in persons
    )  # fmt: skip


def _matrix(rows: Sequence[_Text], words: Sequence[bytes]) -> csr_matrix:
    place = {word: number for number, word in enumerate(words)}
    values, columns, starts = [], [], [0]
    for row in rows:
        different = set(row.words)
        found = [place[word] for word in different if word in place]
        columns += found
        values += [1 / math.sqrt(len(different) or 1)] * len(found)
        starts.append(len(columns))
    return csr_matrix((values, columns, starts), shape=(len(rows), len(words)))


def _speech(table: csr_matrix, is_health: np.ndarray) -> LogisticRegression:
    return LogisticRegression(C=20, solver="liblinear", max_iter=100).fit(table, is_health)


def _named(rows: Sequence[_Text]) -> tuple[list[str], np.ndarray]:
    """The features of each text but for its words; of one without somebody or health the rest is nought."""
    found = []
    for row in rows:
        one, health = evidence(row.hits, row.score) or ({"score": 0.0, "who": 0.0, "distance": FAR}, 0.0)
        found.append({**one, **shape(row.own, health), **spoken(row.words, set(row.words))})
    return list(found[0]), np.array([list(one.values()) for one in found], dtype=float)


def _learn(
    rows: Sequence[_Text], names: Sequence[str], known: np.ndarray, words: Sequence[bytes], table: csr_matrix
) -> Manner:
    """The points, learnt from all of these texts; what words tell is judged by others than they were learnt from."""
    is_phi = np.array([row.cls == "a" for row in rows])
    is_health = np.array([row.cls in "ab" for row in rows])
    by_words = np.zeros(len(rows))
    for most, rest in KFold(_FOLDS, shuffle=True, random_state=3).split(by_words):
        coefficients = _speech(table[most], is_health[most]).coef_[0]
        by_words[rest] = table[rest] @ coefficients
    whole = np.c_[known, by_words]
    weights = np.where([row.source in _ORDINARY for row in rows], 1.0, 2.0) * np.where(is_phi, 1.0, 1.5)
    trees = HistGradientBoostingClassifier(
        max_iter=200,
        learning_rate=0.1,
        max_leaf_nodes=2,
        l2_regularization=5,
        min_samples_leaf=15,
        monotonic_cst=[_FALLS.get(name, 1) for name in (*names, "speech")],
    ).fit(whole, is_phi, sample_weight=weights)
    base, steps = _scorecard(trees, [*names, "speech"])
    coefficients = _speech(table, is_health).coef_[0]
    points = {
        word: round(float(value), 2)
        for word, value in zip(words, coefficients, strict=True)
        if abs(value) >= _LEAST_POINTS
    }
    return Manner(base=base, steps=steps, words=points)


def _scorecard(trees: HistGradientBoostingClassifier, names: Sequence[str]) -> tuple[float, dict]:
    """Trees of one question each, added up: of each feature where it steps, and the points of each step."""
    base = float(trees._baseline_prediction.ravel()[0])  # noqa: SLF001
    jumps: dict[str, list[tuple[float, float, float]]] = {}
    for (tree,) in trees._predictors:  # noqa: SLF001
        root, nodes = tree.nodes[0], tree.nodes
        if root["is_leaf"]:
            base += float(root["value"])
            continue
        low, high = float(nodes[root["left"]]["value"]), float(nodes[root["right"]]["value"])
        jumps.setdefault(names[root["feature_idx"]], []).append((float(root["num_threshold"]), low, high))
    steps = {}
    for name, found in jumps.items():
        edges = sorted({edge for edge, _, _ in found})
        points = [
            round(sum(low if place <= edge else high for edge, low, high in found), 3)
            for place in [edges[0] - 1, *edges[1:], edges[-1] + 1]
        ]
        steps[name] = Steps.of([float(f"{edge:.4g}") for edge in edges], points)
    return round(base, 3), steps


def _opinion(manner: Manner, row: _Text) -> Phi:
    return manner.opinion(row.text, row.hits, _WEIGHER)[0]


def _judged(rows: Sequence[_Text], phis: Sequence[Phi]) -> str:
    lines = []
    for source in sorted({row.source for row in rows}):
        ours = [
            (row.cls, phi >= Phi.LIKELY, row.phi >= Phi.LIKELY)
            for row, phi in zip(rows, phis, strict=True)
            if row.source == source
        ]
        for label, wanted in (("found", True), ("false", False)):
            those = [one for one in ours if (one[0] == "a") is wanted]
            lines.append(
                f"{source:12} {label} {sum(o[2] for o in those):5} -> {sum(o[1] for o in those):5} of {len(those)}"
            )
    return "\n".join(lines)


def _written(manner: Manner) -> None:
    card = {
        "base": manner.base,
        "steps": {name: {"from": [*step.edges], "points": [*step.points]} for name, step in manner.steps.items()},
    }
    head = "# Written by tools/learn_manner.py: how much each feature of a text says, by the step it falls on.\n"
    text = yaml.safe_dump(card, sort_keys=False, default_flow_style=None, width=120)
    (_DATA / "manner.yaml").write_text(head + text, encoding="utf-8")
    lines = [f"{word.decode()} {points:g}\n" for word, points in sorted(manner.words.items())]
    (_DATA / "manner-words.txt").write_text("".join(lines), encoding="utf-8")


def _folds(rows: Sequence[_Text]) -> Iterator[np.ndarray]:
    """The rows to leave out in turn: each lot as a whole, of the large sources a part at a time."""
    for source in sorted({row.source for row in rows} - _ORDINARY):
        yield np.array([number for number, row in enumerate(rows) if row.source == source])
    rest = np.array([number for number, row in enumerate(rows) if row.source in _ORDINARY])
    for _, part in KFold(_FOLDS, shuffle=True, random_state=1).split(rest):
        yield rest[part]


def main() -> None:
    """Learn, write, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--mail", type=Path)
    parser.add_argument("--judge", action="store_true", help="judge each source by what is learnt from the others")
    options = parser.parse_args()
    rows = list(_texts(options.files, options.mail))
    learnt_from = np.array([number for number, row in enumerate(rows) if row.source not in _KEPT])
    words = _vocabulary([rows[number] for number in learnt_from])
    names, known = _named(rows)
    table = _matrix(rows, words)

    def learnt(chosen: np.ndarray) -> Manner:
        return _learn([rows[number] for number in chosen], names, known[chosen], words, table[chosen])

    manner = learnt(learnt_from)
    _written(manner)
    print(
        f"{len(rows)} texts, {len(manner.words)} words, {sum(len(step.edges) for step in manner.steps.values())} steps"
    )
    phis = [_opinion(manner, row) for row in rows]
    print("learnt from all\n" + _judged(rows, phis))
    if options.judge:
        for out in _folds(rows):
            one = learnt(np.setdiff1d(learnt_from, out))
            for number in out:
                phis[number] = _opinion(one, rows[number])
        print("each learnt from the others\n" + _judged(rows, phis))


if __name__ == "__main__":
    main()
