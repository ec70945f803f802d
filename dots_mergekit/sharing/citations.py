"""What a card asks to cite: the method, the tools, and what the cards of its models ask for."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["HARNESS", "MERGEKIT", "METHOD", "entries_in", "without_repetition"]

METHOD = """\
@misc{yuan2026decouple,
  title = {Decouple before Integration: Test-time Synthesis of SFT and RLVR Task Vectors},
  author = {Yuan, Chaohao and Xiao, Chenghao and Rong, Yu and Cheng, Hong and Huang, Long-Kai},
  year = {2026},
  eprint = {2605.00610},
  archivePrefix = {arXiv},
  primaryClass = {cs.LG},
  url = {https://arxiv.org/abs/2605.00610}
}"""

MERGEKIT = """\
@inproceedings{goddard-etal-2024-arcees,
  title = {Arcee's {MergeKit}: A Toolkit for Merging Large Language Models},
  author = {Goddard, Charles and Siriwardhana, Shamane and Ehghaghi, Malikeh and Meyers, Luke and
    Karpukhin, Vladimir and Benedict, Brian and McQuade, Mark and Solawetz, Jacob},
  booktitle = {Proceedings of the 2024 Conference on Empirical Methods in Natural Language
    Processing: Industry Track},
  year = {2024},
  pages = {477--485},
  doi = {10.18653/v1/2024.emnlp-industry.36},
  url = {https://aclanthology.org/2024.emnlp-industry.36}
}"""

HARNESS = """\
@misc{eval-harness,
  title = {The Language Model Evaluation Harness},
  author = {Gao, Leo and Tow, Jonathan and Abbasi, Baber and Biderman, Stella and Black, Sid and
    DiPofi, Anthony and Foster, Charles and Golding, Laurence and Hsu, Jeffrey and
    Le Noac'h, Alain and Li, Haonan and McDonell, Kyle and Muennighoff, Niklas and Ociepa, Chris and
    Phang, Jason and Reynolds, Laria and Schoelkopf, Hailey and Skowron, Aviya and
    Sutawika, Lintang and Tang, Eric and Thite, Anish and Wang, Ben and Wang, Kevin and Zou, Andy},
  year = {2024},
  publisher = {Zenodo},
  doi = {10.5281/zenodo.12608602},
  url = {https://zenodo.org/records/12608602}
}"""

_FENCED = re.compile(r"^(?P<fence>`{3,})[^\n`]*\n(?P<text>.*?)^(?P=fence)`*[ \t]*$", re.M | re.S)
_HEAD = re.compile(r"^@(?P<kind>[A-Za-z]+)\s*\{\s*(?P<key>[^\s,{}]+)\s*,", re.M)
_LONGEST = 10_000
_MOST = 10


def entries_in(card: str) -> tuple[str, ...]:
    r"""Give the BibTeX entries that stand in the code blocks of a card.

    >>> entries_in("Cite:\n```bibtex\n@misc{a,\n  title = {{A} b}\n}\n```\n")
    ('@misc{a,\n  title = {{A} b}\n}',)
    """
    found = []
    for block in _FENCED.finditer(card):
        text = block["text"]
        for head in _HEAD.finditer(text):
            entry = _balanced(text, head.start())
            if entry is not None and "```" not in entry and "<!--" not in entry:
                found.append(entry)
    return tuple(found[:_MOST])


def without_repetition(entries: Iterable[str]) -> list[str]:
    """Leave out entries whose key an earlier one has."""
    keyed: dict[str, str] = {}
    for entry in entries:
        head = _HEAD.match(entry)
        keyed.setdefault(head["key"].lower() if head else entry, entry)
    return list(keyed.values())


def _balanced(text: str, start: int) -> str | None:
    """Give a text up to where its first brace closes; None if it does not."""
    depth = 0
    for place in range(start, min(len(text), start + _LONGEST)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if text[place] == "}" and depth == 0:
            return text[start : place + 1]
    return None
