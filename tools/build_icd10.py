"""Compile the ICD-10-CM code set: ``tools/build_icd10.py > relay/scan/data/icd10cm.bin``.

Needs ``simple-icd-10-cm`` (MIT), which carries the release files of NCHS and CMS (public domain); Postern does not need
it at run time.
"""

import sys

import simple_icd_10_cm as icd

WIDTH = 7


def main() -> None:
    """Write sorted records of seven octets: categories, subcategories and codes, without dots."""
    codes = {
        code.replace(".", "")
        for code in icd.get_all_codes(with_dots=True)
        if not icd.is_chapter_or_block(code) or icd.is_category_or_subcategory(code)
    }
    records = sorted(code.encode("ascii").ljust(WIDTH) for code in codes if len(code) <= WIDTH)
    sys.stdout.buffer.write(b"".join(records))


if __name__ == "__main__":
    main()
