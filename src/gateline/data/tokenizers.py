"""Texts as numbers and back: words, characters or byte pairs, fitted on the training part only. V size of the vocabulary.

The first four numbers are the same everywhere: PADDING, UNKNOWN, BEGIN and END. No text can spell them: what looks like one
in a text is read as the characters that stand there. Every text is brought into Unicode's composed form first (NFC), so that
an accent counts alike however it was typed.

Source: byte pairs, Sennrich, Haddow and Birch (2016), arXiv 1508.07909; over bytes, Radford et al. (2019), "Language Models
are Unsupervised Multitask Learners", section 2.2.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from gateline.errors import ArtifactError, DataError
from gateline.workload.section import Section

if TYPE_CHECKING:
    import tokenizers

PADDING, UNKNOWN, BEGIN, END = range(4)
SPECIAL_TOKENS = ("<padding>", "<unknown>", "<begin>", "<end>")
"""Their names, for people; in the order of their numbers."""
FIRST = len(SPECIAL_TOKENS)
"""The first number that stands for something in a text."""

NUM_BYTES = 256
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""What an unknown token is written as."""
SPACE_SHOWN = "\N{LOWER ONE EIGHTH BLOCK}"
"""What a space within a token is shown as."""
SHOWN_TOKENS = 20  # of a vocabulary, in a report

Size = Annotated[int, Field(ge=FIRST + 1)]
Count = Annotated[int, Field(ge=1)]


class Tokenizer(Section):
    """How texts become tokens."""

    kind: Literal["word", "character", "bpe"]
    """word: what stands between spaces; character: each code point; bpe: frequent pieces of words, put together from bytes, so
    that no text holds anything unknown."""
    size: Size | None = None
    """Size of the vocabulary at most, with the four special tokens; the most frequent are kept. null: all that `min_count`
    leaves. For bpe it must be given."""
    min_count: Count = 1
    """How often a word or a character must occur in the training part to be known; for bpe, a pair to be joined."""
    lowercase: bool = False
    words: Literal["spaces", "punctuation"] = "punctuation"
    """Of words only. spaces: parted by white space alone; punctuation: punctuation stands for itself, too."""
    max_length: Count | None = None
    """Tokens of a text, special ones not counted; what is longer is cut at its end, and counted in the report."""

    @model_validator(mode="after")
    def _has_room(self) -> Tokenizer:
        if self.kind == "bpe" and (self.size is None or self.size < FIRST + NUM_BYTES):
            raise ValueError(
                f"`size` of at least {FIRST + NUM_BYTES} for bpe: {FIRST} special tokens and the {NUM_BYTES} bytes, got {self.size}"
            )
        return self

    def fit(self, texts: Sequence[str]) -> FittedTokenizer:
        """Make a vocabulary of the texts of the training part; the same texts make the same, in whatever order they stand.

        Raises:
            DataError: the texts hold nothing.
        """
        kind = KINDS[self.kind]
        fitted = kind.fit(self, [readable(text) for text in texts])
        if fitted.size == FIRST:
            raise DataError(
                "the training part",
                expected=f"texts with a {self.kind} that occurs {self.min_count} times or more",
                found=f"none in {len(texts)} texts",
                do="Lower preprocess.tokenizer.min_count, or look at the split",
            )
        return fitted


@dataclass(frozen=True)
class Encoded:
    """Texts as numbers, laid end to end.

    Args:
        tokens: int32 (N,).
        offsets: int64 (S + 1,), text s stands in tokens[offsets[s]:offsets[s + 1]].
        lost: int64 (S,), tokens that each text was longer than allowed, and lost; None: none.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    lost: np.ndarray | None = None

    @classmethod
    def of(cls, rows: Iterable[Sequence[int] | np.ndarray]) -> Encoded:
        """Lay rows of numbers end to end."""
        arrays = [np.asarray(row, dtype=np.int32) for row in rows]
        offsets = np.cumsum([0, *map(len, arrays)], dtype=np.int64)
        return cls(np.concatenate(arrays) if arrays else np.empty(0, np.int32), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text: int64 (S,)."""
        return np.diff(self.offsets)

    @property
    def texts_cut(self) -> int:
        """How many texts were longer than allowed."""
        return 0 if self.lost is None else int((self.lost > 0).sum())

    @property
    def tokens_cut(self) -> int:
        """How many tokens these lost."""
        return 0 if self.lost is None else int(self.lost.sum())

    def row(self, number: int) -> np.ndarray:
        """Take one text: int32 (T,)."""
        return self.tokens[self.offsets[number] : self.offsets[number + 1]]

    def rows(self) -> list[np.ndarray]:
        """Take every text: int32 (T,) each."""
        return np.split(self.tokens, self.offsets[1:-1]) if len(self) else []

    def take(self, numbers: np.ndarray) -> Encoded:
        """Take some texts, with what was cut of them."""
        taken = Encoded.of(self.row(number) for number in numbers)
        return taken if self.lost is None else Encoded(taken.tokens, taken.offsets, self.lost[numbers])

    def cut(self, max_length: int | None) -> Encoded:
        """Keep the first tokens of each text, and count what is lost."""
        if max_length is None or not (self.lengths > max_length).any():
            return self
        cut = Encoded.of(row[:max_length] for row in self.rows())
        lost = np.maximum(self.lengths - max_length, 0)
        return Encoded(cut.tokens, cut.offsets, lost if self.lost is None else self.lost + lost)

    def framed(self, *, begin: bool = False, end: bool = False) -> Encoded:
        """Put BEGIN before each text and END behind it."""
        before, behind = [BEGIN] * begin, [END] * end
        framed = Encoded.of(np.concatenate([before, row, behind]) for row in self.rows())
        return Encoded(framed.tokens, framed.offsets, self.lost)


class FittedTokenizer(ABC):
    """A vocabulary, and how a text is cut into its tokens.

    Args:
        tokens: V texts, the special ones first. How a token stands in a text is its kind's matter; see `shown`.
        counts: int64 (V,), how often each stands in the training texts. UNKNOWN counts what was too rare to be known.
        lowercase: whether texts are read in lower case.
        options: settings of the kind's own.
    """

    kind: ClassVar[str]

    def __init__(
        self, tokens: Sequence[str], counts: Sequence[int] | np.ndarray, lowercase: bool, options: Mapping[str, Any]
    ) -> None:
        self.tokens = tuple(tokens)
        self.counts = np.asarray(counts, dtype=np.int64)
        self.lowercase = lowercase
        self.options = dict(options)
        if self.tokens[:FIRST] != SPECIAL_TOKENS or len(self.counts) != len(self.tokens):
            raise ValueError(f"a vocabulary begins with {SPECIAL_TOKENS} and has one count per token")
        self.codes = {token: code for code, token in enumerate(self.tokens) if code >= FIRST}
        self._normaliser = _normaliser(lowercase)

    @classmethod
    @abstractmethod
    def fit(cls, settings: Tokenizer, texts: Sequence[str]) -> FittedTokenizer:
        """Make a vocabulary of texts."""

    @abstractmethod
    def encode_normalised(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """Number the tokens of texts that `normalise` has seen."""

    @abstractmethod
    def join(self, tokens: Sequence[str]) -> str:
        """Make a text of tokens, none of them special; REPLACEMENT stands for an unknown one."""

    @property
    def size(self) -> int:
        """Size of the vocabulary V."""
        return len(self.tokens)

    def characters(self) -> np.ndarray:
        """Count the characters that begin in each token: int64 (V,); 1 in UNKNOWN, none in the other special tokens.

        Those of a text add up to its characters, but for the spaces between words, which no word holds.
        """
        special = [int(code == UNKNOWN) for code in range(FIRST)]
        return np.array(special + [self._begun(token) for token in self.tokens[FIRST:]], dtype=np.int64)

    def normalise(self, text: str) -> str:
        """Bring a text into the form in which it is cut; what `decode` gives back of it."""
        return str(self._normaliser.normalize_str(readable(text)))

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Turn texts into numbers, without BEGIN and END."""
        return Encoded.of(self.encode_normalised([self.normalise(text) for text in texts]))

    def decode(self, codes: Iterable[int]) -> str:
        """Turn numbers into a text; special tokens are left out, but for UNKNOWN."""
        kept = [int(code) for code in codes if code == UNKNOWN or code >= FIRST]
        return self.join([REPLACEMENT if code == UNKNOWN else self.tokens[code] for code in kept])

    def shown(self, code: int) -> str:
        """Write one token for people: spaces and line ends can be seen."""
        if code < FIRST:
            return SPECIAL_TOKENS[code]
        return self.join([self.tokens[code]]).replace(" ", SPACE_SHOWN).replace("\n", "\\n").replace("\t", "\\t")

    def pieces(self, text: str) -> list[str]:
        """Cut a text into its tokens, written for people as `shown` writes them."""
        return [self.shown(int(code)) for code in self.encode([text]).tokens]

    def _begun(self, token: str) -> int:
        return len(token)

    def to_json(self) -> dict[str, Any]:
        """Write as JSON values."""
        return {
            "kind": self.kind,
            "lowercase": self.lowercase,
            "options": self.options,
            "tokens": list(self.tokens),
            "counts": self.counts.tolist(),
        }


class WordTokenizer(FittedTokenizer):
    """Words, the most frequent first; punctuation is a word of its own where the options say so."""

    kind = "word"

    @classmethod
    def fit(cls, settings: Tokenizer, texts: Sequence[str]) -> WordTokenizer:
        """Count the words of texts, and keep the frequent ones."""
        empty = cls(SPECIAL_TOKENS, [0] * FIRST, settings.lowercase, {"words": settings.words})
        counter = Counter(word for text in texts for word in empty.split(empty.normalise(text)))
        tokens, counts = most_frequent(counter, settings)
        return cls(tokens, counts, settings.lowercase, empty.options)

    def split(self, text: str) -> list[str]:
        """Cut a normalised text into words."""
        from tokenizers import pre_tokenizers

        if self.options["words"] == "spaces":
            return text.split()
        return [word for word, _ in pre_tokenizers.Whitespace().pre_tokenize_str(text)]

    def pieces(self, text: str) -> list[str]:
        """Cut a text into its words; one that is unknown stands in brackets."""
        return [word if word in self.codes else f"[{word}]" for word in self.split(self.normalise(text))]

    def encode_normalised(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """Look up the words of texts."""
        return [[self.codes.get(word, UNKNOWN) for word in self.split(text)] for text in texts]

    def join(self, tokens: Sequence[str]) -> str:
        """Put spaces between words."""
        return " ".join(tokens)


class CharacterTokenizer(FittedTokenizer):
    """Code points, the most frequent first."""

    kind = "character"

    @classmethod
    def fit(cls, settings: Tokenizer, texts: Sequence[str]) -> CharacterTokenizer:
        """Count the characters of texts, and keep the frequent ones."""
        empty = cls(SPECIAL_TOKENS, [0] * FIRST, settings.lowercase, {})
        counter: Counter[str] = Counter()
        for text in texts:
            counter.update(empty.normalise(text))
        tokens, counts = most_frequent(counter, settings)
        return cls(tokens, counts, settings.lowercase, {})

    def encode_normalised(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """Look up the characters of texts."""
        known = sorted(self.codes)
        points, codes = np.array([ord(token) for token in known]), np.array([self.codes[token] for token in known])
        rows: list[Any] = []
        for text in texts:
            read = np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.int64)
            place = np.minimum(np.searchsorted(points, read), len(points) - 1)
            rows.append(np.where(points[place] == read, codes[place], UNKNOWN).astype(np.int32))
        return rows

    def join(self, tokens: Sequence[str]) -> str:
        """Put characters side by side."""
        return "".join(tokens)


class BytePairTokenizer(FittedTokenizer):
    """Pieces of words: bytes, and pairs of pieces that were joined because they often stand side by side.

    A token is written in the alphabet of GPT-2, one letter for each byte; `options` holds the pairs in their order.
    """

    kind = "bpe"

    def __init__(
        self, tokens: Sequence[str], counts: Sequence[int] | np.ndarray, lowercase: bool, options: Mapping[str, Any]
    ) -> None:
        import tokenizers
        from tokenizers import decoders, models

        super().__init__(tokens, counts, lowercase, options)
        merges = [(first, second) for first, second in self.options["merges"]]
        self._engine = tokenizers.Tokenizer(models.BPE(vocab=self.codes, merges=merges))
        self._engine.pre_tokenizer = _byte_level()
        self._decoder = decoders.ByteLevel()
        # These characters have two bytes each in UTF-8; their second ones are all that stand within a character.
        written = self._engine.pre_tokenizer.pre_tokenize_str("".join(map(chr, range(0x80, 0xC0))))
        self._inner_bytes = frozenset("".join(piece for piece, _ in written)[1::2])

    @classmethod
    def fit(cls, settings: Tokenizer, texts: Sequence[str]) -> BytePairTokenizer:
        """Join the most frequent pair of pieces again and again, until the vocabulary is full."""
        import tokenizers
        from tokenizers import models, pre_tokenizers, trainers

        assert settings.size is not None  # noqa: S101  refused by the section
        normaliser, engine = _normaliser(settings.lowercase), tokenizers.Tokenizer(models.BPE())
        engine.pre_tokenizer = _byte_level()
        trainer = trainers.BpeTrainer(
            vocab_size=settings.size - FIRST,
            min_frequency=settings.min_count,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        engine.train_from_iterator([normaliser.normalize_str(text) for text in texts], trainer)
        model = json.loads(engine.to_str())["model"]
        learnt = sorted(model["vocab"], key=model["vocab"].__getitem__)
        merges = [pair.split(" ") if isinstance(pair, str) else list(pair) for pair in model["merges"]]
        tokens = (*SPECIAL_TOKENS, *learnt)
        uncounted = cls(tokens, [0] * len(tokens), settings.lowercase, {"merges": merges})
        counts = np.bincount(uncounted.encode(texts).tokens, minlength=len(tokens))
        return cls(tokens, counts, settings.lowercase, uncounted.options)

    def encode_normalised(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """Join the bytes of texts as the pairs say."""
        return [encoding.ids for encoding in self._engine.encode_batch_fast(list(texts), add_special_tokens=False)]

    def join(self, tokens: Sequence[str]) -> str:
        """Turn pieces into bytes and these into a text; bytes that are no UTF-8 become REPLACEMENT."""
        return str(self._decoder.decode(list(tokens)))

    def _begun(self, token: str) -> int:
        return sum(letter not in self._inner_bytes for letter in token)


KINDS: Mapping[str, type[FittedTokenizer]] = {
    kind.kind: kind for kind in (WordTokenizer, CharacterTokenizer, BytePairTokenizer)
}


def tokenizer_from_json(state: Mapping[str, Any]) -> FittedTokenizer:
    """Read what `FittedTokenizer.to_json` wrote.

    Raises:
        ArtifactError: it is something else.
    """
    try:
        kind = KINDS[state["kind"]]
        return kind(state["tokens"], state["counts"], state["lowercase"], state["options"])
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            "tokenizer", expected="a tokenizer as JSON", found=repr(error)[:160], do="Run preprocess again"
        ) from error


def vocabulary_report(tokenizer: FittedTokenizer, parts: Mapping[str, Encoded]) -> dict[str, Any]:
    """Say what a vocabulary holds and how well it covers each part, as JSON values.

    Args:
        tokenizer: fitted on the training part.
        parts: its texts, cut as the model reads them, without BEGIN and END.

    Returns:
        `kind`, `size`, `lowercase`, `most_frequent` and `rarest` (pairs of token and count), `once` (tokens seen once); and by part
        the numbers of texts, tokens, unknown tokens, their share, tokens of the longest text, texts cut and tokens these lost.
    """
    order = [int(code) for code in np.argsort(-tokenizer.counts, kind="stable") if code >= FIRST]
    seen = [code for code in order if tokenizer.counts[code] > 0]
    return {
        "kind": tokenizer.kind,
        "size": tokenizer.size,
        "lowercase": tokenizer.lowercase,
        "most_frequent": [[tokenizer.shown(code), int(tokenizer.counts[code])] for code in seen[:SHOWN_TOKENS]],
        "rarest": [[tokenizer.shown(code), int(tokenizer.counts[code])] for code in seen[-SHOWN_TOKENS:]],
        "once": int((tokenizer.counts[FIRST:] == 1).sum()),
        "parts": {part: _coverage(encoded) for part, encoded in parts.items()},
    }


def most_frequent(counter: Mapping[str, int], settings: Tokenizer) -> tuple[list[str], list[int]]:
    """List special tokens and then what is frequent enough, by falling count; equal counts in the order of the alphabet."""
    ranked = sorted(counter.items(), key=lambda pair: (-pair[1], pair[0]))
    room = None if settings.size is None else settings.size - FIRST
    kept = [pair for pair in ranked if pair[1] >= settings.min_count][:room]
    unknown = sum(counter.values()) - sum(count for _, count in kept)
    counts = [unknown if code == UNKNOWN else 0 for code in range(FIRST)]
    return [*SPECIAL_TOKENS, *(token for token, _ in kept)], counts + [count for _, count in kept]


def readable(text: str) -> str:
    """Join surrogates, which JSON can bring in and UTF-8 has no bytes for, into characters; a lone one becomes REPLACEMENT."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _coverage(encoded: Encoded) -> dict[str, Any]:
    tokens, unknown = len(encoded.tokens), int((encoded.tokens == UNKNOWN).sum())
    return {
        "texts": len(encoded),
        "tokens": tokens,
        "unknown": unknown,
        "unknown_rate": unknown / tokens if tokens else 0.0,
        "longest": int(encoded.lengths.max()) if len(encoded) else 0,
        "texts_cut": encoded.texts_cut,
        "tokens_cut": encoded.tokens_cut,
    }


def _normaliser(lowercase: bool) -> tokenizers.normalizers.Normalizer:
    from tokenizers import normalizers

    steps = [normalizers.NFC(), normalizers.Lowercase()] if lowercase else [normalizers.NFC()]
    return normalizers.Sequence(steps)


def _byte_level() -> tokenizers.pre_tokenizers.PreTokenizer:
    from tokenizers import pre_tokenizers

    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
