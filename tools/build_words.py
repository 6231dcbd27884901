"""Compile the set of English words: ``tools/build_words.py WORDS_FILE > relay/scan/data/words.bin``.

WORDS_FILE is a list of English words, lower case, one a line (Webster's Second, public domain). The set tells words of
every day from names that are on no list. It is a Bloom filter: a quarter of a megabyte, mapped into memory and looked
at for the few capitalised words that may be a name; one in a hundred that is not in the list counts as in it.
"""

import sys
from pathlib import Path

from relay.scan.words import SIZE, places_of


def main(words_file: Path) -> None:
    """Write the filter."""
    bits = bytearray(SIZE // 8)
    for word in words_file.read_bytes().split():
        for place in places_of(word):
            bits[place >> 3] |= 1 << (place & 7)
    sys.stdout.buffer.write(bits)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
