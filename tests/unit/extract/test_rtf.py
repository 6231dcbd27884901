"""Rich text that is odd, or made to take long."""

from relay.extract.budget import AttachmentLimits, Budget
from relay.extract.formats.rtf import read_rtf, rtf_text


def test_many_links_on_one_line_are_each_read_once():
    # Each could be a link up to the end of the line: 20,000 of them would outlast this test by far.
    data = b"{\\rtf1 " + b'{\\field{\\*\\fldinst{HYPERLINK "' * 20_000 + b"}"
    assert rtf_text(data) == ""


def test_a_link_is_read_as_it_is_shown():
    data = b'{\\rtf1 See {\\field{\\*\\fldinst{HYPERLINK "http://a.example/"}}{\\fldrslt{here}}} for more}'
    assert rtf_text(data) == "See here for more"


def test_what_binary_data_announces_beyond_the_end_is_nothing():
    read = read_rtf(b"{\\rtf1 a\\bin9999999999 b}", Budget(AttachmentLimits()))
    assert (read.text, read.faults) == ("a", ("image",))
