"""Compile the table of personal names: ``tools/build_names.py NAMES_DIR WORDS_FILE > relay/scan/data/names.txt``.

NAMES_DIR is the folder of the ``names`` package (MIT) with the frequency files of the US Census Bureau of 1990 (public
domain); WORDS_FILE is a list of English words, lower case, one a line (Webster's Second, public domain). A name that is
also a word needs more evidence in the scan, so the two kinds are kept apart.
"""

import sys
from pathlib import Path

COMMON_FIRST = 0.02  # per cent of the population: above it a given name is a name first, and a word second
COMMON_LAST = 300  # rank: likewise for surnames
LAST_NAMES = 30_000

WORDS_THAT_ARE_NAMES = frozenset(
    """
    al art august april angel autumn amber barb bill bob brandy brook candy carol case cash chad chance charity chase
    chin china christian chuck clay cliff coral crystal daily daisy dale dallas dawn dean dee del dick dixie dolly don
    dong drew earl early earnest ebony eden else else faith fern florence frank gale garland gay gene george ginger
    glen golden grace grant guy harmony harry has hazel heath heather holly homer hope hunter in iris ivory ivy jack
    jade jade jan jasmine jay jean jersey jewel jimmy john johnny joy jules julian june junior kay kelly kent king kit
    lacy lady lance lane lark laurel laurence lane lee les lily love mac mack major mark marine marsh martin mason max
    may melody mercy merry mercedes miles mike milo mina misty my myrtle nick no norm norma nova olive opal page pansy
    paris pat patience patty pearl penny pepper person pierce porter precious price prince queen rain rainy ray red reed
    regina rich rob robin rocky rod roman rose ruby rusty sage sam sandy santa savannah season see shad shade sherry
    shiny sky skip so son spencer star stephen sterling stone storm sue summer sun sunny sunshine tad ted temple terry
    tiffany tim tom tony tuesday tyler van vance velvet victor victoria violet virgin virginia wade ward warren way
    wednesday wes will willow winter wood woody worth wren young yuri yes an do le la lo ma mi my man many mary
    """.split()  # noqa: SIM905 - a paragraph of words reads better than a list of them
)

NEVER_NAMES = frozenset(
    """
    a al alta an and any are as asma at be brain but by can china corazon day dell do echo else era for from
    geneva has have he her his human i in india ireland irish is it iran italy la le lan last li long ma mac major
    man many me mi more my no not of ok on one or out page pa root see she so son soon sun test that the their
    they this thu to un up was way we with you america asia africa england germany london paris rome euro star sky
    sha so ta tia una ya ha ho hu shin tu yon york
    """.split()  # noqa: SIM905
)


def frequencies(path: Path) -> list[tuple[str, float]]:
    """(name, per cent), the commonest first."""
    lines = (line.split() for line in path.read_text().splitlines())
    return [(fields[0].lower(), float(fields[1])) for fields in lines if fields]


def main(names_dir: Path, words_file: Path) -> None:
    """Print the table."""
    words = frozenset(words_file.read_text().split())
    first: dict[str, float] = {}
    for kind in ("female", "male"):
        for name, share in frequencies(names_dir / f"dist.{kind}.first"):
            if name not in NEVER_NAMES:
                first[name] = max(share, first.get(name, 0.0))
    doubtful = {
        name
        for name, share in first.items()
        if (name in WORDS_THAT_ARE_NAMES and share < 0.9) or (name in words and share < COMMON_FIRST) or len(name) < 3
    }
    last = frequencies(names_dir / "dist.all.last")[:LAST_NAMES]
    plain = sorted(name for rank, (name, _) in enumerate(last) if name not in words or rank < COMMON_LAST)
    wordy = sorted(name for rank, (name, _) in enumerate(last) if name in words and rank >= COMMON_LAST)
    print("# Personal names of the US Census Bureau, 1990 (public domain), compiled by tools/build_names.py.")
    for title, names in (
        ("first", sorted(set(first) - doubtful)),
        ("first-or-word", sorted(doubtful)),
        ("last", plain),
        ("last-or-word", wordy),
    ):
        print(f"@ {title}")
        for start in range(0, len(names), 20):
            print(" ".join(names[start : start + 20]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
