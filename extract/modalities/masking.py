"""Masking: some tokens of a text are hidden, as in BERT's training (Devlin et al. 2018, arXiv:1810.04805, section 3.1).

Of the chosen tokens 80% become [MASK], 10% another token, and 10% stay; DistilBERT is distilled on the same (Sanh et
al. 2019, arXiv:1910.01108, its public code). How many are chosen is the rounded share of a text's tokens, at least 1.
"""

import numpy as np
from jaxtyping import Int, Integer

from extract.modalities.draws import Uniform
from extract.modalities.tokenizer import Vocabulary
from shards.views.base import Row
from shards.views.text import num_masked

_MASK_BELOW, _OTHER_BELOW = 0.8, 0.9


def masked(row: Row, share: float, vocabulary: Vocabulary, seed: int, key: str, view: int) -> Row:
    """The fields of a view with `share` of its tokens hidden, fixed by (seed, key, view).

    `masked` has the chosen tokens' positions, ascending, and then zeros, as many as the longest view may have. [CLS],
    [SEP] and padding are never chosen, and no token becomes one of these.
    """
    assert vocabulary.mask is not None
    tokens, num_content = row["tokens"].copy(), int(row["length"]) - 2
    uniform = Uniform(seed, key, view)
    count = min(num_masked(share, num_content), num_content)
    positions = 1 + np.sort(uniform.order(num_content)[:count])
    lot = (uniform.words(count) >> np.uint64(11)) * 2.0**-53
    hidden = np.where(lot < _MASK_BELOW, vocabulary.mask, other_tokens(uniform, count, vocabulary))
    tokens[positions] = np.where(lot < _OTHER_BELOW, hidden, tokens[positions])
    stored = np.zeros(num_masked(share, len(tokens) - 2), np.uint16)
    stored[:count] = positions
    return row | {"tokens": tokens, "masked": stored}


def other_tokens(uniform: Uniform, count: int, vocabulary: Vocabulary) -> Integer[np.ndarray, " count"]:
    """`count` ids of the vocabulary, uniform over all but its special tokens."""
    special = sorted({vocabulary.cls, vocabulary.sep, vocabulary.pad, vocabulary.mask or vocabulary.pad})
    ids: Int[np.ndarray, " count"] = (uniform.words(count) % np.uint64(vocabulary.size - len(special))).astype(np.int64)
    for each in special:
        ids += ids >= each
    return ids
